//! Counting during the part of a load that counts.

use std::time::Instant;

use super::{Span, Tally};

/// Counts what happens between the end of the warm-up and the end of the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter {
    opens: Instant,
    closes: Instant,
    amount: u64,
    total: u64,
}

/// Where a moment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Counted,
    Over,
}

impl Counter {
    /// For a load that begins at `start`.
    pub(super) fn of(span: Span, start: Instant) -> Self {
        let opens = start + span.warm_up();
        Self { opens, closes: opens + span.measure(), amount: 0, total: 0 }
    }

    /// Takes note of what happened at `now`.
    pub(super) fn add(&mut self, amount: u64, now: Instant) -> Phase {
        self.total += amount;
        if now < self.opens {
            Phase::WarmUp
        } else if now < self.closes {
            self.amount += amount;
            Phase::Counted
        } else {
            Phase::Over
        }
    }

    /// What was counted. The time is all that could be counted in, so that a stall is no gain; for a load that had to end
    /// early it is the time until `end`.
    pub(super) fn tally(&self, end: Instant) -> Tally {
        let seconds = end.min(self.closes).saturating_duration_since(self.opens).as_secs_f64();
        Tally { amount: self.amount, total: self.total, seconds, latencies: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    //! Every moment is in one phase, and the counted time is what was asked for, or less when the load ended early.
    use std::time::Duration;

    use super::Phase::{Counted, Over, WarmUp};
    use super::*;

    #[test]
    fn only_what_is_between_counts() {
        let start = Instant::now();
        let mut counter = Counter::of(Span { warm_up: 200, measure: 500 }, start);
        let phases =
            [0, 199, 200, 699, 700, 5000].map(|ms| counter.add(1, start + Duration::from_millis(ms)));
        assert_eq!(phases, [WarmUp, WarmUp, Counted, Counted, Over, Over]);
        let tally = |ms| counter.tally(start + Duration::from_millis(ms));
        assert_eq!((tally(9000).amount, tally(9000).total), (2, 6));
        assert!((tally(9000).seconds - 0.5).abs() < 1e-9);
        assert!((tally(300).seconds - 0.1).abs() < 1e-9);
        assert!(tally(100).seconds.abs() < 1e-9 && tally(100).per_second().abs() < 1e-9);
        assert!((tally(9000).per_second() - 4.0).abs() < 1e-9);
    }
}
