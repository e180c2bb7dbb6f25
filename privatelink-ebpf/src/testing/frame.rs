//! Frames in slices.

use crate::{
    abi::Mac,
    datapath::{
        Forward, Frame, Rewrite,
        icmp::{
            self, Translation,
            error::{Cause, LONG, Quote, SHORT},
        },
    },
    wire::{
        Ipv4Hdr, L3, Window, Wire, checksum,
        icmp::{ECHO_REPLY, EXTENDED_QUOTE, IcmpHeader},
        tcp::TcpHeader,
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
        Forward::Packet(rewrite) => rewrite_packet(frame, rewrite),
        Forward::Error(translation) => translate_error(frame, translation),
    }
}

fn rewrite_packet(frame: &mut [u8], rewrite: &Rewrite) {
    let Rewrite { src, dst, src_port, dst_port, d_addr, d_port, src_mac, dst_mac, l4, mss, ifindex: _, out: _ } =
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
    add(frame, L3 + 10, d_addr as u32 + checksum::TTL_DECREMENT);
    add(frame, l4 + TcpHeader::CHECK, d_addr as u32 + d_port as u32 + mss.difference as u32);
}

fn translate_error(frame: &mut Vec<u8>, translation: &Translation) {
    let Translation {
        src,
        dst,
        d_outer,
        quoted_src_port,
        quoted_dst_port,
        d_addr,
        d_port,
        icmp,
        quoted_l4,
        quoted_check,
        extended,
        src_mac,
        dst_mac,
        ifindex: _,
        out: _,
    } = *translation;
    let [icmp, l4, field] = [icmp, quoted_l4, quoted_check].map(usize::from);
    let quoted = icmp + IcmpHeader::LEN;
    let word = |frame: &[u8], at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
    let ip_check = word(frame, quoted + 10);
    let l4_check = word(frame, if field == 0 { l4 } else { field });
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &dst_mac.mac().0);
    put(6, &src_mac.mac().0);
    put(L3 + 12, &src.to_wire());
    put(L3 + 16, &dst.to_wire());
    put(quoted + 12, &dst.to_wire());
    put(quoted + 16, &src.to_wire());
    put(l4, &quoted_src_port.to_wire());
    put(l4 + 2, &quoted_dst_port.to_wire());
    let mut difference = d_addr as u32 + d_port as u32;
    if field != 0 {
        let now = icmp::quoted_check((field - l4) as u16, l4_check, d_addr, d_port);
        put(field, &now.to_ne_bytes());
        difference += checksum::difference16(l4_check, now);
    }
    add(frame, quoted + 10, d_addr as u32);
    difference += checksum::difference16(ip_check, word(frame, quoted + 10));
    add(frame, icmp + IcmpHeader::CHECK, difference);
    frame[L3 + 8] -= 1;
    add(frame, L3 + 10, d_outer as u32 + checksum::TTL_DECREMENT);
    if extended {
        frame.truncate(quoted + EXTENDED_QUOTE);
        let was = word(frame, L3 + 2);
        let now = ((frame.len() - L3) as u16).to_be();
        frame[L3 + 2..L3 + 4].copy_from_slice(&now.to_ne_bytes());
        add(frame, L3 + 10, checksum::difference16(was, now));
        frame[icmp + IcmpHeader::QUOTE_WORDS] = 0;
        frame[icmp + IcmpHeader::CHECK..][..2].fill(0);
        let check = !checksum::fold(checksum::sum(&frame[icmp..]));
        frame[icmp + IcmpHeader::CHECK..][..2].copy_from_slice(&check.to_ne_bytes());
    }
}

/// Turns an echo request round as a hook does; `mac` is the port's own.
///
/// # Panics
///
/// If the frame is none.
pub fn answer_echo(frame: &mut [u8], mac: Mac) {
    let requester = <[u8; 6]>::try_from(&frame[6..12]).expect("an Ethernet address");
    frame[..6].copy_from_slice(&requester);
    frame[6..12].copy_from_slice(&mac.0);
    let old_ttl = u16::from_ne_bytes([frame[L3 + 8], frame[L3 + 9]]);
    frame[L3 + 8] = icmp::error::TTL;
    let new_ttl = u16::from_ne_bytes([frame[L3 + 8], frame[L3 + 9]]);
    add(frame, L3 + 10, checksum::difference16(old_ttl, new_ttl));
    frame[L3 + 12..L3 + 20].rotate_left(4);
    let at = L3 + Ipv4Hdr::LEN;
    let request = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    let reply = u16::from_ne_bytes([ECHO_REPLY, 0]);
    frame[at..at + 2].copy_from_slice(&reply.to_ne_bytes());
    add(frame, at + IcmpHeader::CHECK, checksum::difference16(request, reply));
}

/// The error about a frame, as a hook builds it.
///
/// # Panics
///
/// If the frame is shorter than what every error quotes.
pub fn answer_error(frame: &[u8], cause: Cause) -> Vec<u8> {
    let ip_len = u16::from_be_bytes([frame[L3 + 2], frame[L3 + 3]]) as usize;
    if ip_len >= LONG * 4 { error_about::<LONG>(frame, cause) } else { error_about::<SHORT>(frame, cause) }
}

fn error_about<const WORDS: usize>(frame: &[u8], cause: Cause) -> Vec<u8> {
    let ethernet = frame[..L3].try_into().expect("an Ethernet header");
    let quoted = &frame[L3..L3 + WORDS * 4];
    let quote: [u32; WORDS] =
        std::array::from_fn(|i| u32::from_ne_bytes(quoted[i * 4..i * 4 + 4].try_into().expect("four bytes")));
    let (head, trailer) = icmp::error::build(ethernet, &Quote::of(&quote, checksum::fold(checksum::sum(quoted))), cause);
    [&head[..], quoted, &trailer].concat()
}

/// Adds a difference to the checksum at `at`.
fn add(frame: &mut [u8], at: usize, difference: u32) {
    let old = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&checksum::apply(old, difference).to_ne_bytes());
}

const _: () = assert!(Ipv4Hdr::LEN == 20);
