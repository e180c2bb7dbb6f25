//! Maglev rings with weights: the table that a new flow's hash is looked up in.
//!
//! Each member walks its own permutation of the slots and takes the next free one when it is its turn; a member of
//! weight *w* has *w* turns where the heaviest has *max(w)* (Eisenbud et al., "Maglev", NSDI 2016, section 3.4). Two
//! rings whose members differ by one differ in little more than that member's share of the slots.

use std::{collections::BTreeMap, sync::Arc};

/// Slots of a ring of up to [`SMALL_MEMBERS`] members. Prime, so that every step width visits every slot.
pub const SMALL: u32 = 1_009;
/// Slots of a larger ring. Prime.
pub const LARGE: u32 = 65_537;
/// Up to here [`SMALL`] slots leave every member at least ten.
pub const SMALL_MEMBERS: usize = 100;

/// One candidate for the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What goes into the slots: the target's index.
    pub index: u32,
    /// Identity that outlives restarts and index changes (a hash of address and port): decides the permutation.
    pub identity: u64,
    /// Share of new flows relative to the others; 0 takes none.
    pub weight: u32,
}

/// How many slots a ring of `members` candidates has: none without candidates, one for a single candidate.
pub const fn slots(members: usize) -> u32 {
    match members {
        0 => 0,
        1 => 1,
        2..=SMALL_MEMBERS => SMALL,
        _ => LARGE,
    }
}

/// Fills a ring. The result depends on the set of members only, not on their order, and has [`slots`] entries for the
/// members with a weight above 0.
pub fn build(members: &[Member]) -> Vec<u32> {
    let mut members: Vec<Member> = members.iter().copied().filter(|member| member.weight > 0).collect();
    members.sort_unstable_by_key(|member| (member.identity, member.index));
    members.dedup();
    let size = slots(members.len());
    if let [only] = members.as_slice() {
        return vec![only.index];
    }
    let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(0);
    let mut walks: Vec<Walk> = members.iter().map(|&member| Walk::new(member, size)).collect();
    let mut ring: Vec<Option<u32>> = vec![None; size as usize];
    let mut free = size;
    while free > 0 {
        for walk in &mut walks {
            walk.credit += u64::from(walk.member.weight);
            if walk.credit < u64::from(heaviest) {
                continue;
            }
            walk.credit -= u64::from(heaviest);
            // A free slot exists and the permutation visits all, so this ends.
            loop {
                let at = walk.next(size);
                if let Some(slot @ None) = ring.get_mut(at as usize) {
                    *slot = Some(walk.member.index);
                    free -= 1;
                    break;
                }
            }
            if free == 0 {
                break;
            }
        }
    }
    ring.into_iter().flatten().collect()
}

struct Walk {
    member: Member,
    credit: u64,
    at: u32,
    step: u32,
}

impl Walk {
    fn new(member: Member, size: u32) -> Self {
        let offset = mix(member.identity ^ 0x9e37_79b9_7f4a_7c15) % u64::from(size);
        let step = mix(member.identity ^ 0xd1b5_4a32_d192_ed03) % u64::from(size - 1) + 1;
        Self { member, credit: 0, at: offset as u32, step: step as u32 }
    }

    fn next(&mut self, size: u32) -> u32 {
        let at = self.at;
        self.at = (self.at + self.step) % size;
        at
    }
}

/// Spreads every input bit over the whole word (the finalizer of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Rings by their members: computing one costs milliseconds, and most passes change none.
#[derive(Debug, Default)]
pub struct RingCache(BTreeMap<Members, (Arc<[u32]>, bool)>);

/// Identity and index of each member, sorted.
pub type Members = Vec<(u64, u32)>;

impl RingCache {
    /// The ring of `members`, each of weight 1.
    pub fn ring(&mut self, members: Members) -> Arc<[u32]> {
        let (ring, used) = self.0.entry(members).or_insert_with_key(|members| {
            let members: Vec<Member> =
                members.iter().map(|&(identity, index)| Member { index, identity, weight: 1 }).collect();
            (build(&members).into(), true)
        });
        *used = true;
        Arc::clone(ring)
    }

