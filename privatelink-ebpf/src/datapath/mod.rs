//! What happens to a frame: the pipeline on one screen, and a module for each of its steps.
//!
//! ```text
//! frame ─► parse ─► flow_table::find ─┬─ hit, plain segment ─────────────────────────► forward
//!                                     ├─ hit, SYN FIN RST or a closing flow: lifecycle ─┤
//!                                     └─ miss ─► SYN to a listener: open ───────────────┘
//!                                                anything else: refused by name, with RST where TCP asks for one
//! ```
//!
//! Pure: same frame, tables and clock give the same verdict. Nothing here writes a packet byte; a [`Rewrite`] says what
//! to change, and the hook does it. A frame that XDP does not finish changes no table on its way to TC.

pub mod addresses;
pub mod arp;
pub mod atomic;
pub mod challenge;
pub mod collect;
pub mod flow_table;
pub mod fragment;
pub mod frame;
pub mod held;
pub mod icmp;
pub mod lifecycle;
pub mod limit;
pub mod mss;
pub mod opaque;
pub mod open;
pub mod parse;
pub mod ports;
pub mod proxy;
pub mod refusal;
pub mod reset;
pub mod security;
pub mod tables;
pub mod tcp_state;
pub mod translate;
pub mod udp;
pub mod v6;
pub mod verdict;

pub use frame::Frame;
pub use tables::{Hook, Tables};
pub use verdict::{Forward, Mss, Relay, Rewrite, Verdict};

use flow_table::SlotRef;
use fragment::Fragment;
use icmp::error::{self, Cause};
use lifecycle::Outcome;
use parse::{Plain, Segment};
use refusal::{refuse, to_tc};

use crate::{
    abi::{
        Counter, Ip4, MacBits, Proto, Stage, VpcIndex,
        flow::Meta,
        service::{Port, PortFlags, Target},
    },
    wire::{ETHERTYPE_IPV4, Ipv4Hdr, L3, PROTO_ICMP, ipv6::ETHERTYPE_IPV6, tcp::Flags, udp::UdpHeader},
};

/// Decides what happens to a frame that came in on interface `ifindex`: forwarded, rewritten like this, or what else.
/// What the kernel's programs do one after the other.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Forward, Verdict> {
    if let Some(rewrite) = fast(frame, t, ifindex, |rewrite| *rewrite) {
        return Ok(Forward::Packet(rewrite));
    }
    match stage(frame) {
        Stage::Udp => udp::decide(frame, t, ifindex).map(Forward::Packet),
        Stage::Fragment => match fragment::decide(frame, t, ifindex)? {
            Fragment::First(Proto::Udp) => udp::slow(frame, t, ifindex).map(Forward::Packet),
            Fragment::First(Proto::Tcp) => slow(frame, t, ifindex).map(Forward::Packet),
            Fragment::Later(relay) => Ok(Forward::Fragment(relay)),
        },
        Stage::Icmp => icmp::decide(frame, t, ifindex).map(Forward::Error),
        // Another rewrite: `v6::decide`; or none: `challenge::decide`.
        stage @ (Stage::V6
        | Stage::V6Slow
        | Stage::Icmp6
        | Stage::Answer
        | Stage::Challenge
        | Stage::Wait
        | Stage::ToIpv6
        | Stage::ToIpv4) => Err(Verdict::GoOn(stage)),
        Stage::Slow | Stage::IcmpError | Stage::Proxy | Stage::ProxySend => {
            slow(frame, t, ifindex).map(Forward::Packet)
        }
    }
}

/// The stage in which a frame goes on that [`fast`] has left.
#[inline(always)]
pub fn stage<F: Frame>(frame: F) -> Stage {
    let Some(head) = frame.window::<{ L3 + 10 }>(0) else { return Stage::Slow };
    let [_, proto] = head.load16::<{ L3 + 8 }>().to_ne_bytes();
    match head.load16::<12>() {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_IPV6 => return Stage::V6,
        _ => return Stage::Slow,
    }
    // More fragments, or an offset.
    if head.load16::<{ L3 + 6 }>() & u16::from_ne_bytes([0x3f, 0xff]) != 0 {
        return Stage::Fragment;
    }
    if proto == Proto::Udp.number() {
        Stage::Udp
    } else if proto == PROTO_ICMP {
        Stage::Icmp
    } else {
        Stage::Slow
    }
}

