//! What the agent owns of the kernel's tables, and the operations on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use privatelink_ebpf::abi::{
    L4Port, Proto, VpcIndex,
    limit::{Budget, EndpointBudget},
    security::{Bound, Policy},
    service::{
        Address, Address6Key, AddressKey, Alias, AliasKey, EndpointIdText, Frontend, Frontend6Key, FrontendKey,
        Listener, Parted, Port, Range, RangeKey, Target,
    },
};

/// An address of a VPC: a key of `ADDRESSES` or `ADDRESSES6`, by its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressAt {
    pub vpc: VpcIndex,
    pub ip: IpAddr,
}

impl AddressAt {
    pub fn new(vpc: VpcIndex, ip: impl Into<IpAddr>) -> Self {
        Self { vpc, ip: ip.into() }
    }

    /// The key in the table of its family.
    pub fn key(self) -> ByFamily<AddressKey, Address6Key> {
        match self.ip {
            IpAddr::V4(ip) => ByFamily::V4(AddressKey::new(self.vpc, ip.into())),
            IpAddr::V6(ip) => ByFamily::V6(Address6Key::new(self.vpc, ip.into())),
        }
    }
}

impl From<AddressKey> for AddressAt {
    fn from(AddressKey { ip, vpc, _pad: _ }: AddressKey) -> Self {
        Self { vpc, ip: IpAddr::V4(ip.into()) }
    }
}

impl From<Address6Key> for AddressAt {
    fn from(Address6Key { ip, vpc, _pad: _ }: Address6Key) -> Self {
        Self { vpc, ip: IpAddr::V6(ip.into()) }
    }
}

/// An address and L4 port of a VPC: a key of `FRONTENDS` or `FRONTENDS6`, by its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendAt {
    pub vpc: VpcIndex,
    pub ip: IpAddr,
    pub port: u16,
    /// The number of an IP protocol.
    pub proto: u8,
}

impl FrontendAt {
    pub fn new(vpc: VpcIndex, ip: impl Into<IpAddr>, port: u16, proto: Proto) -> Self {
        Self { vpc, ip: ip.into(), port, proto: proto.number() }
    }

    /// Whose policy says who may send an address of ours an echo request.
    pub fn echo(vpc: VpcIndex, ip: impl Into<IpAddr>) -> Self {
        match ip.into() {
            IpAddr::V4(ip) => FrontendKey::echo(vpc, ip.into()).into(),
            IpAddr::V6(ip) => Frontend6Key::echo(vpc, ip.into()).into(),
        }
    }

    /// The key in the table of its family.
    pub fn key(self) -> ByFamily<FrontendKey, Frontend6Key> {
        let Self { vpc, ip, port, proto } = self;
        match ip {
            IpAddr::V4(ip) => {
                ByFamily::V4(FrontendKey { ip: ip.into(), vpc, port: L4Port::new(port), proto, _pad: [0; 3] })
            }
            IpAddr::V6(ip) => {
                ByFamily::V6(Frontend6Key { ip: ip.into(), vpc, port: L4Port::new(port), proto, _pad: [0; 3] })
            }
        }
    }
}

impl From<FrontendKey> for FrontendAt {
    fn from(FrontendKey { ip, vpc, port, proto, _pad: _ }: FrontendKey) -> Self {
        Self { vpc, ip: IpAddr::V4(ip.into()), port: port.get(), proto }
    }
}

impl From<Frontend6Key> for FrontendAt {
    fn from(Frontend6Key { ip, vpc, port, proto, _pad: _ }: Frontend6Key) -> Self {
        Self { vpc, ip: IpAddr::V6(ip.into()), port: port.get(), proto }
    }
}

/// A key of one of two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByFamily<A, B> {
    V4(A),
    V6(B),
}

