//! Network namespaces: entering them without moving the caller.
//!
//! A namespace is a property of a thread. Nothing here changes the calling thread's: work for another namespace runs on
//! a thread that lives as long as the work does.

mod named;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

pub use named::{NETNS_DIR, create_named, delete_named, list_named};

use crate::error::{Error, Result};

/// The calling thread's namespace; `/proc/self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace. It exists for as long as this does, whoever else lets go of it.
#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace a path stands for: `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fail = |source| Error::io(format!("open network namespace {}", path.display()), source);
        let file = File::open(path).map_err(fail)?;
        let kind = fstatfs(&file).map_err(|errno| fail(errno.into()))?.filesystem_type();
        if kind != NSFS_MAGIC {
            return Err(fail(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "that file is no namespace; its process or mount may be gone",
            )));
        }
        Ok(Self { file: Arc::new(file), path: path.to_owned() })
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<Self> {
        Self::open(OWN)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True when both are the same namespace, by whatever path each was opened.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        let id = |netns: &Self| {
            let meta = netns.file.metadata();
            let meta = meta
                .map_err(|e| Error::io(format!("inspect network namespace {}", netns.path.display()), e))?;
            Ok::<_, Error>((meta.dev(), meta.ino()))
        };
        Ok(id(self)? == id(other)?)
    }

    /// Runs `work` on a thread inside the namespace and waits for it. A panic there becomes an error here.
    pub fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send,
        F: FnOnce() -> T + Send,
    {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| self.entering(errno))?;
                Ok(work())
            });
            let thread = thread.map_err(|e| Error::io("start a thread for a network namespace", e))?;
            thread.join().map_err(|panic| self.panicked(&*panic))
        })?
    }

    /// Opens, inside the namespace, something that is driven by the calling thread's tokio runtime.
    pub(crate) fn open_inside<T: Send>(&self, open: fn() -> Result<T>) -> Result<T> {
        let runtime = tokio::runtime::Handle::current();
        self.run(move || {
            let _inside = runtime.enter();
            open()
        })?
    }

    /// Starts `command` inside the namespace: a child inherits the namespace of the thread that started it.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.run(|| command.spawn())?.map_err(|e| {
            Error::io(format!("start {program} in network namespace {}", self.path.display()), e)
        })
    }

    fn entering(&self, errno: nix::errno::Errno) -> Error {
        Error::io(format!("enter network namespace {} (run as root)", self.path.display()), errno)
    }

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Error {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Error::Panicked {
            netns: self.path.display().to_string(),
            message: text.unwrap_or("no message").to_owned(),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
