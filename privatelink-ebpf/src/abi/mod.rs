//! Every byte that crosses the kernel boundary: map keys and values, ring-buffer records, loader-set globals.
//!
//! A record derives `Pod` (which refuses padding), has its size asserted, keeps addresses and L4 ports in wire order
//! and counters in native order. A change of any layout here raises [`ABI_VERSION`]: an agent refuses pinned maps of
//! another version before it touches them.

pub mod addr;
pub mod bench;
pub mod cookie;
pub mod counters;
pub mod event;
pub mod explain;
pub mod flow;
pub mod fragment;
pub mod limit;
pub mod pool;
pub mod security;
pub mod service;
pub mod settings;
pub mod stage;
pub mod stats;

pub use addr::{Ip4, Ip6, L4Port, Mac, MacBits, Proto, VpcIndex};
pub use counters::Counter;
pub use stage::{STAGES, Stage};

/// The layout of everything in this module.
pub const ABI_VERSION: u32 = 14;

/// One row a map: the name in the object and on bpffs, what it holds, who owns what is in it, and how many entries it
/// has unless the loader asks for more.
pub struct MapInfo {
    pub name: &'static str,
    /// Key → value, in words.
    pub holds: &'static str,
    pub default_entries: u32,
    /// Values are mapped into the agent's memory.
    pub mapped: bool,
}