/// The first half of [`decide`], and all of it for nearly every TCP packet: a segment that cannot change its flow's
/// state, and a flow about which nothing is to be done. Nothing: [`slow`] decides, and no table has been changed. In
/// the kernel each half is a program with a stack of its own.
///
/// `apply` rewrites the packet; its result is the function's. It comes before the counting, so that a rewrite's fields
/// need not be kept over the look-ups of the counters.
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
    let segment = parse::plain(frame, port.vpc)?;
    let slot = flow_table::find_primary(t, segment.key)?;
    if !slot.plainly_established() {
        return None;
    }
    let lifetime = slot.meta().idle_s as u32;
    forward_plain::<V4, _, _, _>(frame, t, ifindex, &segment, slot, lifetime, Plain::L4, Proto::Tcp, apply)
}

/// The port that a frame came in on.
#[inline(always)]
fn entrance<'t, T: Tables<'t>>(t: T, ifindex: u32) -> Result<&'t Port, Verdict> {
    match t.port(ifindex) {
        Some(port) if port.vpc != VpcIndex::NONE => Ok(port),
        // TC counts it, whether XDP is there or not.
        Some(_) | None if T::HOOK == Hook::Xdp => Err(to_tc(t)),
        Some(_) | None => {
            t.count(Counter::NoPort);
            Err(Verdict::Pass)
        }
    }
}

/// The second half of [`decide`] for all that has no stage of its own.
#[inline(always)]
pub fn slow<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Rewrite, Verdict> {
    let port = entrance(t, ifindex)?;
    match parse::segment(frame, port.vpc) {
        Some(segment) => consider::<V4, false, _, _>(frame, t, port, ifindex, t.lend(segment)),
        None => Err(refusal::judge_unparsed(frame, t, port, ifindex)),
    }
}

/// Forwards a plain segment or datagram, unless there is something to be done about it or its flow, which this
/// direction keeps alive for `lifetime_s`.
#[expect(clippy::too_many_arguments, reason = "inlined, so that constants reach the rewrite")]
#[inline(always)]
fn forward_plain<'t, A: Family<'t>, F: Frame, T: Tables<'t>, R>(
    frame: F,
    t: T,
    ifindex: u32,
    segment: &Plain,
    slot: SlotRef,
    lifetime_s: u32,
    l4: u16,
    proto: Proto,
    apply: impl FnOnce(&Rewrite<A::Address>) -> R,
) -> Option<R> {
    let meta = slot.meta();
    let index = slot.target();
    let target = t.target(index)?;
    let now = t.now();
    let way = Way::of(slot, meta, target);
    let out = t.port(way.ifindex)?;
    let plain = target.generation == slot.generation()
        && now.wrapping_sub(slot.last_seen()) <= t.clock().ticks(lifetime_s)
        && (T::HOOK == Hook::Tc || usable_by_xdp(meta, out))
        && out.vpc != VpcIndex::NONE
        && segment.ttl > 1
        && (segment.ip_len as u32 <= out.mtu || frame.segmented() && plain_segments_fit(frame, proto, l4, out.mtu))
        && (!meta.forward() || way.came_from(segment.src_mac, ifindex));
    if !plain {
        return None;
    }
    let rewrite = rewrite::<A, _>(t, slot, &way, target, out, l4, Mss::UNCHANGED, proto)?;
    let endpoint = slot.endpoint();
    if !slot.current() {
        return None;
    }
    slot.set_ack(segment.ack);
    slot.touch(now);
    let done = apply(&rewrite);
    count_packet(t, endpoint, index, meta.forward(), segment.ip_len);
    Some(done)
}

