//! Offloads and queue counts of an interface, through the SIOCETHTOOL ioctl.
//!
//! The only unsafe code of this crate. The calls act on the calling thread's network namespace: wrap them in
//! [`Netns::run`](crate::Netns::run) for another one.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{Error, Result};
use crate::link::check_link_name;

/// A feature that moves work to the device, or to whoever is behind a virtual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// L4 checksums of sent packets. Off, UDP segmentation goes off with it (`netdev_fix_features`).
    TxChecksum,
    /// Checking L4 checksums of received packets.
    RxChecksum,
    /// Gathering a packet from pieces.
    ScatterGather,
    /// TCP segmentation, for IPv4, IPv6 and with ECN.
    Tso,
    /// Segmentation in software, late on the way out.
    Gso,
    /// Merging received packets.
    Gro,
}

impl Offload {
    /// (read, write) command numbers of include/uapi/linux/ethtool.h.
    fn commands(self) -> (u32, u32) {
        match self {
            Self::RxChecksum => (0x14, 0x15),
            Self::TxChecksum => (0x16, 0x17),
            Self::ScatterGather => (0x18, 0x19),
            Self::Tso => (0x1e, 0x1f),
            Self::Gso => (0x23, 0x24),
            Self::Gro => (0x2b, 0x2c),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::TxChecksum => "transmit checksums",
            Self::RxChecksum => "receive checksums",
            Self::ScatterGather => "scatter-gather",
            Self::Tso => "TCP segmentation",
            Self::Gso => "generic segmentation",
            Self::Gro => "generic receive",
        }
    }
}

/// Number of queues of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues, combined ones among them.
    pub rx: u32,
    /// Transmit queues, combined ones among them.
    pub tx: u32,
}

/// Switches an offload on or off.
pub fn set_offload(interface: &str, offload: Offload, enabled: bool) -> Result<()> {
    let mut value = EthtoolValue { command: offload.commands().1, data: u32::from(enabled) };
    let state = if enabled { "on" } else { "off" };
    call(interface, &mut value).map_err(|source| {
        Error::io(format!("switch {} offload of interface {interface} {state}", offload.name()), source)
    })
}

/// Whether an offload is on.
pub fn offload(interface: &str, offload: Offload) -> Result<bool> {
    let mut value = EthtoolValue { command: offload.commands().0, data: 0 };
    call(interface, &mut value).map_err(|source| {
        Error::io(format!("read {} offload of interface {interface}", offload.name()), source)
    })?;
    Ok(value.data != 0)
}

/// How many queues the interface uses; one of each where the driver does not say.
pub fn queues(interface: &str) -> Result<Queues> {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    let mut channels = EthtoolChannels { command: ETHTOOL_GCHANNELS, ..EthtoolChannels::default() };
    match call(interface, &mut channels) {
        Ok(()) => Ok(Queues {
            rx: (channels.rx + channels.combined).max(1),
            tx: (channels.tx + channels.combined).max(1),
        }),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Queues { rx: 1, tx: 1 }),
        Err(error) => Err(Error::io(format!("read the queue counts of interface {interface}"), error)),
    }
}

/// `struct ethtool_value`.
#[repr(C)]
#[derive(Default)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`: the four maxima, then the four numbers in use.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// A structure that an ethtool command reads and writes.
///
/// # Safety
///
/// The implementor is `repr(C)`, starts with the command number, is valid for every bit pattern, and is at least as
/// large as what the kernel copies for every command number that this module puts into it.
unsafe trait Request {}

// SAFETY: the layout of struct ethtool_value; only single-value commands are put into it.
unsafe impl Request for EthtoolValue {}

// SAFETY: the layout of struct ethtool_channels; only ETHTOOL_GCHANNELS is put into it.
unsafe impl Request for EthtoolChannels {}

fn call<R: Request>(interface: &str, request: &mut R) -> std::io::Result<()> {
    check_link_name(interface).map_err(std::io::Error::other)?;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: struct ifreq is integers, a byte array and a union of such; all zero is a valid value.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    // The check above leaves room for the closing zero.
    for (to, from) in ifreq.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    ifreq.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // SAFETY: `ifreq` and the request it points to live across the call and nobody else touches them. The kernel
    // copies to and from the request no more than its trait promises to hold.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut ifreq) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
