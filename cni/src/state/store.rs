//! The two directories: every touch of the file system is in here and in the sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lock::{Kind, try_lock, wait_for_lock};
use super::record::Record;
use super::{Range, StateError, io_error};

/// How long to wait for another plugin. A change takes less than a millisecond; whoever holds the lock longer is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

const LOCK: &str = "lock";
pub(super) const TEMPORARY: &str = ".tmp";
const RESTING: &str = ".rests-until-";
/// Longest content of the lock file that is looked at: the last addresses of dozens of ranges.
const MAX_HINTS: usize = 4096;

#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) attachments: PathBuf,
    pub(super) addresses: PathBuf,
    #[cfg(test)]
    pub(super) crash: super::tests::CrashPoint,
}

/// The right to change addresses, until dropped.
#[derive(Debug)]
pub(super) struct Guard {
    lock: File,
    pub(super) boot: String,
    pub(super) names: Names,
}

/// The names in the directory of addresses, understood.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) taken: BTreeSet<IpAddr>,
    /// Free addresses that rest, and until when.
    pub(super) resting: BTreeMap<IpAddr, u64>,
    pub(super) leftovers: Vec<String>,
}

impl Store {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            attachments: state_dir.join("attachments"),
            addresses: state_dir.join("ipam"),
            #[cfg(test)]
            crash: super::tests::CrashPoint::default(),
        }
    }

    /// Makes the directories.
    pub(super) fn make(&self) -> Result<(), StateError> {
        for directory in [&self.addresses, &self.attachments] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|e| io_error("make", directory, e))?;
        }
        Ok(())
    }

    /// Locks the addresses of a store that is there, and sweeps what is of an earlier boot and what crashed plugins left.
    pub(super) fn lock(&self) -> Result<Guard, StateError> {
        let path = self.addresses.join(LOCK);
        let open =
            || OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make().map(|()| open())?,
            other => other,
        };
        let opened = opened.map_err(|e| io_error("open", &path, e))?;
        let lock = wait_for_lock(opened, &path, Kind::Exclusive, PATIENCE)?;
        let boot = self.sweep_earlier_boots()?;
        let now = uptime();
        let mut names = self.names()?;
        for leftover in names.leftovers.drain(..) {
            // Its maker is gone: it would hold the lock. A failure here is met again and told by the next write.
            let _ = fs::remove_file(self.addresses.join(leftover));
        }
        names.resting.retain(|address, until| {
            // One that is left behind is passed over just as well.
            let rests = *until > now && !names.taken.contains(address);
            rests || fs::remove_file(self.resting_path(*address, *until)).is_err()
        });
        names.resting.retain(|_, until| *until > now);
        Ok(Guard { lock, boot, names })
    }

    /// Writes the record of an attachment, over the one that may be there. It is locked for as long as the file that is returned is open:
    /// its attachment is being made.
    pub(super) fn write(&self, record: &Record) -> Result<File, StateError> {
        let target = self.record_path(&record.host_interface);
        // Beside the addresses, whose names are read with every lock, so that it does not stay when this dies.
        let temporary = self.addresses.join(format!("{}{TEMPORARY}", record.host_interface));
        let write = || {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
            self.step()?;
            file.write_all(&record.to_json())?;
            try_lock(&file, Kind::Exclusive)?;
            self.step()?;
            fs::rename(&temporary, &target)?;
            Ok(file)
        };
        self.step().and_then(|()| write()).map_err(|e| io_error("write", &target, e))
    }

    /// The record of a host interface; `Ok(None)` when there is none.
    pub(super) fn read(&self, interface: impl AsRef<OsStr>) -> Result<Option<Record>, StateError> {
        let path = self.record_path(interface);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // A directory of that name, say.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Vec::new(),
            Err(error) => return Err(io_error("read", &path, error)),
        };
        Record::from_json(&json).map(Some).map_err(|later| match later {
            Some(format) => StateError::Newer { file: path, format },
            None => StateError::Corrupt { file: path },
        })
    }

    /// Whether the attachment of that record is being made this moment.
    pub(super) fn is_under_way(&self, interface: &str) -> bool {
        let file = File::open(self.record_path(interface));
        file.is_ok_and(|file| try_lock(&file, Kind::Exclusive) == Ok(false))
    }

    pub(super) fn remove(&self, interface: &str) -> Result<(), StateError> {
        let path = self.record_path(interface);
        match self.step().and_then(|()| fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// The names of all host interfaces that have a record.
    pub(super) fn interfaces(&self) -> Result<Vec<String>, StateError> {
        let names = list(&self.attachments)?;
        let mut interfaces: Vec<String> =
            names.iter().filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
        interfaces.sort_unstable();
        Ok(interfaces)
    }

    /// Takes an address for an interface; an error when it is taken.
    pub(super) fn claim(&self, address: IpAddr, interface: &str) -> Result<(), StateError> {
        let path = self.addresses.join(address.to_string());
        let claimed = self.step().and_then(|()| symlink(target_of(interface), &path));
        claimed.map_err(|e| io_error("make", &path, e))
    }

    /// Frees an address that the interface has, to rest until then; whose it is otherwise is left alone.
    pub(super) fn free(
        &self,
        address: IpAddr,
        interface: &str,
        until: Option<u64>,
    ) -> Result<(), StateError> {
        let path = self.addresses.join(address.to_string());
        if self.holder(address).as_deref() != Some(interface) {
            return Ok(());
        }
        let freed = self.step().and_then(|()| match until {
            Some(until) => fs::rename(&path, self.resting_path(address, until)),
            None => fs::remove_file(&path),
        });
        freed.map_err(|e| io_error("free", &path, e))
    }

    /// The host interface whose record the address' link leads to.
    pub(super) fn holder(&self, address: IpAddr) -> Option<String> {
        let target = fs::read_link(self.addresses.join(address.to_string())).ok()?;
        let interface = target.file_name()?.to_str()?.strip_suffix(".json")?;
        (target == target_of(interface)).then(|| interface.to_owned())
    }

    /// The addresses' names as they are now, lock or not.
    pub(super) fn names(&self) -> Result<Names, StateError> {
        let mut understood = Names::default();
        for name in list(&self.addresses)? {
            if let Ok(address) = name.parse() {
                understood.taken.insert(address);
            } else if let Some((address, until)) = resting(&name) {
                let latest = understood.resting.entry(address).or_default();
                *latest = until.max(*latest);
            } else if name.ends_with(TEMPORARY) {
                understood.leftovers.push(name);
            }
        }
        Ok(understood)
    }

    pub(super) fn resting_path(&self, address: IpAddr, until: u64) -> PathBuf {
        self.addresses.join(format!("{address}{RESTING}{until}"))
    }

    pub(super) fn record_path(&self, interface: impl AsRef<OsStr>) -> PathBuf {
        let mut name = interface.as_ref().to_owned();
        name.push(".json");
        self.attachments.join(name)
    }

    /// Called before everything that changes the directories; tests crash here.
    #[cfg_attr(not(test), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    pub(super) fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        self.crash.pass()?;
        Ok(())
    }
}

