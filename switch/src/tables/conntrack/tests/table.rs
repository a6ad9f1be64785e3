//! Connections are found from both sides, kept apart, judged, related, counted and shown.
#![allow(clippy::unwrap_used)]

use super::super::{Connections, Direction, Flow, FlowKey, Outcome, Role, Side, State};
use super::tools::{
    ENDPOINT, Seen, address, after_handshake, datagram, flow, original, pass, reply, second, track,
};
use crate::wire::protocol;

#[test]
fn datagrams_are_answered_by_key() {
    for (number, unanswered, answered) in [
        (protocol::UDP, State::UdpUnanswered, State::UdpAnswered),
        (protocol::SCTP, State::SctpUnanswered, State::SctpAnswered),
        (47, State::OtherUnanswered, State::OtherAnswered),
    ] {
        let mut table = Connections::new(4);
        let (flow, now) = (flow(number, 5000, 53), second(1));
        let mut see = |side| pass(&mut table, now, side, &flow, &datagram(100));
        assert_eq!(see(Side::Egress), Seen::New);
        assert_eq!(see(Side::Egress), original(unanswered));
        assert_eq!(see(Side::Ingress), reply(answered));
        assert_eq!(see(Side::Egress), original(answered));
        assert!(answered.is_established() && !unanswered.is_established());
    }
}

#[test]
fn two_hosts_that_ping_each_other_have_two_connections() {
    let mut table = Connections::new(4);
    let now = second(1);
    let ping = FlowKey { role: Role::Query, ..flow(protocol::ICMP, 7, 7) };
    let answer = FlowKey { role: Role::Answer, ..ping };
    assert_eq!(pass(&mut table, now, Side::Egress, &ping, &datagram(84)), Seen::New);
    assert_eq!(track(&mut table, now, Side::Egress, &answer, &datagram(84)), Seen::Stray);
    assert_eq!(track(&mut table, now, Side::Ingress, &ping, &datagram(84)), reply(State::QueryAnswered));
    // The peer asks with the same identifier: nobody has allowed that yet.
    assert_eq!(pass(&mut table, now, Side::Ingress, &answer, &datagram(84)), Seen::New);
    assert_eq!(track(&mut table, now, Side::Egress, &answer, &datagram(84)), reply(State::QueryAnswered));
    assert_eq!(table.len(), 2);
}

#[test]
fn both_sides_of_one_worker_have_an_entry_each() {
    let mut table = Connections::new(4);
    let (now, flow) = (second(1), flow(protocol::UDP, 5000, 53));
    let sides = [(1, Side::Egress), (2, Side::Ingress)];
    for (endpoint, side) in sides {
        let probe = table.probe(endpoint, side, &flow);
        assert!(matches!(table.track(now, &probe, &datagram(1)), Outcome::New));
        table.open(now, &probe, &datagram(1), Direction::Original, 1);
    }
    for (endpoint, side) in sides {
        let probe = table.probe(endpoint, side.opposite(), &flow.reverse());
        let Outcome::Known(known) = table.track(now, &probe, &datagram(1)) else { panic!("not found") };
        assert_eq!((known.direction(), known.side()), (Direction::Reply, side));
    }
    assert_eq!(table.len(), 2);
}

#[test]
fn a_pod_that_talks_to_itself_has_two_connections() {
    let mut table = Connections::new(4);
    let now = second(1);
    let there = FlowKey { destination: flow(protocol::UDP, 0, 0).source, ..flow(protocol::UDP, 5000, 53) };
    for side in [Side::Egress, Side::Ingress] {
        let probe = table.probe(ENDPOINT, side, &there);
        assert!(matches!(table.track(now, &probe, &datagram(1)), Outcome::New));
        table.open(now, &probe, &datagram(1), Direction::Original, 1);
    }
    for side in [Side::Egress, Side::Ingress] {
        let probe = table.probe(ENDPOINT, side, &there.reverse());
        let Outcome::Known(known) = table.track(now, &probe, &datagram(1)) else { panic!("not found") };
        assert_eq!(known.direction(), Direction::Reply);
    }
}

#[test]
fn a_mapped_address_is_another_address() {
    let mut table = Connections::new(4);
    let v4 = FlowKey {
        source: address("10.0.0.1"),
        destination: address("10.0.0.2"),
        ..flow(protocol::UDP, 5000, 53)
    };
    let low = FlowKey { source: address("::10.0.0.1"), destination: address("::10.0.0.2"), ..v4 };
    assert_eq!(pass(&mut table, second(1), Side::Egress, &v4, &datagram(1)), Seen::New);
    assert_eq!(pass(&mut table, second(1), Side::Egress, &low, &datagram(1)), Seen::New);
}

