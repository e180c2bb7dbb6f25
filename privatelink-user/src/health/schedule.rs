//! When each target is probed: thousands of checks, spread evenly, none forgotten. Targets that appear together are
//! probed for the first time soon, one after the other, and for the second time anywhere within the interval; from then
//! on each keeps its interval, so the crowd stays spread.
//!
//! Pure: times are milliseconds on any monotonic clock and come in as arguments; the spread comes from a seed.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

/// The first probes of targets that appear together are spread so that about this many start in a millisecond.
/// One new target is probed within a millisecond; 10,000 take ten seconds or one interval, whichever is less.
const FIRST_PROBES_PER_MS: u64 = 1;
/// Each interval is up to this much shorter or longer, so that targets never fall into step.
const JITTER_PERCENT: u64 = 5;

#[derive(Clone, Copy, Debug)]
struct Entry {
    due: u64,
    interval: u64,
    round: u64,
}

/// What is due when. `K` names one check.
#[derive(Debug)]
pub struct Schedule<K> {
    seed: u64,
    entries: HashMap<K, Entry>,
    queue: BTreeSet<(u64, K)>,
}

impl<K: Clone + Eq + Hash + Ord> Schedule<K> {
    /// An empty schedule; equal seeds and calls give equal times.
    pub fn new(seed: u64) -> Self {
        Self { seed, entries: HashMap::new(), queue: BTreeSet::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes the schedule hold exactly `wanted` (check, interval in milliseconds). A check that stays keeps its place;
    /// one whose interval changed is due by the end of the new interval at the latest.
    pub fn retain_and_add(&mut self, wanted: &HashMap<K, u64>, now: u64) {
        let gone: Vec<K> = self.entries.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        let new = wanted.keys().filter(|key| !self.entries.contains_key(*key)).count() as u64;
        for (key, &interval) in wanted {
            let interval = interval.max(1);
            match self.entries.get(key).copied() {
                Some(entry) if entry.interval == interval => {}
                Some(entry) => {
                    let due = entry.due.min(now.saturating_add(interval));
                    self.place(key.clone(), Entry { due, interval, ..entry });
                }
                None => {
                    let window = (new / FIRST_PROBES_PER_MS).clamp(1, interval);
                    let due = now.saturating_add(self.draw(key, 0) % window);
                    self.place(key.clone(), Entry { due, interval, round: 0 });
                }
            }
        }
    }

    /// Makes a check due at `at` if it would be later. An unknown one is no error.
    pub fn expedite(&mut self, key: &K, at: u64) {
        if let Some(entry) = self.entries.get(key).copied()
            && entry.due > at
        {
            self.place(key.clone(), Entry { due: at, ..entry });
        }
    }

    /// Takes a check out. An unknown one is no error.
    pub fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.queue.remove(&(entry.due, key.clone()));
        }
    }

    /// The checks that are due at `now`, each once, and already placed one interval on. A check that is late by more
    /// than an interval (a suspended machine) is due once, not once for each interval missed.
    pub fn take_due(&mut self, now: u64) -> Vec<K> {
        let mut due = Vec::new();
        while let Some((at, key)) = self.queue.first().cloned() {
            if at > now {
                break;
            }
            self.queue.pop_first();
            if let Some(entry) = self.entries.get(&key).copied() {
                let round = entry.round.wrapping_add(1);
                let draw = self.draw(&key, round);
                let step = if entry.round == 0 && self.entries.len() > 1 {
                    draw % entry.interval + 1
                } else {
                    let spread = (entry.interval * JITTER_PERCENT / 100).max(1);
                    (entry.interval + draw % (2 * spread)).saturating_sub(spread).max(1)
                };
                let next = at.saturating_add(step);
                let next = if next > now { next } else { now.saturating_add(step) };
                self.place(key.clone(), Entry { due: next, round, ..entry });
            }
            due.push(key);
        }
        due
    }

    /// When the next check is due.
    pub fn next_due(&self) -> Option<u64> {
        self.queue.first().map(|(at, _)| *at)
    }

    fn place(&mut self, key: K, entry: Entry) {
        if let Some(old) = self.entries.insert(key.clone(), entry) {
            self.queue.remove(&(old.due, key.clone()));
        }
        self.queue.insert((entry.due, key));
    }

    fn draw(&self, key: &K, round: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, key, round).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(count: u32, interval: u64) -> HashMap<u32, u64> {
        (0..count).map(|key| (key, interval)).collect()
    }

    #[test]
    fn a_single_new_target_is_probed_at_once() {
        let mut schedule = Schedule::new(7);
        schedule.retain_and_add(&wanted(1, 30_000), 1_000);
        assert_eq!(schedule.take_due(1_000), [0]);
    }

