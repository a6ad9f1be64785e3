//! The routes that end in a node's byte, and what they mean for each of its 256 values.

use super::bitmap::ByteSet;
use super::hop::Hop;

/// A route that ends in a node's byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The prefix's last byte.
    pub(super) byte: u8,
    /// Its bits that count, 1 to 8.
    pub(super) bits: u8,
    pub(super) hop: Hop,
}

/// Routes that end in one byte, by address and length: one that covers others comes before them.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends(Vec<End>);

impl Ends {
    pub(super) fn as_slice(&self) -> &[End] {
        &self.0
    }

    /// The next hop of exactly this byte and length.
    pub(super) fn get(&self, byte: u8, bits: u8) -> Hop {
        self.find(byte, bits).map_or(Hop::NONE, |at| self.0[at].hop)
    }

    /// Adds a route, or replaces the one for the same byte and length and returns its next hop.
    pub(super) fn insert(&mut self, end: End) -> Hop {
        match self.find(end.byte, end.bits) {
            Ok(at) => std::mem::replace(&mut self.0[at], end).hop,
            Err(at) => {
                self.0.insert(at, end);
                Hop::NONE
            }
        }
    }

    pub(super) fn remove(&mut self, byte: u8, bits: u8) {
        if let Ok(at) = self.find(byte, bits) {
            self.0.remove(at);
        }
    }

    /// The next hop of the longest route that contains each value of the byte.
    pub(super) fn spread(&self) -> [Hop; 256] {
        let mut hops = [Hop::NONE; 256];
        // Later routes are longer where they overlap, so they overwrite.
        for end in &self.0 {
            let first = usize::from(end.byte);
            hops[first..first + (256 >> end.bits)].fill(end.hop);
        }
        hops
    }

    fn find(&self, byte: u8, bits: u8) -> Result<usize, usize> {
        self.0.binary_search_by_key(&(byte, bits), |end| (end.byte, end.bits))
    }
}

impl FromIterator<End> for Ends {
    fn from_iter<I: IntoIterator<Item = End>>(in_order: I) -> Self {
        Self(in_order.into_iter().collect())
    }
}

/// Ends in the form of a leaf: the answers they give, packed.
///
/// Most often each names a whole byte: a host, or a network that ends between two bytes. Then those bytes are marked, and the
/// ends need not be kept. Ends inside the byte cover many values and one another; then the bytes are marked at which the
/// answer changes ("leaf pushing").
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Answers {
    /// What the answers are made of, where that cannot be told from them: a mark stands for all bytes up to the next.
    inside: Option<Box<Ends>>,
    /// None, and then one for each mark.
    hops: Box<[Hop]>,
    marks: ByteSet,
}

impl Answers {
    pub(super) fn of(ends: Ends) -> Self {
        if ends.0.iter().all(|end| end.bits == 8) {
            let hops = std::iter::once(Hop::NONE).chain(ends.0.iter().map(|end| end.hop)).collect();
            return Self { inside: None, hops, marks: ends.0.iter().map(|end| end.byte).collect() };
        }
        let all = ends.spread();
        let changes = |byte: &u8| *byte == 0 || all[usize::from(*byte)] != all[usize::from(*byte) - 1];
        let starts = (0..=u8::MAX).filter(changes);
        let hops = std::iter::once(Hop::NONE).chain(starts.clone().map(|byte| all[usize::from(byte)]));
        Self { hops: hops.collect(), marks: starts.collect(), inside: Some(Box::new(ends)) }
    }

    /// The next hop of the longest route that contains `byte`.
    #[inline]
    pub(super) fn get(&self, byte: u8) -> Hop {
        // With ends inside, the first mark is at 0, so that there is one at or before every byte.
        let hop = self.hops.get(self.marks.rank_through(byte)).copied().unwrap_or_default();
        if self.inside.is_some() | self.marks.contains(byte) { hop } else { Hop::NONE }
    }

    /// The routes it was made of.
    pub(super) fn ends(&self) -> Ends {
        if let Some(ends) = &self.inside {
            return Ends::clone(ends);
        }
        let hops = self.hops.iter().skip(1);
        self.marks.iter().zip(hops).map(|(byte, hop)| End { byte, bits: 8, hop: *hop }).collect()
    }
}
