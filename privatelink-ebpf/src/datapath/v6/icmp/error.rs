//! ICMP errors of our own over IPv6: "packet too big" (RFC 8201) and "time exceeded"; as `datapath::icmp::error`.

use crate::{
    abi::{Ip6, Proto, flow::Addresses6},
    datapath::icmp::error::Cause,
    wire::{
        EthHdr, L3, checksum,
        icmp::IcmpHeader,
        icmp6::{PACKET_TOO_BIG, TIME_EXCEEDED},
        ipv6::{self, ETHERTYPE_IPV6, Ipv6Header, next},
        tcp::TcpHeader,
    },
};

/// Headers before the quoted packet: Ethernet, IPv6, ICMP.
pub const HEAD: usize = L3 + Ipv6Header::LEN + IcmpHeader::LEN;
/// 32-bit words quoted of a packet that has as many.
pub const LONG: usize = 32;
/// Words quoted of any other: an IPv6 header and 8 bytes.
pub const SHORT: usize = (Ipv6Header::LEN + 8) / 4;
/// Bytes behind the IP packet; see [`build`].
pub const TRAILER: usize = 2;

/// Of what we send ourselves.
pub const HOP_LIMIT: u8 = 64;

/// What the error says of the packet that it quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Bytes that are quoted, a multiple of four.
    pub len: u16,
    /// The sum over them.
    pub sum: u16,
    pub tcp: bool,
    pub from: Addresses6,
}

impl Quote {
    /// Of a packet's first `words` (memory order), from its IPv6 header on, that come to `sum`.
    #[inline(always)]
    pub const fn of<const WORDS: usize>(words: &[u32; WORDS], sum: u16) -> Self {
        const { assert!(WORDS >= SHORT) };
        const { assert!(Ipv6Header::NEXT == 6) };
        let [_, _, next, _] = words[1].to_ne_bytes();
        Self {
            len: (WORDS * 4) as u16,
            sum,
            tcp: next == Proto::Tcp.number(),
            from: Addresses6 {
                src: Ip6([words[2], words[3], words[4], words[5]]),
                dst: Ip6([words[6], words[7], words[8], words[9]]),
            },
        }
    }
}

/// What precedes and follows the quoted packet in the error about it; `ethernet` is the refused frame's header.
///
/// As with IPv4 two bytes follow the IP packet, which make the same bytes right whether a device completes the checksum
/// of the refused frame or not: it sums from the end of the IPv6 header on, where the message sums to the complement of
/// its pseudo header.
#[inline(always)]
pub fn build(ethernet: &[u8; EthHdr::LEN], quote: &Quote, cause: Cause) -> ([u8; HEAD], [u8; TRAILER]) {
    let &Quote { len, sum, tcp, ref from } = quote;
    let (kind, mtu) = match cause {
        Cause::TooBig(mtu) => (PACKET_TOO_BIG, mtu.to_be_bytes()),
        Cause::TimeExceeded => (TIME_EXCEEDED, [0; 2]),
    };
    let payload = (IcmpHeader::LEN as u16 + len).to_be_bytes();
    let pseudo = checksum::fold(
        ipv6::words(&from.src.0)
            + ipv6::words(&from.dst.0)
            + u16::from_ne_bytes(payload) as u32
            + u16::from_ne_bytes([0, next::ICMPV6]) as u32,
    );
    let check = !checksum::fold(
        pseudo as u32 + sum as u32 + u16::from_ne_bytes([kind, 0]) as u32 + u16::from_ne_bytes(mtu) as u32,
    );
    // What stands where a device would complete the checksum: of TCP the first of the quoted source, of UDP the MTU.
    const _: () = assert!(L3 + Ipv6Header::LEN + TcpHeader::CHECK == HEAD + Ipv6Header::SRC);
    let field = if tcp { from.src.0[0] as u16 } else { u16::from_ne_bytes(mtu) };
    let trailer = checksum::fold(!field as u32 + pseudo as u32);
    let mut frame = [0; HEAD];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            frame[at] = *byte;
            at += 1;
        }
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _] = *ethernet;
    put(&[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5]);
    put(&ETHERTYPE_IPV6.to_ne_bytes());
    put(&[0x60, 0, 0, 0]);
    put(&payload);
    put(&[next::ICMPV6, HOP_LIMIT]);
    put(&from.dst.to_wire());
    put(&from.src.to_wire());
    put(&[kind, 0]);
    put(&check.to_ne_bytes());
    put(&[0, 0]);
    put(&mtu);
    (frame, trailer.to_ne_bytes())
}