/// Judges a segment that the fast path has left: of a flow with a PROXY protocol header in the stage that is for those.
#[inline(always)]
fn consider<'t, A: Family<'t>, const PROXIED: bool, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    port: &Port,
    ifindex: u32,
    segment: &Segment,
) -> Result<Rewrite<A::Address>, Verdict> {
    let (slot, fresh) = match t.find(&segment.key) {
        // The slow half has found that the flow lives.
        Some(slot) if PROXIED || A::TRANSLATES => (slot, false),
        None if PROXIED || A::TRANSLATES => return Err(refuse(t, Counter::FlowRaced)),
        Some(slot) if !segment.flags.opens() || !lifecycle::supersede(t, segment) => (slot, false),
        Some(_) | None => (open(t, port, ifindex, segment)?, true),
    };
    let meta = slot.meta();
    if translate::is_elsewhere::<A>(meta) {
        return Err(translate::elsewhere::<A, _>(t));
    }
    let proxied = meta.flags & Meta::PROXY != 0;
    if !fresh && proxied != PROXIED {
        return Err(match (PROXIED, T::HOOK) {
            (true, _) => refuse(t, Counter::FlowRaced),
            (false, Hook::Xdp) => to_tc(t),
            (false, Hook::Tc) => proxy::left(),
        });
    }
    let index = slot.target();
    let Some(target) = t.target(index) else { return Err(refuse(t, Counter::FlowRaced)) };
    if target.generation != slot.generation() {
        return Err(refusal::end_flow(t, segment, Counter::TargetGone));
    }
    let now = t.now();
    if now.wrapping_sub(slot.last_seen()) > t.clock().ticks(meta.idle_s as u32) && t.silent(segment) != 0 {
        return Err(refusal::end_flow(t, segment, Counter::IdleExpired));
    }
    let way = Way::of(slot, meta, target);
    let out = passage::<A, _, _>(frame, t, &way, meta, segment)?;
    let mut close = None;
    if !fresh {
        if T::HOOK == Hook::Xdp && partial_checksum(t, segment) {
            return Err(to_tc(t));
        }
        // Before the segment changes anything; a new flow's first one has been counted with it.
        if meta.flags & Meta::METERED != 0 && t.meter(slot.endpoint() as u32, segment.ip_len as u32) == 0 {
            return Err(Verdict::Drop(Counter::EndpointBitRateLimit));
        }
        // Both ends may move a flow at the same time on two CPUs: who comes second judges what the first has left.
        let outcome = match lifecycle::step(t, segment) {
            Outcome::Drop(Counter::FlowRaced) => lifecycle::step(t, segment),
            outcome => outcome,
        };
        match outcome {
            Outcome::Forward => {}
            Outcome::ForwardAndClose(why) => close = Some(why),
            Outcome::Drop(reason) => return Err(refuse(t, reason)),
            Outcome::NoFlow => return Err(refusal::judge_stranger(t, port, segment)),
        }
    }
    let mut mss = Mss::UNCHANGED;
    if segment.flags.has(Flags::SYN) {
        let (mtu_in, mtu_out) = (port.mtu.saturating_sub(A::HEADER_IN), out.mtu.saturating_sub(A::HEADER_OUT));
        mss = mss::clamp(frame, segment, mtu_in, mtu_out);
        if T::HOOK == Hook::Tc && !fresh && !PROXIED && segment.partial {
            t.keep_to_tc(segment);
        }
    }
    slot.touch(now);
    if meta.forward() && !way.came_from(segment.src_mac, ifindex) {
        t.move_client(segment, ifindex);
    }
    let rewrite = rewrite::<A, _>(t, slot, &way, target, out, segment.l4, mss, Proto::Tcp);
    let Some(mut rewrite) = rewrite else { return Err(refuse(t, Counter::FlowRaced)) };
    if proxied {
        [rewrite.d_addr, rewrite.d_port] = proxy::differences(slot, &segment.key);
    }
    let endpoint = slot.endpoint();
    if !slot.current() {
        return Err(refuse(t, Counter::FlowRaced));
    }
    count_packet(t, endpoint, index, meta.forward(), segment.ip_len);
    if let Some(why) = close {
        t.close(&segment.key, why as u32);
    }
    Ok(rewrite)
}

