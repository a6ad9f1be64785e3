//! What this plugin remembers between its calls: the attachments of the node, and whose each address is.
//!
//! ```text
//! attachments/hdlc12c21fb6b0.json                          one record an attachment, named after the host's interface
//! ipam/10.244.1.5 -> ../attachments/hdlc12c21fb6b0.json    an address that is taken, and by whom
//! ipam/10.244.1.7.rests-until-86412 -> …                   one that is free, but rests; seconds since the kernel's start
//! ipam/lock                                                flock(2), held while addresses change; the last ones given out
//! ipam/boot                                                format of all this, and the boot it is of
//! ```
//!
//! An address is taken exactly when a link has its name: symlink(2) makes it whole or not at all, and refuses a name that exists, so
//! neither a crash nor two plugins at once give an address to two. The record is written before all else that ADD does, and removed after
//! all else that DEL does; whatever is left of an attachment, its record is there to find it by.
//!
//! Interfaces do not outlive the kernel that has them, so neither does this: the first change after a boot sweeps out what is of an earlier one. That is
//! also why nothing here is synced to disk. What a power failure tears or takes back is of a boot that is over.

mod allocate;
mod exclusion;
mod lock;
mod range;
mod record;
mod release;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub(crate) use allocate::{Held, Pool};
pub(crate) use exclusion::Presence;
pub(crate) use range::Range;
pub(crate) use record::Record;

use store::Store;

/// The state cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
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
    /// An address that was asked for cannot be given.
    #[error("the address {address} that was asked for {reason}")]
    NotToBeHad {
        /// The address.
        address: IpAddr,
        /// Why, and what to do.
        reason: String,
    },
    /// A record that makes no sense.
    #[error("{} does not say in JSON whose attachment it is: a DEL of it puts that right, or remove the file when no pod has the interface", .file.display())]
    Corrupt {
        /// Its path.
        file: PathBuf,
    },
    /// Written by a later version of this plugin.
    #[error("{} is of format {format}, and this heddle-cni knows formats up to {known}: install the version that wrote it, or a later one. Nothing was changed", .file.display(), known = record::FORMAT)]
    Newer {
        /// The file that says so.
        file: PathBuf,
        /// What it says.
        format: u32,
    },
    /// Another plugin holds a lock and does not let go.
    #[error("another heddle-cni has held {} for {seconds} s: see what it waits for", .lock.display())]
    Busy {
        /// The locked file.
        lock: PathBuf,
        /// How long this one waited.
        seconds: u64,
    },
    /// Another ADD of the same attachment is under way.
    #[error("another ADD of the same container and interface is under way ({}): let it end, or end it, then call DEL", .record.display())]
    UnderWay {
        /// The attachment's record.
        record: PathBuf,
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

/// The state under a state directory.
#[derive(Debug, Clone)]
pub(crate) struct State {
    store: Store,
    /// For how many seconds a freed address rests.
    rest: u32,
}

impl State {
    /// The state under `state_dir`, which is made when the first attachment is.
    pub(crate) fn new(state_dir: &Path, rest: u32) -> Self {
        Self { store: Store::new(state_dir), rest }
    }
}

fn io_error(operation: &'static str, path: &Path, source: std::io::Error) -> StateError {
    StateError::Io { operation, path: path.to_owned(), source }
}
