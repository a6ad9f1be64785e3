//! All routes of a trie in order.

use super::NextHop;
use super::hop::Hop;
use super::node::Subtrie;
use super::prefix::Prefix;

/// The routes of one trie by address and length.
pub(super) struct Iter<'a, const N: usize> {
    /// What is still to come, the next of it last.
    rest: Vec<Rest<'a, N>>,
}

enum Rest<'a, const N: usize> {
    Route(Prefix<N>, Hop),
    Subtrie(&'a Subtrie<N>),
}

impl<'a, const N: usize> Iter<'a, N> {
    pub(super) fn new(default_route: Hop, root: &'a Subtrie<N>) -> Self {
        let everything = Prefix { bytes: [0; N], len: 0 };
        Self { rest: vec![Rest::Subtrie(root), Rest::Route(everything, default_route)] }
    }

    /// Puts what is in a subtrie in its place.
    fn open(&mut self, subtrie: &'a Subtrie<N>) {
        let (head, ends) = (subtrie.head(), subtrie.ends());
        let ends = ends.as_slice().iter().map(|end| (end.byte, Rest::Route(head.prefix(*end), end.hop)));
        let children = subtrie.children().into_iter().map(|(byte, child)| (byte, Rest::Subtrie(child)));
        let mut contents: Vec<_> = ends.chain(children).collect();
        // Stable: a route that ends at a byte stays before the child of that byte, whose routes are longer.
        contents.sort_by_key(|(byte, _)| *byte);
        self.rest.extend(contents.into_iter().rev().map(|(_, rest)| rest));
    }
}

impl<const N: usize> Iterator for Iter<'_, N> {
    type Item = (Prefix<N>, NextHop);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.rest.pop()? {
                Rest::Subtrie(subtrie) => self.open(subtrie),
                Rest::Route(prefix, hop) => {
                    if let Some(next_hop) = hop.next_hop() {
                        return Some((prefix, next_hop));
                    }
                }
            }
        }
    }
}
