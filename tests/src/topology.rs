//! VPCs, hosts and the namespace of the load balancer, declared as data.
//!
//! ```text
//!  host ── veth ── lb                 Wiring::Direct: a port for each host
//!  host ─┐
//!  host ─┴ bridge ── veth ── lb       Wiring::Bridge: one port for the VPC
//! ```
//!
//! Every VPC is 10.0.0.0/16, so that nothing works by accident of different addresses.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context as _, Result};

use crate::{
    link::{End, Offload, veth},
    netns::Netns,
};

/// The addresses of every VPC.
pub const CIDR: &str = "10.0.0.0/16";

/// The prefix length of [`CIDR`].
const PREFIX: u8 = 16;

/// Which hook the ports are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The agent's choice; the links keep all offloads.
    Auto,
    /// The links keep all offloads.
    Tc,
    /// The far ends complete their checksums and have GRO on, without which native XDP on a veth cannot work.
    Xdp,
}

impl Hook {
    /// Both forced ones, for tests that run with each.
    pub const FORCED: [Self; 2] = [Self::Tc, Self::Xdp];

    /// The value of `privatelink port attach --hook`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }
}

/// How the hosts of a VPC reach the load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Each host by a veth pair of its own; the hosts cannot reach each other.
    Direct,
    /// Through a bridge in a namespace of its own, with one veth pair to the load balancer.
    Bridge,
}

/// A VPC to make.
#[derive(Clone, Debug)]
pub struct VpcPlan {
    /// Its name, also for the agent; at most 12 bytes, because interfaces are named after it.
    pub name: &'static str,
    /// How it is wired.
    pub wiring: Wiring,
    /// The MTU of every link in it.
    pub mtu: u32,
    /// Its hosts.
    pub hosts: Vec<HostPlan>,
}

impl VpcPlan {
    /// A VPC with directly wired hosts and Ethernet's usual MTU.
    pub fn new(name: &'static str, hosts: Vec<HostPlan>) -> Self {
        Self { name, wiring: Wiring::Direct, mtu: 1500, hosts }
    }

    /// The same VPC behind a bridge.
    #[must_use]
    pub fn bridged(self) -> Self {
        Self { wiring: Wiring::Bridge, ..self }
    }

    /// The same VPC with another MTU.
    #[must_use]
    pub fn with_mtu(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }
}

/// A host to make.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Its name, unique in the topology.
    pub name: &'static str,
    /// Its addresses, the main one first.
    pub addresses: Vec<Ipv4Addr>,
}

impl HostPlan {
    /// A host with one address, `10.0.<third>.<fourth>`.
    pub fn new(name: &'static str, third: u8, fourth: u8) -> Self {
        Self { name, addresses: vec![Ipv4Addr::new(10, 0, third, fourth)] }
    }

    /// The same host with `count` consecutive addresses.
    #[must_use]
    pub fn with_addresses(self, count: u8) -> Self {
        let [a, b, c, d] = self.addresses[0].octets();
        Self { addresses: (0..count).map(|n| Ipv4Addr::new(a, b, c, d + n)).collect(), ..self }
    }
}

/// A host as it is.
#[derive(Debug)]
pub struct Host {
    /// Its name in the plan.
    pub name: &'static str,
    /// Its namespace.
    pub netns: Netns,
    /// Its interface.
    pub link: End,
    /// Its addresses, the main one first.
    pub addresses: Vec<Ipv4Addr>,
}

impl Host {
    /// The main address.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses[0]
    }
}

/// A VPC as it is.
#[derive(Debug)]
pub struct Vpc {
    /// Its name in the plan.
    pub name: &'static str,
    /// The interfaces in the load balancer's namespace that lead to it.
    pub ports: Vec<String>,
    /// The namespace of its bridge, if it has one.
    pub bridge: Option<Netns>,
}

/// Everything, taken down when this is dropped.
#[derive(Debug)]
pub struct Topology {
    /// The namespace in which the agent runs.
    pub lb: Netns,
    /// Which hook the links are made for.
    pub hook: Hook,
    /// The VPCs in the order of the plan.
    pub vpcs: Vec<Vpc>,
    hosts: BTreeMap<&'static str, Host>,
}

