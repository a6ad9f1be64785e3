//! What comes up by a trunk is treated as if it had come by a port of its own, whatever its tag says is believed only as far as it
//! can be true, and what goes down says whom it is for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::cluster::{
    FAMILIES, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, UPLINK_SLOT, V4, V6, WORLD, from_pod, inner, pod, pod_mac,
    port, tables,
};
use common::packets::{Spec, Upper, arp, patch, solicitation};
use common::policy::{Rules, enforce};
use common::switch::{Outcome, Switch};
use etherparse::ArpOperation;
use heddle_switch::DropReason;
use heddle_switch::pipeline::{Ingress, News, Request};
use heddle_switch::ports::PortId;
use heddle_switch::tables::conntrack::{Direction, FlowEnd, Side, Unseen};
use heddle_switch::tables::{AttachMode, Hop, Tunnel};
use heddle_switch::wire::Mac;

const VXLAN: u32 = 9;
const FENCE: [u8; 6] = [0x02, 0x4e, 1, 2, 3, 4];

/// Node 1 with all its endpoints on a trunk, and Linux's tunnel.
fn cached() -> Switch {
    let mut tables = tables(1, 2, V4);
    tables.node.uplink.as_mut().unwrap().tunnel = Tunnel::Kernel { interface: VXLAN };
    for number in 0..3 {
        let mut endpoint = tables.endpoints.get(number).unwrap().clone();
        endpoint.attach = AttachMode::Cached;
        endpoint.port = port(UPLINK_SLOT);
        endpoint.interface = 100 + number;
        tables.endpoints.set(number, endpoint);
        tables.hop_generations.set(number, 10 + number);
    }
    tables.hop_generations.set(vtep().number(), 20);
    Switch::new(tables)
}

fn hop(number: u32) -> Hop {
    Hop::endpoint(number).unwrap()
}

fn vtep() -> Hop {
    Hop::vtep(0).unwrap()
}

fn tag(kind: u8, value: u32) -> [u8; 6] {
    let [a, b, c, d] = value.to_be_bytes();
    [0x02, kind, a, b, c, d]
}

/// The packet as it comes up from `hop`.
fn up(hop: u32, packet: Vec<u8>) -> Vec<u8> {
    patch(packet, 6, &tag(0x4d, hop))
}

/// The packet as it goes down to `hop`; `source` is the fence, or the gateway's MAC.
fn down(hop: Hop, source: [u8; 6], packet: Vec<u8>) -> Vec<u8> {
    patch(patch(packet, 0, &tag(0x4d, hop.number())), 6, &source)
}

fn spent(spec: Spec) -> Vec<u8> {
    Spec { hop_limit: spec.hop_limit - 1, ..spec }.bytes()
}

fn forwarded(packet: Vec<u8>) -> Outcome {
    Outcome::forwarded(UPLINK_SLOT, packet)
}

#[test]
fn between_endpoints_and_to_other_nodes_by_hop() {
    let mut switch = cached();
    for family in FAMILIES {
        for (to, hop) in [(pod(1, 2)[family], hop(2)), (WORLD[family], hop(0)), (pod(2, 1)[family], vtep())] {
            for upper in [Upper::Udp, Upper::Tcp, Upper::Echo] {
                let spec = Spec { upper, ..from_pod(family, to) };
                let outcome = switch.pass(Ingress::Trunk, &up(1, spec.bytes()));
                // To another node as it is: Linux does the tunnel.
                assert_eq!(outcome, forwarded(down(hop, GATEWAY_MAC.0, spent(spec))), "{spec:?}");
            }
        }
    }
    assert_eq!(switch.missing_frames(), 0);
}

