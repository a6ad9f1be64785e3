//! Routes: all of a request or none of it, nothing of this node's own, back after a restart.

use heddle_api::{Route, UpdateRoutesRequest, Vtep};

use super::fake::{Rig, facts, fib, request};
use crate::control::{ControlError, NodeFacts};
use crate::tables::NextHop;
use crate::wire::Mac;

fn vtep(node: &str, address: &str) -> Vtep {
    let last: u8 = address.rsplit('.').next().unwrap().parse().unwrap();
    Vtep { node: node.into(), address: address.into(), mac: format!("02:76:00:00:00:{last:02x}") }
}

fn route(prefix: &str, node: &str) -> Route {
    Route { prefix: prefix.into(), node: node.into() }
}

/// Nodes n2 and n3 with a pod CIDR and their own address each.
fn cluster() -> UpdateRoutesRequest {
    UpdateRoutesRequest {
        replace: true,
        set_vteps: vec![vtep("n2", "172.31.0.2"), vtep("n3", "172.31.0.3")],
        set_routes: vec![
            route("10.244.2.0/24", "n2"),
            route("172.31.0.2/32", "n2"),
            route("fd00:10:244:2::/64", "n2"),
            route("10.244.3.0/24", "n3"),
        ],
        ..UpdateRoutesRequest::default()
    }
}

/// Outer address that packets for `address` go to.
fn outer(rig: &Rig, address: &str) -> Option<String> {
    let tables = rig.plane.tables();
    match tables.fib.lookup(address.parse().unwrap())? {
        NextHop::Vtep(number) => Some(tables.vteps.get(number)?.address.to_string()),
        _ => None,
    }
}

#[test]
fn routes_lead_to_vteps() {
    let mut rig = Rig::new();
    let generation = rig.control.update_routes(cluster()).unwrap();
    assert_eq!(generation, rig.plane.notes().published.len() as u64);
    assert_eq!(outer(&rig, "10.244.2.9").as_deref(), Some("172.31.0.2"));
    assert_eq!(outer(&rig, "172.31.0.2").as_deref(), Some("172.31.0.2"));
    assert_eq!(outer(&rig, "10.244.3.9").as_deref(), Some("172.31.0.3"));
    assert_eq!(outer(&rig, "10.244.4.9"), None);
}

#[test]
fn saying_it_again_publishes_nothing() {
    let mut rig = Rig::new();
    let first = rig.control.update_routes(cluster()).unwrap();
    assert_eq!(rig.control.update_routes(cluster()).unwrap(), first);
    assert_eq!(rig.plane.notes().published.len() as u64, first);
}

#[test]
fn a_change_touches_only_what_it_names() {
    let mut rig = Rig::new();
    rig.control.update_routes(cluster()).unwrap();
    let change = UpdateRoutesRequest {
        set_vteps: vec![vtep("n4", "172.31.0.4")],
        set_routes: vec![route("10.244.4.0/24", "n4"), route("10.244.3.0/24", "n4")],
        remove_vteps: vec!["n2".into(), "never-seen".into()],
        remove_routes: vec!["10.9.0.0/16".into()],
        ..UpdateRoutesRequest::default()
    };
    rig.control.update_routes(change).unwrap();
    assert_eq!(outer(&rig, "10.244.2.9"), None);
    assert_eq!(outer(&rig, "172.31.0.2"), None);
    assert_eq!(outer(&rig, "10.244.3.9").as_deref(), Some("172.31.0.4"));
    assert_eq!(outer(&rig, "10.244.4.9").as_deref(), Some("172.31.0.4"));
    assert_eq!(rig.plane.tables().vteps.iter().count(), 2);
    assert_eq!(rig.control.status().unwrap().routes, 2);
}

#[test]
fn replacing_forgets_the_rest() {
    let mut rig = Rig::new();
    let before = fib(&rig.plane);
    rig.control.update_routes(cluster()).unwrap();
    let nothing = UpdateRoutesRequest { replace: true, ..UpdateRoutesRequest::default() };
    rig.control.update_routes(nothing).unwrap();
    assert_eq!(fib(&rig.plane), before);
    assert_eq!(rig.plane.tables().vteps.iter().count(), 0);
}

