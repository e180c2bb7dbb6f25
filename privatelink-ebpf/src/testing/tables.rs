//! `Tables` in memory.

use std::{
    cell::UnsafeCell,
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use super::world::{CLOCK, ENDPOINTS, LISTENERS, POLICIES, POOLS, PORTS, SOURCE_BOUNDS, TARGETS, VPCS, World};
use crate::{
    abi::{
        Counter, Ip4, L4Port, VpcIndex,
        cookie::Source,
        entries,
        event::Event,
        flow::{Addresses6, Bucket, FlowKey, Slot},
        fragment::{FirstFragment, FragmentKey, HeldFragment},
        limit::{Budget, EndpointBudget, EndpointUse},
        pool::PortPool,
        security::{Bound, Policy},
        service::{
            Address, Address6Key, AddressKey, AddressKind, Frontend, Frontend6Key, FrontendKey, Listener,
            ListenerFlags, Parted, Port, StandIn, Target,
        },
        settings::{Clock, IcmpBudget, ResetBudget},
        stats::{Counts, EndpointStats, ListenerStats, TargetStats},
    },
    datapath::{
        Hook, Tables, addresses,
        atomic::{add64, store64},
        parse::Segment,
        ports::{self, Claim},
    },
};

/// How the flow table is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A power of two.
    pub buckets: u32,
    /// Entries in the stash.
    pub stash: usize,
    pub hash_seed: u64,
    /// Only the stash, as the reference.
    pub reference: bool,
    /// Threads that use the tables at once.
    pub cpus: usize,
}

/// The secret of the SYN cookies of all cases.
pub const COOKIE_KEY: [u64; 2] = [0xc00c_1e00_0123_4567, 0x89ab_cdef_c00c_1e01];

/// The hash seed of all cases.
pub const SEED: u64 = 0x5eed_0123_4567_89ab;

impl Default for Options {
    fn default() -> Self {
        Self { buckets: 64, stash: 256, hash_seed: SEED, reference: false, cpus: 1 }
    }
}

/// Cells that threads share as CPUs share map values.
struct Cells<T>(Box<[UnsafeCell<T>]>);

// SAFETY: the datapath changes shared words by atomic operations only, and each CPU's own records from one thread only.
unsafe impl<T: Send> Sync for Cells<T> {}

impl<T: Copy> Cells<T> {
    fn new(value: T, count: usize) -> Self {
        Self((0..count).map(|_| UnsafeCell::new(value)).collect())
    }

    fn get(&self, index: usize) -> Option<*mut T> {
        self.0.get(index).map(UnsafeCell::get)
    }

    /// A copy of a record, for looking at while no thread changes it.
    fn copy(&self, index: usize) -> T {
        // SAFETY: the caller's index exists (the slice checks it); tests look while their threads are joined.
        unsafe { self.0[index].get().read() }
    }

    fn set(&mut self, index: usize, value: T) {
        *self.0[index].get_mut() = value;
    }
}

/// What a per-CPU map holds.
struct Cpu {
    scratch: Cells<Slot>,
    segment: Cells<Segment>,
    packet6: Cells<Addresses6>,
    endpoint_stats: Cells<EndpointStats>,
    listener_stats: Cells<ListenerStats>,
    target_stats: Cells<TargetStats>,
}

/// The kernel's hash map: preallocated entries that are used again at once.
struct Stash {
    index: HashMap<[u64; 2], usize>,
    free: Vec<usize>,
}

/// All tables.
pub struct MemTables {
    options: Options,
    pub world: World,
    flows: Cells<Bucket>,
    stash: Mutex<Stash>,
    clients6: Mutex<HashMap<[u64; 2], Addresses6>>,
    stashed: Cells<Slot>,
    locks: Cells<u32>,
    pools: Cells<PortPool>,
    vpc_half_open: Cells<u32>,
    endpoint_half_open: Cells<u32>,
    endpoint_use: Cells<EndpointUse>,
    reset_budgets: Cells<ResetBudget>,
    icmp_budgets: Cells<IcmpBudget>,
    verified: Mutex<HashMap<Source, u32>>,
    fragments: Mutex<HashMap<FragmentKey, FirstFragment>>,
    held: Cells<HeldFragment>,
    stand_ins: Mutex<HashSet<StandIn>>,
    counters: Vec<AtomicU64>,
    events: Mutex<Vec<Event>>,
    now: AtomicU32,
    nanoseconds: AtomicU64,
    cpus: Vec<Cpu>,
}

