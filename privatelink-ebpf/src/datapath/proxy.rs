//! The PROXY protocol in the flow of a TCP connection: a header of [`LEN`] bytes that only the target sees.
//!
//! The header occupies the sequence numbers behind the client's SYN. What the client sends later has, on the target's
//! side, numbers greater by [`LEN`]; what the target acknowledges has, on the client's side, numbers less by [`LEN`]
//! (RFC 9293 section 3.4, RFC 2018). Tables and states know the client's side only.
//!
//! ```text
//! client's numbers    ISN │ ISN+1 …
//! target's numbers    ISN │ ISN+1 … header … │ ISN+1+LEN …
//! ```
//!
//! Until the target has accepted a connection, numbers go through as they are: what it answers to a SYN of a port pair
//! that it remembers is about another connection, and its client must see that, because the reset by which it answers
//! makes the target forget that one (RFC 9293 section 3.5.2).
//!
//! The header is in nobody's retransmission queue. So it goes out with every segment of the client that begins at
//! ISN+1, until the target has acknowledged it: with the acknowledgement that ends the handshake (a server may wait for
//! it before it greets), and again whenever the client repeats itself, which a target that misses the header makes it
//! do. Copies are trimmed by the target's TCP. A segment that carries data is preceded by one that carries the header,
//! so that no segment grows and none that stands for many is touched.

use super::{
    V4, consider, entrance,
    flow_table::SlotRef,
    frame::Frame,
    opaque::opaque,
    parse,
    refusal::refuse,
    tables::Tables,
    verdict::{Rewrite, Verdict},
};
use crate::{
    abi::{
        Counter, Ip4, L4Port,
        flow::{FlowKey, Meta},
    },
    wire::{
        L3, checksum,
        proxy_v2::LEN,
        tcp::{Flags, OPTION_END, OPTION_NOP, OPTION_SACK, TcpHeader},
    },
};

/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;

/// [`LEN`] in sequence numbers.
const SHIFT: u32 = LEN as u32;

/// What becomes of a segment of such a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proxied {
    /// Its differences cover the numbers below, not those of [`sacks`].
    pub rewrite: Rewrite,
    /// The new numbers, host order.
    pub seq: u32,
    pub ack: u32,
    /// The number of the header's first byte.
    pub first: u32,
    /// Length of the TCP header.
    pub header: u8,
    /// A reply: [`sacks`] says what its selective acknowledgements become.
    pub reply: bool,
    pub acknowledged: bool,
    pub inject: Inject,
    /// The consumer's side of the connection.
    pub src: Ip4,
    pub dst: Ip4,
    pub src_port: L4Port,
    pub dst_port: L4Port,
    /// Index into `ENDPOINT_IDS`; 0: none.
    pub endpoint: u16,
}

/// How the header goes out with a segment.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inject {
    /// Not at all.
    Nothing = 0,
    /// As the payload of the segment, which has none.
    Payload = 1,
    /// In a segment of its own, besides this one.
    Ahead = 2,
}

/// A number of the target's side, as the client knows it: never before the client's first byte.
#[inline(always)]
pub const fn to_client(number: u32, first: u32) -> u32 {
    let ahead = number.wrapping_sub(first);
    // Half of the number space is behind.
    if ahead <= SHIFT || ahead > i32::MAX as u32 { first } else { number.wrapping_sub(SHIFT) }
}

/// A number of the client's side, as the target of a flow with this meta knows it; it has had a header once the
/// handshake is over.
pub const fn to_target(number: u32, meta: Meta) -> u32 {
    let proxied = meta.flags & Meta::PROXY != 0 && !meta.state.half_open();
    if proxied { number.wrapping_add(SHIFT) } else { number }
}

/// [`to_client`] after the target has acknowledged the header: the first byte is forgotten, so that the connection may
/// go on for more than half of the number space.
#[inline(always)]
const fn to_client_later(number: u32) -> u32 {
    number.wrapping_sub(SHIFT)
}

/// What is known of a segment before its flow's state is looked at, in two words: less to keep over that.
#[derive(Clone, Copy)]
struct About {
    /// The number of the header's first byte, and the segment's own acknowledgement (upper half).
    numbers: u64,
    /// The bits below, and the endpoint (upper half).
    bits: u32,
}