#[test]
fn a_route_over_the_whole_cluster_gives_way_to_what_was_there() {
    let mut rig = Rig::new();
    let mut wide = cluster();
    wide.set_routes.push(route("10.244.0.0/16", "n3"));
    rig.control.update_routes(wide).unwrap();
    assert_eq!(outer(&rig, "10.244.77.1").as_deref(), Some("172.31.0.3"));
    // The node's own pods are not taken along.
    assert_eq!(outer(&rig, "10.244.1.7"), None);
    let narrow =
        UpdateRoutesRequest { remove_routes: vec!["10.244.0.0/16".into()], ..UpdateRoutesRequest::default() };
    rig.control.update_routes(narrow).unwrap();
    assert_eq!(rig.plane.tables().fib.lookup("10.244.77.1".parse().unwrap()), Some(NextHop::Unreachable));
}

#[test]
fn two_nodes_may_exchange_addresses_in_one_request() {
    let mut rig = Rig::new();
    rig.control.update_routes(cluster()).unwrap();
    let taken =
        UpdateRoutesRequest { set_vteps: vec![vtep("n2", "172.31.0.3")], ..UpdateRoutesRequest::default() };
    let error = rig.fails(|control| control.update_routes(taken));
    assert!(matches!(&error, ControlError::AlreadyExists(text) if text.contains("n3")), "{error:?}");
    let exchange = UpdateRoutesRequest {
        set_vteps: vec![vtep("n2", "172.31.0.3"), vtep("n3", "172.31.0.2")],
        ..UpdateRoutesRequest::default()
    };
    rig.control.update_routes(exchange).unwrap();
    assert_eq!(outer(&rig, "10.244.2.9").as_deref(), Some("172.31.0.3"));
    assert_eq!(outer(&rig, "10.244.3.9").as_deref(), Some("172.31.0.2"));
}