#[test]
fn from_other_nodes() {
    let mut switch = cached();
    for family in FAMILIES {
        let spec = inner(pod(2, 1)[family], pod(1, 2)[family]);
        let outcome = switch.pass(Ingress::Trunk, &up(vtep().number(), spec.bytes()));
        assert_eq!(outcome, forwarded(down(hop(2), GATEWAY_MAC.0, spent(spec))));
        // It speaks for its own pods alone, to this node's VTEP, and through nobody.
        let cases = [
            (Spec { from: pod(1, 1)[family], ..spec }, DropReason::TunnelBadSource),
            (Spec { to: pod(2, 2)[family], ..spec }, DropReason::Transit),
            (Spec { destination_mac: GATEWAY_MAC, ..spec }, DropReason::NotForUs),
        ];
        for (spec, reason) in cases {
            let outcome = switch.pass(Ingress::Trunk, &up(vtep().number(), spec.bytes()));
            assert_eq!(outcome, Outcome::dropped(reason), "{spec:?}");
        }
    }
    let request =
        arp(ArpOperation::REQUEST, (Mac::default(), Mac::BROADCAST), [10, 244, 2, 11].into(), GATEWAY_V4);
    let outcome = switch.pass(Ingress::Trunk, &up(vtep().number(), request));
    assert_eq!(outcome, Outcome::dropped(DropReason::TunnelMalformed));
}

#[test]
fn a_fence_goes_down_as_it_came_up() {
    let mut switch = cached();
    for family in FAMILIES {
        let spec = from_pod(family, pod(1, 2)[family]);
        let packet = patch(up(1, spec.bytes()), 0, &FENCE);
        assert_eq!(switch.pass(Ingress::Trunk, &packet), forwarded(down(hop(2), FENCE, spent(spec))));
        let spec = inner(pod(2, 1)[family], pod(1, 1)[family]);
        let packet = patch(up(vtep().number(), spec.bytes()), 0, &FENCE);
        assert_eq!(switch.pass(Ingress::Trunk, &packet), forwarded(down(hop(1), FENCE, spent(spec))));
        // Refused with a notice: the packet is through as well.
        let spec = Spec { hop_limit: 1, ..from_pod(family, pod(1, 2)[family]) };
        let outcome = switch.pass(Ingress::Trunk, &patch(up(1, spec.bytes()), 0, &FENCE));
        let (_, notice) = outcome.only_sent();
        assert_eq!((&notice[..6], &notice[6..12]), (&tag(0x4d, 1)[..], &FENCE[..]));
        assert_eq!(outcome.drops, [(DropReason::HopLimitExceeded, 1)].into());
    }
}

#[test]
fn the_gateway_answers_by_hop() {
    let mut switch = cached();
    for number in [0, 1, 2] {
        let mac = pod_mac(1, number);
        let hop = hop(number.into());
        let IpAddr::V4(own) = pod(1, number)[V4] else { unreachable!() };
        let request = arp(ArpOperation::REQUEST, (mac, Mac::BROADCAST), own, GATEWAY_V4);
        let reply = arp(ArpOperation::REPLY, (GATEWAY_MAC, mac), GATEWAY_V4, own);
        let outcome = switch.pass(Ingress::Trunk, &up(number.into(), request));
        assert_eq!(outcome, forwarded(down(hop, GATEWAY_MAC.0, reply)));
    }
    let IpAddr::V6(own) = pod(1, 1)[V6] else { unreachable!() };
    let asked = solicitation((pod_mac(1, 1), GATEWAY_MAC), own, GATEWAY_V6, GATEWAY_V6);
    let echoes = FAMILIES.map(|family| {
        let gateway: IpAddr = if family == V4 { GATEWAY_V4.into() } else { GATEWAY_V6.into() };
        Spec { upper: Upper::Echo, ..from_pod(family, gateway) }.bytes()
    });
    for packet in [asked, echoes[V4].clone(), echoes[V6].clone()] {
        let outcome = switch.pass(Ingress::Trunk, &up(1, packet));
        let (slot, answer) = outcome.only_sent();
        assert_eq!((slot, &answer[..12]), (UPLINK_SLOT, &[tag(0x4d, 1), GATEWAY_MAC.0].concat()[..]));
    }
}

