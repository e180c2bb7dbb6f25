//! Kernel arrays in the agent's memory: reading and sweeping them costs no system call.
//!
//! An array map made with `BPF_F_MMAPABLE` (kernel 5.5) keeps its values page-aligned, each rounded up to 8 bytes. The
//! kernel goes on writing them while they are read here, so every access is volatile or atomic and copies.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped array of `entries` values of `size` bytes, one every `stride` bytes.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: NonZeroUsize,
    stride: usize,
    size: usize,
    entries: u32,
}

// SAFETY: the mapping is plain shared memory; all accesses below are volatile copies or atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing hands out references into the memory.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap(self.start, self.length);
    }
}

impl Mapping {
    /// Maps the whole array behind `map`.
    ///
    /// # Errors
    ///
    /// What `mmap` says: `ENOTSUPP` for a map without `BPF_F_MMAPABLE`, `EPERM` for a frozen one.
    pub fn new(map: impl AsFd, size: usize, entries: u32) -> io::Result<Self> {
        let stride = size.next_multiple_of(8);
        let page = 4096;
        let length = (stride * entries as usize).next_multiple_of(page);
        let length = NonZeroUsize::new(length).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let start = map_shared(map, length)?;
        Ok(Self { start, length, stride, size, entries })
    }

    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// A copy of one value. Not atomic as a whole: fields may be of different moments.
    pub fn get<T: Pod>(&self, index: u32) -> Option<T> {
        let at = self.offset(index, 0, size_of::<T>())?;
        Some(read(self.start, at))
    }

    /// A copy of the part of a value that begins at `within` bytes.
    pub fn field<T: Pod>(&self, index: u32, within: usize) -> Option<T> {
        let at = self.offset(index, within, size_of::<T>())?;
        Some(read(self.start, at))
    }

    /// The copies of all values that are not all zero, with their indexes.
    pub fn nonzero<T: Pod>(&self) -> impl Iterator<Item = (u32, T)> + '_ {
        (0..self.entries).filter_map(|index| {
            let value: T = self.get(index)?;
            bytemuck::bytes_of(&value).iter().any(|byte| *byte != 0).then_some((index, value))
        })
    }

    /// Stores a word at the start of a value.
    pub fn store_u32(&self, index: u32, value: u32) -> Option<()> {
        let at = self.offset(index, 0, 4)?;
        store_u32(self.start, at, value);
        Some(())
    }

    /// Stores a value of sixteen bytes, word by word.
    pub fn store_pair(&self, index: u32, [first, second]: [u64; 2]) -> Option<()> {
        let at = self.offset(index, 0, 16)?;
        store_u64(self.start, at, first);
        store_u64(self.start, at + 8, second);
        Some(())
    }

    /// Stores a value of eight bytes in one go.
    pub fn store_u64(&self, index: u32, value: u64) -> Option<()> {
        let at = self.offset(index, 0, 8)?;
        store_u64(self.start, at, value);
        Some(())
    }

    /// Clears bits of the 8-byte word at `within` bytes into a value, and says what the word was.
    pub fn clear_bits(&self, index: u32, within: usize, bits: u64) -> Option<u64> {
        let at = self.offset(index, within, 8).filter(|at| at % 8 == 0)?;
        Some(fetch_and(self.start, at, !bits))
    }

    /// Where `bytes` bytes at `within` of value `index` begin, if they are inside that value.
    fn offset(&self, index: u32, within: usize, bytes: usize) -> Option<usize> {
        (index < self.entries && within.checked_add(bytes)? <= self.size).then(|| index as usize * self.stride + within)
    }
}

fn map_shared(map: impl AsFd, length: NonZeroUsize) -> io::Result<NonNull<u8>> {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses the address, so no memory of this process is replaced.
    let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, 0) }?;
    Ok(start.cast())
}

fn unmap(start: NonNull<u8>, length: NonZeroUsize) {
    // SAFETY: exactly what `map_shared` mapped; called once, from the owner's drop, and no reference into it exists.
    let _ = unsafe { munmap(start.cast(), length.get()) };
}

fn read<T: Pod>(start: NonNull<u8>, at: usize) -> T {
    // SAFETY: `Mapping::offset` has proved that `at` and the bytes behind it are inside the mapping. Every bit pattern
    // is a `T`, and values begin on 8-byte boundaries, the largest alignment of what is read in whole.
    unsafe { start.as_ptr().add(at).cast::<Unaligned<T>>().read_volatile() }.0
}

/// A value whose record asks for cache-line alignment may lie on any boundary once copied out.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned<T: Copy>(T);

fn store_u32(start: NonNull<u8>, at: usize, value: u32) {
    // SAFETY: inside the mapping (`Mapping::offset`), and values begin on 8-byte boundaries.
    unsafe { AtomicU32::from_ptr(start.as_ptr().add(at).cast()) }.store(value, Ordering::Relaxed);
}

fn store_u64(start: NonNull<u8>, at: usize, value: u64) {
    // SAFETY: inside the mapping (`Mapping::offset`), and values begin on 8-byte boundaries.
    unsafe { AtomicU64::from_ptr(start.as_ptr().add(at).cast()) }.store(value, Ordering::Release);
}

fn fetch_and(start: NonNull<u8>, at: usize, mask: u64) -> u64 {
    // SAFETY: inside the mapping and a multiple of 8 (`Mapping::clear_bits`). The kernel changes the word by atomics
    // too.
    unsafe { AtomicU64::from_ptr(start.as_ptr().add(at).cast()) }.fetch_and(mask, Ordering::AcqRel)
}
