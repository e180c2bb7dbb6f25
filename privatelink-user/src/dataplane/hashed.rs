//! Hash maps of the kernel that a pass reads whole.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapError},
};

use super::{DataplaneError, syscall::entries};

/// A hash map: aya's for single entries, and a descriptor for reading all of them in few calls.
pub struct HashTable<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<aya::maps::MapData, K, V>,
    fd: OwnedFd,
}

impl<K: Pod + bytemuck::Pod + Ord, V: Pod + bytemuck::Pod> HashTable<K, V> {
    /// The map `name` of the object.
    ///
    /// # Errors
    ///
    /// [`DataplaneError`] if there is none, or keys and values have other sizes.
    pub fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let refused = DataplaneError::map(name);
        let Some(Map::HashMap(data)) = ebpf.take_map(name) else {
            return Err(DataplaneError::Missing { kind: "hash table", name });
        };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|error| refused(MapError::IoError(error)))?;
        // aya compares the sizes.
        let map = Map::HashMap(data).try_into().map_err(DataplaneError::map(name))?;
        Ok(Self { name, map, fd })
    }

    /// Every entry.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] with what the kernel says.
    pub fn all(&self) -> Result<BTreeMap<K, V>, DataplaneError> {
        let read: io::Result<Vec<(K, V)>> = entries(&self.fd);
        let read = read.map_err(|error| DataplaneError::map(self.name)(MapError::IoError(error)))?;
        Ok(read.into_iter().collect())
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.map.insert(key, value, 0)
    }

    /// Takes an entry away.
    pub fn remove(&mut self, key: &K) -> Result<(), MapError> {
        self.map.remove(key)
    }
}
