//! A set of bytes that knows the position of each member: turns "which of 256" into "which in a dense list".

/// A set of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct ByteSet {
    /// Members in the words before each word, so that a rank counts the bits of one word only.
    before: [u8; 4],
    words: [u64; 4],
}

impl ByteSet {
    #[inline]
    pub(super) fn contains(&self, byte: u8) -> bool {
        self.words[word(byte)] & bit(byte) != 0
    }

    /// Members up to and including `byte`.
    #[inline]
    pub(super) fn rank_through(&self, byte: u8) -> usize {
        let through = self.words[word(byte)] & (u64::MAX >> (63 - (byte & 63)));
        usize::from(self.before[word(byte)]) + through.count_ones() as usize
    }

    /// All members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        std::iter::successors(self.next(0), |byte| self.next(byte.checked_add(1)?))
    }

    /// The least member from `from` on.
    fn next(&self, from: u8) -> Option<u8> {
        let later = (word(from) + 1..4).map(|word| (word, self.words[word]));
        let first = (word(from), self.words[word(from)] & !(bit(from) - 1));
        let (word, members) = std::iter::once(first).chain(later).find(|(_, members)| *members != 0)?;
        Some((word * 64) as u8 + members.trailing_zeros() as u8)
    }
}

impl FromIterator<u8> for ByteSet {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        let mut set = Self::default();
        bytes.into_iter().for_each(|byte| set.words[word(byte)] |= bit(byte));
        let mut sum = 0;
        for (before, word) in set.before.iter_mut().zip(set.words) {
            // At most 192 before the last word, so it fits.
            *before = sum as u8;
            sum += word.count_ones();
        }
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
