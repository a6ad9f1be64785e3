//! A packet meets its connection.

use super::super::EndpointNumber;
use super::flows::Flow;
use super::key::{Direction, FlowKey, Role, Side};
use super::progress::{Progress, Step};
use super::segment::{Kind, Segment};
use super::state::State;
use super::table::{Connections, Probe};
use super::tick::Tick;
use crate::wire::protocol;

/// What a connection learns from a packet, beside its key.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Length that its connection's totals grow by.
    pub bytes: u32,
    /// Its header, if it is TCP.
    pub segment: Option<Segment>,
}

/// What connection tracking says of a packet.
#[derive(Debug)]
pub enum Outcome<'t> {
    /// It belongs to a connection that was allowed.
    Known(Known<'t>),
    /// It opens a connection: policy decides, and what is allowed is [opened](Connections::open).
    New,
    /// No connection, and it cannot open one: TCP without SYN, or the answer to a query nobody sent. The caller decides.
    /// After a restart it may belong to a connection that was allowed before; to go on with it, find out who opened it, judge
    /// it as an original packet or as a reply, and open it in that direction.
    Stray,
    /// It cannot belong to its connection and would harm it, or its flags are impossible.
    Refused(Fault),
}

/// Why a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fault {
    /// TCP flags that no sender combines.
    Flags,
    /// A SYN towards the opener of a live connection.
    Syn,
    /// A reset outside the window.
    Reset,
}

/// A connection found, and the way the packet goes in it. Only a reference: what it stands for can change once it is gone.
#[derive(Debug)]
pub struct Known<'t> {
    pub(super) table: &'t mut Connections,
    pub(super) slot: u32,
    pub(super) direction: Direction,
}

impl Connections {
    /// Finds the packet's connection and takes note of the packet.
    #[inline]
    pub fn track(&mut self, now: Tick, probe: &Probe, packet: &Packet) -> Outcome<'_> {
        let Some(slot) = self.find_live(now, probe) else { return self.track_without(probe, packet) };
        let entry = &mut self.entries[slot as usize];
        let direction = entry.progress.direction(probe.seen);
        let step = entry.progress.step(direction, packet);
        match step {
            Step::Reopen => return Outcome::New,
            Step::Refuse(fault) => return self.refuse(fault),
            Step::Ignore => self.counters.ignored += 1,
            Step::Stay | Step::Enter(_) => entry.last_seen = now,
        }
        entry.count(direction, packet.bytes);
        if let Step::Enter(state) = step {
            self.enter(now, slot, state);
        }
        Outcome::Known(Known { table: self, slot, direction })
    }

    /// Remembers a connection that policy allowed at `judged_at`, with this packet as its first. `direction` is how the
    /// packet goes in it: [`Direction::Original`], unless a [stray](Outcome::Stray) packet was allowed as a reply.
    ///
    /// Room is made when there is none. A connection that was over on the same key is replaced.
    pub fn open(
        &mut self,
        now: Tick,
        probe: &Probe,
        packet: &Packet,
        direction: Direction,
        judged_at: u32,
    ) -> Known<'_> {
        if let Some(slot) = self.find(probe) {
            self.counters.reopened += 1;
            self.release(slot);
        }
        self.make_room(now);
        let opened = match direction {
            Direction::Original => probe.seen,
            Direction::Reply => probe.seen.opposite(),
        };
        let progress = Progress::start(probe.key.protocol(), opened, direction, packet);
        let slot = self.occupy(now, probe, judged_at, progress);
        self.entries[slot as usize].count(direction, packet.bytes);
        self.counters.opened += 1;
        Known { table: self, slot, direction }
    }

    /// The connection that an ICMP error is about. `seen` is where the error was seen; `inner` is the key of the packet
    /// that it quotes, which went the other way: an error that enters an endpoint quotes what has left it.
    ///
    /// The direction of the answer is that of the quoted packet. Errors count for nothing in the connection: they neither
    /// keep it alive nor end it.
    pub fn related(
        &mut self,
        now: Tick,
        endpoint: EndpointNumber,
        seen: Side,
        inner: &FlowKey,
    ) -> Option<Known<'_>> {
        let probe = self.probe(endpoint, seen.opposite(), inner);
        let slot = self.find_live(now, &probe)?;
        let direction = self.entries[slot as usize].progress.direction(probe.seen);
        Some(Known { table: self, slot, direction })
    }

    fn track_without(&mut self, probe: &Probe, packet: &Packet) -> Outcome<'_> {
        if probe.key.protocol() != protocol::TCP {
            let is_answer = probe.key.flow(probe.seen).role == Role::Answer;
            return if is_answer { Outcome::Stray } else { Outcome::New };
        }
        match packet.segment.map(|segment| segment.kind()) {
            Some(Kind::Syn) => Outcome::New,
            Some(Kind::Impossible) => self.refuse(Fault::Flags),
            _ => Outcome::Stray,
        }
    }

    fn refuse(&mut self, fault: Fault) -> Outcome<'_> {
        self.counters.refused[fault as usize] += 1;
        Outcome::Refused(fault)
    }
}

impl Known<'_> {
    /// The way the packet goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// How far the connection has got.
    pub fn state(&self) -> State {
        self.table.entries[self.slot as usize].state()
    }

    /// The side of the endpoint whose policy allowed it: where its first packet was seen.
    pub fn side(&self) -> Side {
        self.table.entries[self.slot as usize].progress.opened()
    }

    /// The policy generation at which it was allowed. Another one than the endpoint's means: judge again.
    #[inline]
    pub fn judged_at(&self) -> u32 {
        self.table.entries[self.slot as usize].judged_at
    }

    /// It was judged again and is still allowed.
    pub fn set_judged(&mut self, generation: u32) {
        self.table.entries[self.slot as usize].judged_at = generation;
    }

    /// The host forwards the connection to the endpoint, from somebody who is elsewhere: what the endpoint answers goes back by
    /// the host, which has translated what it answers to.
    pub fn set_by_host(&mut self) {
        self.table.entries[self.slot as usize].progress.set_by_host();
    }

    /// See [`set_by_host`](Self::set_by_host).
    #[inline]
    pub fn is_by_host(&self) -> bool {
        self.table.entries[self.slot as usize].progress.is_by_host()
    }

    /// All about it.
    pub fn flow(&self, now: Tick) -> Flow {
        Flow::of(&self.table.entries[self.slot as usize], now)
    }
}
