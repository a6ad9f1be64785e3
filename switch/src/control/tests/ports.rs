//! Port mappings come and go with their endpoint, have one owner, and are back after a restart.

use heddle_api::{AddEndpointRequest, PortMapping};

use super::fake::{Rig, request};
use crate::control::ControlError;

fn mapping(host_port: u32) -> PortMapping {
    PortMapping { protocol: "tcp".into(), host_port, pod_port: 80, host_address: String::new() }
}

fn mapped(n: u32, host_ports: &[u32]) -> AddEndpointRequest {
    let port_mappings = host_ports.iter().map(|port| mapping(*port)).collect();
    AddEndpointRequest { port_mappings, ..request(n) }
}

#[test]
fn they_come_and_go_with_their_endpoint() {
    let mut rig = Rig::new();
    let endpoint = rig.control.add_endpoint(mapped(5, &[8080, 8081])).unwrap();
    assert_eq!(endpoint.port_mappings, [mapping(8080), mapping(8081)]);
    assert_eq!(rig.plane.notes().forwards.len(), 4, "each port in each family");
    assert_eq!(rig.plane.tables().endpoints.get(1).unwrap().mapped, [(6, 80), (6, 80)]);
    // The same, in another order, is the same endpoint.
    assert_eq!(rig.control.add_endpoint(mapped(5, &[8081, 8080])).unwrap(), endpoint);
    assert!(rig.control.remove_endpoint("pod5/eth0").unwrap());
    assert_eq!(rig.plane.notes().forwards, []);
    rig.control.add_endpoint(mapped(6, &[8080])).unwrap();
}

#[test]
fn a_taken_port_is_refused_with_its_owner_named() {
    let mut rig = Rig::new();
    rig.control.add_endpoint(mapped(5, &[8080])).unwrap();
    let error = rig.fails(|control| control.add_endpoint(mapped(6, &[8081, 8080])));
    let named = |text: &str| text.contains("tcp port 8080") && text.contains("default/pod5");
    assert!(matches!(&error, ControlError::AlreadyExists(text) if named(text)), "{error:?}");
}

#[test]
fn an_endpoint_without_its_ports_is_none() {
    let mut rig = Rig::new();
    rig.plane.notes().refuse_ports = true;
    let error = rig.fails(|control| control.add_endpoint(mapped(5, &[8080])));
    assert!(matches!(error, ControlError::Unavailable(_)), "{error:?}");
    rig.plane.notes().refuse_ports = false;
    rig.control.add_endpoint(mapped(5, &[8080])).unwrap();
}

#[test]
fn they_are_back_after_a_restart_unless_the_interface_is_gone() {
    let mut rig = Rig::new();
    rig.control.add_endpoint(mapped(5, &[8080])).unwrap();
    rig.control.add_endpoint(mapped(6, &[9090])).unwrap();
    rig.plane.notes().interfaces.remove("veth6");
    let mut rig = rig.restart();
    assert_eq!(rig.plane.notes().forwards.len(), 2);
    rig.fails(|control| control.add_endpoint(mapped(7, &[8080])));
    rig.control.add_endpoint(mapped(7, &[9090])).unwrap();
}
