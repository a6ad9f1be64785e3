//! What has to hold before anything is touched.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::thread::CapabilitySet;

use super::error::StartError;

/// `AF_XDP` (include/linux/socket.h).
const AF_XDP: u16 = 44;

/// Checks rights and kernel.
pub(super) fn check() -> Result<(), StartError> {
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let missing = missing(effective);
    if !missing.is_empty() {
        return Err(StartError::Capabilities(missing.join(", ")));
    }
    match rustix::net::socket(AddressFamily::from_raw(AF_XDP), SocketType::RAW, None) {
        Err(errno @ (Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::INVAL)) => {
            Err(StartError::NoAfXdp(errno))
        }
        // Other failures come back with their own message when the first socket is opened.
        _ => Ok(()),
    }
}

/// Names of the capabilities that are needed and not there.
fn missing(effective: CapabilitySet) -> Vec<&'static str> {
    let needed = [
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_NET_RAW", CapabilitySet::NET_RAW),
        ("CAP_BPF", CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
        ("CAP_IPC_LOCK", CapabilitySet::IPC_LOCK),
    ];
    // Of several, any will do.
    needed.into_iter().filter(|(_, any)| !effective.intersects(*any)).map(|(name, _)| name).collect()
}

/// Makes sure that no other daemon works with the same state, for as long as the file lives.
pub(super) fn lock(state_dir: &Path) -> Result<File, StartError> {
    let directory = state_dir.join("switch");
    let failed = |error| StartError::Directory { key: "state_dir", path: directory.clone(), error };
    fs::create_dir_all(&directory).map_err(failed)?;
    let file = File::create(directory.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Locked(state_dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    //! Missing rights are named all at once; two daemons cannot share a state.
    use super::*;

    #[test]
    fn all_missing_capabilities_are_named() {
        assert_eq!(
            missing(CapabilitySet::empty()),
            ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_IPC_LOCK"]
        );
        let some = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
        assert_eq!(missing(some), ["CAP_NET_RAW", "CAP_IPC_LOCK"]);
    }

    #[test]
    fn the_state_has_one_owner() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        assert!(matches!(lock(directory.path()), Err(StartError::Locked(_))));
        drop(first);
        lock(directory.path()).unwrap();
    }
}
