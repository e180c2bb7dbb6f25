//! A checked stretch of a frame: bounds are checked once, accesses inside it are checked at compile time.
//!
//! Words are in memory order (the value of bytes `a b` is `u16::from_ne_bytes([a, b])`). Headers are not aligned in a
//! frame, so on BPF the loads and stores are single instructions written as such: LLVM would take them apart into
//! bytes.

/// `LEN` readable, and to its maker writable, bytes.
#[derive(Clone, Copy)]
pub struct Window<const LEN: usize>(*mut u8);

macro_rules! access {
    ($($load:ident $store:ident $word:ty, $width:literal;)+) => { $(
        /// The word at offset `AT`.
        #[inline(always)]
        pub fn $load<const AT: usize>(self) -> $word {
            const { assert!(AT + size_of::<$word>() <= LEN) };
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: within the window, which its maker has checked.
            return unsafe { self.0.add(AT).cast::<$word>().read_unaligned() };
            #[cfg(target_arch = "bpf")]
            {
                let value: u64;
                // SAFETY: as above; the verifier checks it again.
                unsafe {
                    core::arch::asm!(
                        concat!("{value} = *(", $width, " *)({from} + {at})"),
                        value = out(reg) value, from = in(reg) self.0, at = const AT,
                        options(nostack, readonly, preserves_flags),
                    );
                }
                value as $word
            }
        }

        /// Overwrites the word at offset `AT`. Only who made the window from writable bytes may call it.
        #[inline(always)]
        pub fn $store<const AT: usize>(self, value: $word) {
            const { assert!(AT + size_of::<$word>() <= LEN) };
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: within the window, which its maker has checked and may write.
            unsafe {
                self.0.add(AT).cast::<$word>().write_unaligned(value);
            }
            #[cfg(target_arch = "bpf")]
            // SAFETY: as above; the verifier checks it again.
            unsafe {
                core::arch::asm!(
                    concat!("*(", $width, " *)({to} + {at}) = {value}"),
                    value = in(reg) value as u64, to = in(reg) self.0, at = const AT,
                    options(nostack, preserves_flags),
                );
            }
        }
    )+ };
}

impl<const LEN: usize> Window<LEN> {
    /// # Safety
    /// `LEN` bytes from `start` on are readable while the window lives, and writable if anything is stored through it.
    #[inline(always)]
    pub const unsafe fn new(start: *mut u8) -> Self {
        Self(start)
    }

    /// The first byte.
    #[inline(always)]
    pub const fn as_ptr(self) -> *mut u8 {
        self.0
    }

    access! {
        load8 store8 u8, "u8";
        load16 store16 u16, "u16";
        load32 store32 u32, "u32";
        load64 store64 u64, "u64";
    }
}

/// The low byte of an offset. In the kernel by an instruction that stays: the compiler may know that the value is
/// small, but the verifier of 6.1 takes packet offsets of unknown size for too large.
#[inline(always)]
pub fn low_byte(offset: usize) -> usize {
    #[cfg(not(target_arch = "bpf"))]
    return offset & 0xff;
    #[cfg(target_arch = "bpf")]
    {
        let mut low = offset;
        // SAFETY: one arithmetic instruction on a register.
        unsafe {
            core::arch::asm!("{low} &= 255", low = inout(reg) low, options(pure, nomem, nostack, preserves_flags));
        }
        low
    }
}
