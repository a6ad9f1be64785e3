//! What the packets of a connection have told about it so far.

use super::key::{Direction, Side};
use super::segment::Kind;
use super::state::State;
use super::track::{Fault, Packet};
use crate::wire::protocol;

/// State of a connection of any protocol, and the windows of a TCP connection. The steps of TCP are in `tcp`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// What each end has sent and promised, by direction.
    pub(super) halves: [Half; 2],
    /// The end of a SYN that was let through to a connection that was already there: the opener may have lost the
    /// connection and start anew, which shows when the other end accepts this very SYN. 0 for none.
    pub(super) pending: u32,
    pub(super) state: State,
    /// Bits of [`end`].
    ends: u8,
    /// The window scale of each direction, four bits each.
    scales: u8,
    /// Bits of [`mark`].
    marks: u8,
}

/// One end of a TCP connection, as its segments have shown it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Half {
    /// The highest sequence number it has sent, plus one. Meant once [`mark::KNOWN`].
    pub(super) end: u32,
    /// The highest number it has acknowledged. Meant once [`mark::HEARD`], as `edge`.
    pub(super) acknowledged: u32,
    /// The right edge of the window it has promised: the other end may send up to here.
    pub(super) edge: u32,
}

/// What is known of a TCP connection. The first three are per direction.
pub(super) mod mark {
    /// It has sent a sequence number.
    pub(in super::super) const KNOWN: u8 = 1 << 0;
    /// It has acknowledged something, and so promised a window.
    pub(in super::super) const HEARD: u8 = 1 << 2;
    /// It has sent FIN.
    pub(in super::super) const FIN: u8 = 1 << 4;
    /// The SYN carried data, and the other end has not declined it (RFC 7413).
    pub(in super::super) const EARLY_DATA: u8 = 1 << 6;
    /// Counted as established with the answer to its SYN, because what follows passes unseen: the opener has not been heard of
    /// since.
    pub(in super::super) const UNCONFIRMED: u8 = 1 << 7;
}

/// Where the connection was opened, and what of it passes unseen.
mod end {
    /// The first packet was seen entering the endpoint; else leaving it.
    pub(super) const OPENED_ON_INGRESS: u8 = 1 << 0;
    /// Packets of a direction may pass without being seen here, so what is known of the windows is out of date. Per direction.
    pub(super) const OFFLOADED: u8 = 1 << 1;
    /// See [`Known::set_by_host`](super::super::Known::set_by_host). OFFLOADED takes two bits.
    pub(super) const BY_HOST: u8 = 1 << 3;
}

/// The scale of an end that sent no window scale option.
const NO_SCALE: u8 = 0xf;

/// What a packet does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Belongs to it.
    Stay,
    /// Is let through, but is no sign of life: it lies outside the window, or is an echo of the past.
    Ignore,
    /// Belongs to it and takes it to another state.
    Enter(State),
    /// Opens a connection in place of this one, which is over.
    Reopen,
    /// Cannot belong to it.
    Refuse(Fault),
}

impl Progress {
    pub(super) const fn without_handshake(state: State, opened: Side) -> Self {
        let half = Half { end: 0, acknowledged: 0, edge: 0 };
        let ends = match opened {
            Side::Egress => 0,
            Side::Ingress => end::OPENED_ON_INGRESS,
        };
        Self { halves: [half; 2], pending: 0, state, ends, scales: NO_SCALE << 4 | NO_SCALE, marks: 0 }
    }

    /// A connection whose first packet here is this one, going in direction `from` of it.
    pub(super) fn start(number: u8, opened: Side, from: Direction, packet: &Packet) -> Self {
        match &packet.segment {
            Some(segment) if number == protocol::TCP => {
                let mut progress = Self::without_handshake(State::Opening, opened);
                match segment.kind() {
                    Kind::Syn => progress.send_syn(from, segment),
                    _ => progress.pick_up(from, segment),
                }
                progress
            }
            _ => Self::without_handshake(State::unanswered(number), opened),
        }
    }

