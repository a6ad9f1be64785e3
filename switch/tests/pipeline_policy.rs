//! What policy allows passes, with everything that belongs to it; what it does not allow is dropped at the end that
//! says so, from the moment it says so.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::cluster::{
    FAMILIES, GATEWAY_MAC, V4, VNI, WORLD, from_pod, inner, node_address, outer, pod, pod_mac,
};
use common::packets::{Spec, Upper, vxlan};
use common::policy::{Rules, enforce};
use common::switch::{Outcome, Switch};
use heddle_image::Protocol;
use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::conntrack::flags;
use heddle_switch::tables::{EndpointPolicy, HOST};

const POD_1: Ingress = Ingress::Endpoint(1);
const POD_2: Ingress = Ingress::Endpoint(2);

const SYN: Upper = Upper::Segment(flags::SYN, 100, 0);
const SYN_ACK: Upper = Upper::Segment(flags::SYN | flags::ACK, 500, 101);
const ACK: Upper = Upper::Segment(flags::ACK, 101, 501);

/// Pod 1 to pod 2.
fn there(family: usize, upper: Upper) -> Spec {
    Spec { upper, payload: 0, ..from_pod(family, pod(1, 2)[family]) }
}

/// Pod 2's answer to it.
fn back(family: usize, upper: Upper) -> Spec {
    let there = there(family, upper);
    Spec {
        source_mac: pod_mac(1, 2),
        from: there.to,
        to: there.from,
        ports: (there.ports.1, there.ports.0),
        ..there
    }
}

#[track_caller]
fn passes(switch: &mut Switch, by: Ingress, spec: Spec) {
    let outcome = switch.pass(by, &spec.bytes());
    assert_eq!((outcome.sent.len(), outcome.drops.len()), (1, 0), "{spec:?}: {outcome:?}");
}

#[track_caller]
fn drops(switch: &mut Switch, by: Ingress, spec: Spec, reason: DropReason) {
    assert_eq!(switch.pass(by, &spec.bytes()), Outcome::dropped(reason), "{spec:?}");
}

#[test]
fn without_policy_nothing_is_remembered() {
    let mut switch = Switch::node_1(V4);
    passes(&mut switch, POD_1, there(V4, Upper::Udp));
    assert!(switch.pipeline().connections().is_empty());
}

#[test]
fn replies_pass_where_only_the_question_is_allowed() {
    for family in FAMILIES {
        for (question, answer) in [(Upper::Udp, Upper::Udp), (SYN, SYN_ACK), (Upper::Echo, Upper::EchoReply)]
        {
            let mut switch = Switch::node_1(V4);
            let [one, two] = [pod(1, 1)[family], pod(1, 2)[family]];
            enforce(&mut switch.tables, 1, Rules::only(&[], &[(two, None)]));
            enforce(&mut switch.tables, 2, Rules::only(&[(one, None)], &[]));
            passes(&mut switch, POD_1, there(family, question));
            passes(&mut switch, POD_2, back(family, answer));
            assert_eq!(switch.pipeline().connections().len(), 2, "one at each end");
            // What pod 2 asks of its own accord, on other ports, is no reply. A ping has no ports.
            if question != Upper::Echo {
                let other = Spec { ports: (7, 8), ..back(family, question) };
                drops(&mut switch, POD_2, other, DropReason::PolicyEgress);
            }
            assert_eq!(switch.missing_frames(), 0);
        }
    }
}

#[test]
fn each_end_judges_by_its_own_policy() {
    let (tcp_80, udp_53) = (Some((Protocol::Tcp, 80)), Some((Protocol::Udp, 53)));
    for family in FAMILIES {
        let mut switch = Switch::node_1(V4);
        let [one, two] = [pod(1, 1)[family], pod(1, 2)[family]];
        enforce(&mut switch.tables, 1, Rules::only(&[], &[(two, tcp_80), (two, udp_53)]));
        enforce(&mut switch.tables, 2, Rules::only(&[(one, tcp_80)], &[]));
        let to = |port, upper| Spec { ports: (40_000, port), ..there(family, upper) };
        passes(&mut switch, POD_1, to(80, SYN));
        drops(&mut switch, POD_1, to(53, Upper::Udp), DropReason::PolicyIngress);
        drops(&mut switch, POD_1, to(81, SYN), DropReason::PolicyEgress);
        drops(&mut switch, POD_1, to(80, Upper::Udp), DropReason::PolicyEgress);
        drops(&mut switch, POD_1, there(family, Upper::Echo), DropReason::PolicyEgress);
    }
}

