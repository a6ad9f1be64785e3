//! How a socket is set up.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::sockopt;

use crate::umem::RING;
use crate::{Socket, SocketError};

/// `XDP_MAX_TX_SKB_BUDGET` (`include/uapi/linux/if_xdp.h`, since Linux 6.17).
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Socket buffer for packets that a device is still sending. The default allows some 90 full-sized ones.
const SEND_BUFFER: usize = 4 << 20;

/// Sizes of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Packets received and not yet read, a power of two.
    pub rx_ring: u32,
    /// Packets the kernel has not yet begun to send, a power of two.
    pub tx_ring: u32,
    /// Frames the kernel has for receiving: how many packets may arrive while the worker looks elsewhere. With at most
    /// `rx_ring` the receive ring never overflows.
    pub receive_frames: u32,
}

impl Default for Options {
    fn default() -> Self {
        // A veth's ring holds 256 packets (`VETH_RING_SIZE`, drivers/net/veth.c), and hands them over in one go.
        Self { rx_ring: 512, tx_ring: 512, receive_frames: 256 }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), SocketError> {
        let ring = |size: u32| size.is_power_of_two() && size <= 1 << 15;
        if !ring(self.rx_ring) || !ring(self.tx_ring) {
            return Err(SocketError::Options("ring sizes are powers of two up to 32768"));
        }
        if self.receive_frames == 0 || self.receive_frames > RING {
            return Err(SocketError::Options("receive_frames is from 1 to 1024"));
        }
        Ok(())
    }
}

/// Raises limits that a busy device runs into. Without `CAP_NET_ADMIN` the defaults stay, which only costs throughput.
pub(crate) fn tune(socket: BorrowedFd<'_>) {
    if sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER);
    }
}

/// Lets one system call send the whole transmit ring. False on kernels before 6.17.
pub(crate) fn raise_tx_budget(socket: BorrowedFd<'_>, tx_ring: u32) -> bool {
    // SAFETY: the option's value is an int that outlives the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            XDP_MAX_TX_SKB_BUDGET,
            (&raw const tx_ring).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    result == 0
}

/// What the kernel counted for a socket since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Packets dropped because there was no frame to receive into.
    pub rx_no_frame: u64,
    /// Packets dropped for another reason: larger than a frame, mostly.
    pub rx_dropped: u64,
    /// Descriptors for receiving that the kernel found invalid: a bug of ours.
    pub rx_invalid: u64,
    /// Descriptors for sending that the kernel found invalid: a bug of ours.
    pub tx_invalid: u64,
}

impl Socket {
    /// Asks the kernel for its counters: one system call.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let kernel = self.xdp_statistics()?;
        let rx_no_frame = kernel.rx_fill_ring_empty_descs();
        Ok(Statistics {
            rx_ring_full: kernel.rx_ring_full(),
            rx_no_frame,
            // A packet without a frame is counted twice, here too (`__xsk_rcv`, net/xdp/xsk.c).
            rx_dropped: kernel.rx_dropped().saturating_sub(rx_no_frame),
            rx_invalid: kernel.rx_invalid_descs(),
            tx_invalid: kernel.tx_invalid_descs(),
        })
    }
}
