//! The other nodes, as control knows them, and how they change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::ControlError;
use super::validate::RouteRequest;
use crate::tables::VtepNumber;
use crate::wire::Mac;

/// A tunnel end as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VtepSpec {
    pub(super) address: IpAddr,
    #[serde(with = "super::persist::as_text")]
    pub(super) mac: Mac,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteNode {
    pub(super) number: VtepNumber,
    pub(super) vtep: VtepSpec,
    /// What is behind it.
    pub(super) prefixes: BTreeSet<IpNet>,
}

/// All other nodes and the routes to them.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    nodes: BTreeMap<String, RemoteNode>,
    by_address: HashMap<IpAddr, String>,
    by_number: HashMap<VtepNumber, String>,
    /// Numbers below the highest that no node has.
    free: BTreeSet<VtepNumber>,
    routes: HashMap<IpNet, String>,
}

/// What is to change, computed before anything does. Its size follows the request, not what is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RemoteChange {
    /// Nodes by name: number and VTEP to have, or `None` to go.
    pub(super) nodes: BTreeMap<String, Option<(VtepNumber, VtepSpec)>>,
    /// Prefixes: the node to be behind, or `None` to go.
    pub(super) routes: BTreeMap<IpNet, Option<String>>,
}

impl RemoteChange {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.routes.is_empty()
    }
}

impl Remotes {
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&String, &RemoteNode)> {
        self.nodes.iter()
    }

    pub(super) fn node(&self, name: &str) -> Option<&RemoteNode> {
        self.nodes.get(name)
    }

    pub(super) fn name_of(&self, number: VtepNumber) -> Option<&str> {
        self.by_number.get(&number).map(String::as_str)
    }

    pub(super) fn number_at(&self, address: IpAddr) -> Option<VtepNumber> {
        self.nodes.get(self.by_address.get(&address)?).map(|node| node.number)
    }

    /// The outer addresses of all nodes.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.nodes.values().map(|node| node.vtep.address).collect()
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = (&IpNet, &String)> {
        self.routes.iter()
    }

    pub(super) fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// What a request means for what is there, or why it cannot be.
    pub(super) fn plan(&self, request: RouteRequest) -> Result<RemoteChange, ControlError> {
        let mut change = RemoteChange::default();
        if request.replace {
            let gone = self.nodes.keys().filter(|name| !request.set_vteps.contains_key(*name));
            change.nodes.extend(gone.map(|name| (name.clone(), None)));
            let gone = self.routes.keys().filter(|prefix| !request.set_routes.contains_key(*prefix));
            change.routes.extend(gone.map(|prefix| (*prefix, None)));
        }
        let gone = request.remove_vteps.into_iter().filter(|name| self.nodes.contains_key(name));
        change.nodes.extend(gone.map(|name| (name, None)));
        for name in change.nodes.keys() {
            let behind = self.nodes.get(name).map(|node| node.prefixes.iter()).into_iter().flatten();
            change.routes.extend(behind.map(|prefix| (*prefix, None)));
        }
        let gone = request.remove_routes.into_iter().filter(|prefix| self.routes.contains_key(prefix));
        change.routes.extend(gone.map(|prefix| (prefix, None)));
        let new = request.set_vteps.into_iter();
        let new = new.filter(|(name, vtep)| self.nodes.get(name).is_none_or(|node| node.vtep != *vtep));
        let mut unused =
            self.free.iter().copied().chain(self.nodes.len() as VtepNumber + self.free.len() as VtepNumber..);
        for (name, vtep) in new {
            let number = self.nodes.get(&name).map(|node| node.number).or_else(|| unused.next());
            // There are more numbers than memory for nodes.
            change.nodes.insert(name, number.map(|number| (number, vtep)));
        }
        self.check_addresses(&change)?;
        for (prefix, name) in request.set_routes {
            let there = change.nodes.get(&name).map_or(self.nodes.contains_key(&name), Option::is_some);
            if !there {
                let problem = format!("route {prefix}: node {name} has no VTEP; set it in set_vteps");
                return Err(ControlError::NotFound(problem));
            }
            if self.routes.get(&prefix) == Some(&name) {
                change.routes.remove(&prefix);
            } else {
                change.routes.insert(prefix, Some(name));
            }
        }
        Ok(change)
    }

    /// Two nodes must not have one address, once all of the change is in.
    fn check_addresses(&self, change: &RemoteChange) -> Result<(), ControlError> {
        let mut new = HashMap::new();
        for (name, (_, vtep)) in change.nodes.iter().filter_map(|(name, node)| Some((name, node.as_ref()?))) {
            let stays = |other: &&String| *other != name && !change.nodes.contains_key(*other);
            let holder = self.by_address.get(&vtep.address).filter(stays);
            if let Some(other) = holder.or_else(|| new.insert(vtep.address, name)) {
                let problem = format!(
                    "VTEP address {} of node {name} belongs to node {other}; remove that one in the same request",
                    vtep.address
                );
                return Err(ControlError::AlreadyExists(problem));
            }
        }
        Ok(())
    }

    /// Carries a planned change out.
    pub(super) fn apply(&mut self, change: RemoteChange) {
        for prefix in change.routes.keys() {
            if let Some(node) = self.routes.remove(prefix).and_then(|name| self.nodes.get_mut(&name)) {
                node.prefixes.remove(prefix);
            }
        }
        // All old addresses go before the new ones come: two nodes may exchange theirs.
        for name in change.nodes.keys() {
            if let Some(node) = self.nodes.get(name) {
                self.by_address.remove(&node.vtep.address);
            }
        }
        for (name, node) in change.nodes {
            match node {
                Some((number, vtep)) => self.set_node(name, number, vtep),
                None => self.remove_node(&name),
            }
        }
        for (prefix, name) in change.routes.into_iter().filter_map(|(prefix, name)| Some((prefix, name?))) {
            if let Some(node) = self.nodes.get_mut(&name) {
                node.prefixes.insert(prefix);
                self.routes.insert(prefix, name);
            }
        }
    }

    fn set_node(&mut self, name: String, number: VtepNumber, vtep: VtepSpec) {
        self.free.remove(&number);
        self.by_address.insert(vtep.address, name.clone());
        self.by_number.insert(number, name.clone());
        let new = RemoteNode { number, vtep, prefixes: BTreeSet::new() };
        self.nodes.entry(name).and_modify(|node| node.vtep = vtep).or_insert(new);
    }

    fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(name) {
            self.by_number.remove(&node.number);
            self.free.insert(node.number);
        }
    }
}
