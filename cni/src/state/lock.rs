//! flock(2) with an end to the waiting. A lock goes with the process that holds it, however that ends.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{StateError, io_error};

/// Whether others may hold it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Shared,
    Exclusive,
}

/// Locks a file if nobody is in the way.
pub(super) fn try_lock(file: &File, kind: Kind) -> Result<bool, Errno> {
    let operation = match kind {
        Kind::Shared => FlockOperation::NonBlockingLockShared,
        Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Locks a file; whoever holds it gets `patience` to let go.
pub(super) fn wait_for_lock(
    file: File,
    path: &Path,
    kind: Kind,
    patience: Duration,
) -> Result<File, StateError> {
    let fail = |errno: Errno| io_error("lock", path, errno.into());
    if try_lock(&file, kind).map_err(fail)? {
        return Ok(file);
    }
    let operation = match kind {
        Kind::Shared => FlockOperation::LockShared,
        Kind::Exclusive => FlockOperation::LockExclusive,
    };
    // flock knows no time limit, so it waits on a thread, which lets go of the lock if it comes too late.
    let (sender, receiver) = mpsc::sync_channel(0);
    std::thread::spawn(move || {
        let locked = flock(&file, operation).map(|()| file);
        let _ = sender.send(locked);
    });
    match receiver.recv_timeout(patience) {
        Ok(locked) => locked.map_err(fail),
        Err(_) => Err(StateError::Busy { lock: path.to_owned(), seconds: patience.as_secs() }),
    }
}
