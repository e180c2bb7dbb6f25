//! Resources of one kind, by identity. Copies share what they have in common: copying a table costs nothing, and a
//! change of a copy costs pointers to the other resources, never the resources themselves.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    iter::Map,
    sync::Arc,
};

/// An ordered map whose copies share their values.
pub struct Table<K, V>(Arc<BTreeMap<K, Arc<V>>>);

/// The values, in the order of their keys.
pub type Values<'a, K, V> = Map<btree_map::Values<'a, K, Arc<V>>, fn(&'a Arc<V>) -> &'a V>;
/// Keys and values, in the order of the keys.
pub type Iter<'a, K, V> = Map<btree_map::Iter<'a, K, Arc<V>>, fn((&'a K, &'a Arc<V>)) -> (&'a K, &'a V)>;

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|value| &**value)
    }

    /// The values as copies of this table share them: two that are at one place are equal.
    pub fn shared(&self) -> &BTreeMap<K, Arc<V>> {
        &self.0
    }

    /// For changes in place; what other copies share is copied first.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        Arc::make_mut(&mut self.0).get_mut(key).map(Arc::make_mut)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Adds or replaces a value.
    pub fn insert(&mut self, key: K, value: V) {
        Arc::make_mut(&mut self.0).insert(key, Arc::new(value));
    }

    /// Takes a value away, if it is there.
    pub fn remove(&mut self, key: &K) {
        if self.0.contains_key(key) {
            Arc::make_mut(&mut self.0).remove(key);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn keys(&self) -> btree_map::Keys<'_, K, Arc<V>> {
        self.0.keys()
    }

    pub fn values(&self) -> Values<'_, K, V> {
        self.0.values().map(|value| value)
    }

    /// In the order of the keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// What of it is wanted, shared with this one; all of it at no cost if nothing is unwanted.
    #[must_use]
    pub fn filtered(&self, wanted: impl Fn(&V) -> bool) -> Self {
        if self.values().all(&wanted) {
            return self.clone();
        }
        let kept = self.0.iter().filter(|(_, value)| wanted(value));
        Self(Arc::new(kept.map(|(key, value)| (key.clone(), Arc::clone(value))).collect()))
    }

    /// Whether both are copies of one table between which nothing has changed. False says nothing.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
impl<K: Ord + Clone, V: Clone> Table<K, V> {
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        Arc::make_mut(&mut self.0).values_mut().map(Arc::make_mut)
    }

    pub fn retain(&mut self, mut wanted: impl FnMut(&K, &mut V) -> bool) {
        Arc::make_mut(&mut self.0).retain(|key, value| wanted(key, Arc::make_mut(value)));
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What two tables share is equal without a look at it.
impl<K: PartialEq, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let equal = |((key, value), (other_key, other)): ((&K, &Arc<V>), (&K, &Arc<V>))| {
            key == other_key && (Arc::ptr_eq(value, other) || value == other)
        };
        Arc::ptr_eq(&self.0, &other.0) || self.0.len() == other.0.len() && self.0.iter().zip(other.0.iter()).all(equal)
    }
}

impl<K: Eq, V: Eq> Eq for Table<K, V> {}

impl<'a, K: Ord + Clone, V: Clone> IntoIterator for &'a Table<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
impl<K: Ord + Clone, V: Clone> std::ops::Index<&K> for Table<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}
