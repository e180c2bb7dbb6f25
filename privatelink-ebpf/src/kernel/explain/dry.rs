//! Tables that look like the real ones and keep every change to themselves.

use aya_ebpf::{macros::map, maps::Array};
use privatelink_ebpf::{
    abi::{
        Counter, Ip4, VpcIndex,
        cookie::Source,
        entries,
        event::Event,
        explain::Trace,
        flow::{Addresses6, Bucket, FlowKey, FlowState, Meta, Slot},
        fragment::{FirstFragment, FragmentKey, HeldFragment},
        limit::{Budget, EndpointBudget, EndpointUse},
        security::{Bound, Policy},
        service::{
            Address, Address6Key, AddressKey, Frontend, Frontend6Key, FrontendKey, Listener, Parted, Port, StandIn,
            Target,
        },
        settings::{Clock, IcmpBudget, ResetBudget},
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::{
        Hook, Tables,
        atomic::load64,
        flow_table, held, icmp, lifecycle, limit, open,
        parse::Segment,
        ports::{self, Claim},
        refusal,
    },
};

use super::{
    super::{
        maps::POOLS,
        packet::opaque,
        tables::{Maps, no_segment},
    },
    note, trace,
};

/// What a packet changes in place of the tables. One question at a time: the agent holds a lock over the run.
#[repr(C)]
#[derive(Clone, Copy)]
struct DryRun {
    /// The flow's forward entry and its reverse one; key 0: none.
    entries: [Slot; 2],
    /// As `SCRATCH`.
    scratch: Slot,
    /// As `SEGMENT`.
    segment: Segment,
    reset_budget: ResetBudget,
    icmp_budget: IcmpBudget,
    /// Copies of half-open counts, and of which VPC and endpoint they are (index plus one).
    half_open: [u32; 2],
    half_open_of: [u32; 2],
    /// What the endpoint uses of its limits, if it has been copied.
    endpoint_use: EndpointUse,
    lock: u32,
    /// Which budgets have been copied: 1 of resets, 2 of ICMP, 4 of the endpoint (a packet is about one).
    budgeted: u32,
    /// A port that the packet gave back: its pool plus one, and its number. 0: none.
    released: [u32; 2],
}

#[map]
static DRY_RUN: Array<DryRun> = Array::with_max_entries(entries::DRY_RUN, 0);

/// Where a flow's entries are in [`DryRun::entries`].
const FORWARD: usize = 0;
const REVERSE: usize = 1;

/// The real tables, for reading.
const REAL: Maps<false> = Maps;

#[inline(always)]
fn run() -> Option<*mut DryRun> {
    DRY_RUN.get_ptr_mut(0)
}

/// Forgets the question before. False: there is no room for one.
#[inline(always)]
pub fn begin() -> bool {
    let Some(run) = run() else { return false };
    // SAFETY: a live map value, used by this run alone.
    unsafe {
        for entry in [FORWARD, REVERSE] {
            let key = (&raw mut (*run).entries[entry].key).cast::<u64>();
            key.write_volatile(0);
            key.add(1).write_volatile(0);
        }
        (&raw mut (*run).half_open_of).cast::<u64>().write_volatile(0);
        (&raw mut (*run).lock).write_volatile(0);
        (&raw mut (*run).budgeted).write_volatile(0);
        (&raw mut (*run).released).cast::<u64>().write_volatile(0);
    }
    true
}

#[inline(always)]
const fn place(flags: u8) -> usize {
    if flags & Meta::FORWARD != 0 { FORWARD } else { REVERSE }
}

#[inline(always)]
fn slot(run: *mut DryRun, entry: usize) -> *mut Slot {
    // SAFETY: callers' entries are the two; only the address is formed.
    unsafe { (&raw mut (*run).entries).cast::<Slot>().add(entry & 1) }
}

#[inline(always)]
fn holds(run: *mut DryRun, entry: usize, key: &FlowKey) -> bool {
    let [lo, hi] = key.words();
    // SAFETY: a live map value.
    unsafe {
        let held = (&raw const (*slot(run, entry)).key).cast::<u64>();
        load64(held) == lo && load64(held.add(1)) == hi
    }
}

/// The entry of `key` plus one: the copy that this packet has, made now if the flow table has the key; 0: there is
/// none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_find(key: *const FlowKey) -> u32 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    let (Some(key), Some(run)) = (unsafe { key.as_ref() }, run()) else { return 0 };
    for entry in [FORWARD, REVERSE] {
        if holds(run, entry, key) {
            return entry as u32 + 1;
        }
    }
    let Some(real) = REAL.find(key) else { return 0 };
    let Meta { version: _, state, translated: _, flags, idle_s: _ } = real.meta();
    let entry = place(flags);
    // SAFETY: the copy is this run's alone.
    unsafe { real.copy_to(slot(run, entry)) };
    if entry == FORWARD {
        note(|trace| {
            // SAFETY: a live map value.
            unsafe {
                (*trace).found |= Trace::FLOW;
                (*trace).flow_state = state as u32;
            }
        });
    }
    entry as u32 + 1
}