#[test]
fn errors_belong_to_the_connection_they_quote() {
    let v6 = flow(protocol::UDP, 5000, 53);
    let v4 = FlowKey { source: address("10.0.0.1"), destination: address("10.0.0.2"), ..v6 };
    for sent in [v4, v6] {
        let mut table = Connections::new(4);
        let now = second(1);
        pass(&mut table, now, Side::Egress, &sent, &datagram(1400));
        // Too big, from a router: it enters the endpoint and quotes what left it.
        let known = table.related(now, ENDPOINT, Side::Ingress, &sent).unwrap();
        assert_eq!((known.direction(), known.judged_at()), (Direction::Original, 1));
        assert_eq!(known.flow(now).packets, [1, 0], "an error is no packet of the connection");
        // The endpoint says that it could not take a reply: it leaves and quotes what came in.
        let known = table.related(now, ENDPOINT, Side::Egress, &sent.reverse()).unwrap();
        assert_eq!(known.direction(), Direction::Reply);
        for (side, inner) in [(Side::Egress, sent), (Side::Ingress, sent.reverse())] {
            assert!(table.related(now, ENDPOINT, side, &inner).is_none(), "quotes what was never sent");
        }
        assert!(table.related(now, ENDPOINT + 1, Side::Ingress, &sent).is_none(), "of another endpoint");
        assert!(table.related(second(40), ENDPOINT, Side::Ingress, &sent).is_none(), "keeps nothing alive");
    }
}

#[test]
fn an_error_about_a_ping_is_related() {
    let mut table = Connections::new(4);
    let now = second(1);
    for (number, kind, from, to) in
        [(protocol::ICMP, 8, "10.0.0.1", "10.0.0.2"), (protocol::ICMPV6, 128, "fd00::1", "fd00::2")]
    {
        let quoted = [kind, 0, 0, 0, 0x12, 0x34, 0, 1];
        let ping = FlowKey::parse(address(from), address(to), number, &quoted).unwrap();
        pass(&mut table, now, Side::Egress, &ping, &datagram(84));
        assert!(table.related(now, ENDPOINT, Side::Ingress, &ping).is_some());
    }
}

#[test]
fn a_changed_policy_is_seen() {
    let mut table = after_handshake("revoked", &[]);
    let (now, flow) = (second(2), flow(protocol::TCP, 40_000, 80));
    let mut known = table.related(now, ENDPOINT, Side::Ingress, &flow).unwrap();
    assert_eq!(known.judged_at(), 1);
    known.set_judged(9);
    let known = table.related(now, ENDPOINT, Side::Ingress, &flow).unwrap();
    assert_eq!((known.judged_at(), known.state()), (9, State::Established));
}

#[test]
fn flows_show_what_was_counted() {
    let mut table = Connections::new(8);
    let flow = flow(protocol::UDP, 5000, 53);
    pass(&mut table, second(1), Side::Ingress, &flow.reverse(), &datagram(9));
    table.retain(second(1), 0..8, |_| false);
    pass(&mut table, second(1), Side::Ingress, &flow, &datagram(60));
    pass(&mut table, second(3), Side::Egress, &flow, &datagram(500));
    let seen: Vec<_> = (0..8).flat_map(|slot| table.flows(second(5), slot..slot + 1)).collect();
    let expected = Flow {
        endpoint: ENDPOINT,
        side: Side::Ingress,
        key: flow.reverse(),
        state: State::UdpAnswered,
        idle: std::time::Duration::from_secs(2),
        judged_at: 1,
        packets: [1, 1],
        bytes: [60, 500],
        offloaded: false,
    };
    assert_eq!(seen, [expected]);
    assert_eq!(table.flows(second(5), 8..100).count(), 0, "past the end");
    assert_eq!(table.flows(second(300), 0..8).count(), 0, "idle for too long");
}

#[test]
fn what_an_endpoint_leaves_behind_is_removed() {
    let mut table = Connections::new(64);
    for port in 0..60 {
        let probe = table.probe(u32::from(port % 3), Side::Egress, &flow(protocol::UDP, port, 53));
        table.open(second(1), &probe, &datagram(1), Direction::Original, 1);
    }
    for first in (0..64).step_by(10) {
        table.retain(second(1), first..first + 10, |flow| flow.endpoint != 1);
    }
    assert_eq!((table.len(), table.counters().removed), (40, 20));
    assert!(table.flows(second(1), 0..64).all(|flow| flow.endpoint != 1));
}

#[test]
fn a_warmed_batch_finds_the_same_and_survives_changes() {
    let mut table = Connections::new(64);
    let now = second(1);
    let flows: Vec<_> = (0..40).map(|port| flow(protocol::UDP, port, 53)).collect();
    for flow in &flows[..30] {
        pass(&mut table, now, Side::Egress, flow, &datagram(1));
    }
    let mut probes: Vec<_> = flows.iter().map(|flow| table.probe(ENDPOINT, Side::Egress, flow)).collect();
    table.warm(&mut probes);
    // Between warming and tracking, some go and their slots are taken by others.
    table.retain(now, 0..64, |flow| flow.key.source_port >= 10);
    for flow in &flows[30..] {
        pass(&mut table, now, Side::Egress, flow, &datagram(1));
    }
    for (port, probe) in probes.iter().enumerate() {
        let known = match table.track(now, probe, &datagram(1)) {
            Outcome::Known(known) => Some(usize::from(known.flow(now).key.source_port)),
            _ => None,
        };
        assert_eq!(known, (port >= 10).then_some(port));
    }
}