impl About {
    const FROM_CLIENT: u32 = 1;
    const ACKNOWLEDGED: u32 = 2;
    /// The acknowledgement covers the header, and none before did.
    const COVERS_HEADER: u32 = 4;
    /// The handshake is over.
    const OPEN: u32 = 8;

    #[inline(always)]
    fn new(first: u32, ack: u32, meta: Meta, endpoint: u16, covers_header: bool) -> Self {
        let acknowledged = meta.flags & Meta::HEADER_ACKNOWLEDGED != 0;
        let bits = meta.forward() as u32 * Self::FROM_CLIENT
            | acknowledged as u32 * Self::ACKNOWLEDGED
            | covers_header as u32 * Self::COVERS_HEADER
            | !meta.state.half_open() as u32 * Self::OPEN;
        Self {
            numbers: opaque(first as u64 | (ack as u64) << 32),
            bits: opaque((bits | (endpoint as u32) << 16) as u64) as u32,
        }
    }

    #[inline(always)]
    const fn has(self, bit: u32) -> bool {
        self.bits & bit != 0
    }

    #[inline(always)]
    const fn first(self) -> u32 {
        self.numbers as u32
    }

    #[inline(always)]
    const fn ack(self) -> u32 {
        (self.numbers >> 32) as u32
    }

    #[inline(always)]
    const fn endpoint(self) -> u16 {
        (self.bits >> 16) as u16
    }
}

/// [`Verdict::Proxy`], made of a number: a variant without a value leaves a register unset that the verifier sees read.
#[inline(always)]
pub(super) fn left() -> Verdict {
    Verdict::Proxy.opaque()
}

/// Decides about a segment that [`super::slow`] has left to this stage; `send` gets what is decided, and its result is
/// the function's.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>, R>(
    frame: F,
    t: T,
    ifindex: u32,
    send: impl FnOnce(&Proxied) -> R,
) -> Result<R, Verdict> {
    let port = entrance(t, ifindex)?;
    let Some(segment) = parse::segment(frame, port.vpc) else { return Err(refuse(t, Counter::FlowRaced)) };
    // The header's own segment would be a fragment too.
    if frame.read::<[u8; 2]>(L3 + 6).is_some_and(|bits| u16::from_be_bytes(bits) & FRAGMENT != 0) {
        return Err(refuse(t, Counter::Fragment));
    }
    let segment = t.lend(segment);
    let Some(slot) = t.find(&segment.key) else { return Err(refuse(t, Counter::FlowRaced)) };
    let meta = slot.meta();
    let first = slot.client_isn().wrapping_add(1);
    let acknowledged = meta.flags & Meta::HEADER_ACKNOWLEDGED != 0;
    if meta.forward() && segment.flags.has(Flags::SYN) && segment.sequence_len() > 1 {
        return Err(refuse(t, Counter::SynWithData));
    }
    let ack = segment.ack;
    let mut known = ack;
    let mut covers_header = false;
    if !meta.forward() && segment.flags.has(Flags::ACK) && !meta.state.half_open() {
        let ahead = ack.wrapping_sub(first);
        covers_header = !acknowledged && ahead >= SHIFT && ahead <= i32::MAX as u32;
        known = if acknowledged { to_client_later(ack) } else { to_client(ack, first) };
    }
    let about = About::new(first, ack, meta, slot.endpoint(), covers_header);
    if !slot.current() {
        return Err(refuse(t, Counter::FlowRaced));
    }
    let segment = t.lend_with_ack(segment, known);
    let mut rewrite = consider::<V4, true, _, _>(frame, t, port, ifindex, segment)?;
    if about.has(About::COVERS_HEADER) {
        t.acknowledge_header(&segment.key);
    }
    let from_client = about.has(About::FROM_CLIENT);
    let (seq, inject) = if from_client { outgoing(segment, about) } else { (segment.seq, Inject::Nothing) };
    match inject {
        Inject::Nothing => {}
        Inject::Payload | Inject::Ahead => t.count(Counter::ProxyHeaderSent),
    }
    let numbers = checksum::difference32(segment.seq.to_be(), seq.to_be())
        + checksum::difference32(about.ack().to_be(), segment.ack.to_be());
    rewrite.mss.difference = checksum::fold(rewrite.mss.difference as u32 + numbers);
    let FlowKey { src, dst, src_port, dst_port, .. } = segment.key;
    Ok(send(&Proxied {
        rewrite,
        seq,
        ack: segment.ack,
        first: about.first(),
        header: segment.header,
        reply: !from_client,
        acknowledged: about.has(About::ACKNOWLEDGED),
        inject,
        src,
        dst,
        src_port,
        dst_port,
        endpoint: about.endpoint(),
    }))
}

