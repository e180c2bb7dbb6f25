//! Bytes to facts. Every field that later decides or is rewritten has been checked here.

use super::frame::Frame;
use crate::{
    abi::{Counter, Ip4, L4Port, MacBits, Proto, VpcIndex, flow::FlowKey},
    wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ipv4Hdr, L3, tcp::{Flags, TcpHeader}},
};

/// A TCP segment over IPv4, unfragmented, complete up to its TCP header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub key: FlowKey,
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    pub ttl: u8,
    /// TCP header length in bytes.
    pub header: u8,
    /// Where the TCP header starts in the frame.
    pub l4: u16,
    /// IP total length in bytes.
    pub ip_len: u16,
    pub check: u16,
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
    /// What a frame without addresses is.
    pub const NONE: Self = Self {
        key: FlowKey::tcp(VpcIndex::NONE, Ip4::UNSPECIFIED, L4Port::new(0), Ip4::UNSPECIFIED, L4Port::new(0)),
        seq: 0,
        ack: 0,
        flags: Flags(0),
        ttl: 0,
        header: 0,
        l4: 0,
        ip_len: 0,
        check: 0,
        src_mac: MacBits::from_word(0),
        dst_mac: MacBits::from_word(0),
    };

    /// Of a packet that is no TCP segment only the destination is told.
    const fn to(dst: Ip4) -> Self {
        Self { key: FlowKey::tcp(VpcIndex::NONE, Ip4::UNSPECIFIED, L4Port::new(0), dst, L4Port::new(0)), ..Self::NONE }
    }
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    Segment,
    Arp,
    /// Refused for the reason, unless it is somebody else's: `Segment::key.dst` is the destination, if the frame has one.
    Refused(Counter),
}

/// Parses the frame that came in on a port of `vpc`. (A pair and no `Result`: with one, the fields of the segment that is
/// not there become registers that are not set, which the verifier refuses.)
#[inline(always)]
pub fn parse<F: Frame>(frame: F, vpc: VpcIndex) -> (Segment, Parsed) {
    // Ethernet and IPv4 header in one check: no ARP packet is shorter than that.
    let Some(head) = frame.window::<{ L3 + Ipv4Hdr::LEN }>(0) else {
        return (Segment::NONE, Parsed::Refused(Counter::Truncated));
    };
    let source_and_type = head.load64::<6>();
    let ether_type = (source_and_type >> 48) as u16;
    if ether_type == ETHERTYPE_ARP {
        return (Segment::NONE, Parsed::Arp);
    }
    if ether_type != ETHERTYPE_IPV4 {
        return (Segment::NONE, Parsed::Refused(Counter::OtherEtherType));
    }
    let src = Ip4::from_word(head.load32::<{ L3 + 12 }>());
    let dst = Ip4::from_word(head.load32::<{ L3 + 16 }>());
    let version_and_header = head.load8::<L3>();
    let header = (version_and_header & 0xf) as usize * 4;
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>());
    if version_and_header >> 4 != 4 || header < Ipv4Hdr::LEN {
        return (Segment::to(dst), Parsed::Refused(Counter::Malformed));
    }
    // More fragments, or an offset.
    if u16::from_be(head.load16::<{ L3 + 6 }>()) & 0x3fff != 0 {
        return (Segment::to(dst), Parsed::Refused(Counter::Fragment));
    }
    let ttl_and_proto = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    if ttl_and_proto[1] != Proto::Tcp.number() {
        return (Segment::to(dst), Parsed::Refused(Counter::OtherProtocol));
    }
    let l4 = L3 + header;
    if L3 + ip_len as usize > frame.len() {
        return (Segment::to(dst), Parsed::Refused(Counter::Truncated));
    }
    let Some(tcp) = frame.window::<{ TcpHeader::LEN }>(l4) else {
        return (Segment::to(dst), Parsed::Refused(Counter::Truncated));
    };
    let [offset, flags] = tcp.load16::<12>().to_ne_bytes();
    let tcp_header = (offset >> 4) as usize * 4;
    if tcp_header < TcpHeader::LEN || header + tcp_header > ip_len as usize {
        return (Segment::to(dst), Parsed::Refused(Counter::Malformed));
    }
    let ports = tcp.load32::<0>();
    let segment = Segment {
        key: FlowKey::tcp(vpc, src, L4Port::from_word(ports as u16), dst, L4Port::from_word((ports >> 16) as u16)),
        seq: u32::from_be(tcp.load32::<4>()),
        ack: u32::from_be(tcp.load32::<8>()),
        flags: Flags(flags),
        ttl: ttl_and_proto[0],
        header: tcp_header as u8,
        l4: l4 as u16,
        ip_len,
        check: tcp.load16::<{ TcpHeader::CHECK }>(),
        src_mac: MacBits::from_word(source_and_type),
        dst_mac: MacBits::from_word(head.load64::<0>()),
    };
    (segment, Parsed::Segment)
}

/// An address that no packet may come from or be forwarded to (RFC 1122 section 3.2.1.3): zero, loopback, multicast,
/// reserved, broadcast.
#[inline(always)]
pub fn unroutable(ip: Ip4) -> bool {
    let [first, ..] = ip.to_wire();
    first == 0 || first == 127 || first >= 224
}
