//! Flows that the flow cache forwards: their packets pass unseen here, so somebody else tells of them.
//!
//! A connection with such a flow does not expire by itself. It ends here as always, because whatever ends a connection is seen;
//! its flows are then *recalled*. Both are listed, in order, for whoever can put flows into the flow cache and take them out.

use std::ops::Range;
use std::time::Duration;

use super::super::EndpointNumber;
use super::flows::Flow;
use super::key::{Direction, FlowKey, Side};
use super::state::State;
use super::table::Connections;
use super::tick::Tick;
use super::track::{Known, Packet};
use crate::wire::protocol;

/// A flow is offered with every so many of its packets that are seen here: a connection of a few packets is not worth the
/// work, and an offer that came to nothing is repeated.
const OFFER_EVERY: u64 = 8;

/// A flow as one endpoint knows it, whose packets it sends or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowEnd {
    /// Whose end it is.
    pub endpoint: EndpointNumber,
    /// [`Side::Egress`] if the flow's packets leave the endpoint.
    pub seen: Side,
    /// Of the flow's packets.
    pub key: FlowKey,
    /// Which way of the connection they go.
    pub direction: Direction,
}

/// What passed unseen of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unseen {
    /// Since it was told last.
    pub packets: u64,
    /// IP packets' lengths.
    pub bytes: u64,
    /// Time since the last one.
    pub idle: Duration,
}

/// What is to be done about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It may pass unseen from now on. Whoever cannot arrange that [takes it back](Connections::take_back).
    Offloaded(FlowEnd),
    /// It may pass unseen as soon as it begins: its connection is at the answer to the SYN, and nothing of it is under way. Whoever
    /// arranges that before the answer leaves [says so](Connections::begin_unseen).
    Beginning(FlowEnd),
    /// Its connection is over, gone, or not allowed any more: it must not pass unseen.
    Recalled(FlowEnd),
}

impl Change {
    /// The end of the flow that it is about.
    pub fn end(&self) -> &FlowEnd {
        match self {
            Self::Offloaded(end) | Self::Beginning(end) | Self::Recalled(end) => end,
        }
    }
}

impl Connections {
    /// What is to be done, in this order. The caller empties the list.
    pub fn changes(&mut self) -> &mut Vec<Change> {
        &mut self.changes
    }

    /// Connections with a flow that passes unseen.
    pub fn offloaded(&self) -> usize {
        self.offloaded as usize
    }

