//! Veth pairs between namespaces, and the two settings of theirs that decide whether XDP can work.

use std::{io, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::netns::{Netns, ip};

/// One end of a veth pair: the namespace and the interface's name there.
#[derive(Clone, Debug)]
pub struct End {
    /// Where the interface is.
    pub netns: Netns,
    /// What it is called; at most 15 bytes.
    pub name: String,
}

impl End {
    /// Names an interface.
    pub fn new(netns: &Netns, name: impl Into<String>) -> Self {
        Self { netns: netns.clone(), name: name.into() }
    }

    /// Sets it up (`ip link set NAME up`).
    pub fn up(&self) -> Result<()> {
        self.netns.ip(&["link", "set", &self.name, "up"])
    }

    /// Adds an address with its prefix length, for example `10.0.1.10/16`.
    pub fn add_address(&self, address: &str) -> Result<()> {
        self.netns.ip(&["address", "add", address, "dev", &self.name])
    }

    /// Sets the MTU.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.netns.ip(&["link", "set", &self.name, "mtu", &mtu.to_string()])
    }

    /// Switches one of the kernel's offloads, as `ethtool -K` does.
    pub fn set_offload(&self, offload: Offload, on: bool) -> Result<()> {
        self.netns
            .run(|| ethtool_set(&self.name, offload, on))?
            .with_context(|| format!("switching {offload:?} of {} in {}", self.name, self.netns.name()))
    }

    /// The interface's Ethernet address.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let output = std::process::Command::new("ip")
            .args(["-n", self.netns.name(), "-j", "link", "show", &self.name])
            .output()
            .context("starting ip")?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("what ip printed")?;
        let text = links[0]["address"].as_str().context("a link without an address")?;
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            *byte =
                u8::from_str_radix(parts.next().context("a short Ethernet address")?, 16).context(text.to_owned())?;
        }
        Ok(mac)
    }
}

/// An offload that `SIOCETHTOOL` switches with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Transmit checksums: off makes the kernel complete them before the peer, hence XDP there, sees the frame.
    TxChecksum,
    /// Generic receive offload: on gives a veth its NAPI, without which frames redirected into it by XDP are lost.
    Gro,
}

impl Offload {
    /// The command number (linux/ethtool.h).
    fn command(self) -> u32 {
        match self {
            Self::TxChecksum => 0x17,
            Self::Gro => 0x2c,
        }
    }
}

/// Joins two namespaces with a veth pair; both ends are down.
pub fn veth(a: &End, b: &End) -> Result<()> {
    for end in [a, b] {
        ensure!(end.name.len() <= 15, "the interface name {} is longer than the kernel's 15 bytes", end.name);
    }
    ip(&[
        "link",
        "add",
        &a.name,
        "netns",
        a.netns.name(),
        "type",
        "veth",
        "peer",
        "name",
        &b.name,
        "netns",
        b.netns.name(),
    ])
}

fn ethtool_set(interface: &str, offload: Offload, on: bool) -> io::Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = Value { command: offload.command(), data: u32::from(on) };
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.as_bytes().iter().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    /// Not among libc's constants.
    const SIOCETHTOOL: u64 = 0x8946;
    // SAFETY: the request and the value it points to are live and of the layout that SIOCETHTOOL takes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
