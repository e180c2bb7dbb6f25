//! Flows whose two sides are of different IP families: a packet gets a header of the other family and is otherwise
//! forwarded as any (RFC 7915 section 4 and 5, for TCP and UDP). TC only.
//!
//! Flow entries, states, ports and budgets are those of every flow; what stands in an IPv6 packet's key for its
//! addresses stands there on one side only. The stages of the packet's own family find that a flow is translated, or
//! open it, and go on in the stage of the family that it becomes. What has no place in the other family's header is
//! refused by name: IPv4 options, IPv6 extension headers, fragments, datagrams without a checksum.

use core::marker::PhantomData;

use super::{
    Family, Rewrite, V4, consider, entrance,
    flow_table::SlotRef,
    frame::Frame,
    opaque::opaque,
    parse,
    refusal::{refuse, to_tc},
    tables::{Hook, Tables},
    udp,
    v6::{self, Rewrite6, V6},
    verdict::Verdict,
};
use crate::{
    abi::{Counter, Ip4, Proto, Stage, flow::Meta, service::Target},
    wire::{
        ETHERTYPE_IPV4, Ipv4Hdr, L3, checksum,
        ipv6::{ETHERTYPE_IPV6, Ipv6Header},
        udp::UdpHeader,
    },
};

/// By how much an IPv6 header is longer.
pub const LONGER: usize = Ipv6Header::LEN - Ipv4Hdr::LEN;
/// Where TCP or UDP begins in a packet of each family without options and extension headers.
pub const L4_IPV4: usize = L3 + Ipv4Hdr::LEN;
pub const L4_IPV6: usize = L3 + Ipv6Header::LEN;

/// From the other family into that of `A`.
#[derive(Clone, Copy)]
pub struct Into<A>(PhantomData<A>);

/// IPv4 in, IPv6 out.
pub type ToIpv6 = Into<V6>;
/// IPv6 in, IPv4 out.
pub type ToIpv4 = Into<V4>;

impl<'t, A: Family<'t>> Family<'t> for Into<A> {
    type Address = A::Address;
    const TRANSLATES: bool = true;
    const HEADER_IN: u32 = (Ipv4Hdr::LEN + Ipv6Header::LEN) as u32 - A::HEADER_IN;
    const HEADER_OUT: u32 = A::HEADER_OUT;

    #[inline(always)]
    fn addresses<T: Tables<'t>>(t: T, slot: SlotRef, target: &'t Target) -> Option<(A::Address, A::Address)> {
        A::addresses(t, slot, target)
    }
}

/// What becomes of a packet in a stage of the other kind: of a translated flow in one that does not translate, or the
/// other way round.
#[inline(always)]
pub fn elsewhere<'t, A: Family<'t>, T: Tables<'t>>(t: T) -> Verdict {
    if A::TRANSLATES {
        return refuse(t, Counter::FlowRaced);
    }
    match T::HOOK {
        Hook::Xdp => to_tc(t),
        Hook::Tc if A::HEADER_IN == Ipv6Header::LEN as u32 => Verdict::GoOn(Stage::ToIpv4).opaque(),
        Hook::Tc => Verdict::GoOn(Stage::ToIpv6).opaque(),
    }
}

/// The packet's flow is of another kind than this stage's.
#[inline(always)]
pub fn is_elsewhere<'t, A: Family<'t>>(meta: Meta) -> bool {
    meta.translated != A::TRANSLATES
}

/// An IPv4 segment or datagram that came in on interface `ifindex`, of a flow that goes on in IPv6.
#[inline(always)]
pub fn to_ipv6<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Rewrite6<'t>, Verdict> {
    let port = entrance(t, ifindex)?;
    let Some(head) = frame.window::<L4_IPV4>(0) else { return Err(refuse(t, Counter::Truncated)) };
    // Options, more fragments, or an offset.
    let whole = head.load16::<{ L3 + 6 }>() & u16::from_ne_bytes([0x3f, 0xff]) == 0;
    if head.load8::<L3>() != 0x45 || !whole {
        return Err(refuse(t, Counter::Untranslatable));
    }
    let [_, proto] = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    if proto == Proto::Udp.number() {
        let Some(datagram) = udp::datagram(frame, port.vpc) else { return Err(refuse(t, Counter::Malformed)) };
        // RFC 8200 section 8.1: none without a checksum.
        match frame.window::<{ UdpHeader::LEN }>(opaque(L4_IPV4) & 0x3f) {
            Some(udp) if udp.load16::<{ UdpHeader::CHECK }>() != 0 => {}
            Some(_) | None => return Err(refuse(t, Counter::Untranslatable)),
        }
        return udp::consider::<ToIpv6, _, _>(frame, t, port, ifindex, t.lend(datagram));
    }
    match parse::segment(frame, port.vpc) {
        Some(segment) => consider::<ToIpv6, false, _, _>(frame, t, port, ifindex, t.lend(segment)),
        None => Err(refuse(t, Counter::Malformed)),
    }
}

