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
pub mod reset;
pub mod tables;
pub mod tcp_state;
pub mod verdict;

pub use frame::Frame;
pub use tables::{Hook, Tables};
pub use verdict::{Mss, Reply, Rewrite, Verdict};

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

/// A segment that belongs to no flow and cannot open one.
#[inline(never)]
fn judge_stranger<'t, T: Tables<'t>>(t: T, port: &Port, segment: &Segment) -> Verdict {
    let key = &segment.key;
    if !t.owns(&AddressKey::new(key.vpc, key.dst)) {
        return not_ours(t, port, Counter::NotOurs);
    }
    if t.owns(&AddressKey::new(key.vpc, key.src)) {
        return refuse(t, Counter::SpoofedSource);
    }
    if !segment.flags.valid() {
        return refuse(t, Counter::InvalidFlags);
    }
    let has_listener = open::frontend(t, key).is_some();
    if segment.flags.has(Flags::SYN) {
        let reason = match (has_listener, segment.flags.has(Flags::ACK)) {
            (true, _) => Counter::InvalidFlags,
            (false, _) if t.is_node(&AddressKey::new(key.vpc, key.dst)) => Counter::SynFromTarget,
            (false, _) => Counter::NoListener,
        };
        return refuse(t, reason);
    }
    if has_listener || t.is_node(&AddressKey::new(key.vpc, key.dst)) {
        return answer_with_reset(t, segment, Counter::NoFlow);
    }
    refuse(t, Counter::NoListener)
}

/// Forgets a flow that may not go on, and tells the sender.
#[inline(never)]
fn end_flow<'t, T: Tables<'t>>(t: T, segment: &Segment, why: Counter) -> Verdict {
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    let target_gone = why == Counter::TargetGone;
    let ended = if target_gone { Counter::FlowEndedWithTarget } else { Counter::FlowExpiredIdle };
    lifecycle::close(t, &segment.key, ended);
    if segment.flags.has(Flags::SYN) {
        // The client's retransmission opens a flow of its own.
        return refuse(t, why);
    }
    answer_with_reset(t, segment, why)
}

/// Refuses a connection: with RST where the client should know at once, silently where it should try again.
#[inline(never)]
fn refuse_connection<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: Counter) -> Verdict {
    let answered = matches!(reason, Counter::NoTarget | Counter::PortsExhausted | Counter::FlowTableFull);
    if T::HOOK == Hook::Xdp && answered {
        return to_tc(t);
    }
    if let Some(frontend) = open::frontend(t, &segment.key) {
        // SAFETY: both are this CPU's own counters.
        unsafe {
            if let Some(stats) = t.endpoint_stats(frontend.endpoint as u32) {
                (*stats).refused += 1;
            }
            if let Some(stats) = t.listener_stats(frontend.listener) {
                (*stats).refused += 1;
            }
        }
        if reason == Counter::PortsExhausted
            && let Some(listener) = t.listener(frontend.listener)
            && let Some(index) = open::select(t, listener, segment)
            && let Some(Target { pool, .. }) = t.target(index)
        {
            t.count_exhausted(*pool);
            if let Some(stats) = t.target_stats(index) {
                // SAFETY: this CPU's own counters.
                unsafe { (*stats).port_allocation_errors += 1 };
            }
        }
    }
    if answered { answer_with_reset(t, segment, reason) } else { refuse(t, reason) }
}

/// Refuses a segment and resets its sender, within the VPC's budget of resets.
#[inline(always)]
fn answer_with_reset<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: Counter) -> Verdict {
    // A reset is never answered (RFC 9293 section 3.10.7.1). The reply lies over the segment's own headers, so one with IP
    // options, whose checksum start is elsewhere, gets none.
    if segment.flags.has(Flags::RST) || segment.l4 as usize != reset::SEGMENT_LEN - crate::wire::tcp::TcpHeader::LEN {
        return refuse(t, reason);
    }
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    t.count(reason);
    if !may_reset(t, segment.key.vpc) {
        return refuse(t, Counter::ResetLimited);
    }
    t.count(Counter::ResetSent);
    Verdict::Reply(Reply::Reset(reset::build(segment)))
}

/// Takes one from the VPC's budget of resets for this tick. Two CPUs may both take the last one.
#[inline(always)]
fn may_reset<'t, T: Tables<'t>>(t: T, vpc: VpcIndex) -> bool {
    let Some(budget) = t.reset_budget(vpc.0 as u32) else { return false };
    let now = t.now();
    // SAFETY: the record is in a live map value; a lost update lets one reset more through.
    unsafe {
        let ResetBudget { tick, sent } = budget.read_volatile();
        let sent = if tick == now { sent } else { 0 };
        budget.write_volatile(ResetBudget { tick: now, sent: sent + 1 });
        sent < reset::PER_TICK
    }
}

/// A frame that is no TCP segment.
#[inline(never)]
fn judge_unparsed<'t, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    port: &Port,
    ifindex: u32,
    unparsed: Unparsed,
) -> Verdict {
    match unparsed {
        Unparsed::Arp if T::HOOK == Hook::Xdp => to_tc(t),
        Unparsed::Arp => arp::judge(frame, t, port, ifindex),
        Unparsed::Refused { reason, to: Some(ip) } if t.owns(&AddressKey::new(port.vpc, ip)) => refuse(t, reason),
        Unparsed::Refused { reason: _, to: Some(_) } => not_ours(t, port, Counter::NotOurs),
        Unparsed::Refused { reason, to: None } => not_ours(t, port, reason),
    }
}

/// Somebody else's: the host's on a shared port, nobody's on an isolated one.
#[inline(always)]
fn not_ours<'t, T: Tables<'t>>(t: T, port: &Port, reason: Counter) -> Verdict {
    if !port.flags.has(PortFlags::SHARED) {
        return refuse(t, reason);
    }
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    t.count(Counter::PassedToHost);
    Verdict::Pass
}

#[inline(always)]
fn refuse<'t, T: Tables<'t>>(t: T, reason: Counter) -> Verdict {
    t.count(reason);
    Verdict::Drop(reason)
}

#[inline(always)]
fn to_tc<'t, T: Tables<'t>>(t: T) -> Verdict {
    t.count(Counter::XdpPassedToTc);
    Verdict::ToTc
}

/// The client answers from another Ethernet address than before. Believed only if the segment lies where the target expects
/// the client's next bytes, so that a neighbour who knows no more than the addresses cannot draw a flow to itself.
#[inline(never)]
fn move_client<'t, T: Tables<'t>>(t: T, segment: &Segment, slot: SlotRef, ifindex: u32) {
    if let Some(pair) = lifecycle::Pair::of(t, slot)
        && crate::wire::tcp::within(segment.seq, pair.reverse.ack(), tcp_state::RESET_WINDOW)
    {
        pair.forward.set_peer(segment.src_mac, ifindex as u16);
        pair.reverse.set_peer(segment.src_mac, ifindex as u16);
        t.count(Counter::ClientMoved);
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
