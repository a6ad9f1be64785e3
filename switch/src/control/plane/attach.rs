//! Attaching endpoints: by a socket of their own, or by their worker's trunk.

use std::sync::Arc;
use std::time::Instant;

use heddle_bpf::{FlowCache, Role};
use heddle_xsk::{Options, Socket};

use super::super::ControlError;
use super::super::dataplane::Attached;
use super::super::error::StartError;
use super::super::facts::UplinkFacts;
use super::super::host;
use super::budget::MOST_OF_A_TRUNK;
use super::cache::{self, Cache, Parts};
use super::mirror::Surroundings;
use super::{Attachment, LOOK_EVERY, PATIENCE, Plane, mode_name, socket_error, trunk};
use crate::config::MAX_MTU;
use crate::pipeline::Ingress;
use crate::ports::{PortId, XskPort};
use crate::stats::PortStats;
use crate::tables::{EndpointNumber, HOST, Hop, Tables};

impl Plane {
    /// Makes the interface carry packets for the switch only: up, and without addresses of the host's stack.
    pub(super) fn prepare(&self, interface: &str) -> Result<(), ControlError> {
        let result = self.runtime.block_on(async {
            if host::has_ipv6() {
                heddle_netdev::sysctl::set_ipv6_enabled(interface, false)?;
            }
            let link = self.netlink.link(interface).await?;
            if link.up { Ok(()) } else { self.netlink.set_up(&link).await }
        });
        result.map_err(|error: heddle_netdev::Error| ControlError::Precondition(error.to_string()))
    }

    pub(super) fn attach_direct(
        &mut self,
        interface: &str,
        number: EndpointNumber,
    ) -> Result<Attached, ControlError> {
        let frames = if number == HOST { self.budget.host() } else { self.budget.endpoint() };
        let stats = Arc::<PortStats>::default();
        let worker = self.crew.least_loaded();
        let ingress = Ingress::Endpoint(number);
        let port = self.open_port(interface, frames, worker, ingress, Arc::clone(&stats))?;
        Ok(Attached { port, stats, cached: None, detour: None })
    }

    /// Gives a worker a socket on queue 0 of an interface, and the interface's packets to the socket.
    fn open_port(
        &mut self,
        interface: &str,
        frames: Option<u32>,
        worker: u16,
        ingress: Ingress,
        stats: Arc<PortStats>,
    ) -> Result<PortId, ControlError> {
        let frames = frames.ok_or_else(|| {
            let problem =
                "all frames are given to ports; raise frames.count in the configuration and restart";
            ControlError::Precondition(problem.to_owned())
        })?;
        let mut options = Options { receive_frames: frames, ..Options::default() };
        if ingress == Ingress::Trunk {
            (options.rx_ring, options.tx_ring) = (MOST_OF_A_TRUNK, MOST_OF_A_TRUNK);
        }
        let socket =
            Socket::bind(&self.arena, interface, 0, options).map_err(|error| socket_error(&error))?;
        let port = XskPort::new(socket);
        let mode = self
            .steering
            .attach_port(interface, port.socket())
            .map_err(|error| ControlError::Precondition(error.to_string()))?;
        tracing::debug!(interface, ?ingress, frames, mode = mode_name(mode), "port opened");
        match self.crew.attach(worker, ingress, Box::new(port), stats) {
            Ok(port) => {
                self.budget.give(port, frames);
                Ok(port)
            }
            Err(error) => {
                // The socket is closed by now; without this the interface would drop for ever.
                let _ = self.steering.detach_port(interface);
                Err(ControlError::Unavailable(error.to_string()))
            }
        }
    }

    pub(super) fn detach_direct(&mut self, attachment: &Attachment) -> Result<(), ControlError> {
        let unavailable = |error: &dyn std::fmt::Display| ControlError::Unavailable(error.to_string());
        let steering = self.steering.detach_port(attachment.taken());
        // Whatever steering says, the socket closes, and with it nothing is redirected any more.
        let closed = self.crew.detach(attachment.port).map_err(|error| unavailable(&error));
        self.budget.take_back(attachment.port);
        drop(closed?);
        steering.map_err(|error| unavailable(&error))
    }

    pub(super) fn attach_cached(
        &mut self,
        interface: &str,
        number: EndpointNumber,
    ) -> Result<Attached, ControlError> {
        let hop = Hop::endpoint(number).ok_or_else(|| {
            ControlError::Unavailable("the flow cache has no room for another endpoint".to_owned())
        })?;
        let worker = self.least_settled();
        let cache = self.cache_mut()?;
        let port = *cache.ports.get(usize::from(worker)).ok_or_else(|| {
            ControlError::Unavailable(format!("worker {worker} has no trunk; restart heddle-switch"))
        })?;
        cache.attach(interface, Role::Endpoint).map_err(ControlError::Precondition)?;
        let cached = cache.settle(hop, worker);
        let stats = Arc::<PortStats>::default();
        if let Err(error) = self.crew.settle(worker, number, Arc::clone(&stats)) {
            self.leave(interface, number);
            return Err(ControlError::Unavailable(error.to_string()));
        }
        tracing::debug!(interface, number, worker, "attached by the trunk");
        Ok(Attached { port, stats, cached: Some(cached), detour: None })
    }