impl Topology {
    /// Makes namespaces and links; `prefix` names the namespaces `<prefix>-<host>`, or they get unique names.
    pub fn build(hook: Hook, plans: Vec<VpcPlan>, prefix: Option<&str>) -> Result<Self> {
        let make = |label: &str| match prefix {
            Some(prefix) => Netns::named(format!("{prefix}-{label}")),
            None => Netns::new(label),
        };
        let mut topology = Self { lb: make("lb")?, hook, vpcs: Vec::new(), hosts: BTreeMap::new() };
        for plan in plans {
            let VpcPlan { name, wiring, mtu, hosts } = plan;
            let mut vpc = Vpc { name, ports: Vec::new(), bridge: None };
            let bridge = match wiring {
                Wiring::Direct => None,
                Wiring::Bridge => {
                    let bridge = make(name)?;
                    let device = End::new(&bridge, "br0");
                    bridge.ip(&["link", "add", "br0", "type", "bridge"])?;
                    device.set_mtu(mtu)?;
                    device.up()?;
                    vpc.ports.push(topology.attach(name, &End::new(&bridge, "uplink"), mtu)?);
                    bridge.ip(&["link", "set", "uplink", "master", "br0"])?;
                    Some(bridge)
                }
            };
            for (number, plan) in hosts.into_iter().enumerate() {
                let netns = make(plan.name)?;
                let link = End::new(&netns, "eth0");
                match &bridge {
                    None => {
                        let port = if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
                        vpc.ports.push(topology.attach(&port, &link, mtu)?);
                    }
                    Some(bridge) => {
                        let slot = End::new(bridge, format!("host{number}"));
                        join(&slot, &link, mtu)?;
                        bridge.ip(&["link", "set", &slot.name, "master", "br0"])?;
                    }
                }
                for address in &plan.addresses {
                    link.add_address(&format!("{address}/{PREFIX}"))?;
                }
                let HostPlan { name, addresses } = plan;
                topology.hosts.insert(name, Host { name, netns, link, addresses });
            }
            vpc.bridge = bridge;
            topology.vpcs.push(vpc);
        }
        Ok(topology)
    }

    /// The host of this name.
    ///
    /// # Panics
    ///
    /// If the plan has none.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.get(name).unwrap_or_else(|| panic!("the plan has no host '{name}'"))
    }

    /// Every host.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Checksum errors that the hosts' stacks counted: a wrong rewrite shows here even if TCP recovers.
    pub fn checksum_errors(&self) -> Result<u64> {
        self.hosts.values().map(|host| host.netns.protocol_counter("Tcp", "InCsumErrors")).sum()
    }

    /// Leaves everything up, for a human to look at.
    pub fn keep(self) -> Result<()> {
        let Self { lb, hook: _, vpcs, hosts } = self;
        for vpc in vpcs {
            vpc.bridge.map_or(Ok(()), Netns::keep)?;
        }
        for Host { netns, link, .. } in hosts.into_values() {
            drop(link);
            netns.keep()?;
        }
        lb.keep()
    }

    /// Joins `far` to a new port of the load balancer and returns the port's name.
    fn attach(&self, port: &str, far: &End, mtu: u32) -> Result<String> {
        let near = End::new(&self.lb, port);
        join(&near, far, mtu).with_context(|| format!("the port {port}"))?;
        match self.hook {
            Hook::Auto | Hook::Tc => {}
            Hook::Xdp => {
                far.set_offload(Offload::TxChecksum, false)?;
                far.set_offload(Offload::Gro, true)?;
            }
        }
        Ok(port.to_owned())
    }
}

/// A veth pair with both ends up.
fn join(a: &End, b: &End, mtu: u32) -> Result<()> {
    veth(a, b)?;
    for end in [a, b] {
        end.set_mtu(mtu)?;
        end.up()?;
    }
    Ok(())
}
