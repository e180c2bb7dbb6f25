//! The sweep: forgets what has been silent for too long. It runs in the kernel, slice by slice, when the agent asks for
//! it.
//!
//! An entry is taken away by compare-and-swap from the state in which it was judged, and both directions' time stamps
//! are read right before; a packet that comes in between finds no flow, which is what its sender would have been told
//! anyway.

use super::{
    flow_table::SlotRef,
    lifecycle::{Pair, forget_half, later},
    tables::Tables,
    tcp_state::lifetime,
};
use crate::abi::{
    Counter, Proto,
    flow::{Bucket, FlowState, Meta, Slot, WAYS},
    limit::EndpointBudget,
    settings::CollectRequest,
};

/// Sweeps one bucket. `port` and `flags` are those of the [`CollectRequest`].
///
/// # Safety
/// `bucket` is a live map value.
#[inline(always)]
pub unsafe fn bucket<'t, T: Tables<'t>>(t: T, bucket: *mut Bucket, port: u32, flags: u32) {
    for way in 0..WAYS {
        // SAFETY: `way` is below WAYS, so the slot is in the bucket.
        unsafe { slot(t, bucket.cast::<Slot>().add(way), port, flags) };
    }
}

/// Judges one entry.
///
/// # Safety
/// `slot` is in a live map value.
#[inline(always)]
pub unsafe fn slot<'t, T: Tables<'t>>(t: T, slot: *mut Slot, port: u32, flags: u32) {
    // SAFETY: as the caller promises.
    if let Some(own) = unsafe { SlotRef::live(slot) } {
        judge(t, own, port, flags);
    }
}

#[inline(always)]
fn judge<'t, T: Tables<'t>>(t: T, own: SlotRef, port: u32, flags: u32) {
    let meta = own.meta();
    let gone = t.target(own.target()).is_none_or(|target| target.generation != own.generation());
    if meta.forward() {
        // The reverse entry is made first and owns the port: a forward entry without it must not go on sending.
        if Pair::of(t, own).is_none() && own.current() {
            forget_half(t, own);
        }
        return;
    }
    let pair = Pair::of(t, own);
    let last = match pair {
        Some(pair) => later(pair.forward.last_seen(), own.last_seen()),
        None => own.last_seen(),
    };
    let silent = t.now().wrapping_sub(last);
    let unwanted = own.endpoint() != 0 && t.endpoint_budget(own.endpoint() as u32).is_some_and(EndpointBudget::ended);
    let (_, ifindex) = own.peer();
    let moved = port != 0 && ifindex as u32 == port;
    let ended = match pair {
        Some(pair) if flags & CollectRequest::RULES != 0 => t.ended(&pair.forward.key(), own.target()),
        Some(_) | None => 0,
    };
    if !gone && !unwanted && !moved && ended == 0 && silent <= t.clock().ticks(lifetime(meta.state, meta.idle_s)) {
        if t.metered_wrongly(own.endpoint() as u32, meta.flags as u32) != 0 {
            t.meter_anew(&own.key());
        }
        return;
    }
    let why = if gone {
        Counter::FlowEndedWithTarget as u32
    } else if unwanted {
        Counter::FlowEndedWithEndpoint as u32
    } else if moved {
        Counter::FlowEndedWithPort as u32
    } else if ended != 0 {
        ended
    } else {
        why(meta) as u32
    };
    if !own.current() {
        return;
    }
    let (index, key) = (own.target(), own.key());
    let closed = t.close(&key, why);
    let reset = flags & CollectRequest::RESET != 0 && key.proto == Proto::Tcp.number();
    if closed != 0 && (gone || unwanted) && reset && meta.state != FlowState::TimeWait {
        count_resets(t, index);
    }
}

/// Counts the resets that the agent has sent to both ends of a flow.
#[inline(always)]
fn count_resets<'t, T: Tables<'t>>(t: T, target: u32) {
    for _ in 0..2 {
        t.count(Counter::ResetSent);
    }
    if let Some(stats) = t.target_stats(target) {
        // SAFETY: this CPU's own counters.
        unsafe { (*stats).resets_sent += 2 };
    }
}

#[inline(always)]
const fn why(meta: Meta) -> Counter {
    match meta.state {
        FlowState::SynSent | FlowState::SynReceived | FlowState::Unreplied => Counter::FlowExpiredHalfOpen,
        FlowState::TimeWait => Counter::PortReleasedAfterHold,
        FlowState::LastAck => Counter::FlowClosed,
        FlowState::Resetting => match meta.flags & Meta::CLIENT_RST {
            0 => Counter::FlowResetByTarget,
            _ => Counter::FlowResetByClient,
        },
        FlowState::Established | FlowState::Closing | FlowState::Free | FlowState::Busy => Counter::FlowExpiredIdle,
    }
}
