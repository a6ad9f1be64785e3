//! How many notices a worker may send (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 f).

use std::time::{Duration, Instant};

/// One notice a millisecond in the long run: 1,000 a second, as Linux allows by default (`icmp_msgs_per_sec`).
const INTERVAL: Duration = Duration::from_millis(1);

/// Notices that may go out at once after a pause.
const BURST: u32 = 64;

/// A token bucket, kept as the time at which it is full again.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Budget {
    full_at: Option<Instant>,
}

impl Budget {
    /// Takes one notice out of the budget; false when there is none.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + INTERVAL;
        if full_at.duration_since(now) > INTERVAL * BURST {
            return false;
        }
        self.full_at = Some(full_at);
        true
    }
}

#[cfg(test)]
mod tests {
    //! The budget bounds bursts and the long run, and comes back with time.
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut budget = Budget::default();
        let start = Instant::now();
        let burst = (0..1000).filter(|_| budget.spend(start)).count();
        assert_eq!(burst, BURST as usize);
        assert!(!budget.spend(start + INTERVAL / 2));
        assert!(budget.spend(start + INTERVAL));
        assert!(!budget.spend(start + INTERVAL));
        let later = start + Duration::from_hours(1);
        assert_eq!((0..1000).filter(|_| budget.spend(later)).count(), BURST as usize);
    }

    #[test]
    fn time_that_steps_back_gives_nothing_away() {
        let mut budget = Budget::default();
        let start = Instant::now() + Duration::from_secs(10);
        while budget.spend(start) {}
        assert!(!budget.spend(start.checked_sub(Duration::from_secs(5)).unwrap()));
    }
}
