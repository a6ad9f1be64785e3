//! A worker: one thread that owns ports and moves the frames that come by them.
//!
//! Everything a worker touches on a packet's way is its own: its ports, its pool of frames, its counters, its end of the
//! rings to the other workers. The control thread reaches it only by commands and by published [`Tables`].

mod command;
mod crew;
mod forwarder;
mod handoff;
mod idle;
mod port_list;
mod residents;
mod slot;
mod wake;
mod watch;

#[cfg(all(test, not(loom)))]
mod tests;

use std::sync::{Arc, Barrier};
use std::time::Instant;

use crossbeam::channel::Receiver;

use crate::stats::WorkerStats;
use crate::tables::Tables;
use crate::tables::publish::Reader;
use command::Command;
pub use command::Report;
pub use crew::{Crew, CrewError, Plan, TICK};
use forwarder::Forwarder;
use idle::{Idle, Next};
use wake::Sleeper;

/// One worker, to be run on a thread of its own.
struct Worker {
    commands: Receiver<Command>,
    tables: Reader<Tables>,
    forwarder: Forwarder,
    idle: Idle,
    sleeper: Sleeper,
    stats: Arc<WorkerStats>,
    /// Where all workers meet at the end, when none of them sends to another any more.
    last_round: Arc<Barrier>,
}

impl Worker {
    /// Moves frames until told to stop.
    fn run(mut self) {
        while self.obey() {
            let now = Instant::now();
            let moved = self.forwarder.round(now, self.tables.refresh());
            match self.idle.after(moved, now) {
                Next::Poll => {}
                Next::Yield => {
                    let given = Instant::now();
                    std::thread::yield_now();
                    self.idle.yielded(given.elapsed());
                }
                Next::Spin => std::hint::spin_loop(),
                Next::Sleep => self.sleep(),
            }
        }
        self.forwarder.stop_sending();
        self.last_round.wait();
        self.forwarder.put_away();
    }

    /// Carries out what control asked for. False when it asked to stop.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Attach(attach) => self.forwarder.attach(attach),
                Command::Detach(detach) => self.forwarder.detach(detach),
                Command::Settle(settle) => self.forwarder.settle(settle),
                Command::Map(map, done) => {
                    self.forwarder.set_map(map);
                    done.answer(());
                }
                Command::Leave(number, done) => {
                    self.forwarder.leave(number);
                    done.answer(());
                }
                Command::Flows(slots, done) => done.answer(self.forwarder.flows(slots)),
                Command::Report(done) => done.answer(self.forwarder.report()),
                Command::Stop => return false,
            }
        }
        true
    }

    /// Sleeps until a port has something, somebody rings, or the next tick is due.
    fn sleep(&mut self) {
        self.tables.park();
        self.sleeper.arm();
        // From here on whoever makes work rings, so what is looked at now cannot be missed.
        if self.commands.is_empty() && !self.forwarder.has_work() {
            self.stats.sleeps.add(1);
            if self.forwarder.wait() {
                self.sleeper.bell().silence();
            }
        }
        self.sleeper.disarm();
        self.idle.woken();
    }
}
