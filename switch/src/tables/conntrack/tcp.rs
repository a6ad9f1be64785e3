//! TCP (RFC 9293) as seen from the middle.
//!
//! The switch judges connections, it does not police TCP: whatever the ends will sort out among themselves is let
//! through without effect. Three things it must get right, also against somebody who forges segments without seeing the
//! connection: a reset or FIN from outside the window ends nothing, a SYN to a live connection replaces nothing, and a
//! connection that is over is not a pass for the next one on the same ports.
//!
//! Windows are tracked as far as that needs: the highest number each end has sent, has acknowledged, and has allowed the
//! other to send. For a reset that means RFC 5961, section 3.2: it ends the connection only with exactly the number
//! that is expected next; elsewhere in the window the receiver answers with a challenge, and the exact reset follows.

use super::key::Direction;
use super::progress::{Progress, Step, mark};
use super::segment::{Kind, MAX_SCALE, Segment, flags};
use super::state::State;
use super::track::Fault;

/// The window without scaling.
const MAX_WINDOW: u32 = 0xffff;

impl Progress {
    #[inline]
    pub(super) fn step_tcp(&mut self, from: Direction, segment: &Segment) -> Step {
        // What nearly all segments are, and nearly all that they can do: kept free of the rest of the machine.
        if segment.kind() == Kind::Data
            && !segment.has(flags::FIN)
            && self.state == State::Established
            && !self.is_offloaded()
        {
            if !self.fits(from, segment) {
                return Step::Ignore;
            }
            self.learn(from, segment);
            return Step::Stay;
        }
        self.step_rarely(from, segment)
    }

    #[inline(never)]
    fn step_rarely(&mut self, from: Direction, segment: &Segment) -> Step {
        match segment.kind() {
            Kind::Data => self.step_data(from, segment),
            Kind::Syn => self.step_syn(from, segment),
            Kind::SynAck => self.step_syn_ack(from, segment),
            Kind::Reset => self.step_reset(from, segment),
            Kind::Impossible => Step::Refuse(Fault::Flags),
        }
    }

    fn step_syn(&mut self, from: Direction, segment: &Segment) -> Step {
        let repeated = self.has(from, mark::KNOWN) && self.half(from).end == segment.after_syn();
        match (self.state, from) {
            (State::TimeWait | State::Reset, _) => Step::Reopen,
            (State::Opening | State::OpeningBoth | State::Accepted, _) if repeated => Step::Stay,
            (State::Opening, Direction::Reply) => {
                self.send_syn(from, segment);
                Step::Enter(State::OpeningBoth)
            }
            // Either the opener has lost the connection and starts anew, or somebody forges: the other end's answer
            // tells. It is the direction that policy allowed in any case.
            (_, Direction::Original) => {
                self.pending = segment.after_syn();
                Step::Ignore
            }
            // Letting this through would open a connection that nobody judged.
            (_, Direction::Reply) => Step::Refuse(Fault::Syn),
        }
    }

    fn step_syn_ack(&mut self, from: Direction, segment: &Segment) -> Step {
        if matches!(self.state, State::TimeWait | State::Reset) {
            return Step::Ignore;
        }
        let accepts_pending = self.pending != 0 && segment.acknowledgement == self.pending;
        if from == Direction::Reply && accepts_pending {
            self.restart(segment);
            return Step::Enter(State::Accepted);
        }
        if !self.is_opening() || !self.acknowledges_syn(from, segment) {
            return Step::Ignore;
        }
        if !self.has(from, mark::KNOWN) {
            self.send_syn(from, segment);
        } else if self.half(from).end != segment.after_syn() {
            return Step::Ignore;
        }
        let other = self.half(from.opposite());
        if other.end == segment.acknowledgement {
            self.unmark(mark::EARLY_DATA);
        } else {
            other.end = segment.acknowledgement;
        }
        self.learn_window(from, segment);
        match self.settle() {
            State::Opening => Step::Enter(State::Accepted),
            state if state == self.state => Step::Stay,
            state => Step::Enter(state),
        }
    }

