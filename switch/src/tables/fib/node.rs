//! What a node of the trie holds: the routes that end in its byte, and the children behind it.

use std::sync::Arc;

use super::NextHop;
use super::bitmap::ByteSet;
use super::prefix::Prefix;

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
#[derive(Debug, Clone)]
pub(super) struct Node<const N: usize> {
    /// Index of that byte. The bytes before it are the same for all addresses here.
    pub(super) depth: u8,
    /// Those bytes, and zeros behind them.
    pub(super) bytes: [u8; N],
    /// Routes that end in this byte.
    pub(super) ends: Ends,
    /// Routes that go on behind it.
    pub(super) children: Children<N>,
}

impl<const N: usize> Node<N> {
    /// A node at `depth` above addresses that start like `bytes`.
    pub(super) fn new(depth: u8, bytes: &[u8; N]) -> Self {
        let mut shared = [0; N];
        let depth_bytes = usize::from(depth);
        shared[..depth_bytes].copy_from_slice(&bytes[..depth_bytes]);
        Self { depth, bytes: shared, ends: Ends::default(), children: Children::default() }
    }

    /// The prefix of a route that ends here.
    pub(super) fn prefix(&self, end: &End) -> Prefix<N> {
        let mut bytes = self.bytes;
        bytes[usize::from(self.depth)] = end.byte;
        Prefix { bytes, len: 8 * self.depth + end.bits }
    }
}

/// The children of a node by byte.
#[derive(Debug, Clone)]
pub(super) struct Children<const N: usize> {
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
    pub(super) fn get(&self, byte: u8) -> Option<&Subtrie<N>> {
        if self.present.contains(byte) { self.dense.get(self.present.rank(byte)) } else { None }
    }

    pub(super) fn get_mut(&mut self, byte: u8) -> Option<&mut Subtrie<N>> {
        if self.present.contains(byte) { self.dense.get_mut(self.present.rank(byte)) } else { None }
    }

    /// The child of the least byte from `from` on.
    pub(super) fn next(&self, from: u8) -> Option<(u8, &Subtrie<N>)> {
        let byte = self.present.next(from)?;
        Some((byte, self.dense.get(self.present.rank(byte))?))
    }

    /// Adds a child for a byte that has none.
    pub(super) fn add(&mut self, byte: u8, child: Subtrie<N>) {
        debug_assert!(!self.present.contains(byte));
        self.dense.reserve_exact(1);
        self.dense.insert(self.present.rank(byte), child);
        self.present.insert(byte);
    }

    pub(super) fn remove(&mut self, byte: u8) {
        if self.present.contains(byte) {
            self.dense.remove(self.present.rank(byte));
            self.dense.shrink_to_fit();
            self.present.remove(byte);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.dense.len()
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

/// The routes that end in a node's byte, and the answer for each of its 256 values.
///
/// The answers are worked out at every change ("leaf pushing"), and equal neighbors are kept once: `starts` has the
/// byte values at which the answer changes, `answers` what it changes to.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    starts: ByteSet,
    answers: Vec<Option<NextHop>>,
    routes: Vec<End>,
}

impl Ends {
    /// The next hop of the longest route here that contains `byte`.
    #[inline]
    pub(super) fn lookup(&self, byte: u8) -> Option<NextHop> {
        // A run starts at 0, so there is one at or before every byte; without routes there is no answer either.
        let run = self.starts.rank(byte) + usize::from(self.starts.contains(byte));
        self.answers.get(run.wrapping_sub(1)).copied().flatten()
    }

    /// The routes by address and length.
    pub(super) fn routes(&self) -> &[End] {
        &self.routes
    }

    pub(super) fn get(&self, byte: u8, bits: u8) -> Option<NextHop> {
        let at = self.routes.binary_search_by_key(&(byte, bits), End::key).ok()?;
        Some(self.routes[at].next_hop)
    }

    pub(super) fn insert(&mut self, end: End) -> Option<NextHop> {
        let old = match self.routes.binary_search_by_key(&end.key(), End::key) {
            Ok(at) => Some(std::mem::replace(&mut self.routes[at], end).next_hop),
            Err(at) => {
                self.routes.reserve_exact(1);
                self.routes.insert(at, end);
                None
            }
        };
        self.work_out();
        old
    }

    pub(super) fn remove(&mut self, byte: u8, bits: u8) {
        if let Ok(at) = self.routes.binary_search_by_key(&(byte, bits), End::key) {
            self.routes.remove(at);
            self.routes.shrink_to_fit();
            self.work_out();
        }
    }

    /// Works the answers out from the routes. Later routes are longer where they overlap, so they overwrite.
    fn work_out(&mut self) {
        if self.routes.is_empty() {
            *self = Self::default();
            return;
        }
        let mut answers = [None; 256];
        for end in &self.routes {
            let first = usize::from(end.byte);
            answers[first..first + (256 >> end.bits)].fill(Some(end.next_hop));
        }
        let changes =
            |byte: &u8| *byte == 0 || answers[usize::from(*byte)] != answers[usize::from(*byte) - 1];
        self.starts = (0..=u8::MAX).filter(changes).collect();
        self.answers.clear();
        let changes = (0..=u8::MAX).filter(changes).map(|byte| answers[usize::from(byte)]);
        self.answers.extend(changes);
        self.answers.shrink_to_fit();
    }
}
