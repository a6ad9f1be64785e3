//! A hash map whose copies share what did not change.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// Number of shards: copying a map costs this many pointers, changing an entry one shard. At the size the design aims for
/// (200,000 addresses) a shard holds 200 entries. A power of two.
const SHARDS: usize = 1024;
const SMALLEST_SHARD: usize = 8;

/// Entries by key, spread over shards by hash. Cloning copies one pointer a shard; changing an entry after that copies its
/// shard. A lookup is three dependent loads as long as shards are not overfull: shard, slots, slot.
#[derive(Debug, Clone)]
pub struct SharedMap<K, V> {
    shards: Vec<Arc<Shard<K, V>>>,
    len: usize,
}

/// Open addressing with linear probing. The number of slots is zero or a power of two, and one slot is always free.
#[derive(Debug, Clone)]
struct Shard<K, V> {
    slots: Vec<Option<(K, V)>>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard { slots: Vec::new(), len: 0 });
        Self { shards: vec![empty; SHARDS], len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    /// The value of `key`.
    #[inline]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let hash = hash_of(key);
        self.shards[shard_of(hash)].find(hash, key).ok()
    }

    /// Sets the value of `key` and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = hash_of(&key);
        let old = Arc::make_mut(&mut self.shards[shard_of(hash)]).insert(hash, key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes `key` and returns its value.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hash = hash_of(key);
        let shard = &mut self.shards[shard_of(hash)];
        shard.find(hash, key).ok()?;
        self.len -= 1;
        Arc::make_mut(shard).remove(hash, key)
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let slots = self.shards.iter().flat_map(|shard| &shard.slots);
        slots.filter_map(|slot| slot.as_ref().map(|(key, value)| (key, value)))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the shards and their slots, without what keys and values point to.
    pub(crate) fn bytes(&self) -> usize {
        let slots: usize = self.shards.iter().map(|shard| shard.slots.capacity()).sum();
        slots * size_of::<Option<(K, V)>>() + SHARDS * size_of::<Arc<Shard<K, V>>>()
    }
}

impl<K: Hash + Eq, V> Shard<K, V> {
    /// The value of `key`, or the slot the search ended at.
    #[inline]
    fn find<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Result<&V, usize>
    where
        K: Borrow<Q>,
    {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(Some((found, value))) = self.slots.get(at) {
            if found.borrow() == key {
                return Ok(value);
            }
            at = (at + 1) & mask;
        }
        Err(at)
    }

    fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while let Some((found, old)) = &mut self.slots[at] {
            if *found == key {
                return Some(std::mem::replace(old, value));
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = Some((key, value));
        self.len += 1;
        None
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(SMALLEST_SHARD);
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(size, || None);
        for (key, value) in old.into_iter().flatten() {
            let mut at = hash_of(&key) as usize & (size - 1);
            while self.slots[at].is_some() {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = Some((key, value));
        }
    }

    /// Empties the key's slot and moves back the entries that had to step over it.
    fn remove<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mask = self.slots.len().wrapping_sub(1);
        let mut hole = hash as usize & mask;
        while self.slots.get(hole)?.as_ref()?.0.borrow() != key {
            hole = (hole + 1) & mask;
        }
        let removed = self.slots[hole].take();
        self.len -= 1;
        let mut at = (hole + 1) & mask;
        while let Some((moved, _)) = &self.slots[at] {
            let wanted = hash_of(moved) as usize & mask;
            // It may go into the hole unless the slot it wanted lies behind the hole, on the way to where it is.
            if at.wrapping_sub(wanted) & mask >= at.wrapping_sub(hole) & mask {
                self.slots.swap(hole, at);
                hole = at;
            }
            at = (at + 1) & mask;
        }
        removed.map(|(_, value)| value)
    }
}

/// The seed is fixed: keys are addresses and names the cluster gave out, not what a packet may choose.
#[inline]
fn hash_of<Q: Hash + ?Sized>(key: &Q) -> u64 {
    foldhash::fast::FixedState::with_seed(0).hash_one(key)
}

/// The slot inside the shard comes from the low bits, so the shard from the high ones.
#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARDS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    //! The map behaves as `HashMap` does, and a copy does not see later changes.
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_hash_map(changes in prop::collection::vec((0u16..400, any::<Option<u8>>()), 0..600)) {
            let mut map = SharedMap::default();
            let mut expected = HashMap::new();
            for (key, value) in changes {
                if let Some(value) = value {
                    prop_assert_eq!(map.insert(key, value), expected.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), expected.remove(&key));
                }
            }
            prop_assert_eq!(map.len(), expected.len());
            for key in 0..400 {
                prop_assert_eq!(map.get(&key), expected.get(&key));
            }
            prop_assert_eq!(map.iter().map(|(k, v)| (*k, *v)).collect::<HashMap<_, _>>(), expected);
        }

        #[test]
        fn one_crowded_shard_agrees_too(changes in prop::collection::vec((0u16..60, any::<bool>()), 0..300)) {
            let mut shard = Shard { slots: Vec::new(), len: 0 };
            let mut expected = HashMap::new();
            for (key, add) in changes {
                if add {
                    prop_assert_eq!(shard.insert(hash_of(&key), key, key), expected.insert(key, key));
                } else {
                    prop_assert_eq!(shard.remove(hash_of(&key), &key), expected.remove(&key));
                }
                for key in 0..60u16 {
                    prop_assert_eq!(shard.find(hash_of(&key), &key).is_ok(), expected.contains_key(&key));
                }
            }
        }
    }

    #[test]
    fn copies_share_and_stay_as_they_were() {
        let mut map: SharedMap<u32, u32> = SharedMap::default();
        for key in 0..5000 {
            map.insert(key, key);
        }
        let copy = map.clone();
        map.insert(1, 99);
        assert_eq!((copy.get(&1), map.get(&1)), (Some(&1), Some(&99)));
        let shared = map.shards.iter().zip(&copy.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, SHARDS - 1);
    }
}
