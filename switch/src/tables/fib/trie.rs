//! One family's routes: a trie that decides by one byte of the address at a time.
//!
//! - A node stands at every byte where routes part ways; bytes in which all routes agree are skipped, and a route that is alone
//!   in its part of the trie stands there without a node. So a lookup visits few nodes whatever the length of
//!   the address, and there are fewer nodes than routes.
//! - A node keeps only the children and answers that differ, behind bitmaps that are counted to find them.
//! - Nodes are shared between clones. A change copies a node that somebody else sees, and edits one that nobody does; the
//!   rest stays shared.
//!
//! Invariants, so that equal sets of routes make equal tries and removal gives everything back:
//! a node has at least two of routes and children together; a child begins behind its parent's byte; the routes below a
//! node share the node's bytes.

use super::NextHop;
use super::hop::Hop;
use super::iter::Iter;
use super::node::{Draft, Head, Subtrie};
use super::prefix::{Prefix, common_bytes};

/// Prefixes of addresses of `N` bytes, with their next hops.
#[derive(Debug, Clone)]
pub(super) struct Trie<const N: usize> {
    /// The route of length 0, which ends in no byte.
    default_route: Hop,
    root: Subtrie<N>,
    len: usize,
}

impl<const N: usize> Default for Trie<N> {
    fn default() -> Self {
        Self { default_route: Hop::NONE, root: Subtrie::NOTHING, len: 0 }
    }
}

impl<const N: usize> Trie<N> {
    /// The next hop of the longest prefix that contains `address`.
    #[inline]
    pub(super) fn lookup(&self, address: &[u8; N]) -> Option<NextHop> {
        let (mut best, mut subtrie, mut known) = (self.default_route, &self.root, 0);
        loop {
            match subtrie {
                Subtrie::Fork(fork) => {
                    let Some(byte) = fork.head.byte(address, known) else { break };
                    let slot = fork.slot(byte);
                    best = slot.hop.or(best);
                    subtrie = &slot.below;
                    known = fork.head.depth + 1;
                }
                Subtrie::Fan(fan) => {
                    let Some(byte) = fan.head.byte(address, known) else { break };
                    subtrie = fan.below(byte);
                    known = fan.head.depth + 1;
                }
                Subtrie::Leaf(leaf) => {
                    let Some(byte) = leaf.head.byte(address, known) else { break };
                    best = leaf.answers.get(byte).or(best);
                    break;
                }
                Subtrie::Route(prefix, hop) => {
                    let hop = if prefix.contains(address) { *hop } else { Hop::NONE };
                    best = hop.or(best);
                    break;
                }
            }
        }
        best.next_hop()
    }

    /// The next hop of exactly this prefix.
    pub(super) fn get(&self, prefix: &Prefix<N>) -> Option<NextHop> {
        if prefix.len == 0 {
            return self.default_route.next_hop();
        }
        let mut subtrie = &self.root;
        loop {
            let head = subtrie.head();
            if part(&head, prefix) < head.depth {
                return None;
            }
            if prefix.depth() == head.depth {
                return subtrie.ends().get(prefix.byte(head.depth), prefix.bits()).next_hop();
            }
            subtrie = subtrie.child(prefix.byte(head.depth))?;
        }
    }

    /// Adds a route, or replaces the one for the same prefix and returns its next hop.
    pub(super) fn insert(&mut self, prefix: &Prefix<N>, next_hop: NextHop) -> Option<NextHop> {
        let hop = Hop::from(next_hop);
        let old = if prefix.len == 0 {
            std::mem::replace(&mut self.default_route, hop)
        } else {
            insert(&mut self.root, prefix, hop)
        };
        self.len += usize::from(old == Hop::NONE);
        old.next_hop()
    }

    /// Removes the route for exactly this prefix.
    pub(super) fn remove(&mut self, prefix: &Prefix<N>) -> Option<NextHop> {
        // Looked for first, so that a removal in vain copies nothing.
        let old = self.get(prefix)?;
        self.len -= 1;
        if prefix.len == 0 {
            self.default_route = Hop::NONE;
        } else {
            remove(&mut self.root, prefix);
        }
        Some(old)
    }

    pub(super) fn iter(&self) -> Iter<'_, N> {
        Iter::new(self.default_route, &self.root)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn root(&self) -> &Subtrie<N> {
        &self.root
    }
}

/// The depth at which `prefix` and the routes at `head` part ways; that of `head` when it belongs there or below.
fn part<const N: usize>(head: &Head<N>, prefix: &Prefix<N>) -> u8 {
    common_bytes(&head.bytes, &prefix.bytes).min(head.depth).min(prefix.depth())
}

fn insert<const N: usize>(subtrie: &mut Subtrie<N>, prefix: &Prefix<N>, hop: Hop) -> Hop {
    if subtrie.is_nothing() {
        *subtrie = Subtrie::Route(*prefix, hop);
        return Hop::NONE;
    }
    if let Some(child) = child_mut(subtrie, prefix) {
        return insert(child, prefix, hop);
    }
    let head = subtrie.head();
    let depth = part(&head, prefix);
    let mut draft = if depth < head.depth { Draft::above(subtrie, depth) } else { Draft::of(subtrie) };
    let old = draft.insert(prefix, hop);
    *subtrie = draft.finish();
    old
}

/// Removes a route that is known to be in the subtrie.
fn remove<const N: usize>(subtrie: &mut Subtrie<N>, prefix: &Prefix<N>) {
    if let Some(child) = child_mut(subtrie, prefix) {
        remove(child, prefix);
        if !child.is_nothing() {
            return;
        }
    }
    let mut draft = Draft::of(subtrie);
    draft.remove(prefix);
    *subtrie = draft.finish();
}

/// The child that `prefix` is in, or would be in.
fn child_mut<'t, const N: usize>(
    subtrie: &'t mut Subtrie<N>,
    prefix: &Prefix<N>,
) -> Option<&'t mut Subtrie<N>> {
    let head = subtrie.head();
    let byte = prefix.byte(head.depth);
    let goes_on = part(&head, prefix) == head.depth && prefix.depth() > head.depth;
    // Asked for first, because to change a child copies its node.
    if goes_on && subtrie.child(byte).is_some() { subtrie.child_mut(byte) } else { None }
}
