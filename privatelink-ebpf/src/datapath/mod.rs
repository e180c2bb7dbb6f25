//! What happens to a frame: the pipeline on one screen, and a module for each of its steps.
//!
//! ```text
//! frame ─► parse ─► flow_table::find ─┬─ hit, plain segment ─────────────────────────► forward
//!                                     ├─ hit, SYN FIN RST or a closing flow: lifecycle ─┤
//!                                     └─ miss ─► SYN to a listener: open ───────────────┘
//!                                                anything else: refused by name, with RST where TCP asks for one
//! ```
//!
//! Pure: same frame, tables and clock give the same verdict. Nothing here writes a packet byte; a [`Rewrite`] says what to
//! change, and the hook does it. A frame that XDP does not finish changes no table on its way to TC.

pub mod arp;
pub mod atomic;
pub mod collect;
pub mod flow_table;
pub mod fragment;
pub mod frame;
pub mod icmp;
pub mod lifecycle;
pub mod limit;
pub mod mss;
pub mod open;
pub mod parse;
pub mod ports;
pub mod proxy;
pub mod refusal;
pub mod reset;
pub mod security;
pub mod tables;
pub mod tcp_state;
pub mod udp;
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
        Counter, MacBits, Proto, Stage, VpcIndex,
        flow::Meta,
        service::{Port, PortFlags, Target},
    },
    wire::{ETHERTYPE_IPV4, L3, PROTO_ICMP, tcp::Flags, udp::UdpHeader},
};

/// Decides what happens to a frame that came in on interface `ifindex`: forwarded, rewritten like this, or what else. What
/// the kernel's programs do one after the other.
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
    if head.load16::<12>() != ETHERTYPE_IPV4 {
        return Stage::Slow;
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

/// The first half of [`decide`], and all of it for nearly every TCP packet: a segment that cannot change its flow's state, and a
/// flow about which nothing is to be done. Nothing: [`slow`] decides, and no table has been changed. In the kernel each half
/// is a program with a stack of its own.
///
/// `apply` rewrites the packet; its result is the function's. It comes before the counting, so that a rewrite's fields need
/// not be kept over the look-ups of the counters.
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
    forward_plain(frame, t, ifindex, &segment, slot, slot.meta().idle_s as u32, Proto::Tcp, apply)
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
        Some(segment) => consider::<false, F, T>(frame, t, port, ifindex, t.lend(segment)),
        None => Err(refusal::judge_unparsed(frame, t, port, ifindex)),
    }
}

/// Forwards a plain segment or datagram, unless there is something to be done about it or its flow, which this direction
/// keeps alive for `lifetime_s`.
#[expect(clippy::too_many_arguments, reason = "inlined, so that constants reach the rewrite")]
#[inline(always)]
fn forward_plain<'t, F: Frame, T: Tables<'t>, R>(
    frame: F,
    t: T,
    ifindex: u32,
    segment: &Plain,
    slot: SlotRef,
    lifetime_s: u32,
    proto: Proto,
    apply: impl FnOnce(&Rewrite) -> R,
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
        && (segment.ip_len as u32 <= out.mtu || frame.segmented() && plain_segments_fit(frame, proto, out.mtu))
        && (!meta.forward() || way.came_from(segment.src_mac, ifindex));
    if !plain {
        return None;
    }
    let rewrite = rewrite(slot, &way, out, Plain::L4, Mss::UNCHANGED, proto);
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
fn consider<'t, const PROXIED: bool, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    port: &Port,
    ifindex: u32,
    segment: &Segment,
) -> Result<Rewrite, Verdict> {
    let (slot, fresh) = match t.find(&segment.key) {
        // The slow half has found that the flow lives.
        Some(slot) if PROXIED => (slot, false),
        None if PROXIED => return Err(refuse(t, Counter::FlowRaced)),
        Some(slot) if !segment.flags.opens() || t.supersede(segment) == 0 => (slot, false),
        Some(_) | None => (open(t, port, ifindex, segment)?, true),
    };
    let meta = slot.meta();
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
    let out = passage(frame, t, &way, meta, segment)?;
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
        mss = mss::clamp(frame, segment, port.mtu, out.mtu);
        if T::HOOK == Hook::Tc && !fresh && !PROXIED && looks_partial(segment) {
            t.keep_to_tc(segment);
        }
    }
    slot.touch(now);
    if meta.forward() && !way.came_from(segment.src_mac, ifindex) {
        t.move_client(segment, ifindex);
    }
    let mut rewrite = rewrite(slot, &way, out, segment.l4, mss, Proto::Tcp);
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

