//! What a node of the trie holds: the routes that end in its byte, and the children behind it.

use std::sync::Arc;

use super::NextHop;
use super::bitmap::ByteSet;
use super::prefix::{Prefix, common_bits};

/// A route of which the trie knows nothing but itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<const N: usize> {
    pub(super) prefix: Prefix<N>,
    pub(super) next_hop: NextHop,
}

/// A part of the trie: all routes whose addresses start with some bytes. Never empty.
#[derive(Debug, Clone)]
pub(super) enum Subtrie<const N: usize> {
    /// A single route needs no node, wherever it ends.
    Route(Route<N>),
    /// At least two routes.
    Node(Arc<Node<N>>),
}

/// Decides by one byte of the address.
///
/// What a lookup reads comes first, in the order of reading, so that it fills little more than one cache line: of the nodes of
/// a large table most are in no near cache, and a node at the edge, without children, should cost one miss.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Node<const N: usize> {
    /// Index of that byte. The bytes before it are the same for all addresses here.
    pub(super) depth: u8,
    answers: Answers,
    /// Routes that go on behind the byte. Boxed, because most nodes have none.
    children: Option<Box<Children<N>>>,
    /// The bytes before, and zeros behind them.
    pub(super) bytes: [u8; N],
    /// Routes that end in the byte, by address and length. The answers are made of them.
    ends: Vec<End>,
}

impl<const N: usize> Node<N> {
    /// A node at `depth` above addresses that start like `bytes`.
    pub(super) fn new(depth: u8, bytes: &[u8; N]) -> Self {
        let mut shared = [0; N];
        let depth_bytes = usize::from(depth);
        shared[..depth_bytes].copy_from_slice(&bytes[..depth_bytes]);
        Self { depth, answers: Answers::default(), children: None, bytes: shared, ends: Vec::new() }
    }

    /// True when the address starts with the node's bytes.
    #[inline]
    pub(super) fn starts(&self, address: &[u8; N]) -> bool {
        common_bits(&self.bytes, address) >= 8 * u32::from(self.depth)
    }

    /// The prefix of a route that ends here.
    pub(super) fn prefix(&self, end: &End) -> Prefix<N> {
        let mut bytes = self.bytes;
        bytes[usize::from(self.depth)] = end.byte;
        Prefix { bytes, len: 8 * self.depth + end.bits }
    }

    /// The next hop of the longest route here that contains `byte`.
    #[inline]
    pub(super) fn answer(&self, byte: u8) -> Option<NextHop> {
        self.answers.get(byte)
    }

    #[inline]
    pub(super) fn child(&self, byte: u8) -> Option<&Subtrie<N>> {
        self.children.as_ref()?.get(byte)
    }

    pub(super) fn child_mut(&mut self, byte: u8) -> Option<&mut Subtrie<N>> {
        self.children.as_mut()?.get_mut(byte)
    }

    /// The child of the least byte from `from` on.
    pub(super) fn next_child(&self, from: u8) -> Option<(u8, &Subtrie<N>)> {
        self.children.as_ref()?.next(from)
    }

    /// Number of children.
    pub(super) fn fanout(&self) -> usize {
        self.children.as_ref().map_or(0, |children| children.dense.len())
    }

    /// Adds a child for a byte that has none.
    pub(super) fn add_child(&mut self, byte: u8, child: Subtrie<N>) {
        self.children.get_or_insert_default().add(byte, child);
    }

    pub(super) fn remove_child(&mut self, byte: u8) {
        if let Some(children) = &mut self.children {
            children.remove(byte);
        }
        if self.fanout() == 0 {
            self.children = None;
        }
    }

    /// The routes that end here, by address and length.
    pub(super) fn ends(&self) -> &[End] {
        &self.ends
    }

    /// The next hop of exactly this end.
    pub(super) fn end(&self, byte: u8, bits: u8) -> Option<NextHop> {
        let at = self.ends.binary_search_by_key(&(byte, bits), End::key).ok()?;
        Some(self.ends[at].next_hop)
    }

