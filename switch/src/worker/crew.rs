//! All workers, as the control thread sees them.

use std::os::fd::AsFd;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use core_affinity::CoreId;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use heddle_xsk::{Arena, Pool};

use super::Worker;
use super::command::{Answer, Attach, Command, Detach, Report, Settle};
use super::forwarder::Forwarder;
use super::handoff::{self, Handoff};
use super::idle::Idle;
use super::wake::{EventFd, Sleeper, Waker};
use crate::config::{Polling, WorkersConfig};
use crate::flow_cache::{FlowMap, Link};
use crate::pipeline::{Ingress, Pipeline};
use crate::ports::{Port, PortId};
use crate::stats::{PortStats, WorkerStats};
use crate::tables::conntrack::Flow;
use crate::tables::publish::Reader;
use crate::tables::{EndpointNumber, Tables};

/// A worker answers between two rounds, which take microseconds. One that does not within this time hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Often enough for the age of connections and for drops that only the kernel knows of, and next to nothing for an idle
/// node: ten wake-ups a second.
pub const TICK: Duration = Duration::from_millis(100);

/// Slots of the connection table that a worker looks through between two rounds: some tens of microseconds.
const FLOWS_AT_ONCE: usize = 2048;

/// Exit code of a daemon whose worker died: `EX_SOFTWARE` of sysexits.h.
const EXIT_SOFTWARE: i32 = 70;

/// Why workers cannot be started or do not do as they are told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrewError {
    /// `workers.cores` names a core this process may not run on.
    #[error("workers.cores: there is no core {core} to run on; write some of: {available}")]
    NoSuchCore {
        /// The core.
        core: usize,
        /// Those there are.
        available: String,
    },
    /// The system is out of threads or descriptors.
    #[error("cannot start worker {worker}: {error}; raise the limits on open files and tasks")]
    Start {
        /// Index of the worker.
        worker: usize,
        /// What the system says.
        error: std::io::Error,
    },
    /// It hangs.
    #[error(
        "worker {0} does not answer within {PATIENCE:?}; restart heddle-switch and report this with its log"
    )]
    Silent(u16),
    /// The kernel does not let the port be watched.
    #[error("cannot watch the port: {0}; raise the limit on open files")]
    Watch(rustix::io::Errno),
    /// All slots are taken.
    #[error("worker {0} has no slot left for another port; raise workers.count")]
    Full(u16),
}

/// What the workers are to be.
pub struct Plan<'a> {
    /// Their number, cores and manners.
    pub config: &'a WorkersConfig,
    /// Where their frames come from.
    pub arena: &'a Arc<Arena>,
    /// The tables, one reader each.
    pub readers: Vec<Reader<Tables>>,
    /// Lines to the flow cache, one each; none where there is no flow cache.
    pub links: Vec<Link>,
    /// How often workers look after what nobody rings for: [`TICK`].
    pub tick: Duration,
}

/// The threads that move frames, with the ports they own.
pub struct Crew {
    members: Vec<Member>,
    polling: Polling,
    next_serial: u32,
}

struct Member {
    commands: Sender<Command>,
    waker: Waker,
    stats: Arc<WorkerStats>,
    core: Option<usize>,
    /// Slots in use.
    slots: Vec<bool>,
    thread: JoinHandle<()>,
}

impl Crew {
    /// Starts the workers.
    pub fn start(plan: Plan<'_>) -> Result<Self, CrewError> {
        check_cores(&plan.config.cores)?;
        let bell = |worker| EventFd::new().map_err(|errno| CrewError::Start { worker, error: errno.into() });
        let sleepers = (0..plan.readers.len())
            .map(|worker| bell(worker).map(Sleeper::new))
            .collect::<Result<Vec<_>, _>>()?;
        let wakers: Vec<_> = sleepers.iter().map(Sleeper::waker).collect();
        let last_round = Arc::new(Barrier::new(wakers.len()));
        let parts = plan.readers.into_iter().zip(sleepers).zip(handoff::connect(&wakers)).zip(wakers);
        let mut members = Vec::new();
        let mut links = plan.links.into_iter();
        for (index, (((tables, sleeper), handoff), waker)) in parts.enumerate() {
            let seat = Seat {
                index,
                core: plan.config.cores.get(index).copied(),
                polling: plan.config.polling,
                connections: plan.config.connections as usize,
                tick: plan.tick,
                pool: Pool::new(Arc::clone(plan.arena)),
                tables,
                sleeper,
                handoff,
                link: links.next(),
                last_round: Arc::clone(&last_round),
            };
            members.push(seat.start(waker).map_err(|error| CrewError::Start { worker: index, error })?);
        }
        Ok(Self { members, polling: plan.config.polling, next_serial: 0 })
    }

