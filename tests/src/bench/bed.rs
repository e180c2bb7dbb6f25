//! The test bed for packets: a load balancer between two far ends.
//!
//! ```text
//! clients ── veth ── client ┐             every far end runs an XDP program: it answers handshakes, counts and drops
//!                           ├ lb
//! targets ── veth ── target ┘             frames enter by live-frames test runs out of `clients`
//! ```

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;
use privatelink_ebpf::abi::Mac;

use crate::{
    link::{End, Offload},
    netns::{Netns, ip},
};

/// The first client; flow numbers count on from here.
pub const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// Where the service is, for clients.
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 1, 255, 50);
/// The load balancer's own address among clients; only the kernel's stack uses it.
pub const CLIENT_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 255, 1);
/// The load balancer's address among targets.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 2, 255, 1);
/// What clients connect to.
pub const PORT: u16 = 80;
/// What targets listen on.
pub const TARGET_PORT: u16 = 8080;
/// Targets: 500,000 flows need eight pools of 64,512 ports.
pub const TARGETS: u8 = 16;

/// The n-th target.
pub const fn target(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 2, 0, n + 1)
}

/// A network device.
#[derive(Clone, Debug)]
pub struct Device {
    pub end: End,
    pub index: u32,
    pub mac: Mac,
}

impl Device {
    fn find(end: End) -> Result<Self> {
        end.up()?;
        // On, a veth takes frames from XDP whether it has a program or not.
        end.set_offload(Offload::Gro, true)?;
        end.set_offload(Offload::TxChecksum, false)?;
        let index = end.netns.run(|| if_nametoindex(end.name.as_str()))?.context("the device's index")?;
        let mac = Mac(end.mac()?);
        Ok(Self { end, index, mac })
    }
}

/// The whole bed.
#[derive(Debug)]
pub struct Bed {
    /// Where the clients are.
    pub clients: Device,
    /// The load balancer's port towards them.
    pub client: Device,
    /// The load balancer's port towards the targets.
    pub target: Device,
    /// Where the targets are.
    pub targets: Device,
    pub lb: Netns,
}

impl Bed {
    pub fn build() -> Result<Self> {
        let (clients, lb, targets) = (Netns::new("clients")?, Netns::new("lb")?, Netns::new("targets")?);
        for netns in [&clients, &lb, &targets] {
            // No neighbour discovery among the measured packets. A kernel without IPv6 has none either.
            let _ = netns.sysctl("ipv6.conf.default.disable_ipv6", "1");
        }
        let client = join(&End::new(&lb, "client"), &End::new(&clients, "clients"))?;
        let target = join(&End::new(&lb, "target"), &End::new(&targets, "targets"))?;
        Ok(Self { client: client.0, clients: client.1, target: target.0, targets: target.1, lb })
    }

    /// Gives the kernel's own stack everything that it needs to carry the same flows: addresses, neighbours,
    /// forwarding.
    pub fn route(&self, clients: u8) -> Result<()> {
        let netns = &self.lb;
        self.client.end.add_address(&format!("{CLIENT_GATEWAY}/16"))?;
        self.client.end.add_address(&format!("{ENDPOINT}/16"))?;
        self.target.end.add_address(&format!("{NODE}/16"))?;
        let [a, b, c, d] = FIRST_CLIENT.octets();
        let neighbours = (0..clients)
            .map(|n| (Ipv4Addr::new(a, b, c, d + n), &self.client, &self.clients))
            .chain((0..TARGETS).map(|n| (target(n), &self.target, &self.targets)));
        for (address, near, far) in neighbours {
            let (address, mac) = (address.to_string(), far.mac.to_string());
            let line = ["neighbor", "replace", &address, "lladdr", &mac, "dev", &near.end.name, "nud", "permanent"];
            netns.ip(&line)?;
        }
        netns.sysctl("ipv4.ip_forward", "1")?;
        netns.sysctl("ipv4.conf.all.rp_filter", "0")
    }
}

/// A veth pair with a receive queue for each of two CPUs.
fn join(near: &End, far: &End) -> Result<(Device, Device)> {
    let queues = ["numrxqueues", "2", "numtxqueues", "2"];
    let near_is = ["link", "add", &near.name, "netns", near.netns.name()];
    let far_is = ["type", "veth", "peer", "name", &far.name, "netns", far.netns.name()];
    ip(&[&near_is[..], &queues, &far_is, &queues].concat())?;
    Ok((Device::find(near.clone())?, Device::find(far.clone())?))
}
