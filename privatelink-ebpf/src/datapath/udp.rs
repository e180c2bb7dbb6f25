//! UDP: a flow is its addresses and ports, from one datagram to the next.
//!
//! A flow is half-open ([`FlowState::Unreplied`]) until the target replies, and counts against the half-open budgets
//! until then; afterwards it lives for the listener's idle timeout. There is nothing to close and nobody to reset: what
//! is refused is dropped and counted, and a datagram of a client whose flow is over opens another. Its source port is
//! given back with the flow, because no target holds an address pair in UDP.
//!
//! XDP looks at every datagram for the mark of a sender that leaves checksums to its device, as there is no handshake
//! in which a flow could show it once; zero (no checksum) stays zero.

use super::{
    Family, V4, Way, count_packet,
    flow_table::{self, SlotRef},
    forward_plain,
    frame::Frame,
    lifecycle,
    open::opened,
    parse::{self, Plain, Segment},
    partial_checksum, passage,
    refusal::{self, refuse, to_tc},
    rewrite,
    tables::{Hook, Tables},
    tcp_state::{lifetime, lifetime_unchanged},
    translate,
    verdict::{Mss, Rewrite, Verdict},
};
use crate::{
    abi::{
        Counter, Ip4, L4Port, MacBits, Proto, VpcIndex,
        flow::{FlowKey, FlowState, Meta},
        service::Port,
    },
    wire::{ETHERTYPE_IPV4, Ipv4Hdr, L3, tcp::Flags, udp::UdpHeader},
};

/// [`super::decide`] for UDP over IPv4: whether a frame is that, [`super::stage`] says.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Rewrite, Verdict> {
    match fast(frame, t, ifindex, |rewrite| *rewrite) {
        Some(rewrite) => Ok(rewrite),
        None => slow(frame, t, ifindex),
    }
}

/// A datagram without IPv4 options of a flow about which nothing is to be done; as [`super::fast`].
#[inline(always)]
pub fn fast<'t, F: Frame, T: Tables<'t>, R>(
    frame: F,
    t: T,
    ifindex: u32,
    apply: impl FnOnce(&Rewrite) -> R,
) -> Option<R> {
    let port = t.port(ifindex)?;
    if port.vpc == VpcIndex::NONE {
        return None;
    }
    let datagram = plain(frame, port.vpc, T::HOOK == Hook::Xdp)?;
    let slot = flow_table::find_primary(t, datagram.key)?;
    let meta = slot.meta();
    if meta.translated || meta.flags & Meta::METERED != 0 {
        return None;
    }
    let lifetime = lifetime_unchanged(meta)?;
    forward_plain::<V4, _, _, _>(frame, t, ifindex, &datagram, slot, lifetime, Plain::L4, Proto::Udp, apply)
}

/// The rest of [`decide`].
#[inline(always)]
pub fn slow<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Rewrite, Verdict> {
    let port = super::entrance(t, ifindex)?;
    match datagram(frame, port.vpc) {
        Some(datagram) => consider::<V4, _, _>(frame, t, port, ifindex, t.lend(datagram)),
        None => {
            let (reason, dst) = parse::judge_ipv4(frame);
            Err(refusal::judge_refused(t, port, reason, dst))
        }
    }
}

/// Judges a datagram that the fast path has left.
#[inline(always)]
pub fn consider<'t, A: Family<'t>, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    port: &Port,
    ifindex: u32,
    segment: &Segment,
) -> Result<Rewrite<A::Address>, Verdict> {
    if T::HOOK == Hook::Xdp && partial_checksum(t, segment) {
        return Err(to_tc(t));
    }
    let mut over = 0;
    let (slot, fresh) = match t.find(&segment.key) {
        // The stage of the packet's own family has found that the flow lives.
        Some(slot) if A::TRANSLATES => (slot, false),
        None if A::TRANSLATES => return Err(refuse(t, Counter::FlowRaced)),
        Some(slot)
            if !overdue(t, slot) || {
                over = lifecycle::retire(t, segment);
                over == 0
            } =>
        {
            (slot, false)
        }
        // The target's side opens nothing.
        Some(slot) if !slot.meta().forward() => return Err(refuse(t, Counter::from_bits(over as u8))),
        Some(_) | None => (opened(t, port, ifindex, segment, false)?, true),
    };
    let meta = slot.meta();
    if translate::is_elsewhere::<A>(meta) {
        return Err(translate::elsewhere::<A, _>(t));
    }
    let index = slot.target();
    let Some(target) = t.target(index) else { return Err(refuse(t, Counter::FlowRaced)) };
    let way = Way::of(slot, meta, target);
    let out = passage::<A, _, _>(frame, t, &way, meta, segment)?;
    // A new flow's first datagram has been counted with it.
    if !fresh && meta.flags & Meta::METERED != 0 && t.meter(slot.endpoint() as u32, segment.ip_len as u32) == 0 {
        return Err(Verdict::Drop(Counter::EndpointBitRateLimit));
    }
    if !fresh && meta.state == FlowState::Unreplied && !meta.forward() && t.replied(segment) == 0 {
        return Err(refuse(t, Counter::NoFlow));
    }
    // A client elsewhere is not believed at once, and does not put the flow's end off until it is.
    if !meta.forward() || way.came_from(segment.src_mac, ifindex) || t.move_client(segment, ifindex) != 0 {
        slot.touch(t.now());
    }
    let rewrite = rewrite::<A, _>(t, slot, &way, target, out, segment.l4, Mss::UNCHANGED, Proto::Udp);
    let Some(rewrite) = rewrite else { return Err(refuse(t, Counter::FlowRaced)) };
    let endpoint = slot.endpoint();
    if !slot.current() {
        return Err(refuse(t, Counter::FlowRaced));
    }
    count_packet(t, endpoint, index, meta.forward(), segment.ip_len);
    Ok(rewrite)
}

