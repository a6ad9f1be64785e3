//! What can be read: nothing here changes anything.

use heddle_api as api;
use heddle_api::fib_entry;

use super::apply::Control;
use super::dataplane::{Attached, Dataplane};
use super::{ControlError, convert};
use crate::DropReason;
use crate::tables::conntrack::Flow;
use crate::tables::{HOST, NextHop, VtepNumber};

impl<D: Dataplane> Control<D> {
    /// See `Describe` in heddle.proto.
    pub fn describe(&self) -> api::Node {
        convert::node(&self.facts)
    }

    /// See `ListEndpoints` in heddle.proto. The host comes first, under the id "host".
    pub fn list_endpoints(&self) -> Vec<api::Endpoint> {
        let host = self.host.as_ref().and_then(|attached| self.host_endpoint(attached));
        host.into_iter().chain(self.endpoints.iter().map(|entry| self.describe_endpoint(entry))).collect()
    }

    fn host_endpoint(&self, attached: &Attached) -> Option<api::Endpoint> {
        let host = self.tables.endpoints.get(HOST)?;
        Some(api::Endpoint {
            id: HOST_ID.to_owned(),
            number: HOST,
            host_interface: super::host::SWITCH_SIDE.to_owned(),
            mac: host.mac.to_string(),
            addresses: host.addresses.iter().map(ToString::to_string).collect(),
            mtu: host.mtu.into(),
            worker: host.port.worker.into(),
            attach_mode: self.facts.attach.name().to_owned(),
            policy: convert::policy(host.policy),
            rx: Some(convert::total(attached, |stats| &stats.rx)),
            tx: Some(convert::total(attached, |stats| &stats.tx)),
            cached_rx: convert::cached(attached, |stats| &stats.rx),
            cached_tx: convert::cached(attached, |stats| &stats.tx),
            ..api::Endpoint::default()
        })
    }

    /// See `ListFib` in heddle.proto.
    pub fn list_fib(&self) -> Vec<api::FibEntry> {
        let entry = |(prefix, next_hop): (ipnet::IpNet, NextHop)| {
            let (next_hop, neighbor_mac) = match next_hop {
                NextHop::Endpoint(HOST) => (fib_entry::NextHop::Host(api::Host {}), String::new()),
                NextHop::Endpoint(number) => {
                    let id = self.endpoints.id_of(number).unwrap_or_default();
                    (fib_entry::NextHop::Endpoint(id.to_owned()), String::new())
                }
                NextHop::Vtep(number) => self.vtep_entry(number),
                NextHop::Unreachable => (fib_entry::NextHop::Unreachable(api::Unreachable {}), String::new()),
            };
            api::FibEntry { prefix: prefix.to_string(), next_hop: Some(next_hop), neighbor_mac }
        };
        self.tables.fib.iter().map(entry).collect()
    }

    fn vtep_entry(&self, number: VtepNumber) -> (fib_entry::NextHop, String) {
        let name = self.remotes.name_of(number).unwrap_or_default();
        let vtep = self.remotes.node(name).map(|node| convert::vtep(name, &node.vtep)).unwrap_or_default();
        let neighbor = self.tables.vteps.get(number).and_then(|vtep| vtep.neighbor);
        (fib_entry::NextHop::Vtep(vtep), neighbor.map(|mac| mac.to_string()).unwrap_or_default())
    }

    /// See `GetStatus` in heddle.proto.
    pub fn status(&self) -> Result<api::Status, ControlError> {
        let uplink = self.facts.uplink.as_ref();
        Ok(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: Some(self.describe()),
            uplink: uplink.map(|uplink| uplink.interface.clone()).unwrap_or_default(),
            uplink_xdp: uplink.map(|uplink| uplink.xdp.to_owned()).unwrap_or_default(),
            vni: uplink.map_or(0, |uplink| uplink.vni),
            vxlan_port: uplink.map_or(0, |uplink| uplink.port.into()),
            uptime_seconds: self.started.elapsed().as_secs(),
            generation: self.plane.generation(),
            endpoints: self.endpoints.len() as u32,
            routes: self.remotes.route_count() as u32,
            workers: self.plane.workers(),
            frames: Some(self.plane.census()?),
            policy: Some(self.policy_status()),
            flow_cache: self.plane.flow_cache(),
        })
    }

    /// See `ListFlows` in heddle.proto.
    pub fn list_flows(&self, endpoint: &str) -> Result<Vec<api::Flow>, ControlError> {
        if !endpoint.is_empty() && self.endpoints.get(endpoint).is_none() {
            let problem =
                format!("endpoint {endpoint} is not there; `heddle endpoints` lists those that are");
            return Err(ControlError::NotFound(problem));
        }
        let of_endpoint = |flow: Flow| {
            // One whose endpoint is just gone is about to be removed.
            let id = self.endpoints.id_of(flow.endpoint)?;
            (endpoint.is_empty() || id == endpoint).then(|| convert::flow(id, &flow))
        };
        Ok(self.plane.flows()?.into_iter().filter_map(of_endpoint).collect())
    }

    /// See `ListDrops` in heddle.proto. Every reason is there, also those that never happened.
    pub fn list_drops(&self) -> Vec<api::Drop> {
        let drop = |reason: &DropReason| api::Drop {
            reason: reason.name().to_owned(),
            description: reason.description().to_owned(),
            packets: self.plane.drops(*reason),
        };
        DropReason::ALL.iter().map(drop).collect()
    }
}

/// Id of the host in lists. No CNI plugin makes such an id: it has no slash.
const HOST_ID: &str = "host";