    /// All flows that may pass unseen.
    #[cfg(test)]
    pub(crate) fn ends_that_pass_unseen(&self) -> Vec<FlowEnd> {
        let mut ends = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.key.is_free()) {
            for direction in [Direction::Original, Direction::Reply] {
                if entry.progress.is_offloaded_in(direction) {
                    let seen = entry.progress.side_of(direction);
                    let (endpoint, key) = (entry.key.endpoint(), entry.key.flow(seen));
                    ends.push(FlowEnd { endpoint, seen, key, direction });
                }
            }
        }
        ends
    }

    /// Takes note of what passed unseen. A flow that should not have passed is recalled: whatever went wrong, it does not go on.
    pub fn note_unseen(&mut self, now: Tick, end: &FlowEnd, unseen: &Unseen) {
        if self.account(now, end, unseen).is_none_or(|(_, offloaded)| !offloaded) {
            self.changes.push(Change::Recalled(*end));
        }
    }

    /// The flow cache does not forward the flow any more, or never has. It is recalled all the same if it was offered: this may be
    /// about an offer before the last, and then the last has not been answered yet.
    pub fn note_dropped(&mut self, now: Tick, end: &FlowEnd, unseen: &Unseen) {
        let Some((slot, true)) = self.account(now, end, unseen) else { return };
        let progress = &self.entries[slot as usize].progress;
        if progress.is_unconfirmed() && end.direction == Direction::Original {
            // The opener has never acknowledged: no better than a SYN that nobody answered. This recalls its flows.
            self.counters.expired += 1;
            return self.release(slot);
        }
        let direction = progress.direction(end.seen);
        self.set_offloaded(slot, direction, false);
        self.changes.push(Change::Recalled(*end));
    }

    /// A flow that is [beginning](Change::Beginning) passes unseen from its first packet on. Its connection counts as established:
    /// the opener's acknowledgement of the answer is among what nobody sees.
    pub fn begin_unseen(&mut self, now: Tick, end: &FlowEnd) {
        let probe = self.probe(end.endpoint, end.seen, &end.key);
        let Some(slot) = self.find(&probe) else { return self.changes.push(Change::Recalled(*end)) };
        let progress = &mut self.entries[slot as usize].progress;
        if progress.state() == State::Accepted {
            progress.confirm(false);
            self.enter(now, slot, State::Established);
        }
        let direction = self.entries[slot as usize].progress.direction(end.seen);
        self.set_offloaded(slot, direction, true);
    }

    /// An offer came to nothing: nobody was told of it.
    pub fn take_back(&mut self, end: &FlowEnd) {
        let probe = self.probe(end.endpoint, end.seen, &end.key);
        let Some(slot) = self.find(&probe) else { return };
        let direction = self.entries[slot as usize].progress.direction(end.seen);
        self.set_offloaded(slot, direction, false);
    }

    /// Remembers a connection that a former switch has allowed and the flow cache still forwards. It counts as judged at no
    /// generation, so it is judged before long. One that is known already stays as it is, but for what passed unseen; when there
    /// is no room, the flow is recalled.
    pub fn adopt_offloaded(&mut self, now: Tick, end: &FlowEnd, unseen: &Unseen) {
        let probe = self.probe(end.endpoint, end.seen, &end.key);
        if self.find(&probe).is_none() {
            if self.len() >= self.capacity() {
                return self.changes.push(Change::Recalled(*end));
            }
            let segment = (end.key.protocol == protocol::TCP).then(super::Segment::plain);
            let slot = self.open(now, &probe, &Packet { bytes: 0, segment }, end.direction, 0).slot;
            let entry = &mut self.entries[slot as usize];
            // The packet it was opened with was none.
            entry.packets = [0; 2];
            entry.last_seen = now.before(unseen.idle);
        }
        let Some((slot, _)) = self.account(now, end, unseen) else { return };
        let entry = &self.entries[slot as usize];
        // What the connection is known to be counts more than what the flow was written as.
        let direction = entry.progress.direction(end.seen);
        if direction == Direction::Reply
            && let Some(answered) = entry.state().answered()
        {
            self.enter(now, slot, answered);
        }
        self.set_offloaded(slot, direction, true);
    }

    /// Adds what passed unseen to the flow's connection. Returns its slot, and whether the flow may pass unseen.
    fn account(&mut self, now: Tick, end: &FlowEnd, unseen: &Unseen) -> Option<(u32, bool)> {
        let probe = self.probe(end.endpoint, end.seen, &end.key);
        let slot = self.find(&probe)?;
        let entry = &mut self.entries[slot as usize];
        let direction = entry.progress.direction(end.seen);
        entry.last_seen = entry.last_seen.max(now.before(unseen.idle));
        entry.packets[direction as usize] += unseen.packets;
        entry.bytes[direction as usize] += unseen.bytes;
        if direction == Direction::Original && unseen.packets > 0 {
            entry.progress.confirm(true);
        }
        Some((slot, entry.progress.is_offloaded_in(direction)))
    }

    /// Judges connections again that have flows which pass unseen, among those in a range of slots. `judge` gets the connection
    /// and says at which generation it is allowed; flows of one that is not are recalled.
    pub fn review(&mut self, now: Tick, slots: Range<usize>, mut judge: impl FnMut(&Flow) -> Option<u32>) {
        for slot in slots.start..slots.end.min(self.capacity()) {
            let entry = &self.entries[slot];
            if entry.key.is_free() || !entry.progress.is_offloaded() {
                continue;
            }
            match judge(&Flow::of(entry, now)) {
                Some(generation) => self.entries[slot].judged_at = generation,
                None => self.recall(slot as u32),
            }
        }
    }

    /// Lists the connection's flows that pass unseen to be taken back.
    #[cold]
    pub(super) fn recall(&mut self, slot: u32) {
        for direction in [Direction::Original, Direction::Reply] {
            let entry = &self.entries[slot as usize];
            if entry.progress.is_offloaded_in(direction) {
                let seen = entry.progress.side_of(direction);
                let (endpoint, key) = (entry.key.endpoint(), entry.key.flow(seen));
                self.changes.push(Change::Recalled(FlowEnd { endpoint, seen, key, direction }));
                self.set_offloaded(slot, direction, false);
            }
        }
    }

    /// To be called for an entry that enters a state: a connection that is over, or is opened anew in place of one that its opener
    /// has lost, has no business in the flow cache.
    #[inline]
    pub(super) fn recall_unless_settled(&mut self, slot: u32, state: State) {
        let settled = !state.is_tcp() || matches!(state, State::Established | State::HalfClosed);
        if !settled && self.entries[slot as usize].progress.is_offloaded() {
            self.recall(slot);
        }
    }

    fn set_offloaded(&mut self, slot: u32, direction: Direction, offloaded: bool) {
        let progress = &mut self.entries[slot as usize].progress;
        let before = progress.is_offloaded();
        progress.set_offloaded(direction, offloaded);
        match (before, progress.is_offloaded()) {
            (false, true) => self.offloaded += 1,
            (true, false) => self.offloaded -= 1,
            _ => {}
        }
    }
}

