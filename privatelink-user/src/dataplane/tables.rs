//! What the agent owns of the kernel's tables, and the operations on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use privatelink_ebpf::abi::{
    VpcIndex,
    limit::{Budget, EndpointBudget},
    security::{Bound, Policy},
    service::{
        Address, AddressKey, Alias, AliasKey, EndpointIdText, Frontend, FrontendKey, Listener, Parted, Port, Range,
        RangeKey, Target,
    },
};

/// The contents of the tables. Entries that are all zero are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By interface index.
    pub ports: BTreeMap<u32, Port>,
    /// Interface indexes that take XDP frames.
    pub xdp_ports: BTreeSet<u32>,
    pub addresses: BTreeMap<AddressKey, Address>,
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// By address and the length of its prefix.
    pub aliases: BTreeMap<(AliasKey, u8), Alias>,
    /// By ports and the length of their prefix.
    pub ranges: BTreeMap<(RangeKey, u8), Range>,
    pub parted: BTreeSet<Parted>,
    pub policies: BTreeMap<u32, InstalledPolicy>,
    pub listeners: BTreeMap<u32, Installed>,
    /// Retired targets too: a retired record keeps its generation and, until no flow refers to it, its identity.
    pub targets: BTreeMap<u32, Target>,
    pub vpcs: BTreeMap<VpcIndex, Budget>,
    pub endpoints: BTreeMap<u16, EndpointBudget>,
    /// Of endpoints that are gone too.
    pub endpoint_ids: BTreeMap<u16, EndpointIdText>,
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
    PutAddress(AddressKey, Address),
    RemoveAddress(AddressKey),
    /// The addresses of a prefix of this length.
    PutAlias(AliasKey, u8, Alias),
    RemoveAlias(AliasKey, u8),
    /// The ports of a prefix of this length.
    PutRange(RangeKey, u8, Range),
    RemoveRange(RangeKey, u8),
    PutFrontend(FrontendKey, Frontend),
    RemoveFrontend(FrontendKey),
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
            Self::PutAddress(..) | Self::RemoveAddress(_) => "ADDRESSES",
            Self::PutAlias(..) | Self::RemoveAlias(..) => "ALIASES",
            Self::PutRange(..) | Self::RemoveRange(..) => "PORT_RANGES",
            Self::PutFrontend(..) | Self::RemoveFrontend(_) => "FRONTENDS",
            Self::WriteRing { .. } => "RINGS",
            Self::PutParted(_) | Self::RemoveParted(_) => "PARTED",
            Self::WriteBounds { .. } => "SOURCE_BOUNDS",
            Self::PutPolicy(..) | Self::RemovePolicy(_) => "POLICIES",
            Self::PutListener(..) | Self::RemoveListener(_) => "LISTENERS",
            Self::PutTarget(..) => "TARGETS",
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