macro_rules! maps {
    ($($(#[doc = $holds:literal])+ $name:ident = $entries:expr, $mapped:literal;)+) => {
        /// All maps, in the order in which they are created.
        pub const MAPS: &[MapInfo] = &[$(MapInfo {
            name: stringify!($name),
            holds: concat!($($holds),+),
            default_entries: $entries,
            mapped: $mapped,
        }),+];
        /// The default number of entries of each map.
        pub mod entries {
            use super::{Counter, STAGES, fragment};
            $(pub const $name: u32 = $entries;)+
        }
    };
}

maps! {
    /// one record: what a new agent must agree with, and the switches that work at run time
    SETTINGS = 1, false;
    /// interface index → port (`service::Port`); VPC 0 is no port
    PORTS = 65_536, true;
    /// interface index → itself, for XDP redirects: only ports that can take XDP frames
    XDP_PORTS = 65_536, false;
    /// (VPC, address) → what it is (`service::Address`): answered by ARP, never passed on
    ADDRESSES = 65_536, false;
    /// (VPC, longest prefix of an address) → the endpoint whose alias it is (`service::Alias`); not answered by ARP
    ALIASES = 65_536, false;
    /// (VPC, protocol, address, longest prefix of an L4 port) → the port under which the frontend is kept
    /// (`service::Range`)
    PORT_RANGES = 131_072, false;
    /// (VPC, IPv6 address) → what it is (`service::Address`): answered by neighbour advertisements
    ADDRESSES6 = 65_536, false;
    /// (VPC, IPv6 address, L4 port, protocol) → listener and endpoint (`service::Frontend`)
    FRONTENDS6 = 131_072, false;
    /// (VPC, address, L4 port, protocol) → listener and endpoint (`service::Frontend`)
    FRONTENDS = 131_072, false;
    /// policy index → the sources that may connect (`security::Policy`); 0 is no policy
    POLICIES = 131_072, true;
    /// the sorted addresses at which a policy's set of sources begins and ends (`security::Bound`); a policy has a
    /// slice
    SOURCE_BOUNDS = 524_288, true;
    /// index, one a listener and protocol → ring and timeout (`service::Listener`)
    LISTENERS = 65_536, true;
    /// flat Maglev rings: a listener's slice holds target indexes (u32)
    RINGS = 4_194_304, true;
    /// flows of a listener to a target that end at the next sweep (`service::Parted` → 1)
    PARTED = 65_536, false;
    /// clients whose own addresses targets see (`service::StandIn` → 1): answered by ARP on the targets' port; LRU
    STAND_INS = 65_536, false;
    /// target index, one a protocol → address, next hop, pool, generation (`service::Target`)
    TARGETS = 4_096, true;
    /// target index → the index of the same target behind the load balancer's next node address (u32); 0: there is none
    NEXT_NODES = 4_096, true;
    /// target index → `pool::PortPool`: the source ports towards that target
    POOLS = 4_096, true;
    /// VPC index → half-open budget (`limit::Budget`)
    VPCS = 65_536, true;
    /// endpoint index → its limits (`limit::EndpointBudget`)
    ENDPOINTS = 65_536, true;
    /// endpoint index → the endpoint's id as text (`service::EndpointIdText`), for the PROXY protocol
    ENDPOINT_IDS = 65_536, true;
    /// VPC index → half-open flows now (u32), counted by the kernel
    VPC_HALF_OPEN = 65_536, false;
    /// endpoint index → half-open flows now (u32), counted by the kernel
    ENDPOINT_HALF_OPEN = 65_536, false;
    /// endpoint index → what it uses of its other limits (`limit::EndpointUse`)
    ENDPOINT_USE = 65_536, false;
    /// bucket index → `flow::Bucket`
    FLOWS = 262_144, true;
    /// `flow::FlowKey` → `flow::Slot`: what found no room in its buckets (8 % of the entries where FLOWS holds 90 % of
    /// what it could), and everything in the reference mode
    STASH = 131_072, false;
    /// reverse entry's key → the client's and the service's IPv6 addresses (`flow::Addresses6`)
    CLIENTS6 = 1_048_576, false;
    /// one record a CPU: the addresses of the IPv6 packet that a stage is at
    PACKET6 = 1, false;
    /// insertion locks, one a stripe of primary buckets (u32)
    LOCKS = 4_096, false;
    /// counter id → count, per CPU (u64)
    COUNTERS = Counter::COUNT as u32, false;
    /// endpoint index → `stats::EndpointStats`, per CPU
    ENDPOINT_STATS = 65_536, false;
    /// listener index → `stats::ListenerStats`, per CPU
    LISTENER_STATS = 65_536, false;
    /// target index → `stats::TargetStats`, per CPU
    TARGET_STATS = 4_096, false;
    /// VPC index → resets sent in the current tick (`settings::ResetBudget`)
    RESET_BUDGETS = 65_536, false;
    /// what the fragments of a packet have in common (`fragment::FragmentKey`) → its first one's ports
    /// (`fragment::FirstFragment`); LRU
    FRAGMENTS = 16_384, false;
    /// slot → a fragment that waits for the first one of its packet (`fragment::HeldFragment`), in groups by VPC
    HELD = fragment::HELD_GROUPS * fragment::HELD_SLOTS, false;
    /// slot → the frame (`fragment::HeldFrame`)
    HELD_FRAMES = fragment::HELD_GROUPS * fragment::HELD_SLOTS, false;
    /// VPC index → ICMP errors and echo replies sent in the current tick (`settings::IcmpBudget`)
    ICMP_BUDGETS = 65_536, false;
    /// a source that has answered a SYN cookie (`cookie::Source`) → when, in ticks (u32); LRU
    VERIFIED = 65_536, false;
    /// `stage::Stage` → the program that `privatelink_tc` goes on in
    STAGES_TC = STAGES.len() as u32, false;
    /// `stage::Stage` → the program that `privatelink_xdp` goes on in
    STAGES_XDP = STAGES.len() as u32, false;
    /// one record a CPU: the segment that the slow half is at
    SEGMENT = 1, false;
    /// one record a CPU: what `privatelink_tc_proxy` has decided
    PROXIED = 1, false;
    /// one header a CPU: the PROXY protocol's on its way into a segment (100 bytes)
    PROXY_HEADER = 1, false;
    /// one slot a CPU: a flow entry on its way into the stash
    SCRATCH = 1, false;
    /// one record: what `privatelink_explain` is asked and answers (`explain::Trace`)
    TRACE = 1, false;
    /// one record: the flow entries, budgets and locks that `privatelink_explain` changes in place of the real ones
    DRY_RUN = 1, false;
    /// ring buffer of `event` records; the number is its size in bytes
    EVENTS = 1_048_576, false;
}

/// Makes records usable as aya map keys and values. `Pod` of bytemuck already proves what `aya::Pod` asks for.
macro_rules! aya_pod {
    ($($t:ty),+ $(,)?) => { $(
        #[cfg(all(feature = "user", not(target_arch = "bpf")))]
        // SAFETY: `bytemuck::Pod` is derived: `Copy`, no padding, every bit pattern valid.
        unsafe impl aya::Pod for $t {}
    )+ };
}
use aya_pod;

macro_rules! assert_size {
    ($($t:ty = $size:literal),+ $(,)?) => { $( const _: () = assert!(size_of::<$t>() == $size); )+ };
}
use assert_size;
