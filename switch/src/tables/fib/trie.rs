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

use std::sync::Arc;

use super::NextHop;
use super::iter::Iter;
use super::node::{End, Node, Route, Subtrie};
use super::prefix::{Prefix, common_bytes};

/// Prefixes of addresses of `N` bytes, with their next hops.
#[derive(Debug, Clone)]
pub(super) struct Trie<const N: usize> {
    /// The route of length 0, which ends in no byte.
    default_route: Option<NextHop>,
    root: Option<Subtrie<N>>,
    len: usize,
}

impl<const N: usize> Default for Trie<N> {
    fn default() -> Self {
        Self { default_route: None, root: None, len: 0 }
    }
}

impl<const N: usize> Trie<N> {
    /// The next hop of the longest prefix that contains `address`.
    #[inline]
    pub(super) fn lookup(&self, address: &[u8; N]) -> Option<NextHop> {
        let (mut best, mut next, mut depth) = (self.default_route, self.root.as_ref(), 0);
        while let Some(subtrie) = next {
            let node = match subtrie {
                Subtrie::Route(route) if route.prefix.contains(address) => return Some(route.next_hop),
                Subtrie::Node(node) if node.depth == depth || node.starts(address) => node,
                _ => break,
            };
            let byte = address[usize::from(node.depth)];
            best = node.answer(byte).or(best);
            next = node.child(byte);
            depth = node.depth + 1;
        }
        best
    }

    /// The next hop of exactly this prefix.
    pub(super) fn get(&self, prefix: &Prefix<N>) -> Option<NextHop> {
        if prefix.len == 0 {
            return self.default_route;
        }
        let mut next = self.root.as_ref();
        while let Some(subtrie) = next {
            match subtrie {
                Subtrie::Route(route) => return (route.prefix == *prefix).then_some(route.next_hop),
                Subtrie::Node(node) if branch(node, prefix) < node.depth => return None,
                Subtrie::Node(node) if prefix.depth() == node.depth => {
                    return node.end(prefix.byte(node.depth), prefix.bits());
                }
                Subtrie::Node(node) => next = node.child(prefix.byte(node.depth)),
            }
        }
        None
    }

    /// Adds a route, or replaces the one for the same prefix and returns its next hop.
    pub(super) fn insert(&mut self, prefix: &Prefix<N>, next_hop: NextHop) -> Option<NextHop> {
        let route = Route { prefix: *prefix, next_hop };
        let old = if prefix.len == 0 {
            self.default_route.replace(next_hop)
        } else if let Some(root) = &mut self.root {
            insert(root, route)
        } else {
            self.root = Some(Subtrie::Route(route));
            None
        };
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes the route for exactly this prefix.
    pub(super) fn remove(&mut self, prefix: &Prefix<N>) -> Option<NextHop> {
        // Looked for first, so that a removal in vain copies nothing.
        let old = self.get(prefix)?;
        self.len -= 1;
        if prefix.len == 0 {
            self.default_route = None;
        } else if self.root.as_mut().is_some_and(|root| remove(root, prefix) == Left::Nothing) {
            self.root = None;
        }
        Some(old)
    }

    pub(super) fn iter(&self) -> Iter<'_, N> {
        Iter::new(self.default_route, self.root.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn root(&self) -> Option<&Subtrie<N>> {
        self.root.as_ref()
    }
}

/// The depth at which `prefix` and the routes of `node` part ways; the node's own depth when `prefix` belongs there or below.
fn branch<const N: usize>(node: &Node<N>, prefix: &Prefix<N>) -> u8 {
    common_bytes(&node.bytes, &prefix.bytes).min(node.depth).min(prefix.depth())
}

fn insert<const N: usize>(subtrie: &mut Subtrie<N>, route: Route<N>) -> Option<NextHop> {
    match subtrie {
        Subtrie::Route(other) if other.prefix == route.prefix => {
            Some(std::mem::replace(&mut other.next_hop, route.next_hop))
        }
        Subtrie::Route(other) => {
            let common = common_bytes(&other.prefix.bytes, &route.prefix.bytes);
            let depth = common.min(other.prefix.depth()).min(route.prefix.depth());
            let mut node = Node::new(depth, &route.prefix.bytes);
            insert_into(&mut node, *other);
            insert_into(&mut node, route);
            *subtrie = Subtrie::Node(Arc::new(node));
            None
        }
        Subtrie::Node(node) => {
            let depth = branch(node, &route.prefix);
            if depth == node.depth {
                return insert_into(Arc::make_mut(node), route);
            }
            let mut above = Node::new(depth, &node.bytes);
            above.add_child(node.bytes[usize::from(depth)], Subtrie::Node(Arc::clone(node)));
            insert_into(&mut above, route);
            *subtrie = Subtrie::Node(Arc::new(above));
            None
        }
    }
}

/// Inserts a route that starts with the node's bytes.
fn insert_into<const N: usize>(node: &mut Node<N>, route: Route<N>) -> Option<NextHop> {
    let byte = route.prefix.byte(node.depth);
    if route.prefix.depth() == node.depth {
        return node.insert_end(End { byte, bits: route.prefix.bits(), next_hop: route.next_hop });
    }
    if let Some(child) = node.child_mut(byte) {
        return insert(child, route);
    }
    node.add_child(byte, Subtrie::Route(route));
    None
}

/// What a removal leaves of a subtrie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Something,
    Nothing,
}

/// Removes a route that is known to be in the subtrie.
fn remove<const N: usize>(subtrie: &mut Subtrie<N>, prefix: &Prefix<N>) -> Left {
    let Subtrie::Node(shared) = subtrie else { return Left::Nothing };
    let node = Arc::make_mut(shared);
    let byte = prefix.byte(node.depth);
    if prefix.depth() == node.depth {
        node.remove_end(byte, prefix.bits());
    } else if node.child_mut(byte).is_some_and(|child| remove(child, prefix) == Left::Nothing) {
        node.remove_child(byte);
    }
    if let Some(rest) = only_one_left(node) {
        *subtrie = rest;
    }
    Left::Something
}

/// What to put in the place of a node that has nothing left to decide.
fn only_one_left<const N: usize>(node: &Node<N>) -> Option<Subtrie<N>> {
    match (node.ends(), node.fanout()) {
        ([end], 0) => Some(Subtrie::Route(Route { prefix: node.prefix(end), next_hop: end.next_hop })),
        ([], 1) => node.next_child(0).map(|(_, child)| child.clone()),
        _ => None,
    }
}
