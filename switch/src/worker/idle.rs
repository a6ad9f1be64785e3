//! What a worker does when there is nothing to do.

use std::time::{Duration, Instant};

use crate::config::Polling;

/// How long a worker spins for more before it sleeps. Sleeping and being woken costs some microseconds each; a reply
/// on the same node comes within tens of them, so spinning this long spares request-response traffic the wake-up.
const PATIENCE: Duration = Duration::from_micros(50);

/// After spinning in vain once, a worker sleeps at once the next time; after twice, the next three times; and so on up to this
/// power of two. In vain is more than a waste: who would send may be waiting for the core that the worker spins on.
const MOST_DOUBLINGS: u32 = 6;

/// The policy, and how it has turned out.
#[derive(Debug)]
pub(super) struct Idle {
    polling: Polling,
    /// When there was work last, if there was any since the worker slept.
    last_work: Option<Instant>,
    is_spinning: bool,
    /// Spins in a row that found no work.
    in_vain: u32,
    /// How often to sleep without spinning first.
    skip: u32,
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
        Self { polling, last_work: None, is_spinning: false, in_vain: 0, skip: 0 }
    }

    /// Decides after a round that moved `moved` frames.
    #[inline]
    pub(super) fn after(&mut self, moved: usize, now: Instant) -> Next {
        if moved > 0 {
            if self.is_spinning {
                (self.in_vain, self.is_spinning) = (0, false);
            }
            self.last_work = Some(now);
            return Next::Poll;
        }
        match self.polling {
            Polling::Adaptive => self.spin_or_sleep(now),
            Polling::Busy => Next::Spin,
        }
    }

    fn spin_or_sleep(&mut self, now: Instant) -> Next {
        // A wake-up by a tick alone gets one look around and no spinning: only work earns patience.
        let Some(last_work) = self.last_work else { return Next::Sleep };
        if !self.is_spinning && self.skip > 0 {
            self.skip -= 1;
            return Next::Sleep;
        }
        self.is_spinning = now.duration_since(last_work) < PATIENCE;
        if self.is_spinning {
            return Next::Spin;
        }
        self.in_vain = (self.in_vain + 1).min(MOST_DOUBLINGS);
        self.skip = (1 << self.in_vain) - 1;
        Next::Sleep
    }

    /// The worker has slept.
    pub(super) fn woken(&mut self) {
        self.last_work = None;
    }
}

#[cfg(test)]
mod tests {
    //! Work earns patience, patience ends, spinning has to pay, busy workers spin for ever.
    use super::*;

    /// Whether the worker spins after work, and what it does in the end if no more comes.
    fn spins(idle: &mut Idle, work: Instant) -> bool {
        idle.woken();
        assert_eq!(idle.after(1, work), Next::Poll);
        let first = idle.after(0, work);
        if first == Next::Spin {
            assert_eq!(idle.after(0, work + PATIENCE), Next::Sleep);
        }
        first == Next::Spin
    }

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
        assert_eq!(idle.after(0, now), Next::Sleep);
        assert_eq!(idle.after(1, now), Next::Poll);
        idle.woken();
        assert_eq!(idle.after(0, now), Next::Sleep);
        assert_eq!(idle.in_vain, 0, "nothing was tried");
    }

    #[test]
    fn spinning_in_vain_becomes_rare() {
        let mut idle = Idle::new(Polling::Adaptive);
        let start = Instant::now();
        let tried = (0..127).filter(|n| spins(&mut idle, start + PATIENCE * (3 * n))).count();
        assert_eq!(tried, 7, "the 1st, 3rd, 7th, 15th, 31st, 63rd and 127th time");
        let tried = (0..640).filter(|n| spins(&mut idle, start + PATIENCE * (3 * n))).count();
        assert_eq!(tried, 10, "and every 64th time from then on");
    }

    #[test]
    fn a_spin_that_pays_brings_all_back() {
        let mut idle = Idle::new(Polling::Adaptive);
        let start = Instant::now();
        while idle.in_vain < MOST_DOUBLINGS {
            spins(&mut idle, start);
        }
        idle.skip = 0;
        idle.woken();
        assert_eq!(idle.after(1, start), Next::Poll);
        assert_eq!(idle.after(0, start), Next::Spin);
        assert_eq!(idle.after(1, start), Next::Poll);
        assert_eq!(idle.after(0, start), Next::Spin, "at once, with no sleep between");
    }

    #[test]
    fn busy_never_sleeps() {
        let mut idle = Idle::new(Polling::Busy);
        assert_eq!(idle.after(0, Instant::now() + PATIENCE * 1000), Next::Spin);
    }
}
