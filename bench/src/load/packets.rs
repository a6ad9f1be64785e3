//! The smallest UDP packets, as many as can be sent. The sender never waits for the receiver, so most are lost somewhere
//! where the sender has a core and the network shares the other; what arrives is what counts.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt};

use super::counter::{Counter, Phase};
use super::{Span, Tally, announce};

/// Bytes of an IPv4 packet's frame on a cable, the closing checksum among them: the smallest that Ethernet has (RFC 2544).
const FRAME: usize = 64;
/// Ethernet header and checksum, IPv4 and UDP header.
const HEADERS: usize = 14 + 4 + 20 + 8;
/// Packets handed to the kernel, or taken from it, at once.
const BATCH: usize = 64;
/// What may wait for a receiver that is not running. Without it, what is measured is how often it gets to run.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How often a receiver that gets nothing looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// How much longer than the receiver's window the sender goes on: the two do not start at the same moment.
const OVERLAP: Duration = Duration::from_millis(100);

pub(super) fn serve(address: SocketAddr, span: Span) -> Result<Tally> {
    let socket = UdpSocket::bind(address).with_context(|| format!("cannot bind {address}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("receive buffer")?;
    socket.set_read_timeout(Some(TICK))?;
    announce()?;
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let mut buffers = vec![[0; FRAME]; BATCH];
    let mut receive = || receive(&socket, &mut headers, &mut buffers);
    let begun = Instant::now();
    // Should nothing ever come, that is the result.
    while receive()? == 0 && begun.elapsed() < span.total() {}
    let mut counter = Counter::of(span, Instant::now());
    loop {
        let received = receive()?;
        let now = Instant::now();
        if counter.add(received, now) == Phase::Over {
            return Ok(counter.tally(now));
        }
    }
}

/// Waits for packets, and takes those that are there; none when none came in time.
fn receive(socket: &UdpSocket, headers: &mut MultiHeaders<()>, buffers: &mut [[u8; FRAME]]) -> Result<u64> {
    let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    let flags = MsgFlags::MSG_WAITFORONE;
    match recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None) {
        Ok(received) => Ok(received.count() as u64),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        Err(errno) => Err(errno).context("receiving"),
    }
}

pub(super) fn send(address: SocketAddr, span: Span) -> Result<Tally> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address).with_context(|| format!("no way to {address}"))?;
    let payload = [0x5a; FRAME - HEADERS];
    let slices = [[IoSlice::new(&payload)]; BATCH];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let start = Instant::now();
    let mut counter = Counter::of(span, start);
    loop {
        let flags = MsgFlags::empty();
        let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, [None; BATCH], [], flags);
        let sent = match sent {
            Ok(sent) => sent.count(),
            // Full, or an ICMP error from a receiver that is done.
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => 0,
            Err(errno) => return Err(errno).context("sending"),
        };
        let now = Instant::now();
        counter.add(sent as u64, now);
        if now > start + span.total() + OVERLAP {
            return Ok(counter.tally(now));
        }
    }
}
