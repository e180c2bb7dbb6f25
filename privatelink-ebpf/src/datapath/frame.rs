//! How the datapath sees a frame: copying, bounds-checked reads, nothing else.

use crate::wire::{Window, Wire};

/// An Ethernet frame, from the destination address on. Implementations are pointer-sized and passed by value.
#[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
pub trait Frame: Copy {
    /// A copy of the `T` at byte offset `at`, or nothing if it does not lie within the frame (in TC: within its linear
    /// part).
    fn read<T: Wire>(self, at: usize) -> Option<T>;

    /// The `LEN` bytes from `at` on, checked once.
    fn window<const LEN: usize>(self, at: usize) -> Option<Window<LEN>>;

    /// The frame's length in bytes, paged parts included.
    fn len(self) -> usize;

    /// Payload bytes of each of the segments that the frame stands for, and that the device or the stack will cut (TC
    /// only); 0: it stands for itself.
    fn segment_size(self) -> u32;

    /// The frame stands for several segments.
    #[inline(always)]
    fn segmented(self) -> bool {
        self.segment_size() != 0
    }
}
