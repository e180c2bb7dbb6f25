//! Maximum segment size (RFC 6691): clamped in SYN and SYN-ACK to what both sides' ports carry.

use super::{frame::Frame, parse::Segment, verdict::Mss};
use crate::wire::{checksum, tcp::{OPTION_END, OPTION_MSS, OPTION_NOP, TcpHeader}};

/// IPv4 and TCP headers without options.
const HEADERS: u32 = 40;
/// Options looked at before the option is given up; all stacks put it first or second.
const OPTIONS: usize = 8;

/// The change that a SYN or SYN-ACK needs between ports of these MTUs, if any.
#[inline(always)]
pub fn clamp<F: Frame>(frame: F, segment: &Segment, mtu_in: u32, mtu_out: u32) -> Option<Mss> {
    let mtu = if mtu_in < mtu_out { mtu_in } else { mtu_out };
    let limit = mtu.saturating_sub(HEADERS);
    let limit = if limit > 0xffff { 0xffff } else { limit as u16 };
    let at = find(frame, segment.l4 as usize, segment.header as usize)?;
    let old = frame.read::<[u8; 2]>(at)?;
    if u16::from_be_bytes(old) <= limit {
        return None;
    }
    let new = limit.to_be_bytes();
    // A value at an odd offset covers the second byte of one word and the first of the next: swapped in the sum.
    let (old, new) = if at & 1 == 0 {
        (u16::from_ne_bytes(old), u16::from_ne_bytes(new))
    } else {
        (u16::from_ne_bytes(old).swap_bytes(), u16::from_ne_bytes(new).swap_bytes())
    };
    let difference = checksum::fold(checksum::difference16(old, new));
    Some(Mss { at: at as u16, value: limit, difference })
}

/// Offset of the option's value.
#[inline(always)]
fn find<F: Frame>(frame: F, l4: usize, header: usize) -> Option<usize> {
    let mut skip = TcpHeader::LEN;
    for _ in 0..OPTIONS {
        if skip + 4 > header {
            return None;
        }
        let [kind, len] = frame.read::<[u8; 2]>(l4 + skip)?;
        match kind {
            OPTION_END => return None,
            OPTION_NOP => skip += 1,
            OPTION_MSS if len == 4 => return Some(l4 + skip + 2),
            _ if len < 2 => return None,
            _ => skip += len as usize,
        }
    }
    None
}
