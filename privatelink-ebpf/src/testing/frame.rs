//! Frames in slices.

mod icmp;

pub use icmp::{answer_echo, answer_echo6, answer_error, translate6};

use crate::{
    abi::Proto,
    datapath::{
        Forward, Frame, Relay, Rewrite,
        proxy::{self, Inject, Proxied},
        translate,
        v6::Rewrite6,
    },
    wire::{
        Ipv4Hdr, L3, Window, Wire, checksum,
        ipv6::Ipv6Header,
        proxy_v2,
        tcp::TcpHeader,
        udp::{self, UdpHeader},
    },
};

/// A whole frame in a slice.
#[derive(Clone, Copy, Debug)]
pub struct SliceFrame<'a> {
    bytes: &'a [u8],
    segment_size: u32,
}

impl<'a> SliceFrame<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, segment_size: 0 }
    }

    /// A frame that stands for several segments; see [`Frame::segment_size`].
    pub fn segmented(bytes: &'a [u8], segment_size: u32) -> Self {
        Self { bytes, segment_size }
    }
}

impl Frame for SliceFrame<'_> {
    fn read<T: Wire>(self, at: usize) -> Option<T> {
        let bytes = self.bytes.get(at..at.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice is as long as `T`, and `Wire` has no invalid bits.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn window<const LEN: usize>(self, at: usize) -> Option<Window<LEN>> {
        let bytes = self.bytes.get(at..at.checked_add(LEN)?)?;
        // SAFETY: `LEN` readable bytes; the datapath only reads through a frame.
        Some(unsafe { Window::new(bytes.as_ptr().cast_mut()) })
    }

    fn len(self) -> usize {
        self.bytes.len()
    }

    fn segment_size(self) -> u32 {
        self.segment_size
    }
}

/// Changes a frame that is forwarded as a hook does, with the arithmetic of RFC 1624.
///
/// # Panics
///
/// If bytes outside the frame are to change: the datapath must not ask for that.
pub fn apply(frame: &mut Vec<u8>, forward: &Forward) {
    match forward {
        Forward::Packet(packet) => rewrite(frame, packet),
        Forward::Fragment(packet) => relay(frame, packet),
        Forward::Error(translation) => icmp::translate(frame, translation),
    }
}

fn rewrite(frame: &mut [u8], rewrite: &Rewrite) {
    let Rewrite { proto, src, dst, src_port, dst_port, d_addr, d_port, src_mac, dst_mac, l4, mss, ifindex: _, out: _ } =
        *rewrite;
    let l4 = l4 as usize;
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &dst_mac.mac().0);
    put(6, &src_mac.mac().0);
    put(L3 + 12, &src.to_wire());
    put(L3 + 16, &dst.to_wire());
    put(l4, &src_port.to_wire());
    put(l4 + 2, &dst_port.to_wire());
    if mss.at != 0 {
        put(mss.at as usize, &mss.value.to_be_bytes());
    }
    frame[L3 + 8] -= 1;
    let difference = d_addr as u32 + d_port as u32 + mss.difference as u32;
    change(frame, L3 + 10, |check| checksum::apply(check, d_addr as u32 + checksum::TTL_DECREMENT));
    change_l4(frame, proto, l4, difference);
}

/// The frame that TC makes of a segment of a flow with a PROXY protocol header. Checksums of what carries the header
/// are computed anew.
pub fn apply_proxied(frame: &[u8], proxied: &Proxied, endpoint: [u8; 22]) -> Vec<u8> {
    let Proxied { rewrite, seq, ack, first, header, reply, acknowledged, inject, src, dst, src_port, dst_port, .. } =
        *proxied;
    let mut bytes = frame.to_vec();
    let mut packet = rewrite;
    if reply {
        let sacked = proxy::sack_difference(SliceFrame::new(frame), rewrite.l4, header, first, acknowledged);
        packet.mss.difference = checksum::fold(u32::from(packet.mss.difference) + u32::from(sacked));
    }
    apply(&mut bytes, &Forward::Packet(packet));
    let l4 = rewrite.l4 as usize;
    bytes[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
    bytes[l4 + 8..l4 + 12].copy_from_slice(&ack.to_be_bytes());
    if reply {
        proxy::sacks(SliceFrame::new(frame), rewrite.l4, header, first, acknowledged, |at, _, new| {
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
        });
    }
    if inject == Inject::Nothing {
        return bytes;
    }
    let mut block = [0; proxy_v2::LEN];
    proxy_v2::build(&mut block, src, src_port, dst, dst_port, &endpoint);
    bytes.truncate(l4 + header as usize);
    bytes.extend_from_slice(&block);
    bytes[l4 + 4..l4 + 8].copy_from_slice(&first.to_be_bytes());
    bytes[l4 + 13] &= if inject == Inject::Ahead { !0x29 } else { !0x20 };
    let ip_len = (bytes.len() - L3) as u16;
    bytes[L3 + 2..L3 + 4].copy_from_slice(&ip_len.to_be_bytes());
    bytes[L3 + 10..L3 + 12].fill(0);
    let ip_check = !checksum::fold(checksum::sum(&bytes[L3..l4]));
    bytes[L3 + 10..L3 + 12].copy_from_slice(&ip_check.to_ne_bytes());
    bytes[l4 + 16..l4 + 20].fill(0);
    let segment_len = (bytes.len() - l4) as u16;
    let pseudo = checksum::sum(&bytes[L3 + 12..L3 + 20])
        + u32::from(u16::from_ne_bytes([0, 6]))
        + u32::from(u16::from_ne_bytes(segment_len.to_be_bytes()));
    let (check, urgent) = proxy_v2::seal(checksum::fold(pseudo), checksum::sum(&bytes[l4..]));
    bytes[l4 + 16..l4 + 18].copy_from_slice(&check.to_ne_bytes());
    bytes[l4 + 18..l4 + 20].copy_from_slice(&urgent.to_ne_bytes());
    bytes
}

fn relay(frame: &mut [u8], relay: &Relay) {
    let Relay { src, dst, d_addr, src_mac, dst_mac, ifindex: _, out: _ } = *relay;
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &dst_mac.mac().0);
    put(6, &src_mac.mac().0);
    put(L3 + 12, &src.to_wire());
    put(L3 + 16, &dst.to_wire());
    frame[L3 + 8] -= 1;
    change(frame, L3 + 10, |check| checksum::apply(check, d_addr as u32 + checksum::TTL_DECREMENT));
}

