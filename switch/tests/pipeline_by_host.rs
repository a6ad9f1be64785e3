//! What the host forwards from somebody else is answered by way of the host, whatever the route says; everything else as it is routed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::cluster::{FAMILIES, GATEWAY_MAC, UPLINK_SLOT, V4, V6, WORLD, inner, node_address, pod, pod_mac};
use common::packets::{Spec, Upper, icmp_error, vxlan};
use common::policy::{Rules, enforce};
use common::switch::{Outcome, Switch};
use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::HOST;
use heddle_switch::tables::conntrack::flags;

const POD_1: Ingress = Ingress::Endpoint(1);
const BY_HOST: Ingress = Ingress::Endpoint(HOST);

const SYN: Upper = Upper::Segment(flags::SYN, 100, 0);
const SYN_ACK: Upper = Upper::Segment(flags::SYN | flags::ACK, 500, 101);
const DATA: Upper = Upper::Segment(flags::ACK, 501, 101);

/// To pod 1 as the host sends it, which has translated the destination.
fn question(from: std::net::IpAddr, upper: Upper) -> Spec {
    let family = if from.is_ipv4() { V4 } else { V6 };
    Spec { upper, ..Spec::new((pod_mac(1, 0), GATEWAY_MAC), from, pod(1, 1)[family]) }
}

/// Pod 1's answer.
fn answer(question: &Spec, upper: Upper) -> Spec {
    Spec {
        source_mac: pod_mac(1, 1),
        destination_mac: GATEWAY_MAC,
        from: question.to,
        to: question.from,
        ports: (question.ports.1, question.ports.0),
        upper,
        ..*question
    }
}

/// The slot that a packet leaves by.
#[track_caller]
fn leaves_by(switch: &mut Switch, by: Ingress, spec: &Spec) -> u16 {
    switch.pass(by, &spec.bytes()).only_sent().0
}

/// With pod 1's port 53 behind a port of the node.
fn node_with_mapping() -> Switch {
    let mut switch = Switch::node_1(V4);
    let mut endpoint = switch.tables.endpoints.get(1).unwrap().clone();
    endpoint.mapped = vec![(17, 53), (6, 53)];
    switch.tables.endpoints.set(1, endpoint);
    switch
}

#[test]
fn the_answer_goes_the_way_of_the_question() {
    for family in FAMILIES {
        // A pod and a node behind the tunnel, a pod of this node.
        for (from, straight) in
            [(pod(2, 1)[family], UPLINK_SLOT), (node_address(2)[family], UPLINK_SLOT), (pod(1, 2)[family], 2)]
        {
            for (first, reply) in [(Upper::Udp, Upper::Udp), (SYN, SYN_ACK)] {
                let mut switch = node_with_mapping();
                let question = question(from, first);
                assert_eq!(leaves_by(&mut switch, BY_HOST, &question), 1);
                assert_eq!(leaves_by(&mut switch, POD_1, &answer(&question, reply)), 0, "{from}");
                // On another port, and of the pod's own accord: straight.
                let other = Spec { ports: (7, 8), ..answer(&question, first) };
                assert_eq!(leaves_by(&mut switch, POD_1, &other), straight, "{from}");
                assert_eq!(switch.missing_frames(), 0);
            }
        }
    }
}

#[test]
fn what_came_straight_is_answered_straight() {
    for family in FAMILIES {
        let mut switch = node_with_mapping();
        let question = inner(pod(2, 1)[family], pod(1, 1)[family]);
        let outer = common::cluster::outer(V4);
        let packet = vxlan(&outer, common::cluster::VNI, &question.bytes());
        assert_eq!(switch.pass(Ingress::Uplink, &packet).only_sent().0, 1);
        assert_eq!(leaves_by(&mut switch, POD_1, &answer(&question, Upper::Udp)), UPLINK_SLOT);
        // The world is behind the host in any case.
        let from_world = self::question(WORLD[family], Upper::Udp);
        assert_eq!(leaves_by(&mut switch, BY_HOST, &from_world), 1);
        assert_eq!(leaves_by(&mut switch, POD_1, &answer(&from_world, Upper::Udp)), 0);
    }
}

#[test]
fn policy_sees_the_sender_and_not_the_host() {
    for family in FAMILIES {
        let mut switch = node_with_mapping();
        let may = pod(2, 1)[family];
        enforce(&mut switch.tables, 1, Rules::only(&[(may, None)], &[]));
        let question = question(may, SYN);
        assert_eq!(leaves_by(&mut switch, BY_HOST, &question), 1);
        assert_eq!(leaves_by(&mut switch, POD_1, &answer(&question, SYN_ACK)), 0);
        let refused = switch.pass(BY_HOST, &self::question(pod(2, 2)[family], SYN).bytes());
        assert_eq!(refused, Outcome::dropped(DropReason::PolicyIngress));
    }
}

#[test]
fn the_middle_of_a_connection_that_is_older_than_the_switch_goes_by_the_host() {
    for family in FAMILIES {
        let mut switch = node_with_mapping();
        let question = question(pod(2, 1)[family], SYN);
        assert_eq!(leaves_by(&mut switch, POD_1, &answer(&question, DATA)), 0);
        // Of a port that no port of the node leads to: straight.
        let other = Spec { ports: (54, 40_000), ..answer(&question, DATA) };
        assert_eq!(leaves_by(&mut switch, POD_1, &other), UPLINK_SLOT);
    }
}

#[test]
fn an_error_about_it_goes_by_the_host() {
    let mut switch = node_with_mapping();
    let question = question(pod(2, 1)[V4], Upper::Udp);
    let packet = question.bytes();
    assert_eq!(switch.pass(BY_HOST, &packet).only_sent().0, 1);
    // It quotes the header and eight bytes (RFC 792).
    let error = icmp_error((pod_mac(1, 1), GATEWAY_MAC), question.to, question.from, &packet[14..14 + 28]);
    assert_eq!(switch.pass(POD_1, &error).only_sent().0, 0);
}

#[test]
fn another_worker_is_told_that_it_came_by_the_host() {
    let mut switch = node_with_mapping();
    // Worker 1 has the host: what it sends to pod 1 arrives marked.
    let question = question(pod(2, 1)[V4], Upper::Udp);
    let mut on_the_way = switch.tables.endpoints.get(1).unwrap().clone();
    on_the_way.port.worker = 1;
    let mut other = Switch::node_1(V4);
    other.tables.endpoints.set(1, on_the_way);
    let [sent] = other.handed_over(BY_HOST, &question.bytes()).try_into().unwrap();
    assert_ne!(sent[6..12], GATEWAY_MAC.0, "it says so");
    let arrived = switch.arrives_as(1, &sent).unwrap();
    assert_eq!(arrived[6..12], GATEWAY_MAC.0, "and the pod does not see it");
    assert_eq!(leaves_by(&mut switch, POD_1, &answer(&question, Upper::Udp)), 0);
}
