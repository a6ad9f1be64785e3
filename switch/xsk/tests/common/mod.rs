//! A private network namespace with veth pairs, for one test.
#![allow(dead_code, clippy::unwrap_used, missing_docs, reason = "each test uses a part of it")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use heddle_xsk::{Arena, BATCH, Frame, Pool, Socket};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

pub(crate) type Batch = arrayvec::ArrayVec<Frame, BATCH>;

/// Where the sandbox has its own BPF file system.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// Runs `test` on a thread with network and mounts of its own. All of it vanishes with the thread, however it ends, so
/// names need not be unique.
pub(crate) fn sandbox(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("bpf"), Path::new(BPFFS), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip` with arguments separated by spaces, in the calling thread's namespaces.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A veth pair, up, that only carries what the test sends.
pub(crate) fn veth(one: &str, other: &str, mtu: u32) {
    ip(&format!(
        "link add {one} mtu {mtu} numrxqueues 1 numtxqueues 1 type veth peer name {other} mtu {mtu} numrxqueues 1 numtxqueues 1"
    ));
    for end in [one, other] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1").unwrap();
        ip(&format!("link set {end} up"));
    }
}

/// Packet number `n` of `len` bytes between two MAC addresses nobody has, recognisable in every byte.
pub(crate) fn packet(n: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![0x02; 12];
    // An experimental EtherType (IEEE Std 802).
    packet.extend([0x88, 0xb5]);
    packet.extend(n.to_be_bytes());
    packet.extend((0..).map(|i: u32| (i.wrapping_mul(31) ^ n) as u8).take(len.saturating_sub(18)));
    packet.truncate(len);
    packet
}

/// A socket with its pool, driven by hand.
pub(crate) struct End {
    pub(crate) socket: Socket,
    pub(crate) pool: Pool,
}

impl End {
    pub(crate) fn new(arena: &Arc<Arena>, socket: Socket) -> Self {
        let mut end = Self { socket, pool: Pool::new(Arc::clone(arena)) };
        assert!(end.receive().is_empty(), "nothing is there yet, but frames to receive into are now");
        end
    }

    /// Sends all packets, waiting for room where there is none.
    pub(crate) fn send(&mut self, packets: &[Vec<u8>]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for group in packets.chunks(BATCH) {
            let mut batch: Batch = group.iter().map(|bytes| self.fill(bytes)).collect();
            while !batch.is_empty() {
                assert!(Instant::now() < deadline, "no room to send");
                self.socket.transmit(&mut self.pool, &mut batch);
                self.socket.reap(&mut self.pool);
            }
        }
    }

    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Frame {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut frame = loop {
            if let Some(frame) = self.pool.take() {
                break frame;
            }
            assert!(Instant::now() < deadline, "no free frame");
            self.socket.reap(&mut self.pool);
        };
        assert!(frame.copy_from(bytes));
        frame
    }

    /// What has arrived.
    pub(crate) fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        self.socket.receive(&mut self.pool, &mut batch);
        batch
            .drain(..)
            .map(|frame| {
                let bytes = frame.bytes().to_vec();
                self.pool.put(frame);
                bytes
            })
            .collect()
    }

    /// Waits for `count` packets.
    pub(crate) fn expect(&mut self, count: usize) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut packets = Vec::new();
        while packets.len() < count {
            packets.extend(self.receive());
            assert!(Instant::now() < deadline, "{} of {count} packets arrived", packets.len());
        }
        packets
    }

    pub(crate) fn held(&self) -> usize {
        let frames = self.socket.frames();
        self.pool.len() + (frames.receiving + frames.sending) as usize
    }
}

/// Waits until the quarantine is over and checks that every frame is back in the reserve.
pub(crate) fn assert_all_home(arena: &Arena) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while arena.quarantined() > 0 {
        assert!(Instant::now() < deadline, "{} frames stay in quarantine", arena.quarantined());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(arena.reserved(), arena.count() as usize, "frames are missing");
}