/// What is wrong with a request that otherwise is [`cluster`], and words of the answer.
type Wrong = (fn(&mut UpdateRoutesRequest), &'static str);

const WRONG: &[Wrong] = &[
    (|r| r.set_vteps.push(vtep("n1", "172.31.0.9")), "another node"),
    (|r| r.set_vteps.push(vtep("", "172.31.0.9")), "another node"),
    (|r| r.set_vteps.push(vtep("n9", "172.31.0.1")), "own address"),
    (|r| r.set_vteps.push(vtep("n9", "224.0.0.9")), "multicast"),
    (|r| r.set_vteps[0].address = "fd00::2".into(), "family"),
    (|r| r.set_vteps[0].mac = "ff:ff:ff:ff:ff:ff".into(), "one interface"),
    (|r| r.set_vteps.push(vtep("n2", "172.31.0.2")), "named twice"),
    (|r| r.set_routes.push(route("10.244.2.0/24", "n3")), "set twice"),
    (|r| r.set_routes.push(route("10.244.5.1/24", "n3")), "host bits"),
    (|r| r.set_routes.push(route("ten", "n3")), "no prefix"),
    (|r| r.set_routes.push(route("0.0.0.0/0", "n3")), "default route"),
    (|r| r.set_routes.push(route("::/0", "n3")), "default route"),
    (|r| r.set_routes.push(route("10.244.1.0/24", "n3")), "this node's pod CIDR"),
    (|r| r.set_routes.push(route("10.244.1.128/25", "n3")), "this node's pod CIDR"),
    (|r| r.set_routes.push(route("172.31.0.1/32", "n3")), "address of this node"),
    (|r| r.set_routes.push(route("169.254.0.0/16", "n3")), "reserved"),
    (|r| r.set_routes.push(route("fe80::/10", "n3")), "reserved"),
    (|r| r.remove_routes.push("10.9.0.0/16".into()), "no sense with replace"),
];

#[test]
fn wrong_requests_are_refused_whole() {
    let mut rig = Rig::new();
    for (change, words) in WRONG {
        let mut bad = cluster();
        change(&mut bad);
        let error = rig.fails(|control| control.update_routes(bad));
        assert!(matches!(&error, ControlError::Invalid(text) if text.contains(words)), "{words}: {error:?}");
    }
}

#[test]
fn a_route_needs_its_node() {
    let mut rig = Rig::new();
    let mut bad = cluster();
    bad.set_routes.push(route("10.244.9.0/24", "n9"));
    let error = rig.fails(|control| control.update_routes(bad));
    assert!(matches!(&error, ControlError::NotFound(text) if text.contains("n9")), "{error:?}");
    rig.control.update_routes(cluster()).unwrap();
    let removed_and_used = UpdateRoutesRequest {
        remove_vteps: vec!["n2".into()],
        set_routes: vec![route("10.244.9.0/24", "n2")],
        ..UpdateRoutesRequest::default()
    };
    let error = rig.fails(|control| control.update_routes(removed_and_used));
    assert!(matches!(error, ControlError::NotFound(_)), "{error:?}");
}

#[test]
fn an_endpoints_address_cannot_be_routed_away() {
    let mut rig = Rig::new();
    rig.control.add_endpoint(request(5)).unwrap();
    let steal = UpdateRoutesRequest {
        set_vteps: vec![vtep("n2", "172.31.0.2")],
        set_routes: vec![route("10.244.1.5/32", "n2")],
        ..UpdateRoutesRequest::default()
    };
    rig.fails(|control| control.update_routes(steal));
}

#[test]
fn without_an_uplink_there_are_no_other_nodes() {
    let mut rig = Rig::with(NodeFacts { uplink: None, ..facts() });
    let error = rig.fails(|control| control.update_routes(cluster()));
    assert!(matches!(&error, ControlError::Precondition(text) if text.contains("[uplink]")), "{error:?}");
    let nothing = UpdateRoutesRequest { replace: true, ..UpdateRoutesRequest::default() };
    rig.control.update_routes(nothing).unwrap();
}

#[test]
fn a_failed_publication_changes_nothing() {
    let mut rig = Rig::new();
    rig.plane.notes().refuse_publish = true;
    rig.fails(|control| control.update_routes(cluster()));
    assert_eq!(rig.control.status().unwrap().routes, 0);
    rig.plane.notes().refuse_publish = false;
    rig.control.update_routes(cluster()).unwrap();
    assert_eq!(rig.control.status().unwrap().routes, 4);
}

#[test]
fn next_hops_are_published_and_outlive_a_change_of_mac_only() {
    let mut rig = Rig::new();
    rig.control.update_routes(cluster()).unwrap();
    let neighbor = Mac([2, 9, 9, 9, 9, 9]);
    let at = |rig: &Rig| {
        let tables = rig.plane.tables();
        let number = tables.vteps.iter().find(|(_, v)| v.address.to_string().ends_with(['2', '7']));
        number.unwrap().1.neighbor
    };
    rig.control.set_neighbors(&[("172.31.0.2".parse().unwrap(), Some(neighbor))]).unwrap();
    rig.control.set_neighbors(&[("172.31.0.99".parse().unwrap(), Some(neighbor))]).unwrap();
    assert_eq!(at(&rig), Some(neighbor));
    let mut vtep = vtep("n2", "172.31.0.2");
    vtep.mac = "02:76:00:00:00:ee".into();
    let mac_only = UpdateRoutesRequest { set_vteps: vec![vtep.clone()], ..UpdateRoutesRequest::default() };
    rig.control.update_routes(mac_only).unwrap();
    assert_eq!(at(&rig), Some(neighbor));
    vtep.address = "172.31.0.7".into();
    let moved = UpdateRoutesRequest { set_vteps: vec![vtep], ..UpdateRoutesRequest::default() };
    rig.control.update_routes(moved).unwrap();
    assert_eq!(at(&rig), None);
}

#[test]
fn a_restart_brings_the_routes_back() {
    let mut rig = Rig::new();
    rig.control.update_routes(cluster()).unwrap();
    let before = fib(&rig.plane).len();
    let rig = rig.restart();
    assert_eq!(fib(&rig.plane).len(), before);
    assert_eq!(outer(&rig, "10.244.2.9").as_deref(), Some("172.31.0.2"));
    assert_eq!(outer(&rig, "fd00:10:244:2::9").as_deref(), Some("172.31.0.2"));
}
