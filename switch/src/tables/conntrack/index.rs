//! Hash to slot: buckets of one cache line, two for each key.
//!
//! A key lives in its first bucket while there is room, else in its second one. The second follows from the first and
//! the tag, and the first from the second in the same way, so an entry can be moved to its other bucket without looking
//! at its key. When both buckets of a new key are full, one resident that has room elsewhere makes way; with buckets
//! filled to 60 % at most, only keys chosen to collide find none. A lookup reads two lines at worst, whatever the keys
//! are: crafted ones cannot make it slow, and choosing them takes the secret seed of the hash.

/// As many as fit into a cache line with two bytes of tag and four of slot each.
const WAYS: usize = 10;
/// Average entries per bucket when the table is full: room for chance to be uneven.
const FILL: usize = 6;
/// Tag of an empty place.
const EMPTY: u16 = 0;

#[derive(Debug, Clone)]
#[repr(C, align(64))]
struct Bucket {
    slots: [u32; WAYS],
    tags: [u16; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// Where the entries are.
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two of them, at least two.
    buckets: Box<[Bucket]>,
}

/// Both buckets of a key are full, and nobody in them can move.
#[derive(Debug)]
pub(super) struct Full;

impl Index {
    pub(super) fn new(capacity: usize) -> Self {
        let buckets = capacity.div_ceil(FILL).next_power_of_two().max(2);
        Self { buckets: vec![Bucket { slots: [0; WAYS], tags: [EMPTY; WAYS] }; buckets].into_boxed_slice() }
    }

    /// Bytes in use.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// The slot most likely to be the key's; nothing when there is none in its first bucket.
    #[inline]
    pub(super) fn likely(&self, hash: u64) -> Option<u32> {
        let bucket = &self.buckets[self.first(hash)];
        let way = bucket.find(tag(hash)).trailing_zeros() as usize;
        bucket.slots.get(way).copied()
    }

    /// The key's slot, where `is_key` says whether a slot is.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_key: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let first = self.first(hash);
        let in_first = self.buckets[first].find_key(tag, &is_key);
        in_first.or_else(|| self.buckets[self.other(first, tag)].find_key(tag, &is_key))
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) -> Result<(), Full> {
        let tag = tag(hash);
        let first = self.first(hash);
        let second = self.other(first, tag);
        for bucket in [first, second] {
            if self.buckets[bucket].put(tag, slot) {
                return Ok(());
            }
        }
        for bucket in [first, second] {
            if let Some(way) = self.make_way(bucket) {
                self.buckets[bucket].tags[way] = tag;
                self.buckets[bucket].slots[way] = slot;
                return Ok(());
            }
        }
        Err(Full)
    }

    /// Removes a key that is there.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let tag = tag(hash);
        let first = self.first(hash);
        for bucket in [first, self.other(first, tag)] {
            let bucket = &mut self.buckets[bucket];
            let place = (0..WAYS).find(|&way| bucket.tags[way] == tag && bucket.slots[way] == slot);
            if let Some(way) = place {
                bucket.tags[way] = EMPTY;
                return;
            }
        }
    }

    /// The slots that stand in the way of a key for which [`insert`](Self::insert) found both buckets full.
    pub(super) fn rivals(&self, hash: u64) -> impl Iterator<Item = u32> {
        let first = self.first(hash);
        [first, self.other(first, tag(hash))].into_iter().flat_map(|bucket| self.buckets[bucket].slots)
    }

    /// Moves one entry of a full bucket to its other one; returns the place it left.
    fn make_way(&mut self, bucket: usize) -> Option<usize> {
        (0..WAYS).find(|&way| {
            let (tag, slot) = (self.buckets[bucket].tags[way], self.buckets[bucket].slots[way]);
            let other = self.other(bucket, tag);
            self.buckets[other].put(tag, slot)
        })
    }

    #[inline]
    fn first(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// The other bucket of a tag in `bucket`. Never `bucket` itself: what it is mixed with is odd.
    #[inline]
    fn other(&self, bucket: usize, tag: u16) -> usize {
        /// Odd, and spreads 16 bits over 32: 2^32 divided by the golden ratio.
        const SPREAD: u32 = 0x9e37_79b1;
        let mix = (u32::from(tag).wrapping_mul(SPREAD) >> 4) | 1;
        bucket ^ (mix as usize & (self.buckets.len() - 1))
    }
}

impl Bucket {
    /// The ways that hold `tag`, a bit each.
    #[inline]
    fn find(&self, tag: u16) -> u32 {
        let mut ways = 0;
        for way in 0..WAYS {
            ways |= u32::from(self.tags[way] == tag) << way;
        }
        ways
    }

    #[inline]
    fn find_key(&self, tag: u16, is_key: impl Fn(u32) -> bool) -> Option<u32> {
        let mut ways = self.find(tag);
        while ways != 0 {
            let slot = self.slots[ways.trailing_zeros() as usize];
            if is_key(slot) {
                return Some(slot);
            }
            ways &= ways - 1;
        }
        None
    }

    /// Puts an entry into an empty place; false when there is none.
    fn put(&mut self, tag: u16, slot: u32) -> bool {
        let Some(way) = self.tags.iter().position(|&tag| tag == EMPTY) else { return false };
        self.tags[way] = tag;
        self.slots[way] = slot;
        true
    }
}

/// The bits of a hash that choose no bucket, never [`EMPTY`].
#[inline]
fn tag(hash: u64) -> u16 {
    ((hash >> 48) as u16).max(EMPTY + 1)
}
