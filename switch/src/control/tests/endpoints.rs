//! Endpoints: added and removed as a whole, once, and back after a restart.

use super::fake::{Rig, fib, request};
use crate::control::ControlError;
use crate::tables::NextHop;
use heddle_api::AddEndpointRequest;

/// What is wrong with a request that otherwise is good, and words of the answer.
type Change = (fn(&mut AddEndpointRequest), &'static str);

fn next_hop(rig: &Rig, address: &str) -> NextHop {
    rig.plane.tables().fib.lookup(address.parse().unwrap()).unwrap()
}

#[test]
fn an_endpoint_is_attached_and_published() {
    let mut rig = Rig::new();
    let endpoint = rig.control.add_endpoint(request(5)).unwrap();
    assert_eq!((endpoint.number, endpoint.mtu, endpoint.attach_mode.as_str()), (1, 1450, "direct"));
    assert_eq!(rig.plane.attached(), ["veth5"]);
    assert_eq!(next_hop(&rig, "10.244.1.5"), NextHop::Endpoint(1));
    assert_eq!(next_hop(&rig, "fd00:10:244:1::5"), NextHop::Endpoint(1));
    assert_eq!(next_hop(&rig, "10.244.1.6"), NextHop::Unreachable);
    let tables = rig.plane.tables();
    let published = tables.endpoints.get(1).unwrap();
    assert_eq!(published.mac.to_string(), "02:00:00:00:00:05");
    assert_eq!(tables.generation, rig.plane.notes().published.len() as u64);
}

#[test]
fn the_same_request_again_answers_with_what_is_there() {
    let mut rig = Rig::new();
    let first = rig.control.add_endpoint(request(5)).unwrap();
    let mut again = request(5);
    again.addresses.reverse();
    again.mtu = 1450;
    assert_eq!(rig.control.add_endpoint(again).unwrap(), first);
    assert_eq!(rig.plane.attached().len(), 1);
}

#[test]
fn clashes_are_refused_and_name_the_other() {
    let mut rig = Rig::new();
    rig.control.add_endpoint(request(5)).unwrap();
    let clashes: [Change; 3] = [
        (|r| r.id = "pod5/eth0".into(), "other content"),
        (|r| r.addresses = vec!["fd00:10:244:1::5".into()], "pod5/eth0"),
        (|r| r.host_interface = "veth5".into(), "pod5/eth0"),
    ];
    for (change, words) in clashes {
        let mut clash = request(6);
        change(&mut clash);
        let error = rig.fails(|control| control.add_endpoint(clash));
        assert!(matches!(&error, ControlError::AlreadyExists(text) if text.contains(words)), "{error:?}");
    }
}

#[test]
fn wrong_requests_are_refused_with_the_field_named() {
    let mut rig = Rig::new();
    let wrong: &[Change] = &[
        (|r| r.id = String::new(), "id:"),
        (|r| r.id = "a\nb".into(), "id:"),
        (|r| r.host_interface = "much-too-long-name".into(), "host_interface:"),
        (|r| r.mac = "x".into(), "mac:"),
        (|r| r.mac = "01:00:5e:00:00:01".into(), "mac:"),
        (|r| r.mac = "00:00:00:00:00:00".into(), "mac:"),
        (|r| r.mac = "02:68:64:00:00:01".into(), "the gateway's"),
        (|r| r.addresses.clear(), "at least one"),
        (|r| r.addresses = vec!["10.244.1".into()], "no IP address"),
        (|r| r.addresses = vec!["10.244.2.5".into()], "outside"),
        (|r| r.addresses = vec!["172.31.0.1".into()], "the node's own"),
        (|r| r.addresses = vec!["169.254.1.1".into()], "link-local"),
        (|r| r.addresses = vec!["::ffff:10.244.1.5".into()], "disguise"),
        (|r| r.addresses = vec!["10.244.1.5".into(), "10.244.1.5".into()], "twice"),
        (|r| r.mtu = 1279, "1280 to 1450"),
        (|r| r.mtu = 1451, "1280 to 1450"),
    ];
    for (change, words) in wrong {
        let mut bad = request(5);
        change(&mut bad);
        let error = rig.fails(|control| control.add_endpoint(bad));
        assert!(matches!(&error, ControlError::Invalid(text) if text.contains(words)), "{words}: {error:?}");
    }
    let all = rig.fails(|control| control.add_endpoint(AddEndpointRequest::default())).to_string();
    assert!(
        ["id:", "host_interface:", "mac:", "addresses:"].iter().all(|field| all.contains(field)),
        "{all}"
    );
}

#[test]
fn failures_leave_nothing_behind() {
    let mut rig = Rig::new();
    let mut missing = request(5);
    missing.host_interface = "gone0".into();
    let error = rig.fails(|control| control.add_endpoint(missing));
    assert!(matches!(error, ControlError::Precondition(_)), "{error:?}");

    rig.plane.notes().refuse_attach = true;
    let error = rig.fails(|control| control.add_endpoint(request(5)));
    assert_eq!(error, ControlError::Unavailable("busy".into()));
    rig.plane.notes().refuse_attach = false;

    rig.plane.notes().refuse_publish = true;
    let error = rig.fails(|control| control.add_endpoint(request(5)));
    assert!(matches!(error, ControlError::Unavailable(_)), "{error:?}");
    rig.plane.notes().refuse_publish = false;

    std::fs::remove_dir_all(rig.directory.path().join("switch")).unwrap();
    let error = rig.fails(|control| control.add_endpoint(request(5)));
    assert!(
        matches!(&error, ControlError::Unavailable(text) if text.contains("endpoints.json")),
        "{error:?}"
    );
    assert!(rig.plane.tables().endpoints.get(1).is_none());
}

#[test]
fn removing_restores_what_was_there_and_repeats() {
    let mut rig = Rig::new();
    let before = fib(&rig.plane);
    rig.control.add_endpoint(request(5)).unwrap();
    assert!(rig.control.remove_endpoint("pod5/eth0").unwrap());
    assert_eq!(fib(&rig.plane), before);
    assert!(rig.plane.attached().is_empty());
    assert!(!rig.control.remove_endpoint("pod5/eth0").unwrap());
    // Address and interface are free again. The number comes round only later: somebody may remember it.
    assert_eq!(rig.control.add_endpoint(request(5)).unwrap().number, 2);
    rig.control.remove_endpoint("pod5/eth0").unwrap();
    let mut next = || {
        let number = rig.control.add_endpoint(request(5)).unwrap().number;
        rig.control.remove_endpoint("pod5/eth0").unwrap();
        number
    };
    assert!((3..=4095).chain([1, 2]).all(|number| next() == number));
}

#[test]
fn a_restart_brings_back_what_still_has_its_interface() {
    let mut rig = Rig::new();
    for n in 1..=4 {
        rig.control.add_endpoint(request(n)).unwrap();
    }
    rig.control.remove_endpoint("pod1/eth0").unwrap();
    let before: Vec<_> = rig.control.list_endpoints();
    // One pod is gone, the interface of another was made anew, by somebody else.
    rig.plane.notes().interfaces.remove("veth3");
    rig.plane.notes().interfaces.insert("veth4".into(), 999);
    let rig = rig.restart();
    let after = rig.control.list_endpoints();
    assert_eq!(after.len(), 1);
    assert_eq!((&after[0].id, after[0].number), (&before[0].id, before[0].number));
    assert_eq!(rig.plane.attached(), ["veth2"]);
    assert_eq!(next_hop(&rig, "10.244.1.3"), NextHop::Unreachable);
    // What was forgotten stays forgotten.
    rig.plane.notes().interfaces.insert("veth3".into(), 103);
    let rig = rig.restart();
    assert_eq!(rig.plane.attached(), ["veth2"]);
}

#[test]
fn an_endpoint_whose_interface_vanished_goes() {
    let mut rig = Rig::new();
    rig.control.add_endpoint(request(1)).unwrap();
    rig.control.add_endpoint(request(2)).unwrap();
    rig.control.forget_vanished();
    assert_eq!(rig.control.list_endpoints().len(), 2);
    rig.plane.notes().interfaces.remove("veth1");
    rig.control.forget_vanished();
    assert_eq!(rig.plane.attached(), ["veth2"]);
    assert_eq!(next_hop(&rig, "10.244.1.1"), NextHop::Unreachable);
}
