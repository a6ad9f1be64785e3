//! Interfaces that take frames byte by byte: taps, and packet sockets.
#![allow(unsafe_code, reason = "an ioctl and a socket address that no crate makes")]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket};

use crate::bench::ifindex;

/// `IFF_TAP` and `IFF_NO_PI`, `IFF_NAPI` and `IFF_NAPI_FRAGS`, `include/uapi/linux/if_tun.h`
const TAP: i16 = 0x0002 | 0x1000;
const IN_PIECES: i16 = 0x0010 | 0x0020;

nix::ioctl_write_int!(tunsetiff, b'T', 202);

/// `struct ifreq`, `include/uapi/linux/if.h`
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Opens a tap interface. Packets come whole, or in the pieces they are written in.
pub(crate) fn open_tap(name: &str, in_pieces: bool) -> File {
    let flags = if in_pieces { TAP | IN_PIECES } else { TAP };
    let tap = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    let mut request = Request { name: [0; 16], flags, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let argument = std::ptr::from_mut(&mut request).expose_provenance();
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which outlives the call.
    unsafe { tunsetiff(tap.as_raw_fd(), argument as nix::sys::ioctl::ioctl_param_type) }.unwrap();
    tap
}

/// Sends a frame out of an interface, past everything that could hold it up.
pub(crate) fn send_frame(interface: &str, frame: &[u8]) {
    let packets = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap();
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex(interface).cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the pointer is to a `sockaddr_ll` of that length and family.
    let address = unsafe { LinkAddr::from_raw(std::ptr::from_ref(&address).cast(), Some(length)) }.unwrap();
    sendto(packets.as_raw_fd(), frame, &address, MsgFlags::empty()).unwrap();
}
