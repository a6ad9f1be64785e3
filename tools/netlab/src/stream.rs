//! A TCP stream without an end, to see whether it flows.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;
use crate::traffic::STALL;

/// Written and read at once.
const PIECE: usize = 64 << 10;
/// One that has brought nothing for this long stands still: several times what TCP waits before it repeats something.
const STILL: Duration = Duration::from_millis(1500);
/// How long it may take to start flowing or to stop. TCP repeats what was dropped at ever longer intervals.
const PATIENCE: Duration = Duration::from_secs(40);

/// A stream that flows as long as the network lets it, and this lives.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    /// Where it comes from.
    pub local: SocketAddr,
    /// Where it goes.
    pub remote: SocketAddr,
    arrival: Arc<Arrival>,
    writer: Option<JoinHandle<()>>,
}

/// What has arrived.
#[derive(Debug)]
struct Arrival {
    bytes: AtomicU64,
    /// When the last of it did, in microseconds since `epoch`.
    last: AtomicU64,
    epoch: Instant,
}

impl Stream {
    /// Starts one from one namespace to `address` in the other.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Self> {
        let listener = to.run(|| TcpListener::bind((address, 0)))??;
        let remote = listener.local_addr()?;
        let connect = || TcpStream::connect_timeout(&remote, STALL);
        let socket =
            from.run(connect)?.with_context(|| format!("no TCP connection from {from} to {remote}"))?;
        let (mut far_end, local) = listener.accept()?;
        let arrival =
            Arc::new(Arrival { bytes: AtomicU64::new(0), last: AtomicU64::new(0), epoch: Instant::now() });
        let (mut writer, noted) = (socket.try_clone()?, Arc::clone(&arrival));
        let piece = vec![7; PIECE];
        let writer = std::thread::spawn(move || while writer.write_all(&piece).is_ok() {});
        // Ends with the connection. Where the network is cut, that is when the pod goes, so nobody waits for it.
        std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            while let Ok(length @ 1..) = far_end.read(&mut buffer) {
                noted.last.store(noted.epoch.elapsed().as_micros() as u64, Ordering::Relaxed);
                noted.bytes.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { socket, local, remote, arrival, writer: Some(writer) })
    }

    /// Bytes that have arrived.
    pub fn received(&self) -> u64 {
        self.arrival.bytes.load(Ordering::Relaxed)
    }

    /// When the last of them did.
    pub fn last_arrival(&self) -> Instant {
        self.arrival.epoch + Duration::from_micros(self.arrival.last.load(Ordering::Relaxed))
    }

    /// Waits until so many more bytes have arrived.
    pub fn await_bytes(&self, more: u64) -> Result<()> {
        let (start, until) = (self.received(), Instant::now() + PATIENCE);
        while self.received() < start + more {
            ensure!(Instant::now() < until, "{} → {} does not flow", self.local, self.remote);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until nothing arrives any more.
    pub fn await_standstill(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.last_arrival().elapsed() < STILL {
            ensure!(Instant::now() < until, "{} → {} does not stop", self.local, self.remote);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
