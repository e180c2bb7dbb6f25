//! What happens to a frame: the pipeline on one screen, and a module for each of its steps.
//!
//! ```text
//! frame ─► parse ─► flow_table::find ─┬─ hit, plain segment ─────────────────────────► forward
//!                                     ├─ hit, SYN FIN RST or a closing flow: lifecycle ─┤
//!                                     └─ miss ─► SYN to a listener: open ───────────────┘
//!                                                anything else: refused by name, with RST where TCP asks for one
//! ```
//!
//! Pure: same frame, tables and clock give the same verdict. Nothing here writes a packet byte; a [`Rewrite`] says what to
//! change, and the hook does it. A frame that XDP does not finish changes no table on its way to TC.

pub mod arp;
pub mod atomic;
pub mod collect;
pub mod flow_table;
pub mod frame;
pub mod lifecycle;
pub mod mss;
pub mod open;
pub mod parse;
pub mod ports;
pub mod refusal;
pub mod reset;
pub mod tables;
pub mod tcp_state;
pub mod verdict;

pub use frame::Frame;
pub use tables::{Hook, Tables};
pub use verdict::{Mss, Rewrite, Verdict};

use flow_table::{SlotRef, find};
use lifecycle::Outcome;
use parse::{Segment, Unparsed};

use crate::{
    abi::{
        Counter, VpcIndex,
        flow::Meta,
        service::{AddressKey, Port, PortFlags, Target},
        settings::ResetBudget,
    },
    wire::{checksum, tcp::Flags},
};

/// Decides what happens to a frame that came in on interface `ifindex`.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Verdict {
    let port = match t.port(ifindex) {
        Some(port) if port.vpc != VpcIndex::NONE => port,
        Some(_) | None => {
            t.count(Counter::NoPort);
            return Verdict::Pass;
        }
    };
    let segment = match parse::parse(frame, port.vpc) {
        Ok(segment) => segment,
        Err(unparsed) => return judge_unparsed(frame, t, port, ifindex, unparsed),
    };
    let mut fresh = false;
    let slot = match find(t, &segment.key) {
        Some(slot) => slot,
        None => match open(t, port, ifindex, &segment) {
            Ok(slot) => {
                fresh = true;
                slot
            }
            Err(verdict) => return verdict,
        },
    };
    forward(frame, t, port, ifindex, &segment, slot, fresh)
}

/// Forwards a segment of the flow that `slot` is an entry of.
#[inline(always)]
fn forward<'t, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    port: &Port,
    ifindex: u32,
    segment: &Segment,
    slot: SlotRef,
    fresh: bool,
) -> Verdict {
    let meta = slot.meta();
    let Some(target) = t.target(slot.target()) else { return refuse(t, Counter::FlowRaced) };
    let now = t.now();
    if target.generation != slot.generation() {
        return end_flow(t, segment, Counter::TargetGone);
    }
    if now.wrapping_sub(slot.last_seen()) > t.clock().ticks(meta.idle_s as u32)
        && lifecycle::silent(t, &segment.key)
    {
        return end_flow(t, segment, Counter::IdleExpired);
    }
    let (out_ifindex, dst_mac) = if meta.forward() {
        (target.ifindex, target.mac)
    } else {
        (slot.ifindex() as u32, slot.peer_mac())
    };
    let Some(out) = t.port(out_ifindex) else { return refuse(t, Counter::FlowRaced) };
    if T::HOOK == Hook::Xdp && (!out.flags.has(PortFlags::XDP_TRANSMIT) || meta.flags & Meta::TC_ONLY != 0) {
        return to_tc(t);
    }
    if segment.ttl <= 1 {
        return refuse(t, Counter::TtlExceeded);
    }
    if segment.ip_len as u32 > out.mtu && !frame.segmented() {
        return refuse(t, Counter::MtuExceeded);
    }

    let mut mss = None;
    let mut close = None;
    if !(segment.flags.ack_only() && slot.plainly_established(0)) {
        if !fresh {
            if T::HOOK == Hook::Xdp && partial_checksum(t, segment) {
                return to_tc(t);
            }
            match lifecycle::step(t, segment) {
                Outcome::Forward => {}
                Outcome::ForwardAndClose(why) => close = Some(why),
                Outcome::Drop(reason) => return refuse(t, reason),
                Outcome::NoFlow => return judge_stranger(t, port, segment),
            }
        }
        if segment.flags.has(Flags::SYN) {
            mss = mss::clamp(frame, segment, port.mtu, out.mtu);
            if T::HOOK == Hook::Tc && !fresh && looks_partial(segment) {
                lifecycle::keep_to_tc(t, &segment.key);
            }
        }
    } else {
        slot.set_ack(segment.ack);
    }
    slot.touch(now);
    if meta.forward() && slot.peer_mac() != segment.src_mac {
        move_client(t, segment, slot, ifindex);
    }
    let rewrite = Rewrite {
        src: slot.new_src(),
        dst: slot.new_dst(),
        src_port: slot.new_src_port(),
        dst_port: slot.new_dst_port(),
        d_addr: slot.d_addr(),
        d_port: slot.d_port(),
        src_mac: out.mac,
        dst_mac,
        l4: segment.l4,
        mss,
        ifindex: out_ifindex,
        out: out.flags,
    };
    let (endpoint, target_index) = (slot.endpoint(), slot.target());
    if !slot.current() {
        return refuse(t, Counter::FlowRaced);
    }
    count_packet(t, endpoint, target_index, meta.forward(), segment.ip_len);
    if let Some(why) = close {
        lifecycle::close(t, &segment.key, why);
    }
    Verdict::Forward(rewrite)
}

