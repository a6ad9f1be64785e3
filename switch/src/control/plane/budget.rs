//! How many frames each port may hold for receiving.
//!
//! A frame lent to the kernel for receiving is out of everybody else's reach until a packet arrives, so a port that
//! gets many keeps them, busy or not. Later ports must still find some: each gets a fixed fraction of what is left, so
//! that shares shrink slowly as the node fills up, and an eighth of all frames is never given away, for packets under way.

use std::collections::HashMap;

use crate::ports::PortId;

/// A port's share of the frames that are left.
const FRACTION: u32 = 32;

/// With fewer, one burst of a TCP sender is lost while the worker looks elsewhere.
const LEAST: u32 = 16;

/// A full veth (`VETH_RING_SIZE` is 256, drivers/net/veth.c) twice over: the one that is being read, and the one that fills
/// meanwhile. It is also the size of the socket's rings.
const MOST: u32 = 512;

/// What all endpoints behind a trunk share, and the size of its socket's rings: bursts of several meet there.
pub(super) const MOST_OF_A_TRUNK: u32 = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct FrameBudget {
    left: u32,
    given: HashMap<PortId, u32>,
}

impl FrameBudget {
    /// Of `total` frames.
    pub(super) fn new(total: u32) -> Self {
        Self { left: total - total / 8, given: HashMap::new() }
    }

    /// For one of the uplink's `queues`, which carry the traffic of all endpoints. Taken for good.
    pub(super) fn uplink(&mut self, queues: u32) -> u32 {
        let share = (self.left / 8 / queues.max(1)).clamp(LEAST, MOST);
        self.left = self.left.saturating_sub(share);
        share
    }

    /// For one of so many trunks, which carry what all cached endpoints send up. Taken for good, as [`give`](Self::give) notes.
    pub(super) fn trunk(&self, trunks: u32) -> u32 {
        (self.left / 4 / trunks.max(1)).clamp(LEAST, MOST_OF_A_TRUNK)
    }

    /// For the host, which stands for the world.
    pub(super) fn host(&self) -> Option<u32> {
        self.share(8)
    }

    /// For an endpoint; `None` when the frames are used up.
    pub(super) fn endpoint(&self) -> Option<u32> {
        self.share(FRACTION)
    }

    fn share(&self, fraction: u32) -> Option<u32> {
        (self.left >= LEAST).then(|| (self.left / fraction).clamp(LEAST, MOST))
    }

    /// Notes that `port` holds `frames`.
    pub(super) fn give(&mut self, port: PortId, frames: u32) {
        self.left = self.left.saturating_sub(frames);
        self.given.insert(port, frames);
    }

    /// Notes that `port` is closed.
    pub(super) fn take_back(&mut self, port: PortId) {
        self.left += self.given.remove(&port).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    //! A default node takes the 110 pods a kubelet has by default, the first not starving the last, and never promises more than it has.
    use super::*;

    fn port(serial: u32) -> PortId {
        PortId { worker: 0, slot: 0, serial }
    }

    #[test]
    fn shares_shrink_and_stay_within_the_total() {
        let mut budget = FrameBudget::new(16384);
        let mut sum = budget.uplink(1);
        let mut shares = Vec::new();
        while let Some(share) = budget.endpoint() {
            budget.give(port(shares.len() as u32), share);
            sum += share;
            shares.push(share);
        }
        assert!(shares.len() >= 110, "{}", shares.len());
        assert!(shares.is_sorted_by(|a, b| a >= b));
        assert!((256..=MOST).contains(&shares[0]), "{}", shares[0]);
        assert!(sum <= 16384 - 16384 / 8, "{sum}");
    }

    #[test]
    fn closing_gives_back() {
        let mut budget = FrameBudget::new(1024);
        let before = budget.left;
        for serial in 0..1000 {
            let share = budget.endpoint().unwrap();
            budget.give(port(serial), share);
            budget.take_back(port(serial));
        }
        assert_eq!(budget.left, before);
    }
}
