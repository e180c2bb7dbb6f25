//! Bytes to facts. Every field that later decides or is rewritten has been checked here.

use super::frame::Frame;
use crate::{
    abi::{Counter, Ip4, Mac, VpcIndex, flow::FlowKey},
    wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, EthHdr, Ipv4Hdr, L3, tcp::{Flags, TcpHeader}},
};

/// A TCP segment over IPv4, unfragmented, complete up to its TCP header.
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
    pub src_mac: Mac,
    pub dst_mac: Mac,
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

/// A frame that is no [`Segment`].
#[derive(Clone, Copy, Debug)]
pub enum Unparsed {
    Arp,
    /// Refused for the reason, unless it is somebody else's: `to` is the destination, if the frame has one.
    Refused { reason: Counter, to: Option<Ip4> },
}

impl Unparsed {
    const fn without_address(reason: Counter) -> Self {
        Self::Refused { reason, to: None }
    }
}

/// Parses the frame that came in on a port of `vpc`.
#[inline(always)]
pub fn parse<F: Frame>(frame: F, vpc: VpcIndex) -> Result<Segment, Unparsed> {
    const TRUNCATED: Unparsed = Unparsed::without_address(Counter::Truncated);
    let Some(eth) = frame.read::<EthHdr>(0) else { return Err(TRUNCATED) };
    if eth.ether_type != ETHERTYPE_IPV4 {
        return Err(match eth.ether_type {
            ETHERTYPE_ARP => Unparsed::Arp,
            _ => Unparsed::without_address(Counter::OtherEtherType),
        });
    }
    let Some(ip) = frame.read::<Ipv4Hdr>(L3) else { return Err(TRUNCATED) };
    let src = Ip4::from_wire(ip.src_addr);
    let dst = Ip4::from_wire(ip.dst_addr);
    let refused = |reason| Unparsed::Refused { reason, to: Some(dst) };
    let header = (ip.vihl & 0xf) as usize * 4;
    let ip_len = u16::from_be_bytes(ip.tot_len);
    if ip.vihl >> 4 != 4 || header < Ipv4Hdr::LEN {
        return Err(refused(Counter::Malformed));
    }
    // More fragments, or an offset.
    if u16::from_be_bytes(ip.frags) & 0x3fff != 0 {
        return Err(refused(Counter::Fragment));
    }
    if ip.proto != crate::abi::Proto::Tcp.number() {
        return Err(refused(Counter::OtherProtocol));
    }
    let l4 = L3 + header;
    if L3 + ip_len as usize > frame.len() {
        return Err(refused(Counter::Truncated));
    }
    let Some(tcp) = frame.read::<TcpHeader>(l4) else { return Err(refused(Counter::Truncated)) };
    if tcp.len() < TcpHeader::LEN || header + tcp.len() > ip_len as usize {
        return Err(refused(Counter::Malformed));
    }
    Ok(Segment {
        key: FlowKey::tcp(vpc, src, tcp.source(), dst, tcp.dest()),
        seq: tcp.seq(),
        ack: tcp.ack(),
        flags: tcp.flags,
        ttl: ip.ttl,
        header: tcp.len() as u8,
        l4: l4 as u16,
        ip_len,
        check: u16::from_ne_bytes(tcp.check),
        src_mac: Mac(eth.src_addr),
        dst_mac: Mac(eth.dst_addr),
    })
}

/// An address that no packet may come from or be forwarded to (RFC 1122 section 3.2.1.3): zero, loopback, multicast,
/// reserved, broadcast.
#[inline(always)]
pub fn unroutable(ip: Ip4) -> bool {
    let [first, ..] = ip.to_wire();
    first == 0 || first == 127 || first >= 224
}
