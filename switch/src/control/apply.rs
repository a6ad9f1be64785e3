//! Changes to endpoints, all or nothing: check everything, build the new tables aside, publish, remember.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use heddle_api::endpoint_event::Event;
use heddle_api::{AddEndpointRequest, Endpoint};
use ipnet::IpNet;

use super::dataplane::{Attached, Dataplane};
use super::endpoints::{self, EndpointEntry, EndpointRegistry, EndpointSpec};
use super::facts::NodeFacts;
use super::persist::{SavedEndpoint, Store};
use super::policy::PolicyState;
use super::remote::Remotes;
use super::watchers::{EndpointEvents, Watchers};
use super::{ControlError, convert, validate};
use crate::config::PolicyMode;
use crate::tables::{self, Delivery, EndpointNumber, EndpointPolicy, HOST, NextHop, Tables};

/// How often routes are written to disk at most. They come from somebody who will say them again; endpoints do not, and
/// are written before a call returns.
const SAVE_ROUTES_EVERY: Duration = Duration::from_secs(1);

/// The highest number an endpoint gets, unless more than so many are there at once: the tables are indexed by them.
const LAST_NUMBER: EndpointNumber = 4095;

/// The switch's authoritative state, and the one who changes it.
pub struct Control<D> {
    pub(super) plane: D,
    pub(super) facts: NodeFacts,
    /// What was published last; changed on a copy.
    pub(super) tables: Tables,
    pub(super) endpoints: EndpointRegistry,
    pub(super) remotes: Remotes,
    pub(super) host: Option<Attached>,
    /// Number of the newest endpoint.
    last_number: EndpointNumber,
    pub(super) policy: PolicyState,
    pub(super) watchers: Watchers,
    store: Store,
    pub(super) routes_unsaved: bool,
    routes_saved: Instant,
    pub(super) started: Instant,
}

impl<D: Dataplane> Control<D> {
    /// Starts with `tables`, which hold the node and its uplink, and publishes the routes every node has.
    pub fn new(
        mut plane: D,
        facts: NodeFacts,
        node: tables::Node,
        policy: PolicyMode,
        store: Store,
    ) -> Result<Self, ControlError> {
        let mut tables = Tables { node, ..Tables::default() };
        for (prefix, next_hop) in facts.base_routes() {
            tables.fib.insert(prefix, next_hop);
        }
        let generation = plane.publish(tables.clone(), &[])?;
        tables.generation = generation;
        let now = Instant::now();
        Ok(Self {
            plane,
            facts,
            tables,
            endpoints: EndpointRegistry::default(),
            remotes: Remotes::default(),
            host: None,
            last_number: HOST,
            policy: PolicyState::new(policy),
            watchers: Watchers::default(),
            store,
            routes_unsaved: false,
            routes_saved: now,
            started: now,
        })
    }

    /// Makes the host's own port endpoint 0.
    pub fn add_host(
        &mut self,
        mac: crate::wire::Mac,
        mtu: u16,
        attached: &Attached,
    ) -> Result<(), ControlError> {
        let mut tables = self.tables.clone();
        let addresses = self.facts.addresses.clone();
        let host = tables::Endpoint {
            addresses,
            mac,
            port: attached.port,
            attach: self.facts.attach,
            interface: self.plane.interface_index(super::host::SWITCH_SIDE).unwrap_or_default(),
            delivery: Delivery::default(),
            mtu,
            policy: EndpointPolicy::Open,
            mapped: Vec::new(),
        };
        tables.endpoints.set(HOST, host);
        self.host = Some(attached.clone());
        self.publish(tables).map(drop)
    }

    /// Attaches what was there when the daemon last ran, as far as its interfaces still are.
    pub fn restore(&mut self) -> Result<(), super::StartError> {
        self.restore_policy();
        for saved in self.store.load_endpoints()? {
            let (id, interface) = (saved.spec.id.clone(), saved.spec.host_interface.clone());
            match self.reattach(saved) {
                Ok(()) => tracing::info!(%id, %interface, "endpoint is back"),
                Err(reason) => tracing::warn!(%id, %interface, %reason, "endpoint is forgotten"),
            }
        }
        self.save_endpoints();
        if let Some(saved) = self.store.load_routes()? {
            let routes = saved.routes.len();
            match self.restore_routes(saved) {
                Ok(()) => tracing::info!(routes, "routes are back"),
                Err(reason) => tracing::warn!(%reason, "routes are forgotten; they have to be set again"),
            }
        }
        Ok(())
    }

