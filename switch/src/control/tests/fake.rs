//! A dataplane in memory, and a node for it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use heddle_api as api;

use crate::DropReason;
use crate::config::{Family, PolicyMode};
use crate::control::ports::Forward;
use crate::control::{Attached, Control, ControlError, Dataplane, NodeFacts, Shapes, Store, UplinkFacts};
use crate::ports::PortId;
use crate::tables::conntrack::Flow;
use crate::tables::{AttachMode, EndpointNumber, NextHop, Tables};
use crate::wire::Mac;

/// What the fake was told, and what it is to answer.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) interfaces: HashMap<String, u32>,
    /// Interfaces by endpoint.
    pub(super) attached: BTreeMap<u32, String>,
    pub(super) published: Vec<Tables>,
    /// Next hops that the last publication touched.
    pub(super) touched: Vec<NextHop>,
    pub(super) refuse_attach: bool,
    pub(super) refuse_publish: bool,
    pub(super) refuse_ports: bool,
    pub(super) announced: Vec<IpAddr>,
    /// Of the endpoint that was attached last.
    pub(super) limits: Shapes,
    /// Ports that lead to pods.
    pub(super) forwards: Vec<Forward>,
    pub(super) flows: Vec<Flow>,
    next_serial: u32,
}

#[derive(Clone, Default)]
pub(super) struct FakePlane(Arc<Mutex<Notes>>);

impl FakePlane {
    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap()
    }

    /// What was published last.
    pub(super) fn tables(&self) -> Tables {
        self.notes().published.last().unwrap().clone()
    }

    pub(super) fn attached(&self) -> Vec<String> {
        self.notes().attached.values().cloned().collect()
    }
}

impl Dataplane for FakePlane {
    fn interface_index(&self, name: &str) -> Option<u32> {
        self.notes().interfaces.get(name).copied()
    }

    fn attach(
        &mut self,
        interface: &str,
        number: EndpointNumber,
        _: AttachMode,
        limits: Shapes,
    ) -> Result<Attached, ControlError> {
        let mut notes = self.notes();
        if notes.refuse_attach {
            return Err(ControlError::Unavailable("busy".into()));
        }
        let serial = notes.next_serial;
        notes.next_serial += 1;
        notes.attached.insert(number, interface.to_owned());
        notes.limits = limits;
        Ok(Attached {
            port: PortId { worker: 0, slot: serial as u16, serial },
            stats: Arc::default(),
            cached: None,
            detour: None,
        })
    }

    fn detach(&mut self, number: EndpointNumber) -> Result<(), ControlError> {
        self.notes().attached.remove(&number).expect("detached twice");
        Ok(())
    }

    fn map_ports(&mut self, forwards: &[Forward]) -> Result<(), ControlError> {
        let mut notes = self.notes();
        if notes.refuse_ports {
            return Err(ControlError::Unavailable("no nft".into()));
        }
        notes.forwards.extend_from_slice(forwards);
        Ok(())
    }

    fn unmap_ports(&mut self, forwards: &[Forward]) {
        self.notes().forwards.retain(|forward| !forwards.contains(forward));
    }

    fn announce(&mut self, addresses: &[IpAddr]) -> Result<(), ControlError> {
        self.notes().announced.extend_from_slice(addresses);
        Ok(())
    }

    fn withdraw(&mut self, addresses: &[IpAddr]) {
        self.notes().announced.retain(|address| !addresses.contains(address));
    }

    fn publish(&mut self, tables: Tables, touched: &[NextHop]) -> Result<u64, ControlError> {
        let mut notes = self.notes();
        if notes.refuse_publish {
            return Err(ControlError::Unavailable("a worker hangs".into()));
        }
        notes.published.push(tables);
        notes.touched = touched.to_vec();
        Ok(notes.published.len() as u64)
    }

    fn generation(&self) -> u64 {
        self.notes().published.len() as u64
    }

    fn workers(&self) -> Vec<api::Worker> {
        vec![api::Worker::default()]
    }

    fn flows(&self) -> Result<Vec<Flow>, ControlError> {
        Ok(self.notes().flows.clone())
    }

