//! What can go wrong with steering, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why steering could not be set up or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteeringError {
    /// The name is not one an interface can have.
    #[error("{0:?} is not an interface name: use 1 to 15 characters without '/', ':' and white space")]
    InterfaceName(String),
    /// There is no such interface.
    #[error("there is no interface {0}: create it, or correct the name")]
    NoInterface(String),
    /// The directory is on another file system.
    #[error("{0} is not on a BPF file system: run `mount -t bpf bpf {mount}`, or set another bpffs directory", mount = crate::pins::mount_point(.0).display())]
    NotBpffs(PathBuf),
    /// A directory or pin could not be made, read or removed.
    #[error("cannot use {path}: {source}")]
    Pin {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another switch has it.
    #[error("{0} is in use by another heddle-switch: stop it, or set another bpffs directory")]
    InUse(PathBuf),
    /// Programs need capabilities.
    #[error("no permission to load BPF programs: run as root or add CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    NotPermitted,
    /// The kernel did not take the programs.
    #[error("the kernel refused the XDP programs (it needs Linux 5.15 or later with BPF): {0:#}")]
    Load(#[source] libbpf_rs::Error),
    /// Somebody else's program is there.
    #[error(
        "interface {0} already has an XDP program that is not Heddle's: see `ip link show {0}`, and remove it with `ip link set {0} xdp off`"
    )]
    Conflict(String),
    /// The driver did not take the program.
    #[error(
        "cannot attach the XDP program to {interface}: {source:#} (for a veth, the peer's MTU must be at most about 3500 and it must not have more transmit queues than {interface} has receive queues)"
    )]
    Attach {
        /// Where.
        interface: String,
        /// What the kernel said.
        source: libbpf_rs::Error,
    },
    /// The program stays where it is.
    #[error("cannot take the program off {interface}: {source:#}")]
    Detach {
        /// Where.
        interface: String,
        /// What the kernel said.
        source: libbpf_rs::Error,
    },
    /// A map did not take an entry.
    #[error("cannot set {entry} in the steering maps: {source:#}")]
    Map {
        /// What was to be set.
        entry: &'static str,
        /// What the kernel said.
        source: libbpf_rs::Error,
    },
    /// The kernel would not try a packet.
    #[error("cannot try the packet (it has to be at least 14 bytes long): {0:#}")]
    Judge(#[source] libbpf_rs::Error),
    /// The maps are full.
    #[error("at most {0} ports can be attached")]
    TooManyPorts(u32),
    /// The uplink's filter is impossible.
    #[error("impossible uplink filter: {0}")]
    Filter(&'static str),
}