/// The same for IPv6.
///
/// # Panics
///
/// As [`apply`].
pub fn apply6(frame: &mut [u8], rewrite: &Rewrite6<'_>) {
    let Rewrite6 { proto, src, dst, src_port, dst_port, d_addr, d_port, src_mac, dst_mac, l4, mss, ifindex: _, out: _ } =
        *rewrite;
    let l4 = l4 as usize;
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &dst_mac.mac().0);
    put(6, &src_mac.mac().0);
    put(L3 + Ipv6Header::SRC, &src.to_wire());
    put(L3 + Ipv6Header::DST, &dst.to_wire());
    put(l4, &src_port.to_wire());
    put(l4 + 2, &dst_port.to_wire());
    if mss.at != 0 {
        put(mss.at as usize, &mss.value.to_be_bytes());
    }
    frame[L3 + Ipv6Header::HOPS] -= 1;
    let difference = d_addr as u32 + d_port as u32 + mss.difference as u32;
    change_l4(frame, proto, l4, difference);
}

/// The frame that TC makes of an IPv4 packet of a flow that goes on in IPv6.
///
/// # Panics
///
/// As [`apply`].
pub fn to_ipv6(frame: &[u8], rewrite: &Rewrite6<'_>) -> Vec<u8> {
    let header = translate::ipv6_header(SliceFrame::new(frame), rewrite).expect("a whole header");
    under(&header, frame, translate::L4_IPV4, rewrite)
}

/// The other way round.
///
/// # Panics
///
/// As [`apply`].
pub fn to_ipv4(frame: &[u8], rewrite: &Rewrite) -> Vec<u8> {
    let header = translate::ipv4_header(SliceFrame::new(frame), rewrite).expect("a whole header");
    under(&header, frame, translate::L4_IPV6, rewrite)
}

/// What is behind `old_l4` in `frame`, under another IP header.
fn under<A: Copy, const LEN: usize>(header: &[u8; LEN], frame: &[u8], old_l4: usize, rewrite: &Rewrite<A>) -> Vec<u8> {
    let Rewrite {
        proto,
        src: _,
        dst: _,
        src_port,
        dst_port,
        d_addr,
        d_port,
        src_mac,
        dst_mac,
        l4: _,
        mss,
        ifindex: _,
        out: _,
    } = *rewrite;
    let ether_type = translate::ether_type(LEN == Ipv6Header::LEN).to_ne_bytes();
    let l4 = L3 + LEN;
    let mut bytes = [&dst_mac.mac().0[..], &src_mac.mac().0, &ether_type, header, &frame[old_l4..]].concat();
    let mut put = |at: usize, new: &[u8]| bytes[at..at + new.len()].copy_from_slice(new);
    put(l4, &src_port.to_wire());
    put(l4 + 2, &dst_port.to_wire());
    if mss.at != 0 {
        put(mss.at as usize - old_l4 + l4, &mss.value.to_be_bytes());
    }
    let difference = d_addr as u32 + d_port as u32 + mss.difference as u32;
    change_l4(&mut bytes, proto, l4, difference);
    bytes
}

/// What a change of ports, addresses or segment size adds to the checksum of TCP or UDP.
fn change_l4(frame: &mut [u8], proto: Proto, l4: usize, difference: u32) {
    match proto {
        Proto::Tcp => change(frame, l4 + TcpHeader::CHECK, |check| checksum::apply(check, difference)),
        Proto::Udp => change(frame, l4 + UdpHeader::CHECK, |check| udp::apply(check, difference)),
    }
}

/// Changes the checksum at `at`.
fn change(frame: &mut [u8], at: usize, new: impl FnOnce(u16) -> u16) {
    let old = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&new(old).to_ne_bytes());
}

const _: () = assert!(Ipv4Hdr::LEN == 20);
