//! The kernel's hops say what the published tables say.
//!
//! Every hop has a generation, which changes with anything that flows through it rely on. Flows that were cached at another one
//! are not followed any more, from the moment that the hop is written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use heddle_bpf::{FlowCache, FlowCacheError, Hop as KernelHop, Port};

use crate::pipeline::overhead;
use crate::tables::{
    AttachMode, Delivery, Endpoint, HOST, Hop, HopGenerations, NextHop, Tables, Tunnel, Vtep,
};

/// What is in the kernel, and what is not known to be wanted.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    hops: HashMap<Hop, Mirrored>,
    /// What was published last.
    published: Tables,
    generations: HopGenerations,
    /// The highest generation there was.
    last_generation: u32,
    /// Hops of a former switch that no table has named yet.
    unclaimed: HashSet<Hop>,
    /// What a publication that failed was to clear.
    owed: Gone,
}

/// A hop in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirrored {
    generation: u32,
    hop: KernelHop,
}

/// What a publication changes in the kernel.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Hops that get a new generation, with what they are now.
    set: Vec<(Hop, u32, KernelHop)>,
    ports: Vec<(u32, Port)>,
    peers: Vec<(IpAddr, Hop)>,
    /// What nobody is sent to any more once the tables are published.
    pub(super) gone: Gone,
}

/// What goes once no worker knows it any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    hops: Vec<(Hop, u32)>,
    ports: Vec<u32>,
    peers: Vec<IpAddr>,
}

/// What of the node the tables do not say.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// Linux's end of the host's port.
    pub(super) host_interface: u32,
    /// The kernel's ends of the trunks, by worker.
    pub(super) trunks: Vec<u32>,
}

impl Mirror {
    /// Knows what a former switch has left.
    pub(super) fn take_over(kernel: &FlowCache) -> Result<Self, FlowCacheError> {
        let mut mirror = Self::default();
        for hop in (0..).map_while(Hop::numbered) {
            let (generation, there) = kernel.hop(hop.number())?;
            mirror.find(hop, generation, there);
        }
        Ok(mirror)
    }

    fn find(&mut self, hop: Hop, generation: u32, there: Option<KernelHop>) {
        self.last_generation = self.last_generation.max(generation);
        if let Some(there) = there {
            self.hops.insert(hop, Mirrored { generation, hop: there });
            self.unclaimed.insert(hop);
        }
    }

    /// The generations for the tables.
    pub(super) fn generations(&self) -> HopGenerations {
        self.generations.clone()
    }

    /// What has to change for `tables`. Flows through `touched` next hops may be routed otherwise now, so those get a new generation
    /// even if they stay the same.
    pub(super) fn plan(&mut self, tables: &Tables, touched: &[NextHop], around: &Surroundings) -> Changes {
        let mut changes = Changes::default();
        let before = std::mem::take(&mut self.published);
        for (number, old, new) in before.endpoints.changes(&tables.endpoints) {
            self.plan_endpoint(&mut changes, number, old, new, around);
        }
        let uplink = |tables: &Tables| tables.node.uplink.as_ref().map(|uplink| (uplink.tunnel, uplink.mtu));
        let (old_uplink, new_uplink) = (uplink(&before), uplink(tables));
        if old_uplink == new_uplink {
            for (number, old, new) in before.vteps.changes(&tables.vteps) {
                self.plan_vtep(&mut changes, number, old, new, new_uplink);
            }
        } else {
            let numbers = before.vteps.iter().chain(tables.vteps.iter()).map(|(number, _)| number);
            for number in numbers.collect::<BTreeSet<_>>() {
                let (old, new) = (before.vteps.get(number), tables.vteps.get(number));
                self.plan_vtep(&mut changes, number, old, new, new_uplink);
            }
        }
        self.published = before;
        self.owe(&mut changes, tables);
        for next_hop in touched {
            let hop = match next_hop {
                NextHop::Endpoint(number) => Hop::endpoint(*number),
                NextHop::Vtep(number) => Hop::vtep(*number),
                NextHop::Unreachable => None,
            };
            let Some(hop) = hop else { continue };
            let is_new = changes.set.iter().any(|(set, ..)| *set == hop);
            if let (false, Some(there)) = (is_new, self.hops.get(&hop).map(|there| there.hop)) {
                self.renew(&mut changes, hop, there);
            }
        }
        changes
    }

