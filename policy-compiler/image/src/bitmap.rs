//! A set of small numbers that is cheap when its members lie close together.

/// A growing bit set that stores only the words between its lowest and its highest member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bitmap {
    /// Number of the first stored word.
    start: u32,
    words: Vec<u64>,
}

impl Bitmap {
    /// Adds a member. Returns false if it was there.
    pub fn insert(&mut self, member: u32) -> bool {
        let at = self.reserve(member / 64);
        let mask = 1 << (member % 64);
        let new = self.words[at] & mask == 0;
        self.words[at] |= mask;
        new
    }

    /// Takes a member out. Returns false if it was not there.
    pub fn remove(&mut self, member: u32) -> bool {
        let Some(word) = self.word_mut(member / 64) else { return false };
        let mask = 1 << (member % 64);
        let there = *word & mask != 0;
        *word &= !mask;
        there
    }

    /// True when `member` is in the set.
    pub fn contains(&self, member: u32) -> bool {
        let at = (member / 64).wrapping_sub(self.start) as usize;
        self.words.get(at).is_some_and(|word| word >> (member % 64) & 1 == 1)
    }

    /// Adds all members of `other`.
    pub fn union(&mut self, other: &Self) {
        let (start, words) = other.words();
        if words.is_empty() {
            return;
        }
        self.reserve(start + words.len() as u32 - 1);
        let at = self.reserve(start);
        for (word, more) in self.words[at..].iter_mut().zip(words) {
            *word |= more;
        }
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (self.start..).zip(&self.words).flat_map(|(number, &word)| {
            let bits = std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)));
            bits.take_while(|rest| *rest != 0).map(move |rest| number * 64 + rest.trailing_zeros())
        })
    }

    /// True when there is no member.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The words from the first to the last that is not zero, and the number of the first of them.
    pub fn words(&self) -> (u32, &[u64]) {
        let first = self.words.iter().position(|word| *word != 0).unwrap_or(self.words.len());
        let behind = self.words.iter().rposition(|word| *word != 0).map_or(first, |last| last + 1);
        (self.start + first as u32, &self.words[first..behind])
    }

    /// Number of the word behind the last one kept.
    pub fn end(&self) -> u32 {
        let (first, words) = self.words();
        first + words.len() as u32
    }

    fn word_mut(&mut self, number: u32) -> Option<&mut u64> {
        self.words.get_mut(number.wrapping_sub(self.start) as usize)
    }

    /// Makes room for word `number` and returns where it is stored.
    fn reserve(&mut self, number: u32) -> usize {
        if self.words.is_empty() {
            self.start = number;
        }
        if number < self.start {
            let missing = (self.start - number) as usize;
            self.words.splice(0..0, std::iter::repeat_n(0, missing));
            self.start = number;
        }
        let at = (number - self.start) as usize;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        at
    }
}

impl FromIterator<u32> for Bitmap {
    fn from_iter<I: IntoIterator<Item = u32>>(members: I) -> Self {
        let mut set = Self::default();
        for member in members {
            set.insert(member);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    //! The windowed set behaves as an ordinary set of numbers.
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_tree_set(first in prop::collection::vec(0u32..5000, 0..40), second in prop::collection::vec(0u32..5000, 0..40),
                                  gone in prop::collection::vec(0u32..5000, 0..40)) {
            let mut set: Bitmap = first.iter().copied().collect();
            set.union(&second.iter().copied().collect());
            let mut expected: BTreeSet<u32> = first.iter().chain(&second).copied().collect();
            for member in gone.iter().chain(first.iter().take(5)) {
                prop_assert_eq!(set.remove(*member), expected.remove(member));
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.is_empty(), expected.is_empty());
            for member in &gone {
                prop_assert_eq!(set.contains(*member), expected.contains(member));
            }
        }
    }
}
