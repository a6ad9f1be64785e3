//! Files that are there whole or not at all, whenever somebody looks and whatever happens meanwhile.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    Created,
    Replaced,
    /// It was as it should be, and has not been touched.
    Unchanged,
}

/// Puts a file in place: written under another name, on disk, and then renamed. Whoever executes or reads the one before goes on with
/// that.
pub(crate) fn place(path: &Path, content: &[u8], mode: u32) -> Result<Placed> {
    let dir = parent(path)?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = Directory::lock(dir)?;
    let before = match std::fs::read(path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let has_mode = || std::fs::symlink_metadata(path).is_ok_and(|meta| meta.mode() & 0o7777 == mode);
    if before.as_deref() == Some(content) && has_mode() {
        return Ok(Placed::Unchanged);
    }
    let temporary = temporary(path)?;
    let written = write(&temporary, content, mode).and_then(|()| {
        std::fs::rename(&temporary, path)?;
        dir.sync()
    });
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    Ok(if before.is_some() { Placed::Replaced } else { Placed::Created })
}

/// Removes a file, and what an installation that was killed has left beside it. False when there was none.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    let dir = parent(path)?;
    if !dir.exists() {
        return Ok(false);
    }
    let dir = Directory::lock(dir)?;
    let mut found = false;
    for (file, counts) in [(path.to_owned(), true), (temporary(path)?, false)] {
        match std::fs::remove_file(&file) {
            Ok(()) => found |= counts,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", file.display())),
        }
    }
    dir.sync().with_context(|| format!("cannot write {} to disk", dir.path.display()))?;
    Ok(found)
}

/// A directory nobody else of us changes meanwhile.
struct Directory {
    path: PathBuf,
    file: File,
}

impl Directory {
    fn lock(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// A rename is on disk when the directory is.
    fn sync(&self) -> std::io::Result<()> {
        self.file.sync_all()
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    // One that a killed installation has left; the lock is ours.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// No runtime takes it for a configuration or a plugin.
fn temporary(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else { bail!("{} is no file", path.display()) };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".heddle-new");
    Ok(path.with_file_name(temporary))
}

fn parent(path: &Path) -> Result<&Path> {
    path.parent().with_context(|| format!("{} is no file", path.display()))
}

#[cfg(test)]
mod tests {
    //! A file is replaced whole, its users keep the one before, and nothing else is left in the directory.
    use std::io::Read;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn created_replaced_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/too/file");
        assert_eq!(place(&path, b"one", 0o755).unwrap(), Placed::Created);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o755);
        let mut user = File::open(&path).unwrap();
        assert_eq!(place(&path, b"two", 0o755).unwrap(), Placed::Replaced);
        let inode = std::fs::metadata(&path).unwrap().ino();
        assert_eq!(place(&path, b"two", 0o755).unwrap(), Placed::Unchanged);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
        assert_eq!(place(&path, b"two", 0o644).unwrap(), Placed::Replaced, "the mode is part of it");
        let mut text = String::new();
        user.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
        assert_eq!(names(path.parent().unwrap()), ["file"]);
    }

    #[test]
    fn what_a_killed_one_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(dir.path().join(".file.heddle-new"), "half").unwrap();
        place(&path, b"whole", 0o644).unwrap();
        assert_eq!(names(dir.path()), ["file"]);
        std::fs::write(dir.path().join(".file.heddle-new"), "half").unwrap();
        assert!(remove(&path).unwrap());
        assert_eq!(names(dir.path()), Vec::<String>::new());
        assert!(!remove(&path).unwrap());
        assert!(!remove(&dir.path().join("no/such/directory")).unwrap());
    }

    #[test]
    fn a_program_that_runs_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sleep");
        place(&path, &std::fs::read("/bin/sleep").unwrap(), 0o755).unwrap();
        let mut child = std::process::Command::new(&path).arg("1000").spawn().unwrap();
        assert_eq!(place(&path, b"another", 0o755).unwrap(), Placed::Replaced);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn many_at_once_leave_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        place(path, &[writer; 4096], 0o644).unwrap();
                        let there = std::fs::read(path).unwrap();
                        assert!(there.len() == 4096 && there.iter().all(|byte| *byte == there[0]));
                    }
                });
            }
        });
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_directory_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::create_dir(&path).unwrap();
        let error = format!("{:#}", place(&path, b"x", 0o644).unwrap_err());
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