impl Known<'_> {
    /// True with some packets of a flow that the flow cache could forward and does not.
    #[inline]
    pub fn is_ripe(&self) -> bool {
        let entry = &self.table.entries[self.slot as usize];
        entry.packets[self.direction as usize].is_multiple_of(OFFER_EVERY) && self.can_be_offloaded()
    }

    fn can_be_offloaded(&self) -> bool {
        let entry = &self.table.entries[self.slot as usize];
        let settled = match entry.key.protocol() {
            protocol::TCP => entry.state() == State::Established,
            // Several packets one way are enough.
            protocol::UDP => true,
            _ => false,
        };
        // What comes by the host comes from another hop than its address says, so no flow of it can be written.
        settled && !entry.progress.is_offloaded_in(self.direction) && !entry.progress.is_by_host()
    }

    /// True for the answer to a SYN, if nothing else of the connection can be under way: the opener goes on once it has the answer,
    /// and the other end once that is acknowledged, as the SYN had no data.
    #[inline]
    pub fn is_beginning(&self) -> bool {
        let entry = &self.table.entries[self.slot as usize];
        entry.state() == State::Accepted
            && self.direction == Direction::Reply
            && entry.packets[Direction::Reply as usize] == 1
            && !entry.progress.has_early_data()
            && !entry.progress.is_by_host()
    }

    /// Both ways of the connection may pass unseen as soon as they begin.
    #[cold]
    pub fn begin(&mut self) {
        let reply = self.end();
        let original = FlowEnd {
            seen: reply.seen.opposite(),
            key: reply.key.reverse(),
            direction: Direction::Original,
            ..reply
        };
        self.table.changes.extend([original, reply].map(Change::Beginning));
    }

    /// From now on packets that go the packet's way may pass unseen: windows are not judged by, and FIN and reset are believed as
    /// they come.
    #[cold]
    pub fn offload(&mut self) {
        let end = self.end();
        self.table.set_offloaded(self.slot, self.direction, true);
        self.table.changes.push(Change::Offloaded(end));
    }

    /// The packet's flow, as its endpoint knows it.
    pub fn end(&self) -> FlowEnd {
        let entry = &self.table.entries[self.slot as usize];
        let seen = entry.progress.side_of(self.direction);
        let (endpoint, key) = (entry.key.endpoint(), entry.key.flow(seen));
        FlowEnd { endpoint, seen, key, direction: self.direction }
    }
}
