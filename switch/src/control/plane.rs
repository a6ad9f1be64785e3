//! The real dataplane: workers, AF_XDP sockets, and the programs that steer packets to them.

mod budget;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heddle_api as api;
use heddle_bpf::{Steering, UplinkFilter, XdpMode};
use heddle_netdev::Netlink;
use heddle_xsk::{Arena, Options, Socket};
use tokio::runtime::Handle;

use self::budget::FrameBudget;
use super::dataplane::{Attached, Dataplane};
use super::error::StartError;
use super::facts::UplinkFacts;
use super::{ControlError, convert, host};
use crate::DropReason;
use crate::config::Config;
use crate::pipeline::Ingress;
use crate::ports::{PortId, XskPort};
use crate::stats::PortStats;
use crate::tables::conntrack::Flow;
use crate::tables::publish::Publisher;
use crate::tables::{EndpointNumber, HOST, Tables};
use crate::worker::{Crew, Plan, TICK};

/// Workers take a new snapshot between two batches. When one has not within this time, it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look whether they have.
const LOOK_EVERY: Duration = Duration::from_micros(20);

/// See the module.
pub(super) struct Plane {
    crew: Crew,
    publisher: Publisher<Tables>,
    steering: Steering,
    arena: Arc<Arena>,
    budget: FrameBudget,
    /// Interfaces of the endpoints' ports.
    interfaces: HashMap<PortId, String>,
    netlink: Netlink,
    runtime: Handle,
}

impl Plane {
    /// Starts the workers, without any port.
    pub(super) fn start(config: &Config, netlink: Netlink, runtime: Handle) -> Result<Self, StartError> {
        let steering =
            Steering::open(&config.bpffs).map_err(|error| StartError::Attach(error.to_string()))?;
        let arena = Arena::umem(config.frames.count, config.frames.size)?;
        let (publisher, readers) = Publisher::new(Tables::default(), usize::from(config.workers.count));
        let crew = Crew::start(Plan {
            config: &config.workers,
            arena: &arena,
            readers,
            links: Vec::new(),
            tick: TICK,
        })?;
        let budget = FrameBudget::new(config.frames.count);
        let interfaces = HashMap::new();
        Ok(Self { crew, publisher, steering, arena, budget, interfaces, netlink, runtime })
    }

    /// Takes the overlay's packets of the uplink: one socket a receive queue, queue q with worker q modulo their number.
    /// Returns the ports by worker, as [`tables::Uplink`](crate::tables::Uplink) has them.
    pub(super) fn attach_uplink(
        &mut self,
        uplink: &UplinkFacts,
        queues: u32,
    ) -> Result<(Vec<PortId>, XdpMode), StartError> {
        let refused = |error: &dyn std::fmt::Display| StartError::Attach(error.to_string());
        let workers = self.crew.len() as u32;
        let mut sockets = Vec::new();
        for queue in 0..queues {
            let options = Options { receive_frames: self.budget.uplink(queues), ..Options::default() };
            let socket = Socket::bind(&self.arena, &uplink.interface, queue, options);
            sockets.push((queue, XskPort::new(socket.map_err(|error| refused(&error))?)));
        }
        let filter = UplinkFilter {
            vni: uplink.vni,
            port: uplink.port,
            addresses: uplink.vtep_address().into_iter().collect(),
        };
        let by_queue: Vec<_> = sockets.iter().map(|(queue, port)| (*queue, port.socket())).collect();
        let mode = self.steering.attach_uplink(&uplink.interface, &filter, &by_queue);
        let mode = mode.map_err(|error| refused(&error))?;
        let mut ports = Vec::new();
        for (queue, port) in sockets {
            let worker = (queue % workers) as u16;
            ports.push(self.crew.attach(worker, Ingress::Uplink, Box::new(port), Arc::default())?);
        }
        let by_worker = (0..workers).map(|worker| ports[(worker % queues) as usize]).collect();
        Ok((by_worker, mode))
    }

    /// Takes off what an earlier daemon left attached to interfaces that are nobody's any more.
    pub(super) fn detach_unclaimed(&mut self) {
        match self.steering.detach_unclaimed() {
            Ok(interfaces) if interfaces.is_empty() => {}
            Ok(interfaces) => tracing::info!(?interfaces, "programs of a former run removed"),
            Err(error) => tracing::warn!(%error, "programs of a former run stay attached"),
        }
    }

    /// Ends the workers and closes all sockets. Programs stay attached and drop what pods send, until the next start.
    pub(super) fn stop(self) {
        self.crew.stop();
    }

    /// Takes off everything pinned.
    pub(super) fn clean_up(bpffs: &Path) -> Result<(), String> {
        Steering::cleanup(bpffs).map_err(|error| error.to_string())
    }

    /// Makes the interface carry packets for its socket only: up, and without addresses of the host's stack.
    fn prepare(&self, interface: &str) -> Result<(), ControlError> {
        let result = self.runtime.block_on(async {
            if host::has_ipv6() {
                heddle_netdev::sysctl::set_ipv6_enabled(interface, false)?;
            }
            let link = self.netlink.link(interface).await?;
            if link.up { Ok(()) } else { self.netlink.set_up(&link).await }
        });
        result.map_err(|error: heddle_netdev::Error| ControlError::Precondition(error.to_string()))
    }

