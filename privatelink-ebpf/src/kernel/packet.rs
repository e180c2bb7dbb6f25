//! Packet memory between `data` and `data_end`: bounded reads and writes.

pub use privatelink_ebpf::datapath::opaque::opaque;
use privatelink_ebpf::{
    datapath::Frame,
    wire::{Window, Wire},
};

/// A frame's directly accessible bytes, and what the hook knows of the rest.
#[derive(Clone, Copy)]
pub struct Packet {
    pub data: usize,
    pub end: usize,
    /// Length with paged parts.
    pub len: usize,
    /// [`Frame::segment_size`].
    pub segment_size: u32,
}

impl Frame for Packet {
    #[inline(always)]
    fn read<T: Wire>(self, at: usize) -> Option<T> {
        let from = self.data + at;
        if from + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the bytes lie between data and data_end, which the verifier sees checked; `Wire` has no invalid bits.
        Some(unsafe { (from as *const T).read_unaligned() })
    }

    #[inline(always)]
    fn window<const LEN: usize>(self, at: usize) -> Option<Window<LEN>> {
        let from = self.data + at;
        if from + LEN > self.end {
            return None;
        }
        // SAFETY: checked; the hook owns the packet while its program runs.
        Some(unsafe { Window::new(from as *mut u8) })
    }

    #[inline(always)]
    fn len(self) -> usize {
        self.len
    }

    #[inline(always)]
    fn segment_size(self) -> u32 {
        self.segment_size
    }
}

impl Packet {
    /// Overwrites the bytes at offset `at`. False: they do not lie within the packet.
    #[inline(always)]
    pub fn write<T: Wire>(self, at: usize, value: T) -> bool {
        let to = self.data + at;
        if to + size_of::<T>() > self.end {
            return false;
        }
        // SAFETY: as the read; the hook owns the packet while its program runs.
        unsafe { (to as *mut T).write_unaligned(value) };
        true
    }
}
