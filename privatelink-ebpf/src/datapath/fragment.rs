//! IPv4 fragments of TCP and UDP (RFC 791 section 3.2), which are forwarded as fragments.
//!
//! The first one has the ports. It goes the way of a whole packet, through the stage of its protocol, and its ports are
//! noted under what its packet's fragments have in common; the others are sent after it, with new addresses and nothing
//! else: the checksum is in the first one and covers all. What is noted owns nothing, so it lies in an LRU table, and
//! only a packet that a flow or a listener is for is noted.
//!
//! A later one that comes before the first waits for it (`super::held`), in TC. Refused by name: a first fragment
//! without the whole TCP header, and one that could be behind such a one (RFC 1858, RFC 3128), and a later one that
//! overlaps the first.

use super::{
    Way, addresses, count_packet, entrance,
    frame::Frame,
    held,
    open::frontend,
    parse::LATER_FRAGMENT,
    refusal::{judge_refused, refuse, to_tc},
    tables::{Hook, Tables},
    usable_by_xdp,
    verdict::{Relay, Verdict},
};
use crate::{
    abi::{
        Counter, Ip4, L4Port, Proto, Stage, VpcIndex,
        flow::{FlowKey, Meta},
        fragment::{FirstFragment, FragmentKey, LIFETIME},
        service::Port,
    },
    wire::{Ipv4Hdr, L3, checksum, tcp::TcpHeader},
};

/// More fragments follow.
const MORE: u16 = 0x2000;

/// What a fragment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// The first one: it goes on in the stage of its protocol.
    First(Proto),
    /// A later one, sent on like this.
    Later(Relay),
}

/// Decides what happens to a fragment that came in on interface `ifindex`.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Fragment, Verdict> {
    let port = entrance(t, ifindex)?;
    let Some(head) = frame.window::<{ L3 + Ipv4Hdr::LEN }>(0) else {
        return Err(judge_refused(t, port, Counter::Truncated, Ip4::UNSPECIFIED));
    };
    let (src, dst) = (Ip4::from_word(head.load32::<{ L3 + 12 }>()), Ip4::from_word(head.load32::<{ L3 + 16 }>()));
    let version_and_header = head.load8::<L3>();
    let header = (version_and_header & 0xf) as u32 * 4;
    let ip_len = u16::from_be(head.load16::<{ L3 + 2 }>());
    let bits = u16::from_be(head.load16::<{ L3 + 6 }>());
    let [ttl, proto] = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    let offset = (bits & LATER_FRAGMENT) as u32 * 8;
    let len = (ip_len as u32).wrapping_sub(header);
    if version_and_header >> 4 != 4 || header < Ipv4Hdr::LEN as u32 || ip_len as u32 <= header {
        return Err(judge_refused(t, port, Counter::Malformed, dst));
    }
    if L3 + ip_len as usize > frame.len() {
        return Err(judge_refused(t, port, Counter::Truncated, dst));
    }
    let tcp = proto == Proto::Tcp.number();
    if !tcp && proto != Proto::Udp.number() {
        return Err(judge_refused(t, port, Counter::Fragment, dst));
    }
    // All but the last end where another can begin, and no packet is longer than its length field can say.
    if bits & MORE != 0 && len % 8 != 0 || offset + len > 0xffff {
        return Err(judge_refused(t, port, Counter::Malformed, dst));
    }
    if tcp && (offset == 0 && len < TcpHeader::LEN as u32 || offset == 8) {
        return Err(judge_refused(t, port, Counter::FragmentTiny, dst));
    }
    if !addresses::ours(t, port.vpc, dst) {
        return Err(judge_refused(t, port, Counter::NotOurs, dst));
    }
    let key = FragmentKey { src, dst, id: head.load16::<{ L3 + 4 }>(), vpc: port.vpc, proto, _pad: [0; 3] };
    if offset == 0 {
        let Some(ports) = frame.window::<4>(L3 + header as usize) else { return Err(refuse(t, Counter::Truncated)) };
        let first = FirstFragment {
            src_port: L4Port::from_word(ports.load16::<0>()),
            dst_port: L4Port::from_word(ports.load16::<2>()),
            seen: t.now(),
            len,
        };
        let flow = flow_key(&key, &first);
        if t.find(&flow).is_some() || frontend(t, &flow).is_some() {
            t.note_fragment(&key, &first);
            if held::awaited(t, &key) {
                return Err(wait(t));
            }
        }
        return Ok(Fragment::First(Proto::from_number(proto)));
    }
    match noted(t, &key) {
        Some(first) => later(t, &key, &first, offset, ttl, ip_len).map(Fragment::Later),
        None => Err(wait(t)),
    }
}

