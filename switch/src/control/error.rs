//! Why a call is refused, and why the switch does not start.

use std::path::PathBuf;

/// Why a call on the control socket changed nothing. Each kind is one gRPC status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It names something that is not there.
    #[error("{0}")]
    NotFound(String),
    /// It clashes with something that is there.
    #[error("{0}")]
    AlreadyExists(String),
    /// The node is not in the state the call needs.
    #[error("{0}")]
    Precondition(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
    /// Who watches is too far behind.
    #[error("{0}")]
    Lagging(String),
}

impl From<ControlError> for tonic::Status {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::Invalid(_) => Self::invalid_argument(message),
            ControlError::NotFound(_) => Self::not_found(message),
            ControlError::AlreadyExists(_) => Self::already_exists(message),
            ControlError::Precondition(_) => Self::failed_precondition(message),
            ControlError::Unavailable(_) => Self::unavailable(message),
            ControlError::Lagging(_) => Self::aborted(message),
        }
    }
}

/// Why the switch does not start. Every message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Rights are missing.
    #[error("missing {0}; run as root, or give the process these capabilities")]
    Capabilities(String),
    /// The kernel cannot do AF_XDP.
    #[error("this kernel has no AF_XDP ({0}); use one of version 5.11 or newer with CONFIG_XDP_SOCKETS")]
    NoAfXdp(rustix::io::Errno),
    /// A directory cannot be made.
    #[error("{key}: cannot create {}: {error}; make it writable, or set {key} to another directory", path.display())]
    Directory {
        /// The setting that names it.
        key: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Another daemon uses the same state.
    #[error("another heddle-switch works with state_dir {}; stop it, or set another state_dir", .0.display())]
    Locked(PathBuf),
    /// The configuration names an interface that is not there, or it lacks something.
    #[error("uplink.{key}: {problem}")]
    Uplink {
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A setting does not fit this machine.
    #[error("{key}: {problem}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The node's own side of the switch cannot be set up.
    #[error("cannot set up the host's port: {0}")]
    Host(#[from] heddle_netdev::Error),
    /// Address translation cannot be set up.
    #[error(
        "masquerade: {0}; write masquerade = false if this kernel has no nftables, and give no pod a port mapping"
    )]
    Nat(String),
    /// The packet memory cannot be had.
    #[error("frames: {0}")]
    Frames(#[from] heddle_xsk::ArenaError),
    /// The workers cannot be started.
    #[error(transparent)]
    Crew(#[from] crate::worker::CrewError),
    /// Programs cannot be loaded or attached, or sockets bound.
    #[error("{0}")]
    Attach(String),
    /// What was remembered cannot be read.
    #[error(transparent)]
    Persist(#[from] super::PersistError),
    /// The control socket cannot be made.
    #[error(transparent)]
    Server(#[from] super::ServerError),
    /// The tables cannot be brought to the workers.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The async runtime or a signal handler cannot be made.
    #[error("cannot start the control thread: {0}; raise the limits on open files and tasks")]
    Runtime(std::io::Error),
}
