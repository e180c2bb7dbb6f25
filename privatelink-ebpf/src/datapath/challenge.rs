//! SYN floods: above a half-open budget a client has to show that it receives what is sent to its address, before
//! anything is kept for it.
//!
//! Its SYN is answered by a SYN-ACK that acknowledges what was not sent: the number is a *cookie*, a keyed hash of the
//! connection and the time. A client that receives it answers with a reset of that sequence number (RFC 9293 section
//! 3.10.7.3) and sends its SYN again: Linux since 5.6 at once, others when their timer runs out. The reset verifies the
//! address for a while, and verified sources have a part of the budgets that no other can fill.
//!
//! ```text
//! client     SYN seq=ISN ───────►  budget used up
//!                        ◄───────  SYN-ACK ack=cookie
//!            RST seq=cookie ────►  the source is verified
//!            SYN seq=ISN ───────►  opens a flow as any SYN does
//! ```
//!
//! The connection that follows is the client's own with the target's own: its options (segment size, window scale,
//! selective acknowledgements, timestamps) are those of the two, a server may speak first, a PROXY protocol header goes
//! the way that it always goes, and its flow is as plain as any. A datapath that finished the handshake itself would
//! have to translate the numbers of every such flow for as long as it lives, and to send the target a SYN that nobody
//! repeats.
//!
//! Who forges a verified source's address gains nothing by it: the source, which has just reset a handshake that it did
//! not begin, resets the next one too, and so ends the half-open flow.

use super::{
    addresses::{self, frontend},
    entrance,
    frame::Frame,
    parse::{self, Segment},
    refusal::refuse,
    reset::Answer,
    stage,
    tables::Tables,
    v6,
    verdict::Verdict,
};
use crate::{
    abi::{Counter, Stage, cookie::Source, flow::FlowKey},
    wire::tcp::Flags,
};

/// For how long a source stays verified, in seconds.
pub const VERIFIED_S: u32 = 60;
/// A cookie is of a slice of time of 2^n ticks, 4 to 8 s, and holds until the next slice ends.
pub const SLICE_SHIFT: u32 = 6;
/// Verified sources may exceed a half-open budget by this part of it.
const VERIFIED_SHARE: u32 = 4;

/// SipHash-2-4 of three words (Aumasson and Bernstein, 2012): who sees any number of cookies cannot make another.
#[inline(always)]
pub const fn siphash([k0, k1]: [u64; 2], words: [u64; 3]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    // The last word has the length, in its uppermost byte.
    let [a, b, c] = words;
    let all = [a, b, c, (size_of::<[u64; 3]>() as u64) << 56];
    let mut at = 0;
    while at < all.len() {
        v[3] ^= all[at];
        v = sip_round(sip_round(v));
        v[0] ^= all[at];
        at += 1;
    }
    v[2] ^= 0xff;
    v = sip_round(sip_round(sip_round(sip_round(v))));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
const fn sip_round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32);
    c = c.wrapping_add(b);
    a = a.wrapping_add(d);
    b = b.rotate_left(17) ^ c;
    d = d.rotate_left(21) ^ a;
    c = c.rotate_left(32);
    [a, b, c, d]
}

/// What the answer to a connection's SYN acknowledges at a time; all of the connection's key is in it, the VPC too.
#[inline(always)]
pub const fn cookie(key: &FlowKey, now: u32, secret: [u64; 2]) -> u32 {
    let [lo, hi] = key.words();
    siphash(secret, [lo, hi, (now >> SLICE_SHIFT) as u64]) as u32
}

