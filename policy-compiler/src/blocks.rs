//! ipBlocks cut into disjoint ranges, each with the terms it is in.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::Block;
use crate::terms::TermNumber;

/// Terms of a range, sorted.
pub(crate) type RangeTerms = Arc<[TermNumber]>;

/// Every address to the block terms it is in. A range ends where the next begins; the first begins at 0.
#[derive(Debug)]
pub(crate) struct BlockIndex {
    pub(crate) v4: Vec<(u128, RangeTerms)>,
    pub(crate) v6: Vec<(u128, RangeTerms)>,
}

impl Default for BlockIndex {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl BlockIndex {
    /// Cuts both families along the edges of all blocks.
    pub(crate) fn new<'a>(blocks: impl Iterator<Item = (TermNumber, &'a Block)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (term, block) in blocks {
            let (edges, highest) = match block.cidr {
                IpNet::V4(_) => (&mut v4, u128::from(u32::MAX)),
                IpNet::V6(_) => (&mut v6, u128::MAX),
            };
            for (first, last) in spans(block) {
                edges.push((first, true, term));
                edges.extend((last < highest).then(|| (last + 1, false, term)));
            }
        }
        Self { v4: sweep(v4), v6: sweep(v6) }
    }

    /// The block terms an address is in.
    pub(crate) fn get(&self, address: IpAddr) -> &RangeTerms {
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let behind = ranges.partition_point(|(start, _)| *start <= bits(address));
        &ranges[behind.saturating_sub(1)].1
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// What is left of the block between its exceptions, as first and last address.
fn spans(block: &Block) -> Vec<(u128, u128)> {
    let edges = |net: &IpNet| (bits(net.network()), bits(net.broadcast()));
    let mut excepts: Vec<_> = block.except.iter().map(edges).collect();
    excepts.sort_unstable();
    let (mut next, last) = edges(&block.cidr);
    let mut spans = Vec::new();
    for (except_first, except_last) in excepts {
        if next < except_first {
            spans.push((next, except_first - 1));
        }
        let Some(behind) = except_last.checked_add(1) else { return spans };
        next = next.max(behind);
    }
    if next <= last {
        spans.push((next, last));
    }
    spans
}

/// Walks the edges in order and keeps the set of terms between them.
fn sweep(mut edges: Vec<(u128, bool, TermNumber)>) -> Vec<(u128, RangeTerms)> {
    edges.sort_unstable();
    let mut ranges: Vec<(u128, RangeTerms)> = vec![(0, [].into())];
    let mut inside = std::collections::BTreeSet::new();
    for at in edges.chunk_by(|a, b| a.0 == b.0) {
        for (_, begins, term) in at {
            if *begins {
                inside.insert(*term);
            } else {
                inside.remove(term);
            }
        }
        if at[0].0 == 0 {
            ranges.clear();
        }
        ranges.push((at[0].0, inside.iter().copied().collect()));
    }
    ranges
}

#[cfg(test)]
mod tests {
    //! The index agrees with asking each block, at and around every edge.
    use proptest::prelude::*;

    use super::*;

    fn block() -> impl Strategy<Value = Block> {
        (any::<u8>(), 0u8..=8, prop::collection::vec((any::<u8>(), 0u8..=8), 0..4)).prop_map(
            |(base, length, excepts)| {
                // All blocks lie in the last octet of the highest /24, so that the end of the family is among the edges.
                let net = |base: u8, length: u8| -> IpNet {
                    format!("255.255.255.{base}/{}", 24 + length).parse::<IpNet>().unwrap().trunc()
                };
                let cidr = net(base, length);
                let inside = excepts.into_iter().map(|(base, length)| net(base, length));
                Block { cidr, except: inside.filter(|except| cidr.contains(except)).collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn agrees_with_asking_each(blocks in prop::collection::vec(block(), 0..6)) {
            let index = BlockIndex::new((0..).zip(&blocks));
            for octet in 0..=255 {
                let address: IpAddr = [255, 255, 255, octet].into();
                let expected: Vec<TermNumber> =
                    (0..).zip(&blocks).filter(|(_, block)| block.contains(address)).map(|(number, _)| number).collect();
                prop_assert_eq!(&**index.get(address), &expected[..]);
            }
            prop_assert!(index.v4.iter().all(|(start, _)| *start <= u128::from(u32::MAX)));
            prop_assert!(index.get("1.2.3.4".parse().unwrap()).is_empty());
            prop_assert!(index.get("fd00::1".parse().unwrap()).is_empty());
        }
    }

    #[test]
    fn everything_is_a_block_too() {
        let blocks = [Block { cidr: "::/0".parse().unwrap(), except: vec!["8000::/1".parse().unwrap()] }];
        let index = BlockIndex::new((7..).zip(&blocks));
        assert_eq!(**index.get("::".parse().unwrap()), [7]);
        assert!(index.get("ffff::".parse().unwrap()).is_empty());
    }
}
