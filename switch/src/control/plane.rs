//! The real dataplane: workers, AF_XDP sockets, and the programs that steer packets to them.

mod attach;
mod budget;
mod cache;
mod mirror;
pub(super) mod shaper;
pub(super) mod trunk;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use heddle_api as api;
use heddle_bpf::{Crossings, Steering, UplinkFilter, XdpMode};
use heddle_netdev::Netlink;
use heddle_xsk::{Arena, Options, Socket};
use tokio::runtime::Handle;

use self::budget::FrameBudget;
use self::cache::Cache;
use self::shaper::Limited;
use super::dataplane::{Attached, Dataplane, Shapes};
use super::error::StartError;
use super::facts::{NodeFacts, UplinkFacts};
use super::nat::Nat;
use super::ports::Forward;
use super::segment::Segment;
use super::{ControlError, convert};
use crate::DropReason;
use crate::config::Config;
use crate::flow_cache::{self, Links, Message};
use crate::pipeline::Ingress;
use crate::ports::{PortId, XskPort};
use crate::tables::conntrack::Flow;
use crate::tables::publish::Publisher;
use crate::tables::{AttachMode, EndpointNumber, NextHop, Tables};
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
    attachments: HashMap<EndpointNumber, Attachment>,
    /// Made with the first endpoint that is cached.
    cache: Option<Cache>,
    /// The keeper's ends of the lines to the workers, until there is a cache.
    lines: Option<(Links, Sender<Message>)>,
    /// Flows that a cache has room for.
    flows: u32,
    /// Largest IP packet of a pod.
    pod_mtu: u16,
    /// Of the policy that was published last.
    policy_generation: u32,
    /// What a former daemon has left is claimed, or removed.
    settled: bool,
    nat: Nat,
    /// Made with the first endpoint that needs one.
    crossings: Option<Crossings>,
    /// In routed mode, and whom the node answers for.
    segment: Option<Segment>,
    announced: BTreeSet<IpAddr>,
    /// What the limits of endpoints that are gone have dropped, of ingress and egress.
    limit_drops_before: [u64; 2],
    netlink: Netlink,
    runtime: Handle,
}

/// Where an endpoint is attached.
#[derive(Debug)]
struct Attachment {
    /// The endpoint's own.
    interface: String,
    port: PortId,
    mode: AttachMode,
    limited: Option<Limited>,
}

impl Attachment {
    /// The interface that the switch has taken over.
    fn taken(&self) -> &str {
        self.limited.as_ref().map_or(&self.interface, |limited| &limited.interface)
    }
}

impl Plane {
    /// Starts the workers, without any port.
    pub(super) fn start(
        config: &Config,
        facts: &NodeFacts,
        netlink: Netlink,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let steering =
            Steering::open(&config.bpffs).map_err(|error| StartError::Attach(error.to_string()))?;
        let arena = Arena::umem(config.frames.count, config.frames.size)?;
        let workers = config.workers.count;
        let (publisher, readers) = Publisher::new(Tables::default(), usize::from(workers));
        let (links, keeper_links, orders) = flow_cache::connect(usize::from(workers));
        let plan = Plan { config: &config.workers, arena: &arena, readers, links, tick: TICK };
        Ok(Self {
            crew: Crew::start(plan)?,
            publisher,
            steering,
            arena,
            budget: FrameBudget::new(config.frames.count),
            attachments: HashMap::new(),
            cache: None,
            lines: Some((keeper_links, orders)),
            flows: config.flow_cache.flows,
            pod_mtu: facts.pod_mtu,
            policy_generation: 0,
            settled: false,
            nat: Nat::new(config, facts),
            crossings: None,
            segment: None,
            announced: BTreeSet::new(),
            limit_drops_before: [0; 2],
            netlink,
            runtime,
        })
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

    /// From now on the node answers for its pods in the uplink's network.
    pub(super) fn join(&mut self, segment: Segment) {
        self.segment = Some(segment);
    }

    /// Puts the table for address translation in place, with the mapped ports of the endpoints that are back.
    pub(super) fn translate(&mut self) -> Result<(), StartError> {
        self.nat.start().map_err(StartError::Nat)
    }

    /// Everything that a former daemon has left and is still wanted has been claimed: the rest is taken off, and the flows that
    /// the kernel went on forwarding are taken over.
    pub(super) fn settle(&mut self) {
        self.settled = true;
        match self.steering.detach_unclaimed() {
            Ok(interfaces) if interfaces.is_empty() => {}
            Ok(interfaces) => tracing::info!(?interfaces, "programs of a former run removed"),
            Err(error) => tracing::warn!(%error, "programs of a former run stay attached"),
        }
        self.settle_limits();
        if let Some(segment) = &self.segment
            && let Err(error) = self.runtime.block_on(segment.keep_only(&self.netlink, &self.announced))
        {
            tracing::warn!(%error, "the node goes on to answer for pods of a former run");
        }
        if let Some(cache) = &mut self.cache {
            let flows = cache.take_over();
            tracing::info!(flows, "flow cache taken over");
        } else if let Err(error) = self.remove_cache() {
            tracing::warn!(%error, "the flow cache of a former run stays");
        }
    }

    /// Ends the workers and closes all sockets. Programs stay attached: flows in the flow cache go on, and everything else that
    /// pods send is dropped until the next start.
    pub(super) fn stop(self) {
        if let Some(cache) = self.cache {
            cache.stop();
        }
        self.crew.stop();
    }

    /// Takes off everything pinned.
    pub(super) fn clean_up(bpffs: &Path) -> Result<(), String> {
        Steering::cleanup(bpffs).map_err(|error| error.to_string())
    }
}

/// The word for an XDP mode in the API.
pub(super) fn mode_name(mode: XdpMode) -> &'static str {
    match mode {
        XdpMode::Native => "native",
        XdpMode::Generic => "generic",
    }
}

