//! Waking a sleeping worker, and only a sleeping one.
//!
//! A worker that polls sees new work by itself; ringing its eventfd then would cost a system call for nothing. So it
//! says when it goes to sleep, and whoever makes work for it looks there first. The danger is the worker
//! that looks for work, finds none, and sleeps just when the work arrives. Both sides write before they look:
//!
//! ```text
//! worker:  asleep = true; fence; look for work; none → sleep
//! waker:   make work;     fence; look at asleep; true → ring
//! ```
//!
//! The two fences are in one total order. If the worker's is first, the waker sees `asleep`; if the waker's is first, the
//! worker sees the work. Either suffices. The ring itself stays readable until it is read, so it cannot be missed by
//! being early.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc as StdArc;

use rustix::event::{EventfdFlags, eventfd};

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};

/// What wakes a sleeper.
pub(super) trait Bell {
    /// Wakes whoever sleeps on it, or the next who wants to.
    fn ring(&self);
}

/// An eventfd, readable once rung.
#[derive(Debug)]
pub(super) struct EventFd(OwnedFd);

impl EventFd {
    pub(super) fn new() -> rustix::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it quiet again.
    pub(super) fn silence(&self) {
        // Fails only when it is quiet already.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl Bell for EventFd {
    fn ring(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

struct Shared<B> {
    asleep: AtomicBool,
    bell: B,
}

/// For those who make work for a worker.
pub(super) struct Waker<B = EventFd>(StdArc<Shared<B>>);

impl<B> Clone for Waker<B> {
    fn clone(&self) -> Self {
        Self(StdArc::clone(&self.0))
    }
}

impl<B: Bell> Waker<B> {
    /// Call this once the work can be seen by the worker.
    #[inline]
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        // The plain look first keeps the line shared while the worker is awake; the exchange lets one of many ring.
        if self.0.asleep.load(Ordering::Relaxed) && self.0.asleep.swap(false, Ordering::Relaxed) {
            self.0.bell.ring();
        }
    }
}

/// The worker's side.
pub(super) struct Sleeper<B = EventFd>(StdArc<Shared<B>>);

impl<B> Sleeper<B> {
    pub(super) fn new(bell: B) -> Self {
        Self(StdArc::new(Shared { asleep: AtomicBool::new(false), bell }))
    }

    pub(super) fn waker(&self) -> Waker<B> {
        Waker(StdArc::clone(&self.0))
    }

    pub(super) fn bell(&self) -> &B {
        &self.0.bell
    }

    /// Announces sleep. Afterwards look for work once more, and then sleep on the bell, or disarm.
    pub(super) fn arm(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker polls again. A ring that is under way can still come; it costs the next sleep one early end.
    pub(super) fn disarm(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    //! In every interleaving a sleeper wakes for the work: a lost wake-up would be a deadlock, which loom reports.
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::*;

    #[derive(Default)]
    struct Gong {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell for Gong {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    impl Gong {
        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// Works until `expected` pieces of work were seen, sleeping whenever there is none.
    fn work(sleeper: &Sleeper<Gong>, made: &AtomicUsize, expected: usize) {
        while made.load(Ordering::Relaxed) < expected {
            sleeper.arm();
            if made.load(Ordering::Relaxed) < expected {
                sleeper.bell().wait();
            }
            sleeper.disarm();
        }
    }

    fn model(makers: usize, pieces: usize) {
        loom::model(move || {
            let sleeper = Sleeper::new(Gong::default());
            let made = Arc::new(AtomicUsize::new(0));
            let makers: Vec<_> = (0..makers)
                .map(|_| {
                    let (waker, made) = (sleeper.waker(), Arc::clone(&made));
                    thread::spawn(move || {
                        for _ in 0..pieces {
                            made.fetch_add(1, Ordering::Relaxed);
                            waker.wake();
                        }
                    })
                })
                .collect();
            work(&sleeper, &made, makers.len() * pieces);
            makers.into_iter().for_each(|maker| maker.join().unwrap());
        });
    }

    #[test]
    fn one_waker_twice() {
        model(1, 2);
    }

    #[test]
    fn two_wakers() {
        model(2, 1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! The bell rings for sleepers only, once.
    use super::*;

    fn rung(sleeper: &Sleeper) -> bool {
        rustix::io::read(sleeper.bell(), &mut [0; 8]).is_ok()
    }

    #[test]
    fn a_worker_that_polls_is_left_alone() {
        let sleeper = Sleeper::new(EventFd::new().unwrap());
        sleeper.waker().wake();
        assert!(!rung(&sleeper));
    }

    #[test]
    fn a_sleeper_is_rung_once() {
        let sleeper = Sleeper::new(EventFd::new().unwrap());
        let waker = sleeper.waker();
        sleeper.arm();
        waker.wake();
        assert!(rung(&sleeper));
        waker.wake();
        assert!(!rung(&sleeper));
        sleeper.disarm();
    }
}