impl Guard {
    /// The address given out last from a range. Only a hint, so not trusted.
    pub(super) fn last(&self, range: &Range) -> Option<IpAddr> {
        self.hints().into_iter().find(|address| range.prefix().contains(address))
    }

    /// Remembers the addresses given out last. Torn by a crash it is a worse hint, no more.
    pub(super) fn set_last(&self, given: &[(&Range, IpAddr)]) {
        let mut hints: Vec<IpAddr> = given.iter().map(|(_, address)| *address).collect();
        let elsewhere = |hint: &IpAddr| given.iter().all(|(range, _)| !range.prefix().contains(hint));
        hints.extend(self.hints().into_iter().filter(elsewhere));
        let lines: Vec<String> = hints.iter().map(IpAddr::to_string).collect();
        let mut text = lines.join("\n");
        text.truncate(MAX_HINTS);
        // Neither failure matters.
        let _ = self.lock.set_len(0).and_then(|()| self.lock.write_all_at(text.as_bytes(), 0));
    }

    fn hints(&self) -> Vec<IpAddr> {
        let mut text = [0; MAX_HINTS];
        let length = self.lock.read_at(&mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

fn target_of(interface: &str) -> PathBuf {
    PathBuf::from(format!("../attachments/{interface}.json"))
}

fn resting(name: &str) -> Option<(IpAddr, u64)> {
    let (address, until) = name.split_once(RESTING)?;
    Some((address.parse().ok()?, until.parse().ok()?))
}

/// The names in a directory; none when it is not there.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, StateError> {
    let fail = |e| io_error("list", directory, e);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(fail)?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Seconds since the kernel's start, suspension included. No clock that anybody can set.
pub(super) fn uptime() -> u64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec.unsigned_abs()
}
