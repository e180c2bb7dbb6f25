//! Values of which the compiler knows nothing.

/// The same value. The compiler neither proves a bounds check away that the verifier needs, nor keeps it as its parts,
/// nor merges it with others into a register that one path leaves unset.
#[inline(always)]
pub fn opaque<T: Copy>(value: T) -> T {
    // SAFETY: a read of a local.
    unsafe { (&raw const value).read_volatile() }
}