/// How packets of one IP family, or from one to the other, are rewritten.
pub trait Family<'t> {
    /// How an address that a packet gets is held.
    type Address: Copy;
    /// The families on the two sides differ.
    const TRANSLATES: bool;
    /// Bytes of IP header of a packet that comes in, and of the same packet as it leaves.
    const HEADER_IN: u32;
    const HEADER_OUT: u32;

    /// The source and the destination that packets of `slot`'s flow get. Nothing: the flow is going.
    fn addresses<T: Tables<'t>>(t: T, slot: SlotRef, target: &'t Target) -> Option<(Self::Address, Self::Address)>;
}

/// IPv4 in and out.
#[derive(Clone, Copy)]
pub struct V4;

impl<'t> Family<'t> for V4 {
    type Address = Ip4;
    const TRANSLATES: bool = false;
    const HEADER_IN: u32 = Ipv4Hdr::LEN as u32;
    const HEADER_OUT: u32 = Ipv4Hdr::LEN as u32;

    #[inline(always)]
    fn addresses<T: Tables<'t>>(_: T, slot: SlotRef, _: &'t Target) -> Option<(Ip4, Ip4)> {
        Some((slot.new_src(), slot.new_dst()))
    }
}

/// Where a flow's packets of one direction go.
pub struct Way {
    ifindex: u32,
    dst_mac: MacBits,
    /// The client's Ethernet address and the interface on its side, as the flow knows them.
    peer: (MacBits, u16),
}

impl Way {
    /// To the target: by its record, which the agent keeps up to date for all its flows. To the client: the way that
    /// its own packets came.
    #[inline(always)]
    fn of(slot: SlotRef, meta: Meta, target: &Target) -> Self {
        let (peer_mac, peer_ifindex) = slot.peer();
        let (ifindex, dst_mac) =
            if meta.forward() { (target.ifindex, target.mac_bits()) } else { (peer_ifindex as u32, peer_mac) };
        Self { ifindex, dst_mac, peer: (peer_mac, peer_ifindex) }
    }

    /// The interface to leave by.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whom the frame goes to.
    #[inline(always)]
    pub fn dst_mac(&self) -> MacBits {
        self.dst_mac
    }

    /// The client's segment came from where the flow's replies go to.
    #[inline(always)]
    fn came_from(&self, mac: MacBits, ifindex: u32) -> bool {
        self.peer == (mac, ifindex as u16)
    }
}

/// The packet fits into `mtu`, or each of the segments that the frame stands for into `segments`.
#[inline(always)]
fn fits<F: Frame>(frame: F, segment: &Segment, mtu: u32, segments: u32) -> bool {
    let headers = (segment.l4 - L3 as u16) as u32 + segment.header as u32;
    segment.ip_len as u32 <= mtu || frame.segmented() && headers + frame.segment_size() <= segments
}

/// [`fits`] for the segments or datagrams of a frame that the fast path is at.
#[inline(always)]
fn plain_segments_fit<F: Frame>(frame: F, proto: Proto, l4: u16, mtu: u32) -> bool {
    let header = match proto {
        Proto::Tcp => match frame.window::<1>(l4 as usize + 12) {
            Some(offset) => (offset.load8::<0>() >> 4) as u32 * 4,
            None => return false,
        },
        Proto::Udp => UdpHeader::LEN as u32,
    };
    l4 as u32 - L3 as u32 + header + frame.segment_size() <= mtu
}