#[test]
fn a_changed_policy_holds_for_connections_that_are_there() {
    for family in FAMILIES {
        let mut switch = Switch::node_1(V4);
        let one = pod(1, 1)[family];
        enforce(&mut switch.tables, 2, Rules { ingress: Some(&[(one, None)]), egress: None });
        passes(&mut switch, POD_1, there(family, SYN));
        passes(&mut switch, POD_2, back(family, SYN_ACK));
        passes(&mut switch, POD_1, there(family, ACK));
        // Still allowed: it goes on, and nothing is judged twice.
        enforce(&mut switch.tables, 2, Rules { ingress: Some(&[(one, None)]), egress: Some(&[]) });
        passes(&mut switch, POD_1, there(family, ACK));
        passes(&mut switch, POD_2, back(family, Upper::Segment(flags::ACK, 501, 101)));
        // Revoked: no packet of it passes any more, in neither direction, although pod 2 may open connections itself.
        let answer = back(family, Upper::Segment(flags::ACK, 501, 101));
        for _ in 0..3 {
            enforce(&mut switch.tables, 2, Rules { ingress: Some(&[]), egress: None });
            drops(&mut switch, POD_1, there(family, ACK), DropReason::PolicyIngress);
            drops(&mut switch, POD_2, answer, DropReason::PolicyIngress);
            drops(&mut switch, POD_1, there(family, ACK), DropReason::PolicyIngress);
        }
        // Allowed again: it goes on.
        enforce(&mut switch.tables, 2, Rules { ingress: Some(&[(one, None)]), egress: Some(&[]) });
        passes(&mut switch, POD_2, answer);
        passes(&mut switch, POD_1, there(family, ACK));
    }
}

#[test]
fn a_revoked_connection_is_found_out_by_its_replies_as_well() {
    let mut switch = Switch::node_1(V4);
    let two = pod(1, 2)[V4];
    enforce(&mut switch.tables, 1, Rules::only(&[], &[(two, None)]));
    passes(&mut switch, POD_1, there(V4, Upper::Udp));
    passes(&mut switch, POD_2, back(V4, Upper::Udp));
    enforce(&mut switch.tables, 1, Rules::only(&[], &[]));
    // The reason is that of the connection: its opener may not send.
    drops(&mut switch, POD_2, back(V4, Upper::Udp), DropReason::PolicyEgress);
}

/// Gossip goes from a port to the same port, so either end may be the first.
#[test]
fn who_may_not_be_called_any_more_may_still_call() {
    let mut switch = Switch::node_1(V4);
    let gossip = |spec: Spec| Spec { ports: (7946, 7946), ..spec };
    enforce(&mut switch.tables, 2, Rules::default());
    passes(&mut switch, POD_1, gossip(there(V4, Upper::Udp)));
    enforce(&mut switch.tables, 2, Rules { ingress: Some(&[]), egress: None });
    drops(&mut switch, POD_1, gossip(there(V4, Upper::Udp)), DropReason::PolicyIngress);
    passes(&mut switch, POD_2, gossip(back(V4, Upper::Udp)));
    passes(&mut switch, POD_1, gossip(there(V4, Upper::Udp)));
}

#[test]
fn an_endpoint_is_closed_until_its_policy_is_known() {
    let mut switch = Switch::node_1(V4);
    let mut endpoint = switch.tables.endpoints.get(2).unwrap().clone();
    endpoint.policy = EndpointPolicy::Closed;
    switch.tables.endpoints.set(2, endpoint);
    for family in FAMILIES {
        drops(&mut switch, POD_1, there(family, Upper::Udp), DropReason::PolicyPending);
        drops(&mut switch, POD_2, back(family, Upper::Udp), DropReason::PolicyPending);
    }
}

