//! Connections for people to look at.

use std::ops::Range;
use std::time::Duration;

use super::super::EndpointNumber;
use super::entry::Entry;
use super::key::{FlowKey, Side};
use super::state::State;
use super::table::Connections;
use super::tick::Tick;

/// One connection at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Whose it is.
    pub endpoint: EndpointNumber,
    /// [`Side::Egress`] if the endpoint opened it, [`Side::Ingress`] if the endpoint accepted it.
    pub side: Side,
    /// Of its packets in the original direction.
    pub key: FlowKey,
    /// How far it has got.
    pub state: State,
    /// How long no packet has been seen.
    pub idle: Duration,
    /// Policy generation at which it was allowed.
    pub judged_at: u32,
    /// Packets by [`Direction`](super::Direction).
    pub packets: [u64; 2],
    /// Bytes by [`Direction`](super::Direction).
    pub bytes: [u64; 2],
    /// Packets of one direction or both may pass unseen.
    pub offloaded: bool,
}

impl Flow {
    pub(super) fn of(entry: &Entry, now: Tick) -> Self {
        let side = entry.progress.opened();
        Self {
            endpoint: entry.key.endpoint(),
            side,
            key: entry.key.flow(side),
            state: entry.state(),
            idle: Tick::duration(entry.idle(now)),
            judged_at: entry.judged_at,
            packets: entry.packets,
            bytes: entry.bytes,
            offloaded: entry.progress.is_offloaded(),
        }
    }
}

impl Connections {
    /// The connections in a range of slots. Slots count from 0 to [`capacity`](Self::capacity); the worker takes a few
    /// at a time between batches. A connection keeps its slot, so one that lasts throughout is seen exactly once.
    pub fn flows(&self, now: Tick, slots: Range<usize>) -> impl Iterator<Item = Flow> {
        let live = self.within(&slots).iter().filter(move |e| !e.key.is_free() && !e.is_expired(now));
        live.map(move |entry| Flow::of(entry, now))
    }

    /// Removes those connections in a range of slots that `keep` does not want: those of an endpoint that is gone, for
    /// one.
    pub fn retain(&mut self, now: Tick, slots: Range<usize>, mut keep: impl FnMut(&Flow) -> bool) {
        let first = slots.start;
        for slot in first..first + self.within(&slots).len() {
            let entry = &self.entries[slot];
            if !entry.key.is_free() && !keep(&Flow::of(entry, now)) {
                self.counters.removed += 1;
                self.release(slot as u32);
            }
        }
    }

    fn within(&self, slots: &Range<usize>) -> &[Entry] {
        let end = slots.end.min(self.capacity());
        self.entries.get(slots.start..end).unwrap_or_default()
    }
}