/// The port that a packet of a flow leaves by, unless it may not leave there.
#[inline(always)]
fn passage<'t, A: Family<'t>, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    way: &Way,
    meta: Meta,
    segment: &Segment,
) -> Result<&'t Port, Verdict> {
    let Some(out) = t.port(way.ifindex) else { return Err(refuse(t, Counter::FlowRaced)) };
    // The port has been detached; its flows are forgotten when they have been silent for long enough.
    if out.vpc == VpcIndex::NONE {
        return Err(refuse(t, Counter::NoPort));
    }
    if T::HOOK == Hook::Xdp && !usable_by_xdp(meta, out) {
        return Err(to_tc(t));
    }
    if segment.ttl <= 1 {
        return Err(error::answer(t, segment, Cause::TimeExceeded));
    }
    // A packet may be as much larger as its header becomes shorter. Segments of a super-packet keep their size: the
    // kernel makes up for the header.
    let mtu = (out.mtu + A::HEADER_IN).saturating_sub(A::HEADER_OUT);
    if !fits(frame, segment, mtu, out.mtu) {
        return Err(error::answer(t, segment, Cause::TooBig(mtu as u16)));
    }
    Ok(out)
}

#[inline(always)]
fn usable_by_xdp(meta: Meta, out: &Port) -> bool {
    out.flags.has(PortFlags::XDP_TRANSMIT) && meta.flags & Meta::TC_ONLY == 0
}

/// The rewrite of a packet of `slot`'s flow that leaves by `out`. Nothing: the flow is going.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined")]
fn rewrite<'t, A: Family<'t>, T: Tables<'t>>(
    t: T,
    slot: SlotRef,
    way: &Way,
    target: &'t Target,
    out: &Port,
    l4: u16,
    mss: Mss,
    proto: Proto,
) -> Option<Rewrite<A::Address>> {
    let (src, dst) = A::addresses(t, slot, target)?;
    Some(Rewrite {
        proto,
        src,
        dst,
        src_port: slot.new_src_port(),
        dst_port: slot.new_dst_port(),
        d_addr: slot.d_addr(),
        d_port: slot.d_port(),
        src_mac: out.mac_bits(),
        dst_mac: way.dst_mac,
        l4,
        mss,
        ifindex: way.ifindex,
        out: out.flags,
    })
}

/// A segment that no flow entry matches: opens one, or is refused.
#[inline(always)]
fn open<'t, T: Tables<'t>>(t: T, port: &Port, ifindex: u32, segment: &Segment) -> Result<SlotRef, Verdict> {
    if !segment.flags.opens() {
        return Err(refusal::judge_stranger(t, port, segment));
    }
    if T::HOOK == Hook::Xdp && partial_checksum(t, segment) {
        return Err(to_tc(t));
    }
    open::opened(t, port, ifindex, segment, T::HOOK == Hook::Tc && segment.partial)
}

/// Counts a forwarded packet for its endpoint and its target.
#[inline(always)]
fn count_packet<'t, T: Tables<'t>>(t: T, endpoint: u16, target: u32, from_client: bool, ip_len: u16) {
    // SAFETY: both are this CPU's own counters.
    unsafe {
        if let Some(stats) = t.endpoint_stats(endpoint as u32) {
            if from_client {
                (*stats).packets_in += 1;
                (*stats).bytes_in += ip_len as u64;
            } else {
                (*stats).packets_out += 1;
                (*stats).bytes_out += ip_len as u64;
            }
        }
        if let Some(stats) = t.target_stats(target) {
            if from_client {
                (*stats).packets_in += 1;
                (*stats).bytes_in += ip_len as u64;
            } else {
                (*stats).packets_out += 1;
                (*stats).bytes_out += ip_len as u64;
            }
        }
    }
}

/// XDP only: counts and hands to TC what only TC can rewrite.
#[inline(always)]
fn partial_checksum<'t, T: Tables<'t>>(t: T, segment: &Segment) -> bool {
    if segment.partial {
        t.count(Counter::PartialChecksum);
    }
    segment.partial
}

#[cfg(test)]
mod tests;
