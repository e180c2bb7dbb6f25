//! Source ports: an atomic three-level bitmap for each (node address, target address and port, protocol).
//!
//! All 64,512 ports are usable, claim and release are O(1), and a claim fails only if every port is taken. A word's bit
//! decides; summary and top bits are hints. Who fills a word sets its summary bit and looks again; who releases clears
//! the bit first and the hints after, so a hint that says "full" about a word that is not lasts no longer than that
//! race.

use super::{
    atomic::{and64, load64, or64},
    opaque::opaque,
};
use crate::abi::pool::{FIRST_PORT, PortPool, SUMMARIES, WORDS};

/// What a claim came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    Port(u16),
    /// Every port is in use or held back.
    Exhausted,
    /// Other CPUs won every race.
    Contended,
}

impl Claim {
    /// As one scalar, for a function that the verifier checks on its own.
    #[inline(always)]
    pub const fn to_bits(self) -> i32 {
        match self {
            Self::Port(port) => port as i32,
            Self::Exhausted => -1,
            Self::Contended => -2,
        }
    }

    #[inline(always)]
    pub const fn from_bits(bits: i32) -> Self {
        match bits {
            0.. => Self::Port(bits as u16),
            -1 => Self::Exhausted,
            _ => Self::Contended,
        }
    }
}

/// Words tried before a claim counts as contended. Each failed attempt corrects one stale hint.
const ATTEMPTS: u32 = 16;

/// Claims a free port; `hint` (any number, better a hash) says where to look first, so that CPUs work in different
/// lines.
///
/// # Safety
/// `pool` points to a live pool that is shared only through this module.
#[inline(always)]
pub unsafe fn claim(pool: *mut PortPool, hint: u32) -> Claim {
    let mut hint = hint;
    for _ in 0..ATTEMPTS {
        // The product last: of 32 bits that were combined bit by bit, kernel 6.1 does not know that they are no more
        // than 32.
        hint = (hint ^ hint >> 15).wrapping_mul(0x9e37_79b1);
        // SAFETY: as the caller promises.
        match unsafe { attempt(pool, hint) } {
            Attempt::Port(port) => return Claim::Port(port),
            Attempt::Exhausted => return Claim::Exhausted,
            Attempt::Again => {}
        }
    }
    Claim::Contended
}

/// What a claim would come to. Nothing is taken.
///
/// # Safety
/// As [`claim`].
#[inline(always)]
pub unsafe fn peek(pool: *mut PortPool) -> Claim {
    for index in 0..WORDS {
        // SAFETY: as the caller promises; the index is below WORDS.
        let word = unsafe { load64(word_at(pool, index)) };
        if word != !0 {
            return Claim::Port(FIRST_PORT + (index * 64) as u16 + word.trailing_ones() as u16);
        }
    }
    Claim::Exhausted
}

enum Attempt {
    Port(u16),
    Exhausted,
    Again,
}

/// # Safety
/// As [`claim`].
#[inline(always)]
unsafe fn attempt(pool: *mut PortPool, hint: u32) -> Attempt {
    // A multiplication bounds the index in a form that the verifier follows; a remainder is optimised out of its sight.
    let mut index = ((hint as u64 * WORDS as u64) >> 32) as usize;
    // SAFETY: as the caller promises; the index is below WORDS.
    let mut word = unsafe { load64(word_at(pool, index)) };
    if word == !0 {
        // SAFETY: as the caller promises.
        let top = unsafe { load64(&raw const (*pool).top) };
        let open = !top & ((1 << SUMMARIES) - 1);
        if open == 0 {
            return Attempt::Exhausted;
        }
        let group = pick(open, hint & 15) as usize & (SUMMARIES - 1);
        // SAFETY: group is below SUMMARIES.
        let open = !unsafe { load64(summary_at(pool, group)) };
        if open == 0 {
            // SAFETY: as the caller promises.
            unsafe { mark_group_full(pool, group) };
            return Attempt::Again;
        }
        index = opaque(group * 64 + pick(open, (hint >> 8) & 63) as usize);
        if index >= WORDS {
            return Attempt::Again;
        }
        // SAFETY: the index is below WORDS.
        word = unsafe { load64(word_at(pool, index)) };
        if word == !0 {
            // SAFETY: as above.
            unsafe { mark_word_full(pool, index) };
            return Attempt::Again;
        }
    }
    let bit = pick(!word, (hint >> 16) & 63) & 63;
    // SAFETY: as above.
    let before = unsafe { or64(word_at(pool, index), 1 << bit) };
    if before & (1 << bit) != 0 {
        return Attempt::Again;
    }
    if before | (1 << bit) == !0 {
        // SAFETY: as above.
        unsafe { mark_word_full(pool, index) };
    }
    Attempt::Port(FIRST_PORT + (index * 64) as u16 + bit as u16)
}

/// Gives a port back.
///
/// # Safety
/// As [`claim`]; the caller owns the port.
#[inline(always)]
pub unsafe fn release(pool: *mut PortPool, port: u16) {
    let offset = port.wrapping_sub(FIRST_PORT) as usize;
    let index = opaque(offset / 64);
    if index >= WORDS {
        return;
    }
    // SAFETY: the index is below WORDS and so its group below SUMMARIES.
    unsafe {
        and64(word_at(pool, index), !(1 << (offset & 63)));
        and64(summary_at(pool, (index / 64) & (SUMMARIES - 1)), !(1 << (index & 63)));
        and64(&raw mut (*pool).top, !(1 << (index / 64)));
    }
}

/// # Safety
/// As [`claim`]; `index` is below `WORDS`.
#[inline(always)]
unsafe fn mark_word_full(pool: *mut PortPool, index: usize) {
    let group = (index / 64) & (SUMMARIES - 1);
    // SAFETY: as the caller promises.
    unsafe {
        let before = or64(summary_at(pool, group), 1 << (index & 63));
        if load64(word_at(pool, index)) != !0 {
            and64(summary_at(pool, group), !(1 << (index & 63)));
        } else if before | 1 << (index & 63) == !0 {
            mark_group_full(pool, group);
        }
    }
}

/// # Safety
/// As [`claim`]; `group` is below `SUMMARIES`.
#[inline(always)]
unsafe fn mark_group_full(pool: *mut PortPool, group: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        or64(&raw mut (*pool).top, 1 << group);
        if load64(summary_at(pool, group)) != !0 {
            and64(&raw mut (*pool).top, !(1 << group));
        }
    }
}

#[inline(always)]
fn word_at(pool: *mut PortPool, index: usize) -> *mut u64 {
    // SAFETY: callers keep the index below WORDS; only the address is formed.
    unsafe { (&raw mut (*pool).words).cast::<u64>().add(index) }
}

#[inline(always)]
fn summary_at(pool: *mut PortPool, group: usize) -> *mut u64 {
    // SAFETY: callers keep the group below SUMMARIES; only the address is formed.
    unsafe { (&raw mut (*pool).summary).cast::<u64>().add(group) }
}

/// The first set bit at or after `start` (below 64), going around. `bits` is not zero.
#[inline(always)]
fn pick(bits: u64, start: u32) -> u32 {
    let ahead = bits >> start << start;
    if ahead != 0 { ahead.trailing_zeros() } else { bits.trailing_zeros() }
}

#[cfg(test)]
mod tests;
