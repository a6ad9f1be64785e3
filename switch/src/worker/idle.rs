//! What a worker does when there is nothing to do.

use std::time::{Duration, Instant};

use crate::config::Polling;

/// How long a worker spins for more before it sleeps. Sleeping and being woken costs some microseconds each; a reply
/// on the same node comes within tens of them, so spinning this long spares request-response traffic the wake-up.
const PATIENCE: Duration = Duration::from_micros(50);

/// The policy, with the time of the last work.
#[derive(Debug)]
pub(super) struct Idle {
    polling: Polling,
    last_work: Instant,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There was work: look for more at once.
    Poll,
    /// There was none, but there may be soon.
    Spin,
    /// There was none for a while.
    Sleep,
}

impl Idle {
    pub(super) fn new(polling: Polling) -> Self {
        Self { polling, last_work: Instant::now() }
    }

    /// Decides after a round that moved `moved` frames.
    #[inline]
    pub(super) fn after(&mut self, moved: usize, now: Instant) -> Next {
        if moved > 0 {
            self.last_work = now;
            return Next::Poll;
        }
        match self.polling {
            Polling::Adaptive if now.duration_since(self.last_work) >= PATIENCE => Next::Sleep,
            _ => Next::Spin,
        }
    }

    /// A wake-up by a tick alone gets one look around and no spinning: only work earns patience.
    pub(super) fn woken(&mut self, now: Instant) {
        if let Some(long_ago) = now.checked_sub(PATIENCE) {
            self.last_work = long_ago;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Work earns patience, patience ends, busy workers have no end of it.
    use super::*;

    #[test]
    fn adaptive_sleeps_after_patience() {
        let start = Instant::now();
        let mut idle = Idle::new(Polling::Adaptive);
        assert_eq!(idle.after(3, start), Next::Poll);
        assert_eq!(idle.after(0, start + PATIENCE / 2), Next::Spin);
        assert_eq!(idle.after(1, start + PATIENCE / 2), Next::Poll);
        assert_eq!(idle.after(0, start + PATIENCE), Next::Spin);
        assert_eq!(idle.after(0, start + PATIENCE * 2), Next::Sleep);
    }

    #[test]
    fn a_wake_up_without_work_does_not_spin() {
        let mut idle = Idle::new(Polling::Adaptive);
        let now = Instant::now();
        idle.woken(now);
        assert_eq!(idle.after(0, now), Next::Sleep);
    }

    #[test]
    fn busy_never_sleeps() {
        let mut idle = Idle::new(Polling::Busy);
        assert_eq!(idle.after(0, Instant::now() + PATIENCE * 1000), Next::Spin);
    }
}
