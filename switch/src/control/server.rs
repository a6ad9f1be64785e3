//! The control socket as a file: whoever can open it rules the node's network, so nobody but root ever can.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why the socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Another daemon serves it.
    #[error("socket: another heddle-switch listens at {}; stop it, or set another socket", .0.display())]
    InUse(PathBuf),
    /// There is something else.
    #[error("socket: {} is there and no socket; move it away, or set another socket", .0.display())]
    NotASocket(PathBuf),
    /// The file system does not do it.
    #[error("socket: cannot {verb} {}: {error}; make its directory writable, or set another socket", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Listens at `path`, in place of a socket nobody listens at any more. The directory is made if need be.
///
/// The socket is bound inside a fresh directory that only its owner can enter, gets its mode there, and is renamed to
/// its place. So nobody can connect before the mode is right, and no moment has a half-made socket at `path`.
pub fn bind(path: &Path) -> Result<UnixListener, ServerError> {
    let failed = |verb| move |error| ServerError::Io { verb, path: path.to_owned(), error };
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
    check_vacant(path)?;
    let private = tempdir_in(directory).map_err(failed("create a directory beside"))?;
    let inside = private.join("s");
    let listener = UnixListener::bind(&inside).map_err(failed("bind")).and_then(|listener| {
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o600)).map_err(failed("set the mode of"))?;
        fs::rename(&inside, path).map_err(failed("put in place"))?;
        Ok(listener)
    });
    // Whatever happened, nothing of ours stays beside the socket.
    let _ = fs::remove_dir_all(&private);
    let listener = listener?;
    listener.set_nonblocking(true).map_err(failed("set up"))?;
    Ok(listener)
}

/// Makes a directory of mode 0700. Its name is short, for a socket's path may have 107 bytes only.
fn tempdir_in(directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(format!(".{:x}", std::process::id()));
    // Left by a daemon of this process id that was killed just here.
    let _ = fs::remove_dir_all(&path);
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&path)?;
    Ok(path)
}

fn check_vacant(path: &Path) -> Result<(), ServerError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ServerError::Io { verb: "look at", path: path.to_owned(), error }),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(ServerError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(ServerError::InUse(path.to_owned())),
            // Refused: the socket's owner is gone.
            Err(_) => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    //! The socket is its owner's alone; stale ones are replaced, live ones and other files are not.
    use super::*;

    #[test]
    fn has_mode_0600_and_leaves_nothing_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/switch.sock");
        let _listener = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn replaces_a_stale_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("switch.sock");
        drop(UnixListener::bind(&path).unwrap());
        let _listener = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn refuses_a_live_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("switch.sock");
        let _first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ServerError::InUse(_))));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn leaves_other_files_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("switch.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(ServerError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
