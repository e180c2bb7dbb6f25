//! How measured programs are started: on which CPU, how urgent, and where they are.

use std::{
    io,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::contestant::{FRONT6, NODE6};
use crate::{netns::Netns, require};

/// Where servers run.
pub const SERVER_CPU: usize = 0;
/// Where clients run.
pub const CLIENT_CPU: usize = 1;

/// Pins this thread, and what it starts, to a CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to CPU {cpu}"))
}

/// Gives this thread, and what it starts, nearly all of a CPU that others want too. The same for all contestants.
pub fn preferred() -> io::Result<()> {
    // SAFETY: no pointers; it concerns this thread only.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets this thread, and what it starts, run anywhere.
pub fn unpin() -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in 0..std::thread::available_parallelism().map_or(1, usize::from).max(CLIENT_CPU + 1) {
        set.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context("unpinning")
}

/// No input, and output to nobody.
pub fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Where a program is.
pub fn find(name: &str) -> Result<std::path::PathBuf> {
    require::find(name).with_context(|| format!("{name} is not installed; `cargo xtask setup` does that"))
}

/// Makes the load balancer's namespace a router between two networks of which each takes the other for its own link.
pub fn route(lb: &Netns, front: Ipv4Addr, node: Ipv4Addr) -> Result<()> {
    for (device, hosts, address) in [("consumer", "10.0.1.0/24", front), ("provider", "10.0.2.0/24", node)] {
        lb.ip(&["address", "add", &format!("{address}/32"), "dev", device])?;
        lb.ip(&["route", "add", hosts, "dev", device, "src", &address.to_string()])?;
    }
    for (key, value) in [("ip_forward", "1"), ("conf.all.proxy_arp", "1"), ("conf.all.rp_filter", "0")] {
        lb.sysctl(&format!("ipv4.{key}"), value)?;
    }
    Ok(())
}

/// The same for IPv6, whose networks are not the same on both sides.
pub fn route6(lb: &Netns) -> Result<()> {
    for (device, address) in [("consumer", FRONT6), ("provider", NODE6)] {
        lb.ip(&["address", "add", &format!("{address}/64"), "dev", device, "nodad"])?;
    }
    lb.sysctl("ipv6.conf.all.forwarding", "1")
}
