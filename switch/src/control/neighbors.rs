//! The way to other nodes' VTEPs: the kernel knows it, the switch asks.
//!
//! Outer packets take the kernel's routes and its neighbor table, so that whatever the node's administrator or a routing
//! daemon set up holds for the overlay too. The kernel does not see those packets, though: nothing keeps its
//! entries fresh, so they are asked for again from time to time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_netdev::{Neighbor, NeighborEvent, NeighborEvents, Netlink};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::apply::Control;
use super::dataplane::Dataplane;
use crate::wire::Mac;

/// How often what is not resolved is asked for again. The kernel itself gives up after about three seconds.
const RETRY: Duration = Duration::from_secs(1);

/// How often routes are looked up anew and entries confirmed: within the kernel's `gc_stale_time` of 60 s, after which
/// an entry that nobody used may go.
const REFRESH: Duration = Duration::from_secs(15);

/// Finds the next hops of VTEPs, and keeps the tables up to date with them.
pub(super) struct Resolver<D> {
    netlink: Netlink,
    /// Index of the uplink.
    uplink: u32,
    control: Arc<Mutex<Control<D>>>,
    targets: HashMap<IpAddr, Target>,
}

/// What is known of one VTEP.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Target {
    /// Where its packets go first: a router, or itself. `None` while there is no way by the uplink.
    next_hop: Option<IpAddr>,
    mac: Option<Mac>,
    /// What was last said about it in the log.
    complaint: Option<String>,
}