#[test]
fn icmp_errors_find_the_hop_they_are_for() {
    let mut switch = cached();
    for family in FAMILIES {
        let senders = [
            (1, Spec { hop_limit: 1, ..from_pod(family, pod(1, 2)[family]) }),
            (vtep().number(), Spec { hop_limit: 1, ..inner(pod(2, 1)[family], pod(1, 2)[family]) }),
        ];
        for (number, spec) in senders {
            let outcome = switch.pass(Ingress::Trunk, &up(number, spec.bytes()));
            assert_eq!(outcome.only_sent().1[..6], tag(0x4d, number));
            assert_eq!((outcome.icmp_errors, outcome.drops.len()), (1, 1));
        }
    }
}

#[test]
fn a_foreign_source_is_spoofed() {
    let mut switch = cached();
    let spec = from_pod(V4, pod(1, 2)[V4]);
    let outcome = switch.pass(Ingress::Trunk, &patch(spec.bytes(), 6, &tag(0x4f, 1)));
    assert_eq!(outcome, Outcome::dropped(DropReason::SpoofedMac));
    let spec = Spec { from: pod(1, 2)[V4], ..spec };
    assert_eq!(
        switch.pass(Ingress::Trunk, &up(1, spec.bytes())),
        Outcome::dropped(DropReason::SpoofedAddress)
    );
}

#[test]
fn tags_of_nobody_are_refused() {
    let mut switch = cached();
    let packet = from_pod(V4, pod(1, 2)[V4]).bytes();
    let cases = [
        (packet.clone(), DropReason::TrunkTag),
        (patch(packet.clone(), 6, &FENCE), DropReason::TrunkTag),
        (patch(packet.clone(), 6, &[0xff; 6]), DropReason::TrunkTag),
        (up(77, packet.clone()), DropReason::UnknownEndpoint),
        (up(0x8001, packet.clone()), DropReason::TunnelUnknownPeer),
        (up(0xffff, packet.clone()), DropReason::TunnelUnknownPeer),
        (up(0x1_0001, packet.clone()), DropReason::TunnelUnknownPeer),
        (up(0xffff_ffff, packet.clone()), DropReason::TunnelUnknownPeer),
        (packet[..13].to_vec(), DropReason::Truncated),
        (up(1, packet)[..14].to_vec(), DropReason::Truncated),
    ];
    for (packet, reason) in cases {
        assert_eq!(switch.pass(Ingress::Trunk, &packet), Outcome::dropped(reason), "{packet:x?}");
    }
    let mut switch = cached();
    switch.tables.node.uplink = None;
    let spec = inner(pod(2, 1)[V4], pod(1, 1)[V4]);
    let outcome = switch.pass(Ingress::Trunk, &up(vtep().number(), spec.bytes()));
    assert_eq!(outcome, Outcome::dropped(DropReason::NoUplink));
    assert_eq!(switch.missing_frames(), 0);
}

#[test]
fn an_endpoint_that_another_worker_has_is_not_judged_here() {
    let mut switch = cached();
    let mut endpoint = switch.tables.endpoints.get(1).unwrap().clone();
    endpoint.port = PortId { worker: 1, ..endpoint.port };
    switch.tables.endpoints.set(1, endpoint);
    let spec = from_pod(V4, pod(1, 2)[V4]);
    assert_eq!(
        switch.pass(Ingress::Trunk, &up(1, spec.bytes())),
        Outcome::dropped(DropReason::UnknownEndpoint)
    );
    // Towards it, the frame goes over as it leaves, and is judged where it arrives.
    let spec = inner(pod(2, 1)[V4], pod(1, 1)[V4]);
    assert_eq!(switch.pass_to_worker_1(Ingress::Trunk, &up(vtep().number(), spec.bytes())), 1);
    assert_eq!(switch.pipeline().connections().len(), 0);
}

#[test]
fn a_frame_that_arrives_by_hop_is_judged_for_its_endpoint() {
    let mut switch = cached();
    let allowed = [(pod(2, 1)[V4], None)];
    enforce(&mut switch.tables, 1, Rules::only(&allowed, &[]));
    for (from, enters) in [(pod(2, 1)[V4], true), (pod(2, 2)[V4], false)] {
        let spec = inner(from, pod(1, 1)[V4]);
        assert_eq!(switch.arrive(1, &down(hop(1), GATEWAY_MAC.0, spec.bytes())), enters);
    }
    assert_eq!(switch.pipeline().connections().len(), 1);
}

