//! Bytes to facts. Every field that later decides or is rewritten has been checked here.

use super::frame::Frame;
use crate::{
    abi::{Counter, Ip4, L4Port, MacBits, Proto, VpcIndex, flow::FlowKey},
    wire::{
        ETHERTYPE_ARP, ETHERTYPE_IPV4, Ipv4Hdr, L3, checksum,
        tcp::{Flags, TcpHeader},
        udp::UdpHeader,
    },
};

/// A TCP segment over IPv4, or its first fragment, complete up to its TCP header; or a UDP datagram, which has no
/// numbers and no flags.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub key: FlowKey,
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    pub ttl: u8,
    /// TCP or UDP header length in bytes.
    pub header: u8,
    /// Where the TCP or UDP header starts in the frame.
    pub l4: u16,
    /// IP total length in bytes.
    pub ip_len: u16,
    /// The checksum field holds the sum of the pseudo header and nothing more: the mark of a sender whose device is to
    /// complete it. One in 65,536 complete checksums looks the same.
    pub partial: bool,
    pub src_mac: MacBits,
    pub dst_mac: MacBits,
}

impl Segment {
    /// Sequence numbers that the segment occupies: payload, SYN and FIN.
    #[inline(always)]
    pub fn sequence_len(&self) -> u32 {
        let headers = self.l4 as u32 - L3 as u32 + self.header as u32;
        (self.ip_len as u32)
            .wrapping_sub(headers)
            .wrapping_add(self.flags.has(Flags::SYN) as u32 + self.flags.has(Flags::FIN) as u32)
    }
}

impl Segment {
    /// A segment of nobody.
    pub const NONE: Self = Self {
        key: FlowKey::tcp(VpcIndex::NONE, Ip4::UNSPECIFIED, L4Port::new(0), Ip4::UNSPECIFIED, L4Port::new(0)),
        seq: 0,
        ack: 0,
        flags: Flags(0),
        ttl: 0,
        header: 0,
        l4: 0,
        ip_len: 0,
        partial: false,
        src_mac: MacBits::from_word(0),
        dst_mac: MacBits::from_word(0),
    };
}

/// Ethernet and IPv4 header in one check: no ARP packet is shorter than that.
const HEAD: usize = L3 + Ipv4Hdr::LEN;

/// The offset of a fragment behind the first one, which has no ports.
pub const LATER_FRAGMENT: u16 = 0x1fff;

/// The TCP segment that came in on a port of `vpc`; nothing if the frame is something else, which [`judge`] names. (All
/// failures are one: a reason beside the segment would be carried through registers that the fast path needs.)
#[inline(always)]
pub fn segment<F: Frame>(frame: F, vpc: VpcIndex) -> Option<Segment> {
    let head = frame.window::<HEAD>(0)?;
    let source_and_type = head.load64::<6>();
    let version_and_header = head.load8::<L3>();
    let header = (version_and_header & 0xf) as usize * 4;
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>());
    let [ttl, proto] = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    let l4 = L3 + header;
    if (source_and_type >> 48) as u16 != ETHERTYPE_IPV4
        || version_and_header >> 4 != 4
        || header < Ipv4Hdr::LEN
        || u16::from_be(head.load16::<{ L3 + 6 }>()) & LATER_FRAGMENT != 0
        || proto != Proto::Tcp.number()
        || L3 + ip_len as usize > frame.len()
    {
        return None;
    }
    let tcp = frame.window::<{ TcpHeader::LEN }>(l4)?;
    let [offset, flags] = tcp.load16::<12>().to_ne_bytes();
    let tcp_header = (offset >> 4) as usize * 4;
    if tcp_header < TcpHeader::LEN || header + tcp_header > ip_len as usize {
        return None;
    }
    let src = Ip4::from_word(head.load32::<{ L3 + 12 }>());
    let dst = Ip4::from_word(head.load32::<{ L3 + 16 }>());
    let ports = tcp.load32::<0>();
    Some(Segment {
        key: FlowKey::tcp(vpc, src, L4Port::from_word(ports as u16), dst, L4Port::from_word((ports >> 16) as u16)),
        seq: u32::from_be(tcp.load32::<4>()),
        ack: u32::from_be(tcp.load32::<8>()),
        flags: Flags(flags),
        ttl,
        header: tcp_header as u8,
        l4: l4 as u16,
        ip_len,
        partial: tcp.load16::<{ TcpHeader::CHECK }>()
            == pseudo_sum(src.word(), dst.word(), Proto::Tcp, ip_len.wrapping_sub(header as u16)),
        src_mac: MacBits::from_word(source_and_type),
        dst_mac: MacBits::from_word(head.load64::<0>()),
    })
}

/// What a frame is that is no [`segment`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unparsed {
    Arp,
    /// Refused for the reason, unless it is somebody else's.
    Refused(Counter),
}