impl MemTables {
    pub fn new(world: World, options: Options) -> Self {
        let mut pools = Cells::new(PortPool::EMPTY, POOLS as usize);
        for (index, pool) in world.pools.iter().enumerate() {
            pools.set(index, *pool);
        }
        let bucket = Bucket { slots: [Slot::FREE; crate::abi::flow::WAYS] };
        Self {
            options,
            world,
            flows: Cells::new(bucket, options.buckets as usize),
            stash: Mutex::new(Stash { index: HashMap::new(), free: (0..options.stash).rev().collect() }),
            clients6: Mutex::default(),
            stashed: Cells::new(Slot::FREE, options.stash),
            locks: Cells::new(0, 64),
            pools,
            vpc_half_open: Cells::new(0, VPCS as usize),
            endpoint_half_open: Cells::new(0, ENDPOINTS as usize),
            endpoint_use: Cells::new(EndpointUse::default(), ENDPOINTS as usize),
            reset_budgets: Cells::new(ResetBudget::default(), VPCS as usize),
            icmp_budgets: Cells::new(IcmpBudget::default(), VPCS as usize),
            verified: Mutex::default(),
            fragments: Mutex::default(),
            held: Cells::new(HeldFragment::default(), entries::HELD as usize),
            stand_ins: Mutex::default(),
            counters: Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            events: Mutex::new(Vec::new()),
            // Near the wrap, so that every case crosses it or shows that it does not matter.
            now: AtomicU32::new(u32::MAX - 50),
            nanoseconds: AtomicU64::new(1 << 40),
            cpus: (0..options.cpus)
                .map(|_| Cpu {
                    scratch: Cells::new(Slot::FREE, 1),
                    segment: Cells::new(Segment::NONE, 1),
                    packet6: Cells::new(Addresses6::default(), 1),
                    endpoint_stats: Cells::new(EndpointStats::default(), ENDPOINTS as usize),
                    listener_stats: Cells::new(ListenerStats::default(), LISTENERS as usize),
                    target_stats: Cells::new(TargetStats::default(), TARGETS as usize),
                })
                .collect(),
        }
    }

    /// The tables as the TC program sees them.
    pub fn tc(&self) -> View<'_, false> {
        self.view(0)
    }

    /// The tables as the XDP program sees them.
    pub fn xdp(&self) -> View<'_, true> {
        self.view(0)
    }

    /// The tables as a program on one CPU sees them.
    pub fn view<const XDP: bool>(&self, cpu: usize) -> View<'_, XDP> {
        View { tables: self, cpu }
    }

    /// Lets time pass.
    pub fn advance_ticks(&self, ticks: u32) {
        self.now.store(self.now.load(Relaxed).wrapping_add(ticks), Relaxed);
        let nanoseconds = u64::from(ticks) * 256_000_000_000 / u64::from(CLOCK.ticks_per_256_s);
        self.nanoseconds.store(self.nanoseconds.load(Relaxed).wrapping_add(nanoseconds), Relaxed);
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// Takes the recorded events.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn pool(&self, index: usize) -> PortPool {
        self.pools.copy(index)
    }

    pub fn set_pool(&mut self, index: usize, pool: PortPool) {
        self.pools.set(index, pool);
    }

    pub fn half_open_of_vpc(&self, vpc: u16) -> u32 {
        self.vpc_half_open.copy(vpc as usize)
    }

    pub fn half_open_of_endpoint(&self, endpoint: u32) -> u32 {
        self.endpoint_half_open.copy(endpoint as usize)
    }

    pub fn use_of_endpoint(&self, endpoint: u32) -> EndpointUse {
        self.endpoint_use.copy(endpoint as usize)
    }

    /// Sums over CPUs.
    pub fn endpoint_stats_of(&self, index: usize) -> EndpointStats {
        self.cpus.iter().map(|cpu| cpu.endpoint_stats.copy(index)).fold(EndpointStats::default(), Counts::plus)
    }

    pub fn listener_stats_of(&self, index: usize) -> ListenerStats {
        self.cpus.iter().map(|cpu| cpu.listener_stats.copy(index)).fold(ListenerStats::default(), Counts::plus)
    }

    /// As the first CPU counts them.
    pub fn target_stats_of(&self, index: usize) -> TargetStats {
        self.cpus[0].target_stats.copy(index)
    }

    /// All entries in use, stashed ones included; nobody may be changing them.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = (0..self.options.buckets as usize).flat_map(|i| self.flows.copy(i).slots).collect();
        let stash = self.locked_stash();
        slots.extend(stash.index.values().map(|index| self.stashed.copy(*index)));
        slots.retain(|slot| (slot.meta >> 32) as u8 != 0);
        slots
    }

    /// Buckets, for a sweep.
    pub fn buckets(&self) -> impl Iterator<Item = *mut Bucket> + '_ {
        self.flows.0.iter().map(UnsafeCell::get)
    }

    /// Stashed entries, for a sweep.
    pub fn stash_slots(&self) -> Vec<*mut Slot> {
        self.locked_stash().index.values().filter_map(|index| self.stashed.get(*index)).collect()
    }

    /// Clients of IPv6 whose addresses are remembered.
    pub fn clients6(&self) -> usize {
        self.clients6.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn stash_len(&self) -> usize {
        self.locked_stash().index.len()
    }

    fn locked_stash(&self) -> MutexGuard<'_, Stash> {
        self.stash.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cpu(&self, cpu: usize) -> &Cpu {
        &self.cpus[cpu]
    }
}

