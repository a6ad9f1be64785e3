//! Addresses that are no pod's: disjoint ranges to peer class.

use std::sync::Arc;

use thiserror::Error;

use crate::PeerClass;

/// Why a list of ranges is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RangeError {
    /// Some addresses would be in no range.
    #[error("the first range does not begin at the lowest address")]
    NoBeginning,
    /// A range begins at or before the one in front of it.
    #[error("range {0} is not behind the one before it")]
    OutOfOrder(usize),
}

/// All of an address family cut into ranges, each with a peer class. A range ends where the next begins. Found by binary
/// search: only addresses that belong to no pod get here, and what is cut is the ipBlocks of the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside<A> {
    starts: Arc<[A]>,
    classes: Arc<[PeerClass]>,
}

impl<A: Copy + Ord + From<u8>> Default for Outside<A> {
    fn default() -> Self {
        Self { starts: [A::from(0)].into(), classes: [PeerClass(0)].into() }
    }
}

impl<A: Copy + Ord + From<u8>> Outside<A> {
    /// From ranges in order, the first of which begins at 0.
    pub fn new(ranges: &[(A, PeerClass)]) -> Result<Self, RangeError> {
        if ranges.first().is_none_or(|range| range.0 != A::from(0)) {
            return Err(RangeError::NoBeginning);
        }
        if let Some(at) = ranges.windows(2).position(|pair| pair[0].0 >= pair[1].0) {
            return Err(RangeError::OutOfOrder(at + 1));
        }
        Ok(Self {
            starts: ranges.iter().map(|range| range.0).collect(),
            classes: ranges.iter().map(|range| range.1).collect(),
        })
    }

    /// The class of the range `address` is in.
    #[inline]
    pub fn get(&self, address: A) -> PeerClass {
        let behind = self.starts.partition_point(|start| *start <= address);
        // The first range begins at the lowest address, so `behind` is at least 1.
        self.classes[behind.saturating_sub(1)]
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (A, PeerClass)> + '_ {
        self.starts.iter().copied().zip(self.classes.iter().copied())
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.classes)
    }
}

#[cfg(test)]
mod tests {
    //! Ranges are refused unless they cover everything once, and lookups respect their edges.
    use super::*;

    #[test]
    fn edges_belong_to_the_range_that_begins_there() {
        let outside = Outside::new(&[(0u32, PeerClass(7)), (10, PeerClass(8)), (20, PeerClass(0))]).unwrap();
        assert_eq!([0, 9, 10, 19, 20, u32::MAX].map(|a| outside.get(a).0), [7, 7, 8, 8, 0, 0]);
    }

    #[test]
    fn gaps_and_disorder_are_refused() {
        assert_eq!(Outside::<u32>::new(&[]), Err(RangeError::NoBeginning));
        assert_eq!(Outside::new(&[(1u32, PeerClass(0))]), Err(RangeError::NoBeginning));
        let twice = [(0u128, PeerClass(0)), (5, PeerClass(1)), (5, PeerClass(2))];
        assert_eq!(Outside::new(&twice), Err(RangeError::OutOfOrder(2)));
    }
}