#[test]
fn direct_and_cached_endpoints_reach_each_other() {
    let mut switch = cached();
    let mut endpoint = switch.tables.endpoints.get(2).unwrap().clone();
    (endpoint.attach, endpoint.port) = (AttachMode::Direct, port(2));
    switch.tables.endpoints.set(2, endpoint);
    for family in FAMILIES {
        let spec = from_pod(family, pod(1, 2)[family]);
        let delivered = Spec { source_mac: GATEWAY_MAC, destination_mac: pod_mac(1, 2), ..spec };
        // Nothing of a fence gets out of the trunk.
        let outcome = switch.pass(Ingress::Trunk, &patch(up(1, spec.bytes()), 0, &FENCE));
        assert_eq!(outcome, Outcome::forwarded(2, spent(delivered)));
        let back = Spec { source_mac: pod_mac(1, 2), from: spec.to, to: spec.from, ..spec };
        let outcome = switch.pass(Ingress::Endpoint(2), &back.bytes());
        assert_eq!(outcome, forwarded(down(hop(1), GATEWAY_MAC.0, spent(back))));
        // And from its own port it reaches other nodes, too.
        let far = Spec { to: pod(2, 1)[family], ..back };
        let outcome = switch.pass(Ingress::Endpoint(2), &far.bytes());
        assert_eq!(outcome, forwarded(down(vtep(), GATEWAY_MAC.0, spent(far))));
    }
    for _ in 0..20 {
        switch.pass(Ingress::Trunk, &up(1, from_pod(V4, pod(1, 2)[V4]).bytes()));
        assert_eq!(requests(&mut switch), [], "the kernel does not see it arrive");
    }
}

/// What is asked of the flow cache; all of it is taken.
fn requests(switch: &mut Switch) -> Vec<Request> {
    let mut requests = Vec::new();
    let tables = switch.tables.clone();
    switch.pipeline().ask(&tables, &mut |request| {
        requests.push(request);
        true
    });
    requests
}

/// Sends the packet 16 times, and returns what was asked.
fn asked(switch: &mut Switch, hop: u32, spec: Spec) -> Vec<Request> {
    for _ in 0..16 {
        assert_eq!(switch.pass(Ingress::Trunk, &up(hop, spec.bytes())).sent.len(), 1);
    }
    requests(switch)
}

/// End, interface, and hops with their generations.
type Offered = (u32, Side, u32, (Hop, u32), (Hop, u32));

fn offered(requests: &[Request]) -> Vec<Offered> {
    let of = |request: &Request| match request {
        Request::Offer(offer) => {
            let (from, to) = (offer.from, offer.to);
            let (from, to) = ((from.hop, from.generation), (to.hop, to.generation));
            (offer.end.endpoint, offer.end.seen, offer.interface, from, to)
        }
        Request::Recall(_) | Request::Written(_) => panic!("{request:?}"),
    };
    requests.iter().map(of).collect()
}

#[test]
fn both_ends_offer_what_the_kernel_sees_come_and_go() {
    let mut switch = cached();
    for family in FAMILIES {
        let (one, two, host, far) = ((hop(1), 11), (hop(2), 12), (hop(0), 10), (vtep(), 20));
        let requests = asked(&mut switch, 1, from_pod(family, pod(1, 2)[family]));
        assert_eq!(offered(&requests), [(1, Side::Egress, 101, one, two), (2, Side::Ingress, 101, one, two)]);
        let requests = asked(&mut switch, 1, from_pod(family, WORLD[family]));
        assert_eq!(
            offered(&requests),
            [(1, Side::Egress, 101, one, host), (0, Side::Ingress, 101, one, host)]
        );
        let requests = asked(&mut switch, 1, from_pod(family, pod(2, 1)[family]));
        assert_eq!(offered(&requests), [(1, Side::Egress, 101, one, far)]);
        let requests = asked(&mut switch, vtep().number(), inner(pod(2, 1)[family], pod(1, 2)[family]));
        assert_eq!(offered(&requests), [(2, Side::Ingress, VXLAN, far, two)]);
        // To itself a pod needs no flow cache, and what is not TCP or UDP gets none.
        assert_eq!(asked(&mut switch, 1, from_pod(family, pod(1, 1)[family])), []);
        let echo = Spec { upper: Upper::Echo, ..from_pod(family, pod(1, 2)[family]) };
        assert_eq!(asked(&mut switch, 1, echo), []);
    }
}

