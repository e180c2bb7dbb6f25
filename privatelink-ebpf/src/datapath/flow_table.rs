//! The flow table: set-associative, one cache line a hit, no lock on lookup.
//!
//! A key has two candidate buckets of four ways and a way to start at, all from one seeded hash. Insertion takes the emptier
//! bucket, so that overflow stays rare up to 90 % load; what finds no room goes into the stash, the kernel's hash map. With
//! `Tables::reference_table` the stash is all there is: the reference that this table is tested and measured against.
//!
//! Who makes an entry: an inserting CPU holds the lock of the key's stripe from its last look for the key until the entry is
//! published, so that a key is never there twice; slots change hands by compare-and-swap on [`Slot::meta`], so that CPUs
//! with different keys never take the same one. Who reads: [`SlotRef::current`] tells whether the slot still has its owner.

use super::{
    atomic::{cas32, cas64, load64, store32, store64},
    tables::Tables,
};
use crate::abi::{
    Ip4, L4Port, Mac,
    flow::{Bucket, FlowKey, FlowState, Meta, Slot, WAYS},
};

/// Where a key may be.
#[derive(Clone, Copy)]
struct Place {
    first: u32,
    second: u32,
    way: usize,
}

impl Place {
    #[inline(always)]
    fn of<'t, T: Tables<'t>>(t: T, key: [u64; 2]) -> Self {
        let hash = hash(key, t.hash_seed());
        let mask = t.bucket_mask();
        Self {
            first: hash as u32 & mask,
            second: (hash >> 32) as u32 & mask,
            way: (hash >> 30) as usize & (WAYS - 1),
        }
    }
}

