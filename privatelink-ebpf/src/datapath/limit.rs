//! What an endpoint's provider allows it: open connections, new ones a second, bits a second.
//!
//! A rate is a token bucket in one word: the moment until which what has gone through so far is paid (the generic cell
//! rate algorithm, ITU-T I.371 annex A). CPUs share it by compare-and-swap, there is nothing to refill, and a bucket
//! that nobody has used for long is full.

use super::{
    atomic::{add64, cas64, load64},
    lifecycle::Pair,
    open::{give_back, take},
    tables::Tables,
};
use crate::abi::{
    Counter,
    flow::{FlowKey, Meta},
    limit::{EndpointBudget, EndpointUse},
};

const SECOND: u64 = 1_000_000_000;

/// How long a sender that was silent may send faster than its rate, as time that the rate would take for the same. TCP
/// loses a burst's end and is silent for its retransmission timeout, 200 ms and twice that each further time: a tenth
/// of a second makes 4 Mbit/s of a limit of 20.
const BITS_AHEAD: u64 = SECOND;

/// The largest IP packet, in bytes.
const LARGEST: u64 = 0xffff;

/// A charge to a bucket, all in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charge {
    /// What it costs.
    pub cost: u64,
    /// How far the bucket may be ahead of the clock before it.
    pub depth: u64,
    /// What a charge can cost at most.
    pub most: u64,
}

impl Charge {
    /// One of `rate` new connections a second. A second's worth of them may come at once. `rate` is not 0.
    #[inline(always)]
    pub const fn connection(rate: u32) -> Self {
        let cost = match SECOND.checked_div(rate as u64) {
            Some(cost) => cost,
            None => 0,
        };
        Self { cost, depth: cost * (rate as u64 - 1), most: cost }
    }

    /// An IP packet of so many bytes at `rate` bits a second, rounded up. `rate` is not 0.
    #[inline(always)]
    pub const fn packet(rate: u64, bytes: u32) -> Self {
        Self { cost: duration(bytes as u64, rate), depth: BITS_AHEAD, most: duration(LARGEST, rate) }
    }
}

/// How long `bytes` take at `rate` bits a second, rounded up. At most 16 bits of bytes, so that nothing overflows.
#[inline(always)]
const fn duration(bytes: u64, rate: u64) -> u64 {
    let nanobits = (bytes & LARGEST) * 8 * SECOND;
    match (nanobits + (rate - 1)).checked_div(rate) {
        Some(duration) => duration,
        None => 0,
    }
}

/// The bucket after a charge; nothing if it cannot take one now. A bucket that is behind the clock is full, and so is
/// one that is further ahead than any charge can have put it: the rate has been raised since.
#[inline(always)]
pub const fn charged(until: u64, now: u64, charge: Charge) -> Option<u64> {
    let Charge { cost, depth, most } = charge;
    let ahead = until.wrapping_sub(now);
    let ahead = if ahead > depth + most { 0 } else { ahead };
    if ahead > depth { None } else { Some(now.wrapping_add(ahead).wrapping_add(cost)) }
}

/// Attempts to charge a bucket that other CPUs charge at the same time.
const ATTEMPTS: u32 = 4;

/// Charges a bucket that CPUs share. False: it cannot take a charge now.
///
/// # Safety
/// `until` points into a live map value.
#[inline(always)]
unsafe fn charge(until: *mut u64, now: u64, by: Charge) -> bool {
    for _ in 0..ATTEMPTS {
        // SAFETY: as the caller promises.
        let was = unsafe { load64(until) };
        let Some(next) = charged(was, now, by) else { return false };
        // SAFETY: as the caller promises.
        if unsafe { cas64(until, was, next) } == was {
            return true;
        }
    }
    // Others have been charged meanwhile, so the bucket is not behind the clock.
    // SAFETY: as the caller promises.
    unsafe { add64(until, by.cost) };
    true
}