/// Names what [`segment`] has refused, and the IPv4 destination if the frame has one (else zero).
#[inline(always)]
pub fn judge<F: Frame>(frame: F) -> (Unparsed, Ip4) {
    let Some(head) = frame.window::<HEAD>(0) else {
        return (Unparsed::Refused(Counter::Truncated), Ip4::UNSPECIFIED);
    };
    let ether_type = head.load16::<12>();
    if ether_type == ETHERTYPE_ARP {
        return (Unparsed::Arp, Ip4::UNSPECIFIED);
    }
    if ether_type != ETHERTYPE_IPV4 {
        return (Unparsed::Refused(Counter::OtherEtherType), Ip4::UNSPECIFIED);
    }
    let (reason, dst) = judge_ipv4(frame);
    (Unparsed::Refused(reason), dst)
}

/// Names what was refused of an IPv4 packet, and its destination (zero if it is cut off).
#[inline(always)]
pub fn judge_ipv4<F: Frame>(frame: F) -> (Counter, Ip4) {
    let Some(head) = frame.window::<HEAD>(0) else { return (Counter::Truncated, Ip4::UNSPECIFIED) };
    let version_and_header = head.load8::<L3>();
    let header = (version_and_header & 0xf) as usize * 4;
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>()) as usize;
    let [_, proto] = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    let reason = if version_and_header >> 4 != 4 || header < Ipv4Hdr::LEN {
        Counter::Malformed
    } else if u16::from_be(head.load16::<{ L3 + 6 }>()) & LATER_FRAGMENT != 0 {
        Counter::Fragment
    } else if proto != Proto::Tcp.number() && proto != Proto::Udp.number() {
        Counter::OtherProtocol
    } else if L3 + ip_len > frame.len()
        || frame.window::<{ UdpHeader::LEN }>(L3 + header).is_none()
        || proto == Proto::Tcp.number() && frame.window::<{ TcpHeader::LEN }>(L3 + header).is_none()
    {
        Counter::Truncated
    } else {
        Counter::Malformed
    };
    (reason, Ip4::from_word(head.load32::<{ L3 + 16 }>()))
}

/// The sum of the pseudo header of `len` bytes of TCP or UDP: what a checksum field holds that the device is to
/// complete. Addresses are words in wire order.
#[inline(always)]
pub const fn pseudo_sum(src: u32, dst: u32, proto: Proto, len: u16) -> u16 {
    let sum = checksum::words(src)
        + checksum::words(dst)
        + u16::from_ne_bytes([0, proto.number()]) as u32
        + u16::from_ne_bytes(len.to_be_bytes()) as u32;
    checksum::fold(sum)
}

/// What the fast path needs of a segment or datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// [`FlowKey::words`].
    pub key: [u64; 2],
    pub ack: u32,
    pub ttl: u8,
    pub ip_len: u16,
    pub src_mac: MacBits,
}

impl Plain {
    /// Where the TCP or UDP header starts.
    pub const L4: u16 = (L3 + Ipv4Hdr::LEN) as u16;
}

/// What [`segment`] says of a segment without IPv4 options that has only ACK of SYN, FIN, RST and ACK; nothing for any
/// other frame. One bounds check, fixed offsets, and no value that outlives the way out: nearly every packet goes
/// through here.
#[inline(always)]
pub fn plain<F: Frame>(frame: F, vpc: VpcIndex) -> Option<Plain> {
    let head = frame.window::<{ Plain::L4 as usize + TcpHeader::LEN }>(0)?;
    let source_and_type = head.load64::<6>();
    // Version 4, five words of header.
    if (source_and_type >> 48) as u16 != ETHERTYPE_IPV4 || head.load8::<L3>() != 0x45 {
        return None;
    }
    // Fragment bits (all but "don't fragment"), TTL, protocol: the last must be TCP, the first zero.
    let fragment_to_proto = head.load32::<{ L3 + 6 }>();
    let fixed = u32::from_ne_bytes([0x3f, 0xff, 0, 0xff]);
    if fragment_to_proto & fixed != u32::from_ne_bytes([0, 0, 0, Proto::Tcp.number()]) {
        return None;
    }
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>());
    let [offset, flags] = head.load16::<{ L3 + Ipv4Hdr::LEN + 12 }>().to_ne_bytes();
    let tcp_header = (offset >> 4) as usize * 4;
    if L3 + ip_len as usize > frame.len()
        || tcp_header < TcpHeader::LEN
        || Ipv4Hdr::LEN + tcp_header > ip_len as usize
        || !Flags(flags).ack_only()
    {
        return None;
    }
    let ports = head.load32::<{ L3 + Ipv4Hdr::LEN }>() as u64;
    Some(Plain {
        key: [head.load64::<{ L3 + 12 }>(), ports | (vpc.0 as u64) << 32 | (Proto::Tcp.number() as u64) << 48],
        ack: u32::from_be(head.load32::<{ L3 + Ipv4Hdr::LEN + 8 }>()),
        ttl: (fragment_to_proto >> 16) as u8,
        ip_len,
        src_mac: MacBits::from_word(source_and_type),
    })
}

/// An address that no packet may come from or be forwarded to (RFC 1122 section 3.2.1.3): zero, loopback, multicast,
/// reserved, broadcast.
#[inline(always)]
pub fn unroutable(ip: Ip4) -> bool {
    let [first, ..] = ip.to_wire();
    first == 0 || first == 127 || first >= 224
}

#[cfg(test)]
mod tests;