    fn open(&mut self, interface: &str, number: EndpointNumber) -> Result<Attached, ControlError> {
        let frames = if number == HOST { self.budget.host() } else { self.budget.endpoint() };
        let frames = frames.ok_or_else(|| {
            let problem =
                "all frames are given to ports; raise frames.count in the configuration and restart";
            ControlError::Precondition(problem.to_owned())
        })?;
        let options = Options { receive_frames: frames, ..Options::default() };
        let socket =
            Socket::bind(&self.arena, interface, 0, options).map_err(|error| socket_error(&error))?;
        let port = XskPort::new(socket);
        let mode = self
            .steering
            .attach_port(interface, port.socket())
            .map_err(|error| ControlError::Precondition(error.to_string()))?;
        tracing::debug!(interface, number, frames, mode = mode_name(mode), "port opened");
        let stats = Arc::<PortStats>::default();
        let worker = self.crew.least_loaded();
        let attached =
            self.crew.attach(worker, Ingress::Endpoint(number), Box::new(port), Arc::clone(&stats));
        match attached {
            Ok(port) => {
                self.budget.give(port, frames);
                self.interfaces.insert(port, interface.to_owned());
                Ok(Attached { port, stats })
            }
            Err(error) => {
                // The socket is closed by now; without this the interface would drop for ever.
                let _ = self.steering.detach_port(interface);
                Err(ControlError::Unavailable(error.to_string()))
            }
        }
    }
}

/// The word for an XDP mode in the API.
pub(super) fn mode_name(mode: XdpMode) -> &'static str {
    match mode {
        XdpMode::Native => "native",
        XdpMode::Generic => "generic",
    }
}

fn socket_error(error: &heddle_xsk::SocketError) -> ControlError {
    match error {
        heddle_xsk::SocketError::Busy { .. } => ControlError::Unavailable(error.to_string()),
        _ => ControlError::Precondition(error.to_string()),
    }
}

impl Dataplane for Plane {
    fn interface_index(&self, name: &str) -> Option<u32> {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None);
        rustix::net::netdevice::name_to_index(socket.ok()?, name).ok()
    }

    fn attach(&mut self, interface: &str, number: EndpointNumber) -> Result<Attached, ControlError> {
        self.prepare(interface)?;
        self.open(interface, number)
    }

    fn detach(&mut self, port: PortId) -> Result<(), ControlError> {
        let unavailable = |error: &dyn std::fmt::Display| ControlError::Unavailable(error.to_string());
        let interface = self.interfaces.remove(&port);
        let steering = interface.map_or(Ok(()), |interface| self.steering.detach_port(&interface));
        // Whatever steering says, the socket closes, and with it nothing is redirected any more.
        let closed = self.crew.detach(port).map_err(|error| unavailable(&error));
        self.budget.take_back(port);
        drop(closed?);
        steering.map_err(|error| unavailable(&error))
    }

    fn publish(&mut self, tables: Tables) -> Result<u64, ControlError> {
        let generation = self.publisher.publish(tables);
        let deadline = Instant::now() + PATIENCE;
        // Sleeping workers hold no snapshot and count as having seen it, so nobody has to be woken.
        while !self.publisher.seen_by_all(generation) {
            if Instant::now() > deadline {
                let problem =
                    "a worker does not take new tables; restart heddle-switch and report this with its log";
                return Err(ControlError::Unavailable(problem.to_owned()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.publisher.reclaim();
        Ok(generation)
    }

    fn generation(&self) -> u64 {
        self.publisher.generation()
    }

    fn workers(&self) -> Vec<api::Worker> {
        let reports = self.crew.reports().unwrap_or_default();
        let worker = |(index, stats): (usize, &Arc<crate::stats::WorkerStats>)| api::Worker {
            index: index as u32,
            core: self.crew.core(index).map(|core| core as u32),
            polling: self.crew.polling().name().to_owned(),
            ports: reports.get(index).map_or(0, |report| report.ports as u32),
            rx: Some(convert::traffic(&stats.ports.rx)),
            tx: Some(convert::traffic(&stats.ports.tx)),
            sleeps: stats.sleeps.get(),
            icmp_errors: stats.icmp_errors.get(),
            connections: reports.get(index).map(convert::connections),
        };
        self.crew.stats().enumerate().map(worker).collect()
    }

    fn flows(&self) -> Result<Vec<Flow>, ControlError> {
        self.crew.flows().map_err(|error| ControlError::Unavailable(error.to_string()))
    }

    fn census(&self) -> Result<api::FrameCensus, ControlError> {
        let reports = self.crew.reports().map_err(|error| ControlError::Unavailable(error.to_string()))?;
        let sum = |count: fn(&crate::worker::Report) -> u64| reports.iter().map(count).sum::<u64>();
        Ok(api::FrameCensus {
            total: self.arena.count().into(),
            free: sum(|report| report.free as u64) + self.arena.reserved() as u64,
            receiving: sum(|report| report.held.receiving.into()),
            sending: sum(|report| report.held.sending.into()),
            handoff: sum(|report| report.handoff as u64),
            quarantined: self.arena.quarantined() as u64,
        })
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.crew.stats().map(|stats| stats.drops(reason)).sum()
    }
}
