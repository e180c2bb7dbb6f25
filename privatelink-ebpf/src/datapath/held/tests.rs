use super::*;
use crate::{
    abi::Ip4,
    testing::{
        tables::{MemTables, Options},
        world::World,
    },
};

fn key(vpc: u16, id: u16) -> FragmentKey {
    let (src, dst) = (Ip4::from_wire([10, 0, 0, 1]), Ip4::from_wire([10, 0, 0, 2]));
    FragmentKey { src, dst, id, vpc: VpcIndex(vpc), proto: 17, _pad: [0; 3] }
}

fn hold(tables: &MemTables, key: FragmentKey) -> Option<u32> {
    let slot = u32::try_from(reserve_bits::<false, _>(tables.tc(), &key, 1500)).ok()?;
    publish(tables.tc(), slot);
    Some(slot)
}

#[test]
fn as_many_wait_as_a_group_has_slots_and_other_groups_do_not_mind() {
    let tables = MemTables::new(World::empty(), Options::default());
    let slots: Vec<u32> = (0..HELD_SLOTS as u16).map(|id| hold(&tables, key(1, id)).expect("a slot")).collect();
    assert!(slots.iter().all(|slot| (HELD_SLOTS..2 * HELD_SLOTS).contains(slot)));
    assert_eq!(hold(&tables, key(1, 99)), None);
    assert_eq!(reserve_bits::<true, _>(tables.tc(), &key(1, 99), 1500), NONE);
    assert!(hold(&tables, key(2, 99)).is_some());
    for (id, slot) in (0..).zip(slots) {
        assert!(awaited(tables.tc(), &key(1, id)));
        assert_eq!(take_bits(tables.tc(), &key(1, id + 1), slot), 0, "another packet's");
        assert_eq!(take_bits(tables.tc(), &key(1, id), slot), 1500);
        assert_eq!(take_bits(tables.tc(), &key(1, id), slot), 0, "taken once");
        free(tables.tc(), slot);
    }
    assert!(!awaited(tables.tc(), &key(1, 0)));
    assert!(hold(&tables, key(1, 99)).is_some());
}

#[test]
fn places_of_the_old_are_taken_and_the_old_are_counted_once() {
    let tables = MemTables::new(World::empty(), Options::default());
    for id in 0..HELD_SLOTS as u16 {
        hold(&tables, key(1, id)).expect("a slot");
    }
    tables.advance_ticks(tables.tc().clock().ticks(LIFETIME) + 1);
    assert!(!awaited(tables.tc(), &key(1, 0)));
    assert!(hold(&tables, key(1, 99)).is_some());
    for slot in 0..2 * HELD_SLOTS {
        expire(tables.tc(), slot);
    }
    assert_eq!(tables.counter(Counter::FragmentOrphan), HELD_SLOTS.into());
    assert!(awaited(tables.tc(), &key(1, 99)));
}

#[test]
fn a_frame_that_is_larger_than_a_slot_does_not_wait() {
    let tables = MemTables::new(World::empty(), Options::default());
    assert_eq!(reserve_bits::<false, _>(tables.tc(), &key(1, 1), HeldFrame::LEN as u32 + 1), NONE);
    assert!(reserve_bits::<false, _>(tables.tc(), &key(1, 1), HeldFrame::LEN as u32) >= 0);
}