/// Takes what a new flow and its first packet need of their endpoint's limits: 0, or the number of the counter that
/// names the refusal. A connection that is taken is given back when the flow is not
/// [open](crate::abi::flow::FlowState::open) any more.
#[inline(always)]
pub fn admit_flow_bits<'t, T: Tables<'t>>(t: T, endpoint: u32, bytes: u32) -> u32 {
    const _: () = assert!(Counter::FlowOpened as u32 == 0);
    let (Some(budget), Some(used)) = (t.endpoint_budget(endpoint), t.endpoint_use(endpoint)) else {
        return Counter::EndpointConnectionLimit as u32;
    };
    let &EndpointBudget { half_open: _, connections, connections_per_second, _pad: _, bits_per_second } = budget;
    // SAFETY: only the address is formed.
    let open = unsafe { &raw mut (*used).connections };
    if let Err(reason) = take(Some(open), Some(connections), Counter::EndpointConnectionLimit) {
        return reason as u32;
    }
    if connections_per_second | bits_per_second as u32 | (bits_per_second >> 32) as u32 == 0 {
        return 0;
    }
    let now = t.nanoseconds();
    // SAFETY: both words are in a live map value.
    let refused = unsafe {
        if connections_per_second != 0
            && !charge(&raw mut (*used).connections_until, now, Charge::connection(connections_per_second))
        {
            Counter::EndpointConnectionRateLimit as u32
        } else if bits_per_second != 0
            && !charge(&raw mut (*used).bits_until, now, Charge::packet(bits_per_second, bytes))
        {
            Counter::EndpointBitRateLimit as u32
        } else {
            0
        }
    };
    if refused != 0 {
        give_back(Some(open));
    }
    refused
}

/// An endpoint's flow is not open any more.
#[inline(always)]
pub fn give_connection_back<'t, T: Tables<'t>>(t: T, endpoint: u16) {
    if endpoint != 0
        && let Some(used) = t.endpoint_use(endpoint as u32)
    {
        // SAFETY: only the address is formed.
        give_back(Some(unsafe { &raw mut (*used).connections }));
    }
}

/// Takes a packet's bytes from its endpoint's bits a second. 1, or 0: there are none, which is counted.
#[inline(always)]
pub fn meter_bits<'t, T: Tables<'t>>(t: T, endpoint: u32, bytes: u32) -> u32 {
    let (Some(budget), Some(used)) = (t.endpoint_budget(endpoint), t.endpoint_use(endpoint)) else { return 1 };
    let rate = budget.bits_per_second;
    if rate == 0 {
        return 1;
    }
    // SAFETY: the word is in a live map value.
    if unsafe { charge(&raw mut (*used).bits_until, t.nanoseconds(), Charge::packet(rate, bytes)) } {
        return 1;
    }
    t.count(Counter::EndpointBitRateLimit);
    if let Some(stats) = t.endpoint_stats(endpoint) {
        // SAFETY: this CPU's own counters.
        unsafe { (*stats).limited_packets += 1 };
    }
    0
}

/// The flag of a flow whose bits its endpoint limits.
#[inline(always)]
pub fn metered<'t, T: Tables<'t>>(t: T, endpoint: u16) -> u8 {
    let limited = endpoint != 0 && t.endpoint_budget(endpoint as u32).is_some_and(|budget| budget.bits_per_second != 0);
    limited as u8 * Meta::METERED
}

/// 1: flags that say of a flow of this endpoint whether its bits are limited say it wrongly.
#[inline(always)]
pub fn metered_wrongly_bits<'t, T: Tables<'t>>(t: T, endpoint: u32, flags: u32) -> u32 {
    (metered(t, endpoint as u16) != flags as u8 & Meta::METERED) as u32
}

/// Marks both entries of a flow whose endpoint's bits are limited by now, or takes the mark away.
#[inline(always)]
pub fn meter_anew_bits<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> u32 {
    let Some(pair) = t.find(key).and_then(|own| Pair::of(t, own)) else { return 0 };
    let mark = metered(t, pair.forward.endpoint());
    for slot in [pair.forward, pair.reverse] {
        let Meta { version: _, state, translated: _, flags, idle_s: _ } = slot.meta();
        // Who loses the race to a packet is marked by the next sweep.
        let _ = slot.transition(state, flags & !Meta::METERED | mark);
    }
    1
}

/// The words of [`EndpointUse`] that are moments of the clock.
pub fn moments(used: &mut EndpointUse) -> [&mut u64; 2] {
    let EndpointUse { connections: _, _pad: _, connections_until, bits_until } = used;
    [connections_until, bits_until]
}

#[cfg(test)]
mod tests;
