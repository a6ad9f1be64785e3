//! Watching ports that are not polled: an epoll set with every port of a worker that has a descriptor, and its bell.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// Tells the bell from the slots, which are numbered with 16 bits.
const BELL: u64 = u64::MAX;

/// Events taken from the kernel in one go. Level-triggered events that did not fit come first the next time.
const EVENTS: usize = 64;

/// The epoll set of a worker. Level-triggered, so that looking twice, or not at all for a while, loses nothing.
#[derive(Debug)]
pub(super) struct Watch {
    set: OwnedFd,
}

impl Watch {
    /// A set with the bell alone.
    pub(super) fn new(bell: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&set, bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        Ok(Self { set })
    }

    /// Adds the port in `slot`.
    pub(super) fn add(&self, slot: u16, port: BorrowedFd<'_>) -> rustix::io::Result<()> {
        epoll::add(&self.set, port, epoll::EventData::new_u64(u64::from(slot)), epoll::EventFlags::IN)
    }

    /// Takes a port out.
    pub(super) fn remove(&self, port: BorrowedFd<'_>) {
        // Fails only when it is not in.
        let _ = epoll::delete(&self.set, port);
    }

    /// Waits until something is readable, at most for `timeout`, and calls `ready` with the slots that are, at most a
    /// few dozen at a time. True when the bell rang.
    pub(super) fn wait(&self, timeout: Duration, mut ready: impl FnMut(u16)) -> bool {
        let timeout =
            Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        let mut events = [MaybeUninit::uninit(); EVENTS];
        // A signal ends the wait early, as the worker's tick does.
        let ready_now =
            epoll::wait(&self.set, &mut events, Some(&timeout)).map_or(&mut [][..], |(events, _)| events);
        let mut rung = false;
        for event in ready_now {
            match u16::try_from(event.data.u64()) {
                Ok(slot) => ready(slot),
                Err(_) => rung = true,
            }
        }
        rung
    }
}