/// The tables, seen from one hook on one CPU.
#[derive(Clone, Copy)]
pub struct View<'t, const XDP: bool> {
    tables: &'t MemTables,
    cpu: usize,
}

/// What an array map holds at an index that nobody has written.
fn record<'t, T>(records: &'t std::collections::BTreeMap<u32, T>, index: u32, size: u32, zero: &'t T) -> Option<&'t T> {
    (index < size).then(|| records.get(&index).unwrap_or(zero))
}

static NO_PORT: Port = Port {
    vpc: VpcIndex::NONE,
    flags: crate::abi::service::PortFlags(0),
    mtu: 0,
    mac: crate::abi::Mac::ZERO,
    _pad: [0; 2],
};
static NO_LISTENER: Listener = Listener { ring_base: 0, ring_len: 0, idle_s: 0, flags: ListenerFlags(0), _pad: [0; 4] };
static NO_BOUND: Bound = Bound { hi: 0, lo: 0 };
static NO_BUDGET: Budget = Budget { half_open: 0 };
static NO_LIMITS: EndpointBudget = EndpointBudget::half_open(0);
static NO_TARGET: Target = Target {
    ip: Ip4::UNSPECIFIED,
    node_ip: Ip4::UNSPECIFIED,
    port: L4Port::new(0),
    vpc: VpcIndex::NONE,
    generation: 0,
    flags: crate::abi::service::TargetFlags(0),
    ifindex: 0,
    pool: 0,
    mac: crate::abi::Mac::ZERO,
    proto: 0,
    _pad: 0,
    ip6: crate::abi::Ip6::UNSPECIFIED,
    node_ip6: crate::abi::Ip6::UNSPECIFIED,
};

impl<const XDP: bool> addresses::Places for View<'_, XDP> {
    fn range(&mut self, key: &FrontendKey) -> u16 {
        self.tables.world.range_of(key).map_or(0, L4Port::word)
    }

    fn alias(&mut self, vpc: VpcIndex, ip: Ip4) -> u32 {
        Tables::alias(*self, vpc, ip)
    }

    fn exact(&mut self, key: &FrontendKey) -> bool {
        self.frontend(key).is_some()
    }
}