    /// Adds what an earlier publication was to clear and did not, and leaves out what is wanted by now: two nodes may exchange
    /// their addresses.
    fn owe(&mut self, changes: &mut Changes, tables: &Tables) {
        let owed = std::mem::take(&mut self.owed);
        let hops: HashSet<_> = owed.hops.into_iter().map(|(hop, _)| hop).collect();
        for hop in hops {
            if !self.hops.contains_key(&hop) {
                let generation = self.next_generation();
                changes.gone.hops.push((hop, generation));
            }
        }
        changes.gone.ports.extend(owed.ports);
        changes.gone.peers.extend(owed.peers);
        changes.gone.ports.retain(|gone| changes.ports.iter().all(|(interface, _)| interface != gone));
        changes.gone.peers.retain(|address| tables.vteps.by_address(*address).is_none());
    }

    fn plan_endpoint(
        &mut self,
        changes: &mut Changes,
        number: u32,
        old: Option<&Endpoint>,
        new: Option<&Endpoint>,
        around: &Surroundings,
    ) {
        let Some(hop) = Hop::endpoint(number) else { return };
        let cached = |endpoint: &&Endpoint| endpoint.attach == AttachMode::Cached;
        let (old, new) = (old.filter(cached), new.filter(cached));
        if let Some(new) = new {
            let there = if number == HOST {
                KernelHop::Host { ifindex: around.host_interface, mtu: new.mtu.into(), mac: new.mac.0 }
            } else {
                let Delivery { interface: ifindex, queued } = new.delivery;
                KernelHop::Endpoint { ifindex, queued, mtu: new.mtu.into(), mac: new.mac.0 }
            };
            let same_addresses = old.is_none_or(|old| old.addresses == new.addresses);
            self.set(changes, hop, there, same_addresses);
            let trunk = around.trunks.get(usize::from(new.port.worker)).copied().unwrap_or_default();
            let mac = (number != HOST).then_some(new.mac.0);
            changes.ports.push((new.interface, Port { hop: hop.number(), trunk, mac }));
        }
        if let Some(old) = old {
            if new.is_none_or(|new| new.interface != old.interface) {
                changes.gone.ports.push(old.interface);
            }
            if new.is_none() {
                self.clear(changes, hop);
            }
        }
    }