pub(super) fn socket_error(error: &heddle_xsk::SocketError) -> ControlError {
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

    fn attach(
        &mut self,
        interface: &str,
        number: EndpointNumber,
        mode: AttachMode,
        limits: Shapes,
    ) -> Result<Attached, ControlError> {
        self.prepare(interface)?;
        let limited =
            if limits.is_none() { None } else { Some(self.limit(interface, number, mode, limits)?) };
        let taken = limited.as_ref().map_or(interface, |limited| &limited.interface);
        let attached = match mode {
            AttachMode::Direct => self.attach_direct(taken, number),
            AttachMode::Cached => self.attach_cached(taken, number),
        };
        let attached = attached.inspect_err(|_| {
            if limited.is_some() {
                self.unlimit(interface, number);
            }
        })?;
        let detour = limited.as_ref().map(|limited| (limited.index, limited.delivery));
        let attachment = Attachment { interface: interface.to_owned(), port: attached.port, mode, limited };
        self.attachments.insert(number, attachment);
        Ok(Attached { detour, ..attached })
    }

    fn detach(&mut self, number: EndpointNumber) -> Result<(), ControlError> {
        let Some(attachment) = self.attachments.remove(&number) else { return Ok(()) };
        let detached = match attachment.mode {
            AttachMode::Direct => self.detach_direct(&attachment),
            AttachMode::Cached => self.detach_cached(&attachment, number),
        };
        if attachment.limited.is_some() {
            let drops = self.drops_of(&attachment.interface, number, attachment.limited.as_ref());
            self.limit_drops_before = [0, 1].map(|side| self.limit_drops_before[side] + drops[side]);
            self.unlimit(&attachment.interface, number);
        }
        detached
    }

    fn announce(&mut self, addresses: &[IpAddr]) -> Result<(), ControlError> {
        let Some(segment) = &self.segment else { return Ok(()) };
        self.announced.extend(addresses);
        let announced = self.runtime.block_on(segment.announce(&self.netlink, addresses));
        announced.map_err(|error| {
            self.withdraw(addresses);
            ControlError::Unavailable(format!("the uplink's network cannot be told of the pod: {error}"))
        })
    }

    fn withdraw(&mut self, addresses: &[IpAddr]) {
        let Some(segment) = &self.segment else { return };
        self.announced.retain(|address| !addresses.contains(address));
        if let Err(error) = self.runtime.block_on(segment.withdraw(&self.netlink, addresses)) {
            tracing::warn!(%error, "the node goes on to answer for a pod that is gone");
        }
    }

    fn map_ports(&mut self, forwards: &[Forward]) -> Result<(), ControlError> {
        self.nat.add(forwards).map_err(|reason| {
            ControlError::Unavailable(format!("the port mappings cannot be set up: {reason}"))
        })
    }

    fn unmap_ports(&mut self, forwards: &[Forward]) {
        self.nat.remove(forwards);
    }

    fn publish(&mut self, mut tables: Tables, touched: &[NextHop]) -> Result<u64, ControlError> {
        let changes = match &mut self.cache {
            Some(cache) => Some(cache.prepare(&mut tables, touched).map_err(ControlError::Unavailable)?),
            None => None,
        };
        let generation = match self.exchange(tables.clone()) {
            Ok(generation) => generation,
            Err(error) => {
                if let (Some(cache), Some(changes)) = (&mut self.cache, changes) {
                    cache.failed(changes);
                }
                return Err(error);
            }
        };
        if tables.policy.generation != self.policy_generation {
            self.policy_generation = tables.policy.generation;
            // Whoever sleeps has cached flows to judge again as well.
            self.crew.wake();
        }
        if let (Some(cache), Some(changes)) = (&mut self.cache, changes) {
            cache.published(tables, &changes);
        }
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
        let by_kernel = match reason {
            DropReason::BandwidthIngress => self.limit_drops()[0],
            DropReason::BandwidthEgress => self.limit_drops()[1],
            _ => self.cache.as_ref().map_or(0, |cache| cache.drops(reason)),
        };
        self.crew.stats().map(|stats| stats.drops(reason)).sum::<u64>() + by_kernel
    }

    fn flow_cache(&self) -> Option<api::FlowCache> {
        self.cache.as_ref().map(Cache::status)
    }
}