    /// The address need not lie in the pod CIDRs any more: the pod outlives a change of the configuration.
    fn reattach(&mut self, saved: SavedEndpoint) -> Result<(), ControlError> {
        let SavedEndpoint { spec, number, interface_index } = saved;
        if self.plane.interface_index(&spec.host_interface) != Some(interface_index) {
            return Err(ControlError::Precondition("its interface is gone".to_owned()));
        }
        self.endpoints.check_free(&spec)?;
        if number == HOST || self.endpoints.id_of(number).is_some() {
            return Err(ControlError::AlreadyExists(format!("number {number} is taken")));
        }
        self.install(spec, number, interface_index)
    }

    /// The first part of `AddEndpoint` in heddle.proto: the endpoint is attached, open or closed as its policy wants.
    pub fn add_endpoint(&mut self, request: AddEndpointRequest) -> Result<Endpoint, ControlError> {
        let spec = validate::endpoint(&self.facts, request)?;
        if let Some(entry) = self.endpoints.get(&spec.id) {
            return if endpoints::same(&entry.spec, &spec) {
                Ok(self.describe_endpoint(entry))
            } else {
                let problem = "is there with other content; remove it first";
                Err(ControlError::AlreadyExists(format!("endpoint {} {problem}", spec.id)))
            };
        }
        self.endpoints.check_free(&spec)?;
        let interface = &spec.host_interface;
        let index = self.plane.interface_index(interface).ok_or_else(|| {
            ControlError::Precondition(format!("host_interface {interface} is not there; create it first"))
        })?;
        let number = self.free_number();
        let id = spec.id.clone();
        self.install(spec, number, index)?;
        if let Err(error) = self.try_save_endpoints() {
            let entry = self.endpoints.remove(&id);
            if let Some(entry) = entry {
                self.uninstall(&entry)?;
            }
            return Err(error);
        }
        let entry = self.endpoints.get(&id);
        entry
            .map(|entry| self.describe_endpoint(entry))
            .ok_or_else(|| ControlError::NotFound(format!("endpoint {id} is gone again")))
    }

    /// A number for a new endpoint. Numbers go round before one is used again, so that what is remembered of the endpoint
    /// that had it before is long gone by then.
    fn free_number(&mut self) -> EndpointNumber {
        let mut number = self.tables.endpoints.first_free(self.last_number + 1);
        if number > LAST_NUMBER {
            number = self.tables.endpoints.first_free(HOST + 1);
        }
        self.last_number = number;
        number
    }

    /// Attaches and publishes an endpoint that was checked; leaves nothing behind on failure.
    fn install(
        &mut self,
        spec: EndpointSpec,
        number: EndpointNumber,
        interface_index: u32,
    ) -> Result<(), ControlError> {
        let attached = self.plane.attach(&spec.host_interface, number, spec.attach, spec.shapes())?;
        let entry = EndpointEntry { spec, number, interface_index, attached };
        let mut tables = self.tables.clone();
        tables.endpoints.set(number, entry.for_tables(self.policy_of_new(&entry.spec)));
        // Where the addresses led until now.
        let touched: Vec<_> =
            entry.spec.addresses.iter().filter_map(|address| tables.fib.lookup(*address)).collect();
        for address in &entry.spec.addresses {
            tables.fib.insert(IpNet::from(*address), NextHop::Endpoint(number));
        }
        if let Err(error) = self.publish_touching(tables, &touched) {
            if let Err(worse) = self.plane.detach(entry.number) {
                tracing::error!(id = entry.spec.id, %worse, "an endpoint's port stays open");
            }
            return Err(error);
        }
        // Last, so that nothing comes by a port before there is anybody to take it.
        if let Err(error) = self.open_up(&entry.spec) {
            if let Err(worse) = self.unpublish(&entry).and_then(|()| self.plane.detach(entry.number)) {
                tracing::error!(id = entry.spec.id, %worse, "an endpoint that nobody can reach stays");
            }
            return Err(error);
        }
        self.watchers.tell(&Event::Added(self.describe_endpoint(&entry)));
        self.endpoints.insert(entry);
        Ok(())
    }

    /// Lets others reach an endpoint, as far as that is Linux's business.
    fn open_up(&mut self, spec: &EndpointSpec) -> Result<(), ControlError> {
        self.plane.announce(&spec.addresses)?;
        self.plane.map_ports(&spec.forwards()).inspect_err(|_| self.plane.withdraw(&spec.addresses))
    }

    /// See `RemoveEndpoint` in heddle.proto.
    pub fn remove_endpoint(&mut self, id: &str) -> Result<bool, ControlError> {
        let Some(entry) = self.endpoints.get(id).cloned() else { return Ok(false) };
        self.uninstall(&entry)?;
        self.endpoints.remove(id);
        // If this fails, the file names an endpoint whose interface is about to go: the next start forgets it.
        self.save_endpoints();
        Ok(true)
    }

