//! What a pass decided besides the contents of the tables: what is checked, which next hops are found, which index
//! stands for which resource. The other loops work by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::Ipv4Net;
use privatelink_ebpf::abi::{Proto, VpcIndex};

use super::index::TargetKey;
use crate::{
    model::{EndpointId, HealthCheck, IpFamily, ListenerId, TargetAddress, TargetGroupId, VpcId},
    tls::{relay::wire::Group, verified::Verify},
};

/// What the rest of the agent works by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub targets: BTreeMap<TargetKey, u32>,
    /// One index a protocol.
    pub listeners: BTreeMap<(ListenerId, Proto), u32>,
    pub endpoints: Arc<BTreeMap<EndpointId, u16>>,
    pub vpcs: BTreeMap<VpcIndex, VpcId>,
    /// Where each VPC reaches the DNS server.
    pub resolvers: BTreeSet<(VpcId, Ipv4Addr)>,
    /// Interfaces to attach, with the VPC.
    pub ports: BTreeMap<u32, VpcIndex>,
    /// What is checked, and where.
    pub checks: BTreeMap<CheckKey, Check>,
    /// For each group in use and registered target: its keys, one a node address and protocol.
    pub registrations: BTreeMap<CheckKey, Vec<TargetKey>>,
    /// Next hops to find, and the node address that asks for each.
    pub next_hops: BTreeMap<HopKey, IpAddr>,
    /// For the next pass: see [`World::lingering`].
    pub lingering: BTreeMap<TargetKey, TargetGroupId>,
    /// Groups all of whose targets are used because too few are healthy.
    pub fail_open: BTreeSet<TargetGroupId>,
    /// TLS listeners' places in the relay.
    pub doors: BTreeMap<ListenerId, TargetKey>,
    /// Where the relay takes the connections of each TLS listener.
    pub upstreams: BTreeMap<ListenerId, Vec<Group>>,
    /// Some flows end while their target, endpoint and port go on: by weight, or by security group.
    pub ends_by_rule: bool,
    /// What found no room.
    pub full: BTreeSet<&'static str>,
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The target's internal address and the port to check; `None` while there is no host port or no room.
    pub address: Option<SocketAddr>,
    pub node: IpAddr,
    pub listener_port: u16,
    /// Where the checked target's packets go first.
    pub next_hop: Option<HopKey>,
    /// The connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whose certificates the target has to show to a check by TLS; none: anybody's.
    pub verify: Option<Arc<Verify>>,
    /// Clients' connections that fail bring it forward. Not with stickiness: a few clients that fail are no sign where
    /// the same clients meet the same target again and again.
    pub passive: bool,
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
    /// The upper half of the prefix, in which VPCs have addresses: the sources of those who ask the DNS server.
    pub vpcs: Ipv4Net,
}

impl HostPort {
    /// Internal addresses of targets begin this far into the prefix.
    pub const FIRST_TARGET: u32 = 256;

    /// The datapath's end `ifindex` of the host port that has `prefix`.
    pub fn new(ifindex: u32, prefix: Ipv4Net, gateway: Ipv4Addr) -> Self {
        let half = prefix.prefix_len().saturating_add(1);
        let vpcs = prefix.subnets(half).ok().and_then(Iterator::last).unwrap_or(prefix);
        Self { ifindex, base: prefix.network(), gateway, vpcs }
    }

    /// The address of a VPC; none if its number is beyond the prefix.
    pub fn of_vpc(&self, vpc: VpcIndex) -> Option<Ipv4Addr> {
        let address = u32::from(self.vpcs.network()).checked_add(vpc.0.into()).map(Ipv4Addr::from)?;
        self.vpcs.contains(&address).then_some(address)
    }

    /// The VPC that has `address`.
    pub fn vpc_of(&self, address: Ipv4Addr) -> Option<VpcIndex> {
        let number = self.vpcs.contains(&address).then(|| u32::from(address) - u32::from(self.vpcs.network()))?;
        u16::try_from(number).ok().map(VpcIndex)
    }

    /// The target that has an internal address.
    pub fn index(&self, internal: Ipv4Addr) -> Option<u32> {
        u32::from(internal).checked_sub(u32::from(self.base))?.checked_sub(Self::FIRST_TARGET)
    }

    /// The internal address of a target of a family.
    pub fn internal(&self, target: u32, family: IpFamily) -> Option<IpAddr> {
        let four = u32::from(self.base).checked_add(Self::FIRST_TARGET)?.checked_add(target).map(Ipv4Addr::from)?;
        Some(match family {
            IpFamily::Ipv4 => IpAddr::V4(four),
            IpFamily::Ipv6 => IpAddr::V6(internal_ipv6(four)),
        })
    }
}

/// The IPv6 address beside an IPv4 address of the host port: a unique local prefix (RFC 4193) with it at the end.
pub fn internal_ipv6(address: Ipv4Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xfd4f_7072_6c6b << 80;
    Ipv6Addr::from_bits(PREFIX | u128::from(address.to_bits()))
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
    pub ip: IpAddr,
}

/// Where a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub ifindex: u32,
    pub mac: [u8; 6],
}
