//! A worker's ports: all of them by slot, and the few that are worth polling.
//!
//! Looking at an idle ring costs a cache miss, and a node may have a thousand of them. So a port is polled only
//! while something came or left by it lately, or frames it sent are still out; all others are watched by epoll, which tells
//! of those with traffic at a price that does not depend on how many are silent.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use heddle_xsk::{Frame, HeldFrames, Pool};

use super::residents::Residents;
use super::slot::Slot;
use super::watch::Watch;
use crate::DropReason;
use crate::pipeline::Ingress;
use crate::ports::PortId;
use crate::stats::WorkerStats;

/// How long a port is polled after its last frame. Longer than a round trip on the node, so that an exchange of
/// requests and replies stays in the polled list.
const POLL_FOR: Duration = Duration::from_micros(200);

/// How often a working worker looks for traffic on the ports it does not poll: a system call of some hundred
/// nanoseconds, so a few per cent, against as much extra delay for the first packet after a silence.
const WATCH_EVERY: Duration = Duration::from_micros(10);

/// The ports of one worker.
pub(super) struct PortList {
    slots: Vec<Option<Slot>>,
    /// Slots of the ports that are polled, each once.
    polled: Vec<u16>,
    /// Slots with frames that wait to leave, each once.
    outgoing: Vec<u16>,
    /// Number of ports.
    count: usize,
    watch: Watch,
    next_watch: Instant,
}

impl PortList {
    pub(super) fn new(bell: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        Ok(Self {
            slots: Vec::new(),
            polled: Vec::new(),
            outgoing: Vec::new(),
            count: 0,
            watch: Watch::new(bell)?,
            next_watch: Instant::now(),
        })
    }

    /// Takes a port in, at its slot, which is free.
    pub(super) fn insert(&mut self, slot: Slot) -> rustix::io::Result<()> {
        let index = slot.id.slot;
        if let Some(fd) = slot.port.wait_fd() {
            self.watch.add(index, fd)?;
        }
        if self.slots.len() <= usize::from(index) {
            self.slots.resize_with(usize::from(index) + 1, || None);
        }
        debug_assert!(self.slots[usize::from(index)].is_none(), "slot {index} is taken");
        self.slots[usize::from(index)] = Some(slot);
        self.count += 1;
        self.poll(index);
        Ok(())
    }

    /// Sends what waits for the port and takes it out.
    pub(super) fn remove(&mut self, id: PortId, pool: &mut Pool, stats: &WorkerStats) -> Option<Slot> {
        let mut slot = self.slots.get_mut(usize::from(id.slot))?.take_if(|slot| slot.id == id)?;
        slot.send(pool, stats);
        slot.count_port_drops(stats);
        if let Some(fd) = slot.port.wait_fd() {
            self.watch.remove(fd);
        }
        self.polled.retain(|index| *index != id.slot);
        self.outgoing.retain(|index| *index != id.slot);
        self.count -= 1;
        Some(slot)
    }

    /// The ids of all ports.
    pub(super) fn ids(&self) -> Vec<PortId> {
        self.slots.iter().flatten().map(|slot| slot.id).collect()
    }

    /// What comes by the port with this id, if it is here.
    #[inline]
    pub(super) fn ingress(&self, id: PortId) -> Option<Ingress> {
        let slot = self.slots.get(usize::from(id.slot))?.as_ref()?;
        (slot.id == id).then_some(slot.ingress)
    }

    /// Who shares the worker's trunk, if it has one.
    pub(super) fn residents(&mut self) -> Option<&mut Residents> {
        let trunk = |slot: &&mut Slot| slot.ingress == Ingress::Trunk;
        self.slots.iter_mut().flatten().find(trunk).map(|slot| &mut slot.residents)
    }

    /// Number of ports.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Number of ports that are polled at the moment.
    pub(super) fn polled(&self) -> usize {
        self.polled.len()
    }

    /// The port at a place in the list of polled ports.
    #[inline]
    pub(super) fn polled_mut(&mut self, place: usize) -> Option<&mut Slot> {
        let index = *self.polled.get(place)?;
        self.slots.get_mut(usize::from(index))?.as_mut()
    }