impl<D: Dataplane + 'static> Resolver<D> {
    /// For the uplink with this index. Needs a tokio runtime.
    pub(super) fn new(uplink: u32, control: Arc<Mutex<Control<D>>>) -> heddle_netdev::Result<Self> {
        let netlink = Netlink::open()?;
        Ok(Self { netlink, uplink, control, targets: HashMap::new() })
    }

    /// Resolves what `wanted` names, for ever.
    pub(super) async fn run(mut self, mut events: NeighborEvents, mut wanted: watch::Receiver<Vec<IpAddr>>) {
        let mut retry = interval(RETRY);
        let mut refresh = interval(REFRESH);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let initial = wanted.borrow_and_update().clone();
        self.retarget(&initial).await;
        loop {
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let addresses = wanted.borrow_and_update().clone();
                    self.retarget(&addresses).await;
                }
                event = events.next() => match event {
                    Some(NeighborEvent::Changed(neighbor)) => self.learn(neighbor).await,
                    Some(NeighborEvent::Removed(neighbor)) => self.confirm(neighbor.address).await,
                    Some(NeighborEvent::Lost) => self.refresh(|_| true).await,
                    None => {
                        tracing::error!("the kernel's neighbor events ended; next hops are polled from now on");
                        return self.poll(wanted).await;
                    }
                },
                _ = retry.tick() => self.refresh(|target| target.mac.is_none()).await,
                _ = refresh.tick() => self.refresh(|_| true).await,
            }
        }
    }

    /// Goes on without events.
    async fn poll(mut self, mut wanted: watch::Receiver<Vec<IpAddr>>) {
        let mut retry = interval(RETRY);
        loop {
            retry.tick().await;
            let addresses = wanted.borrow_and_update().clone();
            self.retarget(&addresses).await;
            self.refresh(|_| true).await;
        }
    }

    /// Takes on new VTEPs and forgets those that are gone.
    async fn retarget(&mut self, addresses: &[IpAddr]) {
        self.targets.retain(|address, _| addresses.contains(address));
        let new: Vec<_> =
            addresses.iter().filter(|address| !self.targets.contains_key(*address)).copied().collect();
        for address in new {
            self.targets.insert(address, Target::default());
            self.resolve(address).await;
        }
        // A VTEP that moved to a known address needs what is known told again.
        let known = self.targets.iter().map(|(address, target)| (*address, target.mac)).collect();
        self.report(known).await;
    }

    /// Asks again for the targets that `which` picks.
    async fn refresh(&mut self, which: impl Fn(&Target) -> bool) {
        let due: Vec<_> =
            self.targets.iter().filter(|(_, t)| which(t)).map(|(address, _)| *address).collect();
        let mut changed = Vec::new();
        for address in due {
            let before = self.targets.get(&address).and_then(|target| target.mac);
            let after = self.resolve(address).await;
            if before != after {
                changed.push((address, after));
            }
        }
        self.report(changed).await;
    }

    /// Looks the way to a VTEP up and has the kernel confirm the next hop's MAC. Returns the MAC as known so far.
    async fn resolve(&mut self, address: IpAddr) -> Option<Mac> {
        let found = self.look_up(address).await;
        let target = self.targets.get_mut(&address)?;
        let complaint = match found {
            Ok((next_hop, neighbor)) => {
                if target.next_hop != Some(next_hop) {
                    *target = Target { next_hop: Some(next_hop), ..Target::default() };
                }
                // While the kernel asks again, the last answer stays good; only a failure ends it.
                if let Some(neighbor) = neighbor
                    && (neighbor.mac.is_some() || neighbor.failed)
                {
                    target.mac = neighbor.mac;
                }
                neighbor.is_some_and(|n| n.failed).then(|| format!("next hop {next_hop} does not answer"))
            }
            Err(problem) => {
                (target.next_hop, target.mac) = (None, None);
                Some(problem)
            }
        };
        if target.complaint != complaint {
            if let Some(problem) = &complaint {
                tracing::warn!(vtep = %address, "cannot be reached: {problem}");
            } else {
                tracing::info!(vtep = %address, "can be reached again");
            }
            target.complaint = complaint;
        }
        target.mac
    }

    /// The next hop towards `address`, and what the kernel knows of it; it is told to find out more.
    async fn look_up(&self, address: IpAddr) -> Result<(IpAddr, Option<Neighbor>), String> {
        let route = self.netlink.lookup_route(address).await.map_err(|error| error.to_string())?;
        if route.interface != self.uplink {
            return Err("the node's route to it does not go by the uplink; correct the route".to_owned());
        }
        let next_hop = route.gateway.unwrap_or(address);
        let neighbor =
            self.netlink.find_neighbor(self.uplink, next_hop).await.map_err(|error| error.to_string())?;
        self.netlink.resolve_neighbor(self.uplink, next_hop).await.map_err(|error| error.to_string())?;
        Ok((next_hop, neighbor))
    }

    /// Takes in what the kernel found out.
    async fn learn(&mut self, neighbor: Neighbor) {
        if neighbor.interface != self.uplink || (neighbor.mac.is_none() && !neighbor.failed) {
            return;
        }
        let mut changed = Vec::new();
        for (address, target) in &mut self.targets {
            if target.next_hop == Some(neighbor.address) && target.mac != neighbor.mac {
                target.mac = neighbor.mac;
                changed.push((*address, neighbor.mac));
            }
        }
        self.report(changed).await;
    }

    /// The kernel dropped an entry, for age most likely: it is asked for anew, and used until there is another answer.
    async fn confirm(&mut self, next_hop: IpAddr) {
        if self.targets.values().any(|target| target.next_hop == Some(next_hop)) {
            let _ = self.netlink.resolve_neighbor(self.uplink, next_hop).await;
        }
    }

    /// Brings news to the tables, in order.
    async fn report(&self, resolved: Vec<(IpAddr, Option<Mac>)>) {
        if resolved.is_empty() {
            return;
        }
        let control = Arc::clone(&self.control);
        let publish = move || match control.lock() {
            Ok(mut control) => control.set_neighbors(&resolved),
            // The service tells whoever calls.
            Err(_) => Ok(()),
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(publish).await {
            tracing::warn!(%error, "next hops cannot be published");
        }
    }
}