    fn flow_cache(&self) -> Option<api::FlowCache> {
        None
    }

    fn census(&self) -> Result<api::FrameCensus, ControlError> {
        Ok(api::FrameCensus { total: 8192, free: 8192, ..api::FrameCensus::default() })
    }

    fn drops(&self, reason: DropReason) -> u64 {
        u64::from(reason == DropReason::NoRoute)
    }
}

pub(in crate::control) fn facts() -> NodeFacts {
    let uplink = UplinkFacts {
        interface: "eth0".into(),
        index: 2,
        mac: Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        underlay: Family::Ipv4,
        address_v4: Some([172, 31, 0, 1].into()),
        address_v6: None,
        vni: 1,
        port: 4789,
        xdp: "native",
    };
    NodeFacts {
        name: "n1".into(),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/48".parse().unwrap()],
        addresses: vec!["172.31.0.1".parse().unwrap()],
        pod_mtu: 1450,
        attach: AttachMode::Direct,
        uplink: Some(uplink),
        segment: None,
    }
}

/// A control thread with its dataplane and its directory.
pub(super) struct Rig {
    pub(super) plane: FakePlane,
    pub(super) control: Control<FakePlane>,
    pub(super) directory: tempfile::TempDir,
    mode: PolicyMode,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(facts())
    }

    /// One that enforces policy; the others do not.
    pub(super) fn enforcing() -> Self {
        Self::of(facts(), PolicyMode::Enforced)
    }

    pub(super) fn with(facts: NodeFacts) -> Self {
        Self::of(facts, PolicyMode::Off)
    }

    fn of(facts: NodeFacts, mode: PolicyMode) -> Self {
        let plane = FakePlane::default();
        for index in 1..10 {
            plane.notes().interfaces.insert(format!("veth{index}"), 100 + index);
        }
        let directory = tempfile::tempdir().unwrap();
        let control = start(&plane, facts, mode, &directory);
        Self { plane, control, directory, mode }
    }

    /// As after a restart of the daemon: a new control thread and dataplane, the same disk and interfaces.
    pub(super) fn restart(self) -> Self {
        let Self { plane, control, directory, mode } = self;
        drop(control.finish());
        let interfaces = plane.notes().interfaces.clone();
        let plane = FakePlane::default();
        plane.notes().interfaces = interfaces;
        let mut control = start(&plane, facts(), mode, &directory);
        control.restore().unwrap();
        Self { plane, control, directory, mode }
    }

    /// Changes the state, calls, and asserts that the call failed without leaving a trace.
    pub(super) fn fails<T: std::fmt::Debug>(
        &mut self,
        call: impl FnOnce(&mut Control<FakePlane>) -> Result<T, ControlError>,
    ) -> ControlError {
        let state = |rig: &Self| {
            let forwards = rig.plane.notes().forwards.clone();
            (rig.plane.attached(), fib(&rig.plane), rig.control.list_endpoints().len(), forwards)
        };
        let before = state(self);
        let error = call(&mut self.control).unwrap_err();
        let after = state(self);
        assert_eq!(before, after, "{error}");
        error
    }
}

fn start(
    plane: &FakePlane,
    facts: NodeFacts,
    mode: PolicyMode,
    directory: &tempfile::TempDir,
) -> Control<FakePlane> {
    let store = Store::open(directory.path()).unwrap();
    let node = facts.node();
    Control::new(plane.clone(), facts, node, mode, store).unwrap()
}

pub(super) fn fib(plane: &FakePlane) -> Vec<String> {
    plane.tables().fib.iter().map(|(prefix, next_hop)| format!("{prefix} {next_hop:?}")).collect()
}

/// A good request for the endpoint with this number.
pub(super) fn request(n: u32) -> api::AddEndpointRequest {
    api::AddEndpointRequest {
        id: format!("pod{n}/eth0"),
        host_interface: format!("veth{n}"),
        mac: format!("02:00:00:00:00:0{n}"),
        addresses: vec![format!("10.244.1.{n}"), format!("fd00:10:244:1::{n}")],
        pod_namespace: "default".into(),
        pod_name: format!("pod{n}"),
        ..api::AddEndpointRequest::default()
    }
}
