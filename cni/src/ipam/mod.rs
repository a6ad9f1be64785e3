//! Built-in address management: which address of the node's pod ranges belongs to which attachment.
//!
//! The truth is a directory with one file per allocated address; the file's name is the address, its content says in
//! JSON whose it is. An address is taken exactly when its file is there. `link(2)` makes a file appear complete or not
//! at all, and refuses a name that exists, so neither a crash nor two plugins at once can give an address to two owners.
//! A lock file serializes all changes; it makes allocation orderly and lets leftovers of crashed plugins be swept.

mod allocate;
mod entry;
mod range;
mod store;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub(crate) use entry::{Entry, Owner};
pub(crate) use range::Range;

use store::Store;

/// The address state cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IpamError {
    /// No address of the family is free.
    #[error(
        "all {family} pod addresses of this node are taken ({ranges}): delete pods, or give the node a larger pod CIDR"
    )]
    Exhausted {
        /// "IPv4" or "IPv6".
        family: &'static str,
        /// The ranges, comma-separated.
        ranges: String,
    },
    /// Files that do not say whose their address is. They were set aside; the addresses stay taken.
    #[error("{} did not say in JSON whose address it is and was renamed to *.corrupt: when no pod uses the address, remove it", names(.files))]
    Corrupt {
        /// Their original paths.
        files: Vec<PathBuf>,
    },
    /// Another plugin holds the lock and does not let go.
    #[error("another heddle-cni has held {} for {seconds} s: see what it waits for", .lock.display())]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// How long this one waited.
        seconds: u64,
    },
    /// The file system refused.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// The address state under a state directory.
#[derive(Debug, Clone)]
pub(crate) struct Ipam {
    store: Store,
}

impl Ipam {
    /// The state under `state_dir`, which is made when the first address is allocated.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { store: Store::new(state_dir.join("ipam")) }
    }

    /// Everything allocated, in address order. Files that say nothing sensible are left out.
    pub(crate) fn list(&self) -> Result<Vec<(IpAddr, Entry)>, IpamError> {
        self.store.entries()
    }
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    names.join(", ")
}
