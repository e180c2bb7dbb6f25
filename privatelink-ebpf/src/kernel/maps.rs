//! One static for each row of `abi::MAPS`; sizes are defaults that the loader may change.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use privatelink_ebpf::abi::{
    cookie::Source,
    entries,
    explain::Trace,
    flow::{Addresses6, Bucket, FlowKey, Slot},
    fragment::{FirstFragment, FragmentKey, HeldFragment, HeldFrame},
    limit::{Budget, EndpointBudget, EndpointUse},
    pool::PortPool,
    security::{Bound, Policy},
    service::{
        Address, Address6Key, AddressKey, Alias, AliasKey, EndpointIdText, Frontend, Frontend6Key, FrontendKey,
        Listener, Parted, Port, Range, RangeKey, StandIn, Target,
    },
    settings::{IcmpBudget, ResetBudget, Settings},
    stats::{EndpointStats, ListenerStats, TargetStats},
};
use privatelink_ebpf::wire::proxy_v2;

macro_rules! maps {
    ($($name:ident: $kind:ident<$($t:ty),+> $(, $flags:expr)?;)+) => {
        $(#[map]
        pub static $name: $kind<$($t),+> = $kind::with_max_entries(entries::$name, 0 $(| $flags)?);)+
    };
}

maps! {
    SETTINGS: Array<Settings>;
    PORTS: Array<Port>, BPF_F_MMAPABLE;
    ADDRESSES: HashMap<AddressKey, Address>;
    ADDRESSES6: HashMap<Address6Key, Address>;
    FRONTENDS6: HashMap<Frontend6Key, Frontend>;
    CLIENTS6: HashMap<FlowKey, Addresses6>, BPF_F_NO_PREALLOC;
    PACKET6: PerCpuArray<Addresses6>;
    FRONTENDS: HashMap<FrontendKey, Frontend>;
    POLICIES: Array<Policy>, BPF_F_MMAPABLE;
    SOURCE_BOUNDS: Array<Bound>, BPF_F_MMAPABLE;
    PARTED: HashMap<Parted, u32>;
    STAND_INS: LruHashMap<StandIn, u32>;
    LISTENERS: Array<Listener>, BPF_F_MMAPABLE;
    RINGS: Array<u32>, BPF_F_MMAPABLE;
    TARGETS: Array<Target>, BPF_F_MMAPABLE;
    NEXT_NODES: Array<u32>, BPF_F_MMAPABLE;
    POOLS: Array<PortPool>, BPF_F_MMAPABLE;
    VPCS: Array<Budget>, BPF_F_MMAPABLE;
    ENDPOINTS: Array<EndpointBudget>, BPF_F_MMAPABLE;
    VPC_HALF_OPEN: Array<u32>;
    ENDPOINT_HALF_OPEN: Array<u32>;
    ENDPOINT_USE: Array<EndpointUse>;
    FLOWS: Array<Bucket>, BPF_F_MMAPABLE;
    STASH: HashMap<FlowKey, Slot>;
    LOCKS: Array<u32>;
    COUNTERS: PerCpuArray<u64>;
    ENDPOINT_STATS: PerCpuArray<EndpointStats>;
    LISTENER_STATS: PerCpuArray<ListenerStats>;
    TARGET_STATS: PerCpuArray<TargetStats>;
    VERIFIED: LruHashMap<Source, u32>;
    FRAGMENTS: LruHashMap<FragmentKey, FirstFragment>;
    HELD: Array<HeldFragment>;
    HELD_FRAMES: Array<HeldFrame>;
    RESET_BUDGETS: Array<ResetBudget>;
    ICMP_BUDGETS: Array<IcmpBudget>;
    SCRATCH: PerCpuArray<Slot>;
    ENDPOINT_IDS: Array<EndpointIdText>, BPF_F_MMAPABLE;
    PROXY_HEADER: PerCpuArray<[u8; proxy_v2::LEN]>;
    TRACE: Array<Trace>;
}

/// Interfaces that take XDP frames.
#[map]
pub static XDP_PORTS: DevMap = DevMap::with_max_entries(entries::XDP_PORTS, 0);

/// Addresses that are routed to an endpoint; a trie, so never preallocated.
#[map]
pub static ALIASES: LpmTrie<AliasKey, Alias> = LpmTrie::with_max_entries(entries::ALIASES, 0);

/// Ports that one frontend serves together; a trie, so never preallocated.
#[map]
pub static PORT_RANGES: LpmTrie<RangeKey, Range> = LpmTrie::with_max_entries(entries::PORT_RANGES, 0);

/// The stages of the TC program.
#[map]
pub static STAGES_TC: ProgramArray = ProgramArray::with_max_entries(entries::STAGES_TC, 0);

/// The stages of the XDP program.
#[map]
pub static STAGES_XDP: ProgramArray = ProgramArray::with_max_entries(entries::STAGES_XDP, 0);

/// Records for the agent.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(entries::EVENTS, 0);

#[unsafe(no_mangle)]
pub static HASH_SEED: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static COOKIE_KEY: Global<[u64; 2]> = Global::new([0; 2]);
#[unsafe(no_mangle)]
pub static BUCKET_MASK: Global<u32> = Global::new(entries::FLOWS - 1);
#[unsafe(no_mangle)]
pub static REFERENCE_TABLE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static TICK_SHIFT: Global<u32> = Global::new(5);
#[unsafe(no_mangle)]
pub static TICKS_PER_256_S: Global<u32> = Global::new(2000);
