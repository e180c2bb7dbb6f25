//! Resets over IPv6; as `datapath::reset`.

use super::{
    super::{
        parse::Segment,
        reset::{self, Answer},
    },
    parse::HEAD,
};
use crate::{
    abi::{Proto, flow::Addresses6},
    wire::{
        checksum,
        ipv6::{self, ETHERTYPE_IPV6},
        tcp::TcpHeader,
    },
};

/// Ethernet, IPv6 and TCP headers without options.
pub const SEGMENT_LEN: usize = HEAD + TcpHeader::LEN;
const HOP_LIMIT: u8 = 64;

/// The frame that resets the sender of `segment`, whose addresses are `from`.
#[inline(always)]
pub fn build(segment: &Segment, from: &Addresses6) -> [u8; SEGMENT_LEN] {
    answer(segment, from, Answer::reset(segment))
}

/// The frame with an answer to the sender of `segment`, whose addresses are `from`.
#[inline(always)]
pub fn answer(segment: &Segment, from: &Addresses6, answer: Answer) -> [u8; SEGMENT_LEN] {
    let pseudo = checksum::fold(
        ipv6::words(&from.src.0)
            + ipv6::words(&from.dst.0)
            + u16::from_ne_bytes([0, Proto::Tcp.number()]) as u32
            + u16::from_ne_bytes((TcpHeader::LEN as u16).to_be_bytes()) as u32,
    );
    let mut frame = [0; SEGMENT_LEN];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            frame[at] = *byte;
            at += 1;
        }
    };
    put(&segment.src_mac.mac().0);
    put(&segment.dst_mac.mac().0);
    put(&ETHERTYPE_IPV6.to_ne_bytes());
    put(&[0x60, 0, 0, 0]);
    put(&(TcpHeader::LEN as u16).to_be_bytes());
    put(&[Proto::Tcp.number(), HOP_LIMIT]);
    put(&from.dst.to_wire());
    put(&from.src.to_wire());
    reset::put_tcp_header(segment, answer, pseudo, put);
    frame
}
