//! Counters: written by one worker, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::DropReason;

/// A total that only its owner adds to.
///
/// There is one writer, so adding is a load and a store, not a locked instruction; readers see some recent value.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owner of the counter may call this; a second writer would lose counts, nothing worse.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The total.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets and bytes in one direction.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Number of packets.
    pub packets: Counter,
    /// Their length from the Ethernet header on.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts one packet.
    #[inline]
    pub fn count(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }

    /// Counts a batch of packets.
    #[inline]
    pub fn count_batch(&self, packets: usize, bytes: usize) {
        self.packets.add(packets as u64);
        self.bytes.add(bytes as u64);
    }
}

/// Both directions of a port, as the switch sees them.
#[derive(Debug, Default)]
pub struct PortStats {
    /// Received by the switch: what the endpoint sent.
    pub rx: Traffic,
    /// Sent by the switch: what the endpoint received.
    pub tx: Traffic,
}

/// One worker's totals.
#[derive(Debug)]
pub struct WorkerStats {
    /// All of the worker's ports together.
    pub ports: PortStats,
    /// Times the worker went to sleep in the kernel.
    pub sleeps: Counter,
    /// ICMP errors sent about dropped packets. Each is a packet more than was received.
    pub icmp_errors: Counter,
    drops: [Counter; DropReason::COUNT],
}

impl Default for WorkerStats {
    fn default() -> Self {
        Self {
            ports: PortStats::default(),
            sleeps: Counter::default(),
            icmp_errors: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl WorkerStats {
    /// Counts `n` drops for `reason`.
    #[inline]
    pub fn count_drops(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].add(n);
    }

    /// Drops for `reason` so far.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }
}
