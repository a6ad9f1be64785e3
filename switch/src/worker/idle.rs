//! What a worker does when there is nothing to do.

use std::time::{Duration, Instant};

use crate::config::Polling;

/// How long a worker spins for more before it sleeps. Sleeping and being woken costs some microseconds each; a reply
/// on the same node comes within tens of them, so spinning this long spares request-response traffic the wake-up.
const PATIENCE: Duration = Duration::from_micros(50);

/// A thread that gives its core away, and nobody takes it, has it back sooner.
const ALONE: Duration = Duration::from_micros(3);

/// A worker whose core is wanted sleeps at once the next time, instead of spinning; if it is wanted again, the next three times;
/// and so on up to this power of two.
const MOST_DOUBLINGS: u32 = 6;

/// The policy, and how it has turned out.
#[derive(Debug)]
pub(super) struct Idle {
    polling: Polling,
    /// When there was work last, if there was any since the worker slept.
    last_work: Option<Instant>,
    is_spinning: bool,
    /// How often in a row somebody wanted the core.
    wanted: u32,
    /// How often to sleep without spinning first.
    skip: u32,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There was work: look for more at once.
    Poll,
    /// There was none, but there may be soon. First the core is anybody's who waits for it: it may be the one who would send, and
    /// then spinning holds up the very work it waits for.
    Yield,
    /// There may be some soon.
    Spin,
    /// There was none for a while.
    Sleep,
}

impl Idle {
    pub(super) fn new(polling: Polling) -> Self {
        Self { polling, last_work: None, is_spinning: false, wanted: 0, skip: 0 }
    }

    /// Decides after a round that moved `moved` frames.
    #[inline]
    pub(super) fn after(&mut self, moved: usize, now: Instant) -> Next {
        if moved > 0 {
            self.is_spinning = false;
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
        if self.is_spinning {
            return if now.duration_since(last_work) < PATIENCE { Next::Spin } else { Next::Sleep };
        }
        if self.skip > 0 {
            self.skip -= 1;
            return Next::Sleep;
        }
        self.is_spinning = true;
        Next::Yield
    }

    /// The worker has had its core back after so long.
    pub(super) fn yielded(&mut self, after: Duration) {
        if after < ALONE {
            self.wanted = 0;
            return;
        }
        self.wanted = (self.wanted + 1).min(MOST_DOUBLINGS);
        self.skip = (1 << self.wanted) - 1;
        self.last_work = None;
    }

    /// The worker has slept.
    pub(super) fn woken(&mut self) {
        self.last_work = None;
        self.is_spinning = false;
    }
}

#[cfg(test)]
mod tests {
    //! Work earns patience, patience ends, a core that others want is left to them, busy workers spin for ever.
    use super::*;

    /// Whether the worker gives its core away, and then spins, after work; somebody takes the core for so long.
    fn yields(idle: &mut Idle, work: Instant, taken: Duration) -> bool {
        idle.woken();
        assert_eq!(idle.after(1, work), Next::Poll);
        match idle.after(0, work) {
            Next::Sleep => false,
            Next::Yield => {
                idle.yielded(taken);
                let next = if taken < ALONE { Next::Spin } else { Next::Sleep };
                assert_eq!(idle.after(0, work + taken), next);
                true
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn adaptive_sleeps_after_patience() {
        let start = Instant::now();
        let mut idle = Idle::new(Polling::Adaptive);
        assert_eq!(idle.after(3, start), Next::Poll);
        assert_eq!(idle.after(0, start), Next::Yield);
        idle.yielded(Duration::ZERO);
        assert_eq!(idle.after(0, start + PATIENCE / 2), Next::Spin);
        assert_eq!(idle.after(1, start + PATIENCE / 2), Next::Poll);
        assert_eq!(idle.after(0, start + PATIENCE), Next::Yield);
        idle.yielded(Duration::ZERO);
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
    }

    #[test]
    fn a_core_that_others_want_is_asked_for_rarely() {
        let mut idle = Idle::new(Polling::Adaptive);
        let start = Instant::now();
        let asked = (0..127).filter(|_| yields(&mut idle, start, ALONE)).count();
        assert_eq!(asked, 7, "the 1st, 3rd, 7th, 15th, 31st, 63rd and 127th time");
        let asked = (0..640).filter(|_| yields(&mut idle, start, ALONE)).count();
        assert_eq!(asked, 10, "and every 64th time from then on");
    }

    #[test]
    fn a_core_that_nobody_wants_is_spun_on_every_time() {
        let mut idle = Idle::new(Polling::Adaptive);
        let start = Instant::now();
        while idle.wanted < MOST_DOUBLINGS {
            yields(&mut idle, start, ALONE);
        }
        let asked = (0..64).filter(|_| yields(&mut idle, start, Duration::ZERO)).count();
        assert_eq!(asked, 1, "the last time the core was wanted counts");
        assert!((0..64).all(|_| yields(&mut idle, start, Duration::ZERO)));
    }

    #[test]
    fn busy_never_sleeps() {
        let mut idle = Idle::new(Polling::Busy);
        assert_eq!(idle.after(0, Instant::now() + PATIENCE * 1000), Next::Spin);
    }
}
