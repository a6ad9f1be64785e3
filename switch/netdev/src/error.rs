//! What can go wrong between here and the kernel.

use std::io;

use nix::errno::Errno;

/// An operation on the kernel's network configuration failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel understood the request and refused it.
    #[error("cannot {operation}: {}{}", errno.desc(), advice(*errno))]
    Refused {
        /// What was asked for, naming the device.
        operation: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The exchange with the kernel itself broke.
    #[error("cannot {operation}: {reason}")]
    Exchange {
        /// What was asked for, naming the device.
        operation: String,
        /// How it broke.
        reason: String,
    },
    /// A file, socket, mount or thread operation failed.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was tried, naming the file.
        operation: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The interface is not there.
    #[error("there is no interface '{name}' in this network namespace; `ip link` there lists those it has")]
    NoLink {
        /// Its name, or its index as text.
        name: String,
    },
    /// The kernel takes no such name.
    #[error(
        "'{name}' cannot name an interface: use 1 to 15 bytes without '/', ':' or white space, not '.' or '..'"
    )]
    BadLinkName {
        /// The name as given.
        name: String,
    },
    /// The name cannot be a file under /run/netns.
    #[error("'{name}' cannot name a network namespace: use a plain file name")]
    BadNetnsName {
        /// The name as given.
        name: String,
    },
    /// The closure given to [`Netns::run`](crate::Netns::run) panicked.
    #[error("the work done in network namespace {netns} panicked: {message}")]
    Panicked {
        /// The namespace.
        netns: String,
        /// The panic's message.
        message: String,
    },
}

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { operation: operation.into(), source: source.into() }
    }

    /// The system's error number, when there is one: what callers that treat "already there" or "gone" as success
    /// look at.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::NoLink { .. } => Some(Errno::ENODEV),
            Self::Exchange { .. }
            | Self::BadLinkName { .. }
            | Self::BadNetnsName { .. }
            | Self::Panicked { .. } => None,
        }
    }
}

/// What to do about an error number, where that is known.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "; run as root (CAP_NET_ADMIN)",
        Errno::EEXIST => "; remove the one that is there, or choose another name",
        Errno::EOPNOTSUPP => "; this kernel or device does not support it",
        Errno::ENODEV => "; the interface is gone, or this kernel has no driver for its kind",
        Errno::ENETUNREACH => "; add a route to the gateway first, or mark it on-link",
        Errno::ENETDOWN => "; set the interface up first",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    //! Messages name the operation and say what to do; the error number stays reachable.
    use super::*;

    #[test]
    fn says_what_and_what_to_do() {
        let error = Error::Refused { operation: "create veth a".to_owned(), errno: Errno::EPERM };
        assert_eq!(
            error.to_string(),
            "cannot create veth a: Operation not permitted; run as root (CAP_NET_ADMIN)"
        );
        assert_eq!(error.errno(), Some(Errno::EPERM));
    }

    #[test]
    fn io_errors_keep_their_number() {
        let error = Error::io("open /nowhere", io::Error::from_raw_os_error(2));
        assert_eq!(error.errno(), Some(Errno::ENOENT));
    }
}