/// The flow may be over: its target is gone, or this direction has been silent for long enough.
#[inline(always)]
fn overdue<'t, T: Tables<'t>>(t: T, slot: SlotRef) -> bool {
    let meta = slot.meta();
    t.target(slot.target()).is_none_or(|target| target.generation != slot.generation())
        || t.now().wrapping_sub(slot.last_seen()) > t.clock().ticks(lifetime(meta.state, meta.idle_s))
}

/// More fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;

/// The datagram that came in on a port of `vpc`, or its first fragment, complete in its lengths. Nothing if the frame
/// is something else, which [`parse::judge_ipv4`] names.
#[inline(always)]
pub fn datagram<F: Frame>(frame: F, vpc: VpcIndex) -> Option<Segment> {
    let head = frame.window::<{ L3 + Ipv4Hdr::LEN }>(0)?;
    let source_and_type = head.load64::<6>();
    let version_and_header = head.load8::<L3>();
    let header = (version_and_header & 0xf) as usize * 4;
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>());
    let bits = u16::from_be(head.load16::<{ L3 + 6 }>());
    let [ttl, proto] = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    let l4 = L3 + header;
    if (source_and_type >> 48) as u16 != ETHERTYPE_IPV4
        || version_and_header >> 4 != 4
        || header < Ipv4Hdr::LEN
        || bits & parse::LATER_FRAGMENT != 0
        || proto != Proto::Udp.number()
        || L3 + ip_len as usize > frame.len()
    {
        return None;
    }
    let udp = frame.window::<{ UdpHeader::LEN }>(l4)?;
    let length = u16::from_be(udp.load16::<{ UdpHeader::LENGTH }>()) as usize;
    // The first fragment's length is that of the whole datagram.
    if length < UdpHeader::LEN || header + length > ip_len as usize && bits & MORE_FRAGMENTS == 0 {
        return None;
    }
    let src = Ip4::from_word(head.load32::<{ L3 + 12 }>());
    let dst = Ip4::from_word(head.load32::<{ L3 + 16 }>());
    let ports = udp.load32::<0>();
    let (src_port, dst_port) = (L4Port::from_word(ports as u16), L4Port::from_word((ports >> 16) as u16));
    Some(Segment {
        key: FlowKey::tcp(vpc, src, src_port, dst, dst_port).with_proto(Proto::Udp.number()),
        seq: 0,
        ack: 0,
        flags: Flags(0),
        ttl,
        header: UdpHeader::LEN as u8,
        l4: l4 as u16,
        ip_len,
        partial: udp.load16::<{ UdpHeader::CHECK }>()
            == parse::pseudo_sum(src.word(), dst.word(), Proto::Udp, ip_len.wrapping_sub(header as u16)),
        src_mac: MacBits::from_word(source_and_type),
        dst_mac: MacBits::from_word(head.load64::<0>()),
    })
}

/// What [`datagram`] says of one without IPv4 options, as [`parse::plain`]. With `complete` only one whose checksum is
/// no partial one.
#[inline(always)]
fn plain<F: Frame>(frame: F, vpc: VpcIndex, complete: bool) -> Option<Plain> {
    let head = frame.window::<{ Plain::L4 as usize + UdpHeader::LEN }>(0)?;
    let source_and_type = head.load64::<6>();
    if (source_and_type >> 48) as u16 != ETHERTYPE_IPV4 || head.load8::<L3>() != 0x45 {
        return None;
    }
    let fragment_to_proto = head.load32::<{ L3 + 6 }>();
    let fixed = u32::from_ne_bytes([0x3f, 0xff, 0, 0xff]);
    if fragment_to_proto & fixed != u32::from_ne_bytes([0, 0, 0, Proto::Udp.number()]) {
        return None;
    }
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>());
    let length = u16::from_be(head.load16::<{ L3 + Ipv4Hdr::LEN + UdpHeader::LENGTH }>()) as usize;
    if L3 + ip_len as usize > frame.len() || length < UdpHeader::LEN || Ipv4Hdr::LEN + length > ip_len as usize {
        return None;
    }
    let addresses = head.load64::<{ L3 + 12 }>();
    let check = head.load16::<{ L3 + Ipv4Hdr::LEN + UdpHeader::CHECK }>();
    let l4_len = ip_len - Ipv4Hdr::LEN as u16;
    if complete && check == parse::pseudo_sum(addresses as u32, (addresses >> 32) as u32, Proto::Udp, l4_len) {
        return None;
    }
    let ports = head.load32::<{ L3 + Ipv4Hdr::LEN }>() as u64;
    Some(Plain {
        key: [addresses, ports | (vpc.0 as u64) << 32 | (Proto::Udp.number() as u64) << 48],
        ack: 0,
        ttl: (fragment_to_proto >> 16) as u8,
        ip_len,
        src_mac: MacBits::from_word(source_and_type),
    })
}