    /// Lets `frame` leave by the port `id` at the next flush.
    #[inline]
    pub(super) fn enqueue(
        &mut self,
        id: PortId,
        frame: Frame,
        now: Instant,
        pool: &mut Pool,
        stats: &WorkerStats,
    ) {
        let slot = self.slots.get_mut(usize::from(id.slot)).and_then(|slot| slot.as_mut());
        // The serial tells the port the frame was meant for from the one that has its slot now.
        let Some(slot) = slot.filter(|slot| slot.id == id) else {
            stats.count_drops(DropReason::PortGone, 1);
            pool.put(frame);
            return;
        };
        if slot.outgoing.is_empty() {
            self.outgoing.push(id.slot);
        } else if slot.outgoing.is_full() {
            slot.send(pool, stats);
        }
        slot.outgoing.push(frame);
        slot.last_used = now;
        if !slot.polled {
            self.poll(id.slot);
        }
    }

    /// Sends what waits, one call a port.
    pub(super) fn flush(&mut self, pool: &mut Pool, stats: &WorkerStats) {
        for index in self.outgoing.drain(..) {
            if let Some(slot) = &mut self.slots[usize::from(index)] {
                slot.send(pool, stats);
            }
        }
    }

    /// Puts the port at `index` into the list of polled ports.
    fn poll(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)).and_then(|slot| slot.as_mut())
            && !slot.polled
        {
            slot.polled = true;
            self.polled.push(index);
        }
    }

    /// Stops polling ports that were silent for a while. Those without a descriptor cannot be watched and stay.
    pub(super) fn retire_silent(&mut self, now: Instant) {
        let slots = &mut self.slots;
        self.polled.retain(|index| {
            let Some(slot) = &mut slots[usize::from(*index)] else { return false };
            slot.polled = now.saturating_duration_since(slot.last_used) < POLL_FOR
                || slot.port.frames().sending > 0
                || slot.port.wait_fd().is_none();
            slot.polled
        });
    }

    /// Looks, from time to time, for traffic on the ports that are not polled.
    pub(super) fn look_around(&mut self, now: Instant) {
        if self.polled.len() < self.count && now >= self.next_watch {
            self.next_watch = now + WATCH_EVERY;
            self.wait(now, Duration::ZERO);
        }
    }

    /// Waits for traffic on any port or for the bell, and polls the ports that have some. True when the bell rang.
    pub(super) fn wait(&mut self, now: Instant, timeout: Duration) -> bool {
        let Self { slots, polled, watch, .. } = self;
        watch.wait(timeout, |index| {
            if let Some(slot) = slots.get_mut(usize::from(index)).and_then(|slot| slot.as_mut())
                && !slot.polled
            {
                // A grace: without it a port could be retired before it was looked at.
                slot.last_used = now;
                slot.polled = true;
                polled.push(index);
            }
        })
    }

    /// True when a polled port has received something. All others are in the epoll set, which is asked by sleeping.
    pub(super) fn has_received(&mut self) -> bool {
        let Self { slots, polled, .. } = self;
        polled
            .iter()
            .any(|index| slots[usize::from(*index)].as_mut().is_some_and(|slot| slot.port.has_received()))
    }

    /// True when some port can only be found by looking, not by sleeping.
    pub(super) fn has_unwatched(&self) -> bool {
        self.polled.iter().any(|index| {
            self.slots[usize::from(*index)].as_ref().is_some_and(|slot| slot.port.wait_fd().is_none())
        })
    }

    /// Adds up what the kernel dropped, for all ports: a system call each.
    pub(super) fn count_port_drops(&mut self, stats: &WorkerStats) {
        self.slots.iter_mut().flatten().for_each(|slot| slot.count_port_drops(stats));
    }

    /// Frames that all ports hold.
    pub(super) fn frames(&self) -> HeldFrames {
        self.slots.iter().flatten().map(|slot| slot.port.frames()).fold(HeldFrames::default(), |sum, one| {
            HeldFrames { receiving: sum.receiving + one.receiving, sending: sum.sending + one.sending }
        })
    }
}