/// The contents of the tables. Entries that are all zero are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By interface index.
    pub ports: BTreeMap<u32, Port>,
    /// Interface indexes that take XDP frames.
    pub xdp_ports: BTreeSet<u32>,
    pub addresses: BTreeMap<AddressAt, Address>,
    pub frontends: BTreeMap<FrontendAt, Frontend>,
    /// By address and the length of its prefix.
    pub aliases: BTreeMap<(AliasKey, u8), Alias>,
    /// By ports and the length of their prefix.
    pub ranges: BTreeMap<(RangeKey, u8), Range>,
    pub parted: BTreeSet<Parted>,
    pub policies: BTreeMap<u32, InstalledPolicy>,
    pub listeners: BTreeMap<u32, Installed>,
    /// Retired targets too: a retired record keeps its generation and, until no flow refers to it, its identity.
    pub targets: BTreeMap<u32, Target>,
    /// Target index → the same target behind the next node address.
    pub next_nodes: BTreeMap<u32, u32>,
    pub vpcs: BTreeMap<VpcIndex, Budget>,
    pub endpoints: BTreeMap<u16, EndpointBudget>,
    /// Of endpoints that are gone too.
    pub endpoint_ids: BTreeMap<u16, EndpointIdText>,
}

impl Tables {
    /// What the tables hold after an operation, but for what the slices hold that it writes or points at: those of
    /// listeners and policies that it puts are empty.
    pub fn note(&mut self, op: &Op) {
        match op {
            Op::PutParted(key) => drop(self.parted.insert(*key)),
            Op::RemoveParted(key) => drop(self.parted.remove(key)),
            Op::PutPolicy(index, record) => {
                self.policies.insert(*index, InstalledPolicy { record: *record, bounds: Arc::new([]) });
            }
            Op::RemovePolicy(index) => drop(self.policies.remove(index)),
            Op::PutPort(ifindex, port) => drop(self.ports.insert(*ifindex, *port)),
            Op::RemovePort(ifindex) => drop(self.ports.remove(ifindex)),
            Op::PutXdpPort(ifindex) => drop(self.xdp_ports.insert(*ifindex)),
            Op::RemoveXdpPort(ifindex) => drop(self.xdp_ports.remove(ifindex)),
            Op::PutAddress(key, address) => drop(self.addresses.insert(*key, *address)),
            Op::RemoveAddress(key) => drop(self.addresses.remove(key)),
            Op::PutAlias(key, bits, alias) => drop(self.aliases.insert((*key, *bits), *alias)),
            Op::RemoveAlias(key, bits) => drop(self.aliases.remove(&(*key, *bits))),
            Op::PutRange(key, bits, range) => drop(self.ranges.insert((*key, *bits), *range)),
            Op::RemoveRange(key, bits) => drop(self.ranges.remove(&(*key, *bits))),
            Op::PutFrontend(key, frontend) => drop(self.frontends.insert(*key, *frontend)),
            Op::RemoveFrontend(key) => drop(self.frontends.remove(key)),
            Op::PutListener(index, record) => {
                self.listeners.insert(*index, Installed { record: *record, ring: Arc::new([]) });
            }
            Op::RemoveListener(index) => drop(self.listeners.remove(index)),
            Op::PutTarget(index, target) => drop(self.targets.insert(*index, *target)),
            Op::PutNextNode(index, next) => drop(self.next_nodes.insert(*index, *next)),
            Op::RemoveNextNode(index) => drop(self.next_nodes.remove(index)),
            Op::PutVpc(index, budget) => drop(self.vpcs.insert(*index, *budget)),
            Op::RemoveVpc(index) => drop(self.vpcs.remove(index)),
            Op::PutEndpoint(index, budget) => drop(self.endpoints.insert(*index, *budget)),
            Op::PutEndpointId(index, id) => drop(self.endpoint_ids.insert(*index, *id)),
            Op::WriteRing { .. }
            | Op::WriteBounds { .. }
            | Op::ResetPool(_)
            | Op::ResetListenerStats(_)
            | Op::ResetTargetStats(_)
            | Op::ResetEndpointStats(_) => {}
        }
    }
}

/// A listener as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub record: Listener,
    /// What its slice of `RINGS` holds; shorter than the record says if the record points outside the table.
    pub ring: Arc<[u32]>,
}

