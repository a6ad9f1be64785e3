//! Opening a socket on a queue of an interface.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
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
}

/// Binds a socket of `umem` to a queue, waiting a little if it is still taken. `config` inhibits libxdp's own program:
/// the switch brings its own (heddle-bpf).
pub(crate) fn bind(
    umem: &Umem,
    interface: &str,
    queue: u32,
    config: SocketConfig,
) -> Result<Queues, SocketError> {
    check_name(interface)?;
    let name: Interface = interface.parse().map_err(|_| SocketError::InterfaceName(interface.to_owned()))?;
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        // SAFETY: libxdp loads no program, which is the only condition for sharing a UMEM.
        let error = match unsafe { xsk_rs::Socket::new(config, umem, &name, queue) } {
            Ok((tx, rx, Some((fill, completion)))) => return Ok(Queues { tx, rx, fill, completion }),
            // A second socket of the same UMEM on the same queue shares the first one's fill and completion rings.
            Ok((_, _, None)) => return Err(SocketError::Busy { interface: interface.to_owned(), queue }),
            Err(error) => os_error(&error),
        };
        if Errno::from_io_error(&error) != Some(Errno::BUSY) || Instant::now() >= deadline {
            return Err(SocketError::from_kernel(interface, queue, error));
        }
        thread::sleep(BUSY_POLL);
    }
}

/// `dev_valid_name`, net/core/dev.c
fn check_name(name: &str) -> Result<(), SocketError> {
    let valid = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace());
    if valid { Ok(()) } else { Err(SocketError::InterfaceName(name.to_owned())) }
}
