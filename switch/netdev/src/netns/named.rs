//! Namespaces under /run/netns, the place where `ip netns` keeps them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::{Netns, OWN};
use crate::error::{Error, Result};

/// Where named namespaces are bind-mounted.
pub const NETNS_DIR: &str = "/run/netns";

/// Makes a network namespace that `ip netns exec NAME` finds. Its loopback is down, as in every new namespace.
pub fn create_named(name: &str) -> Result<Netns> {
    let path = path_of(name)?;
    let directory = shared_directory()?;
    let fail = |source: io::Error| Error::io(format!("create network namespace {name}"), source);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o444).open(&path).map_err(fail)?;
    let made = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some(OWN), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        });
        thread.join().unwrap_or(Err(Errno::EIO))
    });
    if let Err(errno) = made {
        // The empty file would make the name look taken.
        let _ = fs::remove_file(&path);
        return Err(fail(errno.into()));
    }
    drop(directory);
    Netns::open(path)
}

/// Takes the name away; the namespace goes with the last process, socket and mount that hold it. `Ok(false)` when there
/// is no such name.
pub fn delete_named(name: &str) -> Result<bool> {
    let path = path_of(name)?;
    let fail = |source: io::Error| Error::io(format!("delete network namespace {name}"), source);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: a file that nothing is mounted on, left by an interrupted creation.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(fail(errno.into())),
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(fail(error)),
    }
}

/// Names under /run/netns that start with `prefix`, in order.
pub fn list_named(prefix: &str) -> Result<Vec<String>> {
    let fail = |source| Error::io(format!("list {NETNS_DIR}"), source);
    let entries = match fs::read_dir(NETNS_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        names.extend(name.to_str().filter(|name| name.starts_with(prefix)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn path_of(name: &str) -> Result<PathBuf> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Error::BadNetnsName { name: name.to_owned() });
    }
    Ok(Path::new(NETNS_DIR).join(name))
}

/// Makes /run/netns a shared mount, so that a name deleted here is let go of in every mount namespace that copied it
/// (ip-netns(8) does the same, under the same lock). The lock is held until the result is dropped.
fn shared_directory() -> Result<Flock<File>> {
    let fail = |source: io::Error| Error::io(format!("prepare {NETNS_DIR}"), source);
    DirBuilder::new().recursive(true).mode(0o755).create(NETNS_DIR).map_err(fail)?;
    let directory = File::open(NETNS_DIR).map_err(fail)?;
    let lock =
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| fail(io::Error::from(errno)))?;
    let share =
        || mount(None::<&str>, NETNS_DIR, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    let shared = share().or_else(|errno| {
        // EINVAL: not yet a mount point of its own.
        if errno != Errno::EINVAL {
            return Err(errno);
        }
        mount(Some(NETNS_DIR), NETNS_DIR, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        share()
    });
    shared.map_err(|errno| fail(errno.into()))?;
    Ok(lock)
}