    /// Adds an end, or replaces the one that is there and returns its next hop.
    pub(super) fn insert_end(&mut self, end: End) -> Option<NextHop> {
        let old = match self.ends.binary_search_by_key(&end.key(), End::key) {
            Ok(at) => Some(std::mem::replace(&mut self.ends[at], end).next_hop),
            Err(at) => {
                self.ends.reserve_exact(1);
                self.ends.insert(at, end);
                None
            }
        };
        self.answers = Answers::of(&self.ends);
        old
    }

    pub(super) fn remove_end(&mut self, byte: u8, bits: u8) {
        if let Ok(at) = self.ends.binary_search_by_key(&(byte, bits), End::key) {
            self.ends.remove(at);
            self.ends.shrink_to_fit();
            self.answers = Answers::of(&self.ends);
        }
    }
}

/// The children of a node by byte.
#[derive(Debug, Clone)]
struct Children<const N: usize> {
    present: ByteSet,
    dense: Vec<Subtrie<N>>,
}

impl<const N: usize> Default for Children<N> {
    fn default() -> Self {
        Self { present: ByteSet::default(), dense: Vec::new() }
    }
}

impl<const N: usize> Children<N> {
    #[inline]
    fn get(&self, byte: u8) -> Option<&Subtrie<N>> {
        if self.present.contains(byte) { self.dense.get(self.present.rank(byte)) } else { None }
    }

    fn get_mut(&mut self, byte: u8) -> Option<&mut Subtrie<N>> {
        if self.present.contains(byte) { self.dense.get_mut(self.present.rank(byte)) } else { None }
    }

    fn next(&self, from: u8) -> Option<(u8, &Subtrie<N>)> {
        let byte = self.present.next(from)?;
        Some((byte, self.dense.get(self.present.rank(byte))?))
    }

    fn add(&mut self, byte: u8, child: Subtrie<N>) {
        debug_assert!(!self.present.contains(byte));
        self.dense.reserve_exact(1);
        self.dense.insert(self.present.rank(byte), child);
        self.present.insert(byte);
    }

    fn remove(&mut self, byte: u8) {
        if self.present.contains(byte) {
            self.dense.remove(self.present.rank(byte));
            self.dense.shrink_to_fit();
            self.present.remove(byte);
        }
    }
}

/// A route that ends in a node's byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The prefix's last byte.
    pub(super) byte: u8,
    /// Its bits that count, 1 to 8.
    pub(super) bits: u8,
    pub(super) next_hop: NextHop,
}

impl End {
    /// By address, then length: a covering route comes before what it covers.
    fn key(&self) -> (u8, u8) {
        (self.byte, self.bits)
    }
}

/// What the routes that end in a node mean for each of its 256 bytes ("leaf pushing"). Equal neighbors are kept once:
/// `starts` has the bytes at which the answer changes, `dense` what it changes to.
#[derive(Debug, Clone, Default)]
struct Answers {
    starts: ByteSet,
    dense: Box<[Option<NextHop>]>,
}

impl Answers {
    /// Worked out from routes in order: later ones are longer where they overlap, so they overwrite.
    fn of(ends: &[End]) -> Self {
        if ends.is_empty() {
            return Self::default();
        }
        let mut answers = [None; 256];
        for end in ends {
            let first = usize::from(end.byte);
            answers[first..first + (256 >> end.bits)].fill(Some(end.next_hop));
        }
        let changes =
            |byte: &u8| *byte == 0 || answers[usize::from(*byte)] != answers[usize::from(*byte) - 1];
        Self {
            starts: (0..=u8::MAX).filter(changes).collect(),
            dense: (0..=u8::MAX).filter(changes).map(|byte| answers[usize::from(byte)]).collect(),
        }
    }

    #[inline]
    fn get(&self, byte: u8) -> Option<NextHop> {
        // A run starts at 0, so there is one at or before every byte; without routes there is no answer either.
        let runs = self.starts.rank_through(byte);
        self.dense.get(runs.wrapping_sub(1)).copied().flatten()
    }
}
