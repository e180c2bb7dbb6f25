//! Security groups, compiled: who may open a connection at a frontend.
//!
//! The agent knows everything about a rule but the client: protocol and port are a frontend's own. So what is left for
//! the kernel is a set of sources, kept as the sorted addresses at which membership changes.

use bytemuck::{Pod, Zeroable};

use super::{Ip4, assert_size, aya_pod};

/// The sources that may open connections at a frontend: a slice of `SOURCE_BOUNDS`. Map `POLICIES`.
///
/// It is written and read as one word, so that a packet sees the old set or the new one.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Policy {
    /// First bound of its slice.
    pub base: u32,
    /// Bounds in the slice, at most [`Policy::MAX_BOUNDS`], and [`Policy::ESTABLISHED`].
    len_and_flags: u32,
}

impl Policy {
    /// The policy of a frontend without security groups: every source may connect.
    pub const NONE: u32 = 0;
    /// The greatest slice. The search takes [`Policy::SEARCH_STEPS`] steps in it.
    pub const MAX_BOUNDS: u32 = 1 << 17;
    /// Halvings that leave nothing of the greatest slice.
    pub const SEARCH_STEPS: u32 = 18;
    /// Open flows that the policy does not allow end at the next sweep.
    const ESTABLISHED: u32 = 1 << 31;

    pub const fn new(base: u32, len: u32, established: bool) -> Self {
        Self { base, len_and_flags: if established { len | Self::ESTABLISHED } else { len } }
    }

    #[inline(always)]
    pub const fn len(self) -> u32 {
        self.len_and_flags & !Self::ESTABLISHED
    }

    /// It has no bounds: nobody may connect.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    pub const fn established(self) -> bool {
        self.len_and_flags & Self::ESTABLISHED != 0
    }

    /// The record as it is in the map.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.base as u64 | (self.len_and_flags as u64) << 32
    }

    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { base: word as u32, len_and_flags: (word >> 32) as u32 }
    }
}

/// An address at which membership changes; also any source, to be looked for. Addresses are ordered as numbers in host
/// order; an IPv4 address is its IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2). Map `SOURCE_BOUNDS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Pod, Zeroable)]
pub struct Bound {
    pub hi: u64,
    pub lo: u64,
}

impl Bound {
    const MAPPED: u64 = 0xffff_0000_0000;

    #[inline(always)]
    pub const fn v4(ip: Ip4) -> Self {
        Self { hi: 0, lo: Self::MAPPED | u32::from_be(ip.word()) as u64 }
    }

    #[inline(always)]
    pub const fn v6(wire: [u8; 16]) -> Self {
        Self::from_number(u128::from_be_bytes(wire))
    }

    #[inline(always)]
    pub const fn from_number(number: u128) -> Self {
        Self { hi: (number >> 64) as u64, lo: number as u64 }
    }

    pub const fn to_number(self) -> u128 {
        (self.hi as u128) << 64 | self.lo as u128
    }
}

assert_size!(Policy = 8, Bound = 16);
aya_pod!(Policy, Bound);
