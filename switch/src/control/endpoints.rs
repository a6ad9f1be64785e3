//! The endpoints of this node, as control knows them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ControlError;
use super::bandwidth::{Bandwidth, Limit};
use super::dataplane::{Attached, Shapes};
use super::ports::{self, Forward, Fronts, PortMapping};
use crate::tables::{AttachMode, Delivery, Endpoint, EndpointNumber, EndpointPolicy};
use crate::wire::Mac;

/// What the CNI plugin asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndpointSpec {
    pub(super) id: String,
    pub(super) host_interface: String,
    #[serde(with = "super::persist::as_text")]
    pub(super) mac: Mac,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pod_namespace: String,
    pub(super) pod_name: String,
    pub(super) mtu: u16,
    #[serde(default = "before_there_were_modes")]
    pub(super) attach: AttachMode,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) port_mappings: Vec<PortMapping>,
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub(super) bandwidth: Bandwidth,
}

impl EndpointSpec {
    /// What its limits mean for the kernel.
    pub(super) fn shapes(&self) -> Shapes {
        let shape = |limit: Option<Limit>| limit.map(|limit| limit.shape(self.mtu));
        Shapes { ingress: shape(self.bandwidth.ingress), egress: shape(self.bandwidth.egress) }
    }

    /// What its port mappings mean for the kernel.
    pub(super) fn forwards(&self) -> Vec<Forward> {
        ports::forwards(&self.port_mappings, &self.addresses)
    }
}

fn before_there_were_modes() -> AttachMode {
    AttachMode::Direct
}

/// An endpoint that is attached.
#[derive(Debug, Clone)]
pub(super) struct EndpointEntry {
    pub(super) spec: EndpointSpec,
    pub(super) number: EndpointNumber,
    /// Tells the interface from a later one of the same name.
    pub(super) interface_index: u32,
    pub(super) attached: Attached,
}

impl EndpointEntry {
    /// As the workers know it.
    pub(super) fn for_tables(&self, policy: EndpointPolicy) -> Endpoint {
        let own = Delivery { interface: self.interface_index, queued: false };
        let (interface, delivery) = self.attached.detour.unwrap_or((self.interface_index, own));
        Endpoint {
            addresses: self.spec.addresses.clone(),
            mac: self.spec.mac,
            port: self.attached.port,
            attach: self.spec.attach,
            interface,
            delivery,
            mtu: self.spec.mtu,
            policy,
            mapped: self.spec.port_mappings.iter().map(|m| (m.protocol.number(), m.pod_port)).collect(),
        }
    }
}

/// All endpoints but the host, by id and by what must be unique.
#[derive(Debug, Default)]
pub(super) struct EndpointRegistry {
    entries: BTreeMap<String, EndpointEntry>,
    address_owners: HashMap<IpAddr, String>,
    interface_owners: HashMap<String, String>,
    number_owners: HashMap<EndpointNumber, String>,
    fronts: Fronts,
}

impl EndpointRegistry {
    pub(super) fn get(&self, id: &str) -> Option<&EndpointEntry> {
        self.entries.get(id)
    }

    pub(super) fn id_of(&self, number: EndpointNumber) -> Option<&str> {
        self.number_owners.get(&number).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &EndpointEntry> {
        self.entries.values()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The endpoint that has this address.
    pub(super) fn owner_of(&self, address: IpAddr) -> Option<&str> {
        self.address_owners.get(&address).map(String::as_str)
    }

    /// Refuses what clashes with another endpoint.
    pub(super) fn check_free(&self, spec: &EndpointSpec) -> Result<(), ControlError> {
        if let Some(other) = self.interface_owners.get(&spec.host_interface) {
            return Err(ControlError::AlreadyExists(format!(
                "host_interface {} belongs to endpoint {other}; remove that one first",
                spec.host_interface
            )));
        }
        let taken = spec.addresses.iter().find_map(|address| Some((address, self.owner_of(*address)?)));
        if let Some((address, other)) = taken {
            return Err(ControlError::AlreadyExists(format!(
                "address {address} belongs to endpoint {other}; remove that one first, or take another address"
            )));
        }
        match self.fronts.taken(&spec.forwards()) {
            None => Ok(()),
            Some((front, other)) => {
                let pod = self
                    .get(other)
                    .map(|entry| format!("{}/{}", entry.spec.pod_namespace, entry.spec.pod_name));
                Err(ports::clash(front, other, &pod.unwrap_or_default()))
            }
        }
    }

    /// Adds an endpoint that was checked.
    pub(super) fn insert(&mut self, entry: EndpointEntry) {
        let id = &entry.spec.id;
        for address in &entry.spec.addresses {
            self.address_owners.insert(*address, id.clone());
        }
        self.interface_owners.insert(entry.spec.host_interface.clone(), id.clone());
        self.number_owners.insert(entry.number, id.clone());
        self.fronts.insert(id, &entry.spec.forwards());
        self.entries.insert(id.clone(), entry);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<EndpointEntry> {
        let entry = self.entries.remove(id)?;
        for address in &entry.spec.addresses {
            self.address_owners.remove(address);
        }
        self.interface_owners.remove(&entry.spec.host_interface);
        self.number_owners.remove(&entry.number);
        self.fronts.remove(&entry.spec.forwards());
        Some(entry)
    }
}

/// True when both ask for the same, in whatever order the addresses and ports are.
pub(super) fn same(a: &EndpointSpec, b: &EndpointSpec) -> bool {
    let sorted = |spec: &EndpointSpec| {
        let mut spec = spec.clone();
        spec.addresses.sort_unstable();
        spec.port_mappings.sort_unstable();
        spec
    };
    sorted(a) == sorted(b)
}