#[test]
fn node_and_pod_always_reach_each_other() {
    for family in FAMILIES {
        let mut switch = Switch::node_1(V4);
        enforce(&mut switch.tables, 1, Rules::only(&[], &[]));
        let macs = (pod_mac(1, 0), GATEWAY_MAC);
        let probe = Spec::new(macs, node_address(1)[family], pod(1, 1)[family]);
        passes(&mut switch, Ingress::Endpoint(HOST), probe);
        passes(&mut switch, POD_1, from_pod(family, node_address(1)[family]));
        passes(&mut switch, POD_1, Spec { ports: (9, 9), ..from_pod(family, pod(1, 1)[family]) });
        // What the host forwards for others is theirs, not its own.
        let world = Spec::new(macs, WORLD[family], pod(1, 1)[family]);
        drops(&mut switch, Ingress::Endpoint(HOST), world, DropReason::PolicyIngress);
        drops(&mut switch, POD_1, from_pod(family, WORLD[family]), DropReason::PolicyEgress);
    }
}

#[test]
fn what_comes_by_the_tunnel_is_judged_for_its_receiver() {
    for family in FAMILIES {
        let mut switch = Switch::node_1(V4);
        let (far, near) = (pod(2, 1)[family], pod(1, 1)[family]);
        enforce(&mut switch.tables, 1, Rules::only(&[(far, Some((Protocol::Udp, 53)))], &[]));
        let tunnelled = |spec: Spec| vxlan(&outer(V4), VNI, &spec.bytes());
        let allowed = inner(far, near);
        assert_eq!(switch.pass(Ingress::Uplink, &tunnelled(allowed)).sent.len(), 1);
        let denied = Spec { ports: (40_000, 54), ..allowed };
        let outcome = switch.pass(Ingress::Uplink, &tunnelled(denied));
        assert_eq!(outcome, Outcome::dropped(DropReason::PolicyIngress));
        passes(&mut switch, POD_1, Spec { ports: (53, 40_000), ..from_pod(family, far) });
    }
}

#[test]
fn connections_older_than_the_switch_go_on_if_policy_allows_them() {
    for family in FAMILIES {
        let mut switch = Switch::node_1(V4);
        let two = pod(1, 2)[family];
        enforce(&mut switch.tables, 1, Rules::only(&[], &[(two, Some((Protocol::Tcp, 80)))]));
        let data = |ports, spec: Spec| Spec { ports, upper: ACK, ..spec };
        // As its opener, and as the one who was called: the ports tell which is which.
        passes(&mut switch, POD_1, data((40_000, 80), there(family, ACK)));
        passes(&mut switch, POD_2, data((80, 50_000), back(family, ACK)));
        passes(&mut switch, POD_1, data((50_000, 80), there(family, ACK)));
        drops(&mut switch, POD_2, data((81, 50_000), back(family, ACK)), DropReason::PolicyEgress);
        drops(&mut switch, POD_2, data((40_000, 80), back(family, ACK)), DropReason::PolicyIngress);
        drops(&mut switch, POD_1, data((80, 40_000), there(family, ACK)), DropReason::PolicyIngress);
        // Ports that tell nothing: it would have to be allowed both ways.
        drops(&mut switch, POD_1, data((1000, 80), there(family, ACK)), DropReason::PolicyIngress);
        // After a while there are no older connections any more; a pong never was one.
        drops(&mut switch, POD_2, back(family, Upper::EchoReply), DropReason::PolicyIngress);
        switch.now += Duration::from_mins(10);
        drops(&mut switch, POD_1, data((41_000, 80), there(family, ACK)), DropReason::PolicyIngress);
        drops(&mut switch, POD_2, data((80, 41_000), back(family, ACK)), DropReason::PolicyIngress);
        enforce(&mut switch.tables, 1, Rules::default());
        for ports in [(1000, 80), (41_000, 80)] {
            passes(&mut switch, POD_1, data(ports, there(family, ACK)));
        }
    }
}

