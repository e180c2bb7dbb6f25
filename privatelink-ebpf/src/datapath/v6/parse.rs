//! IPv6 bytes to facts.

use super::{
    super::{
        frame::Frame,
        parse::{Plain, Segment},
        tables::Tables,
    },
    key, pair,
};
use crate::{
    abi::{Counter, Ip6, MacBits, Proto, VpcIndex, addr::IPV6, flow::Addresses6},
    wire::{
        L3, Window, checksum,
        ipv6::{self, ETHERTYPE_IPV6, Ipv6Header, next},
        tcp::{Flags, TcpHeader},
        udp::UdpHeader,
        window::low_byte,
    },
};

/// Ethernet and IPv6 header.
pub const HEAD: usize = L3 + Ipv6Header::LEN;
/// Where TCP or UDP begins in a packet without extension headers.
pub const PLAIN_L4: u16 = HEAD as u16;
/// Extension headers that are looked behind, and where the last one must end: a packet with more is refused.
const EXTENSIONS: usize = 4;
const FURTHEST: usize = 128;

/// Both addresses of an IPv6 packet.
#[inline(always)]
pub fn addresses(head: Window<HEAD>) -> Addresses6 {
    const SRC: usize = L3 + Ipv6Header::SRC;
    const DST: usize = L3 + Ipv6Header::DST;
    let src = [
        head.load32::<SRC>(),
        head.load32::<{ SRC + 4 }>(),
        head.load32::<{ SRC + 8 }>(),
        head.load32::<{ SRC + 12 }>(),
    ];
    let dst = [
        head.load32::<DST>(),
        head.load32::<{ DST + 4 }>(),
        head.load32::<{ DST + 8 }>(),
        head.load32::<{ DST + 12 }>(),
    ];
    Addresses6 { src: Ip6(src), dst: Ip6(dst) }
}

/// The sum of the pseudo header (RFC 8200 section 8.1) of `len` bytes of TCP or UDP.
#[inline(always)]
pub fn pseudo_sum(addresses: &Addresses6, proto: u8, len: u16) -> u16 {
    let sum = ipv6::words(&addresses.src.0)
        + ipv6::words(&addresses.dst.0)
        + u16::from_ne_bytes([0, proto]) as u32
        + u16::from_ne_bytes(len.to_be_bytes()) as u32;
    checksum::fold(sum)
}

/// Where the upper layer begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upper {
    At { proto: u8, at: usize },
    Refused(Counter),
}

/// Looks behind the extension headers. Hop-by-hop and destination options are nobody's business on the way and stay as
/// they are; a routing header would lead a packet past the rules (RFC 5095).
#[inline(always)]
pub fn upper<F: Frame>(frame: F, first: u8) -> Upper {
    let mut proto = first;
    let mut at = HEAD;
    for _ in 0..EXTENSIONS {
        match proto {
            next::HOP_BY_HOP | next::DESTINATION => {}
            next::ROUTING => return Upper::Refused(Counter::RoutingHeader),
            next::FRAGMENT => return Upper::Refused(Counter::Fragment),
            _ => return Upper::At { proto, at },
        }
        let Some([following, words]) = frame.read::<[u8; 2]>(at & 0xff) else {
            return Upper::Refused(Counter::Truncated);
        };
        proto = following;
        at += (words as usize + 1) * 8;
        if at > FURTHEST {
            return Upper::Refused(Counter::ExtensionHeaders);
        }
    }
    match proto {
        next::HOP_BY_HOP | next::DESTINATION | next::ROUTING | next::FRAGMENT => {
            Upper::Refused(Counter::ExtensionHeaders)
        }
        _ => Upper::At { proto, at },
    }
}

/// [`upper`] as one scalar: protocol and place, or -1.
#[inline(never)]
fn upper_bits<F: Frame>(frame: F, first: u8) -> i32 {
    match upper(frame, first) {
        Upper::At { proto, at } => proto as i32 | (at as i32) << 8,
        Upper::Refused(_) => -1,
    }
}

/// Lends [`segment`] to the tables, with a stack of its own. False: there is none.
#[inline(never)]
pub fn lend<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, vpc: VpcIndex) -> bool {
    match segment(frame, t, vpc) {
        Some(segment) => {
            t.lend(segment);
            true
        }
        None => false,
    }
}

