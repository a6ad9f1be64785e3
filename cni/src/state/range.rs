//! A prefix that pods get their addresses from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A pod CIDR holds no address that a pod can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pod CIDR {0} holds no address for a pod: it is not a unicast range")]
pub(crate) struct RangeError(IpNet);

/// The usable addresses of a prefix, as numbers of its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    prefix: IpNet,
    first: u128,
    last: u128,
}

impl Range {
    /// Leaves out what a prefix reserves: network and broadcast address of IPv4, the Subnet-Router anycast address of
    /// IPv6 (RFC 4291 2.6.1). Prefixes of two addresses (RFC 3021, RFC 6164) and of one reserve none.
    pub(crate) fn new(prefix: IpNet) -> Result<Self, RangeError> {
        let prefix = prefix.trunc();
        if prefix.network().is_multicast() || prefix.network().is_loopback() {
            return Err(RangeError(prefix));
        }
        let (first, last) = (number(prefix.network()), number(prefix.broadcast()));
        let roomy = prefix.max_prefix_len() - prefix.prefix_len() >= 2;
        let (first, last) = match prefix {
            IpNet::V4(_) if roomy => (first + 1, last - 1),
            IpNet::V6(_) if roomy => (first + 1, last),
            _ => (first, last),
        };
        Ok(Self { prefix, first, last })
    }

    /// The prefix as configured.
    pub(crate) fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// "IPv4" or "IPv6".
    pub(crate) fn family(&self) -> &'static str {
        if self.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// True for an IPv4 range.
    pub(crate) fn is_ipv4(&self) -> bool {
        matches!(self.prefix, IpNet::V4(_))
    }

    /// True for an address that a pod can have from it.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }

    /// The first address behind `last` that `taken` does not claim, wrapping around at the end. `claims` is how many
    /// addresses `taken` can claim at most: among that many and one more candidates one is free, so the search is
    /// bounded by what is allocated and not by the size of the range.
    pub(super) fn next_free(
        &self,
        last: Option<IpAddr>,
        claims: usize,
        taken: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let mut candidate = last.map_or(self.first, |last| self.following(number(last)));
        let size_minus_one = self.last - self.first;
        for _ in 0..=size_minus_one.min(claims as u128) {
            let address = self.address(candidate);
            if !taken(address) {
                return Some(address);
            }
            candidate = self.following(candidate);
        }
        None
    }

    fn following(&self, number: u128) -> u128 {
        if (self.first..self.last).contains(&number) { number + 1 } else { self.first }
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.is_ipv4() {
            // Between first and last, both IPv4 addresses.
            IpAddr::V4(Ipv4Addr::from(number as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from(number))
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    //! Ranges leave out exactly the reserved addresses, and searching them is bounded by what is allocated.
    use super::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;

    fn range(text: &str) -> Range {
        Range::new(text.parse().unwrap()).unwrap()
    }

    fn all(text: &str) -> Vec<String> {
        let range = range(text);
        let mut taken = BTreeSet::new();
        while let Some(address) = range.next_free(None, taken.len(), |a| taken.contains(&a)) {
            taken.insert(address);
        }
        taken.into_iter().map(|address| address.to_string()).collect()
    }

    #[test]
    fn reserves_what_the_family_reserves() {
        assert_eq!(all("10.0.0.0/30"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(all("10.0.0.0/31"), ["10.0.0.0", "10.0.0.1"]);
        assert_eq!(all("10.0.0.7/32"), ["10.0.0.7"]);
        assert_eq!(all("fd00::/126"), ["fd00::1", "fd00::2", "fd00::3"]);
        assert_eq!(all("fd00::/127"), ["fd00::", "fd00::1"]);
        assert_eq!(all("fd00::9/128"), ["fd00::9"]);
        assert_eq!(all("10.244.1.0/24").len(), 254);
    }

    #[test]
    fn refuses_ranges_without_pod_addresses() {
        for text in ["224.0.0.0/4", "ff02::/16", "127.0.0.0/8", "::1/128"] {
            assert!(Range::new(text.parse().unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn starts_behind_the_last_one_and_wraps() {
        let range = range("10.0.0.0/29");
        let after =
            |last: &str| range.next_free(Some(last.parse().unwrap()), 0, |_| false).unwrap().to_string();
        assert_eq!(after("10.0.0.3"), "10.0.0.4");
        assert_eq!(after("10.0.0.6"), "10.0.0.1");
        // A last address of an older configuration, outside the range.
        assert_eq!(after("192.0.2.1"), "10.0.0.1");
        assert_eq!(after("fd00::1"), "10.0.0.1");
    }

    #[test]
    fn a_huge_range_is_not_walked() {
        let tries = Cell::new(0);
        let full = |_| {
            tries.set(tries.get() + 1);
            true
        };
        assert_eq!(range("fd00::/64").next_free(None, 1000, full), None);
        assert_eq!(tries.get(), 1001);
        assert_eq!(range("::/0").next_free(None, 0, |_| false).unwrap().to_string(), "::1");
    }
}