    #[test]
    fn ten_thousand_targets_never_burst() {
        let mut schedule = Schedule::new(1);
        schedule.retain_and_add(&wanted(10_000, 30_000), 0);
        let mut worst = 0;
        let mut total = 0;
        for now in (0..120_000).step_by(10) {
            let due = schedule.take_due(now).len();
            worst = worst.max(due);
            total += due;
        }
        // On average ten a slice of 10 ms at first (one a millisecond), a third of that later.
        assert!(worst <= 40, "{worst} checks in one slice of 10 ms");
        assert!((46_000..=50_000).contains(&total), "{total} checks in four intervals");
    }

    #[test]
    fn a_check_that_is_brought_forward_keeps_its_interval_from_there() {
        let mut schedule = Schedule::new(3);
        schedule.retain_and_add(&wanted(1, 100_000), 0);
        schedule.take_due(10);
        schedule.expedite(&0, 500);
        schedule.expedite(&0, 900);
        schedule.expedite(&7, 500);
        assert_eq!((schedule.take_due(499), schedule.take_due(500)), (vec![], vec![0]));
        assert!(schedule.next_due().is_some_and(|due| due >= 95_000));
    }

    #[test]
    fn a_suspended_machine_catches_up_with_one_check_each() {
        let mut schedule = Schedule::new(1);
        schedule.retain_and_add(&wanted(50, 5_000), 0);
        assert_eq!(schedule.take_due(3_600_000).len(), 50);
        assert!(schedule.take_due(3_600_000).is_empty());
    }

    #[test]
    fn a_shorter_interval_takes_effect_within_itself() {
        let mut schedule = Schedule::new(3);
        schedule.retain_and_add(&wanted(1, 300_000), 0);
        schedule.take_due(10);
        schedule.retain_and_add(&wanted(1, 5_000), 10);
        assert!(schedule.next_due().is_some_and(|due| due <= 5_010));
    }

    proptest! {
        /// Every check is due once in every interval, give or take the jitter, for ever.
        #[test]
        fn every_check_keeps_its_interval(seed: u64, count in 1u32..40, interval in 100u64..10_000) {
            let mut schedule = Schedule::new(seed);
            schedule.retain_and_add(&wanted(count, interval), 0);
            let mut last: HashMap<u32, (u64, u32)> = HashMap::new();
            let slack = interval * JITTER_PERCENT / 100 + 1;
            while let Some(now) = schedule.next_due() {
                if now > interval * 10 {
                    break;
                }
                for key in schedule.take_due(now) {
                    let (before, probes) = last.get(&key).copied().unwrap_or((0, 0));
                    match probes {
                        0 => prop_assert!(now <= interval),
                        1 if count > 1 => prop_assert!(now - before <= interval),
                        _ => prop_assert!((now - before).abs_diff(interval) <= slack),
                    }
                    last.insert(key, (now, probes + 1));
                }
            }
            prop_assert_eq!(last.len(), count as usize);
        }

        /// Whatever the number of targets, every twentieth of an interval has its fair share of checks once each target
        /// has had its second: at most twice the mean, give or take what chance does to small numbers.
        #[test]
        fn no_part_of_an_interval_is_crowded(seed: u64, count in 100u32..3_000, interval in 5_000u64..60_000) {
            let mut schedule = Schedule::new(seed);
            schedule.retain_and_add(&wanted(count, interval), 0);
            let mut slices = vec![0u64; 200];
            while let Some(now) = schedule.next_due().filter(|due| *due < 10 * interval) {
                if let Some(slice) = slices.get_mut((now * 20 / interval) as usize) {
                    *slice += schedule.take_due(now).len() as u64;
                }
            }
            let most = u64::from(count) / 20 * 2 + 12;
            for slice in slices.get(40..).unwrap_or_default() {
                prop_assert!(*slice <= most, "{} checks in a twentieth of the interval, of {}", slice, count);
            }
        }

        #[test]
        fn what_is_not_wanted_is_never_due(seed: u64, keep in prop::collection::hash_set(0u32..50, 0..50)) {
            let mut schedule = Schedule::new(seed);
            schedule.retain_and_add(&wanted(50, 1_000), 0);
            let kept: HashMap<u32, u64> = keep.iter().map(|&key| (key, 1_000)).collect();
            schedule.retain_and_add(&kept, 0);
            let due: std::collections::HashSet<u32> = schedule.take_due(2_000).into_iter().collect();
            prop_assert_eq!(due, keep);
        }
    }
}
