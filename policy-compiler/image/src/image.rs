//! The whole image: the classifiers and the policy classes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::{Direction, Outside, Paged, PeerClass, PolicyClass, PolicyClassNumber, Protocol, SharedMap};

/// Policy of the cluster, or of the part of it that one node enforces, at one moment.
///
/// The fields are for whoever builds an image; packets use the methods.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Peer class of every pod's IPv4 addresses. An address that is here is not looked up in `outside_v4`.
    pub pods_v4: SharedMap<Ipv4Addr, PeerClass>,
    /// As `pods_v4`.
    pub pods_v6: SharedMap<Ipv6Addr, PeerClass>,
    /// Peer class of all other IPv4 addresses.
    pub outside_v4: Outside<u32>,
    /// As `outside_v4`.
    pub outside_v6: Outside<u128>,
    /// The policy classes by number.
    pub policy_classes: Paged<Arc<PolicyClass>>,
    /// Policy class of every pod that is enforced, by `<namespace>/<name>`.
    pub endpoints: SharedMap<Arc<str>, PolicyClassNumber>,
}

/// What an image occupies in memory, in bytes. What several classes share is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageSize {
    /// Bitmaps.
    pub rows: usize,
    /// Port classifiers.
    pub ports: usize,
    /// Peer classifier: addresses and ranges.
    pub peers: usize,
    /// Endpoint names and the policy classes themselves.
    pub endpoints: usize,
}

impl ImageSize {
    /// All of it.
    pub const fn total(&self) -> usize {
        self.rows + self.ports + self.peers + self.endpoints
    }
}

impl Image {
    /// The peer class of an address. Constant time for a pod's address; for others a binary search over ipBlocks.
    #[inline]
    pub fn peer_class(&self, address: IpAddr) -> PeerClass {
        match address {
            IpAddr::V4(v4) => {
                self.pods_v4.get(&v4).copied().unwrap_or_else(|| self.outside_v4.get(v4.to_bits()))
            }
            IpAddr::V6(v6) => {
                self.pods_v6.get(&v6).copied().unwrap_or_else(|| self.outside_v6.get(v6.to_bits()))
            }
        }
    }

    /// True for the addresses of pods.
    pub fn has_pod(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.pods_v4.get(&v4).is_some(),
            IpAddr::V6(v6) => self.pods_v6.get(&v6).is_some(),
        }
    }

    /// The policy class of a pod, if this image knows the pod. What holds for an unknown pod is the caller's to decide.
    pub fn endpoint(&self, namespace: &str, name: &str) -> Option<PolicyClassNumber> {
        self.endpoints.get(format!("{namespace}/{name}").as_str()).copied()
    }

    /// A policy class by number, for an endpoint to keep as long as it uses this image.
    #[inline]
    pub fn policy_class(&self, number: PolicyClassNumber) -> Option<&Arc<PolicyClass>> {
        self.policy_classes.get(number.0)
    }

    /// The verdict of one side. A class this image does not have allows nothing.
    #[inline]
    pub fn allows(
        &self,
        class: PolicyClassNumber,
        direction: Direction,
        peer: PeerClass,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        self.policy_class(class).is_some_and(|class| class.allows(direction, peer, protocol, port))
    }

    /// Sets the peer class of a pod's address and returns the one it had.
    pub fn set_pod(&mut self, address: IpAddr, class: PeerClass) -> Option<PeerClass> {
        match address {
            IpAddr::V4(v4) => self.pods_v4.insert(v4, class),
            IpAddr::V6(v6) => self.pods_v6.insert(v6, class),
        }
    }

    /// Forgets that an address is a pod's.
    pub fn remove_pod(&mut self, address: IpAddr) -> Option<PeerClass> {
        match address {
            IpAddr::V4(v4) => self.pods_v4.remove(&v4),
            IpAddr::V6(v6) => self.pods_v6.remove(&v6),
        }
    }

    /// Adds up what the image occupies. Walks all of it.
    pub fn size(&self) -> ImageSize {
        let mut size = ImageSize::default();
        let (mut rows, mut ports) = (HashSet::new(), HashSet::new());
        for (_, class) in self.policy_classes.iter() {
            size.endpoints += size_of::<PolicyClass>();
            for book in [&class.ingress, &class.egress] {
                if rows.insert(Arc::as_ptr(book.rows.words()).addr()) {
                    size.rows += book.rows.bytes();
                }
                if ports.insert(Arc::as_ptr(book.ports.words()).addr()) {
                    size.ports += size_of_val(&**book.ports.words());
                }
            }
        }
        size.peers =
            self.pods_v4.bytes() + self.pods_v6.bytes() + self.outside_v4.bytes() + self.outside_v6.bytes();
        size.endpoints +=
            self.endpoints.bytes() + self.endpoints.iter().map(|(name, _)| name.len()).sum::<usize>();
        size
    }
}