impl<'t, const XDP: bool> Tables<'t> for View<'t, XDP> {
    const HOOK: Hook = if XDP { Hook::Xdp } else { Hook::Tc };

    fn port(self, ifindex: u32) -> Option<&'t Port> {
        record(&self.tables.world.ports, ifindex, PORTS, &NO_PORT)
    }

    fn owns(self, key: &AddressKey) -> bool {
        self.tables.world.addresses.contains_key(key)
    }

    fn is_node(self, key: &AddressKey) -> bool {
        self.tables.world.addresses.get(key).is_some_and(|address| address.kind == AddressKind::Node as u32)
    }

    fn frontend(self, key: &FrontendKey) -> Option<&'t Frontend> {
        self.tables.world.frontends.get(key)
    }

    fn alias(self, vpc: VpcIndex, ip: Ip4) -> u32 {
        self.tables.world.endpoint_of(vpc, ip).map_or(0, Ip4::word)
    }

    fn elsewhere(mut self, key: &FrontendKey) -> u64 {
        addresses::elsewhere_bits(&mut self, key)
    }

    fn parted(self, key: &Parted) -> bool {
        self.tables.world.parted.contains(key)
    }

    fn address6(self, key: &Address6Key) -> Option<Address> {
        self.tables.world.addresses6.get(key).copied()
    }

    fn frontend6(self, key: &Frontend6Key) -> Option<Frontend> {
        self.tables.world.frontends6.get(key).copied()
    }

    fn packet6(self) -> Option<*mut Addresses6> {
        self.tables.cpu(self.cpu).packet6.get(0)
    }

    fn client6(self, key: &FlowKey) -> Option<&'t Addresses6> {
        let clients = self.tables.clients6.lock().unwrap_or_else(PoisonError::into_inner);
        // Leaked, as a value in the kernel's map outlives its removal for as long as somebody reads it.
        clients.get(&key.words()).map(|addresses| &*Box::leak(Box::new(*addresses)))
    }

    fn put_client6(self, key: &FlowKey) -> bool {
        let packet = self.tables.cpu(self.cpu).packet6.copy(0);
        self.tables.clients6.lock().unwrap_or_else(PoisonError::into_inner).insert(key.words(), packet);
        true
    }

    fn remove_client6(self, key: &FlowKey) {
        self.tables.clients6.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.words());
    }

    fn policy(self, index: u32) -> Option<Policy> {
        (index < POLICIES).then(|| self.tables.world.policies.get(&index).copied().unwrap_or_default())
    }

    fn source_bound(self, index: u32) -> Option<&'t Bound> {
        let bounds = &self.tables.world.source_bounds;
        (index < SOURCE_BOUNDS).then(|| bounds.get(index as usize).unwrap_or(&NO_BOUND))
    }

    fn listener(self, index: u32) -> Option<&'t Listener> {
        record(&self.tables.world.listeners, index, LISTENERS, &NO_LISTENER)
    }

    fn ring(self, index: u32) -> Option<u32> {
        let ring = &self.tables.world.rings;
        (index < super::world::RINGS).then(|| ring.get(index as usize).copied().unwrap_or(0))
    }

    fn target(self, index: u32) -> Option<&'t Target> {
        record(&self.tables.world.targets, index, TARGETS, &NO_TARGET)
    }

    fn next_node(self, target: u32) -> u32 {
        self.tables.world.next_nodes.get(&target).copied().unwrap_or(0)
    }

    fn claim_port(self, pool: u32, hint: u32) -> Claim {
        match self.tables.pools.get(pool as usize) {
            // SAFETY: a live pool, shared through `ports` only.
            Some(pool) => unsafe { ports::claim(pool, hint) },
            None => Claim::Exhausted,
        }
    }

    fn release_port(self, pool: u32, port: u16) {
        if let Some(pool) = self.tables.pools.get(pool as usize) {
            // SAFETY: as the claim.
            unsafe { ports::release(pool, port) };
        }
    }

    fn count_exhausted(self, pool: u32) {
        if let Some(pool) = self.tables.pools.get(pool as usize) {
            // SAFETY: as the claim.
            unsafe { add64(&raw mut (*pool).exhausted, 1) };
        }
    }

    fn bucket(self, index: u32) -> Option<*mut Bucket> {
        self.tables.flows.get(index as usize)
    }

    fn bucket_mask(self) -> u32 {
        self.tables.options.buckets - 1
    }

    fn hash_seed(self) -> u64 {
        self.tables.options.hash_seed
    }

    fn cookie_key(self) -> [u64; 2] {
        COOKIE_KEY
    }

    fn reference_table(self) -> bool {
        self.tables.options.reference
    }

    fn stash(self, key: &FlowKey) -> Option<*mut Slot> {
        let index = *self.tables.locked_stash().index.get(&key.words())?;
        self.tables.stashed.get(index)
    }

    fn stash_insert(self, key: &FlowKey) -> bool {
        let mut stash = self.tables.locked_stash();
        if stash.index.contains_key(&key.words()) {
            return false;
        }
        let Some(index) = stash.free.pop() else { return false };
        let (Some(from), Some(to)) = (self.scratch(), self.tables.stashed.get(index)) else { return false };
        for word in 0..size_of::<Slot>() / 8 {
            // SAFETY: both are whole slots. Word by word and upwards, as the kernel copies a value; who still reads the
            // entry's last owner sees another version first.
            unsafe { store64(to.cast::<u64>().add(word), from.cast::<u64>().add(word).read()) };
        }
        stash.index.insert(key.words(), index);
        true
    }

    fn stash_remove(self, key: &FlowKey) {
        let mut stash = self.tables.locked_stash();
        if let Some(index) = stash.index.remove(&key.words()) {
            stash.free.push(index);
        }
    }

    fn scratch(self) -> Option<*mut Slot> {
        self.tables.cpu(self.cpu).scratch.get(0)
    }

    fn lock(self, stripe: u32) -> Option<*mut u32> {
        self.tables.locks.get(stripe as usize & 63)
    }

    fn vpc_budget(self, vpc: u32) -> Option<&'t Budget> {
        record(&self.tables.world.vpc_budgets, vpc, VPCS, &NO_BUDGET)
    }

    fn endpoint_budget(self, endpoint: u32) -> Option<&'t EndpointBudget> {
        record(&self.tables.world.endpoint_budgets, endpoint, ENDPOINTS, &NO_LIMITS)
    }

    fn vpc_half_open(self, vpc: u32) -> Option<*mut u32> {
        self.tables.vpc_half_open.get(vpc as usize)
    }

    fn endpoint_half_open(self, endpoint: u32) -> Option<*mut u32> {
        self.tables.endpoint_half_open.get(endpoint as usize)
    }

    fn endpoint_use(self, endpoint: u32) -> Option<*mut EndpointUse> {
        self.tables.endpoint_use.get(endpoint as usize)
    }

    fn reset_budget(self, vpc: u32) -> Option<*mut ResetBudget> {
        self.tables.reset_budgets.get(vpc as usize)
    }

    fn fragment(self, key: &FragmentKey) -> Option<FirstFragment> {
        self.tables.fragments.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn stands_in(self, key: &StandIn) -> bool {
        self.tables.stand_ins.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn stand_in(self, key: &StandIn) {
        self.tables.stand_ins.lock().unwrap_or_else(PoisonError::into_inner).insert(*key);
    }

    fn held(self, slot: u32) -> Option<*mut HeldFragment> {
        self.tables.held.get(slot as usize)
    }

    fn note_fragment(self, key: &FragmentKey, first: &FirstFragment) {
        self.tables.fragments.lock().unwrap_or_else(PoisonError::into_inner).insert(*key, *first);
    }

    fn verified_at(self, source: &Source) -> Option<u32> {
        self.tables.verified.lock().unwrap_or_else(PoisonError::into_inner).get(source).copied()
    }

    fn verify(self, source: &Source) {
        self.tables.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(*source, self.now());
    }

    fn icmp_budget(self, vpc: u32) -> Option<*mut IcmpBudget> {
        self.tables.icmp_budgets.get(vpc as usize)
    }

    fn clock(self) -> Clock {
        CLOCK
    }

    fn now(self) -> u32 {
        self.tables.now.load(Relaxed)
    }

    fn nanoseconds(self) -> u64 {
        self.tables.nanoseconds.load(Relaxed)
    }

    fn count(self, counter: Counter) {
        self.tables.counters[counter as usize].fetch_add(1, Relaxed);
    }

    fn endpoint_stats(self, endpoint: u32) -> Option<*mut EndpointStats> {
        self.tables.cpu(self.cpu).endpoint_stats.get(endpoint as usize)
    }

    fn listener_stats(self, listener: u32) -> Option<*mut ListenerStats> {
        self.tables.cpu(self.cpu).listener_stats.get(listener as usize)
    }

    fn target_stats(self, target: u32) -> Option<*mut TargetStats> {
        self.tables.cpu(self.cpu).target_stats.get(target as usize)
    }

    fn flow_events(self) -> bool {
        self.tables.world.flow_events
    }

    fn emit(self, fill: impl FnOnce(&mut Event)) {
        let mut event = Event::default();
        fill(&mut event);
        self.tables.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    fn lend_with_ack(self, segment: &'t Segment, ack: u32) -> &'t Segment {
        self.lend(Segment { ack, ..*segment })
    }

    fn lent(self) -> &'t Segment {
        match self.tables.cpu(self.cpu).segment.get(0) {
            // SAFETY: this thread's own record; its last borrower's frame is done.
            Some(lent) => unsafe { &*lent },
            None => &Segment::NONE,
        }
    }

    fn lend(self, segment: Segment) -> &'t Segment {
        match self.tables.cpu(self.cpu).segment.get(0) {
            // SAFETY: this thread's own record; its last borrower's frame is done.
            Some(lent) => unsafe {
                lent.write(segment);
                &*lent
            },
            None => &Segment::NONE,
        }
    }
}