    /// Takes an endpoint out of the tables, and once no worker sends to it any more, its port away.
    fn uninstall(&mut self, entry: &EndpointEntry) -> Result<(), ControlError> {
        self.plane.unmap_ports(&entry.spec.forwards());
        self.plane.withdraw(&entry.spec.addresses);
        self.unpublish(entry)?;
        self.watchers.tell(&Event::Removed(entry.spec.id.clone()));
        self.plane.detach(entry.number)
    }

    fn unpublish(&mut self, entry: &EndpointEntry) -> Result<(), ControlError> {
        let mut tables = self.tables.clone();
        tables.endpoints.remove(entry.number);
        for address in &entry.spec.addresses {
            self.restore_route(&mut tables, IpNet::from(*address));
        }
        self.publish(tables).map(drop)
    }

    /// Gives a prefix back to whatever it belongs to by default.
    pub(super) fn restore_route(&self, tables: &mut Tables, prefix: IpNet) {
        match self.facts.base_route(prefix) {
            Some(base) => tables.fib.insert(prefix, base),
            None => tables.fib.remove(prefix),
        };
    }

    /// Removes the endpoints whose interface went without anybody saying so.
    pub fn forget_vanished(&mut self) {
        let gone = |entry: &&EndpointEntry| {
            self.plane.interface_index(&entry.spec.host_interface) != Some(entry.interface_index)
        };
        let gone: Vec<_> = self.endpoints.iter().filter(gone).map(|entry| entry.spec.id.clone()).collect();
        for id in gone {
            match self.remove_endpoint(&id) {
                Ok(_) => tracing::info!(%id, "endpoint removed: its interface is gone"),
                Err(error) => {
                    tracing::warn!(%id, %error, "endpoint's interface is gone, but it cannot be removed");
                }
            }
        }
    }

    /// See `WatchEndpoints` in heddle.proto.
    pub fn watch_endpoints(&mut self) -> Result<EndpointEvents, ControlError> {
        let there: Vec<_> = self.endpoints.iter().map(|entry| self.describe_endpoint(entry)).collect();
        self.watchers.add(there.into_iter())
    }

    pub(super) fn describe_endpoint(&self, entry: &EndpointEntry) -> Endpoint {
        convert::endpoint(entry, self.policy_at(entry.number))
    }

    /// The pod of an endpoint, for messages.
    pub(super) fn pod_of(&self, id: &str) -> String {
        let spec = self.endpoints.get(id).map(|entry| &entry.spec);
        spec.map_or_else(String::new, |spec| format!("{}/{}", spec.pod_namespace, spec.pod_name))
    }

    /// True when there is an endpoint of this id.
    pub(super) fn has_endpoint(&self, id: &str) -> bool {
        self.endpoints.get(id).is_some()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The endpoint with this address, for messages.
    pub(super) fn endpoint_at(&self, address: IpAddr) -> Option<&str> {
        self.endpoints.owner_of(address)
    }

    /// Makes `tables` the published ones; they route as those before.
    pub(super) fn publish(&mut self, tables: Tables) -> Result<u64, ControlError> {
        self.publish_touching(tables, &[])
    }

    /// Makes `tables` the published ones. `touched` are the next hops that a prefix was taken from.
    pub(super) fn publish_touching(
        &mut self,
        mut tables: Tables,
        touched: &[NextHop],
    ) -> Result<u64, ControlError> {
        tables.generation = self.plane.generation() + 1;
        let generation = self.plane.publish(tables.clone(), touched)?;
        self.tables = tables;
        Ok(generation)
    }

    fn try_save_endpoints(&self) -> Result<(), ControlError> {
        let saved = self.endpoints.iter().map(|entry| SavedEndpoint {
            spec: entry.spec.clone(),
            number: entry.number,
            interface_index: entry.interface_index,
        });
        self.store
            .save_endpoints(saved.collect())
            .map_err(|error| ControlError::Unavailable(error.to_string()))
    }

    fn save_endpoints(&self) {
        if let Err(error) = self.try_save_endpoints() {
            tracing::warn!(%error, "the list of endpoints on disk is out of date");
        }
    }

    /// Writes changed routes, unless that was done a moment ago; `now_or_never` does it anyway.
    pub fn save_routes(&mut self, now_or_never: bool) {
        if !self.routes_unsaved || (self.routes_saved.elapsed() < SAVE_ROUTES_EVERY && !now_or_never) {
            return;
        }
        self.routes_saved = Instant::now();
        match self.store.save_routes(&self.remotes) {
            Ok(()) => self.routes_unsaved = false,
            Err(error) => tracing::warn!(%error, "the routes on disk are out of date"),
        }
    }

    /// Ends: what changed is written, and the dataplane is handed back to be stopped.
    pub fn finish(mut self) -> D {
        self.save_routes(true);
        if let Some(image) = self.image_to_save(true)
            && let Err(error) = self.store.save_image(&image)
        {
            tracing::warn!(%error, "the policy image on disk is out of date");
        }
        self.plane
    }
}