/// A segment that no flow entry matches: opens one, or is refused.
#[inline(always)]
fn open<'t, T: Tables<'t>>(t: T, port: &Port, ifindex: u32, segment: &Segment) -> Result<SlotRef, Verdict> {
    if !segment.flags.has(Flags::SYN) || segment.flags.has(Flags::ACK) || !segment.flags.valid() {
        return Err(judge_stranger(t, port, segment));
    }
    if T::HOOK == Hook::Xdp && partial_checksum(t, segment) {
        return Err(to_tc(t));
    }
    let tc_only = T::HOOK == Hook::Tc && looks_partial(segment);
    match open::open(t, segment, ifindex, tc_only) {
        Ok(()) => find(t, &segment.key).ok_or_else(|| refuse(t, Counter::FlowRaced)),
        Err(Counter::NoListener) => Err(judge_stranger(t, port, segment)),
        Err(reason) => Err(refuse_connection(t, segment, reason)),
    }
}

/// Counts a forwarded packet for its endpoint and its target.
#[inline(always)]
fn count_packet<'t, T: Tables<'t>>(t: T, endpoint: u16, target: u32, from_client: bool, ip_len: u16) {
    // SAFETY: both are this CPU's own counters.
    unsafe {
        if let Some(stats) = t.endpoint_stats(endpoint as u32) {
            if from_client {
                (*stats).packets_in += 1;
                (*stats).bytes_in += ip_len as u64;
            } else {
                (*stats).packets_out += 1;
                (*stats).bytes_out += ip_len as u64;
            }
        }
        if let Some(stats) = t.target_stats(target) {
            if from_client {
                (*stats).packets_in += 1;
                (*stats).bytes_in += ip_len as u64;
            } else {
                (*stats).packets_out += 1;
                (*stats).bytes_out += ip_len as u64;
            }
        }
    }
}

/// The checksum field holds the sum of the pseudo header and nothing more: the mark of a sender whose device is to complete
/// it. One in 65,536 complete checksums looks the same.
#[inline(always)]
fn looks_partial(segment: &Segment) -> bool {
    let key = &segment.key;
    let tcp_len = segment.ip_len as u32 - (segment.l4 as u32 - crate::wire::L3 as u32);
    let sum = checksum::words(key.src.word())
        + checksum::words(key.dst.word())
        + u16::from_ne_bytes([0, key.proto]) as u32
        + u16::from_ne_bytes((tcp_len as u16).to_be_bytes()) as u32;
    segment.check == checksum::fold(sum)
}

/// XDP only: counts and hands to TC what only TC can rewrite.
#[inline(always)]
fn partial_checksum<'t, T: Tables<'t>>(t: T, segment: &Segment) -> bool {
    let partial = looks_partial(segment);
    if partial {
        t.count(Counter::PartialChecksum);
    }
    partial
}

#[cfg(test)]
mod tests;
