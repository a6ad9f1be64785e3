//! What can go wrong when memory and sockets are set up, and what to do about it.

use std::io;

use rustix::io::Errno;

/// Why an [`Arena`](crate::Arena) could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The kernel takes chunks of 2,048 or 4,096 bytes (`xdp_umem_reg`, `net/xdp/xdp_umem.c`).
    #[error("frame size {0} is not supported: use 2048 or 4096")]
    ChunkSize(u32),
    /// There has to be at least one frame, and their total size has to fit the address space.
    #[error("{0} frames cannot be allocated: use a number from 1 to {max}", max = crate::Arena::MAX_FRAMES)]
    Count(u32),
    /// The memory is not there.
    #[error("not enough memory for the frames: use fewer")]
    OutOfMemory,
    /// The kernel refused to pin the memory.
    #[error(
        "the frames need {bytes} bytes of locked memory: raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity), add CAP_IPC_LOCK, or use fewer frames"
    )]
    LockedMemory {
        /// Size of all frames.
        bytes: u64,
    },
    /// AF_XDP sockets need a capability.
    #[error("no permission to open an AF_XDP socket: run as root or add CAP_NET_RAW")]
    NotPermitted,
    /// The kernel has no AF_XDP.
    #[error("the kernel has no AF_XDP sockets: use one built with CONFIG_XDP_SOCKETS=y")]
    Unsupported,
    /// `lo` cannot be bound.
    #[error("cannot anchor the frames at the loopback interface: {0}")]
    Anchor(#[source] SocketError),
    /// Anything else the kernel said.
    #[error("the kernel refused the memory for frames: {0}")]
    Kernel(#[source] io::Error),
}

/// Why a [`Socket`](crate::Socket) could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The arena's memory is the heap.
    #[error("frames from the heap cannot be shared with the kernel: use Arena::umem")]
    HeapArena,
    /// The name is not one an interface can have.
    #[error("{0:?} is not an interface name: use 1 to 15 characters without '/', ':' and white space")]
    InterfaceName(String),
    /// There is no such interface.
    #[error("there is no interface {0}: create it, or correct the name")]
    NoInterface(String),
    /// The interface is down.
    #[error("interface {0} is down: run `ip link set {0} up`")]
    Down(String),
    /// The interface has fewer queues, or cannot have an AF_XDP socket.
    #[error(
        "interface {interface} takes no AF_XDP socket on queue {queue}: see its queues with `ethtool -l {interface}`"
    )]
    Queue {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
    },
    /// Another socket is bound to the queue, and stayed there while we waited.
    #[error(
        "queue {queue} of interface {interface} is taken by another AF_XDP socket: stop the program that has it (perhaps another heddle-switch in this network namespace)"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
    },
    /// The options are not possible.
    #[error("invalid socket options: {0}")]
    Options(&'static str),
    /// AF_XDP sockets need a capability.
    #[error("no permission to open an AF_XDP socket: run as root or add CAP_NET_RAW")]
    NotPermitted,
    /// Anything else the kernel said.
    #[error("cannot open an AF_XDP socket on queue {queue} of interface {interface}: {source}")]
    Kernel {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// What it said.
        source: io::Error,
    },
}

impl SocketError {
    pub(crate) fn from_kernel(interface: &str, queue: u32, source: io::Error) -> Self {
        let interface = interface.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NODEV) => Self::NoInterface(interface),
            Some(Errno::NETDOWN) => Self::Down(interface),
            Some(Errno::INVAL | Errno::OPNOTSUPP) => Self::Queue { interface, queue },
            Some(Errno::BUSY) => Self::Busy { interface, queue },
            Some(Errno::PERM | Errno::ACCESS) => Self::NotPermitted,
            _ => Self::Kernel { interface, queue, source },
        }
    }
}

/// The operating system's error at the root of one of xsk-rs, whose own messages name only the step.
pub(crate) fn os_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        cause = error.source();
    }
    io::Error::other(error.to_string())
}