/// A fragment has to wait, or others wait for it: [`held::decide`] goes on.
#[inline(always)]
fn wait<'t, T: Tables<'t>>(t: T) -> Verdict {
    if T::HOOK == Hook::Xdp { to_tc(t) } else { Verdict::GoOn(Stage::Wait) }
}

/// What the fragments of an IPv4 packet of `vpc` have in common.
#[inline(always)]
pub fn key_of<F: Frame>(frame: F, vpc: VpcIndex) -> Option<FragmentKey> {
    let head = frame.window::<{ L3 + Ipv4Hdr::LEN }>(0)?;
    Some(FragmentKey {
        src: Ip4::from_word(head.load32::<{ L3 + 12 }>()),
        dst: Ip4::from_word(head.load32::<{ L3 + 16 }>()),
        id: head.load16::<{ L3 + 4 }>(),
        vpc,
        proto: head.load8::<{ L3 + 9 }>(),
        _pad: [0; 3],
    })
}

/// What the first fragment said, as long as its word is taken.
#[inline(always)]
pub fn noted<'t, T: Tables<'t>>(t: T, key: &FragmentKey) -> Option<FirstFragment> {
    t.fragment(key).filter(|first| t.now().wrapping_sub(first.seen) <= t.clock().ticks(LIFETIME))
}

#[inline(always)]
const fn flow_key(key: &FragmentKey, first: &FirstFragment) -> FlowKey {
    FlowKey::tcp(key.vpc, key.src, first.src_port, key.dst, first.dst_port).with_proto(key.proto)
}

#[inline(always)]
fn later<'t, T: Tables<'t>>(
    t: T,
    key: &FragmentKey,
    first: &FirstFragment,
    offset: u32,
    ttl: u8,
    ip_len: u16,
) -> Result<Relay, Verdict> {
    if offset < first.len {
        return Err(refuse(t, Counter::FragmentOverlap));
    }
    let Some(slot) = t.find(&flow_key(key, first)) else { return Err(refuse(t, Counter::NoFlow)) };
    let meta = slot.meta();
    let index = slot.target();
    let Some(target) = t.target(index) else { return Err(refuse(t, Counter::FlowRaced)) };
    if target.generation != slot.generation() {
        return Err(refuse(t, Counter::TargetGone));
    }
    if meta.translated {
        return Err(refuse(t, Counter::Untranslatable));
    }
    let way = Way::of(slot, meta, target);
    let Some(out) = t.port(way.ifindex) else { return Err(refuse(t, Counter::FlowRaced)) };
    if out.vpc == VpcIndex::NONE {
        return Err(refuse(t, Counter::NoPort));
    }
    if T::HOOK == Hook::Xdp && !usable_by_xdp(meta, out) {
        return Err(to_tc(t));
    }
    // Only a first fragment gets an ICMP error (RFC 1122 section 3.2.2).
    if ttl <= 1 {
        return Err(refuse(t, Counter::TtlExceeded));
    }
    if ip_len as u32 > out.mtu {
        return Err(refuse(t, Counter::MtuExceeded));
    }
    let relay = relay(key, slot.new_src(), slot.new_dst(), &way, out);
    let endpoint = slot.endpoint();
    if !slot.current() {
        return Err(refuse(t, Counter::FlowRaced));
    }
    if meta.flags & Meta::METERED != 0 && t.meter(endpoint as u32, ip_len as u32) == 0 {
        return Err(Verdict::Drop(Counter::EndpointBitRateLimit));
    }
    slot.touch(t.now());
    t.count(Counter::FragmentForwarded);
    count_packet(t, endpoint, index, meta.forward(), ip_len);
    Ok(relay)
}

#[inline(always)]
fn relay(key: &FragmentKey, src: Ip4, dst: Ip4, way: &Way, out: &Port) -> Relay {
    let d_addr =
        checksum::difference32(key.src.word(), src.word()) + checksum::difference32(key.dst.word(), dst.word());
    Relay {
        src,
        dst,
        d_addr: checksum::fold(d_addr),
        src_mac: out.mac_bits(),
        dst_mac: way.dst_mac,
        ifindex: way.ifindex,
        out: out.flags,
    }
}
