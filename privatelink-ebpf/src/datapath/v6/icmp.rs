//! ICMP over IPv6 (RFC 4443), as `datapath::icmp`: errors about packets of flows go where those packets came from,
//! translated as they were; an echo request to an address of ours is answered; everything else is refused by name.
//! Neighbour discovery is `super::ndp`'s.
//!
//! Messages behind extension headers are refused, and errors that quote a packet that has some, or that carry
//! extensions (RFC 4884), which may name interfaces of the other network: so everything is at a fixed place.

pub mod error;

use super::{
    V6, key, pair,
    parse::{self, HEAD, unroutable},
};
use crate::{
    abi::{
        Counter, Ip6, L4Port, MacBits, Proto, VpcIndex,
        addr::IPV6,
        flow::Addresses6,
        service::{Address6Key, Frontend6Key, Port, PortFlags},
    },
    datapath::{
        Family as _, Way, addresses, entrance,
        frame::Frame,
        icmp::{answer_echo, in_flight},
        refusal::refuse,
        security,
        tables::Tables,
        verdict::Verdict,
    },
    wire::{
        L3, checksum,
        icmp::IcmpHeader,
        icmp6::{DESTINATION_UNREACHABLE, ECHO_REQUEST, PACKET_TOO_BIG, PARAMETER_PROBLEM, QUOTE_WORDS, TIME_EXCEEDED},
        ipv6::{self, Ipv6Header},
        tcp::TcpHeader,
        udp::UdpHeader,
    },
};

/// Where the quoted packet begins.
pub const QUOTED: usize = HEAD + IcmpHeader::LEN;
/// Where the quoted TCP or UDP header begins.
pub const QUOTED_L4: usize = QUOTED + Ipv6Header::LEN;
/// Quoted bytes of TCP or UDP that are asked for.
const LEAST_L4: usize = 8;

/// What changes in an error that is translated. The quoted packet's addresses are the outer ones turned round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation6<'t> {
    pub src: &'t Ip6,
    pub dst: &'t Ip6,
    /// The quoted packet's source and destination port.
    pub quoted_src_port: L4Port,
    pub quoted_dst_port: L4Port,
    /// Where the quoted checksum is, and what it becomes (memory order); 0: none is quoted.
    pub quoted_check: u16,
    pub quoted_check_value: u16,
    /// The message's checksum, in memory order.
    pub check: u16,
    pub src_mac: MacBits,
    pub dst_mac: MacBits,
    pub ifindex: u32,
    pub out: PortFlags,
}

/// An ICMP message, complete up to its header.
struct Message {
    from: Addresses6,
    hops: u8,
    /// IPv6 payload length in bytes.
    payload: u16,
    check: u16,
}

