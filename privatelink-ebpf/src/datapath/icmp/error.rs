//! ICMP errors of our own: "fragmentation needed" (RFC 1191) for what is larger than the MTU of the port that it would
//! leave by, "time exceeded" for what has no hop left.
//!
//! They come from the address that the packet was for, an endpoint's towards clients and the node address towards
//! targets, and go back the way that it came. A packet without "don't fragment" is answered too: nothing is fragmented
//! here, and a sender that hears of the smaller MTU does it itself.

use super::{Kind, may_send};
use crate::{
    abi::{Counter, Proto},
    datapath::{
        parse::Segment,
        refusal::{refuse, to_tc},
        tables::{Hook, Tables},
        verdict::Verdict,
    },
    wire::{
        ETHERTYPE_IPV4, EthHdr, Ipv4Hdr, L3, PROTO_ICMP, checksum,
        icmp::{DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, IcmpHeader, TIME_EXCEEDED},
        ipv6::Ipv6Header,
        tcp::TcpHeader,
    },
};

/// Headers before the quoted packet: Ethernet, IPv4, ICMP.
pub const HEAD: usize = L3 + Ipv4Hdr::LEN + IcmpHeader::LEN;
/// 32-bit words quoted of a packet that has as many, so that a receiver of UDP can tell its own datagrams (RFC 9000
/// section 14.2.1 asks for more than the ports).
pub const LONG: usize = 32;
/// Words quoted of any other: an IPv4 header and 8 bytes (RFC 792).
pub const SHORT: usize = (Ipv4Hdr::LEN + 8) / 4;
/// Bytes behind the IP packet; see [`build`].
pub const TRAILER: usize = 2;

/// Of what we send ourselves.
pub const TTL: u8 = 64;
/// Precedence of internetwork control, as routers send errors (RFC 1812 section 4.3.2.5).
const TOS: u8 = 0xc0;

/// Why a packet is answered with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The way on carries packets of this many bytes.
    TooBig(u16),
    TimeExceeded,
}

impl Cause {
    /// As one scalar, for the stage that builds the error.
    #[inline(always)]
    pub const fn to_bits(self) -> u16 {
        match self {
            Self::TooBig(mtu) => mtu,
            Self::TimeExceeded => 0,
        }
    }

    #[inline(always)]
    pub const fn from_bits(bits: u16) -> Self {
        match bits {
            0 => Self::TimeExceeded,
            mtu => Self::TooBig(mtu),
        }
    }

    /// The reason that is counted.
    #[inline(always)]
    const fn counter(self) -> Counter {
        match self {
            Self::TooBig(_) => Counter::MtuExceeded,
            Self::TimeExceeded => Counter::TtlExceeded,
        }
    }
}

/// Refuses a segment or datagram and tells its sender why, within the VPC's budget of errors.
#[inline(always)]
pub fn answer<'t, T: Tables<'t>>(t: T, segment: &Segment, cause: Cause) -> Verdict {
    // The error lies over the packet's own headers, so one with IP options or extension headers gets none; nor does one
    // that was sent to a group (RFC 1122 section 3.2.2).
    let header = if segment.key.ipv6() { Ipv6Header::LEN } else { Ipv4Hdr::LEN };
    if segment.l4 as usize != L3 + header || segment.dst_mac.group() {
        return refuse(t, cause.counter());
    }
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    Verdict::from_bits(t.answer_with_error(segment, cause.to_bits() as u32))
}

/// The part of [`answer`] that counts, with scalars.
#[inline(always)]
pub fn answer_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, cause: u32) -> u32 {
    let cause = Cause::from_bits(cause as u16);
    t.count(cause.counter());
    let verdict = if may_send(t, segment.key.vpc, Kind::Error) {
        t.count(Counter::IcmpErrorSent);
        Verdict::AnswerError(cause)
    } else {
        refuse(t, Counter::IcmpLimited)
    };
    verdict.to_bits()
}

/// What the error says of the packet that it quotes. Words are in memory order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Bytes that are quoted, a multiple of four.
    pub len: u16,
    /// The sum over them.
    pub sum: u16,
    pub ttl_and_proto: u16,
    pub src: u32,
    pub dst: u32,
}

impl Quote {
    /// Of a packet's first `words`, from its IPv4 header (without options) on, that come to `sum`.
    #[inline(always)]
    pub const fn of<const WORDS: usize>(words: &[u32; WORDS], sum: u16) -> Self {
        const { assert!(WORDS >= SHORT) };
        Self { len: (WORDS * 4) as u16, sum, ttl_and_proto: words[2] as u16, src: words[3], dst: words[4] }
    }
}

/// What precedes and follows the quoted packet in the error about it; `ethernet` is the refused frame's header.
///
/// The refused frame may carry a *partial* checksum, which cannot be seen: its device then completes the field where
/// the TCP or UDP checksum was, over all bytes from the end of the IPv4 header to the end of the frame. The ICMP
/// message sums to zero. So two bytes follow the IP packet, the complement of what stands in that field: the sum that
/// the device finds is what stands there already, and the same bytes are right either way. (The one exception is the
/// unused word of "time exceeded" about UDP: zero becomes its other representation.)
#[inline(always)]
pub fn build(ethernet: &[u8; EthHdr::LEN], quote: &Quote, cause: Cause) -> ([u8; HEAD], [u8; TRAILER]) {
    let &Quote { len, sum, ttl_and_proto, src, dst } = quote;
    let (kind, code, mtu) = match cause {
        Cause::TooBig(mtu) => (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, mtu.to_be_bytes()),
        Cause::TimeExceeded => (TIME_EXCEEDED, 0, [0; 2]),
    };
    let icmp_check =
        !checksum::fold(sum as u32 + u16::from_ne_bytes([kind, code]) as u32 + u16::from_ne_bytes(mtu) as u32);
    let ip_len = ((HEAD - L3) as u16 + len).to_be_bytes();
    let ip_check = !checksum::fold(
        u16::from_ne_bytes([0x45, TOS]) as u32
            + u16::from_ne_bytes(ip_len) as u32
            + u16::from_ne_bytes([0x40, 0]) as u32
            + u16::from_ne_bytes([TTL, PROTO_ICMP]) as u32
            + checksum::words(src)
            + checksum::words(dst),
    );
    // What stands where a device would complete the checksum: of TCP the quoted TTL and protocol, of UDP the MTU.
    const _: () = assert!(L3 + Ipv4Hdr::LEN + TcpHeader::CHECK == HEAD + 8 && TcpHeader::CHECK == 16);
    let [ttl, proto] = ttl_and_proto.to_ne_bytes();
    let [first, second] = if proto == Proto::Tcp.number() { [ttl, proto] } else { mtu };

    let mut head = [0; HEAD];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            head[at] = *byte;
            at += 1;
        }
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *ethernet;
    put(&[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5]);
    put(&ETHERTYPE_IPV4.to_ne_bytes());
    put(&[0x45, TOS]);
    put(&ip_len);
    // Identification 0, don't fragment.
    put(&[0, 0, 0x40, 0]);
    put(&[TTL, PROTO_ICMP]);
    put(&ip_check.to_ne_bytes());
    put(&dst.to_ne_bytes());
    put(&src.to_ne_bytes());
    put(&[kind, code]);
    put(&icmp_check.to_ne_bytes());
    put(&[0, 0]);
    put(&mtu);
    (head, [!first, !second])
}