    fn plan_vtep(
        &mut self,
        changes: &mut Changes,
        number: u32,
        old: Option<&Vtep>,
        new: Option<&Vtep>,
        uplink: Option<(Tunnel, u16)>,
    ) {
        let Some(hop) = Hop::vtep(number) else { return };
        let mtu = match uplink {
            Some((Tunnel::Kernel { .. }, mtu)) => Some(mtu),
            _ => None,
        };
        match (new, mtu) {
            (Some(new), Some(mtu)) => {
                let mtu = mtu.saturating_sub(overhead(new.address)).into();
                self.set(changes, hop, KernelHop::Vtep { address: new.address, mtu, mac: new.mac.0 }, true);
                changes.peers.push((new.address, hop));
            }
            _ => self.clear(changes, hop),
        }
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.address != old.address)) {
            changes.gone.peers.push(old.address);
        }
    }

    /// The hop is to be `there`. One that is it already keeps its generation, unless something else about it has changed.
    fn set(&mut self, changes: &mut Changes, hop: Hop, there: KernelHop, otherwise_same: bool) {
        self.unclaimed.remove(&hop);
        match self.hops.get(&hop) {
            Some(mirrored) if mirrored.hop == there && otherwise_same => {
                self.generations.set(hop.number(), mirrored.generation);
            }
            _ => self.renew(changes, hop, there),
        }
    }

    fn renew(&mut self, changes: &mut Changes, hop: Hop, there: KernelHop) {
        let generation = self.next_generation();
        self.hops.insert(hop, Mirrored { generation, hop: there });
        self.generations.set(hop.number(), generation);
        changes.set.push((hop, generation, there));
    }

    fn clear(&mut self, changes: &mut Changes, hop: Hop) {
        self.unclaimed.remove(&hop);
        if self.hops.remove(&hop).is_some() {
            self.generations.remove(hop.number());
            let generation = self.next_generation();
            changes.gone.hops.push((hop, generation));
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.last_generation += 1;
        self.last_generation
    }

    /// The changes were not carried out, or not all of them: what the kernel has is not known. The next plan says it all again.
    pub(super) fn failed(&mut self, changes: Changes) {
        self.published = Tables::default();
        for (hop, ..) in &changes.set {
            self.hops.remove(hop);
            self.generations.remove(hop.number());
        }
        // What was set and is not wanted by the next tables goes as well.
        self.owed.hops.extend(changes.set.iter().map(|(hop, generation, _)| (*hop, *generation)));
        self.owed.ports.extend(changes.ports.iter().map(|(interface, _)| *interface));
        self.owed.peers.extend(changes.peers.iter().map(|(address, _)| *address));
        self.owed.hops.extend(changes.gone.hops);
        self.owed.ports.extend(changes.gone.ports);
        self.owed.peers.extend(changes.gone.peers);
    }

    /// The tables that were planned for are published.
    pub(super) fn published(&mut self, tables: Tables) {
        self.published = tables;
    }

    /// The generation of every hop.
    pub(super) fn current(&self) -> impl Iterator<Item = (Hop, u32)> {
        self.hops.iter().map(|(hop, there)| (*hop, there.generation))
    }

    /// Clears what a former switch has left and nobody has claimed.
    pub(super) fn unclaimed(&mut self) -> Gone {
        let mut changes = Changes::default();
        for hop in std::mem::take(&mut self.unclaimed) {
            if let Some(Mirrored { hop: KernelHop::Vtep { address, .. }, .. }) = self.hops.get(&hop) {
                let is_claimed = self.published.vteps.by_address(*address).is_some();
                changes.gone.peers.extend((!is_claimed).then_some(*address));
            }
            self.clear(&mut changes, hop);
        }
        changes.gone
    }
}

impl Changes {
    /// Writes what is new, before anybody is sent there.
    pub(super) fn write(&self, kernel: &FlowCache) -> Result<(), FlowCacheError> {
        for (hop, generation, there) in &self.set {
            kernel.set_hop(hop.number(), *generation, Some(*there))?;
        }
        for (interface, port) in &self.ports {
            kernel.set_port(*interface, *port)?;
        }
        for (address, hop) in &self.peers {
            kernel.set_peer(*address, hop.number())?;
        }
        Ok(())
    }

    /// The hops with a new generation.
    pub(super) fn renewed(&self) -> impl Iterator<Item = (Hop, u32)> {
        self.set.iter().map(|(hop, generation, _)| (*hop, *generation)).chain(self.gone.hops.iter().copied())
    }
}

impl Gone {
    /// The hops that are cleared, with their new generations.
    pub(super) fn hops(&self) -> impl Iterator<Item = (Hop, u32)> {
        self.hops.iter().copied()
    }

    /// Takes away what nobody is sent to any more.
    pub(super) fn write(&self, kernel: &FlowCache) -> Result<(), FlowCacheError> {
        for (hop, generation) in &self.hops {
            kernel.set_hop(hop.number(), *generation, None)?;
        }
        for interface in &self.ports {
            kernel.unset_port(*interface)?;
        }
        for address in &self.peers {
            kernel.unset_peer(*address)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