    /// Number of workers.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What the workers do when there is no work.
    pub fn polling(&self) -> Polling {
        self.polling
    }

    /// The core a worker is pinned to.
    pub fn core(&self, worker: usize) -> Option<usize> {
        self.members.get(worker)?.core
    }

    /// The counters of every worker.
    pub fn stats(&self) -> impl Iterator<Item = &Arc<WorkerStats>> {
        self.members.iter().map(|member| &member.stats)
    }

    /// The worker with the fewest ports.
    pub fn least_loaded(&self) -> u16 {
        let load = |member: &Member| member.slots.iter().filter(|taken| **taken).count();
        (0u16..).zip(&self.members).min_by_key(|(_, member)| load(member)).map_or(0, |(index, _)| index)
    }

    /// Gives a port to a worker, which polls it once this returns.
    pub fn attach(
        &mut self,
        worker: u16,
        ingress: Ingress,
        port: Box<dyn Port>,
        stats: Arc<PortStats>,
    ) -> Result<PortId, CrewError> {
        let member = &mut self.members[usize::from(worker)];
        let free = member.slots.iter().position(|taken| !taken).unwrap_or(member.slots.len());
        let slot = u16::try_from(free).map_err(|_| CrewError::Full(worker))?;
        let id = PortId { worker, slot, serial: self.next_serial };
        let attach = |done| Command::Attach(Attach { id, ingress, port, stats, done });
        wait(worker, &member.ask(attach))?.map_err(CrewError::Watch)?;
        self.next_serial += 1;
        member.slots.resize(member.slots.len().max(free + 1), false);
        member.slots[free] = true;
        Ok(id)
    }

    /// Takes a port back. `None` when it is gone already. What was on its way to it is sent or counted as dropped.
    pub fn detach(&mut self, id: PortId) -> Result<Option<Box<dyn Port>>, CrewError> {
        let member = &mut self.members[usize::from(id.worker)];
        let port = wait(id.worker, &member.ask(|done| Command::Detach(Detach { id, done })))?;
        if port.is_some() {
            member.slots[usize::from(id.slot)] = false;
        }
        Ok(port)
    }

    /// Gives a worker the flow cache's map, for flows that begin.
    pub fn give_map(&self, worker: u16, map: Box<dyn FlowMap>) -> Result<(), CrewError> {
        self.call(worker, |done| Command::Map(map, done))
    }

    /// Lets an endpoint share a worker's trunk.
    pub fn settle(
        &self,
        worker: u16,
        number: EndpointNumber,
        stats: Arc<PortStats>,
    ) -> Result<(), CrewError> {
        self.call(worker, |done| Command::Settle(Settle { number, stats, done }))
    }

    /// Takes an endpoint off a worker's trunk.
    pub fn leave(&self, worker: u16, number: EndpointNumber) -> Result<(), CrewError> {
        self.call(worker, |done| Command::Leave(number, done))
    }

