//! What a pass decided besides the contents of the tables: what is checked, which next hops are found, which index stands
//! for which resource. The other loops work by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use privatelink_ebpf::abi::{Proto, VpcIndex};

use super::index::TargetKey;
use crate::model::{EndpointId, HealthCheck, ListenerId, TargetAddress, TargetGroupId, VpcId};

/// What the rest of the agent works by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub targets: BTreeMap<TargetKey, u32>,
    /// One index a protocol.
    pub listeners: BTreeMap<(ListenerId, Proto), u32>,
    pub endpoints: BTreeMap<EndpointId, u16>,
    pub vpcs: BTreeMap<VpcIndex, VpcId>,
    /// Interfaces to attach, with the VPC.
    pub ports: BTreeMap<u32, VpcIndex>,
    /// What is checked, and where.
    pub checks: BTreeMap<CheckKey, Check>,
    /// For each group in use and registered target: its keys, one a node address and protocol.
    pub registrations: BTreeMap<CheckKey, Vec<TargetKey>>,
    /// Next hops to find, and the node address that asks for each.
    pub next_hops: BTreeMap<HopKey, Ipv4Addr>,
    /// For the next pass: see [`World::lingering`].
    pub lingering: BTreeMap<TargetKey, TargetGroupId>,
    /// Groups all of whose targets are used because none is healthy.
    pub fail_open: BTreeSet<TargetGroupId>,
    /// What found no room.
    pub full: BTreeSet<&'static str>,
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The target's internal address and the port to check; `None` while there is no host port or no room.
    pub address: Option<SocketAddrV4>,
    pub node: Ipv4Addr,
    pub listener_port: u16,
    /// Where the checked target's packets go first.
    pub next_hop: Option<HopKey>,
    /// The connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    pub settings: HealthCheck,
}

/// The datapath's end of the host port, and the prefix in which targets have their internal addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ifindex: u32,
    /// First address of the prefix.
    pub base: Ipv4Addr,
    /// The address that answers ARP for the whole prefix.
    pub gateway: Ipv4Addr,
}

impl HostPort {
    /// Internal addresses of targets begin this far into the prefix.
    pub const FIRST_TARGET: u32 = 256;

    /// The internal address of a target.
    pub fn internal(&self, target: u32) -> Option<Ipv4Addr> {
        u32::from(self.base).checked_add(Self::FIRST_TARGET)?.checked_add(target).map(Ipv4Addr::from)
    }
}

/// One registration of a target in a group: what is checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckKey {
    pub group: TargetGroupId,
    pub target: TargetAddress,
}

/// A neighbour that packets are sent to: on the link of a VPC's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopKey {
    pub vpc: VpcIndex,
    pub ip: Ipv4Addr,
}

/// Where a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub ifindex: u32,
    pub mac: [u8; 6],
}
