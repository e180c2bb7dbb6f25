//! Atomic operations on words that CPUs, and the agent through its mapping, share.
//!
//! On the host these are `core::sync::atomic`. The BPF target has no such types (its `atomic_cas` is off although the
//! instructions exist from kernel 5.12 on), so there they are the compiler's intrinsics; loads are volatile, because
//! LLVM cannot select an atomic load for BPF. Read-modify-write instructions of BPF order all memory accesses; plain
//! loads and stores keep their order on x86-64, which is what the flow table's version check relies on.

#[cfg(not(target_arch = "bpf"))]
mod imp {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

    macro_rules! ops {
        ($word:ty, $atomic:ty, $load:ident, $store:ident, $cas:ident, $add:ident) => {
            /// # Safety
            /// `p` is valid, aligned, and shared only through this module.
            #[inline(always)]
            pub unsafe fn $load(p: *const $word) -> $word {
                // SAFETY: as the caller promises.
                unsafe { <$atomic>::from_ptr(p.cast_mut()) }.load(SeqCst)
            }
            /// # Safety
            /// As the load.
            #[inline(always)]
            pub unsafe fn $store(p: *mut $word, value: $word) {
                // SAFETY: as the caller promises.
                unsafe { <$atomic>::from_ptr(p) }.store(value, SeqCst);
            }
            /// Compare and swap; returns what was there.
            /// # Safety
            /// As the load.
            #[inline(always)]
            pub unsafe fn $cas(p: *mut $word, old: $word, new: $word) -> $word {
                // SAFETY: as the caller promises.
                match unsafe { <$atomic>::from_ptr(p) }.compare_exchange(old, new, SeqCst, SeqCst) {
                    Ok(was) | Err(was) => was,
                }
            }
            /// # Safety
            /// As the load.
            #[inline(always)]
            pub unsafe fn $add(p: *mut $word, n: $word) -> $word {
                // SAFETY: as the caller promises.
                unsafe { <$atomic>::from_ptr(p) }.fetch_add(n, SeqCst)
            }
        };
    }

    ops!(u32, AtomicU32, load32, store32, cas32, add32);
    ops!(u64, AtomicU64, load64, store64, cas64, add64);

    /// # Safety
    /// `p` is valid, aligned.
    #[inline(always)]
    pub unsafe fn or64(p: *mut u64, bits: u64) -> u64 {
        // SAFETY: as the caller promises.
        unsafe { AtomicU64::from_ptr(p) }.fetch_or(bits, SeqCst)
    }
    /// # Safety
    /// `p` is valid, aligned.
    #[inline(always)]
    pub unsafe fn and64(p: *mut u64, bits: u64) -> u64 {
        // SAFETY: as the caller promises.
        unsafe { AtomicU64::from_ptr(p) }.fetch_and(bits, SeqCst)
    }
}

#[cfg(target_arch = "bpf")]
mod imp {
    use core::intrinsics::{AtomicOrdering::SeqCst, atomic_and, atomic_cxchg, atomic_or, atomic_xadd};

    macro_rules! ops {
        ($word:ty, $load:ident, $store:ident, $cas:ident, $add:ident) => {
            /// # Safety
            /// `p` points into a map value or the stack, aligned.
            #[inline(always)]
            pub unsafe fn $load(p: *const $word) -> $word {
                // SAFETY: as the caller promises; the verifier checks the bounds.
                unsafe { p.read_volatile() }
            }
            /// # Safety
            /// As the load.
            #[inline(always)]
            pub unsafe fn $store(p: *mut $word, value: $word) {
                // SAFETY: as the caller promises.
                unsafe { p.write_volatile(value) }
            }
            /// Compare and swap; returns what was there.
            /// # Safety
            /// As the load.
            #[inline(always)]
            pub unsafe fn $cas(p: *mut $word, old: $word, new: $word) -> $word {
                // SAFETY: as the caller promises.
                unsafe { atomic_cxchg::<$word, { SeqCst }, { SeqCst }>(p, old, new).0 }
            }
            /// # Safety
            /// As the load.
            #[inline(always)]
            pub unsafe fn $add(p: *mut $word, n: $word) -> $word {
                // SAFETY: as the caller promises.
                unsafe { atomic_xadd::<$word, $word, { SeqCst }>(p, n) }
            }
        };
    }

    ops!(u32, load32, store32, cas32, add32);
    ops!(u64, load64, store64, cas64, add64);

    /// # Safety
    /// `p` points into a map value or the stack, aligned.
    #[inline(always)]
    pub unsafe fn or64(p: *mut u64, bits: u64) -> u64 {
        // SAFETY: as the caller promises.
        unsafe { atomic_or::<u64, u64, { SeqCst }>(p, bits) }
    }
    /// # Safety
    /// `p` points into a map value or the stack, aligned.
    #[inline(always)]
    pub unsafe fn and64(p: *mut u64, bits: u64) -> u64 {
        // SAFETY: as the caller promises.
        unsafe { atomic_and::<u64, u64, { SeqCst }>(p, bits) }
    }
}

pub use imp::*;
