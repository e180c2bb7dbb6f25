//! The flow table: set-associative, one cache line a hit, no lock on lookup.
//!
//! A key has two candidate buckets of four ways and a way to start at, all from one seeded hash. Insertion prefers the
//! first bucket, so that up to half load seven of eight hits touch one line; what finds no room in either goes into the
//! stash, the kernel's hash map. With `Tables::reference_table` the stash is all there is: the reference that this
//! table is tested and measured against.
//!
//! Who makes an entry: an inserting CPU holds the lock of the key's stripe from its last look for the key until the
//! entry is published, so that a key is never there twice; slots change hands by compare-and-swap on [`Slot::meta`], so
//! that CPUs with different keys never take the same one. Who reads: [`SlotRef::current`] tells whether the slot still
//! has its owner.

use super::{
    atomic::{cas32, cas64, load64, store32, store64},
    tables::Tables,
};
use crate::abi::{
    Ip4, L4Port, MacBits,
    addr::IPV6,
    flow::{Bucket, FlowKey, FlowState, Meta, Slot, WAYS},
};

/// Where a key may be.
#[derive(Clone, Copy)]
pub struct Place {
    /// The bucket that an entry is in if it had room.
    pub first: u32,
    pub second: u32,
    way: usize,
}

impl Place {
    #[inline(always)]
    fn of<'t, T: Tables<'t>>(t: T, key: [u64; 2]) -> Self {
        Self::new(key, t.hash_seed(), t.bucket_mask())
    }

    /// In a table of `mask` + 1 buckets, keyed by `seed`.
    #[inline(always)]
    pub fn new(key: [u64; 2], seed: u64, mask: u32) -> Self {
        let hash = hash(key, seed);
        Self { first: hash as u32 & mask, second: (hash >> 32) as u32 & mask, way: (hash >> 30) as usize & (WAYS - 1) }
    }
}

/// Multiply-and-shift over the key, keyed by a secret: all bits of the result depend on all bits of addresses and
/// ports. A client that cannot read the seed cannot aim at a bucket; one that floods blindly fills the stash, which is
/// bounded.
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

/// Finds the entry of a key ([`FlowKey::words`]) where it most likely is; the fast path's look-up.
#[inline(always)]
pub fn find_primary<'t, T: Tables<'t>>(t: T, key: [u64; 2]) -> Option<SlotRef> {
    if t.reference_table() {
        return find_stashed(t, &FlowKey::from_words(key));
    }
    let place = Place::of(t, key);
    find_in(t, place.first, place.way, key)
}

/// Finds the entry of `key` wherever it is.
#[inline(always)]
pub fn find_anywhere<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<SlotRef> {
    match find_index(t, key) {
        Some(index) => slot_by_index(t, key, index),
        None => find_stashed(t, key),
    }
}

#[inline(always)]
fn find_in<'t, T: Tables<'t>>(t: T, index: u32, start: usize, key: [u64; 2]) -> Option<SlotRef> {
    let bucket = t.bucket(index)?;
    for i in 0..WAYS {
        let slot = slot_at(bucket, start ^ i);
        if let Some(found) = SlotRef::matching(slot, key) {
            return Some(found);
        }
    }
    None
}

/// The number of `key`'s slot: bucket times [`WAYS`] plus way. Nothing if it is stashed or not there.
#[inline(always)]
pub fn find_index<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<u32> {
    if t.reference_table() {
        return None;
    }
    let words = key.words();
    let place = Place::of(t, words);
    for index in [place.first, place.second] {
        let bucket = t.bucket(index)?;
        for i in 0..WAYS {
            let way = place.way ^ i;
            if SlotRef::matching(slot_at(bucket, way), words).is_some() {
                return Some(index * WAYS as u32 + way as u32);
            }
        }
    }
    None
}

/// The entry that [`find_index`] found, if it is still `key`'s.
#[inline(always)]
pub fn slot_by_index<'t, T: Tables<'t>>(t: T, key: &FlowKey, index: u32) -> Option<SlotRef> {
    let bucket = t.bucket(index / WAYS as u32)?;
    SlotRef::matching(slot_at(bucket, index as usize & (WAYS - 1)), key.words())
}

/// Finds the entry of `key` in the stash.
#[inline(always)]
pub fn find_stashed<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<SlotRef> {
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
    reserved(t, key, t.reserve(key))
}