/// A policy as it is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledPolicy {
    pub record: Policy,
    /// What its slice of `SOURCE_BOUNDS` holds; shorter than the record says if the record points outside the table.
    pub bounds: Arc<[Bound]>,
}

/// One change of the kernel's tables. Each is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    PutPort(u32, Port),
    RemovePort(u32),
    PutXdpPort(u32),
    RemoveXdpPort(u32),
    PutAddress(AddressAt, Address),
    RemoveAddress(AddressAt),
    /// The addresses of a prefix of this length.
    PutAlias(AliasKey, u8, Alias),
    RemoveAlias(AliasKey, u8),
    /// The ports of a prefix of this length.
    PutRange(RangeKey, u8, Range),
    RemoveRange(RangeKey, u8),
    PutFrontend(FrontendAt, Frontend),
    RemoveFrontend(FrontendAt),
    /// Fills `RINGS` from `base` on. No listener may point there yet.
    WriteRing {
        base: u32,
        slots: Arc<[u32]>,
    },
    /// Fills `SOURCE_BOUNDS` from `base` on. No policy may point there yet.
    WriteBounds {
        base: u32,
        bounds: Arc<[Bound]>,
    },
    /// Switches a policy from one slice to another, in one word.
    PutPolicy(u32, Policy),
    RemovePolicy(u32),
    PutParted(Parted),
    RemoveParted(Parted),
    PutListener(u32, Listener),
    RemoveListener(u32),
    PutTarget(u32, Target),
    PutNextNode(u32, u32),
    RemoveNextNode(u32),
    /// Marks all ports of a pool free. No flow may use it.
    ResetPool(u32),
    PutVpc(VpcIndex, Budget),
    RemoveVpc(VpcIndex),
    PutEndpoint(u16, EndpointBudget),
    PutEndpointId(u16, EndpointIdText),
    /// Counters of an index that is about to mean something else.
    ResetListenerStats(u32),
    ResetTargetStats(u32),
    ResetEndpointStats(u16),
}

impl Op {
    /// The table that the operation changes.
    pub const fn table(&self) -> &'static str {
        match self {
            Self::PutPort(..) | Self::RemovePort(_) => "PORTS",
            Self::PutXdpPort(_) | Self::RemoveXdpPort(_) => "XDP_PORTS",
            Self::PutAddress(at, _) | Self::RemoveAddress(at) => match at.ip {
                IpAddr::V4(_) => "ADDRESSES",
                IpAddr::V6(_) => "ADDRESSES6",
            },
            Self::PutAlias(..) | Self::RemoveAlias(..) => "ALIASES",
            Self::PutRange(..) | Self::RemoveRange(..) => "PORT_RANGES",
            Self::PutFrontend(at, _) | Self::RemoveFrontend(at) => match at.ip {
                IpAddr::V4(_) => "FRONTENDS",
                IpAddr::V6(_) => "FRONTENDS6",
            },
            Self::WriteRing { .. } => "RINGS",
            Self::PutParted(_) | Self::RemoveParted(_) => "PARTED",
            Self::WriteBounds { .. } => "SOURCE_BOUNDS",
            Self::PutPolicy(..) | Self::RemovePolicy(_) => "POLICIES",
            Self::PutListener(..) | Self::RemoveListener(_) => "LISTENERS",
            Self::PutTarget(..) => "TARGETS",
            Self::PutNextNode(..) | Self::RemoveNextNode(_) => "NEXT_NODES",
            Self::ResetPool(_) => "POOLS",
            Self::PutVpc(..) | Self::RemoveVpc(_) => "VPCS",
            Self::PutEndpoint(..) => "ENDPOINTS",
            Self::PutEndpointId(..) => "ENDPOINT_IDS",
            Self::ResetListenerStats(_) => "LISTENER_STATS",
            Self::ResetTargetStats(_) => "TARGET_STATS",
            Self::ResetEndpointStats(_) => "ENDPOINT_STATS",
        }
    }
}