/// Decides what happens to an ICMP message to an address of ours that came in on interface `ifindex`: translated like
/// this, or what else. TC only.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Translation6<'t>, Verdict> {
    let port = entrance(t, ifindex)?;
    let (Some(head), Some(icmp)) = (frame.window::<HEAD>(0), frame.window::<{ IcmpHeader::LEN }>(HEAD)) else {
        return Err(refuse(t, Counter::Truncated));
    };
    let payload = u16::from_be(head.load16::<{ L3 + Ipv6Header::PAYLOAD }>());
    if (payload as usize) < IcmpHeader::LEN || payload > u16::MAX - Ipv6Header::LEN as u16 {
        return Err(refuse(t, Counter::Malformed));
    }
    if HEAD + payload as usize > frame.len() {
        return Err(refuse(t, Counter::Truncated));
    }
    let from = parse::addresses(head);
    if t.address6(&Address6Key::new(port.vpc, from.src)).is_some() {
        return Err(refuse(t, Counter::SpoofedSource));
    }
    if unroutable(&from.src) || MacBits::from_word(head.load64::<6>()).group() {
        return Err(refuse(t, Counter::InvalidAddress));
    }
    let message = Message {
        from,
        hops: head.load8::<{ L3 + Ipv6Header::HOPS }>(),
        payload,
        check: icmp.load16::<{ IcmpHeader::CHECK }>(),
    };
    let extended = icmp.load8::<QUOTE_WORDS>() != 0;
    match icmp.load8::<0>() {
        PACKET_TOO_BIG | PARAMETER_PROBLEM => translate(frame, t, port, &message),
        DESTINATION_UNREACHABLE | TIME_EXCEEDED if !extended => translate(frame, t, port, &message),
        ECHO_REQUEST => {
            let frontend = t.frontend6(&Frontend6Key::echo(port.vpc, message.from.dst));
            let admitted = security::admits_echo(t, frontend.as_ref(), addresses::bound(&message.from.src));
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
) -> Result<Translation6<'t>, Verdict> {
    let &Message { ref from, hops, payload, check } = message;
    let (Some(quoted), Some(l4)) = (frame.window::<{ Ipv6Header::LEN }>(QUOTED), frame.window::<LEAST_L4>(QUOTED_L4))
    else {
        return Err(refuse(t, Counter::IcmpMalformed));
    };
    let end = HEAD + payload as usize;
    if quoted.load8::<0>() >> 4 != 6 || QUOTED_L4 + LEAST_L4 > end {
        return Err(refuse(t, Counter::IcmpMalformed));
    }
    let proto = quoted.load8::<{ Ipv6Header::NEXT }>();
    let tcp = proto == Proto::Tcp.number();
    if !tcp && proto != Proto::Udp.number() {
        return Err(refuse(t, Counter::IcmpUnsupported));
    }
    const SRC: usize = Ipv6Header::SRC;
    const DST: usize = Ipv6Header::DST;
    let sender = Ip6([
        quoted.load32::<SRC>(),
        quoted.load32::<{ SRC + 4 }>(),
        quoted.load32::<{ SRC + 8 }>(),
        quoted.load32::<{ SRC + 12 }>(),
    ]);
    let receiver = Ip6([
        quoted.load32::<DST>(),
        quoted.load32::<{ DST + 4 }>(),
        quoted.load32::<{ DST + 8 }>(),
        quoted.load32::<{ DST + 12 }>(),
    ]);
    if sender != from.dst {
        return Err(refuse(t, Counter::IcmpForged));
    }
    let key = key(port.vpc, pair(&receiver, &sender, t.hash_seed()), l4.load32::<0>().rotate_left(16), proto | IPV6);
    let Some(slot) = t.find(&key) else { return Err(refuse(t, Counter::IcmpNoFlow)) };
    let Some(target) = t.target(slot.target()) else { return Err(refuse(t, Counter::IcmpNoFlow)) };
    if target.generation != slot.generation() || slot.meta().translated {
        return Err(refuse(t, Counter::IcmpNoFlow));
    }
    if tcp && !in_flight(u32::from_be(l4.load32::<4>()), slot.ack()) {
        return Err(refuse(t, Counter::IcmpForged));
    }
    let way = Way::of(slot, slot.meta(), target);
    let Some(out) = t.port(way.ifindex()) else { return Err(refuse(t, Counter::FlowRaced)) };
    if out.vpc == VpcIndex::NONE {
        return Err(refuse(t, Counter::NoPort));
    }
    // No error is sent about an error (RFC 4443 section 2.4).
    if hops <= 1 {
        return Err(refuse(t, Counter::TtlExceeded));
    }
    if payload as u32 + Ipv6Header::LEN as u32 > out.mtu {
        return Err(refuse(t, Counter::MtuExceeded));
    }
    let Some((src, dst)) = V6::addresses(t, slot, target) else { return Err(refuse(t, Counter::FlowRaced)) };
    let inner = slot.d_addr() as u32 + slot.d_port() as u32;
    let at = if tcp { QUOTED_L4 + TcpHeader::CHECK } else { QUOTED_L4 + UdpHeader::CHECK };
    let mut difference =
        inner + ipv6::without(&from.src.0) + ipv6::without(&from.dst.0) + ipv6::words(&src.0) + ipv6::words(&dst.0);
    let (mut quoted_check, mut quoted_check_value) = (0, 0);
    if at + 2 <= end
        && let Some(field) = frame.window::<2>(at)
    {
        let was = field.load16::<0>();
        let now = match checksum::apply(was, inner) {
            0 if !tcp => 0xffff,
            now => now,
        };
        difference += checksum::difference16(was, now);
        (quoted_check, quoted_check_value) = (at as u16, now);
    }
    let translation = Translation6 {
        src,
        dst,
        quoted_src_port: slot.new_dst_port(),
        quoted_dst_port: slot.new_src_port(),
        quoted_check,
        quoted_check_value,
        check: checksum::apply(check, difference),
        src_mac: out.mac_bits(),
        dst_mac: way.dst_mac(),
        ifindex: way.ifindex(),
        out: out.flags,
    };
    if !slot.current() {
        return Err(refuse(t, Counter::FlowRaced));
    }
    t.count(Counter::IcmpErrorTranslated);
    Ok(translation)
}
