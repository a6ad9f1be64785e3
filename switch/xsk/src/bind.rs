//! Opening a socket on a queue of an interface.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use xsk_rs::config::{Interface, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, TxQueue, Umem};

use crate::SocketError;
use crate::error::os_error;

/// How long to wait for a queue that is taken. A socket closed a moment ago, by us or by a switch that was just killed,
/// holds its queue until the kernel has taken it down, 5 to 25 ms as measured.
const BUSY_WAIT: Duration = Duration::from_millis(500);
const BUSY_POLL: Duration = Duration::from_millis(5);

/// The four rings of a socket. The socket is closed when the last of them is dropped.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) tx: TxQueue,
    pub(crate) rx: RxQueue,
    pub(crate) fill: FillQueue,
    pub(crate) completion: CompQueue,
    // Dropped last: the place is free when the socket is closed.
    _place: Place,
}

/// Queues of interfaces, by index, that sockets of one UMEM are bound to.
///
/// libxdp takes a second socket on the same queue for one that wants to share the first one's rings, and the kernel then
/// refuses it as malformed. So the places are kept here, and a taken one is waited for as one of another program is.
#[derive(Debug, Default, Clone)]
pub(crate) struct Places(Arc<Mutex<HashSet<(u32, u32)>>>);

#[derive(Debug)]
struct Place {
    places: Places,
    at: (u32, u32),
}

impl Places {
    fn take(&self, at: (u32, u32)) -> Option<Place> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
        free.then(|| Place { places: self.clone(), at })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.at);
    }
}

/// Binds a socket of `umem` to a queue, waiting a little if it is still taken. `config` inhibits libxdp's own program:
/// the switch brings its own (heddle-bpf).
pub(crate) fn bind(
    umem: &Umem,
    places: &Places,
    interface: &str,
    queue: u32,
    config: SocketConfig,
) -> Result<Queues, SocketError> {
    check_name(interface)?;
    let name: Interface = interface.parse().map_err(|_| SocketError::InterfaceName(interface.to_owned()))?;
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        let error = match attempt(umem, places, &name, (ifindex(interface)?, queue), config) {
            Ok(queues) => return Ok(queues),
            Err(error) => error,
        };
        if Errno::from_io_error(&error) != Some(Errno::BUSY) || Instant::now() >= deadline {
            return Err(SocketError::from_kernel(interface, queue, error));
        }
        thread::sleep(BUSY_POLL);
    }
}

fn attempt(
    umem: &Umem,
    places: &Places,
    name: &Interface,
    at: (u32, u32),
    config: SocketConfig,
) -> io::Result<Queues> {
    let place = places.take(at).ok_or(Errno::BUSY)?;
    // SAFETY: libxdp loads no program, which is the only condition for sharing a UMEM.
    match unsafe { xsk_rs::Socket::new(config, umem, name, at.1) } {
        Ok((tx, rx, Some((fill, completion)))) => Ok(Queues { tx, rx, fill, completion, _place: place }),
        // Another socket of this UMEM has the rings: there is none while we have the place.
        Ok((_, _, None)) => Err(Errno::BUSY.into()),
        Err(error) => Err(os_error(&error)),
    }
}

/// Index of an interface of the calling thread's network namespace.
fn ifindex(interface: &str) -> Result<u32, SocketError> {
    socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .and_then(|any| netdevice::name_to_index(any, interface))
        .map_err(|errno| SocketError::from_kernel(interface, 0, errno.into()))
}

/// `dev_valid_name`, `net/core/dev.c`
fn check_name(name: &str) -> Result<(), SocketError> {
    let valid = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace());
    if valid { Ok(()) } else { Err(SocketError::InterfaceName(name.to_owned())) }
}
