use std::{
    collections::{HashMap, HashSet},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::{
    abi::{VpcIndex, entries},
    testing::{
        tables::{MemTables, Options, View},
        world::World,
    },
};

fn tables(options: Options) -> MemTables {
    MemTables::new(World::empty(), options)
}

fn key(number: u32) -> FlowKey {
    FlowKey::tcp(
        VpcIndex(1 + (number % 3) as u16),
        Ip4::from_word(number.wrapping_mul(0x0101_0101)),
        L4Port::new(number as u16),
        Ip4::from_wire([10, 0, 0, 50]),
        L4Port::new(80),
    )
}

/// What an entry of this key carries, so that a reader can tell whose fields it reads.
fn tag(key: &FlowKey) -> u32 {
    let [lo, hi] = key.words();
    (lo ^ lo >> 32 ^ hi ^ hi >> 32) as u32
}

/// Makes an entry as a new flow's is made. True: made; false: the key is there already.
fn insert(t: View<'_, false>, key: &FlowKey) -> Result<bool, NoRoom> {
    let lock = loop {
        if let Some(lock) = lock(t, key) {
            break lock;
        }
    };
    let outcome = if t.find(key).is_some() {
        Ok(false)
    } else {
        reserve(t, key).and_then(|reserved| {
            let entry = reserved.entry();
            let [lo, hi] = key.words();
            // SAFETY: the entry is reserved.
            unsafe {
                let words = (&raw mut (*entry).key).cast::<u64>();
                words.write_volatile(lo);
                words.add(1).write_volatile(hi);
                (&raw mut (*entry).target).write_volatile(tag(key));
                (&raw mut (*entry).new_src).write_volatile(Ip4::from_word(tag(key)));
            }
            let published = reserved.publish(t, key, FlowState::Established, false, 0, 350);
            if published { Ok(true) } else { Err(NoRoom::Full) }
        })
    };
    lock.unlock();
    outcome
}

/// An entry, if it is this key's for as long as it is looked at.
fn look(t: View<'_, false>, key: &FlowKey) -> Option<SlotRef> {
    let found = t.find(key)?;
    let (target, new_src) = (found.target(), found.new_src());
    if !found.current() {
        return None;
    }
    assert_eq!(target, tag(key), "another key's fields");
    assert_eq!(new_src.word(), tag(key), "another key's fields");
    Some(found)
}

fn assert_no_duplicates(tables: &MemTables) {
    let mut seen = HashSet::new();
    for slot in tables.slots() {
        assert!(seen.insert(slot.key), "{:?} is there twice", FlowKey::from_words(slot.key));
    }
}

#[test]
fn ninety_percent_load_with_overflow_into_the_stash() {
    let buckets = 1024;
    let tables = tables(Options { buckets, stash: 2048, ..Options::default() });
    let t = tables.tc();
    let count = buckets * WAYS as u32 * 9 / 10;
    for number in 0..count {
        assert_eq!(insert(t, &key(number)), Ok(true));
        assert_eq!(insert(t, &key(number)), Ok(false));
    }
    for number in 0..count {
        assert!(look(t, &key(number)).is_some(), "{number}");
        assert_eq!(t.stash(&key(number)).is_some(), find_index(t, &key(number)).is_none());
    }
    assert!(look(t, &key(count)).is_none());
    assert_no_duplicates(&tables);
    let stashed = tables.stash_len();
    assert!(stashed > 0, "nothing is stashed");
    // The default sizes have room for what is stashed at this load.
    let defaults = entries::FLOWS as usize * WAYS * 9 / 10;
    let needed = defaults * stashed / count as usize;
    assert!(needed < entries::STASH as usize, "{needed} of {defaults} entries are stashed");
    for number in 0..count {
        assert!(look(t, &key(number)).expect("an entry").remove(t));
        assert!(t.find(&key(number)).is_none());
    }
    assert_eq!(tables.slots().len(), 0);
    assert_eq!(tables.stash_len(), 0);
}

#[test]
fn most_entries_are_found_in_one_line_at_half_load() {
    let buckets = 4096;
    let tables = tables(Options { buckets, stash: 64, ..Options::default() });
    let t = tables.tc();
    let count = buckets * WAYS as u32 / 2;
    for number in 0..count {
        assert_eq!(insert(t, &key(number)), Ok(true));
    }
    let primary = (0..count).filter(|number| find_primary(t, key(*number).words()).is_some()).count();
    assert!(primary * 8 > count as usize * 7, "{primary} of {count}");
    assert!(tables.stash_len() * 100 < count as usize, "{} of {count} entries are stashed", tables.stash_len());
}

#[test]
fn a_full_table_refuses_and_takes_again_what_becomes_free() {
    for reference in [false, true] {
        let options = Options { buckets: 2, stash: 4, reference, ..Options::default() };
        let tables = tables(options);
        let t = tables.tc();
        let room = if reference { 4 } else { 12 };
        let mut inside = Vec::new();
        for number in 0..200 {
            match insert(t, &key(number)) {
                Ok(true) => inside.push(number),
                Err(NoRoom::Full) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(inside.len(), room);
        assert!(insert(t, &key(500)).is_err());
        let gone = inside.pop().expect("an entry");
        assert!(look(t, &key(gone)).expect("it").remove(t));
        // Its own place is free again, wherever that was.
        assert_eq!(insert(t, &key(gone)), Ok(true));
        assert!(inside.iter().all(|number| look(t, &key(*number)).is_some()));
    }
}

#[test]
fn a_slot_that_changed_hands_is_noticed() {
    for reference in [false, true] {
        let tables = tables(Options { buckets: 1, stash: 1, reference, ..Options::default() });
        let t = tables.tc();
        assert_eq!(insert(t, &key(1)), Ok(true));
        let old = look(t, &key(1)).expect("it");
        assert!(old.current());
        assert!(old.remove(t));
        assert!(!old.current());
        assert!(!old.remove(t), "removed once");
        assert!(old.transition(FlowState::Closing, 0).is_none());
        // In one bucket and a stash of one, some of these take the same slot.
        for number in 2..6 {
            let _ = insert(t, &key(number));
        }
        assert!(!old.current());
        assert!(!old.remove(t));
        assert!(t.find(&key(1)).is_none());
        assert!(look(t, &key(2)).is_some());
    }
}

#[test]
fn the_secret_decides_where_keys_go() {
    let places = |seed| (0..64).map(|n| hash(key(n).words(), seed) as u32 & 63).collect::<Vec<_>>();
    assert_ne!(places(1), places(2));
    let spread: HashSet<u32> = places(1).into_iter().collect();
    assert!(spread.len() > 30, "64 keys in {} of 64 buckets", spread.len());
}

/// Every bit that a client chooses, of addresses and ports, moves every bit of the hash now and then, and not always.
#[test]
fn the_hash_depends_on_every_bit() {
    for bit in 0..96 {
        let mut flips = [0u32; 64];
        for number in 0..400u32 {
            let [mut lo, mut hi] = key(number.wrapping_mul(2_654_435_761)).words();
            let before = hash([lo, hi], 7);
            if bit < 64 {
                lo ^= 1 << bit
            } else {
                hi ^= 1 << (bit - 64)
            }
            let changed = before ^ hash([lo, hi], 7);
            for (i, count) in flips.iter_mut().enumerate() {
                *count += (changed >> i & 1) as u32;
            }
        }
        for (i, count) in flips.iter().enumerate() {
            assert!((20..380).contains(count), "bit {bit} of the key moves bit {i} of the hash {count} times in 400");
        }
    }
}

#[test]
fn threads_that_insert_the_same_keys_make_each_once() {
    for reference in [false, true] {
        for round in 0..20 {
            let tables = tables(Options { buckets: 32, stash: 512, reference, cpus: 4, ..Options::default() });
            let keys: Vec<FlowKey> = (0..200).map(|n| key(n + round * 1000)).collect();
            let made: usize = thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|cpu| {
                        let (tables, keys) = (&tables, &keys);
                        scope.spawn(move || {
                            let t = tables.view::<false>(cpu);
                            keys.iter().filter(|key| insert(t, key) == Ok(true)).count()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
            });
            assert_eq!(made, keys.len());
            assert_no_duplicates(&tables);
            assert_eq!(tables.slots().len(), keys.len());
        }
    }
}

#[test]
fn churn_by_four_threads_leaves_no_duplicate_and_no_stray() {
    for reference in [false, true] {
        let tables = tables(Options { buckets: 16, stash: 64, reference, cpus: 4, ..Options::default() });
        thread::scope(|scope| {
            for cpu in 0..4usize {
                let tables = &tables;
                scope.spawn(move || {
                    let t = tables.view::<false>(cpu);
                    let mut random = cpu as u32 + 1;
                    for _ in 0..30_000 {
                        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        // More keys than there is room for.
                        let key = key(random >> 8 & 127);
                        match random >> 28 {
                            0..6 => drop(insert(t, &key)),
                            6..10 => {
                                if let Some(found) = t.find(&key) {
                                    found.remove(t);
                                }
                            }
                            10..12 => {
                                if let Some(found) = t.find(&key) {
                                    let _ = found.transition(FlowState::Closing, found.meta().flags);
                                }
                            }
                            _ => drop(look(t, &key)),
                        }
                    }
                });
            }
        });
        assert_no_duplicates(&tables);
        let t = tables.tc();
        for number in 0..128 {
            if let Some(found) = look(t, &key(number)) {
                assert!(found.remove(t));
            }
            assert!(t.find(&key(number)).is_none());
        }
        assert_eq!(tables.slots().len(), 0, "entries that nobody finds");
        assert_eq!(tables.stash_len(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any sequence of operations agrees with a map of the standard library.
    #[test]
    fn agrees_with_a_map(reference: bool, seed: u64, steps in prop::collection::vec((0u8..4, 0u32..60), 1..400)) {
        let (buckets, stash) = (4, if reference { 24 } else { 8 });
        let tables = tables(Options { buckets, stash, reference, hash_seed: seed, cpus: 1 });
        let t = tables.tc();
        let mut expected: HashMap<u32, FlowState> = HashMap::new();
        for (operation, number) in steps {
            let key = key(number);
            match operation {
                0 | 1 => match insert(t, &key) {
                    Ok(true) => prop_assert!(expected.insert(number, FlowState::Established).is_none()),
                    Ok(false) => prop_assert!(expected.contains_key(&number)),
                    Err(NoRoom::Full) => {
                        prop_assert!(!expected.contains_key(&number));
                        prop_assert_eq!(tables.stash_len(), stash, "refused although there is room");
                    }
                    Err(NoRoom::Contended) => prop_assert!(false, "contended without anybody else"),
                },
                2 => {
                    let found = look(t, &key);
                    prop_assert_eq!(found.is_some(), expected.remove(&number).is_some());
                    prop_assert!(found.is_none_or(|found| found.remove(t)));
                }
                _ => {
                    if let Some(found) = look(t, &key) {
                        prop_assert!(found.transition(FlowState::Closing, Meta::CLIENT_FIN | found.meta().flags).is_some());
                        expected.entry(number).and_modify(|state| *state = FlowState::Closing);
                    }
                }
            }
            for other in 0..60 {
                let state = look(t, &self::key(other)).map(|found| found.meta().state);
                prop_assert_eq!(state, expected.get(&other).copied());
            }
        }
        prop_assert_eq!(tables.slots().len(), expected.len());
    }
}
