//! A next hop in four bytes, so that more of them fit a cache line.

use super::NextHop;

/// A next hop, or none: its kind in the low bits, its number above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hop(u32);

const KIND: u32 = 0b11;
const ENDPOINT: u32 = 1;
const VTEP: u32 = 2;
const UNREACHABLE: u32 = 3;

/// Numbers are indices of tables in memory, which has no room for as many.
const NUMBERS: u32 = 1 << 30;

impl Hop {
    pub(super) const NONE: Self = Self(0);

    #[inline]
    pub(super) fn next_hop(self) -> Option<NextHop> {
        let number = self.0 >> KIND.count_ones();
        match self.0 & KIND {
            ENDPOINT => Some(NextHop::Endpoint(number)),
            VTEP => Some(NextHop::Vtep(number)),
            UNREACHABLE => Some(NextHop::Unreachable),
            _ => None,
        }
    }

    /// This one, or `other` when this is none.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::NONE { other } else { self }
    }
}

impl From<NextHop> for Hop {
    /// # Panics
    ///
    /// When the number is no index of a table.
    fn from(next_hop: NextHop) -> Self {
        let (kind, number) = match next_hop {
            NextHop::Endpoint(number) => (ENDPOINT, number),
            NextHop::Vtep(number) => (VTEP, number),
            NextHop::Unreachable => (UNREACHABLE, 0),
        };
        assert!(number < NUMBERS, "{next_hop:?}: no table is as long");
        Self(number << KIND.count_ones() | kind)
    }
}
