//! `Tables` over BPF maps.

use core::{cell::UnsafeCell, mem::ManuallyDrop};

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::{PerCpuArray, lpm_trie::Key},
};
use privatelink_ebpf::{
    abi::{
        Counter, Ip4, L4Port, VpcIndex,
        cookie::Source,
        event::Event,
        flow::{Addresses6, Bucket, FlowKey, Slot},
        fragment::{FirstFragment, FragmentKey, HeldFragment},
        limit::{Budget, EndpointBudget, EndpointUse},
        pool::PortPool,
        security::{Bound, Policy},
        service::{
            Address, Address6Key, AddressKey, AddressKind, AliasKey, Frontend, Frontend6Key, FrontendKey, Listener,
            Parted, Port, RangeKey, StandIn, Target,
        },
        settings::{Clock, FLOW_EVENTS, IcmpBudget, ResetBudget},
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::{
        Hook, Tables, addresses,
        atomic::add64,
        challenge,
        flow_table::{self, SlotRef},
        held, icmp, lifecycle, limit, open,
        parse::Segment,
        ports::{self, Claim},
        refusal, security,
    },
};

use super::{maps::*, packet::opaque};

const BPF_NOEXIST: u64 = 1;

/// A copy of the key, on the stack: memory that a global function was lent is no key of a map for kernel 6.1.
#[inline(always)]
fn own<K: Copy>(key: &K) -> K {
    *key
}

const LOCK_MASK: u32 = privatelink_ebpf::abi::entries::LOCKS - 1;

/// The maps, seen from one of the two hooks.
#[derive(Clone, Copy)]
pub struct Maps<const XDP: bool>;

// Functions that the verifier checks on their own (BTF, kernel 5.6): inlined, each would multiply the paths of its
// callers. They take scalars and pointers to plain records, and return scalars.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim_port(pool: u32, hint: u32) -> i32 {
    match POOLS.get_ptr_mut(pool) {
        // SAFETY: a live map value, shared through `ports` only.
        Some(pool) => unsafe { ports::claim(pool, hint) }.to_bits(),
        None => Claim::Exhausted.to_bits(),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim_node(target: u32, hint: u32) -> i64 {
    open::claim_node_bits(Maps::<false>, target, hint)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn node_port_served(target: u32, port: u32) -> u32 {
    open::node_port_served_bits(Maps::<false>, target, port)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn release_port(pool: u32, port: u32) -> i32 {
    if let Some(pool) = POOLS.get_ptr_mut(pool) {
        // SAFETY: a live map value, shared through `ports` only.
        unsafe { ports::release(pool, port as u16) };
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn alias_of(vpc: u32, ip: u32) -> u32 {
    let data = AliasKey::new(VpcIndex(vpc as u16), Ip4::from_word(ip));
    match ALIASES.get(Key::new(AliasKey::VPC_BITS + u32::BITS, data)) {
        Some(alias) => alias.endpoint.word(),
        None => 0,
    }
}

/// The key of one look-up after another.
union Asked {
    range: ManuallyDrop<Key<RangeKey>>,
    alias: ManuallyDrop<Key<AliasKey>>,
    frontend: FrontendKey,
}

impl addresses::Places for Asked {
    #[inline(always)]
    fn range(&mut self, key: &FrontendKey) -> u16 {
        let FrontendKey { ip, vpc, port, proto, _pad } = *key;
        let data = RangeKey::new(vpc, ip, port, proto);
        self.range = ManuallyDrop::new(Key::new(RangeKey::FIXED_BITS + u16::BITS, data));
        // SAFETY: what was just written.
        match PORT_RANGES.get(unsafe { &*self.range }) {
            Some(range) => range.port.word(),
            None => 0,
        }
    }

    #[inline(always)]
    fn alias(&mut self, vpc: VpcIndex, ip: Ip4) -> u32 {
        self.alias = ManuallyDrop::new(Key::new(AliasKey::VPC_BITS + u32::BITS, AliasKey::new(vpc, ip)));
        // SAFETY: what was just written.
        match ALIASES.get(unsafe { &*self.alias }) {
            Some(alias) => alias.endpoint.word(),
            None => 0,
        }
    }

    #[inline(always)]
    fn exact(&mut self, key: &FrontendKey) -> bool {
        self.frontend = *key;
        // SAFETY: what was just written.
        FRONTENDS.get_ptr(unsafe { &self.frontend }).is_some()
    }
}

/// Sixteen bytes of stack: as deep as this is called there are no more.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn frontend_elsewhere(vpc_and_proto: u32, ip: u32, port: u32) -> u64 {
    let (vpc, port) = (VpcIndex(vpc_and_proto as u16), L4Port::from_word(port as u16));
    let key = FrontendKey { ip: Ip4::from_word(ip), vpc, port, proto: (vpc_and_proto >> 16) as u8, _pad: [0; 3] };
    addresses::elsewhere_bits(&mut Asked { frontend: key }, &key)
}

/// The segment that an entry program is at, for the cold path that it calls: beside the entry program's own 512 bytes
/// of stack, which it shares with all that it calls.
#[map]
pub static SEGMENT: PerCpuArray<Segment> = PerCpuArray::with_max_entries(privatelink_ebpf::abi::entries::SEGMENT, 0);

/// What is lent where [`SEGMENT`] is not to be had. Not constant: kernel 6.1 lets functions that it checks on their own
/// write to all that they are lent, which constants forbid.
static NO_SEGMENT: NoSegment = NoSegment(UnsafeCell::new(Segment::NONE));

struct NoSegment(UnsafeCell<Segment>);

// SAFETY: never written.
unsafe impl Sync for NoSegment {}

/// A segment of nothing; a per-CPU array has its first element, so nobody sees it.
#[inline(always)]
pub fn no_segment() -> &'static Segment {
    // SAFETY: never written.
    unsafe { &*NO_SEGMENT.0.get() }
}

/// A slot's number in `FLOWS`, or one of two others.
const NOT_FOUND: i64 = -1;
const IN_STASH: i64 = -2;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn target_pair(target: u32) -> u64 {
    lifecycle::target_pair_bits(Maps::<false>, target)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_flow(key: *const FlowKey) -> i64 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    let Some(key) = (unsafe { key.as_ref() }) else { return NOT_FOUND };
    match flow_table::find_index(Maps::<false>, key) {
        Some(index) => index as i64,
        None if STASH.get_ptr(own(key)).is_some() => IN_STASH,
        None => NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn reserve_slot(key: *const FlowKey) -> i64 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    match unsafe { key.as_ref() } {
        Some(key) => flow_table::reserve_index(Maps::<false>, key),
        None => NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn admit_connection(segment: *const Segment) -> i64 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    match unsafe { segment.as_ref() } {
        Some(segment) => open::admit_bits(Maps::<false>, segment),
        None => !(Counter::KernelRefused as i64),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn insert_flow(segment: *const Segment, admission: i64, ifindex_and_flag: u32) -> u32 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    match unsafe { segment.as_ref() } {
        Some(segment) => open::insert_bits(Maps::<false>, segment, admission, ifindex_and_flag),
        None => 0x100 | Counter::KernelRefused as u32,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn admits_source(policy: u32, hi: u64, lo: u64) -> u32 {
    security::admits_source_bits(Maps::<false>, policy, hi, lo)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn admit_flow(endpoint: u32, bytes: u32) -> u32 {
    limit::admit_flow_bits(Maps::<false>, endpoint, bytes)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn metered_wrongly(endpoint: u32, flags: u32) -> u32 {
    limit::metered_wrongly_bits(Maps::<false>, endpoint, flags)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn meter_packet(endpoint: u32, bytes: u32) -> u32 {
    limit::meter_bits(Maps::<false>, endpoint, bytes)
}

/// The cold paths that differ by hook.
macro_rules! cold {
    ($($tc:ident $xdp:ident = $body:path, $record:ty $(, $scalar:ident)?;)+) => { $(
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $tc(record: *const $record $(, $scalar: u32)?) -> u32 {
            // SAFETY: the verifier has checked that it is null or a whole record.
            match unsafe { record.as_ref() } {
                Some(record) => $body(Maps::<false>, record $(, $scalar)?),
                None => 0,
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $xdp(record: *const $record $(, $scalar: u32)?) -> u32 {
            // SAFETY: the verifier has checked that it is null or a whole record.
            match unsafe { record.as_ref() } {
                Some(record) => $body(Maps::<true>, record $(, $scalar)?),
                None => 0,
            }
        }
    )+ };
}

cold! {
    tc_judge_stranger xdp_judge_stranger = refusal::judge_stranger_bits, Segment, port_flags;
    tc_refuse_connection xdp_refuse_connection = refusal::refuse_connection_bits, Segment, reason;
}

/// The cold paths that are the same for both hooks.
macro_rules! cold_shared {
    ($($name:ident = $body:path, $record:ty $(, $scalar:ident)?;)+) => { $(
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(record: *const $record $(, $scalar: u32)?) -> u32 {
            // SAFETY: the verifier has checked that it is null or a whole record.
            match unsafe { record.as_ref() } {
                Some(record) => $body(Maps::<false>, record $(, $scalar)?),
                None => 0,
            }
        }
    )+ };
}

cold_shared! {
    end_flow = refusal::end_flow_bits, Segment, why;
    answer_with_error = icmp::error::answer_bits, Segment, cause;
    report_opened = open::report_opened_bits, Segment;
    source_verified = challenge::verified_bits, Segment;
    end_hold = open::end_hold_bits, Segment;
    step_flow = lifecycle::step_bits, Segment;
    close_flow = lifecycle::close_bits, FlowKey, why;
    acknowledge_header = lifecycle::acknowledge_header_bits, FlowKey;
    fragments_wait = held::awaited_bits, FragmentKey;
    take_held = held::take_bits, FragmentKey, slot;
    meter_flow_anew = limit::meter_anew_bits, FlowKey;
    supersede_flow = lifecycle::supersede_bits, Segment;
    flow_ended = security::ended_bits, FlowKey, target;
    flow_silent = lifecycle::silent_bits, Segment;
    difference = addresses::difference_bits, Segment, target;
    give_hold_back = open::give_hold_back_bits, Segment, port;
    replied_flow = lifecycle::replied_bits, Segment;
    retire_flow = lifecycle::retire_bits, Segment;
    move_client = lifecycle::move_client_bits, Segment, ifindex;
    keep_to_tc = lifecycle::keep_to_tc_bits, Segment;
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn reserve_held(key: *const FragmentKey, len: u32) -> i32 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    match unsafe { key.as_ref() } {
        Some(key) => held::reserve_bits::<false, _>(Maps::<false>, key, len),
        None => -1,
    }
}

impl<const XDP: bool> Tables<'static> for Maps<XDP> {
    const HOOK: Hook = if XDP { Hook::Xdp } else { Hook::Tc };

    #[inline(always)]
    fn port(self, ifindex: u32) -> Option<&'static Port> {
        PORTS.get(ifindex)
    }

    #[inline(always)]
    fn owns(self, key: &AddressKey) -> bool {
        ADDRESSES.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn is_node(self, key: &AddressKey) -> bool {
        match ADDRESSES.get_ptr(key) {
            // SAFETY: a live map value, written whole by the agent.
            Some(address) => unsafe { (*address).kind == AddressKind::Node as u32 },
            None => false,
        }
    }

    #[inline(always)]
    fn frontend(self, key: &FrontendKey) -> Option<&'static Frontend> {
        // SAFETY: a live map value, written whole by the agent; what is removed stays readable until this program has
        // ended.
        unsafe { FRONTENDS.get(key) }
    }

    #[inline(always)]
    fn alias(self, vpc: VpcIndex, ip: Ip4) -> u32 {
        alias_of(vpc.0 as u32, ip.word())
    }

    #[inline(always)]
    fn elsewhere(self, key: &FrontendKey) -> u64 {
        frontend_elsewhere(key.vpc.0 as u32 | (key.proto as u32) << 16, key.ip.word(), key.port.word() as u32)
    }

    #[inline(always)]
    fn parted(self, key: &Parted) -> bool {
        PARTED.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn address6(self, key: &Address6Key) -> Option<Address> {
        // SAFETY: a live map value, written whole by the agent.
        ADDRESSES6.get_ptr(key).map(|address| unsafe { *address })
    }

    #[inline(always)]
    fn frontend6(self, key: &Frontend6Key) -> Option<Frontend> {
        // SAFETY: a live map value, written whole by the agent.
        FRONTENDS6.get_ptr(key).map(|frontend| unsafe { *frontend })
    }

    #[inline(always)]
    fn packet6(self) -> Option<*mut Addresses6> {
        PACKET6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn client6(self, key: &FlowKey) -> Option<&'static Addresses6> {
        // SAFETY: a live map value, written once; what is removed stays readable until this program has ended.
        CLIENTS6.get_ptr(own(key)).map(|client| unsafe { &*client })
    }

    #[inline(always)]
    fn put_client6(self, key: &FlowKey) -> bool {
        match PACKET6.get_ptr(0) {
            // SAFETY: this CPU's own record.
            Some(packet) => CLIENTS6.insert(key, unsafe { &*packet }, 0).is_ok(),
            None => false,
        }
    }

    #[inline(always)]
    fn remove_client6(self, key: &FlowKey) {
        let _ = CLIENTS6.remove(own(key));
    }

    #[inline(always)]
    fn policy(self, index: u32) -> Option<Policy> {
        // SAFETY: a live map value of eight bytes, read as the one word that the agent writes.
        POLICIES.get_ptr(index).map(|policy| Policy::from_word(unsafe { policy.cast::<u64>().read_volatile() }))
    }

    #[inline(always)]
    fn source_bound(self, index: u32) -> Option<&'static Bound> {
        SOURCE_BOUNDS.get(index)
    }

    #[inline(always)]
    fn listener(self, index: u32) -> Option<&'static Listener> {
        LISTENERS.get(index)
    }

    #[inline(always)]
    fn ring(self, index: u32) -> Option<u32> {
        RINGS.get(index).copied()
    }

    #[inline(always)]
    fn target(self, index: u32) -> Option<&'static Target> {
        TARGETS.get(index)
    }

    #[inline(always)]
    fn next_node(self, target: u32) -> u32 {
        NEXT_NODES.get(target).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn claim_node(self, target: u32, hint: u32) -> i64 {
        claim_node(target, hint)
    }

    #[inline(always)]
    fn node_port_served(self, target: u32, port: u32) -> u32 {
        node_port_served(target, port)
    }

    #[inline(always)]
    fn claim_port(self, pool: u32, hint: u32) -> Claim {
        Claim::from_bits(claim_port(pool, hint))
    }

    #[inline(always)]
    fn release_port(self, pool: u32, port: u16) {
        release_port(pool, port as u32);
    }

    #[inline(always)]
    fn count_exhausted(self, pool: u32) {
        if let Some(pool) = POOLS.get_ptr_mut(pool) {
            let pool: *mut PortPool = pool;
            // SAFETY: a live map value.
            unsafe { add64(&raw mut (*pool).exhausted, 1) };
        }
    }

    #[inline(always)]
    fn bucket(self, index: u32) -> Option<*mut Bucket> {
        FLOWS.get_ptr_mut(index)
    }

    #[inline(always)]
    fn bucket_mask(self) -> u32 {
        BUCKET_MASK.load()
    }

    #[inline(always)]
    fn hash_seed(self) -> u64 {
        HASH_SEED.load()
    }

    #[inline(always)]
    fn cookie_key(self) -> [u64; 2] {
        COOKIE_KEY.load()
    }

    #[inline(always)]
    fn reference_table(self) -> bool {
        REFERENCE_TABLE.load() != 0
    }

    #[inline(always)]
    fn stash(self, key: &FlowKey) -> Option<*mut Slot> {
        STASH.get_ptr_mut(own(key))
    }

    #[inline(always)]
    fn stash_insert(self, _key: &FlowKey) -> bool {
        match SCRATCH.get_ptr(0) {
            // SAFETY: this CPU's own entry, just filled; its words of the key are a whole one, in a map's value, which
            // needs no copy.
            Some(slot) => unsafe {
                let key = (&raw const (*slot).key).cast::<FlowKey>();
                STASH.insert(&*key, &*slot, BPF_NOEXIST).is_ok()
            },
            None => false,
        }
    }

    #[inline(always)]
    fn stash_remove(self, key: &FlowKey) {
        let _ = STASH.remove(key);
    }

    #[inline(always)]
    fn scratch(self) -> Option<*mut Slot> {
        SCRATCH.get_ptr_mut(0)
    }

    #[inline(always)]
    fn lock(self, stripe: u32) -> Option<*mut u32> {
        LOCKS.get_ptr_mut(stripe & LOCK_MASK)
    }

    #[inline(always)]
    fn vpc_budget(self, vpc: u32) -> Option<&'static Budget> {
        VPCS.get(vpc)
    }

    #[inline(always)]
    fn endpoint_budget(self, endpoint: u32) -> Option<&'static EndpointBudget> {
        ENDPOINTS.get(endpoint)
    }

    #[inline(always)]
    fn vpc_half_open(self, vpc: u32) -> Option<*mut u32> {
        VPC_HALF_OPEN.get_ptr_mut(vpc)
    }

    #[inline(always)]
    fn endpoint_half_open(self, endpoint: u32) -> Option<*mut u32> {
        ENDPOINT_HALF_OPEN.get_ptr_mut(endpoint)
    }

    #[inline(always)]
    fn endpoint_use(self, endpoint: u32) -> Option<*mut EndpointUse> {
        ENDPOINT_USE.get_ptr_mut(endpoint)
    }

    #[inline(always)]
    fn reset_budget(self, vpc: u32) -> Option<*mut ResetBudget> {
        RESET_BUDGETS.get_ptr_mut(vpc)
    }

    #[inline(always)]
    fn fragment(self, key: &FragmentKey) -> Option<FirstFragment> {
        // SAFETY: a live map value; one that is used again meanwhile is another packet's, whose fragments it would
        // misguide no further than an attacker could himself.
        FRAGMENTS.get_ptr(own(key)).map(|first| unsafe { *first })
    }

    #[inline(always)]
    fn stands_in(self, key: &StandIn) -> bool {
        STAND_INS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn stand_in(self, key: &StandIn) {
        let _ = STAND_INS.insert(key, &1, 0);
    }

    #[inline(always)]
    fn held(self, slot: u32) -> Option<*mut HeldFragment> {
        HELD.get_ptr_mut(slot)
    }

    #[inline(always)]
    fn awaited(self, key: &FragmentKey) -> u32 {
        fragments_wait(key)
    }

    #[inline(always)]
    fn reserve_held(self, key: &FragmentKey, len: u32) -> i32 {
        reserve_held(key, len)
    }

    #[inline(always)]
    fn take_held(self, key: &FragmentKey, slot: u32) -> u32 {
        take_held(key, slot)
    }

    #[inline(always)]
    fn note_fragment(self, key: &FragmentKey, first: &FirstFragment) {
        let _ = FRAGMENTS.insert(own(key), first, 0);
    }

    #[inline(always)]
    fn verified_at(self, source: &Source) -> Option<u32> {
        // SAFETY: a live map value of one word; one that is used again meanwhile is of a source that was verified as
        // well.
        VERIFIED.get_ptr(source).map(|at| unsafe { at.read_volatile() })
    }

    #[inline(always)]
    fn verify(self, source: &Source) {
        let _ = VERIFIED.insert(source, &self.now(), 0);
    }

    #[inline(always)]
    fn icmp_budget(self, vpc: u32) -> Option<*mut IcmpBudget> {
        ICMP_BUDGETS.get_ptr_mut(vpc)
    }

    #[inline(always)]
    fn clock(self) -> Clock {
        Clock { tick_shift: TICK_SHIFT.load(), ticks_per_256_s: TICKS_PER_256_S.load() }
    }

    #[inline(always)]
    fn now(self) -> u32 {
        // SAFETY: a helper without arguments; the verifier inlines it as a load.
        (unsafe { bpf_jiffies64() } >> TICK_SHIFT.load()) as u32
    }

    #[inline(always)]
    fn nanoseconds(self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn count(self, counter: Counter) {
        if let Some(count) = COUNTERS.get_ptr_mut(counter as u32) {
            // SAFETY: this CPU's own counter.
            unsafe { *count += 1 };
        }
    }

    #[inline(always)]
    fn endpoint_stats(self, endpoint: u32) -> Option<*mut EndpointStats> {
        ENDPOINT_STATS.get_ptr_mut(endpoint)
    }

    #[inline(always)]
    fn listener_stats(self, listener: u32) -> Option<*mut ListenerStats> {
        LISTENER_STATS.get_ptr_mut(listener)
    }

    #[inline(always)]
    fn target_stats(self, target: u32) -> Option<*mut TargetStats> {
        TARGET_STATS.get_ptr_mut(target)
    }

    #[inline(always)]
    fn flow_events(self) -> bool {
        SETTINGS.get(0).is_some_and(|settings| settings.flags & FLOW_EVENTS != 0)
    }

    #[inline(always)]
    fn emit(self, fill: impl FnOnce(&mut Event)) {
        match EVENTS.reserve::<Event>(0) {
            Some(mut entry) => {
                // SAFETY: the reserved record is this program's own until it is submitted; zero is a value of every
                // field.
                let event = unsafe {
                    let event: *mut Event = entry.as_mut_ptr();
                    let words = event.cast::<u32>();
                    for i in 0..size_of::<Event>() / size_of::<u32>() {
                        words.add(i).write_volatile(0);
                    }
                    &mut *event
                };
                fill(event);
                entry.submit(0);
            }
            None => self.count(Counter::EventLost),
        }
    }

    #[inline(always)]
    fn lend(self, segment: Segment) -> &'static Segment {
        match SEGMENT.get_ptr_mut(0) {
            // SAFETY: this CPU's own record; a frame's program is not interrupted by another frame's.
            Some(lent) => unsafe {
                lent.write(segment);
                // Through an opaque pointer, so that the fields are read from there and not kept in registers.
                &*(opaque(lent as usize) as *const Segment)
            },
            None => no_segment(),
        }
    }

    #[inline(always)]
    fn lend_with_ack(self, _segment: &'static Segment, ack: u32) -> &'static Segment {
        match SEGMENT.get_ptr_mut(0) {
            // SAFETY: as `lend`; the reference that was lent before is not used any more.
            Some(lent) => unsafe {
                (&raw mut (*lent).ack).write_volatile(ack);
                &*(opaque(lent as usize) as *const Segment)
            },
            None => no_segment(),
        }
    }

    #[inline(always)]
    fn lent(self) -> &'static Segment {
        match SEGMENT.get_ptr(0) {
            // SAFETY: this CPU's own record; a frame's program is not interrupted by another frame's.
            Some(lent) => unsafe { &*(opaque(lent as usize) as *const Segment) },
            None => no_segment(),
        }
    }

    #[inline(always)]
    fn find(self, key: &FlowKey) -> Option<SlotRef> {
        match find_flow(key) {
            IN_STASH => flow_table::find_stashed(self, key),
            NOT_FOUND => None,
            index => flow_table::slot_by_index(self, key, index as u32),
        }
    }

    #[inline(always)]
    fn has(self, key: &FlowKey) -> bool {
        find_flow(key) != NOT_FOUND
    }

    #[inline(always)]
    fn reserve(self, key: &FlowKey) -> i64 {
        reserve_slot(key)
    }

    #[inline(always)]
    fn verified(self, segment: &Segment) -> u32 {
        source_verified(segment)
    }

    #[inline(always)]
    fn admit(self, segment: &Segment) -> i64 {
        admit_connection(segment)
    }

    #[inline(always)]
    fn admits_source(self, policy: u32, hi: u64, lo: u64) -> u32 {
        admits_source(policy, hi, lo)
    }

    #[inline(always)]
    fn ended(self, forward: &FlowKey, target: u32) -> u32 {
        flow_ended(forward, target)
    }

    #[inline(always)]
    fn admit_flow(self, endpoint: u32, bytes: u32) -> u32 {
        admit_flow(endpoint, bytes)
    }

    #[inline(always)]
    fn meter(self, endpoint: u32, bytes: u32) -> u32 {
        meter_packet(endpoint, bytes)
    }

    #[inline(always)]
    fn metered_wrongly(self, endpoint: u32, flags: u32) -> u32 {
        metered_wrongly(endpoint, flags)
    }

    #[inline(always)]
    fn meter_anew(self, key: &FlowKey) -> u32 {
        meter_flow_anew(key)
    }

    #[inline(always)]
    fn insert(self, segment: &Segment, admission: i64, ifindex_and_flag: u32) -> u32 {
        insert_flow(segment, admission, ifindex_and_flag)
    }

    #[inline(always)]
    fn judge_stranger(self, segment: &Segment, port_flags: u32) -> u32 {
        if XDP { xdp_judge_stranger(segment, port_flags) } else { tc_judge_stranger(segment, port_flags) }
    }

    #[inline(always)]
    fn refuse_connection(self, segment: &Segment, reason: u32) -> u32 {
        if XDP { xdp_refuse_connection(segment, reason) } else { tc_refuse_connection(segment, reason) }
    }

    #[inline(always)]
    fn answer_with_error(self, segment: &Segment, cause: u32) -> u32 {
        answer_with_error(segment, cause)
    }

    #[inline(always)]
    fn end_flow(self, segment: &Segment, why: u32) -> u32 {
        end_flow(segment, why)
    }

    #[inline(always)]
    fn end_hold(self, segment: &Segment) -> u32 {
        end_hold(segment)
    }

    #[inline(always)]
    fn report_opened(self, segment: &Segment) -> u32 {
        report_opened(segment)
    }

    #[inline(always)]
    fn step(self, segment: &Segment) -> u32 {
        step_flow(segment)
    }

    #[inline(always)]
    fn close(self, key: &FlowKey, why: u32) -> u32 {
        close_flow(key, why)
    }

    #[inline(always)]
    fn supersede(self, segment: &Segment) -> u32 {
        supersede_flow(segment)
    }

    #[inline(always)]
    fn silent(self, segment: &Segment) -> u32 {
        flow_silent(segment)
    }

    #[inline(always)]
    fn give_hold_back(self, segment: &Segment, port: u32) -> u32 {
        give_hold_back(segment, port)
    }

    #[inline(always)]
    fn target_pair(self, target: u32) -> u64 {
        target_pair(target)
    }

    #[inline(always)]
    fn difference(self, segment: &Segment, target: u32) -> u32 {
        difference(segment, target)
    }

    #[inline(always)]
    fn replied(self, segment: &Segment) -> u32 {
        replied_flow(segment)
    }

    #[inline(always)]
    fn retire(self, segment: &Segment) -> u32 {
        retire_flow(segment)
    }

    #[inline(always)]
    fn move_client(self, segment: &Segment, ifindex: u32) -> u32 {
        move_client(segment, ifindex)
    }

    #[inline(always)]
    fn acknowledge_header(self, key: &FlowKey) -> u32 {
        acknowledge_header(key)
    }

    #[inline(always)]
    fn keep_to_tc(self, segment: &Segment) -> u32 {
        keep_to_tc(segment)
    }
}
