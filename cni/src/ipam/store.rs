//! The directory with the address files: every touch of the file system is in here.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::entry::Entry;
use super::{IpamError, Range};

/// How long to wait for another plugin. A change takes milliseconds; whoever holds the lock longer is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

const LOCK: &str = "lock";
const TEMPORARY: &str = ".tmp";
const CORRUPT: &str = ".corrupt";

#[derive(Debug, Clone)]
pub(super) struct Store {
    directory: PathBuf,
    #[cfg(test)]
    pub(super) crash: super::tests::CrashPoint,
}

/// The right to change the store, until dropped.
#[derive(Debug)]
pub(super) struct Guard {
    _lock: File,
    pub(super) taken: BTreeSet<IpAddr>,
}

impl Store {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            #[cfg(test)]
            crash: super::tests::CrashPoint::default(),
        }
    }

    /// Locks the store, making it if it is not there, and sweeps what crashed plugins left.
    pub(super) fn lock(&self) -> Result<Guard, IpamError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|e| io_error("make", &self.directory, e))?;
        self.lock_existing()
    }

    /// Locks the store; `Ok(None)` when there is none.
    pub(super) fn lock_if_present(&self) -> Result<Option<Guard>, IpamError> {
        match self.directory.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => self.lock_existing().map(Some),
            Err(error) => Err(io_error("find", &self.directory, error)),
        }
    }

    fn lock_existing(&self) -> Result<Guard, IpamError> {
        let path = self.directory.join(LOCK);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = wait_for_lock(opened.map_err(|e| io_error("open", &path, e))?, &path)?;
        let names = self.names()?;
        for leftover in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
            // Its maker is gone: it would hold the lock. A failure here is met again and told by the next write.
            let _ = fs::remove_file(self.directory.join(leftover));
        }
        Ok(Guard { _lock: lock, taken: addresses_among(&names) })
    }

    /// The addresses that are taken as the store is now, without locking it.
    pub(super) fn taken(&self) -> Result<BTreeSet<IpAddr>, IpamError> {
        if self.directory.is_dir() { Ok(addresses_among(&self.names()?)) } else { Ok(BTreeSet::new()) }
    }

    /// Writes the file of an address; complete or not at all, never over another one. Durable after [`Self::sync`].
    pub(super) fn create(&self, address: IpAddr, entry: &Entry) -> Result<(), IpamError> {
        let target = self.path(address);
        let temporary = self.directory.join(format!("{address}{TEMPORARY}"));
        let write = || {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
            self.step()?;
            file.write_all(&entry.to_json())?;
            // Before the link: a name must never lead to an empty file, whenever the power fails.
            file.sync_all()?;
            self.step()?;
            fs::hard_link(&temporary, &target)?;
            self.step()?;
            fs::remove_file(&temporary)
        };
        self.step().and_then(|()| write()).map_err(|e| io_error("write", &target, e))
    }

    /// Removes the file of an address. Durable after [`Self::sync`].
    pub(super) fn remove(&self, address: IpAddr) -> Result<(), IpamError> {
        let path = self.path(address);
        match self.step().and_then(|()| fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// Makes what was created and removed survive a power failure.
    pub(super) fn sync(&self) -> Result<(), IpamError> {
        let sync = || File::open(&self.directory)?.sync_all();
        self.step().and_then(|()| sync()).map_err(|e| io_error("sync", &self.directory, e))
    }

    /// What an address file says; `Ok(None)` when that makes no sense.
    pub(super) fn read(&self, address: IpAddr) -> Result<Option<Entry>, IpamError> {
        let path = self.path(address);
        match fs::read(&path) {
            Ok(json) => Ok(Entry::from_json(&json)),
            // A directory of that name, say: it holds the address all the same.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    /// Sets a senseless file aside. Its address stays taken. Returns the path it had.
    pub(super) fn set_aside(&self, address: IpAddr) -> Result<PathBuf, IpamError> {
        let path = self.path(address);
        let aside = self.directory.join(format!("{address}{CORRUPT}"));
        let renamed = self.step().and_then(|()| fs::rename(&path, aside));
        renamed.map(|()| path.clone()).map_err(|e| io_error("rename", &path, e))
    }

    /// The readable files, in address order.
    pub(super) fn entries(&self) -> Result<Vec<(IpAddr, Entry)>, IpamError> {
        if !self.directory.is_dir() {
            return Ok(Vec::new());
        }
        let addresses: BTreeSet<IpAddr> = self.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        let mut entries = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.read(address) {
                Ok(entry) => entries.extend(entry.map(|entry| (address, entry))),
                // Released since the directory was read: this does not hold the lock.
                Err(IpamError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    /// The address allocated last from a range. Only a hint, so neither synced nor trusted.
    pub(super) fn last(&self, range: &Range) -> Option<IpAddr> {
        fs::read_to_string(self.last_path(range)).ok()?.trim().parse().ok()
    }

    pub(super) fn set_last(&self, range: &Range, address: IpAddr) -> Result<(), IpamError> {
        let path = self.last_path(range);
        let write = || {
            let mut temporary = path.clone().into_os_string();
            temporary.push(TEMPORARY);
            fs::write(&temporary, format!("{address}\n"))?;
            self.step()?;
            fs::rename(&temporary, &path)
        };
        self.step().and_then(|()| write()).map_err(|e| io_error("write", &path, e))
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }

    fn last_path(&self, range: &Range) -> PathBuf {
        let prefix = range.prefix();
        self.directory.join(format!("last-{}-{}", prefix.addr(), prefix.prefix_len()))
    }

    fn names(&self) -> Result<Vec<String>, IpamError> {
        let fail = |e| io_error("list", &self.directory, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(fail)? {
            names.extend(entry.map_err(fail)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// Called before everything that changes the directory; tests crash here.
    #[cfg_attr(not(test), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        self.crash.pass()?;
        Ok(())
    }
}

/// A file set aside holds its address as well.
fn addresses_among(names: &[String]) -> BTreeSet<IpAddr> {
    names.iter().filter_map(|name| name.strip_suffix(CORRUPT).unwrap_or(name).parse().ok()).collect()
}

fn wait_for_lock(file: File, path: &Path) -> Result<File, IpamError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(errno) => return Err(io_error("lock", path, errno.into())),
    }
    // flock(2) knows no time limit, so it waits on a thread, which lets go of the lock if it comes too late.
    let (sender, receiver) = mpsc::sync_channel(0);
    std::thread::spawn(move || {
        let locked = flock(&file, FlockOperation::LockExclusive).map(|()| file);
        let _ = sender.send(locked);
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(locked) => locked.map_err(|errno| io_error("lock", path, errno.into())),
        Err(_) => Err(IpamError::Busy { lock: path.to_owned(), seconds: PATIENCE.as_secs() }),
    }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> IpamError {
    IpamError::Io { operation, path: path.to_owned(), source }
}
