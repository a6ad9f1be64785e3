//! What a worker remembers of its endpoints' traffic from batch to batch.

use std::time::{Duration, Instant};

use super::conntrack::Way;
use super::policy::Judge;
use crate::DropReason;
use crate::tables::conntrack::{Connections, Fragments, Tick};
use crate::tables::{EndpointNumber, Tables};

/// Fragmented packets that are under way at a time. Each costs about 100 bytes, and a second of them at gigabit speed
/// is some 40,000; those with their fragments in a row need one entry only for as long as that row takes.
const FRAGMENTED: usize = 4096;

/// Slots that are looked at in one go while the connections of an endpoint that is gone are removed: some microseconds.
const SWEEP: usize = 256;

/// Slots that are looked at in one go while connections are judged again: some tens of microseconds, should all of them have to
/// be.
const REVIEW: usize = 512;

/// Connections that are looked at for their age at each tick of the worker, ten a second.
const AGING: usize = 8192;

/// How long connections may be silent that go on after a restart: TCP keep-alive as applications set it is shorter.
const YOUTH: Duration = Duration::from_mins(5);

/// The connections and fragmented packets of one worker's endpoints.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) connections: Connections,
    pub(super) fragments: Fragments<Result<Way, DropReason>>,
    /// Read once a batch.
    pub(super) now: Tick,
    /// Ticks count from here.
    epoch: Instant,
    /// Endpoints that are gone and whose connections are not all removed yet, with the slot to go on at.
    gone: Vec<(EndpointNumber, usize)>,
    review: Review,
}

/// How far judging again has got after a change of policy.
#[derive(Debug, Default)]
struct Review {
    /// Of the policy that is judged by.
    generation: u32,
    /// Where to go on.
    slot: usize,
    /// Slots still to look at.
    left: usize,
}

impl Tracker {
    /// For at most `capacity` connections.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            connections: Connections::new(capacity),
            fragments: Fragments::new(FRAGMENTED),
            now: Tick::default(),
            epoch: Instant::now(),
            gone: Vec::new(),
            review: Review::default(),
        }
    }

    /// Sets the clock.
    #[inline]
    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = Tick::at(now.saturating_duration_since(self.epoch));
    }

    /// True while there may be connections that are older than the switch.
    pub(super) fn is_young(&self) -> bool {
        self.now <= Tick::at(YOUTH)
    }

    /// Forgets connections that are idle for too long.
    pub(super) fn age(&mut self) {
        self.connections.expire(self.now, AGING);
    }

    /// The endpoint is gone: its connections are removed bit by bit, by [`sweep`](Self::sweep).
    pub(super) fn forget(&mut self, endpoint: EndpointNumber) {
        if !self.connections.is_empty() {
            self.gone.push((endpoint, 0));
        }
    }

    /// A new endpoint has this number: what an old one has left under it goes first.
    pub(super) fn welcome(&mut self, endpoint: EndpointNumber) {
        while self.gone.iter().any(|(gone, _)| *gone == endpoint) {
            self.sweep();
        }
    }

    /// Goes on with removing.
    pub(super) fn sweep(&mut self) {
        let Some((endpoint, slot)) = self.gone.last_mut() else { return };
        let (endpoint, slots) = (*endpoint, *slot..*slot + SWEEP);
        *slot = slots.end;
        if slots.end >= self.connections.capacity() {
            self.gone.pop();
        }
        self.connections.retain(self.now, slots, |flow| flow.endpoint != endpoint);
    }

    /// Goes on with judging connections again whose packets pass unseen, when policy has changed.
    #[inline]
    pub(super) fn review(&mut self, tables: &Tables) {
        if self.review.generation != tables.policy.generation {
            // One round more from where the last one has got to, so that frequent changes starve nobody.
            self.review = Review {
                generation: tables.policy.generation,
                left: self.connections.capacity(),
                ..self.review
            };
        }
        if self.review.left > 0 {
            self.review_some(tables);
        }
    }

    /// There are connections that were judged at no generation: all have to be reviewed.
    pub(super) fn review_all(&mut self) {
        self.review.left = self.connections.capacity();
    }

    #[cold]
    fn review_some(&mut self, tables: &Tables) {
        if self.connections.offloaded() == 0 {
            self.review.left = 0;
            return;
        }
        let (first, capacity) = (self.review.slot, self.connections.capacity());
        let last = (first + REVIEW).min(capacity);
        self.connections.review(self.now, first..last, |flow| {
            let endpoint = tables.endpoints.get(flow.endpoint)?;
            let judge = Judge::of(tables, (flow.endpoint, endpoint), flow.side).ok()??;
            let is_current = flow.judged_at == judge.generation();
            (is_current || judge.allows(flow.side, &flow.key)).then_some(judge.generation())
        });
        self.review.left = self.review.left.saturating_sub(last - first);
        self.review.slot = if last == capacity { 0 } else { last };
    }

    /// True while there is something to [`review`](Self::review).
    pub(super) fn is_reviewing(&self) -> bool {
        self.review.left > 0
    }

    /// True while there is something to [`sweep`](Self::sweep).
    pub(super) fn is_sweeping(&self) -> bool {
        !self.gone.is_empty()
    }
}
