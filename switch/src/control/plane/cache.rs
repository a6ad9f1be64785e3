//! What cached endpoints have together: trunks, the kernel's flow cache, and its keeper.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use heddle_api as api;
use heddle_bpf::{FlowCache, FlowCacheOptions, Inserted, Outcome, Role, Settings, Start};

use super::super::facts::UplinkFacts;
use super::mirror::{Changes, Gone, Mirror, Surroundings};
use crate::DropReason;
use crate::flow_cache::{
    CachedFlow, FlowMap, Keeper, KeeperStats, Links, MapError, MapKey, Message, NO_FENCE, Order, Resident,
    Usage, Written,
};
use crate::pipeline::Party;
use crate::ports::PortId;
use crate::stats::PortStats;
use crate::tables::conntrack::{FlowKey, Role as FlowRole};
use crate::tables::{Hop, NextHop, Node, Tables};
use crate::wire::protocol;

/// How long a flow may wait for what is under way of it, before it is handed over all the same. Packets of a TCP flow are under
/// way all the time only if the switch is the bottleneck; then waiting costs more than one retransmission. An overloaded UDP
/// flow never stops to have packets under way, and loses most of them.
const HAND_OVER_TCP: Duration = Duration::from_millis(500);
const HAND_OVER_UDP: Duration = Duration::from_millis(5);

/// See the module.
pub(super) struct Cache {
    kernel: FlowCache,
    mirror: Mirror,
    around: Surroundings,
    /// The workers' ports on their trunks.
    pub(super) ports: Vec<PortId>,
    orders: Sender<Message>,
    keeper: Option<JoinHandle<()>>,
    stats: Arc<KeeperStats>,
    capacity: u32,
}

/// What the cache is made of.
pub(super) struct Parts {
    pub(super) kernel: FlowCache,
    pub(super) ports: Vec<PortId>,
    pub(super) around: Surroundings,
    pub(super) links: Links,
    pub(super) orders: Sender<Message>,
}

impl Cache {
    /// Takes over what a former switch has left, and starts the keeper.
    pub(super) fn start(parts: Parts) -> Result<Self, String> {
        let Parts { kernel, ports, around, links, orders } = parts;
        let mirror = match kernel.start() {
            Start::Fresh => Mirror::default(),
            Start::TakenOver => Mirror::take_over(&kernel).map_err(|error| error.to_string())?,
            Start::Afresh(reason) => {
                tracing::warn!(reason, "the flow cache starts empty: its flows pass the switch first");
                Mirror::default()
            }
        };
        let (flows, stats) = (kernel.flows(), Arc::<KeeperStats>::default());
        let capacity = flows.capacity();
        let keeper = Keeper::new(KernelFlows(flows), links, Arc::clone(&stats));
        let keeper = Some(keeper.start().map_err(|error| error.to_string())?);
        Ok(Self { kernel, mirror, around, ports, orders, keeper, stats, capacity })
    }

    /// Tells the programs what the node is.
    pub(super) fn describe_node(
        &self,
        vxlan: Option<u32>,
        uplink: Option<&UplinkFacts>,
    ) -> Result<(), String> {
        for (index, interface) in (0..).zip(&self.around.trunks) {
            self.kernel.set_trunk(index, *interface).map_err(|error| error.to_string())?;
        }
        let settings = Settings {
            gateway_mac: Node::default().gateway_mac.0,
            vtep_mac: uplink.map(UplinkFacts::vtep_mac).unwrap_or_default().0,
            vni: uplink.map_or(0, |uplink| uplink.vni),
            vxlan,
            local: uplink.and_then(UplinkFacts::vtep_address),
            trunks: self.ports.len() as u32,
        };
        self.kernel.set_settings(&settings).map_err(|error| error.to_string())
    }