    /// Takes one packet seen on the given side, going in direction `from`.
    #[inline]
    pub(super) fn step(&mut self, from: Direction, packet: &Packet) -> Step {
        if self.state.is_tcp() {
            return packet.segment.as_ref().map_or(Step::Ignore, |segment| self.step_tcp(from, segment));
        }
        match (from, self.state.answered()) {
            (Direction::Reply, Some(answered)) => Step::Enter(answered),
            _ => Step::Stay,
        }
    }

    #[inline]
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The side on which its first packet was seen.
    #[inline]
    pub(super) fn opened(&self) -> Side {
        if self.ends & end::OPENED_ON_INGRESS == 0 { Side::Egress } else { Side::Ingress }
    }

    /// Which way a packet goes that is seen on the given side.
    #[inline]
    pub(super) fn direction(&self, seen: Side) -> Direction {
        if seen == self.opened() { Direction::Original } else { Direction::Reply }
    }

    /// Where packets of a direction are seen.
    #[inline]
    pub(super) fn side_of(&self, direction: Direction) -> Side {
        match direction {
            Direction::Original => self.opened(),
            Direction::Reply => self.opened().opposite(),
        }
    }

    #[inline]
    pub(super) fn half(&mut self, of: Direction) -> &mut Half {
        &mut self.halves[of as usize]
    }

    #[inline]
    pub(super) const fn has(&self, of: Direction, mark: u8) -> bool {
        self.marks & mark << of as u8 != 0
    }

    #[inline]
    pub(super) const fn mark(&mut self, of: Direction, mark: u8) {
        self.marks |= mark << of as u8;
    }

    /// Takes marks of both directions away.
    pub(super) const fn unmark(&mut self, marks: u8) {
        self.marks &= !marks;
    }

    pub(super) const fn set_scale(&mut self, of: Direction, scale: Option<u8>) {
        let scale = match scale {
            Some(scale) => scale,
            None => NO_SCALE,
        };
        let shift = 4 * of as u8;
        self.scales = self.scales & !(0xf << shift) | scale << shift;
    }

    /// By how much the window field of one end is shifted: by nothing unless both sent the option (RFC 7323, section
    /// 2.2).
    #[inline]
    pub(super) const fn shift(&self, of: Direction) -> u32 {
        let (low, high) = (self.scales & 0xf, self.scales >> 4);
        if low == NO_SCALE || high == NO_SCALE { 0 } else { (self.scales >> (4 * of as u8) & 0xf) as u32 }
    }

    /// Whether packets of a direction pass unseen from now on. When none do any more, the windows are learned afresh; those of a
    /// connection that is just being opened anew are of its own handshake.
    pub(super) const fn set_offloaded(&mut self, of: Direction, offloaded: bool) {
        let before = self.is_offloaded();
        if offloaded {
            self.ends |= end::OFFLOADED << of as u8;
        } else {
            self.ends &= !(end::OFFLOADED << of as u8);
        }
        if before && !self.is_offloaded() && !self.is_opening() {
            self.unmark(!(mark::FIN | mark::FIN << 1));
        }
    }

    #[inline]
    pub(super) const fn is_offloaded(&self) -> bool {
        self.ends & (end::OFFLOADED | end::OFFLOADED << 1) != 0
    }

    /// Whether the opener has been heard of since the answer to its SYN.
    pub(super) const fn confirm(&mut self, confirmed: bool) {
        if confirmed {
            self.marks &= !mark::UNCONFIRMED;
        } else {
            self.marks |= mark::UNCONFIRMED;
        }
    }

    pub(super) const fn is_unconfirmed(&self) -> bool {
        self.marks & mark::UNCONFIRMED != 0
    }

    #[inline]
    pub(super) const fn is_offloaded_in(&self, direction: Direction) -> bool {
        self.ends & end::OFFLOADED << direction as u8 != 0
    }

    pub(super) const fn set_by_host(&mut self) {
        self.ends |= end::BY_HOST;
    }

    #[inline]
    pub(super) const fn is_by_host(&self) -> bool {
        self.ends & end::BY_HOST != 0
    }

    #[inline]
    pub(super) const fn has_early_data(&self) -> bool {
        self.marks & mark::EARLY_DATA != 0
    }
}
