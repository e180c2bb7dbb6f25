//! Whatever is not forwarded: refused by name, answered with a reset where TCP asks for one, or somebody else's.

use super::{
    addresses, arp,
    frame::Frame,
    icmp::error::{self, Cause},
    open,
    parse::{self, Segment, Unparsed},
    reset, security,
    tables::{Hook, Tables},
    v6,
    verdict::Verdict,
};
use crate::{
    abi::{
        Counter, Ip4, Proto, Stage, VpcIndex,
        service::{Address6Key, Port, PortFlags, Target},
        settings::ResetBudget,
    },
    wire::{
        Ipv4Hdr, L3,
        ipv6::{Ipv6Header, next},
        tcp::Flags,
    },
};

/// A segment or datagram that belongs to no flow and cannot open one.
#[inline(always)]
pub fn judge_stranger<'t, T: Tables<'t>>(t: T, port: &Port, segment: &Segment) -> Verdict {
    Verdict::from_bits(t.judge_stranger(segment, port.flags.0 as u32))
}

/// [`judge_stranger`] with scalars.
#[inline(always)]
pub fn judge_stranger_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, port_flags: u32) -> u32 {
    stranger(t, PortFlags(port_flags as u16), segment)
}

#[inline(always)]
fn stranger<'t, T: Tables<'t>>(t: T, port: PortFlags, segment: &Segment) -> u32 {
    let key = &segment.key;
    if !addresses::to_us(t, key) {
        return not_ours(t, port, Counter::NotOurs).to_bits();
    }
    if addresses::from_us(t, key) {
        return refused(t, Counter::SpoofedSource);
    }
    let to_node = addresses::to_node(t, key);
    if Proto::from_number(key.proto) == Proto::Udp {
        return refused(t, if to_node { Counter::NoFlow } else { Counter::NoListener });
    }
    if !segment.flags.valid() {
        return refused(t, Counter::InvalidFlags);
    }
    let frontend = addresses::frontend(t, key);
    // To whom the security groups do not let in, nothing tells that there is a listener.
    if let Some(frontend) = frontend
        && !security::admits(t, frontend, segment)
    {
        return refused(t, Counter::SecurityGroupDenied);
    }
    let has_listener = frontend.is_some();
    if segment.flags.has(Flags::SYN) {
        let reason = match (has_listener, segment.flags.has(Flags::ACK)) {
            (true, _) => Counter::InvalidFlags,
            (false, _) if to_node => Counter::SynFromTarget,
            (false, _) => Counter::NoListener,
        };
        return refused(t, reason);
    }
    if has_listener && segment.flags.has(Flags::RST) {
        return Verdict::GoOn(Stage::Challenge).to_bits();
    }
    if has_listener || to_node {
        return answer_with_reset(t, segment, Counter::NoFlow);
    }
    refused(t, Counter::NoListener)
}

/// Forgets a flow that may not go on, and tells the sender.
#[inline(always)]
pub fn end_flow<'t, T: Tables<'t>>(t: T, segment: &Segment, why: Counter) -> Verdict {
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    let ended = match why == Counter::TargetGone {
        true => Counter::FlowEndedWithTarget,
        false => Counter::FlowExpiredIdle,
    };
    let to_target = t.find(&segment.key).filter(|own| !own.meta().forward()).map_or(0, |own| own.target());
    t.close(&segment.key, ended as u32);
    let verdict = t.end_flow(segment, why as u32);
    if to_target != 0
        && verdict == Verdict::AnswerReset.to_bits()
        && let Some(stats) = t.target_stats(to_target)
    {
        // SAFETY: this CPU's own counters.
        unsafe { (*stats).resets_sent += 1 };
    }
    Verdict::from_bits(verdict)
}

/// The answer to a segment whose flow has been closed, as a scalar.
#[inline(always)]
pub fn end_flow_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, why: u32) -> u32 {
    answer_with_reset(t, segment, Counter::from_bits(why as u8))
}

/// Refuses a connection: with RST where the client should know at once, silently where it should try again.
#[inline(always)]
pub fn refuse_connection<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: Counter) -> Verdict {
    Verdict::from_bits(t.refuse_connection(segment, reason as u32))
}

/// [`refuse_connection`] with scalars.
#[inline(always)]
pub fn refuse_connection_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: u32) -> u32 {
    connection_refused(t, segment, Counter::from_bits(reason as u8))
}

