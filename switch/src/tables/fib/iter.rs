//! All routes of a trie in order.

use super::NextHop;
use super::node::{Node, Route, Subtrie};
use super::prefix::Prefix;

/// The routes of one trie by address and length: a walk that keeps its place in every node it is in.
pub(super) struct Iter<'a, const N: usize> {
    default_route: Option<NextHop>,
    root: Option<&'a Subtrie<N>>,
    path: Vec<Place<'a, N>>,
}

/// How far the walk is in a node.
struct Place<'a, const N: usize> {
    node: &'a Node<N>,
    /// Index of the next of the routes that end here.
    end: usize,
    /// The byte to look for the next child from; `None` past the last.
    byte: Option<u8>,
}

/// What comes next in a node.
enum Step<'a, const N: usize> {
    Route(Prefix<N>, NextHop),
    Into(&'a Subtrie<N>),
    Done,
}

impl<'a, const N: usize> Iter<'a, N> {
    pub(super) fn new(default_route: Option<NextHop>, root: Option<&'a Subtrie<N>>) -> Self {
        Self { default_route, root, path: Vec::new() }
    }

    /// Takes the route when the subtrie is one; goes in when it is a node.
    fn enter(&mut self, subtrie: &'a Subtrie<N>) -> Option<(Prefix<N>, NextHop)> {
        match subtrie {
            Subtrie::Route(Route { prefix, next_hop }) => return Some((*prefix, *next_hop)),
            Subtrie::Node(node) => self.path.push(Place { node, end: 0, byte: Some(0) }),
        }
        None
    }
}

impl<'a, const N: usize> Place<'a, N> {
    /// A route that ends at a byte comes before the child of that byte, whose routes are longer.
    fn step(&mut self) -> Step<'a, N> {
        let end = self.node.ends().get(self.end);
        let child = self.byte.and_then(|from| self.node.next_child(from));
        match (end, child) {
            (Some(end), child) if child.is_none_or(|(byte, _)| end.byte <= byte) => {
                self.end += 1;
                Step::Route(self.node.prefix(end), end.next_hop)
            }
            (_, Some((byte, child))) => {
                self.byte = byte.checked_add(1);
                Step::Into(child)
            }
            (_, None) => Step::Done,
        }
    }
}

impl<const N: usize> Iterator for Iter<'_, N> {
    type Item = (Prefix<N>, NextHop);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(next_hop) = self.default_route.take() {
            return Some((Prefix { bytes: [0; N], len: 0 }, next_hop));
        }
        let root = self.root.take();
        if let Some(route) = root.and_then(|root| self.enter(root)) {
            return Some(route);
        }
        while let Some(place) = self.path.last_mut() {
            match place.step() {
                Step::Route(prefix, next_hop) => return Some((prefix, next_hop)),
                Step::Done => {
                    self.path.pop();
                }
                Step::Into(subtrie) => {
                    if let Some(route) = self.enter(subtrie) {
                        return Some(route);
                    }
                }
            }
        }
        None
    }
}