/// Two rounds of multiply-and-shift over the key, keyed by a secret: all bits of the result depend on all bits of the key.
/// A client that cannot read the seed cannot aim at a bucket; one that floods blindly fills the stash, which is bounded.
#[inline(always)]
pub fn hash([lo, hi]: [u64; 2], seed: u64) -> u64 {
    let mut h = (lo ^ seed).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 32;
    h = (h ^ hi.rotate_left(17) ^ seed.rotate_left(32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^= h >> 29;
    h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ h >> 32
}

/// A live entry, as found.
#[derive(Clone, Copy)]
pub struct SlotRef {
    slot: *mut Slot,
    meta: u64,
}

/// Finds the entry of `key`.
#[inline(always)]
pub fn find<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<SlotRef> {
    let words = key.words();
    if !t.reference_table() {
        let place = Place::of(t, words);
        if let Some(found) = find_in(t, place.first, place.way, words) {
            return Some(found);
        }
        if let Some(found) = find_in(t, place.second, place.way, words) {
            return Some(found);
        }
    }
    find_stashed(t, key)
}

#[inline(always)]
fn find_in<'t, T: Tables<'t>>(t: T, index: u32, start: usize, key: [u64; 2]) -> Option<SlotRef> {
    let bucket = t.bucket(index)?;
    for i in 0..WAYS {
        let slot = slot_at(bucket, (start + i) & (WAYS - 1));
        if let Some(found) = SlotRef::matching(slot, key) {
            return Some(found);
        }
    }
    None
}

#[inline(never)]
fn find_stashed<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<SlotRef> {
    SlotRef::matching(t.stash(key)?, key.words())
}

/// Why there is no new entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    Full,
    Contended,
}

/// A slot that this CPU has taken and fills.
pub struct Reserved {
    slot: *mut Slot,
    version: u32,
    stashed: bool,
}

/// Takes a free slot for `key`. The caller holds the key's lock, or knows that nobody else inserts this key.
#[inline(always)]
pub fn reserve<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Result<Reserved, NoRoom> {
    if !t.reference_table() {
        let place = Place::of(t, key.words());
        let first = free_ways(t, place.first);
        let second = free_ways(t, place.second);
        let (better, other) =
            if second > first { (place.second, place.first) } else { (place.first, place.second) };
        if let Some(reserved) = reserve_in(t, better, place.way) {
            return Ok(reserved);
        }
        if let Some(reserved) = reserve_in(t, other, place.way) {
            return Ok(reserved);
        }
    }
    let slot = t.scratch().ok_or(NoRoom::Full)?;
    let hash = hash(key.words(), t.hash_seed()) as u32;
    // SAFETY: the scratch entry is this CPU's own. Its version goes on counting in steps that depend on the key, so that
    // entries of one hash-map element that follow each other differ.
    let version = unsafe { load64(&raw const (*slot).meta) as u32 }.wrapping_add(hash | 1);
    Ok(Reserved { slot, version, stashed: true })
}

#[inline(always)]
fn free_ways<'t, T: Tables<'t>>(t: T, index: u32) -> u32 {
    let Some(bucket) = t.bucket(index) else { return 0 };
    let mut free = 0;
    for way in 0..WAYS {
        // SAFETY: the slot lies in the bucket, a live map value.
        let meta = unsafe { load64(&raw const (*slot_at(bucket, way)).meta) };
        free += u32::from(is_free(meta));
    }
    free
}

#[inline(always)]
fn reserve_in<'t, T: Tables<'t>>(t: T, index: u32, start: usize) -> Option<Reserved> {
    let bucket = t.bucket(index)?;
    for i in 0..WAYS {
        let slot = slot_at(bucket, (start + i) & (WAYS - 1));
        // SAFETY: the slot lies in the bucket, a live map value; it is taken by compare-and-swap from free to busy.
        unsafe {
            let meta = load64(&raw const (*slot).meta);
            if is_free(meta) {
                let version = (meta as u32).wrapping_add(1);
                if cas64(&raw mut (*slot).meta, meta, busy(version)) == meta {
                    return Some(Reserved { slot, version, stashed: false });
                }
            }
        }
    }
    None
}

impl Reserved {
    /// The entry to fill, all but `meta`. It may hold what its last owner left.
    #[inline(always)]
    pub fn entry(&self) -> *mut Slot {
        self.slot
    }

    #[inline(always)]
    pub fn stashed(&self) -> bool {
        self.stashed
    }

    /// Makes the entry visible. False: the stash is full, or has the key.
    #[inline(always)]
    pub fn publish<'t, T: Tables<'t>>(self, t: T, key: &FlowKey, state: FlowState, flags: u8, idle_s: u16) -> bool {
        let flags = if self.stashed { flags | Meta::STASHED } else { flags };
        let meta = Meta { version: self.version, state, flags, idle_s }.pack();
        // SAFETY: the slot is this CPU's until `meta` says otherwise; the store is the last one.
        unsafe { store64(&raw mut (*self.slot).meta, meta) };
        !self.stashed || t.stash_insert(key)
    }
}

impl SlotRef {
    #[inline(always)]
    fn matching(slot: *mut Slot, [lo, hi]: [u64; 2]) -> Option<Self> {
        // SAFETY: the slot is in a live map value. The key is compared before the state is read: an entry that is made
        // anew meanwhile has another version, which `current` notices.
        unsafe {
            if load64((&raw const (*slot).key).cast::<u64>()) != lo {
                return None;
            }
            let meta = load64(&raw const (*slot).meta);
            if load64((&raw const (*slot).key).cast::<u64>().add(1)) != hi || !is_live(meta) {
                return None;
            }
            Some(Self { slot, meta })
        }
    }

    /// An entry in the sweep, whatever its key; nothing if it is free or being changed.
    #[inline(always)]
    pub fn live(slot: *mut Slot) -> Option<Self> {
        // SAFETY: the caller's slot is in a live map value.
        let meta = unsafe { load64(&raw const (*slot).meta) };
        is_live(meta).then_some(Self { slot, meta })
    }

    #[inline(always)]
    pub fn meta(self) -> Meta {
        Meta::unpack(self.meta)
    }

    /// State and flags are what the fast path is for: `Established` and nothing else to look at (`avoid`: flag bits).
    #[inline(always)]
    pub fn plainly_established(self, avoid: u8) -> bool {
        let want = (FlowState::Established as u64) << 32;
        let mask = 0xff << 32 | (avoid as u64) << 40;
        self.meta & mask == want
    }

    /// The slot still belongs to whom it belonged when it was found.
    #[inline(always)]
    pub fn current(self) -> bool {
        // SAFETY: the slot is in a live map value.
        unsafe { load64(&raw const (*self.slot).meta) as u32 == self.meta as u32 }
    }

    /// Changes state and flags if nobody else did since the entry was found.
    #[inline(always)]
    pub fn transition(self, state: FlowState, flags: u8) -> Option<Self> {
        let was = self.meta();
        let meta = Meta { version: was.version, state, flags, idle_s: was.idle_s }.pack();
        // SAFETY: the slot is in a live map value; it changes by compare-and-swap.
        let swapped = unsafe { cas64(&raw mut (*self.slot).meta, self.meta, meta) } == self.meta;
        swapped.then_some(Self { slot: self.slot, meta })
    }

    /// Takes the entry away. False: somebody else changed or took it first.
    #[inline(always)]
    pub fn remove<'t, T: Tables<'t>>(self, t: T) -> bool {
        let version = (self.meta as u32).wrapping_add(1);
        let key = self.key();
        // SAFETY: the slot is in a live map value; after the swap it is this CPU's alone.
        unsafe {
            if cas64(&raw mut (*self.slot).meta, self.meta, busy(version)) != self.meta {
                return false;
            }
            if self.meta().flags & Meta::STASHED != 0 {
                t.stash_remove(&key);
            } else {
                store64(&raw mut (*self.slot).meta, Meta { version, state: FlowState::Free, flags: 0, idle_s: 0 }.pack());
            }
        }
        true
    }

    #[inline(always)]
    pub fn key(self) -> FlowKey {
        // SAFETY: the slot is in a live map value.
        unsafe {
            let key = (&raw const (*self.slot).key).cast::<u64>();
            FlowKey::from_words([load64(key), load64(key.add(1))])
        }
    }
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $get:ident: $t:ty;)+) => {
        impl SlotRef {
            $($(#[doc = $doc])+
            #[inline(always)]
            pub fn $get(self) -> $t {
                // SAFETY: the slot is in a live map value; the field is aligned and any bits are a value. Who needs it to
                // belong together with others asks `current` after reading.
                unsafe { (&raw const (*self.slot).$get).read_volatile() }
            })+
        }
    };
}