/// The slot that [`Tables::reserve`] has taken for `key`, or this CPU's entry on its way into the stash.
#[inline(always)]
pub fn reserved<'t, T: Tables<'t>>(t: T, key: &FlowKey, index: i64) -> Result<Reserved, NoRoom> {
    if index >= 0 {
        let bucket = t.bucket(index as u32 / WAYS as u32).ok_or(NoRoom::Full)?;
        let slot = slot_at(bucket, index as usize & (WAYS - 1));
        // SAFETY: the slot is in a live map value, and this CPU's since it was reserved.
        let version = unsafe { load64(&raw const (*slot).meta) } as u32;
        return Ok(Reserved { slot, version, stashed: false });
    }
    let slot = t.scratch().ok_or(NoRoom::Full)?;
    let hash = hash(key.words(), t.hash_seed()) as u32;
    // SAFETY: the scratch entry is this CPU's own. Its version goes on counting in steps that depend on the key, so
    // that entries of one hash-map element that follow each other differ.
    let version = unsafe { load64(&raw const (*slot).meta) as u32 }.wrapping_add(hash | 1);
    Ok(Reserved { slot, version, stashed: true })
}

/// Makes a free slot of `key`'s buckets busy and returns its number; -1 if there is none.
#[inline(always)]
pub fn reserve_index<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> i64 {
    if t.reference_table() {
        return -1;
    }
    let place = Place::of(t, key.words());
    for index in [place.first, place.second] {
        let Some(bucket) = t.bucket(index) else { return -1 };
        for i in 0..WAYS {
            let way = place.way ^ i;
            let slot = slot_at(bucket, way);
            // SAFETY: the slot lies in the bucket, a live map value; it is taken by compare-and-swap from free to busy.
            unsafe {
                let meta = load64(&raw const (*slot).meta);
                let taken = busy((meta as u32).wrapping_add(1));
                if is_free(meta) && cas64(&raw mut (*slot).meta, meta, taken) == meta {
                    return index as i64 * WAYS as i64 + way as i64;
                }
            }
        }
    }
    -1
}

/// A slot of `key`'s buckets is free. Nothing is taken.
#[inline(always)]
pub fn has_free_slot<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> bool {
    if t.reference_table() {
        return false;
    }
    let place = Place::of(t, key.words());
    for index in [place.first, place.second] {
        let Some(bucket) = t.bucket(index) else { return false };
        for way in 0..WAYS {
            // SAFETY: the slot lies in the bucket, a live map value.
            if is_free(unsafe { load64(&raw const (*slot_at(bucket, way)).meta) }) {
                return true;
            }
        }
    }
    false
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
    pub fn publish<'t, T: Tables<'t>>(
        self,
        t: T,
        key: &FlowKey,
        state: FlowState,
        translated: bool,
        flags: u8,
        idle_s: u16,
    ) -> bool {
        let flags = if self.stashed { flags | Meta::STASHED } else { flags };
        let meta = Meta { version: self.version, state, translated, flags, idle_s }.pack();
        // SAFETY: the slot is this CPU's until `meta` says otherwise; the store is the last one.
        unsafe { store64(&raw mut (*self.slot).meta, meta) };
        !self.stashed || t.stash_insert(key)
    }
}

impl SlotRef {
    #[inline(always)]
    fn matching(slot: *mut Slot, [lo, hi]: [u64; 2]) -> Option<Self> {
        // SAFETY: the slot is in a live map value. The state is read before the whole key: an entry that is made anew
        // meanwhile has another version, which `current` notices.
        unsafe {
            let meta = load64(&raw const (*slot).meta);
            if load64((&raw const (*slot).key).cast::<u64>()) != lo {
                return None;
            }
            if load64((&raw const (*slot).key).cast::<u64>().add(1)) != hi || !is_live(meta) {
                return None;
            }
            Some(Self { slot, meta })
        }
    }

    /// An entry in the sweep, whatever its key; nothing if it is free or being changed.
    ///
    /// # Safety
    /// `slot` is in a live map value.
    #[inline(always)]
    pub unsafe fn live(slot: *mut Slot) -> Option<Self> {
        // SAFETY: as the caller promises.
        let meta = unsafe { load64(&raw const (*slot).meta) };
        is_live(meta).then_some(Self { slot, meta })
    }

    #[inline(always)]
    pub fn meta(self) -> Meta {
        Meta::unpack(self.meta)
    }

    /// The state that the fast path is for, of a flow without a PROXY protocol header or a limit of its bits.
    #[inline(always)]
    pub fn plainly_established(self) -> bool {
        const LOOKED_AT: u64 = 0xff | ((Meta::PROXY | Meta::METERED) as u64) << 8;
        (self.meta >> 32) & LOOKED_AT == FlowState::Established as u64
    }

    /// With [`Meta::PROXY`]: the client's initial sequence number.
    #[inline(always)]
    pub fn client_isn(self) -> u32 {
        self.d_addr() as u32 | (self.d_port() as u32) << 16
    }

    /// The slot still belongs to whom it belonged when it was found.
    #[inline(always)]
    pub fn current(self) -> bool {
        // SAFETY: the slot is in a live map value.
        unsafe { load64(&raw const (*self.slot).meta) as u32 == self.meta as u32 }
    }