    /// Forgets what was not asked for since the last call.
    pub fn sweep(&mut self) {
        self.0.retain(|_, (_, used)| std::mem::take(used));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn members(count: u32) -> Vec<Member> {
        (0..count).map(|index| Member { index, identity: u64::from(index) * 7919 + 1, weight: 1 }).collect()
    }

    fn shares(ring: &[u32]) -> HashMap<u32, usize> {
        ring.iter().fold(HashMap::new(), |mut shares, &index| {
            *shares.entry(index).or_default() += 1;
            shares
        })
    }

    #[test]
    fn sizes_are_prime_and_leave_every_member_slots() {
        for size in [SMALL, LARGE] {
            assert!((2..).take_while(|d| d * d <= size).all(|d| size % d != 0), "{size} is not prime");
        }
        assert_eq!([slots(0), slots(1), slots(2), slots(100), slots(101)], [0, 1, SMALL, SMALL, LARGE]);
    }

    #[test]
    fn no_member_leaves_an_empty_ring_and_one_a_single_slot() {
        assert!(build(&[]).is_empty());
        assert_eq!(build(&[Member { index: 9, identity: 1, weight: 3 }]), [9]);
        assert!(build(&[Member { index: 9, identity: 1, weight: 0 }]).is_empty());
    }

    #[test]
    fn a_thousand_members_fill_the_large_ring_evenly() {
        let shares = shares(&build(&members(1_000)));
        assert_eq!(shares.len(), 1_000);
        let (low, high) = (shares.values().min(), shares.values().max());
        assert!(low >= Some(&65) && high <= Some(&66), "{low:?}..{high:?}");
    }

    fn weighted() -> impl Strategy<Value = Vec<Member>> {
        prop::collection::btree_map(any::<u64>(), 0u32..=8, 0..60).prop_map(|members| {
            members.into_iter().zip(0..).map(|((identity, weight), index)| Member { index, identity, weight }).collect()
        })
    }

    proptest! {
        #[test]
        fn order_does_not_matter(members in weighted(), seed: u64) {
            let mut shuffled = members.clone();
            shuffled.sort_by_key(|member| mix(member.identity ^ seed));
            prop_assert_eq!(build(&members), build(&shuffled));
        }

        #[test]
        fn every_slot_is_filled_and_shares_follow_the_weights(members in weighted()) {
            let ring = build(&members);
            let live: Vec<&Member> = members.iter().filter(|member| member.weight > 0).collect();
            prop_assert_eq!(ring.len(), slots(live.len()) as usize);
            let shares = shares(&ring);
            let total: u32 = live.iter().map(|member| member.weight).sum();
            for member in &members {
                let share = shares.get(&member.index).copied().unwrap_or(0) as f64;
                if member.weight == 0 {
                    prop_assert_eq!(share, 0.0);
                } else {
                    let fair = ring.len() as f64 * f64::from(member.weight) / f64::from(total);
                    // All members have the same number of rounds, each rounded down to whole turns: that is one turn of
                    // error of its own, and its part of the slots that all the others' errors leave over.
                    let bound = 2.0 + f64::from(member.weight) * live.len() as f64 / f64::from(total);
                    prop_assert!((share - fair).abs() <= bound, "{} has {share} of fair {fair}", member.index);
                }
            }
        }

        /// Taking one of n equal members out moves its own slots, and few others.
        #[test]
        fn removing_a_member_disturbs_little(count in 3u32..60, gone in 0u32..60) {
            let before = members(count);
            let gone = gone % count;
            let after: Vec<Member> = before.iter().copied().filter(|member| member.index != gone).collect();
            if after.len() < 2 {
                return Ok(());
            }
            let (old, new) = (build(&before), build(&after));
            let moved = old.iter().zip(&new).filter(|(old, new)| old != new && **old != gone).count();
            // The paper's own figure for small tables: a few per cent of the slots beyond the member's own share.
            prop_assert!(moved * 100 <= old.len() * 25, "{moved} of {} slots of others moved", old.len());
        }

        /// Changed indexes rename slots and move none.
        #[test]
        fn indexes_do_not_decide(members in weighted()) {
            let renamed: Vec<Member> =
                members.iter().map(|member| Member { index: member.index + 1_000, ..*member }).collect();
            let shifted: Vec<u32> = build(&members).into_iter().map(|index| index + 1_000).collect();
            let ring = build(&renamed);
            prop_assert_eq!(ring, shifted);
        }
    }
}