    pub(super) fn attach(&mut self, interface: &str, role: Role) -> Result<(), String> {
        self.kernel.attach(interface, role).map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn detach(&mut self, interface: &str) -> Result<(), String> {
        self.kernel.detach(interface).map_err(|error| error.to_string())
    }

    /// An endpoint is about to be published. Returns what the flow cache forwards for it.
    pub(super) fn settle(&self, hop: Hop, worker: u16) -> Arc<PortStats> {
        let stats = Arc::<PortStats>::default();
        self.order(Order::Settle(hop, Resident { worker, stats: Arc::clone(&stats) }));
        stats
    }

    /// An endpoint is gone.
    pub(super) fn leave(&self, hop: Hop) {
        self.order(Order::Leave(hop));
    }

    /// Makes the kernel ready for `tables`, which get their generations by this.
    pub(super) fn prepare(&mut self, tables: &mut Tables, touched: &[NextHop]) -> Result<Changes, String> {
        let changes = self.mirror.plan(tables, touched, &self.around);
        if let Err(error) = changes.write(&self.kernel) {
            self.mirror.failed(changes);
            return Err(error.to_string());
        }
        tables.hop_generations = self.mirror.generations();
        Ok(changes)
    }

    /// Tables that this was prepared for were not published.
    pub(super) fn failed(&mut self, changes: Changes) {
        self.mirror.failed(changes);
    }

    /// `tables` are what the workers use.
    pub(super) fn published(&mut self, tables: Tables, changes: &Changes) {
        self.mirror.published(tables);
        self.clear(&changes.gone);
        for (hop, generation) in changes.renewed() {
            self.order(Order::Generation(hop, generation));
        }
    }

    /// Whatever was left by a former switch is claimed by now, or is nobody's. Returns how many flows live on.
    pub(super) fn take_over(&mut self) -> usize {
        let unclaimed = self.mirror.unclaimed();
        self.clear(&unclaimed);
        match self.kernel.detach_unclaimed() {
            Ok(interfaces) if interfaces.is_empty() => {}
            Ok(interfaces) => tracing::info!(?interfaces, "flow cache programs of a former run removed"),
            Err(error) => tracing::warn!(%error, "flow cache programs of a former run stay attached"),
        }
        // Of hops that are what they were nobody has told the keeper; flows that they do not follow any more are left as well.
        for (hop, generation) in self.mirror.current().chain(unclaimed.hops()) {
            self.order(Order::Generation(hop, generation));
        }
        let (done, flows) = bounded(1);
        self.order(Order::TakeOver(done));
        flows.recv().unwrap_or_default()
    }

    fn clear(&self, gone: &Gone) {
        if let Err(error) = gone.write(&self.kernel) {
            tracing::warn!(%error, "something that is gone stays in the flow cache's tables");
        }
    }

    fn order(&self, order: Order) {
        // Fails only when the keeper has died, and then the process is about to end.
        let _ = self.orders.send(Message::Order(order));
    }

    /// What the flow cache's programs dropped for a reason.
    pub(super) fn drops(&self, reason: DropReason) -> u64 {
        let outcome = match reason {
            DropReason::CacheNoPort => Outcome::NoPort,
            DropReason::CacheNoHop => Outcome::NoHop,
            DropReason::CacheOtherVni => Outcome::OtherVni,
            DropReason::CacheBadTag => Outcome::BadTag,
            DropReason::CacheNoTunnel => Outcome::NoTunnel,
            _ => return 0,
        };
        self.kernel.counters().map_or(0, |counters| counters.get(outcome))
    }

    pub(super) fn status(&self) -> api::FlowCache {
        let counters = self.kernel.counters().unwrap_or_default();
        api::FlowCache {
            entries: self.stats.flows.load(Ordering::Relaxed),
            capacity: self.capacity.into(),
            hits: counters.get(Outcome::Hit),
            misses: counters.get(Outcome::Miss),
            pending: counters.get(Outcome::Pending),
            revoked: counters.get(Outcome::Revoked),
            unusual: counters.get(Outcome::Unusual),
            too_big: counters.get(Outcome::TooBig),
            forced: counters.get(Outcome::Forced),
            inserted: self.stats.inserted.get(),
            removed: self.stats.removed.get(),
            refused: self.stats.refused.get(),
        }
    }

    /// Ends the keeper. Flows, programs and interfaces stay.
    pub(super) fn stop(mut self) {
        self.order(Order::Stop);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Opens the kernel's part.
pub(super) fn open(steering: &heddle_bpf::Steering, flows: u32) -> Result<FlowCache, String> {
    FlowCache::open(steering, &FlowCacheOptions { flows, hook: None }).map_err(|error| error.to_string())
}

/// The kernel's map, for a worker.
pub(super) fn map_of(kernel: &FlowCache) -> Box<dyn FlowMap> {
    Box::new(KernelFlows(kernel.flows()))
}

/// The kernel's map, in the keeper's words.
#[derive(Debug)]
struct KernelFlows(heddle_bpf::Flows);

impl FlowMap for KernelFlows {
    fn insert(&mut self, flows: &[(MapKey, CachedFlow)]) -> Result<Vec<Written>, MapError> {
        for (_, flow) in flows.iter().filter(|(_, flow)| flow.fence != NO_FENCE) {
            self.0.reset_fence(flow.fence).map_err(map_error)?;
        }
        let flows: Vec<_> =
            flows.iter().map(|(key, flow)| (kernel_key(key), kernel_flow(key, flow))).collect();
        let inserted = self.0.insert(&flows).map_err(map_error)?;
        let written = |inserted| match inserted {
            Inserted::Yes => Written::New,
            Inserted::Already => Written::Exists,
            Inserted::Full => Written::Full,
        };
        Ok(inserted.into_iter().map(written).collect())
    }

    fn remove(&mut self, keys: &[MapKey]) -> Result<Vec<Option<Usage>>, MapError> {
        let keys: Vec<_> = keys.iter().map(kernel_key).collect();
        let uses = self.0.remove(&keys).map_err(map_error)?;
        Ok(uses.into_iter().map(|used| used.map(usage)).collect())
    }

    fn scan(&mut self, visit: &mut dyn FnMut(MapKey, CachedFlow, Usage)) -> Result<(), MapError> {
        self.0
            .scan(|key, flow, used| {
                let (Some(from), Some(to)) = (party(flow.from), party(flow.to)) else { return };
                let key = MapKey {
                    flow: FlowKey {
                        source: key.source,
                        destination: key.destination,
                        source_port: key.source_port,
                        destination_port: key.destination_port,
                        protocol: key.protocol,
                        role: FlowRole::Any,
                    },
                    interface: key.ifindex,
                };
                visit(key, CachedFlow { from, to, original: flow.original, fence: flow.fence }, usage(used));
            })
            .map_err(map_error)
    }

    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
}

fn map_error(error: impl std::fmt::Display) -> MapError {
    MapError(error.to_string())
}

fn kernel_key(key: &MapKey) -> heddle_bpf::FlowKey {
    heddle_bpf::FlowKey {
        source: key.flow.source,
        destination: key.flow.destination,
        source_port: key.flow.source_port,
        destination_port: key.flow.destination_port,
        protocol: key.flow.protocol,
        ifindex: key.interface,
    }
}

fn kernel_flow(key: &MapKey, flow: &CachedFlow) -> heddle_bpf::Flow {
    let party = |party: Party| heddle_bpf::Party { hop: party.hop.number(), generation: party.generation };
    heddle_bpf::Flow {
        from: party(flow.from),
        to: party(flow.to),
        original: flow.original,
        rewrite: None,
        fence: flow.fence,
        pending_for: match key.flow.protocol {
            _ if flow.fence == NO_FENCE => Duration::ZERO,
            protocol::TCP => HAND_OVER_TCP,
            _ => HAND_OVER_UDP,
        },
    }
}

fn party(party: heddle_bpf::Party) -> Option<Party> {
    Some(Party { hop: Hop::numbered(party.hop)?, generation: party.generation })
}

fn usage(used: heddle_bpf::Use) -> Usage {
    Usage { packets: used.packets, bytes: used.bytes, last_seen: used.last_seen }
}