    fn step_reset(&mut self, from: Direction, segment: &Segment) -> Step {
        let other = from.opposite();
        let (sent, told) = (self.halves[from as usize], self.halves[other as usize]);
        let next_here = self.has(from, mark::KNOWN) && segment.sequence == sent.end;
        match (self.state, from) {
            // RFC 1337: a late reset must not cut TIME-WAIT short.
            (State::TimeWait | State::Reset, _) => Step::Ignore,
            _ if self.is_offloaded() => Step::Enter(State::Reset),
            (State::Opening, Direction::Original) if next_here => Step::Enter(State::Reset),
            // The answer to an acknowledgement from an older connection (RFC 9293, section 3.5.1).
            (State::Opening, Direction::Original) => Step::Ignore,
            // RFC 9293, section 3.10.7.3: believed only if it acknowledges the SYN.
            (State::Opening, Direction::Reply) => {
                let for_pending = self.pending != 0 && segment.acknowledgement == self.pending;
                let believed = for_pending || self.acknowledges_syn(from, segment);
                if segment.has(flags::ACK) && believed {
                    Step::Enter(State::Reset)
                } else {
                    Step::Refuse(Fault::Reset)
                }
            }
            _ if next_here => Step::Enter(State::Reset),
            _ if self.has(other, mark::HEARD) => {
                if segment.sequence == told.acknowledged {
                    Step::Enter(State::Reset)
                } else if at_most(told.acknowledged, segment.sequence) && at_most(segment.sequence, told.edge)
                {
                    Step::Ignore
                } else {
                    Step::Refuse(Fault::Reset)
                }
            }
            _ if self.has(from, mark::KNOWN) => Step::Refuse(Fault::Reset),
            // Picked up on the way, and nothing has been seen that this could be compared with.
            _ => Step::Enter(State::Reset),
        }
    }

    fn step_data(&mut self, from: Direction, segment: &Segment) -> Step {
        match self.state {
            State::Opening | State::Reset => return Step::Ignore,
            State::TimeWait => return Step::Stay,
            _ if self.is_offloaded() => {}
            _ if self.is_premature(from) => return Step::Ignore,
            _ if !self.fits(from, segment) => return Step::Ignore,
            _ => self.learn(from, segment),
        }
        if from == Direction::Original {
            self.confirm(true);
        }
        if segment.has(flags::FIN) {
            self.mark(from, mark::FIN);
        }
        match self.settle() {
            state if state == self.state => Step::Stay,
            state => Step::Enter(state),
        }
    }

    /// Notes a SYN, with or without ACK.
    pub(super) fn send_syn(&mut self, from: Direction, segment: &Segment) {
        self.set_scale(from, segment.scale);
        self.mark(from, mark::KNOWN);
        // Data in the SYN is not counted until it is acknowledged.
        self.half(from).end = segment.after_syn();
        if segment.payload > 0 {
            self.mark(Direction::Original, mark::EARLY_DATA);
        }
    }

    /// Goes on from the middle of a connection whose beginning was not seen. The scales are unknown: assuming the
    /// largest takes a window for larger than it is, so that no honest segment falls out of it.
    pub(super) fn pick_up(&mut self, from: Direction, segment: &Segment) {
        self.set_scale(from, Some(MAX_SCALE));
        self.set_scale(from.opposite(), Some(MAX_SCALE));
        self.state = match segment.kind() {
            Kind::Reset => State::Reset,
            _ if segment.has(flags::FIN) => State::HalfClosed,
            _ => State::Established,
        };
        self.learn(from, segment);
        if segment.has(flags::FIN) {
            self.mark(from, mark::FIN);
        }
    }

    /// The other end has accepted the pending SYN.
    fn restart(&mut self, accepted: &Segment) {
        self.unmark(!0);
        *self.half(Direction::Original) = super::progress::Half::default();
        self.half(Direction::Original).end = self.pending;
        self.mark(Direction::Original, mark::KNOWN);
        // The option of the SYN was not kept; the answer has one only if the SYN had, and the largest does no harm.
        self.set_scale(Direction::Original, accepted.scale.map(|_| MAX_SCALE));
        self.pending = 0;
        self.send_syn(Direction::Reply, accepted);
        self.learn_window(Direction::Reply, accepted);
    }

