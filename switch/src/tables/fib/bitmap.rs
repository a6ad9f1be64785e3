//! A set of bytes that knows the position of each member: turns "which of 256" into "which in a dense list".

/// A set of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByteSet {
    words: [u64; 4],
    /// Members in the words before each word, so that a rank counts the bits of one word only.
    before: [u8; 4],
}

impl ByteSet {
    #[inline]
    pub(super) fn contains(&self, byte: u8) -> bool {
        self.words[word(byte)] & bit(byte) != 0
    }

    /// Members less than `byte`: where `byte` is, or would go, in a list of the members in order.
    #[inline]
    pub(super) fn rank(&self, byte: u8) -> usize {
        let below = self.words[word(byte)] & (bit(byte) - 1);
        usize::from(self.before[word(byte)]) + below.count_ones() as usize
    }

    /// Members up to and including `byte`.
    #[inline]
    pub(super) fn rank_through(&self, byte: u8) -> usize {
        let through = self.words[word(byte)] & (u64::MAX >> (63 - (byte & 63)));
        usize::from(self.before[word(byte)]) + through.count_ones() as usize
    }

    pub(super) fn insert(&mut self, byte: u8) {
        self.words[word(byte)] |= bit(byte);
        self.count();
    }

    pub(super) fn remove(&mut self, byte: u8) {
        self.words[word(byte)] &= !bit(byte);
        self.count();
    }

    /// The least member from `from` on.
    pub(super) fn next(&self, from: u8) -> Option<u8> {
        let later = (word(from) + 1..4).map(|word| (word, self.words[word]));
        let first = (word(from), self.words[word(from)] & !(bit(from) - 1));
        let (word, members) = std::iter::once(first).chain(later).find(|(_, members)| *members != 0)?;
        Some((word * 64) as u8 + members.trailing_zeros() as u8)
    }

    /// The counts before words 1, 2 and 3 are at most 192, so they fit.
    fn count(&mut self) {
        let mut sum = 0;
        for (before, word) in self.before.iter_mut().zip(self.words) {
            *before = sum as u8;
            sum += word.count_ones();
        }
    }
}

impl FromIterator<u8> for ByteSet {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        let mut set = Self::default();
        bytes.into_iter().for_each(|byte| set.words[word(byte)] |= bit(byte));
        set.count();
        set
    }
}

#[inline]
fn word(byte: u8) -> usize {
    usize::from(byte >> 6)
}

#[inline]
fn bit(byte: u8) -> u64 {
    1 << (byte & 63)
}