#[test]
fn impossible_segments_do_no_harm() {
    let mut switch = Switch::node_1(V4);
    enforce(&mut switch.tables, 1, Rules::default());
    let segment = |bits, sequence| Upper::Segment(bits, sequence, 0);
    drops(&mut switch, POD_1, there(V4, segment(flags::SYN | flags::FIN, 1)), DropReason::TcpMalformed);
    passes(&mut switch, POD_1, there(V4, SYN));
    passes(&mut switch, POD_2, back(V4, SYN_ACK));
    passes(&mut switch, POD_1, there(V4, ACK));
    drops(&mut switch, POD_2, back(V4, segment(flags::SYN, 9)), DropReason::TcpSyn);
    drops(&mut switch, POD_2, back(V4, segment(flags::RST, 0x8000_0000)), DropReason::TcpReset);
    passes(&mut switch, POD_1, there(V4, ACK));
}

/// The other worker made the packet ready; what is left is to ask for the endpoint it enters.
#[test]
fn what_another_worker_hands_over_is_judged_where_it_arrives() {
    let mut switch = Switch::node_1(V4);
    let one = pod(1, 1)[V4];
    enforce(&mut switch.tables, 2, Rules::only(&[(one, Some((Protocol::Udp, 53)))], &[]));
    let allowed = there(V4, Upper::Udp);
    let denied = Spec { ports: (40_000, 54), ..allowed };
    assert!(switch.arrive(2, &allowed.bytes()));
    assert!(!switch.arrive(2, &denied.bytes()));
    assert!(!switch.arrive(9, &allowed.bytes()), "an endpoint that is gone");
    assert_eq!(switch.pipeline().connections().len(), 1);

    // The port of endpoint 2 belongs to worker 1 now, so this one leaves the question to it.
    let mut endpoint = switch.tables.endpoints.get(2).unwrap().clone();
    endpoint.port.worker = 1;
    switch.tables.endpoints.set(2, endpoint);
    enforce(&mut switch.tables, 1, Rules::only(&[], &[(pod(1, 2)[V4], None)]));
    let frames = switch.pass_to_worker_1(POD_1, &denied.bytes());
    assert_eq!(frames, 1);
    assert_eq!(switch.pipeline().connections().len(), 2, "one more, of endpoint 1");
}

#[test]
fn an_endpoint_that_is_gone_leaves_no_connections_to_its_successor() {
    let mut switch = Switch::node_1(V4);
    enforce(&mut switch.tables, 1, Rules::default());
    enforce(&mut switch.tables, 2, Rules::default());
    for port in 1..100 {
        passes(&mut switch, POD_1, Spec { ports: (port, 53), ..there(V4, Upper::Udp) });
    }
    assert_eq!(switch.pipeline().connections().len(), 198);
    switch.pipeline().forget(1);
    while switch.pipeline().is_sweeping() {
        switch.sweep();
    }
    assert_eq!(switch.pipeline().connections().len(), 99);
    // Whoever gets the number at once does not wait for the sweeping.
    switch.pipeline().forget(2);
    switch.pipeline().welcome(2);
    assert!(switch.pipeline().connections().is_empty());
}

#[test]
fn a_full_table_gives_up_the_oldest_and_counts_it() {
    let mut switch = Switch::node_1(V4);
    enforce(&mut switch.tables, 1, Rules::default());
    let capacity = switch.pipeline().connections().capacity() as u16;
    for port in 1..=capacity + 10 {
        passes(&mut switch, POD_1, Spec { ports: (port, 53), ..there(V4, Upper::Udp) });
    }
    let connections = switch.pipeline().connections();
    assert_eq!(connections.len(), usize::from(capacity));
    assert_eq!(connections.counters().evicted.iter().sum::<u64>(), 10);
}