/// Where a flow's packets of one direction go.
struct Way {
    ifindex: u32,
    dst_mac: MacBits,
    /// The client's Ethernet address and the interface on its side, as the flow knows them.
    peer: (MacBits, u16),
}

impl Way {
    /// To the target: by its record, which the agent keeps up to date for all its flows. To the client: the way that its own
    /// packets came.
    #[inline(always)]
    fn of(slot: SlotRef, meta: Meta, target: &Target) -> Self {
        let (peer_mac, peer_ifindex) = slot.peer();
        let (ifindex, dst_mac) =
            if meta.forward() { (target.ifindex, target.mac_bits()) } else { (peer_ifindex as u32, peer_mac) };
        Self { ifindex, dst_mac, peer: (peer_mac, peer_ifindex) }
    }

    /// The client's segment came from where the flow's replies go to.
    #[inline(always)]
    fn came_from(&self, mac: MacBits, ifindex: u32) -> bool {
        self.peer == (mac, ifindex as u16)
    }
}

/// The packet, or each of the segments that the frame stands for, fits into `mtu`.
#[inline(always)]
fn fits<F: Frame>(frame: F, segment: &Segment, mtu: u32) -> bool {
    let headers = (segment.l4 - L3 as u16) as u32 + segment.header as u32;
    segment.ip_len as u32 <= mtu || frame.segmented() && headers + frame.segment_size() <= mtu
}

/// [`fits`] for the segments or datagrams of a frame that the fast path is at.
#[inline(always)]
fn plain_segments_fit<F: Frame>(frame: F, proto: Proto, mtu: u32) -> bool {
    let header = match proto {
        Proto::Tcp => match frame.window::<1>(Plain::L4 as usize + 12) {
            Some(offset) => (offset.load8::<0>() >> 4) as u32 * 4,
            None => return false,
        },
        Proto::Udp => UdpHeader::LEN as u32,
    };
    Plain::L4 as u32 - L3 as u32 + header + frame.segment_size() <= mtu
}

/// The port that a packet of a flow leaves by, unless it may not leave there.
#[inline(always)]
fn passage<'t, F: Frame, T: Tables<'t>>(
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
    if !fits(frame, segment, out.mtu) {
        return Err(error::answer(t, segment, Cause::TooBig(out.mtu as u16)));
    }
    Ok(out)
}

#[inline(always)]
fn usable_by_xdp(meta: Meta, out: &Port) -> bool {
    out.flags.has(PortFlags::XDP_TRANSMIT) && meta.flags & Meta::TC_ONLY == 0
}

#[inline(always)]
fn rewrite(slot: SlotRef, way: &Way, out: &Port, l4: u16, mss: Mss, proto: Proto) -> Rewrite {
    Rewrite {
        proto,
        src: slot.new_src(),
        dst: slot.new_dst(),
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
    }
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
    open::opened(t, port, ifindex, segment, T::HOOK == Hook::Tc && looks_partial(segment))
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

/// The checksum field holds the sum of the pseudo header and nothing more: the mark of a sender whose device is to complete
/// it. One in 65,536 complete checksums looks the same.
#[inline(always)]
fn looks_partial(segment: &Segment) -> bool {
    let key = &segment.key;
    let l4_len = segment.ip_len.wrapping_sub(segment.l4.wrapping_sub(L3 as u16));
    segment.check == parse::pseudo_sum(key.src.word(), key.dst.word(), Proto::from_number(key.proto), l4_len)
}

/// XDP only: counts and hands to TC what only TC can rewrite.
#[inline(always)]
fn partial_checksum<'t, T: Tables<'t>>(t: T, segment: &Segment) -> bool {
    let partial = looks_partial(segment);
    if partial {
        t.count(Counter::PartialChecksum);
    }
    partial
}

#[cfg(test)]
mod tests;
