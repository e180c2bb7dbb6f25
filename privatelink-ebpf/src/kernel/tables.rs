//! `Tables` over BPF maps.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use privatelink_ebpf::{
    abi::{
        Counter,
        event::Event,
        flow::{Bucket, FlowKey, Slot},
        pool::PortPool,
        service::{AddressKey, AddressKind, Budget, Frontend, FrontendKey, Listener, Port, Target},
        settings::{Clock, FLOW_EVENTS, ResetBudget},
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::{
        Hook, Tables,
        atomic::add64,
        ports::{self, Claim},
    },
};

use super::maps::*;

const BPF_NOEXIST: u64 = 1;
const LOCK_MASK: u32 = privatelink_ebpf::abi::entries::LOCKS - 1;

/// The maps, seen from one of the two hooks.
#[derive(Clone, Copy)]
pub struct Maps<const XDP: bool>;

/// A port claim, verified on its own: inlined, its loop multiplies the paths of every caller.
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
extern "C" fn release_port(pool: u32, port: u32) -> i32 {
    if let Some(pool) = POOLS.get_ptr_mut(pool) {
        // SAFETY: a live map value, shared through `ports` only.
        unsafe { ports::release(pool, port as u16) };
    }
    0
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
    fn frontend(self, key: &FrontendKey) -> Option<Frontend> {
        // SAFETY: a live map value, written whole by the agent.
        FRONTENDS.get_ptr(key).map(|frontend| unsafe { *frontend })
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
    fn reference_table(self) -> bool {
        REFERENCE_TABLE.load() != 0
    }

    #[inline(always)]
    fn stash(self, key: &FlowKey) -> Option<*mut Slot> {
        STASH.get_ptr_mut(key)
    }

    #[inline(always)]
    fn stash_insert(self, key: &FlowKey) -> bool {
        match SCRATCH.get_ptr(0) {
            // SAFETY: this CPU's own entry, just filled.
            Some(slot) => STASH.insert(key, unsafe { &*slot }, BPF_NOEXIST).is_ok(),
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
    fn endpoint_budget(self, endpoint: u32) -> Option<&'static Budget> {
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
    fn reset_budget(self, vpc: u32) -> Option<*mut ResetBudget> {
        RESET_BUDGETS.get_ptr_mut(vpc)
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
    fn emit(self, event: &Event) {
        if EVENTS.output::<Event>(event, 0).is_err() {
            self.count(Counter::EventLost);
        }
    }
}