    pub(super) fn detach_cached(
        &mut self,
        attachment: &Attachment,
        number: EndpointNumber,
    ) -> Result<(), ControlError> {
        let left = self.crew.leave(attachment.port.worker, number);
        self.leave(attachment.taken(), number);
        left.map_err(|error| ControlError::Unavailable(error.to_string()))
    }

    fn leave(&mut self, interface: &str, number: EndpointNumber) {
        let Some(cache) = &mut self.cache else { return };
        if let Err(error) = cache.detach(interface) {
            tracing::warn!(interface, %error, "a flow cache program stays attached");
        }
        if let Some(hop) = Hop::endpoint(number) {
            cache.leave(hop);
        }
    }

    /// The worker with the fewest cached endpoints.
    fn least_settled(&self) -> u16 {
        let mut settled = vec![0_u32; self.crew.len()];
        for attachment in self.attachments.values() {
            if attachment.mode == crate::tables::AttachMode::Cached {
                settled[usize::from(attachment.port.worker)] += 1;
            }
        }
        (0u16..).zip(settled).min_by_key(|(_, settled)| *settled).map_or(0, |(worker, _)| worker)
    }

    /// The flow cache, made if there is none: one that takes no part in the tunnel.
    fn cache_mut(&mut self) -> Result<&mut Cache, ControlError> {
        if self.cache.is_none() {
            let made = self.make_cache().and_then(|cache| cache.describe_node(None, None));
            made.map_err(ControlError::Unavailable)?;
        }
        let missing = "the flow cache could not be set up; see the log, and restart heddle-switch";
        self.cache.as_mut().ok_or_else(|| ControlError::Unavailable(missing.to_owned()))
    }

    /// Makes the trunks and opens the flow cache. What an earlier switch has told the programs of the node holds until it is
    /// described.
    fn make_cache(&mut self) -> Result<&mut Cache, String> {
        let kernel = cache::open(&self.steering, self.flows)?;
        // There is no second try: half of it is there, and the workers' lines are taken.
        let (links, orders) = self.lines.take().ok_or("the flow cache could not be set up before")?;
        let workers = self.crew.len() as u16;
        let (mut ports, mut trunks) = (Vec::new(), Vec::new());
        // As much as native XDP allows: what is too large for its way has to come up, for its sender to be told.
        let mtu = MAX_MTU.into();
        for worker in 0..workers {
            let near = self
                .runtime
                .block_on(trunk::set_up(&self.netlink, worker, mtu))
                .map_err(|error| error.to_string())?;
            let frames = Some(self.budget.trunk(workers.into()));
            let port =
                self.open_port(&trunk::far_end(worker), frames, worker, Ingress::Trunk, Arc::default());
            ports.push(port.map_err(|error| error.to_string())?);
            trunks.push(near.index);
        }
        self.runtime
            .block_on(trunk::tear_down(&self.netlink, workers, false))
            .map_err(|error| error.to_string())?;
        let host = self.runtime.block_on(self.netlink.find_link(host::LINUX_SIDE));
        let host_interface = host.ok().flatten().map_or(0, |link| link.index);
        let around = Surroundings { host_interface, trunks };
        for worker in 0..workers {
            self.crew.give_map(worker, cache::map_of(&kernel)).map_err(|error| error.to_string())?;
        }
        let mut cache = Cache::start(Parts { kernel, ports, around, links, orders })?;
        for worker in 0..workers {
            cache.attach(&trunk::near_end(worker), Role::Trunk)?;
        }
        if self.settled {
            // There is nothing left to wait for.
            cache.take_over();
        }
        Ok(self.cache.insert(cache))
    }

    /// Lets Linux do the tunnel to other nodes, so that flows to them can be cached. Returns the workers' ports on the trunks, and
    /// the index of the vxlan device.
    pub(in super::super) fn attach_tunnel(
        &mut self,
        uplink: &UplinkFacts,
    ) -> Result<(Vec<PortId>, u32), StartError> {
        let refused = StartError::Attach;
        if self.cache.is_none() {
            self.make_cache().map_err(refused)?;
        }
        let device = self.runtime.block_on(trunk::set_up_vxlan(
            &self.netlink,
            uplink.port,
            uplink.vtep_mac(),
            self.pod_mtu.into(),
        ));
        let device = device.map_err(|error| {
            refused(format!(
                "{error}; is another device or program using UDP port {} of the overlay?",
                uplink.port
            ))
        })?;
        let cache = self.cache_mut().map_err(|error| refused(error.to_string()))?;
        cache.attach(trunk::VXLAN, Role::Overlay).map_err(refused)?;
        cache.describe_node(Some(device.index), Some(uplink)).map_err(refused)?;
        Ok((cache.ports.clone(), device.index))
    }

    /// Removes what a switch with a flow cache has left.
    pub(super) fn remove_cache(&self) -> Result<(), String> {
        FlowCache::remove(&self.steering).map_err(|error| error.to_string())?;
        self.runtime.block_on(trunk::tear_down(&self.netlink, 0, true)).map_err(|error| error.to_string())
    }

    /// Publishes tables and waits until all workers use them.
    pub(super) fn exchange(&mut self, tables: Tables) -> Result<u64, ControlError> {
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
}
