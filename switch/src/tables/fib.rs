//! Longest-prefix match. (Interface agreed; the lookup structure is being built.)

use std::net::IpAddr;

use ipnet::IpNet;

use super::{EndpointNumber, VtepNumber};

/// Where packets for a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    routes: Vec<(IpNet, NextHop)>,
}

impl Fib {
    /// The next hop of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> Option<NextHop> {
        let matching = self.routes.iter().filter(|(prefix, _)| prefix.contains(&address));
        matching.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, next_hop)| *next_hop)
    }

    /// Adds a route, or replaces the one for the same prefix and returns its next hop. Host bits are ignored.
    pub fn insert(&mut self, prefix: IpNet, next_hop: NextHop) -> Option<NextHop> {
        let old = self.remove(prefix);
        self.routes.push((prefix.trunc(), next_hop));
        old
    }

    /// Removes the route for exactly this prefix.
    pub fn remove(&mut self, prefix: IpNet) -> Option<NextHop> {
        let at = self.routes.iter().position(|(p, _)| *p == prefix.trunc())?;
        Some(self.routes.swap_remove(at).1)
    }

    /// The next hop of exactly this prefix.
    pub fn get(&self, prefix: IpNet) -> Option<NextHop> {
        self.routes.iter().find(|(p, _)| *p == prefix.trunc()).map(|(_, next_hop)| *next_hop)
    }

    /// All routes, IPv4 first, by address and length.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, NextHop)> + '_ {
        self.routes.iter().copied()
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True when there is no route.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}
