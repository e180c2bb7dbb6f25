//! Frames in slices.

mod icmp;

pub use icmp::{answer_echo, answer_error};

use crate::{
    abi::Proto,
    datapath::{Forward, Frame, Relay, Rewrite},
    wire::{
        Ipv4Hdr, L3, Window, Wire, checksum,
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
    match proto {
        Proto::Tcp => change(frame, l4 + TcpHeader::CHECK, |check| checksum::apply(check, difference)),
        Proto::Udp => change(frame, l4 + UdpHeader::CHECK, |check| udp::apply(check, difference)),
    }
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

/// Changes the checksum at `at`.
fn change(frame: &mut [u8], at: usize, new: impl FnOnce(u16) -> u16) {
    let old = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&new(old).to_ne_bytes());
}

const _: () = assert!(Ipv4Hdr::LEN == 20);
