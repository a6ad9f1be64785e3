//! Frames that wait until the kernel has certainly let go of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the frames of a closed socket are kept apart. The kernel takes a socket down asynchronously (`xsk_release`
/// and `xp_put_pool`, `net/xdp/xsk.c` and `xsk_buff_pool.c`), in 5 to 25 ms as measured, during which a packet may still be
/// written to or read from its frames.
pub(crate) const QUARANTINE: Duration = Duration::from_millis(100);

/// Numbers of the frames in quarantine, oldest first. Numbers, because a `Frame` promises that the kernel keeps off.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Frames in `groups`, to be read without the lock.
    len: AtomicUsize,
    groups: Mutex<VecDeque<(Instant, Vec<u32>)>>,
}

impl Quarantine {
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn enter(&self, frames: Vec<u32>) {
        if frames.is_empty() {
            return;
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        self.len.fetch_add(frames.len(), Ordering::AcqRel);
        groups.push_back((Instant::now() + QUARANTINE, frames));
    }

    /// Hands out the frames whose time is over. Never waits, so workers may call it: with nothing in quarantine, or
    /// another thread at it, this is one load.
    pub(crate) fn leave(&self, mut release: impl FnMut(u32)) {
        if self.len() == 0 {
            return;
        }
        let Ok(mut groups) = self.groups.try_lock() else { return };
        while groups.front().is_some_and(|(until, _)| *until <= Instant::now()) {
            let Some((_, frames)) = groups.pop_front() else { return };
            self.len.fetch_sub(frames.len(), Ordering::AcqRel);
            frames.into_iter().for_each(&mut release);
        }
    }
}
