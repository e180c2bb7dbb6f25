//! ICMP over IPv4 (RFC 792): errors about packets of flows go where those packets came from, translated as they were;
//! an echo request to an address of ours is answered; everything else is refused by name.
//!
//! An error quotes the packet that it is about: one that the datapath sent, to the peer whose own packets a flow entry
//! is for. So that entry is found by the quoted addresses turned round, and its rewrite is the error's: the outer
//! addresses as the peer's packets, the quoted ones as the packet was before it was translated. The source becomes the
//! endpoint's or node address, whoever sent the error, so that no address of one network is seen in the other; neither
//! are the extensions of RFC 4884 and RFC 5837, which may name interfaces, passed on.
//!
//! An error opens, ends and refreshes nothing. TCP's receivers judge the quoted sequence number (RFC 5927 section 4.1);
//! here one is refused that cannot be in flight.

pub mod error;

use super::{
    Way, addresses, entrance,
    frame::Frame,
    parse::{LATER_FRAGMENT, unroutable},
    proxy,
    refusal::{judge_refused, refuse, to_tc},
    security,
    tables::{Hook, Tables},
    verdict::Verdict,
};
use crate::{
    abi::{
        Counter, Ip4, L4Port, MacBits, Proto, VpcIndex,
        flow::{FlowKey, Meta},
        security::Bound,
        service::{AddressKey, Port, PortFlags},
        settings::IcmpBudget,
    },
    wire::{
        Ipv4Hdr, L3, checksum,
        icmp::{self, IcmpHeader},
        tcp::TcpHeader,
    },
};

/// Errors of our own and echo replies sent into one VPC in one tick (1/16 to 1/4 second); the rest is dropped and
/// counted.
pub const PER_TICK: u16 = 64;

/// How far a quoted sequence number may be from the last acknowledgement of the error's receiver's peer: data in
/// flight, or sent again. A blind attacker has to guess the ports and one number of 128; the receiver then judges
/// exactly.
const SEQUENCE_WINDOW: u32 = 1 << 24;

/// Quoted bytes of TCP or UDP that every error has (RFC 792).
const QUOTED_L4: usize = 8;

/// Where the UDP checksum is.
const UDP_CHECK: usize = 6;

/// What changes in an error that is translated. As [`super::Rewrite`], for the hook to apply. The quoted packet's
/// addresses are the outer ones turned round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    pub src: Ip4,
    pub dst: Ip4,
    /// What the outer addresses' change adds to the outer IP checksum.
    pub d_outer: u16,
    /// The quoted packet's source and destination port.
    pub quoted_src_port: L4Port,
    pub quoted_dst_port: L4Port,
    /// What the quoted addresses' and ports' change adds to a checksum.
    pub d_addr: u16,
    pub d_port: u16,
    /// Where the ICMP header starts in the frame; the quoted packet follows it.
    pub icmp: u16,
    /// Where the quoted packet's TCP or UDP header starts.
    pub quoted_l4: u16,
    /// Where the quoted checksum is that changes; 0: none is quoted.
    pub quoted_check: u16,
    /// The error has extensions: all that follows [`icmp::EXTENDED_QUOTE`] quoted bytes is cut off.
    pub extended: bool,
    pub src_mac: MacBits,
    pub dst_mac: MacBits,
    pub ifindex: u32,
    pub out: PortFlags,
}

/// An ICMP message over IPv4, unfragmented, complete up to its header.
struct Message {
    src: Ip4,
    dst: Ip4,
    src_mac: MacBits,
    kind: u8,
    /// The error says how much of the packet it quotes because extensions follow.
    extended: bool,
    ttl: u8,
    /// Where the ICMP header starts in the frame.
    at: usize,
    /// IP total length in bytes.
    ip_len: u16,
}

