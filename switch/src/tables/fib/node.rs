//! What the trie is made of. A lookup sees four shapes, each as small or as quick as its place asks; whoever changes the trie
//! sees routes that end in a byte and children behind it, whatever the shape.

use std::sync::Arc;

use super::bitmap::ByteSet;
use super::ends::{Answers, End, Ends};
use super::hop::Hop;
use super::prefix::{Prefix, same_start};

/// A part of the trie: all routes whose addresses start with some bytes.
#[derive(Debug, Clone)]
pub(super) enum Subtrie<const N: usize> {
    /// A single route needs no node, wherever it ends. Without a next hop it is no route: [`Subtrie::NOTHING`].
    Route(Prefix<N>, Hop),
    /// At least two routes, which all end in one byte.
    Leaf(Arc<Leaf<N>>),
    /// At least two routes, which all go on behind one byte of an interface identifier.
    Fan(Arc<Fan<N>>),
    /// All else.
    Fork(Arc<Fork<N>>),
}

impl<const N: usize> Subtrie<N> {
    /// A lookup need not tell it from a route: it is one for all addresses, which does not say where to.
    pub(super) const NOTHING: Self = Self::Route(Prefix { bytes: [0; N], len: 0 }, Hop::NONE);

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Route(_, Hop::NONE))
    }

    /// Where it stands: a node at the byte it decides by, a route at the byte it ends in.
    pub(super) fn head(&self) -> Head<N> {
        match self {
            Self::Route(prefix, _) => Head::new(prefix.depth(), &prefix.bytes),
            Self::Leaf(leaf) => leaf.head,
            Self::Fan(fan) => fan.head,
            Self::Fork(fork) => fork.head,
        }
    }

    /// The routes that end there.
    pub(super) fn ends(&self) -> Ends {
        match self {
            Self::Route(_, Hop::NONE) | Self::Fan(_) => Ends::default(),
            Self::Route(prefix, hop) => std::iter::once(prefix.end(*hop)).collect(),
            Self::Leaf(leaf) => leaf.answers.ends(),
            Self::Fork(fork) => fork.ends.clone(),
        }
    }

    /// What goes on behind that byte, by byte.
    pub(super) fn children(&self) -> Vec<(u8, &Self)> {
        match self {
            Self::Route(..) | Self::Leaf(_) => Vec::new(),
            Self::Fan(fan) => fan.marks.iter().zip(fan.below.iter().skip(1)).collect(),
            Self::Fork(fork) => {
                let all = (0..=u8::MAX).map(|byte| (byte, &fork.slot(byte).below));
                all.filter(|(_, below)| !below.is_nothing()).collect()
            }
        }
    }

    /// What goes on behind one value of that byte.
    pub(super) fn child(&self, byte: u8) -> Option<&Self> {
        let below = match self {
            Self::Route(..) | Self::Leaf(_) => return None,
            Self::Fan(fan) => fan.below(byte),
            Self::Fork(fork) => &fork.slot(byte).below,
        };
        if below.is_nothing() { None } else { Some(below) }
    }

    /// As `child`, to change it. A node that is shared is copied, whether there is a child or not.
    pub(super) fn child_mut(&mut self, byte: u8) -> Option<&mut Self> {
        let below = match self {
            Self::Route(..) | Self::Leaf(_) => return None,
            Self::Fan(fan) => Arc::make_mut(fan).below_mut(byte),
            Self::Fork(fork) => &mut Arc::make_mut(fork).slot_mut(byte).below,
        };
        if below.is_nothing() { None } else { Some(below) }
    }
}

/// Where in the address a node stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<const N: usize> {
    /// The bytes before the one it decides by, and zeros behind them: the same for all addresses here.
    pub(super) bytes: [u8; N],
    /// Index of the byte it decides by.
    pub(super) depth: u8,
}

impl<const N: usize> Head<N> {
    /// Of a node at `depth` above addresses that start like `bytes`.
    pub(super) fn new(depth: u8, bytes: &[u8; N]) -> Self {
        let mut shared = [0; N];
        let before = usize::from(depth);
        shared[..before].copy_from_slice(&bytes[..before]);
        Self { bytes: shared, depth }
    }

    /// The prefix of a route that ends here.
    pub(super) fn prefix(&self, end: End) -> Prefix<N> {
        let mut bytes = self.bytes;
        bytes[usize::from(self.depth)] = end.byte;
        Prefix { bytes, len: 8 * self.depth + end.bits }
    }

    /// The byte that decides, if the address starts with the node's bytes. Those before `known` are known to agree.
    #[inline]
    pub(super) fn byte(&self, address: &[u8; N], known: u8) -> Option<u8> {
        let belongs = self.depth == known || same_start(&self.bytes, address, 8 * self.depth);
        // N is a power of two and the depth less, so this changes nothing but that no bound is checked.
        if belongs { Some(address[usize::from(self.depth) & (N - 1)]) } else { None }
    }
}

/// A node behind which nothing goes on. Most nodes of a large table are leaves, in no near cache: so they are small.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Leaf<const N: usize> {
    pub(super) head: Head<N>,
    pub(super) answers: Answers,
}

/// A node in the second half of an IPv6 address, in which no route ends. There each network has its own, for hosts whose
/// identifiers, if random, part in the first byte: again many nodes, so small ones.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Fan<const N: usize> {
    pub(super) head: Head<N>,
    marks: ByteSet,
    /// Nothing, and then what goes on behind each marked byte.
    below: Box<[Subtrie<N>]>,
}