/// Puts the scratch entry among the copies, if the flow table has room for it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_insert(key: *const FlowKey) -> u32 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    let (Some(key), Some(run), Some(trace)) = (unsafe { key.as_ref() }, run(), trace()) else { return 0 };
    // SAFETY: a live map value.
    let stash_full = unsafe { (*trace).stash_full } != 0;
    if stash_full && !flow_table::has_free_slot(REAL, key) {
        return 0;
    }
    // SAFETY: both slots are this run's alone.
    unsafe {
        let from = &raw const (*run).scratch;
        let to = slot(run, place(Meta::unpack((*from).meta).flags));
        for word in 0..size_of::<Slot>() / size_of::<u64>() {
            to.cast::<u64>().add(word).write_volatile(load64(from.cast::<u64>().add(word)));
        }
    }
    1
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_claim(pool: u32) -> i32 {
    if let Some(run) = run() {
        // SAFETY: a live map value.
        let [of, port] = unsafe { (*run).released };
        if of == pool + 1 {
            return Claim::Port(port as u16).to_bits();
        }
    }
    match POOLS.get_ptr_mut(pool) {
        // SAFETY: a live map value, shared through `ports` only.
        Some(pool) => unsafe { ports::peek(pool) }.to_bits(),
        None => Claim::Exhausted.to_bits(),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_claim_node(target: u32, hint: u32) -> i64 {
    open::claim_node_bits(Dry, target, hint)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_reserve_held(key: *const FragmentKey, len: u32) -> i32 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    match unsafe { key.as_ref() } {
        Some(key) => held::reserve_bits::<true, _>(Dry, key, len),
        None => -1,
    }
}

/// The cold paths, over [`Dry`].
macro_rules! cold {
    ($($name:ident($record:ty $(, $scalar:ident)?) -> $result:ty = $body:path, $missing:expr;)+) => { $(
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(record: *const $record $(, $scalar: u32)?) -> $result {
            // SAFETY: the verifier has checked that it is null or a whole record.
            match unsafe { record.as_ref() } {
                Some(record) => $body(Dry, record $(, $scalar)?),
                None => $missing,
            }
        }
    )+ };
}

cold! {
    dry_admit(Segment) -> i64 = open::admit_bits, !(Counter::KernelRefused as i64);
    dry_judge_stranger(Segment, port_flags) -> u32 = refusal::judge_stranger_bits, 0;
    dry_refuse_connection(Segment, reason) -> u32 = refusal::refuse_connection_bits, 0;
    dry_end_hold(Segment) -> u32 = open::end_hold_bits, 0;
    dry_give_hold_back(Segment, port) -> u32 = open::give_hold_back_bits, 0;
    dry_end_flow(Segment, why) -> u32 = refusal::end_flow_bits, 0;
    dry_answer_with_error(Segment, cause) -> u32 = icmp::error::answer_bits, 0;
    dry_step(Segment) -> u32 = lifecycle::step_bits, 0;
    dry_close(FlowKey, why) -> u32 = lifecycle::close_bits, 0;
    dry_supersede(Segment) -> u32 = lifecycle::supersede_bits, 0;
    dry_replied(Segment) -> u32 = lifecycle::replied_bits, 0;
    dry_retire(Segment) -> u32 = lifecycle::retire_bits, 0;
    dry_silent(Segment) -> u32 = lifecycle::silent_bits, 0;
    dry_acknowledge_header(FlowKey) -> u32 = lifecycle::acknowledge_header_bits, 0;
    dry_move_client(Segment, ifindex) -> u32 = lifecycle::move_client_bits, 0;
    dry_keep_to_tc(Segment) -> u32 = lifecycle::keep_to_tc_bits, 0;
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_admit_flow(endpoint: u32, bytes: u32) -> u32 {
    limit::admit_flow_bits(Dry, endpoint, bytes)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_meter(endpoint: u32, bytes: u32) -> u32 {
    limit::meter_bits(Dry, endpoint, bytes)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn dry_open(segment: *const Segment, admission: i64, ifindex_and_flag: u32) -> u32 {
    // SAFETY: the verifier has checked that it is null or a whole record.
    match unsafe { segment.as_ref() } {
        Some(segment) => open::insert_bits(Dry, segment, admission, ifindex_and_flag),
        None => 0x100 | Counter::KernelRefused as u32,
    }
}

/// Notes the frontend that a packet is for.
#[inline(always)]
fn noted(frontend: &Frontend) {
    note(|trace| {
        // SAFETY: a live map value.
        unsafe {
            (*trace).found |= Trace::FRONTEND;
            (*trace).listener = frontend.listener;
            (*trace).endpoint = frontend.endpoint as u32;
        }
    });
}

/// The maps, read only; see the module.
#[derive(Clone, Copy)]
pub struct Dry;

impl Dry {
    /// Sets a bit of a word; whether it was not set before.
    ///
    /// # Safety
    /// The word is in a live map value of this run alone.
    #[inline(always)]
    unsafe fn first(word: *mut u32, bit: u32) -> bool {
        // SAFETY: as the caller promises.
        unsafe {
            let was = word.read_volatile();
            word.write_volatile(was | bit);
            was & bit == 0
        }
    }

    /// The copy of a half-open count; `which` is 0 for VPCs, 1 for endpoints.
    #[inline(always)]
    fn half_open(which: usize, index: u32, real: Option<*mut u32>) -> Option<*mut u32> {
        let (run, real) = (run()?, real?);
        // SAFETY: a live map value of this run alone, and one that is read; `which` is 0 or 1.
        unsafe {
            let of = (&raw mut (*run).half_open_of).cast::<u32>().add(which & 1);
            let copy = (&raw mut (*run).half_open).cast::<u32>().add(which & 1);
            if of.read_volatile() != index + 1 {
                of.write_volatile(index + 1);
                copy.write_volatile(real.read_volatile());
            }
            Some(copy)
        }
    }
}

impl Tables<'static> for Dry {
    const HOOK: Hook = Hook::Tc;

    #[inline(always)]
    fn port(self, ifindex: u32) -> Option<&'static Port> {
        REAL.port(ifindex)
    }

    #[inline(always)]
    fn owns(self, key: &AddressKey) -> bool {
        REAL.owns(key)
    }

    #[inline(always)]
    fn is_node(self, key: &AddressKey) -> bool {
        REAL.is_node(key)
    }

    #[inline(always)]
    fn frontend(self, key: &FrontendKey) -> Option<&'static Frontend> {
        let frontend = REAL.frontend(key)?;
        noted(frontend);
        Some(frontend)
    }

    #[inline(always)]
    fn alias(self, vpc: VpcIndex, ip: Ip4) -> u32 {
        REAL.alias(vpc, ip)
    }

    #[inline(always)]
    fn elsewhere(self, key: &FrontendKey) -> u64 {
        REAL.elsewhere(key)
    }

    #[inline(always)]
    fn parted(self, key: &Parted) -> bool {
        REAL.parted(key)
    }

    #[inline(always)]
    fn give_hold_back(self, segment: &Segment, port: u32) -> u32 {
        dry_give_hold_back(segment, port)
    }

    #[inline(always)]
    fn target_pair(self, target: u32) -> u64 {
        REAL.target_pair(target)
    }

    #[inline(always)]
    fn difference(self, segment: &Segment, target: u32) -> u32 {
        REAL.difference(segment, target)
    }

    #[inline(always)]
    fn address6(self, key: &Address6Key) -> Option<Address> {
        REAL.address6(key)
    }

    #[inline(always)]
    fn frontend6(self, key: &Frontend6Key) -> Option<Frontend> {
        let frontend = REAL.frontend6(key)?;
        noted(&frontend);
        Some(frontend)
    }

    #[inline(always)]
    fn packet6(self) -> Option<*mut Addresses6> {
        REAL.packet6()
    }

    #[inline(always)]
    fn client6(self, key: &FlowKey) -> Option<&'static Addresses6> {
        REAL.client6(key)
    }

    /// The packet is forwarded from the client's side, where nobody asks for it.
    #[inline(always)]
    fn put_client6(self, _key: &FlowKey) -> bool {
        true
    }

    #[inline(always)]
    fn remove_client6(self, _key: &FlowKey) {}

    #[inline(always)]
    fn policy(self, index: u32) -> Option<Policy> {
        REAL.policy(index)
    }

    #[inline(always)]
    fn source_bound(self, index: u32) -> Option<&'static Bound> {
        REAL.source_bound(index)
    }

    /// Only reads.
    #[inline(always)]
    fn admits_source(self, policy: u32, hi: u64, lo: u64) -> u32 {
        REAL.admits_source(policy, hi, lo)
    }

    #[inline(always)]
    fn listener(self, index: u32) -> Option<&'static Listener> {
        REAL.listener(index)
    }

    #[inline(always)]
    fn ring(self, index: u32) -> Option<u32> {
        REAL.ring(index)
    }

    #[inline(always)]
    fn target(self, index: u32) -> Option<&'static Target> {
        note(|trace| {
            // SAFETY: a live map value.
            unsafe {
                (*trace).found |= Trace::TARGET;
                (*trace).target = index;
            }
        });
        REAL.target(index)
    }

    #[inline(always)]
    fn next_node(self, target: u32) -> u32 {
        REAL.next_node(target)
    }

    #[inline(always)]
    fn claim_node(self, target: u32, hint: u32) -> i64 {
        dry_claim_node(target, hint)
    }

    /// No port is taken, so the next one would be the same.
    #[inline(always)]
    fn node_port_served(self, _target: u32, _port: u32) -> u32 {
        0
    }

    #[inline(always)]
    fn claim_port(self, pool: u32, _hint: u32) -> Claim {
        Claim::from_bits(dry_claim(pool))
    }

    #[inline(always)]
    fn release_port(self, pool: u32, port: u16) {
        if let Some(run) = run() {
            // SAFETY: this run's alone.
            unsafe { (&raw mut (*run).released).write([pool + 1, port as u32]) };
        }
    }

    #[inline(always)]
    fn count_exhausted(self, _pool: u32) {}

    #[inline(always)]
    fn bucket(self, _index: u32) -> Option<*mut Bucket> {
        None
    }

    #[inline(always)]
    fn bucket_mask(self) -> u32 {
        REAL.bucket_mask()
    }

    #[inline(always)]
    fn hash_seed(self) -> u64 {
        REAL.hash_seed()
    }

    #[inline(always)]
    fn cookie_key(self) -> [u64; 2] {
        REAL.cookie_key()
    }

    /// The copies stand where the stash is in the reference mode.
    #[inline(always)]
    fn reference_table(self) -> bool {
        true
    }

    #[inline(always)]
    fn stash(self, key: &FlowKey) -> Option<*mut Slot> {
        match dry_find(key) {
            0 => None,
            found => Some(slot(run()?, found as usize - 1)),
        }
    }

    #[inline(always)]
    fn stash_insert(self, key: &FlowKey) -> bool {
        dry_insert(key) != 0
    }

    #[inline(always)]
    fn stash_remove(self, key: &FlowKey) {
        let Some(run) = run() else { return };
        for entry in [FORWARD, REVERSE] {
            if holds(run, entry, key) {
                let free = Meta { version: 0, state: FlowState::Free, translated: false, flags: 0, idle_s: 0 };
                // SAFETY: this run's alone. The key stays, so that the real entry is not found again.
                unsafe { (&raw mut (*slot(run, entry)).meta).write_volatile(free.pack()) };
            }
        }
    }

    #[inline(always)]
    fn scratch(self) -> Option<*mut Slot> {
        // SAFETY: only the address is formed.
        Some(unsafe { &raw mut (*run()?).scratch })
    }

    #[inline(always)]
    fn lock(self, _stripe: u32) -> Option<*mut u32> {
        // SAFETY: only the address is formed.
        Some(unsafe { &raw mut (*run()?).lock })
    }

    #[inline(always)]
    fn vpc_budget(self, vpc: u32) -> Option<&'static Budget> {
        REAL.vpc_budget(vpc)
    }

    #[inline(always)]
    fn endpoint_budget(self, endpoint: u32) -> Option<&'static EndpointBudget> {
        REAL.endpoint_budget(endpoint)
    }

    #[inline(always)]
    fn vpc_half_open(self, vpc: u32) -> Option<*mut u32> {
        Self::half_open(0, vpc, REAL.vpc_half_open(vpc))
    }

    #[inline(always)]
    fn endpoint_half_open(self, endpoint: u32) -> Option<*mut u32> {
        Self::half_open(1, endpoint, REAL.endpoint_half_open(endpoint))
    }

    #[inline(always)]
    fn endpoint_use(self, endpoint: u32) -> Option<*mut EndpointUse> {
        let (run, real) = (run()?, REAL.endpoint_use(endpoint)?);
        // SAFETY: this run's alone, and a live map value that is read.
        unsafe {
            let copy = &raw mut (*run).endpoint_use;
            if Self::first(&raw mut (*run).budgeted, 4) {
                copy.write_volatile(real.read_volatile());
            }
            Some(copy)
        }
    }

    #[inline(always)]
    fn reset_budget(self, vpc: u32) -> Option<*mut ResetBudget> {
        let (run, real) = (run()?, REAL.reset_budget(vpc)?);
        // SAFETY: this run's alone, and a live map value that is read.
        unsafe {
            let copy = &raw mut (*run).reset_budget;
            if Self::first(&raw mut (*run).budgeted, 1) {
                copy.write_volatile(real.read_volatile());
            }
            Some(copy)
        }
    }

    #[inline(always)]
    fn fragment(self, key: &FragmentKey) -> Option<FirstFragment> {
        REAL.fragment(key)
    }

    #[inline(always)]
    fn stands_in(self, key: &StandIn) -> bool {
        REAL.stands_in(key)
    }

    #[inline(always)]
    fn stand_in(self, _: &StandIn) {}

    /// Only looked at.
    #[inline(always)]
    fn held(self, slot: u32) -> Option<*mut HeldFragment> {
        REAL.held(slot)
    }

    #[inline(always)]
    fn awaited(self, key: &FragmentKey) -> u32 {
        REAL.awaited(key)
    }

    #[inline(always)]
    fn reserve_held(self, key: &FragmentKey, len: u32) -> i32 {
        dry_reserve_held(key, len)
    }

    #[inline(always)]
    fn note_fragment(self, _: &FragmentKey, _: &FirstFragment) {}

    #[inline(always)]
    fn verified_at(self, source: &Source) -> Option<u32> {
        REAL.verified_at(source)
    }

    /// A question verifies nobody.
    #[inline(always)]
    fn verify(self, _source: &Source) {}

    /// Only reads.
    #[inline(always)]
    fn verified(self, segment: &Segment) -> u32 {
        REAL.verified(segment)
    }

    #[inline(always)]
    fn icmp_budget(self, vpc: u32) -> Option<*mut IcmpBudget> {
        let (run, real) = (run()?, REAL.icmp_budget(vpc)?);
        // SAFETY: this run's alone, and a live map value that is read.
        unsafe {
            let copy = &raw mut (*run).icmp_budget;
            if Self::first(&raw mut (*run).budgeted, 2) {
                copy.write_volatile(real.read_volatile());
            }
            Some(copy)
        }
    }

    #[inline(always)]
    fn clock(self) -> Clock {
        REAL.clock()
    }

    #[inline(always)]
    fn now(self) -> u32 {
        REAL.now()
    }

    #[inline(always)]
    fn nanoseconds(self) -> u64 {
        REAL.nanoseconds()
    }

    #[inline(always)]
    fn count(self, counter: Counter) {
        let bit = counter as u32;
        note(|trace| {
            // SAFETY: a live map value; the word is one of the two.
            unsafe {
                let word = (&raw mut (*trace).counters).cast::<u64>().add((bit >> 6) as usize & 1);
                word.write_volatile(word.read_volatile() | 1 << (bit & 63));
            }
        });
    }

    #[inline(always)]
    fn endpoint_stats(self, _endpoint: u32) -> Option<*mut EndpointStats> {
        None
    }

    #[inline(always)]
    fn listener_stats(self, _listener: u32) -> Option<*mut ListenerStats> {
        None
    }

    #[inline(always)]
    fn target_stats(self, _target: u32) -> Option<*mut TargetStats> {
        None
    }

    #[inline(always)]
    fn flow_events(self) -> bool {
        false
    }

    #[inline(always)]
    fn emit(self, _fill: impl FnOnce(&mut Event)) {}

    #[inline(always)]
    fn lend(self, segment: Segment) -> &'static Segment {
        match run() {
            // SAFETY: this run's own record.
            Some(run) => unsafe {
                let lent = &raw mut (*run).segment;
                lent.write(segment);
                // Through an opaque pointer, so that the fields are read from there and not kept in registers.
                &*(opaque(lent as usize) as *const Segment)
            },
            // The array has its one element.
            None => no_segment(),
        }
    }

    #[inline(always)]
    fn lend_with_ack(self, _segment: &'static Segment, ack: u32) -> &'static Segment {
        match run() {
            // SAFETY: as `lend`; the reference that was lent before is not used any more.
            Some(run) => unsafe {
                let lent = &raw mut (*run).segment;
                (&raw mut (*lent).ack).write_volatile(ack);
                &*(opaque(lent as usize) as *const Segment)
            },
            None => no_segment(),
        }
    }

    #[inline(always)]
    fn lent(self) -> &'static Segment {
        match run() {
            // SAFETY: this run's own record.
            Some(run) => unsafe { &*(opaque((&raw const (*run).segment) as usize) as *const Segment) },
            None => no_segment(),
        }
    }

    #[inline(always)]
    fn admit(self, segment: &Segment) -> i64 {
        dry_admit(segment)
    }

    #[inline(always)]
    fn admit_flow(self, endpoint: u32, bytes: u32) -> u32 {
        dry_admit_flow(endpoint, bytes)
    }

    #[inline(always)]
    fn meter(self, endpoint: u32, bytes: u32) -> u32 {
        dry_meter(endpoint, bytes)
    }

    #[inline(always)]
    fn insert(self, segment: &Segment, admission: i64, ifindex_and_flag: u32) -> u32 {
        dry_open(segment, admission, ifindex_and_flag)
    }

    #[inline(always)]
    fn end_hold(self, segment: &Segment) -> u32 {
        dry_end_hold(segment)
    }

    #[inline(always)]
    fn report_opened(self, _segment: &Segment) -> u32 {
        0
    }

    #[inline(always)]
    fn judge_stranger(self, segment: &Segment, port_flags: u32) -> u32 {
        dry_judge_stranger(segment, port_flags)
    }

    #[inline(always)]
    fn refuse_connection(self, segment: &Segment, reason: u32) -> u32 {
        dry_refuse_connection(segment, reason)
    }

    #[inline(always)]
    fn answer_with_error(self, segment: &Segment, cause: u32) -> u32 {
        dry_answer_with_error(segment, cause)
    }

    #[inline(always)]
    fn end_flow(self, segment: &Segment, why: u32) -> u32 {
        dry_end_flow(segment, why)
    }

    #[inline(always)]
    fn step(self, segment: &Segment) -> u32 {
        dry_step(segment)
    }

    #[inline(always)]
    fn close(self, key: &FlowKey, why: u32) -> u32 {
        dry_close(key, why)
    }

    #[inline(always)]
    fn supersede(self, segment: &Segment) -> u32 {
        dry_supersede(segment)
    }

    #[inline(always)]
    fn silent(self, segment: &Segment) -> u32 {
        dry_silent(segment)
    }

    #[inline(always)]
    fn replied(self, segment: &Segment) -> u32 {
        dry_replied(segment)
    }

    #[inline(always)]
    fn retire(self, segment: &Segment) -> u32 {
        dry_retire(segment)
    }

    #[inline(always)]
    fn move_client(self, segment: &Segment, ifindex: u32) -> u32 {
        dry_move_client(segment, ifindex)
    }

    #[inline(always)]
    fn acknowledge_header(self, key: &FlowKey) -> u32 {
        dry_acknowledge_header(key)
    }

    #[inline(always)]
    fn keep_to_tc(self, segment: &Segment) -> u32 {
        dry_keep_to_tc(segment)
    }
}
