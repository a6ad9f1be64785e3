//! One lab at a time: a lock on a file beside the lab's directory, held by whoever raises, changes or takes down a lab.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// What to do while somebody else has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenTaken {
    /// Fail at once.
    Fail,
    /// Wait until it is free: tests take turns.
    Wait,
}

/// The lock, held until dropped. The file goes with it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Closing it unlocks.
    _file: File,
}

impl Lock {
    /// Takes the lock on the file at `path`, which is made when it is not there.
    pub fn take(path: &Path, when_taken: WhenTaken) -> Result<Self> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("cannot open {}: labs need root", path.display()))?;
            acquire(&mut file, when_taken)?;
            // The holder before us removed the file when it was done: what we locked may be no longer what others find.
            if same_file(&file, path)? {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the unlock that closing does: who waits on this file sees that it is gone, and makes a new one.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A holder that was killed while it started a program leaves the lock to that process, until it becomes the program.
const COPIES_GONE: Duration = Duration::from_secs(2);

fn acquire(file: &mut File, when_taken: WhenTaken) -> Result<()> {
    let operation = match when_taken {
        WhenTaken::Fail => FlockOperation::NonBlockingLockExclusive,
        WhenTaken::Wait => FlockOperation::LockExclusive,
    };
    let deadline = Instant::now() + COPIES_GONE;
    loop {
        match flock(&*file, operation) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.rewind()?;
                file.read_to_string(&mut holder)?;
                let is_there = Path::new("/proc").join(&holder).exists();
                if !is_there && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                anyhow::bail!("process {holder} is busy with the lab: wait until it is done");
            }
            Err(error) => return Err(error).context("cannot lock the lab"),
        }
    }
}

fn same_file(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    //! The lock excludes others, also while its file comes and goes.
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_second_taker_is_refused_until_the_first_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::take(&path, WhenTaken::Fail).unwrap();
        let refusal = Lock::take(&path, WhenTaken::Fail).unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {} ", std::process::id())), "{refusal}");
        drop(lock);
        assert!(!path.exists());
        Lock::take(&path, WhenTaken::Fail).unwrap();
    }

    #[test]
    fn holders_never_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = Lock::take(&path, WhenTaken::Wait).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
