//! Fragments that come before the first one of their packet: they wait for it, for as long as its word would be taken,
//! and are sent in again behind it.
//!
//! A VPC's fragments wait in one group of slots, each of which is one CPU's at a time: who finds it free, or its
//! fragment too old, fills it; who has the first fragment empties it. A slot that is found too old is counted as an
//! orphan. Nothing else of the tables knows of them: a fragment that goes on is judged as if it had come only now.

use super::{
    atomic::{add32, cas32, load32, store32},
    frame::Frame,
    parse::LATER_FRAGMENT,
    tables::Tables,
};
use crate::{
    abi::{
        Counter, VpcIndex,
        fragment::{FragmentKey, HELD_GROUPS, HELD_SLOTS, HeldFragment, HeldFrame, LIFETIME},
    },
    wire::L3,
};

/// The first slot of a VPC's group.
#[inline(always)]
pub const fn group(vpc: VpcIndex) -> u32 {
    vpc.0 as u32 % HELD_GROUPS * HELD_SLOTS
}

/// No slot.
const NONE: i32 = -1;

/// [`decide`]: the fragment is refused, and counted.
pub const REFUSED: i32 = -1;
/// [`decide`]: a first fragment for which others wait.
pub const RELEASE: i32 = -2;

/// What becomes of a fragment that [`super::fragment::decide`] has left to this stage: the slot in which it waits, for
/// the caller to fill and [`publish`]; [`RELEASE`]; or [`REFUSED`].
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, key: &FragmentKey) -> i32 {
    let Some(bits) = frame.window::<2>(L3 + 6) else { return REFUSED };
    if u16::from_be(bits.load16::<0>()) & LATER_FRAGMENT == 0 {
        t.count(Counter::FragmentsReleased);
        return RELEASE;
    }
    let slot = t.reserve_held(key, frame.len() as u32);
    t.count(if slot < 0 { Counter::FragmentOrphan } else { Counter::FragmentHeld });
    slot
}

/// Whether fragments of the packet wait. What most packets pay is a look at the group's number of them.
#[inline(always)]
pub fn awaited<'t, T: Tables<'t>>(t: T, key: &FragmentKey) -> bool {
    let Some(first) = t.held(group(key.vpc)) else { return false };
    // SAFETY: a live slot.
    unsafe { load32(&raw const (*first).waiting) != 0 && t.awaited(key) != 0 }
}

/// [`awaited`] as 1 or 0: looks at each slot.
#[inline(always)]
pub fn awaited_bits<'t, T: Tables<'t>>(t: T, key: &FragmentKey) -> u32 {
    for slot in 0..HELD_SLOTS {
        if let Some(slot) = t.held(group(key.vpc) + slot)
            && is(t, slot, key)
        {
            return 1;
        }
    }
    0
}

/// The slot has a fragment of the packet that is not too old.
#[inline(always)]
fn is<'t, T: Tables<'t>>(t: T, slot: *mut HeldFragment, key: &FragmentKey) -> bool {
    // SAFETY: a live slot; a key that is being written is looked at again by who takes the slot.
    unsafe { load32(&raw const (*slot).state) == HeldFragment::HELD && !old(t, slot) && same(slot, key) }
}

/// # Safety
/// A live slot.
#[inline(always)]
unsafe fn old<'t, T: Tables<'t>>(t: T, slot: *mut HeldFragment) -> bool {
    // SAFETY: as the caller promises.
    let seen = unsafe { load32(&raw const (*slot).seen) };
    t.now().wrapping_sub(seen) > t.clock().ticks(LIFETIME)
}

/// # Safety
/// A live slot.
#[inline(always)]
unsafe fn same(slot: *mut HeldFragment, key: &FragmentKey) -> bool {
    let wanted: [u64; 2] = bytemuck::cast(*key);
    // SAFETY: as the caller promises; the key is aligned as the record is.
    let found = unsafe { (&raw const (*slot).key).cast::<[u64; 2]>().read_volatile() };
    found[0] == wanted[0] && found[1] == wanted[1]
}