#[test]
fn nothing_is_offered_without_a_generation_or_with_a_tunnel_of_the_switch() {
    let mut switch = cached();
    switch.tables.hop_generations.remove(2);
    assert_eq!(asked(&mut switch, 1, from_pod(V4, pod(1, 2)[V4])), []);
    assert_eq!(switch.pipeline().connections().offloaded(), 0);
    switch.tables.node.uplink.as_mut().unwrap().tunnel = Tunnel::Switch;
    assert_eq!(asked(&mut switch, 1, from_pod(V4, pod(2, 1)[V4])), []);
}

#[test]
fn a_changed_policy_recalls_what_it_does_not_allow_without_a_packet() {
    let mut switch = cached();
    let all = [(pod(1, 2)[V4], None), (pod(2, 1)[V4], None)];
    enforce(&mut switch.tables, 1, Rules::only(&[], &all));
    let flows = [pod(1, 2)[V4], pod(2, 1)[V4]].map(|to| from_pod(V4, to));
    let offers: usize = flows.iter().map(|spec| asked(&mut switch, 1, *spec).len()).sum();
    assert_eq!(offers, 3);
    enforce(&mut switch.tables, 1, Rules::only(&[], &all[1..]));
    switch.sweep();
    assert!(!switch.pipeline().is_sweeping(), "all that is remembered was looked at");
    let [Request::Recall(end)] = requests(&mut switch)[..] else {
        panic!("only what is not allowed any more")
    };
    assert_eq!((end.endpoint, end.seen, end.key.destination), (1, Side::Egress, pod(1, 2)[V4]));
    assert_eq!(
        switch.pass(Ingress::Trunk, &up(1, flows[0].bytes())),
        Outcome::dropped(DropReason::PolicyEgress)
    );
}

#[test]
fn what_a_former_switch_has_allowed_is_judged_again() {
    for allowed in [true, false] {
        let mut switch = cached();
        let rule = [(pod(2, 1)[V4], None)];
        enforce(&mut switch.tables, 1, Rules::only(if allowed { &rule } else { &[] }, &[]));
        switch.sweep();
        let spec = inner(pod(2, 1)[V4], pod(1, 1)[V4]);
        let key = heddle_switch::tables::conntrack::FlowKey {
            source: spec.from,
            destination: spec.to,
            source_port: spec.ports.0,
            destination_port: spec.ports.1,
            protocol: 17,
            role: heddle_switch::tables::conntrack::Role::Any,
        };
        let end = FlowEnd { endpoint: 1, seen: Side::Ingress, key, direction: Direction::Original };
        switch.pipeline().hear(&News::Found(end, Unseen::default()));
        switch.sweep();
        let recalls = if allowed { vec![] } else { vec![Request::Recall(end)] };
        assert_eq!(requests(&mut switch), recalls);
        assert_eq!(switch.pipeline().connections().offloaded(), usize::from(allowed));
    }
}

#[test]
fn an_open_endpoint_passes_what_it_passes_where_nothing_is_remembered() {
    let mut switch = cached();
    for family in FAMILIES {
        let spec = from_pod(family, pod(1, 2)[family]);
        let later = common::packets::fragment(&spec.bytes(), 7, 1, false);
        let outcome = switch.pass(Ingress::Trunk, &up(1, later));
        assert_eq!((outcome.sent.len(), outcome.drops.len()), (1, 0), "a later fragment before the first");
        for flags in [0, 0x3, 0x6] {
            let odd = Spec { upper: Upper::Segment(flags, 1, 1), ..spec };
            let outcome = switch.pass(Ingress::Trunk, &up(1, odd.bytes()));
            assert_eq!((outcome.sent.len(), outcome.drops.len()), (1, 0), "flags {flags:x}");
        }
    }
}