/// Decides about a segment that another stage has left to this one, and lends it: the number that challenges the sender
/// of a SYN (see [`answer`]), or what becomes of a reset.
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<u32, Verdict> {
    let port = entrance(t, ifindex)?;
    let parsed = match stage(frame) {
        Stage::V6 => v6::parse::lend(frame, t, port.vpc),
        Stage::Slow
        | Stage::Udp
        | Stage::Fragment
        | Stage::Icmp
        | Stage::IcmpError
        | Stage::Proxy
        | Stage::ProxySend
        | Stage::ToIpv6
        | Stage::ToIpv4
        | Stage::V6Slow
        | Stage::Icmp6
        | Stage::Answer
        | Stage::Wait
        | Stage::Challenge => match parse::segment(frame, port.vpc) {
            Some(segment) => {
                t.lend(segment);
                true
            }
            None => false,
        },
    };
    if !parsed {
        return Err(refuse(t, Counter::FlowRaced));
    }
    let segment = t.lent();
    if !segment.flags.has(Flags::SYN) {
        return Err(Verdict::Drop(redeem(t, segment)));
    }
    let number = cookie(&segment.key, t.now(), t.cookie_key());
    // Once in 2^32 SYNs it is what the client would take for an answer of the server. (The budget has been counted.)
    if number.wrapping_sub(segment.seq).wrapping_sub(1) < segment.sequence_len() {
        return Err(Verdict::Drop(Counter::EndpointHalfOpenLimit));
    }
    t.count(Counter::CookieSent);
    Ok(number)
}

/// What challenges the sender of a SYN.
#[inline(always)]
pub const fn answer(number: u32) -> Answer {
    Answer { seq: 0, ack: number, flags: Flags::SYN.with(Flags::ACK) }
}

/// A reset to a listener that belongs to no flow: what it is counted as.
#[inline(always)]
fn redeem<'t, T: Tables<'t>>(t: T, segment: &Segment) -> Counter {
    let (now, secret) = (t.now(), t.cookie_key());
    let before = now.wrapping_sub(1 << SLICE_SHIFT);
    let outcome =
        if segment.seq == cookie(&segment.key, now, secret) || segment.seq == cookie(&segment.key, before, secret) {
            if let Some(source) = source(t, segment) {
                t.verify(&source);
            }
            Counter::CookieAccepted
        } else if under_pressure(t, segment) {
            Counter::CookieRejected
        } else {
            Counter::NoFlow
        };
    t.count(outcome);
    outcome
}

/// A half-open budget of the segment's source is used up, so that cookies are being sent.
#[inline(always)]
fn under_pressure<'t, T: Tables<'t>>(t: T, segment: &Segment) -> bool {
    let vpc = segment.key.vpc.0 as u32;
    if used_up(t.vpc_half_open(vpc), t.vpc_budget(vpc).map(|b| b.half_open)) {
        return true;
    }
    let endpoint = frontend(t, &segment.key).map_or(0, |frontend| frontend.endpoint as u32);
    endpoint != 0 && used_up(t.endpoint_half_open(endpoint), t.endpoint_budget(endpoint).map(|b| b.half_open))
}

#[inline(always)]
fn used_up(count: Option<*mut u32>, limit: Option<u32>) -> bool {
    let (Some(count), Some(limit)) = (count, limit) else { return false };
    // SAFETY: the word is in a live map value.
    limit != 0 && unsafe { count.read_volatile() } >= limit
}

/// The segment's source in its VPC.
#[inline(always)]
fn source<'t, T: Tables<'t>>(t: T, segment: &Segment) -> Option<Source> {
    addresses::source(t, &segment.key).map(|source| Source::new(segment.key.vpc, source))
}

/// 1 if the segment's source has answered a challenge not long ago, else 0.
#[inline(always)]
pub fn verified_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    let Some(source) = source(t, segment) else { return 0 };
    match t.verified_at(&source) {
        Some(at) => (t.now().wrapping_sub(at) <= t.clock().ticks(VERIFIED_S)) as u32,
        None => 0,
    }
}

/// The limit of verified sources; 0 stays no limit.
#[inline(always)]
pub const fn raised(limit: u32) -> u32 {
    limit.saturating_add(limit.div_ceil(VERIFIED_SHARE))
}

#[cfg(test)]
mod tests;