fields! {
    /// The rewritten packet's source address.
    new_src: Ip4;
    /// The rewritten packet's destination address.
    new_dst: Ip4;
    /// The rewritten packet's source port.
    new_src_port: L4Port;
    /// The rewritten packet's destination port.
    new_dst_port: L4Port;
    /// What the address change adds to a checksum.
    d_addr: u16;
    /// What the port change adds to a checksum.
    d_port: u16;
    /// Index into `TARGETS`.
    target: u32;
    /// The target's generation when the flow was made.
    generation: u16;
    /// Index into `ENDPOINT_STATS`.
    endpoint: u16;
    /// Tick of this direction's last packet.
    last_seen: u32;
    /// The acknowledgement number to compare with; see `Slot::ack`.
    ack: u32;
    /// The client's Ethernet address.
    peer_mac: Mac;
    /// The interface on the client's side.
    ifindex: u16;
}

impl SlotRef {
    /// Stamps the entry. The word is written only when it changes, so that the line stays shared between CPUs.
    #[inline(always)]
    pub fn touch(self, now: u32) {
        if self.last_seen() != now {
            // SAFETY: the slot is in a live map value; one aligned store. On a slot that has changed hands it delays an
            // expiry by less than one timeout.
            unsafe { store32(&raw mut (*self.slot).last_seen, now) };
        }
    }

    /// Remembers the sender's acknowledgement number.
    #[inline(always)]
    pub fn set_ack(self, ack: u32) {
        if self.ack() != ack {
            // SAFETY: as `touch`; on a slot that has changed hands the owner's next packet corrects it.
            unsafe { store32(&raw mut (*self.slot).ack, ack) };
        }
    }

    /// Remembers where the client is.
    #[inline(always)]
    pub fn set_peer(self, mac: Mac, ifindex: u16) {
        // SAFETY: as `touch`; a frame that reads half of it goes astray once.
        unsafe {
            (&raw mut (*self.slot).peer_mac).write_volatile(mac);
            (&raw mut (*self.slot).ifindex).write_volatile(ifindex);
        }
    }
}

/// Attempts to get a lock before the packet is given up; the holder needs about a microsecond.
const LOCK_ATTEMPTS: u32 = 64;

/// A held insertion lock.
#[must_use]
pub struct Lock(*mut u32);

/// Locks the stripe of `key`'s primary bucket.
#[inline(always)]
pub fn lock<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<Lock> {
    let hash = hash(key.words(), t.hash_seed());
    let word = t.lock(hash as u32)?;
    for _ in 0..LOCK_ATTEMPTS {
        // SAFETY: the word is in a live map value.
        if unsafe { cas32(word, 0, 1) } == 0 {
            return Some(Lock(word));
        }
    }
    None
}

impl Lock {
    #[inline(always)]
    pub fn unlock(self) {
        // SAFETY: the word is in a live map value and this CPU holds it.
        unsafe { store32(self.0, 0) };
    }
}

#[inline(always)]
fn slot_at(bucket: *mut Bucket, way: usize) -> *mut Slot {
    // SAFETY: `way` is below WAYS; only the address is formed.
    unsafe { bucket.cast::<Slot>().add(way & (WAYS - 1)) }
}

#[inline(always)]
const fn busy(version: u32) -> u64 {
    Meta { version, state: FlowState::Busy, flags: 0, idle_s: 0 }.pack()
}

#[inline(always)]
const fn is_free(meta: u64) -> bool {
    (meta >> 32) as u8 == FlowState::Free as u8
}

#[inline(always)]
const fn is_live(meta: u64) -> bool {
    (meta >> 32) as u8 > FlowState::Busy as u8
}

#[cfg(test)]
mod tests;
