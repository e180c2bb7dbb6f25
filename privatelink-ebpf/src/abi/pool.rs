//! The source ports of one (node address, target address and port, protocol).

use bytemuck::{Pod, Zeroable};

use super::{assert_size, aya_pod};

/// The lowest port that is given out; below are the well-known ports.
pub const FIRST_PORT: u16 = 1024;
/// Ports in a pool: 1024–65,535.
pub const CAPACITY: u32 = 64_512;
/// 64-port words of the bitmap.
pub const WORDS: usize = 1008;
/// Words of the summary: one bit a bitmap word.
pub const SUMMARIES: usize = 16;

/// A three-level bitmap: a set bit is a port in use, a set summary bit a word that looked full, a set top bit a summary
/// word that looked full. The upper levels are hints that are corrected by who finds them wrong; only `words` counts.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct PortPool {
    /// One bit a summary word; the upper 48 bits are unused.
    pub top: u64,
    pub summary: [u64; SUMMARIES],
    pub words: [u64; WORDS],
    /// Claims that found no port.
    pub exhausted: u64,
}

impl PortPool {
    /// All ports free. The last summary word stands for 48 existing words; the bits of the missing ones are set.
    pub const EMPTY: Self = {
        let mut summary = [0; SUMMARIES];
        summary[SUMMARIES - 1] = !0 << (WORDS % 64);
        Self { top: 0, summary, words: [0; WORDS], exhausted: 0 }
    };

    /// Ports in use or held back.
    pub fn used(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }
}

assert_size!(PortPool = 8208);
aya_pod!(PortPool);
