//! Neighbour discovery (RFC 4861): advertisements for the addresses that the datapath owns, and for nothing else.

use super::{
    super::{
        frame::Frame,
        open::emit_neighbor6,
        refusal::{not_ours, refuse, to_tc},
        tables::{Hook, Tables},
        verdict::Verdict,
    },
    parse::HEAD,
};
use crate::{
    abi::{
        Counter, Ip6, Mac,
        service::{Address6Key, Port},
    },
    wire::{
        L3, checksum,
        ipv6::{self, ETHERTYPE_IPV6, Ipv6Header, next},
    },
};

/// ICMPv6 types.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Router solicitation, advertisement, the two above, redirect.
const FIRST: u8 = 133;
const LAST: u8 = 137;
/// A link's addresses do not leave it: packets of neighbour discovery have this hop limit, which no router lets
/// through.
const ON_LINK: u8 = 255;
/// Type, code, checksum, flags, target.
const MESSAGE: usize = 24;
/// One option that holds an Ethernet address.
const OPTION: usize = 8;
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
/// Longest message that is looked at, in bytes.
const LONGEST: usize = 88;

/// An advertisement with the Ethernet address.
pub const REPLY_LEN: usize = HEAD + MESSAGE + OPTION;

/// What a solicitation or advertisement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub src_mac: Mac,
    pub src: Ip6,
    pub target: Ip6,
    /// The Ethernet address in its first option, if that is of the right kind; else zero.
    pub mac: Mac,
}

/// The message in a frame that is IPv6. Nothing if it is none that is valid (RFC 4861 section 7.1).
#[inline(always)]
pub fn message<F: Frame>(frame: F) -> Option<Message> {
    let head = frame.window::<HEAD>(0)?;
    let payload = u16::from_be(head.load16::<{ L3 + Ipv6Header::PAYLOAD }>()) as usize;
    let [first, hops] = head.load16::<{ L3 + Ipv6Header::NEXT }>().to_ne_bytes();
    let body = frame.window::<MESSAGE>(HEAD)?;
    let [kind, code] = body.load16::<0>().to_ne_bytes();
    if first != next::ICMPV6
        || hops != ON_LINK
        || code != 0
        || kind != SOLICITATION && kind != ADVERTISEMENT
        || payload < MESSAGE
        || payload > LONGEST
        || payload & 7 != 0
        || HEAD + payload > frame.len()
        || !intact(frame, payload)
    {
        return None;
    }
    let wanted = if kind == SOLICITATION { SOURCE_ADDRESS } else { TARGET_ADDRESS };
    let mut mac = Mac::ZERO;
    if payload >= MESSAGE + OPTION
        && let Some([option, words, a, b, c, d, e, f]) = frame.read::<[u8; OPTION]>(HEAD + MESSAGE)
        && option == wanted
        && words == 1
    {
        mac = Mac([a, b, c, d, e, f]);
    }
    let [a, b, c, d, e, f] = frame.read::<[u8; 6]>(6)?;
    let target = [body.load32::<8>(), body.load32::<12>(), body.load32::<16>(), body.load32::<20>()];
    Some(Message {
        kind,
        src_mac: Mac([a, b, c, d, e, f]),
        src: super::parse::addresses(head).src,
        target: Ip6(target),
        mac,
    })
}

/// The message's checksum is right.
#[inline(always)]
fn intact<F: Frame>(frame: F, payload: usize) -> bool {
    let Some(head) = frame.window::<HEAD>(0) else { return false };
    let addresses = super::parse::addresses(head);
    let mut sum = ipv6::words(&addresses.src.0)
        + ipv6::words(&addresses.dst.0)
        + u16::from_ne_bytes([0, next::ICMPV6]) as u32
        + u16::from_ne_bytes((payload as u16).to_be_bytes()) as u32;
    for word in 0..LONGEST / 8 {
        if word * 8 >= payload {
            break;
        }
        let Some([a, b, c, d, e, f, g, h]) = frame.read::<[u8; 8]>(HEAD + word * 8) else { return false };
        sum += checksum::words(u32::from_ne_bytes([a, b, c, d])) + checksum::words(u32::from_ne_bytes([e, f, g, h]));
    }
    checksum::fold(sum) == 0xffff
}

