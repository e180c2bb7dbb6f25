//! Resets that the load balancer sends itself (RFC 9293 section 3.10.7.1).

use super::parse::Segment;
use crate::{
    abi::Proto,
    wire::{
        ETHERTYPE_IPV4, Ipv4Hdr, L3, checksum,
        tcp::{Flags, TcpHeader},
    },
};

/// Ethernet, IPv4 and TCP headers without options.
pub const SEGMENT_LEN: usize = L3 + Ipv4Hdr::LEN + TcpHeader::LEN;
const IP_LEN: u16 = (Ipv4Hdr::LEN + TcpHeader::LEN) as u16;
const TTL: u8 = 64;

/// Resets sent into one VPC in one tick; the rest is dropped and counted.
pub const PER_TICK: u32 = 512;

/// What an answer without data says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
}

impl Answer {
    /// The reset that the sender of `segment` believes.
    #[inline(always)]
    pub fn reset(segment: &Segment) -> Self {
        if segment.flags.has(Flags::ACK) {
            Self { seq: segment.ack, ack: 0, flags: Flags::RST }
        } else {
            let ack = segment.seq.wrapping_add(segment.sequence_len());
            Self { seq: 0, ack, flags: Flags::RST.with(Flags::ACK) }
        }
    }
}

/// The frame that resets the sender of `segment`.
#[inline(always)]
pub fn build(segment: &Segment) -> [u8; SEGMENT_LEN] {
    answer(segment, Answer::reset(segment))
}

/// The frame with an answer to the sender of `segment`, who does not look at its window.
///
/// In TC the frame that is overwritten may carry a *partial* checksum (its field holds the sum of the pseudo header,
/// and the device completes it), which cannot be seen from there. So the window is chosen so that the complete checksum
/// *is* the sum of the pseudo header: with pseudo header sum P and header sum S, S = -2P makes ~(P + S) = P. The same
/// bytes are then right either way.
#[inline(always)]
pub fn answer(segment: &Segment, answer: Answer) -> [u8; SEGMENT_LEN] {
    let key = &segment.key;
    let addresses = checksum::words(key.src.word()) + checksum::words(key.dst.word());
    let pseudo = checksum::fold(
        addresses
            + u16::from_ne_bytes([0, Proto::Tcp.number()]) as u32
            + u16::from_ne_bytes((TcpHeader::LEN as u16).to_be_bytes()) as u32,
    );
    let ip_words = u16::from_ne_bytes([0x45, 0]) as u32
        + u16::from_ne_bytes(IP_LEN.to_be_bytes()) as u32
        + u16::from_ne_bytes([0x40, 0]) as u32
        + u16::from_ne_bytes([TTL, Proto::Tcp.number()]) as u32;
    let ip_check = !checksum::fold(ip_words + addresses);

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
    put(&ETHERTYPE_IPV4.to_ne_bytes());
    put(&[0x45, 0]);
    put(&IP_LEN.to_be_bytes());
    // Identification 0, don't fragment.
    put(&[0, 0, 0x40, 0]);
    put(&[TTL, Proto::Tcp.number()]);
    put(&ip_check.to_ne_bytes());
    put(&key.dst.to_wire());
    put(&key.src.to_wire());
    put_tcp_header(segment, answer, pseudo, put);
    frame
}

/// Puts the TCP header of an answer to the sender of `segment`; `pseudo` is the sum of the pseudo header.
#[inline(always)]
pub fn put_tcp_header(segment: &Segment, answer: Answer, pseudo: u16, mut put: impl FnMut(&[u8])) {
    let key = &segment.key;
    let Answer { seq, ack, flags } = answer;
    let offset_and_flags = [(TcpHeader::LEN as u8 / 4) << 4, flags.0];
    let [seq_bytes, ack_bytes] = [seq.to_be_bytes(), ack.to_be_bytes()];
    let header = key.src_port.word() as u32
        + key.dst_port.word() as u32
        + checksum::words(u32::from_ne_bytes(seq_bytes))
        + checksum::words(u32::from_ne_bytes(ack_bytes))
        + u16::from_ne_bytes(offset_and_flags) as u32;
    // window = -2P - header, in one's complement.
    let window = !checksum::fold(pseudo as u32 + pseudo as u32 + header);
    put(&key.dst_port.to_wire());
    put(&key.src_port.to_wire());
    put(&seq_bytes);
    put(&ack_bytes);
    put(&offset_and_flags);
    put(&window.to_ne_bytes());
    put(&pseudo.to_ne_bytes());
    put(&[0, 0]);
}

#[cfg(test)]
mod tests;
