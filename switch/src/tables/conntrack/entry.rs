//! One connection at one endpoint.

use super::key::{Direction, Key, Side};
use super::progress::Progress;
use super::state::State;
use super::tick::Tick;

/// A link to nowhere.
pub(super) const NONE: u32 = u32::MAX;

/// Two cache lines, aligned so that they are the pair that x86 fetches together: first what a lookup compares and the
/// lists need, then what packets change.
#[derive(Debug, Clone)]
#[repr(C, align(128))]
pub(super) struct Entry {
    /// [`Key::FREE`] when the entry is not in use.
    pub(super) key: Key,
    /// Policy generation at which it was allowed.
    pub(super) judged_at: u32,
    /// When its last packet was seen.
    pub(super) last_seen: Tick,
    /// When it was put at the end of its list.
    pub(super) linked_at: Tick,
    pub(super) previous: u32,
    /// Next in the list of its state, or in the list of free entries.
    pub(super) next: u32,

    /// Per direction, as `bytes`.
    pub(super) packets: [u64; 2],
    pub(super) bytes: [u64; 2],
    pub(super) progress: Progress,
}

const _: () = assert!(size_of::<Entry>() == 128);
const _: () = assert!(std::mem::offset_of!(Entry, packets) == 64);

impl Entry {
    /// Not in use.
    pub(super) fn free(next: u32) -> Self {
        Self {
            key: Key::FREE,
            judged_at: 0,
            last_seen: Tick::default(),
            linked_at: Tick::default(),
            previous: NONE,
            next,
            packets: [0; 2],
            bytes: [0; 2],
            progress: Progress::without_handshake(State::OtherUnanswered, Side::Egress),
        }
    }

    #[inline]
    pub(super) fn state(&self) -> State {
        self.progress.state()
    }

    #[inline]
    pub(super) fn idle(&self, now: Tick) -> u32 {
        now.since(self.last_seen)
    }

    /// Idle for too long. Of packets that pass unseen nobody knows here, so a connection that has such does not expire.
    #[inline]
    pub(super) fn is_expired(&self, now: Tick) -> bool {
        self.idle(now) > self.state().timeout() && !self.progress.is_offloaded()
    }

    #[inline]
    pub(super) fn count(&mut self, direction: Direction, bytes: u32) {
        self.packets[direction as usize] += 1;
        self.bytes[direction as usize] += u64::from(bytes);
    }
}