    /// Asks a worker for something and waits for its answer.
    fn call<T>(&self, worker: u16, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, CrewError> {
        wait(worker, &self.members[usize::from(worker)].ask(command))
    }

    /// Wakes all workers, for what they look after by themselves.
    pub fn wake(&self) {
        self.members.iter().for_each(|member| member.waker.wake());
    }

    /// Where the frames are, by worker. The workers answer one after the other, so frames that travel between them
    /// meanwhile may be missing or count twice.
    pub fn reports(&self) -> Result<Vec<Report>, CrewError> {
        let answers: Vec<_> = self.members.iter().map(|member| member.ask(Command::Report)).collect();
        (0u16..).zip(answers).map(|(worker, answer)| wait(worker, &answer)).collect()
    }

    /// The connections of all workers, asked for a few at a time so that packets do not wait for it. Those that come
    /// or go meanwhile may be in it or not; those that stay are.
    pub fn flows(&self) -> Result<Vec<Flow>, CrewError> {
        let mut flows = Vec::new();
        for (worker, member) in (0u16..).zip(&self.members) {
            let mut slots = 0..FLOWS_AT_ONCE;
            loop {
                let part = wait(worker, &member.ask(|done| Command::Flows(slots.clone(), done)))?;
                flows.extend(part.flows);
                if slots.end >= part.capacity {
                    break;
                }
                slots = slots.end..slots.end + FLOWS_AT_ONCE;
            }
        }
        Ok(flows)
    }

    /// Ends all workers, and closes their ports.
    pub fn stop(self) {
        for member in &self.members {
            member.tell(Command::Stop);
        }
        for member in self.members {
            // A worker that panicked has ended the process.
            let _ = member.thread.join();
        }
    }
}

impl Member {
    /// Asks for something; the answer comes where this returns.
    fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Receiver<T> {
        let (done, answer) = bounded(1);
        self.tell(command(Answer::new(done)));
        answer
    }

    fn tell(&self, command: Command) {
        // Fails only when the worker is gone, and then the process is about to end.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

fn wait<T>(worker: u16, answer: &Receiver<T>) -> Result<T, CrewError> {
    answer.recv_timeout(PATIENCE).map_err(|_| CrewError::Silent(worker))
}

fn check_cores(cores: &[usize]) -> Result<(), CrewError> {
    let available: Vec<_> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    match cores.iter().find(|core| !available.contains(core)) {
        None => Ok(()),
        Some(core) => Err(CrewError::NoSuchCore {
            core: *core,
            available: available.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// What one worker is made of.
struct Seat {
    index: usize,
    core: Option<usize>,
    polling: Polling,
    connections: usize,
    tick: Duration,
    pool: Pool,
    tables: Reader<Tables>,
    sleeper: Sleeper,
    handoff: Handoff,
    link: Option<Link>,
    last_round: Arc<Barrier>,
}

impl Seat {
    fn start(self, waker: Waker) -> std::io::Result<Member> {
        let Self {
            index,
            core,
            polling,
            connections,
            tick,
            pool,
            tables,
            sleeper,
            handoff,
            link,
            last_round,
        } = self;
        let stats = Arc::new(WorkerStats::default());
        let (sender, commands) = unbounded();
        let bell = sleeper.bell().as_fd();
        let pipeline = Pipeline::new(index as u16, Arc::clone(&stats), connections);
        let forwarder =
            Forwarder::new(index as u16, Arc::clone(&stats), pipeline, pool, handoff, bell, tick)?
                .with_link(link);
        let worker = Worker {
            commands,
            tables,
            forwarder,
            idle: Idle::new(polling),
            sleeper,
            stats: Arc::clone(&stats),
            last_round,
        };
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let guard = EndProcess { index };
            if let Some(core) = core
                && !core_affinity::set_for_current(CoreId { id: core })
            {
                tracing::error!(worker = index, core, "cannot be pinned to its core, it floats");
            }
            worker.run();
            std::mem::forget(guard);
        })?;
        Ok(Member { commands: sender, waker, stats, core, slots: Vec::new(), thread })
    }
}

/// Ends the process when a worker panics: half a switch would look alive and forward nothing.
struct EndProcess {
    index: usize,
}

impl Drop for EndProcess {
    fn drop(&mut self) {
        eprintln!(
            "heddle-switch: worker {} died, see above; ending so that it is started afresh",
            self.index
        );
        std::process::exit(EXIT_SOFTWARE);
    }
}