/// The frame is of neighbour or router discovery.
#[inline(always)]
pub fn is_discovery<F: Frame>(frame: F) -> bool {
    let Some(head) = frame.window::<{ HEAD + 1 }>(0) else { return false };
    let (first, kind) = (head.load8::<{ L3 + Ipv6Header::NEXT }>(), head.load8::<HEAD>());
    first == next::ICMPV6 && (FIRST..=LAST).contains(&kind)
}

/// [`judge`] as one scalar, with a stack of its own.
#[inline(never)]
pub fn judge_bits<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port, ifindex: u32) -> u32 {
    judge(frame, t, port, ifindex).to_bits()
}

/// Judges a packet of discovery that came in on `port`.
#[inline(always)]
fn judge<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port, ifindex: u32) -> Verdict {
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    let Some(Message { kind, src_mac: _, src, target, mac }) = message(frame) else {
        return not_ours(t, port.flags, Counter::NdpIgnored);
    };
    // One answer at a time: the compiler would join the two in a way that the verifier refuses.
    if t.address6(&Address6Key::new(port.vpc, src)).is_some() {
        return refuse(t, Counter::NdpForged);
    }
    let ours = t.address6(&Address6Key::new(port.vpc, target)).is_some();
    let known = mac != Mac::ZERO && mac.0[0] & 1 == 0;
    if kind == ADVERTISEMENT {
        if ours {
            return refuse(t, Counter::NdpForged);
        }
        if known {
            emit_neighbor6(t, port.vpc, ifindex, target, mac);
        }
        return not_ours(t, port.flags, Counter::NdpIgnored);
    }
    if !ours {
        return not_ours(t, port.flags, Counter::NdpIgnored);
    }
    if known && src != Ip6::UNSPECIFIED {
        emit_neighbor6(t, port.vpc, ifindex, src, mac);
    }
    t.count(Counter::NdpAnswered);
    Verdict::AnswerNeighbor
}

/// The frame that answers a solicitation: `mac` has the address that was asked for. Who asks without an address of its
/// own (it is about to take the one that it asks for) is answered in front of all.
#[inline(always)]
pub fn reply(asked: &Message, mac: Mac) -> [u8; REPLY_LEN] {
    const ALL_NODES: Ip6 = Ip6::from_wire([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let nameless = asked.src == Ip6::UNSPECIFIED;
    let (dst, dst_mac) = if nameless { (ALL_NODES, Mac([0x33, 0x33, 0, 0, 0, 1])) } else { (asked.src, asked.src_mac) };
    // Solicited, override.
    let flags = if nameless { 0x20 } else { 0x60 };
    let [a, b, c, d, e, f] = mac.0;
    let sum = ipv6::words(&asked.target.0)
        + ipv6::words(&dst.0)
        + ipv6::words(&asked.target.0)
        + u16::from_ne_bytes([0, next::ICMPV6]) as u32
        + u16::from_ne_bytes(((MESSAGE + OPTION) as u16).to_be_bytes()) as u32
        + u16::from_ne_bytes([ADVERTISEMENT, 0]) as u32
        + u16::from_ne_bytes([flags, 0]) as u32
        + u16::from_ne_bytes([TARGET_ADDRESS, 1]) as u32
        + u16::from_ne_bytes([a, b]) as u32
        + u16::from_ne_bytes([c, d]) as u32
        + u16::from_ne_bytes([e, f]) as u32;
    let mut frame = [0; REPLY_LEN];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            frame[at] = *byte;
            at += 1;
        }
    };
    put(&dst_mac.0);
    put(&mac.0);
    put(&ETHERTYPE_IPV6.to_ne_bytes());
    put(&[0x60, 0, 0, 0]);
    put(&((MESSAGE + OPTION) as u16).to_be_bytes());
    put(&[next::ICMPV6, ON_LINK]);
    put(&asked.target.to_wire());
    put(&dst.to_wire());
    put(&[ADVERTISEMENT, 0]);
    put(&(!checksum::fold(sum)).to_ne_bytes());
    put(&[flags, 0, 0, 0]);
    put(&asked.target.to_wire());
    put(&[TARGET_ADDRESS, 1]);
    put(&mac.0);
    frame
}