/// The segment or datagram that came in on a port of `vpc`, complete in its lengths; its addresses are lent to the
/// tables. Nothing if the frame is something else, which [`judge`] names.
#[inline(always)]
pub fn segment<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, vpc: VpcIndex) -> Option<Segment> {
    let head = frame.window::<HEAD>(0)?;
    let source_and_type = head.load64::<6>();
    let payload = u16::from_be(head.load16::<{ L3 + Ipv6Header::PAYLOAD }>());
    if (source_and_type >> 48) as u16 != ETHERTYPE_IPV6
        || head.load8::<L3>() >> 4 != 6
        || HEAD + payload as usize > frame.len()
        || payload > u16::MAX - Ipv6Header::LEN as u16
    {
        return None;
    }
    let first = head.load8::<{ L3 + Ipv6Header::NEXT }>();
    let (proto, at) = match first {
        // Nearly every packet.
        6 | 17 => (first, HEAD),
        _ => {
            let bits = upper_bits(frame, first);
            if bits < 0 {
                return None;
            }
            (bits as u8, low_byte((bits >> 8) as usize))
        }
    };
    let ip_len = payload + Ipv6Header::LEN as u16;
    let l4_len = ip_len.wrapping_sub((at - L3) as u16);
    if l4_len > ip_len {
        return None;
    }
    let lent = t.packet6()?;
    let addresses = addresses(head);
    // SAFETY: this CPU's own record; a frame's program is not interrupted by another frame's.
    unsafe { lent.write(addresses) };
    let (seq, ack, flags, header, ports, check) = if proto == Proto::Tcp.number() {
        let tcp = frame.window::<{ TcpHeader::LEN }>(at)?;
        let [offset, flags] = tcp.load16::<12>().to_ne_bytes();
        let header = (offset >> 4) * 4;
        if (header as usize) < TcpHeader::LEN || header as u16 > l4_len {
            return None;
        }
        let (seq, ack) = (u32::from_be(tcp.load32::<4>()), u32::from_be(tcp.load32::<8>()));
        (seq, ack, Flags(flags), header, tcp.load32::<0>(), tcp.load16::<{ TcpHeader::CHECK }>())
    } else if proto == Proto::Udp.number() {
        let udp = frame.window::<{ UdpHeader::LEN }>(at)?;
        let length = u16::from_be(udp.load16::<{ UdpHeader::LENGTH }>());
        let check = udp.load16::<{ UdpHeader::CHECK }>();
        // RFC 8200 section 8.1: a datagram without a checksum is discarded.
        if (length as usize) < UdpHeader::LEN || length > l4_len || check == 0 {
            return None;
        }
        (0, 0, Flags(0), UdpHeader::LEN as u8, udp.load32::<0>(), check)
    } else {
        return None;
    };
    Some(Segment {
        key: key(vpc, pair(&addresses.src, &addresses.dst, t.hash_seed()), ports, proto | IPV6),
        seq,
        ack,
        flags,
        ttl: head.load8::<{ L3 + Ipv6Header::HOPS }>(),
        header,
        l4: at as u16,
        ip_len,
        partial: check == pseudo_sum(&addresses, proto, l4_len),
        src_mac: MacBits::from_word(source_and_type),
        dst_mac: MacBits::from_word(head.load64::<0>()),
    })
}

/// Names what [`segment`] has refused.
#[inline(always)]
pub fn judge<F: Frame>(frame: F) -> Counter {
    let Some(head) = frame.window::<HEAD>(0) else { return Counter::Truncated };
    let payload = u16::from_be(head.load16::<{ L3 + Ipv6Header::PAYLOAD }>()) as usize;
    if head.load8::<L3>() >> 4 != 6 {
        return Counter::Malformed;
    }
    let (proto, at) = match upper(frame, head.load8::<{ L3 + Ipv6Header::NEXT }>()) {
        Upper::At { proto, at } => (proto, at),
        Upper::Refused(reason) => return reason,
    };
    let least = if proto == Proto::Tcp.number() { TcpHeader::LEN } else { UdpHeader::LEN };
    if proto != Proto::Tcp.number() && proto != Proto::Udp.number() {
        Counter::OtherProtocol
    } else if HEAD + payload > frame.len() || at + least > frame.len() {
        Counter::Truncated
    } else {
        Counter::Malformed
    }
}

/// What [`segment`] says of a segment that has only ACK of SYN, FIN, RST and ACK, or of a datagram, without extension
/// headers; nothing for any other frame. With `complete` only of a datagram whose checksum is no partial one.
#[inline(always)]
pub fn plain<F: Frame>(frame: F, vpc: VpcIndex, seed: u64, complete: bool) -> Option<Plain> {
    let head = frame.window::<HEAD>(0)?;
    let source_and_type = head.load64::<6>();
    let payload = u16::from_be(head.load16::<{ L3 + Ipv6Header::PAYLOAD }>());
    if (source_and_type >> 48) as u16 != ETHERTYPE_IPV6
        || head.load8::<L3>() >> 4 != 6
        || HEAD + payload as usize > frame.len()
        || payload > u16::MAX - Ipv6Header::LEN as u16
    {
        return None;
    }
    let addresses = addresses(head);
    let proto = head.load8::<{ L3 + Ipv6Header::NEXT }>();
    let (ports, ack) = if proto == Proto::Tcp.number() {
        let tcp = frame.window::<{ TcpHeader::LEN }>(HEAD)?;
        let [offset, flags] = tcp.load16::<12>().to_ne_bytes();
        let header = (offset >> 4) as usize * 4;
        if header < TcpHeader::LEN || header > payload as usize || !Flags(flags).ack_only() {
            return None;
        }
        (tcp.load32::<0>(), u32::from_be(tcp.load32::<8>()))
    } else if proto == Proto::Udp.number() {
        let udp = frame.window::<{ UdpHeader::LEN }>(HEAD)?;
        let length = u16::from_be(udp.load16::<{ UdpHeader::LENGTH }>());
        let check = udp.load16::<{ UdpHeader::CHECK }>();
        if (length as usize) < UdpHeader::LEN
            || length > payload
            || check == 0
            || complete && check == pseudo_sum(&addresses, proto, payload)
        {
            return None;
        }
        (udp.load32::<0>(), 0)
    } else {
        return None;
    };
    Some(Plain {
        key: key(vpc, pair(&addresses.src, &addresses.dst, seed), ports, proto | IPV6).words(),
        ack,
        ttl: head.load8::<{ L3 + Ipv6Header::HOPS }>(),
        ip_len: payload + Ipv6Header::LEN as u16,
        src_mac: MacBits::from_word(source_and_type),
    })
}

/// An address that no packet may come from or be forwarded to (RFC 4291 section 2.5): unspecified, loopback, multicast,
/// link-local, IPv4-mapped.
#[inline(always)]
pub fn unroutable(ip: &Ip6) -> bool {
    let [a, b, c, d] = ip.0;
    let [first, second, ..] = a.to_ne_bytes();
    let zeros = a == 0 && b == 0;
    first == 0xff
        || first == 0xfe && second & 0xc0 == 0x80
        || zeros && c == 0 && (d == 0 || d == 1_u32.to_be())
        || zeros && c == 0xffff_u32.to_be()
}