/// Decides what happens to an ICMP message that came in on interface `ifindex`: translated like this, or what else.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Translation, Verdict> {
    let port = entrance(t, ifindex)?;
    let Some(head) = frame.window::<{ L3 + Ipv4Hdr::LEN }>(0) else {
        return Err(judge_refused(t, port, Counter::Truncated, Ip4::UNSPECIFIED));
    };
    let dst = Ip4::from_word(head.load32::<{ L3 + 16 }>());
    let version_and_header = head.load8::<L3>();
    let header = (version_and_header & 0xf) as usize * 4;
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>());
    if version_and_header >> 4 != 4 || header < Ipv4Hdr::LEN || (ip_len as usize) < header + IcmpHeader::LEN {
        return Err(judge_refused(t, port, Counter::Malformed, dst));
    }
    if L3 + ip_len as usize > frame.len() {
        return Err(judge_refused(t, port, Counter::Truncated, dst));
    }
    if !addresses::ours(t, port.vpc, dst) {
        return Err(judge_refused(t, port, Counter::NotOurs, dst));
    }
    if T::HOOK == Hook::Xdp {
        return Err(to_tc(t));
    }
    let at = L3 + header;
    let Some(icmp) = frame.window::<{ IcmpHeader::LEN }>(at) else { return Err(refuse(t, Counter::Truncated)) };
    let message = Message {
        src: Ip4::from_word(head.load32::<{ L3 + 12 }>()),
        dst,
        src_mac: MacBits::from_word(head.load64::<6>()),
        kind: icmp.load8::<0>(),
        extended: icmp.load8::<{ IcmpHeader::QUOTE_WORDS }>() != 0,
        ttl: head.load8::<{ L3 + 8 }>(),
        at,
        ip_len,
    };
    if t.owns(&AddressKey::new(port.vpc, message.src)) {
        return Err(refuse(t, Counter::SpoofedSource));
    }
    if unroutable(message.src) || message.src_mac.group() {
        return Err(refuse(t, Counter::InvalidAddress));
    }
    match message.kind {
        icmp::DESTINATION_UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => {
            translate(frame, t, port, &message)
        }
        // The answer is the request turned round: one with IP options would be sent the way that they say.
        icmp::ECHO_REQUEST if header == Ipv4Hdr::LEN => {
            let frontend = addresses::echo_frontend(t, port.vpc, dst);
            let admitted = security::admits_echo(t, frontend, Bound::v4(message.src));
            Err(answer_echo(t, port.vpc, admitted))
        }
        _ => Err(refuse(t, Counter::IcmpUnsupported)),
    }
}

#[inline(always)]
fn translate<'t, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    port: &Port,
    message: &Message,
) -> Result<Translation, Verdict> {
    let &Message { src, dst, src_mac: _, kind: _, extended, ttl, at, ip_len } = message;
    let quoted_ip = at + IcmpHeader::LEN;
    let Some(quoted) = frame.window::<{ Ipv4Hdr::LEN }>(quoted_ip) else {
        return Err(refuse(t, Counter::IcmpMalformed));
    };
    let version_and_header = quoted.load8::<0>();
    let quoted_l4 = quoted_ip + (version_and_header & 0xf) as usize * 4;
    // Without the padding that an extended quote may end in, which is at least as long.
    let end = L3 + ip_len as usize;
    let Some(l4) = frame.window::<QUOTED_L4>(quoted_l4) else { return Err(refuse(t, Counter::IcmpMalformed)) };
    if version_and_header >> 4 != 4
        || quoted_l4 < quoted_ip + Ipv4Hdr::LEN
        || quoted_l4 + QUOTED_L4 > end
        || u16::from_be(quoted.load16::<6>()) & LATER_FRAGMENT != 0
        || extended && end < quoted_ip + icmp::EXTENDED_QUOTE
    {
        return Err(refuse(t, Counter::IcmpMalformed));
    }
    let proto = quoted.load8::<9>();
    let (sender, receiver) = (Ip4::from_word(quoted.load32::<12>()), Ip4::from_word(quoted.load32::<16>()));
    if sender != dst {
        return Err(refuse(t, Counter::IcmpForged));
    }
    let key = FlowKey {
        src: receiver,
        dst: sender,
        src_port: L4Port::from_word(l4.load16::<2>()),
        dst_port: L4Port::from_word(l4.load16::<0>()),
        vpc: port.vpc,
        proto,
        _pad: 0,
    };
    let Some(slot) = t.find(&key) else { return Err(refuse(t, Counter::IcmpNoFlow)) };
    let Some(target) = t.target(slot.target()) else { return Err(refuse(t, Counter::IcmpNoFlow)) };
    if target.generation != slot.generation() {
        return Err(refuse(t, Counter::IcmpNoFlow));
    }
    let tcp = proto == Proto::Tcp.number();
    if tcp && !in_flight(u32::from_be(l4.load32::<4>()), slot.ack()) {
        return Err(refuse(t, Counter::IcmpForged));
    }
    let quoted_check = if tcp && quoted_l4 + TcpHeader::CHECK + 2 <= end {
        quoted_l4 + TcpHeader::CHECK
    } else if !tcp && l4.load16::<UDP_CHECK>() != 0 {
        quoted_l4 + UDP_CHECK
    } else {
        0
    };
    // It would have to become an error of the other family.
    if slot.meta().translated {
        return Err(refuse(t, Counter::IcmpNoFlow));
    }
    let way = Way::of(slot, slot.meta(), target);
    let Some(out) = t.port(way.ifindex) else { return Err(refuse(t, Counter::FlowRaced)) };
    if out.vpc == VpcIndex::NONE {
        return Err(refuse(t, Counter::NoPort));
    }
    // No error is sent about an error (RFC 1122 section 3.2.2).
    if ttl <= 1 {
        return Err(refuse(t, Counter::TtlExceeded));
    }
    if ip_len as u32 > out.mtu {
        return Err(refuse(t, Counter::MtuExceeded));
    }
    let (new_src, new_dst) = (slot.new_src(), slot.new_dst());
    let d_outer =
        checksum::difference32(src.word(), new_src.word()) + checksum::difference32(dst.word(), new_dst.word());
    let [d_addr, d_port] = match slot.meta().flags & Meta::PROXY {
        0 => [slot.d_addr(), slot.d_port()],
        _ => proxy::differences(slot, &key),
    };
    let translation = Translation {
        src: new_src,
        dst: new_dst,
        d_outer: checksum::fold(d_outer),
        quoted_src_port: slot.new_dst_port(),
        quoted_dst_port: slot.new_src_port(),
        d_addr,
        d_port,
        icmp: at as u16,
        quoted_l4: quoted_l4 as u16,
        quoted_check: quoted_check as u16,
        extended,
        src_mac: out.mac_bits(),
        dst_mac: way.dst_mac,
        ifindex: way.ifindex,
        out: out.flags,
    };
    if !slot.current() {
        return Err(refuse(t, Counter::FlowRaced));
    }
    t.count(Counter::IcmpErrorTranslated);
    Ok(translation)
}