    /// The same entry with the state and flags that it has by now; nothing if the slot has changed hands.
    #[inline(always)]
    pub fn renewed(self) -> Option<Self> {
        // SAFETY: the slot is in a live map value.
        let meta = unsafe { load64(&raw const (*self.slot).meta) };
        (meta as u32 == self.meta as u32 && is_live(meta)).then_some(Self { slot: self.slot, meta })
    }

    /// Changes state and flags if nobody else did since the entry was found.
    #[inline(always)]
    pub fn transition(self, state: FlowState, flags: u8) -> Option<Self> {
        let was = self.meta();
        let meta = Meta { state, flags, ..was }.pack();
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
                store64(
                    &raw mut (*self.slot).meta,
                    Meta { version, state: FlowState::Free, translated: false, flags: 0, idle_s: 0 }.pack(),
                );
            }
        }
        true
    }

    /// Copies the entry, word by word, as it is now.
    ///
    /// # Safety
    /// `to` is writable, and nobody else's.
    #[inline(always)]
    pub unsafe fn copy_to(self, to: *mut Slot) {
        for word in 0..size_of::<Slot>() / size_of::<u64>() {
            // SAFETY: both are whole slots; this one is in a live map value, the other is the caller's.
            unsafe { to.cast::<u64>().add(word).write_volatile(load64(self.slot.cast::<u64>().add(word))) };
        }
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

impl SlotRef {
    /// The protocol number in the twin's key: the same, of the other family if the flow is translated.
    #[inline(always)]
    pub fn twin_proto(self) -> u8 {
        let proto = self.key().proto;
        if self.meta().translated { proto ^ IPV6 } else { proto }
    }
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $get:ident: $t:ty;)+) => {
        impl SlotRef {
            $($(#[doc = $doc])+
            #[inline(always)]
            pub fn $get(self) -> $t {
                // SAFETY: the slot is in a live map value; the field is aligned and any bits are a value. Who needs it
                // to belong together with others asks `current` after reading.
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

    /// Where the client is: its Ethernet address, and the interface on its side, in one word.
    #[inline(always)]
    pub fn peer(self) -> (MacBits, u16) {
        // SAFETY: the slot is in a live map value; the two fields are its last, aligned word.
        let word = unsafe { load64(peer_word(self.slot)) };
        (MacBits::from_word(word), (word >> 48) as u16)
    }

    /// Remembers where the client is.
    #[inline(always)]
    pub fn set_peer(self, mac: MacBits, ifindex: u16) {
        // SAFETY: as `touch`.
        unsafe { store64(peer_word(self.slot), mac.word() | (ifindex as u64) << 48) };
    }
}

#[inline(always)]
pub(super) fn peer_word(slot: *mut Slot) -> *mut u64 {
    const { assert!(core::mem::offset_of!(Slot, peer_mac) == 56 && core::mem::offset_of!(Slot, ifindex) == 62) };
    // SAFETY: only the address is formed; it lies within the slot.
    unsafe { slot.cast::<u64>().add(7) }
}

/// Attempts to get a lock before the packet is given up; the holder needs about a microsecond.
const LOCK_ATTEMPTS: u32 = 512;

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

/// The stripes of two keys, if they have one each.
#[inline(always)]
fn stripes<'t, T: Tables<'t>>(t: T, key: &FlowKey, held: &FlowKey) -> Option<(*mut u32, *mut u32)> {
    let stripe = |key: &FlowKey| t.lock(hash(key.words(), t.hash_seed()) as u32);
    Some((stripe(key)?, stripe(held)?))
}

/// Locks the stripe of `key` as well, by one who holds that of `held`: in one attempt, as two may want each other's.
/// False: somebody else has it.
#[inline(always)]
pub fn lock_beside<'t, T: Tables<'t>>(t: T, key: &FlowKey, held: &FlowKey) -> bool {
    match stripes(t, key, held) {
        // SAFETY: the word is in a live map value.
        Some((word, own)) => word == own || unsafe { cas32(word, 0, 1) } == 0,
        None => false,
    }
}

/// Undoes [`lock_beside`].
#[inline(always)]
pub fn unlock_beside<'t, T: Tables<'t>>(t: T, key: &FlowKey, held: &FlowKey) {
    if let Some((word, own)) = stripes(t, key, held)
        && word != own
    {
        // SAFETY: the word is in a live map value and this CPU holds it.
        unsafe { store32(word, 0) };
    }
}

#[inline(always)]
fn slot_at(bucket: *mut Bucket, way: usize) -> *mut Slot {
    // SAFETY: `way` is below WAYS; only the address is formed.
    unsafe { bucket.cast::<Slot>().add(way & (WAYS - 1)) }
}

#[inline(always)]
const fn busy(version: u32) -> u64 {
    Meta { version, state: FlowState::Busy, translated: false, flags: 0, idle_s: 0 }.pack()
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
