//! The switch's directory on the BPF file system, and the links pinned in it.
//!
//! ```text
//! <bpffs>/links/<interface>      a link: the attachment of a program to the interface
//! <bpffs>/generic/<interface>    a program that is attached without a link, see `attach`
//! <bpffs>/flow-cache/...         see `flow_cache/attach`
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{Link, Program};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::SteeringError;

/// `BPF_FS_MAGIC`, `include/uapi/linux/magic.h`
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The directory, locked against other switches.
#[derive(Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    directory: OwnedFd,
}

impl Pins {
    /// Opens the directory, making it if only it is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, SteeringError> {
        require_bpffs(root)?;
        for path in [root.to_owned(), root.join("links"), root.join("generic")] {
            fs::create_dir_all(&path).map_err(pin_error(&path))?;
        }
        Ok(Self { root: root.to_owned(), directory: lock(root)? })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The link pinned for `interface`, if any.
    pub(crate) fn link(&self, interface: &str) -> Option<Link> {
        Link::open(self.link_path(interface)).ok()
    }

    pub(crate) fn link_path(&self, interface: &str) -> PathBuf {
        self.root.join("links").join(escape(interface))
    }

    /// The program that is attached to `interface` without a link, if any.
    pub(crate) fn generic(&self, interface: &str) -> Option<OwnedFd> {
        Program::fd_from_pinned_path(self.generic_path(interface)).ok()
    }

    pub(crate) fn generic_path(&self, interface: &str) -> PathBuf {
        self.root.join("generic").join(escape(interface))
    }

    /// Interfaces that something is pinned for.
    pub(crate) fn interfaces(&self) -> Result<Vec<String>, SteeringError> {
        let mut names = Vec::new();
        for directory in ["links", "generic"] {
            let path = self.root.join(directory);
            for entry in fs::read_dir(&path).map_err(pin_error(&path))? {
                let entry = entry.map_err(pin_error(&path))?;
                names.extend(entry.file_name().to_str().and_then(unescape));
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes the directory, which has to be empty of pins.
    pub(crate) fn remove(&self) -> Result<(), SteeringError> {
        for path in [self.root.join("links"), self.root.join("generic"), self.root.clone()] {
            // The mount point itself, if the whole file system is ours, stays.
            match fs::remove_dir(&path) {
                Err(error) if error.raw_os_error() != Some(Errno::BUSY.raw_os_error()) => {
                    return Err(pin_error(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Closing is not enough while a child process that is just being started still has the descriptor.
        let _ = rustix::fs::flock(&self.directory, FlockOperation::Unlock);
    }
}

impl AsFd for Pins {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Removes a pin if it is there.
pub(crate) fn unpin(path: &Path) -> Result<(), SteeringError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(pin_error(path)(error)),
        _ => Ok(()),
    }
}

/// A field of what the kernel tells about a file descriptor, such as `ifindex` of a link (`bpf_link_show_fdinfo`,
/// `kernel/bpf/syscall.c`).
pub(crate) fn fd_info(fd: impl AsFd, field: &str) -> Option<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}

/// Where a BPF file system is to be mounted so that `root` is on it: the parent of a directory that does not exist yet.
pub(crate) fn mount_point(root: &Path) -> &Path {
    if root.starts_with("/sys/fs/bpf") { Path::new("/sys/fs/bpf") } else { root }
}

fn require_bpffs(root: &Path) -> Result<(), SteeringError> {
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statfs(existing).map_err(|errno| pin_error(existing)(errno.into()))?;
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the field's type differs between architectures"
    )]
    let magic = stat.f_type as u64;
    if magic == BPF_FS_MAGIC { Ok(()) } else { Err(SteeringError::NotBpffs(root.to_owned())) }
}

fn lock(root: &Path) -> Result<OwnedFd, SteeringError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::open(root, flags, Mode::empty()).map_err(|errno| pin_error(root)(errno.into()))?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => Err(SteeringError::InUse(root.to_owned())),
        Err(errno) => Err(pin_error(root)(errno.into())),
    }
}

pub(crate) fn pin_error(path: &Path) -> impl FnOnce(io::Error) -> SteeringError {
    let path = path.to_owned();
    move |source| SteeringError::Pin { path, source }
}

/// An interface's name as a pin's: dots are reserved on the BPF file system (`bpf_lookup`, `kernel/bpf/inode.c`), but usual
/// in the names of VLAN interfaces.
pub(crate) fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

pub(crate) fn unescape(pin: &str) -> Option<String> {
    let name = pin.replace("%2e", ".").replace("%25", "%");
    (escape(&name) == pin).then_some(name)
}

/// Refuses names that no interface can have (`dev_valid_name`, `net/core/dev.c`), and with them every path out of the
/// directory.
pub(crate) fn check_name(name: &str) -> Result<(), SteeringError> {
    let valid = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace());
    if valid { Ok(()) } else { Err(SteeringError::InterfaceName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    //! Names of interfaces become names of pins and nothing else.
    use super::*;

    #[test]
    fn names_survive_being_pins() {
        for name in ["eth0", "eth0.100", "a%2eb", "%25", "..x", "%"] {
            let pin = escape(name);
            assert!(!pin.contains('.'));
            assert_eq!(unescape(&pin).as_deref(), Some(name));
        }
    }

    #[test]
    fn impossible_names_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a b", "a\tb", "a:1", "a\0", "sixteen-letters-"] {
            assert!(matches!(check_name(name), Err(SteeringError::InterfaceName(_))), "{name:?}");
        }
        check_name("fifteen-letters").unwrap();
    }

    #[test]
    fn another_file_system_is_refused_with_what_to_mount() {
        let error = Pins::open(Path::new("/tmp/heddle-no-bpffs")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/tmp/heddle-no-bpffs is not on a BPF file system: run `mount -t bpf bpf /tmp/heddle-no-bpffs`, or set another bpffs directory"
        );
        assert!(!Path::new("/tmp/heddle-no-bpffs").exists());
    }
}
