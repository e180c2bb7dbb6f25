use proptest::prelude::*;

use super::*;
use crate::{
    abi::Ip4,
    testing::{
        tables::{MemTables, Options},
        world::World,
    },
};

fn tables(bounds: &[u128], base: u32) -> MemTables {
    let mut world = World::empty();
    world.source_bounds = vec![Bound::default(); base as usize];
    world.source_bounds.extend(bounds.iter().map(|bound| Bound::from_number(*bound)));
    world.policies.insert(1, Policy::new(base, bounds.len() as u32, false));
    MemTables::new(world, Options::default())
}

fn admits(tables: &MemTables, source: u128) -> bool {
    let Bound { hi, lo } = Bound::from_number(source);
    admits_source_bits(tables.tc(), 1, hi, lo) == 1
}

#[test]
fn no_bound_admits_nobody_and_one_at_zero_everybody() {
    for source in [0, 1, u128::MAX / 2, u128::MAX] {
        assert!(!admits(&tables(&[], 0), source));
        assert!(admits(&tables(&[0], 5), source));
    }
}

#[test]
fn steps_suffice_for_the_greatest_slice() {
    let mut left = Policy::MAX_BOUNDS;
    for _ in 0..Policy::SEARCH_STEPS {
        left /= 2;
    }
    assert_eq!(left, 0);
}

#[test]
fn an_ipv4_address_is_its_mapped_address() {
    let mapped = std::net::Ipv4Addr::new(10, 0, 1, 2).to_ipv6_mapped();
    assert_eq!(Bound::v4(Ip4::from_wire([10, 0, 1, 2])), Bound::v6(mapped.octets()));
}

proptest! {
    #[test]
    fn less_is_less(a: u64, b: u64) {
        prop_assert_eq!(less(a, b), u64::from(a < b));
        prop_assert_eq!(less(a, a), 0);
    }

    /// Membership is the parity of the bounds that are not above.
    #[test]
    fn the_search_counts_the_bounds(
        small in prop::collection::btree_set(0u128..200, 0..80),
        wide in prop::collection::btree_set(any::<u128>(), 0..40),
        probes in prop::collection::vec(prop_oneof![0u128..220, any::<u128>()], 60),
        base in 0u32..20,
    ) {
        let bounds: Vec<u128> = small.into_iter().chain(wide).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let tables = tables(&bounds, base);
        for probe in probes.into_iter().chain(bounds.iter().copied()) {
            let expected = bounds.iter().filter(|bound| **bound <= probe).count() % 2 == 1;
            prop_assert_eq!(admits(&tables, probe), expected, "{}", probe);
        }
    }

    #[test]
    fn a_policy_is_the_word_that_it_is_written_as(base: u32, len in 0..=Policy::MAX_BOUNDS, established: bool) {
        let policy = Policy::new(base, len, established);
        prop_assert_eq!(Policy::from_word(policy.to_word()), policy);
        prop_assert_eq!((policy.base, policy.len(), policy.established()), (base, len, established));
        prop_assert_eq!(bytemuck::cast::<Policy, u64>(policy), policy.to_word());
    }
}
