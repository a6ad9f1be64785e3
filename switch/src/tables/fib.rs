//! Longest-prefix match.
//!
//! The FIB is two [tries](trie), one a family, whose nodes are shared between copies: cloning it costs two reference
//! counts, and a route changed afterwards copies only the nodes above that route. That is what lets the control thread
//! publish every change of a table with 100,000 routes (`docs/adr/0004-fib.md` has the numbers).

mod bitmap;
mod ends;
mod hop;
mod iter;
mod node;
mod prefix;
mod trie;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

use super::{EndpointNumber, VtepNumber};
use prefix::Prefix;
use trie::Trie;

/// Where packets for a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    /// An endpoint of this node; the host is number 0.
    Endpoint(EndpointNumber),
    /// Another node.
    Vtep(VtepNumber),
    /// Nowhere: the packet is dropped.
    Unreachable,
}

/// Destination prefix to next hop, IPv4 and IPv6.
#[derive(Debug, Clone, Default)]
pub struct Fib {
    v4: Trie<4>,
    v6: Trie<16>,
}

impl Fib {
    /// The next hop of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> Option<NextHop> {
        match address {
            IpAddr::V4(address) => self.v4.lookup(&address.octets()),
            IpAddr::V6(address) => self.v6.lookup(&address.octets()),
        }
    }

    /// Adds a route, or replaces the one for the same prefix and returns its next hop. Host bits are ignored.
    pub fn insert(&mut self, prefix: IpNet, next_hop: NextHop) -> Option<NextHop> {
        match prefix {
            IpNet::V4(net) => self.v4.insert(&Prefix::from(net), next_hop),
            IpNet::V6(net) => self.v6.insert(&Prefix::from(net), next_hop),
        }
    }

    /// Removes the route for exactly this prefix.
    pub fn remove(&mut self, prefix: IpNet) -> Option<NextHop> {
        match prefix {
            IpNet::V4(net) => self.v4.remove(&Prefix::from(net)),
            IpNet::V6(net) => self.v6.remove(&Prefix::from(net)),
        }
    }

    /// The next hop of exactly this prefix.
    pub fn get(&self, prefix: IpNet) -> Option<NextHop> {
        match prefix {
            IpNet::V4(net) => self.v4.get(&Prefix::from(net)),
            IpNet::V6(net) => self.v6.get(&Prefix::from(net)),
        }
    }

    /// The next hop of a prefix, or of the longest one around it.
    pub fn around(&self, prefix: IpNet) -> Option<NextHop> {
        std::iter::successors(Some(prefix), IpNet::supernet).find_map(|prefix| self.get(prefix))
    }

    /// All routes, IPv4 first, by address and length.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, NextHop)> + '_ {
        let v4 = self.v4.iter().map(|(prefix, next_hop)| (prefix.into(), next_hop));
        v4.chain(self.v6.iter().map(|(prefix, next_hop)| (prefix.into(), next_hop)))
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True when there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