/// An IPv6 segment or datagram that came in on interface `ifindex`, of a flow that goes on in IPv4.
#[inline(always)]
pub fn to_ipv4<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Rewrite, Verdict> {
    let port = entrance(t, ifindex)?;
    if !v6::parse::lend(frame, t, port.vpc) {
        return Err(refuse(t, Counter::Malformed));
    }
    let segment = t.lent();
    if segment.l4 != v6::parse::PLAIN_L4 {
        return Err(refuse(t, Counter::Untranslatable));
    }
    match Proto::from_number(segment.key.proto) {
        Proto::Tcp => consider::<ToIpv4, false, _, _>(frame, t, port, ifindex, segment),
        Proto::Udp => udp::consider::<ToIpv4, _, _>(frame, t, port, ifindex, segment),
    }
}

/// A header that is written from its first byte on.
struct Header<const LEN: usize> {
    bytes: [u8; LEN],
    at: usize,
}

impl<const LEN: usize> Header<LEN> {
    #[inline(always)]
    fn new() -> Self {
        Self { bytes: [0; LEN], at: 0 }
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes[self.at] = *byte;
            self.at += 1;
        }
    }
}

/// The IPv6 header of a packet that was IPv4, behind its Ethernet header; nothing if it is cut short.
#[inline(always)]
pub fn ipv6_header<F: Frame>(frame: F, rewrite: &Rewrite6<'_>) -> Option<[u8; Ipv6Header::LEN]> {
    let head = frame.window::<L4_IPV4>(0)?;
    let class = head.load8::<{ L3 + 1 }>();
    let [total_hi, total_lo] = head.load16::<{ L3 + 2 }>().to_ne_bytes();
    let payload = u16::from_be_bytes([total_hi, total_lo]).wrapping_sub(Ipv4Hdr::LEN as u16);
    let [ttl, proto] = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    let mut header = Header::<{ Ipv6Header::LEN }>::new();
    header.put(&[0x60 | class >> 4, class << 4, 0, 0]);
    header.put(&payload.to_be_bytes());
    header.put(&[proto, ttl.wrapping_sub(1)]);
    header.put(&rewrite.src.to_wire());
    header.put(&rewrite.dst.to_wire());
    Some(header.bytes)
}

/// The IPv4 header of a packet that was IPv6: whole, and never to be fragmented, so that it needs no identification
/// (RFC 6864 section 4.1).
#[inline(always)]
pub fn ipv4_header<F: Frame>(frame: F, rewrite: &Rewrite) -> Option<[u8; Ipv4Hdr::LEN]> {
    let head = frame.window::<L4_IPV6>(0)?;
    let [version_and_class, class_and_label] = head.load16::<L3>().to_ne_bytes();
    let class = version_and_class << 4 | class_and_label >> 4;
    let payload = u16::from_be(head.load16::<{ L3 + Ipv6Header::PAYLOAD }>());
    let total = payload.wrapping_add(Ipv4Hdr::LEN as u16).to_be_bytes();
    let [proto, hops] = head.load16::<{ L3 + Ipv6Header::NEXT }>().to_ne_bytes();
    let ttl = hops.wrapping_sub(1);
    let Rewrite { src, dst, .. } = *rewrite;
    let sum = u16::from_ne_bytes([0x45, class]) as u32
        + u16::from_ne_bytes(total) as u32
        + u16::from_ne_bytes([0x40, 0]) as u32
        + u16::from_ne_bytes([ttl, proto]) as u32
        + checksum::words(src.word())
        + checksum::words(dst.word());
    let mut header = Header::<{ Ipv4Hdr::LEN }>::new();
    header.put(&[0x45, class]);
    header.put(&total);
    header.put(&[0, 0, 0x40, 0, ttl, proto]);
    header.put(&(!checksum::fold(sum)).to_ne_bytes());
    header.put(&Ip4::to_wire(src));
    header.put(&Ip4::to_wire(dst));
    Some(header.bytes)
}

/// The Ethernet type of each family.
pub const fn ether_type(ipv6: bool) -> u16 {
    if ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }
}
