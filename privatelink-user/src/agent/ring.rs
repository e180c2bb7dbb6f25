//! Maglev rings with weights: the table that a new flow's hash is looked up in.
//!
//! Each member walks its own permutation of the slots and takes the next free one when it is its turn; a member of
//! weight *w* has *w* turns where the heaviest has *max(w)* (Eisenbud et al., "Maglev", NSDI 2016, section 3.4). Two
//! rings whose members differ by one differ in little more than that member's share of the slots.

use std::{collections::BTreeMap, sync::Arc};

use privatelink_ebpf::abi::service::Listener;

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

/// One target group of a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Its share of new flows relative to the other groups'; above 0.
    pub weight: u32,
    /// A client's address decides the target.
    pub sticky: bool,
    /// Identity and index of each, sorted; not empty.
    pub members: Vec<(u64, u32)>,
}

/// What a listener leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Groups {
    pub groups: Vec<Group>,
    /// A client's address decides the group.
    pub sticky: bool,
}

/// What decides the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The connection.
    Connection,
    /// The client's address.
    Client,
    /// The client's address decides the row of [`Listener::COLUMNS`] slots, the connection the slot in it.
    Rows,
}

impl Groups {
    fn layout(&self) -> Layout {
        match self.groups.as_slice() {
            [] => Layout::Connection,
            [only] if only.sticky => Layout::Client,
            [_] => Layout::Connection,
            several if self.sticky && several.iter().all(|group| group.sticky) => Layout::Client,
            _ if self.sticky => Layout::Rows,
            _ => Layout::Connection,
        }
    }

    fn build(&self) -> Vec<u32> {
        match self.layout() {
            Layout::Connection | Layout::Client => build(&self.weighted()),
            Layout::Rows => self.rows(),
        }
    }

    /// All members. A group's weight is shared by its members, whatever their number.
    fn weighted(&self) -> Vec<Member> {
        const SCALE: u32 = 1_000_000;
        let alone = self.groups.len() == 1;
        let share = |group: &Group| {
            let members = u32::try_from(group.members.len()).unwrap_or(SCALE).max(1);
            if alone { 1 } else { group.weight.saturating_mul(SCALE / members).max(1) }
        };
        self.groups
            .iter()
            .flat_map(|group| {
                let weight = share(group);
                group.members.iter().map(move |&(identity, index)| Member { index, identity, weight })
            })
            .collect()
    }

    /// Each row is a group's; its slots are the group's next ones, or, if the group is sticky, one of them.
    fn rows(&self) -> Vec<u32> {
        let columns = Listener::COLUMNS as usize;
        let shares: Vec<Member> = (0..)
            .zip(&self.groups)
            .map(|(index, group)| {
                let identity = group.members.iter().fold(0, |sum: u64, (identity, _)| sum.wrapping_add(mix(*identity)));
                Member { index, identity, weight: group.weight }
            })
            .collect();
        let rings: Vec<Vec<u32>> = self
            .groups
            .iter()
            .map(|group| {
                let member = |&(identity, index): &(u64, u32)| Member { index, identity, weight: 1 };
                build(&group.members.iter().map(member).collect::<Vec<_>>())
            })
            .collect();
        let mut at = vec![0usize; rings.len()];
        let mut slots = Vec::new();
        for group in build(&shares) {
            let group = group as usize;
            let (Some(ring), Some(at), Some(Group { sticky, .. })) =
                (rings.get(group), at.get_mut(group), self.groups.get(group))
            else {
                continue;
            };
            let step = usize::from(!sticky);
            slots.extend((0..columns).filter_map(|column| ring.get((*at + column * step) % ring.len())));
            *at += if *sticky { 1 } else { columns };
        }
        slots
    }
}

/// Rings by what they are made of: computing one costs milliseconds, and most passes change none.
#[derive(Debug, Default)]
pub struct RingCache(BTreeMap<Groups, (Arc<[u32]>, bool)>);

impl RingCache {
    /// The ring of some groups, and what decides the slot in it.
    pub fn ring(&mut self, groups: Groups) -> (Arc<[u32]>, Layout) {
        let layout = groups.layout();
        let (ring, used) = self.0.entry(groups).or_insert_with_key(|groups| (groups.build().into(), true));
        *used = true;
        (Arc::clone(ring), layout)
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

        /// Groups share new flows by weight, whatever the number of their members; sticky rows are of one group each.
        #[test]
        fn groups_share_by_weight(
            sizes in prop::collection::vec((1u32..8, 1u32..=9, any::<bool>()), 2..5),
            sticky: bool,
        ) {
            let mut next = 0;
            let groups: Vec<Group> = sizes
                .iter()
                .map(|&(size, weight, own)| {
                    let members = (0..size).map(|n| (u64::from(next + n) * 7919 + 1, next + n)).collect();
                    next += size;
                    Group { weight, sticky: own && sticky, members }
                })
                .collect();
            let of_group = |index: u32| groups.iter().position(|group| group.members.iter().any(|(_, i)| *i == index));
            let all = Groups { groups: groups.clone(), sticky };
            let (ring, layout) = RingCache::default().ring(all);
            let mut counts = vec![0usize; groups.len()];
            for index in ring.iter() {
                counts[of_group(*index).expect("a member")] += 1;
            }
            let total: u32 = groups.iter().map(|group| group.weight).sum();
            for (group, count) in groups.iter().zip(counts) {
                let fair = ring.len() as f64 * f64::from(group.weight) / f64::from(total);
                prop_assert!((count as f64 - fair).abs() <= ring.len() as f64 * 0.05, "{count} of fair {fair}");
            }
            match layout {
                Layout::Rows => {
                    for row in ring.chunks(Listener::COLUMNS as usize) {
                        let group = of_group(row[0]).expect("a member");
                        prop_assert!(row.iter().all(|index| of_group(*index) == Some(group)));
                        if groups[group].sticky {
                            prop_assert!(row.iter().all(|index| *index == row[0]));
                        }
                    }
                }
                Layout::Client => prop_assert!(sticky && groups.iter().all(|group| group.sticky)),
                Layout::Connection => prop_assert!(!sticky),
            }
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
