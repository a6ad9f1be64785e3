//! Where a pod's programs run, and its addresses.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use heddle_netdev::{NETNS_DIR, Netns};

/// A pod of any system.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    netns: PathBuf,
    addresses: Vec<IpAddr>,
}

impl Place {
    /// In the namespace of this name.
    pub(crate) fn named(namespace: &str, addresses: Vec<IpAddr>) -> Self {
        Self { netns: PathBuf::from(NETNS_DIR).join(namespace), addresses }
    }

    pub(crate) fn netns(&self) -> Result<Netns> {
        Ok(Netns::open(&self.netns)?)
    }

    pub(crate) fn socket_address(&self, v6: bool, port: u16) -> Result<SocketAddr> {
        let address = self.addresses.iter().find(|address| address.is_ipv6() == v6);
        let address = address.with_context(|| {
            format!("{} has no IPv{} address", self.netns.display(), if v6 { 6 } else { 4 })
        })?;
        Ok(SocketAddr::new(*address, port))
    }
}
