//! Internet checksum arithmetic (RFC 1071, RFC 1624).
//!
//! Sums are taken over 16-bit words in memory order: one's-complement sums do not depend on byte order as long as all
//! words are read the same way, so nothing is swapped. A *difference* is what a change of fields adds to a sum: `new +
//! ~old`, folded to 16 bits; a header checksum `c` becomes `!fold(!c + difference)` (RFC 1624, equation 3).

/// Folds a sum of 16-bit words to 16 bits with end-around carry. Holds for sums of up to 2^16 words.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Sum of the two words of `word`.
#[inline(always)]
pub const fn words(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// Difference of replacing one 32-bit field by another.
#[inline(always)]
pub const fn difference32(old: u32, new: u32) -> u32 {
    words(!old) + words(new)
}

/// Difference of replacing one 16-bit field by another.
#[inline(always)]
pub const fn difference16(old: u16, new: u16) -> u32 {
    (!old) as u32 + new as u32
}

/// The checksum after its covered fields changed by `difference` (a sum of up to 2^15 words).
#[inline(always)]
pub const fn apply(check: u16, difference: u32) -> u16 {
    !fold((!check) as u32 + difference)
}

/// Difference that a TTL decrement makes: the TTL is the first byte of its word.
pub const TTL_DECREMENT: u32 = !u16::from_ne_bytes([1, 0]) as u32;

/// Sum over bytes in memory order; an odd last byte is the first byte of its word.
pub fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum = 0u32;
    for pair in pairs {
        sum = sum.wrapping_add(u16::from_ne_bytes(*pair) as u32);
    }
    if let [last] = rest {
        sum += u16::from_ne_bytes([*last, 0]) as u32;
    }
    sum
}

#[cfg(test)]
mod tests;