#[inline(always)]
fn connection_refused<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: Counter) -> u32 {
    if reason == Counter::TtlExceeded {
        return error::answer(t, segment, Cause::TimeExceeded).to_bits();
    }
    let answered = Proto::from_number(segment.key.proto) == Proto::Tcp
        && matches!(
            reason,
            Counter::NoTarget | Counter::PortsExhausted | Counter::FlowTableFull | Counter::EndpointConnectionLimit
        );
    if T::HOOK == Hook::Xdp && answered {
        return to_tc(t).to_bits();
    }
    // The answer lies over the SYN's own headers. A verified source's SYN waits until others' handshakes have ended.
    let challenged = Proto::from_number(segment.key.proto) == Proto::Tcp
        && matches!(reason, Counter::EndpointHalfOpenLimit | Counter::VpcHalfOpenLimit)
        && segment.l4 as usize == without_options(segment)
        && t.verified(segment) == 0;
    if let Some(frontend) = addresses::frontend(t, &segment.key) {
        // SAFETY: both are this CPU's own counters.
        unsafe {
            if let Some(stats) = t.endpoint_stats(frontend.endpoint as u32) {
                (*stats).refused += 1;
                (*stats).denied += (reason == Counter::SecurityGroupDenied) as u64;
                (*stats).limited_connections += (reason == Counter::EndpointConnectionLimit) as u64;
                (*stats).limited_new_connections += (reason == Counter::EndpointConnectionRateLimit) as u64;
                (*stats).limited_packets += (reason == Counter::EndpointBitRateLimit) as u64;
            }
            if let Some(stats) = t.listener_stats(frontend.listener) {
                (*stats).refused += 1;
                (*stats).denied_inbound += (reason == Counter::SecurityGroupDenied) as u64;
                (*stats).denied_outbound += (reason == Counter::SecurityGroupDeniedOutbound) as u64;
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
    if challenged {
        t.count(reason);
        return Verdict::GoOn(Stage::Challenge).to_bits();
    }
    if answered { answer_with_reset(t, segment, reason) } else { refused(t, reason) }
}

/// Where the TCP header starts in a frame without IP options or extension headers.
#[inline(always)]
fn without_options(segment: &Segment) -> usize {
    L3 + if segment.key.ipv6() { Ipv6Header::LEN } else { Ipv4Hdr::LEN }
}

/// Refuses a segment and resets its sender, within the VPC's budget of resets.
#[inline(always)]
fn answer_with_reset<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: Counter) -> u32 {
    // A reset is never answered (RFC 9293 section 3.10.7.1). The reply lies over the segment's own headers, so one with
    // IP options, whose checksum start is elsewhere, gets none.
    if segment.flags.has(Flags::RST) || segment.l4 as usize != without_options(segment) {
        return refused(t, reason);
    }
    if T::HOOK == Hook::Xdp {
        return to_tc(t).to_bits();
    }
    t.count(reason);
    if !may_reset(t, segment.key.vpc) {
        return refused(t, Counter::ResetLimited);
    }
    t.count(Counter::ResetSent);
    if let Some(frontend) = addresses::frontend(t, &segment.key)
        && let Some(stats) = t.listener_stats(frontend.listener)
    {
        // SAFETY: this CPU's own counters.
        unsafe { (*stats).resets_sent += 1 };
    }
    Verdict::AnswerReset.to_bits()
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
#[inline(always)]
pub fn judge_unparsed<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port, ifindex: u32) -> Verdict {
    let (unparsed, dst) = parse::judge(frame);
    match unparsed {
        Unparsed::Arp if T::HOOK == Hook::Xdp => to_tc(t),
        Unparsed::Arp => Verdict::from_bits(arp::judge_bits(frame, t, port, ifindex)),
        Unparsed::Refused(reason) => judge_refused(t, port, reason, dst),
    }
}

/// A packet to `dst` (zero: nobody knows) that is refused for `reason` if it is for us.
#[inline(always)]
pub fn judge_refused<'t, T: Tables<'t>>(t: T, port: &Port, reason: Counter, dst: Ip4) -> Verdict {
    if dst == Ip4::UNSPECIFIED {
        return not_ours(t, port.flags, reason);
    }
    if addresses::ours(t, port.vpc, dst) {
        return refuse(t, reason);
    }
    not_ours(t, port.flags, Counter::NotOurs)
}

/// An IPv6 packet that is no segment, no datagram and no neighbour discovery.
#[inline(always)]
pub fn judge_unparsed6<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port) -> Verdict {
    Verdict::from_bits(judge_unparsed6_bits(frame, t, port))
}

/// [`judge_unparsed6`] as one scalar, with a stack of its own.
#[inline(never)]
fn judge_unparsed6_bits<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port) -> u32 {
    unparsed6(frame, t, port)
}

#[inline(always)]
fn unparsed6<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port) -> u32 {
    let reason = v6::parse::judge(frame);
    let Some(head) = frame.window::<{ v6::parse::HEAD }>(0) else { return not_ours(t, port.flags, reason).to_bits() };
    if t.address6(&Address6Key::new(port.vpc, v6::parse::addresses(head).dst)).is_none() {
        return not_ours(t, port.flags, Counter::NotOurs).to_bits();
    }
    if head.load8::<{ L3 + Ipv6Header::NEXT }>() != next::ICMPV6 {
        return refused(t, reason);
    }
    match T::HOOK {
        Hook::Xdp => to_tc(t).to_bits(),
        Hook::Tc => Verdict::GoOn(Stage::Icmp6).to_bits(),
    }
}

/// Somebody else's: the host's on a shared port, nobody's on an isolated one.
#[inline(always)]
pub fn not_ours<'t, T: Tables<'t>>(t: T, port: PortFlags, reason: Counter) -> Verdict {
    if !port.has(PortFlags::SHARED) {
        return refuse(t, reason);
    }
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    t.count(Counter::PassedToHost);
    Verdict::Pass
}

/// [`refuse`] as a scalar. What several branches return is one: of a verdict with a payload that only some of them
/// have, LLVM leaves a register unset on the others, which the verifier refuses.
#[inline(always)]
fn refused<'t, T: Tables<'t>>(t: T, reason: Counter) -> u32 {
    t.count(reason);
    Verdict::Drop(reason).to_bits()
}

/// Counts the reason.
#[inline(always)]
pub fn refuse<'t, T: Tables<'t>>(t: T, reason: Counter) -> Verdict {
    t.count(reason);
    Verdict::Drop(reason)
}

/// Counts what XDP does not finish.
#[inline(always)]
pub fn to_tc<'t, T: Tables<'t>>(t: T) -> Verdict {
    t.count(Counter::XdpPassedToTc);
    Verdict::ToTc
}
