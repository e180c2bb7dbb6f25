//! One flow's entry, by its key: found where the kernel finds it, without the lock that guards the rest of the tables.

use std::{os::fd::AsFd as _, sync::Arc};

use aya::maps::{HashMap, Map, MapData, MapError};
use privatelink_ebpf::{
    abi::{
        flow::{FlowKey, FlowState, Meta, Slot, WAYS},
        settings::Settings,
    },
    datapath::flow_table::Place,
};

use super::{DataplaneError, mapped::Mapping};

/// The flow table, for single look-ups.
pub struct Flows {
    table: Arc<Mapping>,
    stash: HashMap<MapData, FlowKey, Slot>,
    hash_seed: u64,
    bucket_mask: u32,
}

impl Flows {
    /// Of the tables that `settings` says how to search.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] if the kernel has no further handle on the stash.
    pub(super) fn new(table: Arc<Mapping>, stash: &MapData, settings: &Settings) -> Result<Self, DataplaneError> {
        let refused = DataplaneError::map("STASH");
        let fd = stash.fd().as_fd().try_clone_to_owned().map_err(|error| refused(MapError::IoError(error)))?;
        let stash = MapData::from_fd(fd).map_err(DataplaneError::map("STASH"))?;
        let stash = Map::HashMap(stash).try_into().map_err(DataplaneError::map("STASH"))?;
        Ok(Self { table, stash, hash_seed: settings.hash_seed, bucket_mask: settings.buckets.saturating_sub(1) })
    }

    /// A copy of the entry of `key`, if there is one and nobody else takes its place meanwhile.
    pub fn find(&self, key: &FlowKey) -> Option<Slot> {
        let words = key.words();
        let Place { first, second, .. } = Place::new(words, self.hash_seed, self.bucket_mask);
        let mut slots = [first, second].into_iter().flat_map(|bucket| (0..WAYS).map(move |way| (bucket, way)));
        slots.find_map(|(bucket, way)| whole(&self.table, bucket, way).filter(|slot| slot.key == words)).or_else(|| {
            // What finds no room in its buckets.
            self.stash.get(key, 0).ok().filter(|slot| in_use(slot.meta))
        })
    }
}

/// A copy of a slot that has an owner, the same one before and after; another copy is torn.
pub(super) fn whole(table: &Mapping, bucket: u32, way: usize) -> Option<Slot> {
    let at = way * size_of::<Slot>();
    // Most slots are free: one word tells.
    let before = table.field::<u64>(bucket, at).filter(|meta| in_use(*meta))?;
    let slot = table.field::<Slot>(bucket, at)?;
    let version = |meta: u64| Meta::unpack(meta).version;
    let same = |meta: u64| in_use(meta) && version(meta) == version(before);
    (same(slot.meta) && table.field::<u64>(bucket, at).is_some_and(same)).then_some(slot)
}

/// Whether the entry is a flow's.
pub(super) fn in_use(meta: u64) -> bool {
    match Meta::unpack(meta).state {
        FlowState::Free | FlowState::Busy => false,
        FlowState::SynSent
        | FlowState::SynReceived
        | FlowState::Established
        | FlowState::Closing
        | FlowState::LastAck
        | FlowState::TimeWait
        | FlowState::Resetting
        | FlowState::Unreplied => true,
    }
}