    fn acknowledges_syn(&self, from: Direction, segment: &Segment) -> bool {
        let other = from.opposite();
        let beyond = segment.acknowledgement.wrapping_sub(self.halves[other as usize].end);
        let tolerated = if self.has_early_data() { MAX_WINDOW } else { 0 };
        self.has(other, mark::KNOWN) && beyond <= tolerated
    }

    /// True while the end that sends has not been answered: only early data lets it go on.
    #[inline]
    fn is_premature(&self, from: Direction) -> bool {
        self.is_opening() && !self.has_early_data() && !self.has(from.opposite(), mark::HEARD)
    }

    #[inline]
    pub(super) const fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening | State::OpeningBoth | State::Accepted)
    }

    /// True when the segment lies where the other end allows it, and acknowledges what the other end has sent.
    #[inline]
    fn fits(&self, from: Direction, segment: &Segment) -> bool {
        let other = from.opposite();
        let told = &self.halves[other as usize];
        // Old enough to be a late duplicate: more than a window back.
        let oldest = told.acknowledged.wrapping_sub(MAX_WINDOW << self.shift(other));
        let allowed = at_most(segment.sequence, told.edge) && at_most(oldest, segment.end());
        // A handshake takes no less than the exact number, or somebody who cannot see the answer could complete it.
        let outstanding =
            if self.is_opening() && !self.has_early_data() { 0 } else { MAX_WINDOW << self.shift(from) };
        let lowest = told.end.wrapping_sub(outstanding);
        let acknowledges =
            at_most(segment.acknowledgement, told.end) && at_most(lowest, segment.acknowledgement);
        (allowed || !self.has(other, mark::HEARD)) && (acknowledges || !self.has(other, mark::KNOWN))
    }

    #[inline]
    fn learn(&mut self, from: Direction, segment: &Segment) {
        let (known, closed) = (self.has(from, mark::KNOWN), self.has(from, mark::FIN));
        let half = self.half(from);
        // Nothing follows a FIN.
        if !known || (!closed && !at_most(segment.end(), half.end)) {
            half.end = segment.end();
        }
        self.mark(from, mark::KNOWN);
        if segment.has(flags::ACK) {
            self.learn_window(from, segment);
        }
    }

    #[inline]
    fn learn_window(&mut self, from: Direction, segment: &Segment) {
        // RFC 7323, section 2.2: the window of a segment with SYN is never scaled.
        let shift = if segment.has(flags::SYN) { 0 } else { self.shift(from) };
        let edge = segment.acknowledgement.wrapping_add(u32::from(segment.window) << shift);
        let heard = self.has(from, mark::HEARD);
        let half = self.half(from);
        if !heard || !at_most(segment.acknowledgement, half.acknowledged) {
            half.acknowledged = segment.acknowledgement;
        }
        if !heard || !at_most(edge, half.edge) {
            half.edge = edge;
        }
        self.mark(from, mark::HEARD);
    }

    /// The state that follows from what is known.
    #[inline]
    fn settle(&self) -> State {
        const BOTH: [Direction; 2] = [Direction::Original, Direction::Reply];
        if self.is_opening()
            && !BOTH.into_iter().all(|of| self.has(of, mark::KNOWN) && self.has(of, mark::HEARD))
        {
            return self.state;
        }
        match BOTH.map(|of| self.has(of, mark::FIN)) {
            [false, false] => State::Established,
            [true, true] if self.is_offloaded() || BOTH.into_iter().all(|of| self.is_acknowledged(of)) => {
                State::TimeWait
            }
            [true, true] => State::Closing,
            _ => State::HalfClosed,
        }
    }

    /// True when the other end has acknowledged all that this one has sent.
    fn is_acknowledged(&self, of: Direction) -> bool {
        let other = of.opposite();
        self.has(of, mark::KNOWN)
            && self.has(other, mark::HEARD)
            && at_most(self.halves[of as usize].end, self.halves[other as usize].acknowledged)
    }
}

/// `a <= b` in sequence space (RFC 9293, section 3.4).
#[inline]
const fn at_most(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).cast_signed() >= 0
}
