use etherparse::checksum::Sum16BitWords;
use proptest::prelude::*;

use super::*;

/// An independent implementation of the whole-buffer checksum, its bytes in memory order.
fn oracle(bytes: &[u8]) -> u16 {
    Sum16BitWords::new().add_slice(bytes).ones_complement()
}

/// 0 and 0xffff are the same number in one's complement.
fn same(a: u16, b: u16) -> bool {
    a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
}

proptest! {
    #[test]
    fn whole_sum_agrees_with_an_independent_implementation(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(same(!fold(sum(&bytes)), oracle(&bytes)));
    }

    #[test]
    fn incremental_update_equals_recomputation(
        mut bytes in prop::collection::vec(any::<u8>(), 20..200),
        at in 0usize..8,
        new in any::<u32>(),
    ) {
        let at = at * 2;
        let before = !fold(sum(&bytes));
        let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
        prop_assert!(same(apply(before, difference32(old, new)), !fold(sum(&bytes))));
    }

    #[test]
    fn sixteen_bit_update_equals_recomputation(
        mut bytes in prop::collection::vec(any::<u8>(), 20..60),
        at in 0usize..8,
        new in any::<u16>(),
    ) {
        let at = at * 2;
        let before = !fold(sum(&bytes));
        let old = u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
        bytes[at..at + 2].copy_from_slice(&new.to_ne_bytes());
        prop_assert!(same(apply(before, difference16(old, new)), !fold(sum(&bytes))));
    }

    #[test]
    fn ttl_decrement_equals_recomputation(mut header in any::<[u8; 20]>()) {
        header[8] = header[8].max(1);
        header[10..12].fill(0);
        let before = !fold(sum(&header));
        header[8] -= 1;
        prop_assert!(same(apply(before, TTL_DECREMENT), !fold(sum(&header))));
    }
}