/// The number that a client's segment has on the target's side, and what goes with it.
#[inline(always)]
fn outgoing(segment: &parse::Segment, about: About) -> (u32, Inject) {
    let seq = segment.seq;
    let ahead = seq.wrapping_sub(about.first());
    let acknowledged = about.has(About::ACKNOWLEDGED);
    // A SYN, or a keep-alive's byte before the first one (RFC 9293 section 3.8.4).
    if segment.flags.has(Flags::SYN) || !acknowledged && ahead > i32::MAX as u32 {
        return (seq, Inject::Nothing);
    }
    let reset = segment.flags.has(Flags::RST);
    if reset && !about.has(About::OPEN) {
        return (seq, Inject::Nothing);
    }
    let behind = seq.wrapping_add(SHIFT);
    if acknowledged || ahead != 0 {
        return (behind, Inject::Nothing);
    }
    // A reset must have the number that its receiver waits for, which has had a header.
    if reset {
        return (behind, Inject::Nothing);
    }
    let empty = segment.sequence_len() == segment.flags.has(Flags::FIN) as u32;
    if empty { (seq, Inject::Payload) } else { (behind, Inject::Ahead) }
}

/// Options looked at before the option is given up.
const OPTIONS: usize = 6;
/// Edges of the blocks that an option has room for.
const EDGES: usize = 8;

/// Shows each edge of a reply's selective acknowledgements: its offset in the frame, its value and its new value, both
/// in memory order.
#[inline(always)]
pub fn sacks<F: Frame>(
    frame: F,
    l4: u16,
    header: u8,
    first: u32,
    acknowledged: bool,
    mut edge: impl FnMut(usize, u32, u32),
) -> Option<()> {
    let end = l4 as usize + header as usize;
    let mut at = l4 as usize + TcpHeader::LEN;
    for _ in 0..OPTIONS {
        if at + 2 > end {
            return None;
        }
        // The mask holds for every header (at most 134 bytes in) and bounds the offset where the verifier sees it.
        let here = at & 0xff;
        let [kind, len] = frame.read::<[u8; 2]>(here)?;
        match kind {
            OPTION_END => return None,
            OPTION_NOP => at = here + 1,
            OPTION_SACK => {
                let last = here + len as usize;
                for index in 0..EDGES {
                    let from = here + 2 + 4 * index;
                    if from + 4 > last || from + 4 > end {
                        return Some(());
                    }
                    let old = u32::from_ne_bytes(frame.read::<[u8; 4]>(from)?);
                    let number = u32::from_be(old);
                    let new = if acknowledged { to_client_later(number) } else { to_client(number, first) };
                    edge(from, old, new.to_be());
                }
                return Some(());
            }
            _ if len < 2 => return None,
            _ => at = here + len as usize,
        }
    }
    None
}

/// What [`sacks`] adds to the checksum. With a stack of its own.
#[inline(never)]
pub fn sack_difference<F: Frame>(frame: F, l4: u16, header: u8, first: u32, acknowledged: bool) -> u16 {
    let mut difference = 0;
    sacks(frame, l4, header, first, acknowledged, |at, old, new| {
        let (old, new) = (checksum::fold(checksum::words(old)), checksum::fold(checksum::words(new)));
        // At an odd offset the bytes of each word are the other way round.
        let (old, new) = if at & 1 == 0 { (old, new) } else { (old.swap_bytes(), new.swap_bytes()) };
        difference += checksum::difference16(old, new);
    });
    checksum::fold(difference)
}

/// The differences of a rewrite, which an entry of such a flow has no room for: `[addresses, ports]`.
#[inline(always)]
pub(super) fn differences(slot: SlotRef, key: &FlowKey) -> [u16; 2] {
    let addresses = checksum::difference32(key.src.word(), slot.new_src().word())
        + checksum::difference32(key.dst.word(), slot.new_dst().word());
    let ports = checksum::difference16(key.src_port.word(), slot.new_src_port().word())
        + checksum::difference16(key.dst_port.word(), slot.new_dst_port().word());
    [checksum::fold(addresses), checksum::fold(ports)]
}

#[cfg(test)]
mod tests;
