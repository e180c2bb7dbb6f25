//! Maximum segment size (RFC 6691): clamped in SYN and SYN-ACK to what both sides' ports carry.

use super::{frame::Frame, parse::Segment, verdict::Mss};
use crate::wire::{
    checksum,
    tcp::{OPTION_END, OPTION_MSS, OPTION_NOP, TcpHeader},
};

/// Options looked at before the option is given up; all stacks put it first or second.
const OPTIONS: usize = 8;

/// The change that a SYN or SYN-ACK needs between ports of these MTUs, less the IP header that it has there.
#[inline(always)]
pub fn clamp<F: Frame>(frame: F, segment: &Segment, mtu_in: u32, mtu_out: u32) -> Mss {
    let mtu = if mtu_in < mtu_out { mtu_in } else { mtu_out };
    let limit = mtu.saturating_sub(TcpHeader::LEN as u32);
    let limit = if limit > 0xffff { 0xffff } else { limit as u16 };
    let bits = change(frame, segment.l4, segment.header, limit);
    Mss { at: bits as u16, value: limit, difference: (bits >> 16) as u16 }
}

/// The option's offset and what the new value adds to the checksum (upper half); 0 if nothing changes. With a stack of
/// its own.
#[inline(never)]
fn change<F: Frame>(frame: F, l4: u16, header: u8, limit: u16) -> u32 {
    let Some(at) = find(frame, l4 as usize, header as usize) else { return 0 };
    let Some(old) = frame.read::<[u8; 2]>(at) else { return 0 };
    if u16::from_be_bytes(old) <= limit {
        return 0;
    }
    let new = limit.to_be_bytes();
    // A value at an odd offset covers the second byte of one word and the first of the next: swapped in the sum.
    let (old, new) = if at & 1 == 0 {
        (u16::from_ne_bytes(old), u16::from_ne_bytes(new))
    } else {
        (u16::from_ne_bytes(old).swap_bytes(), u16::from_ne_bytes(new).swap_bytes())
    };
    let difference = checksum::fold(checksum::difference16(old, new));
    at as u32 | (difference as u32) << 16
}

/// Offset of the option's value.
#[inline(always)]
fn find<F: Frame>(frame: F, l4: usize, header: usize) -> Option<usize> {
    let mut skip = TcpHeader::LEN;
    for _ in 0..OPTIONS {
        if skip + 4 > header {
            return None;
        }
        // The mask holds for every header (at most 134 bytes in) and bounds the offset where the verifier sees it.
        let at = (l4 + skip) & 0xff;
        let [kind, len] = frame.read::<[u8; 2]>(at)?;
        match kind {
            OPTION_END => return None,
            OPTION_NOP => skip += 1,
            OPTION_MSS if len == 4 => return Some(at + 2),
            _ if len < 2 => return None,
            _ => skip += len as usize,
        }
    }
    None
}

#[cfg(test)]
mod tests;