impl<const N: usize> Fan<N> {
    fn of(draft: Draft<N>) -> Self {
        let marks = draft.children.iter().map(|(byte, _)| *byte).collect();
        let children = draft.children.into_iter().map(|(_, child)| child);
        Self { head: draft.head, marks, below: std::iter::once(Subtrie::NOTHING).chain(children).collect() }
    }

    #[inline]
    pub(super) fn below(&self, byte: u8) -> &Subtrie<N> {
        &self.below[self.at(byte)]
    }

    fn below_mut(&mut self, byte: u8) -> &mut Subtrie<N> {
        &mut self.below[self.at(byte)]
    }

    #[inline]
    fn at(&self, byte: u8) -> usize {
        // A product and no branch: whether there is a host is hard to predict.
        self.marks.rank_through(byte) * usize::from(self.marks.contains(byte))
    }
}

/// First byte of an interface identifier (RFC 4291, section 2.5.1).
const INTERFACE_IDENTIFIER: u8 = 8;

/// A node with others behind it. Forks are few, and a lookup passes several: so they are large, to be passed quickly.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Fork<const N: usize> {
    pub(super) head: Head<N>,
    slots: Box<[Slot<N>]>,
    /// The slot of each value of the byte.
    index: [u8; 256],
    /// What the next hops in the slots are made of.
    ends: Ends,
}

/// What a value of a fork's byte means. Values that mean the same share one, except those with something below.
#[derive(Debug, Clone)]
pub(super) struct Slot<const N: usize> {
    /// Of the longest route that ends in the byte.
    pub(super) hop: Hop,
    /// What goes on behind the byte.
    pub(super) below: Subtrie<N>,
}

impl<const N: usize> Fork<N> {
    fn of(draft: Draft<N>) -> Self {
        let mut children = draft.children.into_iter().peekable();
        let (mut index, mut slots) = ([0; 256], Vec::<Slot<N>>::new());
        for (byte, hop) in (0..=u8::MAX).zip(draft.ends.spread()) {
            let child = children.next_if(|(at, _)| *at == byte).map(|(_, child)| child);
            let same = |slot: &Slot<N>| slot.hop == hop && slot.below.is_nothing();
            let shared = if child.is_none() { slots.iter().position(same) } else { None };
            // At most one slot more for each value, so the numbers fit.
            index[usize::from(byte)] = shared.unwrap_or(slots.len()) as u8;
            if shared.is_none() {
                slots.push(Slot { hop, below: child.unwrap_or(Subtrie::NOTHING) });
            }
        }
        Self { head: draft.head, slots: slots.into(), index, ends: draft.ends }
    }

    #[inline]
    pub(super) fn slot(&self, byte: u8) -> &Slot<N> {
        &self.slots[usize::from(self.index[usize::from(byte)])]
    }

    fn slot_mut(&mut self, byte: u8) -> &mut Slot<N> {
        &mut self.slots[usize::from(self.index[usize::from(byte)])]
    }
}

/// A node to be, of whatever shape its contents will ask for.
#[derive(Debug)]
pub(super) struct Draft<const N: usize> {
    pub(super) head: Head<N>,
    ends: Ends,
    /// By byte; none of them is nothing.
    children: Vec<(u8, Subtrie<N>)>,
}

impl<const N: usize> Draft<N> {
    /// With what is in `subtrie`.
    pub(super) fn of(subtrie: &Subtrie<N>) -> Self {
        let children = subtrie.children().into_iter().map(|(byte, child)| (byte, child.clone()));
        Self { head: subtrie.head(), ends: subtrie.ends(), children: children.collect() }
    }

    /// At `depth`, where all of `subtrie` goes on behind one byte.
    pub(super) fn above(subtrie: &Subtrie<N>, depth: u8) -> Self {
        let bytes = match subtrie {
            Subtrie::Route(prefix, _) => prefix.bytes,
            node => node.head().bytes,
        };
        let children = vec![(bytes[usize::from(depth)], subtrie.clone())];
        Self { head: Head::new(depth, &bytes), ends: Ends::default(), children }
    }

    /// Adds a route that is in none of the children, or replaces the one for the same prefix and returns its next hop.
    pub(super) fn insert(&mut self, prefix: &Prefix<N>, hop: Hop) -> Hop {
        if prefix.depth() == self.head.depth {
            return self.ends.insert(prefix.end(hop));
        }
        let byte = prefix.byte(self.head.depth);
        let at = self.children.partition_point(|(before, _)| *before < byte);
        self.children.insert(at, (byte, Subtrie::Route(*prefix, hop)));
        Hop::NONE
    }

    /// Removes a route that ends here.
    pub(super) fn remove(&mut self, prefix: &Prefix<N>) {
        if prefix.depth() == self.head.depth {
            self.ends.remove(prefix.byte(self.head.depth), prefix.bits());
        }
    }

    /// The least that has these contents.
    pub(super) fn finish(mut self) -> Subtrie<N> {
        match (self.ends.as_slice(), self.children.len()) {
            ([], 0) => Subtrie::NOTHING,
            ([end], 0) => Subtrie::Route(self.head.prefix(*end), end.hop),
            ([], 1) => self.children.pop().map_or(Subtrie::NOTHING, |(_, child)| child),
            (_, 0) => Subtrie::Leaf(Arc::new(Leaf { head: self.head, answers: Answers::of(self.ends) })),
            ([], _) if self.head.depth >= INTERFACE_IDENTIFIER => Subtrie::Fan(Arc::new(Fan::of(self))),
            _ => Subtrie::Fork(Arc::new(Fork::of(self))),
        }
    }
}