/// A slot for a fragment of `len` bytes, for the caller to fill and [`publish`], or to [`free`]; negative: there is
/// none. In a `DRY` run nothing changes.
#[inline(always)]
pub fn reserve_bits<'t, const DRY: bool, T: Tables<'t>>(t: T, key: &FragmentKey, len: u32) -> i32 {
    if len as usize > HeldFrame::LEN {
        return NONE;
    }
    let group = group(key.vpc);
    for n in 0..HELD_SLOTS {
        let Some(slot) = t.held(group + n) else { return NONE };
        // SAFETY: a live slot; once it is busy, this CPU's alone.
        unsafe {
            let state = load32(&raw const (*slot).state);
            let over = state == HeldFragment::HELD && old(t, slot);
            if state != HeldFragment::FREE && !over {
                continue;
            }
            if !DRY {
                if cas32(&raw mut (*slot).state, state, HeldFragment::BUSY) != state {
                    continue;
                }
                if !over {
                    count_waiting(t, group, 1);
                }
                (&raw mut (*slot).seen).write_volatile(t.now());
                (&raw mut (*slot).len).write_volatile(len);
                (&raw mut (*slot).key).cast::<[u64; 2]>().write_volatile(bytemuck::cast(*key));
            }
            if over {
                t.count(Counter::FragmentOrphan);
            }
            return (group + n) as i32;
        }
    }
    NONE
}

#[inline(always)]
fn count_waiting<'t, T: Tables<'t>>(t: T, group: u32, more: u32) {
    if let Some(first) = t.held(group) {
        // SAFETY: a live slot; the word is shared by atomics only.
        unsafe { add32(&raw mut (*first).waiting, more) };
    }
}

/// Others may take the fragment out from now on. A compare-and-swap, so that it is seen before its first one's note is
/// looked for once more: whoever brings that looks here after noting it.
#[inline(always)]
pub fn publish<'t, T: Tables<'t>>(t: T, slot: u32) {
    if let Some(slot) = t.held(slot) {
        // SAFETY: the caller's own slot.
        unsafe { cas32(&raw mut (*slot).state, HeldFragment::BUSY, HeldFragment::HELD) };
    }
}

/// Takes a fragment of the packet out of a slot: the frame's length, and the slot is the caller's to [`free`]; 0: it is
/// not there.
#[inline(always)]
pub fn take_bits<'t, T: Tables<'t>>(t: T, key: &FragmentKey, slot: u32) -> u32 {
    let Some(held) = t.held(slot) else { return 0 };
    // SAFETY: a live slot.
    unsafe {
        if !is(t, held, key)
            || cas32(&raw mut (*held).state, HeldFragment::HELD, HeldFragment::BUSY) != HeldFragment::HELD
        {
            return 0;
        }
        // It may have become another's between the look and the swap.
        if !same(held, key) {
            store32(&raw mut (*held).state, HeldFragment::HELD);
            return 0;
        }
        load32(&raw const (*held).len)
    }
}

/// Gives the caller's own slot back.
#[inline(always)]
pub fn free<'t, T: Tables<'t>>(t: T, slot: u32) {
    if let Some(held) = t.held(slot) {
        // SAFETY: the caller's own slot.
        unsafe { store32(&raw mut (*held).state, HeldFragment::FREE) };
        count_waiting(t, slot / HELD_SLOTS * HELD_SLOTS, u32::MAX);
    }
}

/// Gives up the fragment in a slot if it has waited for too long.
#[inline(always)]
pub fn expire<'t, T: Tables<'t>>(t: T, slot: u32) {
    let Some(held) = t.held(slot) else { return };
    // SAFETY: a live slot.
    let over = unsafe {
        load32(&raw const (*held).state) == HeldFragment::HELD
            && old(t, held)
            && cas32(&raw mut (*held).state, HeldFragment::HELD, HeldFragment::BUSY) == HeldFragment::HELD
    };
    if over {
        t.count(Counter::FragmentOrphan);
        free(t, slot);
    }
}

#[cfg(test)]
mod tests;
