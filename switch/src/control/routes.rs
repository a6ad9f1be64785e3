//! Changes to what is behind other nodes, and to how those are reached.

use std::net::IpAddr;

use heddle_api::UpdateRoutesRequest;

use super::ControlError;
use super::apply::Control;
use super::dataplane::Dataplane;
use super::persist::SavedRoutes;
use super::remote::RemoteChange;
use super::validate::{self, RouteRequest};
use crate::tables::{NextHop, Tables, Vtep};
use crate::wire::Mac;

impl<D: Dataplane> Control<D> {
    /// See `UpdateRoutes` in heddle.proto. Returns the generation that holds the change.
    pub fn update_routes(&mut self, request: UpdateRoutesRequest) -> Result<u64, ControlError> {
        let request = validate::routes(&self.facts, request)?;
        let taken = request.set_routes.keys().find_map(|prefix| {
            let single = prefix.prefix_len() == prefix.max_prefix_len();
            single.then(|| self.endpoint_at(prefix.addr())).flatten().map(|id| (prefix, id))
        });
        if let Some((prefix, id)) = taken {
            return Err(ControlError::AlreadyExists(format!(
                "route {prefix}: the address belongs to endpoint {id}"
            )));
        }
        let generation = self.change_remotes(request)?;
        self.save_routes(false);
        Ok(generation)
    }

    /// Brings back what was saved.
    pub(super) fn restore_routes(&mut self, saved: SavedRoutes) -> Result<(), ControlError> {
        let (vteps, routes) = saved.into_messages();
        let request =
            UpdateRoutesRequest { set_vteps: vteps, set_routes: routes, ..UpdateRoutesRequest::default() };
        // By way of the checks: the configuration may have changed since.
        let request = validate::routes(&self.facts, request)?;
        self.change_remotes(request).map(drop)
    }

    fn change_remotes(&mut self, request: RouteRequest) -> Result<u64, ControlError> {
        let change = self.remotes.plan(request)?;
        if change.is_empty() {
            return Ok(self.plane.generation());
        }
        let mut tables = self.tables.clone();
        let touched = self.apply_to(&mut tables, &change);
        let generation = self.publish_touching(tables, &touched)?;
        self.remotes.apply(change);
        self.routes_unsaved = true;
        Ok(generation)
    }

    /// Carries a change out on tables that are not published yet. Returns the next hops that a prefix is taken from.
    fn apply_to(&self, tables: &mut Tables, change: &RemoteChange) -> Vec<NextHop> {
        for (name, node) in &change.nodes {
            match (node, self.remotes.node(name)) {
                (Some((number, vtep)), _) => {
                    // The next hop stays resolved when only the MAC behind it changes.
                    let old = tables.vteps.get(*number).filter(|old| old.address == vtep.address);
                    let neighbor = old.and_then(|old| old.neighbor);
                    tables.vteps.set(*number, Vtep { address: vtep.address, mac: vtep.mac, neighbor });
                }
                (None, Some(gone)) => drop(tables.vteps.remove(gone.number)),
                (None, None) => {}
            }
        }
        let number = |name: &String| match change.nodes.get(name) {
            Some(node) => node.as_ref().map(|(number, _)| *number),
            None => self.remotes.node(name).map(|node| node.number),
        };
        // A prefix takes its addresses from a shorter one, or gives them back to it.
        let mut touched: Vec<_> =
            change.routes.keys().filter_map(|prefix| tables.fib.around(*prefix)).collect();
        touched.sort_unstable();
        touched.dedup();
        for (prefix, name) in &change.routes {
            match name.as_ref().and_then(number) {
                Some(number) => drop(tables.fib.insert(*prefix, NextHop::Vtep(number))),
                None => self.restore_route(tables, *prefix),
            }
        }
        touched
    }

    /// The uplink went away: what would leave by it is dropped with a reason instead of filling dead sockets.
    pub fn lose_uplink(&mut self) -> Result<(), ControlError> {
        let mut tables = self.tables.clone();
        tables.node.uplink = None;
        self.publish(tables).map(drop)
    }

    /// Outer addresses whose next hop has to be resolved.
    pub fn vtep_addresses(&self) -> Vec<IpAddr> {
        self.remotes.addresses()
    }

    /// Takes in what became known of the next hops towards VTEPs.
    pub fn set_neighbors(&mut self, resolved: &[(IpAddr, Option<Mac>)]) -> Result<(), ControlError> {
        let mut tables = self.tables.clone();
        let mut changed = false;
        for (address, neighbor) in resolved {
            let Some(number) = self.remotes.number_at(*address) else { continue };
            if let Some(vtep) = tables.vteps.get(number).filter(|vtep| vtep.neighbor != *neighbor) {
                let vtep = Vtep { neighbor: *neighbor, ..vtep.clone() };
                tables.vteps.set(number, vtep);
                changed = true;
            }
        }
        if changed { self.publish(tables).map(drop) } else { Ok(()) }
    }
}
