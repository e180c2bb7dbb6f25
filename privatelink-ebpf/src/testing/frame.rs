//! Frames in slices.

use crate::{
    abi::Proto,
    datapath::{Frame, Rewrite, v6::Rewrite6},
    wire::{
        Ipv4Hdr, L3, Window, Wire, checksum,
        ipv6::Ipv6Header,
        tcp::TcpHeader,
        udp::{self, UdpHeader},
    },
};

/// A whole frame in a slice.
#[derive(Clone, Copy, Debug)]
pub struct SliceFrame<'a> {
    bytes: &'a [u8],
    segmented: bool,
}

impl<'a> SliceFrame<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, segmented: false }
    }

    /// A frame that stands for several segments.
    pub fn segmented(bytes: &'a [u8], segmented: bool) -> Self {
        Self { bytes, segmented }
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

    fn segmented(self) -> bool {
        self.segmented
    }
}

/// Rewrites a frame as a hook does, with the arithmetic of RFC 1624.
///
/// # Panics
///
/// If the rewrite names bytes outside the frame: the datapath must not ask for that.
pub fn apply(frame: &mut [u8], rewrite: &Rewrite) {
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
