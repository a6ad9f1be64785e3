//! How long to wait before trying again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from attempt to attempt. Each wait is a random part of that, at least half, so that the agents of many nodes do not
/// keep step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        // The standard library's only source of chance: a hasher's fresh keys.
        let chance = RandomState::new().hash_one(self.attempts) as u32;
        whole / 2 + whole / 2 * (chance >> 16) / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    //! Waits grow to a bound, begin small again, and differ.
    use super::*;

    #[test]
    fn grows_and_begins_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..3 {
            let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
            assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST, "{waits:?}");
            assert!(waits.iter().all(|wait| *wait <= LONGEST));
            assert!(waits[10..].iter().all(|wait| *wait >= LONGEST / 2), "{waits:?}");
            assert!(waits[10..].windows(2).any(|pair| pair[0] != pair[1]));
            backoff.reset();
        }
    }
}