/// A quoted checksum after addresses and ports have changed; `offset`: where it is in its header. A UDP checksum that
/// comes to zero is sent as ones.
#[inline(always)]
pub const fn quoted_check(offset: u16, was: u16, d_addr: u16, d_port: u16) -> u16 {
    match checksum::apply(was, d_addr as u32 + d_port as u32) {
        0 if offset as usize == UDP_CHECK => 0xffff,
        check => check,
    }
}

/// A segment with this number may be under way to who has acknowledged all before `ack`.
#[inline(always)]
pub(super) const fn in_flight(seq: u32, ack: u32) -> bool {
    seq.wrapping_sub(ack).wrapping_add(SEQUENCE_WINDOW) <= 2 * SEQUENCE_WINDOW
}

/// `admitted`: the security groups let the request in.
#[inline(always)]
pub(super) fn answer_echo<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, admitted: bool) -> Verdict {
    if !admitted {
        return refuse(t, Counter::EchoDenied);
    }
    if !may_send(t, vpc, Kind::Echo) {
        return refuse(t, Counter::IcmpLimited);
    }
    t.count(Counter::EchoAnswered);
    Verdict::AnswerEcho
}

/// What an answer counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Error,
    Echo,
}

/// Takes one from the VPC's budget for this tick. Two CPUs may both take the last one.
#[inline(always)]
pub(super) fn may_send<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, kind: Kind) -> bool {
    let Some(budget) = t.icmp_budget(vpc.0 as u32) else { return false };
    let now = t.now();
    // SAFETY: the record is in a live map value; a lost update lets one answer more through.
    unsafe {
        let was = budget.read_volatile();
        let IcmpBudget { tick: _, errors, echoes } =
            if was.tick == now { was } else { IcmpBudget { tick: now, ..IcmpBudget::default() } };
        let (sent, next) = match kind {
            Kind::Error => (errors, IcmpBudget { tick: now, errors: errors.saturating_add(1), echoes }),
            Kind::Echo => (echoes, IcmpBudget { tick: now, errors, echoes: echoes.saturating_add(1) }),
        };
        budget.write_volatile(next);
        sent < PER_TICK
    }
}

#[cfg(test)]
mod tests;
