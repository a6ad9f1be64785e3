//! Flows are offered when it is worth it, recalled whenever their connection is not what they were offered for, and what is
//! listed agrees with what the table holds.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    Change, Connections, Direction, FlowEnd, FlowKey, Outcome, Packet, Side, State, Tick, Unseen,
};
use super::tools::{ENDPOINT, HANDSHAKE, Seen, datagram, flow, pass, play_into, second, segment};
use crate::wire::protocol;

/// As the pipeline does it: a packet passes, and its flow is offered if it is ripe. True when it was.
fn pass_and_offer(table: &mut Connections, now: Tick, side: Side, flow: &FlowKey, packet: &Packet) -> bool {
    let key = if side == Side::Egress { *flow } else { flow.reverse() };
    let probe = table.probe(ENDPOINT, side, &key);
    match table.track(now, &probe, packet) {
        Outcome::Known(mut known) if known.is_ripe() => {
            known.offload();
            return true;
        }
        Outcome::New => drop(table.open(now, &probe, packet, Direction::Original, 1)),
        _ => {}
    }
    false
}

fn tcp() -> FlowKey {
    flow(protocol::TCP, 40_000, 80)
}

fn send(table: &mut Connections, text: &str) -> bool {
    let (side, segment) = segment(text);
    let packet = Packet { bytes: segment.payload + 40, segment: Some(segment) };
    pass_and_offer(table, second(1), side, &tcp(), &packet)
}

fn end(seen: Side, direction: Direction) -> FlowEnd {
    let key = if seen == Side::Egress { tcp() } else { tcp().reverse() };
    FlowEnd { endpoint: ENDPOINT, seen, key, direction }
}

const ORIGINAL: (Side, Direction) = (Side::Egress, Direction::Original);
const REPLY: (Side, Direction) = (Side::Ingress, Direction::Reply);

fn listed(table: &mut Connections) -> Vec<Change> {
    std::mem::take(table.changes())
}

fn recalled(which: &[(Side, Direction)]) -> Vec<Change> {
    which.iter().map(|(seen, direction)| Change::Recalled(end(*seen, *direction))).collect()
}

/// An established connection with both flows offloaded, and nothing listed.
fn offloaded() -> Connections {
    let mut table = Connections::new(16);
    play_into(&mut table, "handshake", &HANDSHAKE);
    for _ in 0..16 {
        send(&mut table, "> A 101 501 0");
        send(&mut table, "< A 501 101 0");
    }
    assert_eq!(table.offloaded(), 1);
    let offered = [ORIGINAL, REPLY].map(|(seen, direction)| Change::Offloaded(end(seen, direction)));
    assert_eq!(listed(&mut table), offered);
    table
}

#[test]
fn every_eighth_packet_offers_until_one_is_taken() {
    let mut table = Connections::new(16);
    play_into(&mut table, "handshake", &HANDSHAKE);
    // The opener has sent two.
    let mut offers = Vec::new();
    for packet in 3..=33 {
        if send(&mut table, "> A 101 501 0") {
            offers.push(packet);
            table.take_back(&end(Side::Egress, Direction::Original));
        }
    }
    assert_eq!(offers, [8, 16, 24, 32]);
    for _ in 33..40 {
        send(&mut table, "> A 101 501 0");
    }
    assert_eq!(table.offloaded(), 1);
    let offered = (0..40).filter(|_| send(&mut table, "> A 101 501 0")).count();
    assert_eq!(offered, 0, "what passes unseen is not offered again");
}

#[test]
fn only_what_is_settled_is_offered() {
    let mut table = Connections::new(16);
    for _ in 0..20 {
        assert!(!send(&mut table, "> S 100 0 0"), "opening");
    }
    for kind in [protocol::ICMP, protocol::SCTP, 47] {
        let flow = flow(kind, 1, 1);
        let offered =
            (0..20).any(|_| pass_and_offer(&mut table, second(1), Side::Egress, &flow, &datagram(9)));
        assert!(!offered, "protocol {kind}");
    }
    let udp = flow(protocol::UDP, 1, 1);
    let offers = (0..20).filter(|_| pass_and_offer(&mut table, second(1), Side::Egress, &udp, &datagram(9)));
    assert_eq!(offers.count(), 1, "UDP that goes one way only is offered as well");
    let mut table = offloaded();
    send(&mut table, "> FA 101 501 0");
    table.take_back(&end(Side::Egress, Direction::Original));
    assert!(!(0..20).any(|_| send(&mut table, "> A 102 501 0")), "half closed");
}

#[test]
fn the_end_of_a_connection_recalls_its_flows() {
    type End = fn(&mut Connections);
    let ends: [(&str, End); 6] = [
        ("reset by the endpoint", |table| assert!(!send(table, "> R 7 0 0"))),
        ("reset by the peer", |table| assert!(!send(table, "< R 7 0 0"))),
        ("both close", |table| {
            send(table, "> FA 101 501 0");
            assert_eq!(listed(table), [], "the other direction may go on");
            send(table, "< FA 501 102 0");
        }),
        ("removed", |table| table.retain(second(1), 0..16, |_| false)),
        ("replaced", |table| {
            let probe = table.probe(ENDPOINT, Side::Egress, &tcp());
            table.open(second(1), &probe, &datagram(1), Direction::Original, 1);
        }),
        ("evicted", |table| {
            for port in 0..16 {
                let probe = table.probe(ENDPOINT, Side::Egress, &flow(protocol::UDP, port, 1));
                table.open(second(1), &probe, &datagram(1), Direction::Original, 1);
                // Answered ones are worth more than those that a flood leaves, and less than TCP.
            }
            for port in 0..16 {
                let probe = table.probe(ENDPOINT, Side::Egress, &flow(protocol::UDP, 100 + port, 1));
                table.open(second(1), &probe, &datagram(1), Direction::Original, 1);
            }
            table.retain(second(1), 0..16, |flow| flow.key.protocol == protocol::UDP);
        }),
    ];
    for (name, finish) in ends {
        let mut table = offloaded();
        finish(&mut table);
        assert_eq!(listed(&mut table), recalled(&[ORIGINAL, REPLY]), "{name}");
        assert_eq!(table.offloaded(), 0, "{name}");
    }
}

/// The opener has lost the connection and starts anew from the same port: the handshake is seen, so nothing may pass unseen, and
/// the windows are those of the new connection.
#[test]
fn a_connection_that_starts_anew_recalls_its_flows() {
    let mut table = offloaded();
    send(&mut table, "> S 9000 0 0");
    assert_eq!((listed(&mut table), table.offloaded()), (vec![], 1), "nobody has accepted it yet");
    send(&mut table, "< SA 7000 9001 0");
    assert_eq!(listed(&mut table), recalled(&[ORIGINAL, REPLY]));
    assert_eq!(table.in_state(State::Accepted), 1);
    send(&mut table, "> A 9001 7001 0");
    assert_eq!(table.in_state(State::Established), 1);
    // A reset from outside the new window ends nothing.
    let (side, outside) = segment("> R 5 0 0");
    let seen = super::tools::track(
        &mut table,
        second(1),
        side,
        &tcp(),
        &Packet { bytes: 40, segment: Some(outside) },
    );
    assert!(matches!(seen, Seen::Refused(_)), "{seen:?}");
}

#[test]
fn a_connection_whose_packets_pass_unseen_does_not_expire() {
    let mut table = offloaded();
    let day = 2 * 86_400;
    table.expire(second(day), 1000);
    assert_eq!((table.len(), listed(&mut table)), (1, vec![]));
    let unseen = Unseen { packets: 3, bytes: 300, idle: Duration::from_secs(day - 1000) };
    for (seen, direction) in [ORIGINAL, REPLY] {
        table.note_dropped(second(day), &end(seen, direction), &unseen);
    }
    assert_eq!(listed(&mut table), recalled(&[ORIGINAL, REPLY]), "whatever was offered since is void");
    let flow = table.flows(second(1000), 0..16).next().unwrap();
    assert_eq!((flow.packets[1], flow.bytes[0], flow.offloaded), (16 + 1 + 3, flow.bytes[0], false));
    table.expire(second(2 * day), 1000);
    assert_eq!(table.len(), 0, "idle for a day since");
}

#[test]
fn what_passes_without_being_allowed_to_is_recalled() {
    let unseen = Unseen { packets: 1, bytes: 100, idle: Duration::ZERO };
    let mut table = Connections::new(16);
    table.note_unseen(second(1), &end(Side::Egress, Direction::Original), &unseen);
    assert_eq!(listed(&mut table), recalled(&[ORIGINAL]), "of a connection that nobody knows");
    let mut table = offloaded();
    table.note_unseen(second(1), &end(Side::Egress, Direction::Original), &unseen);
    assert_eq!(listed(&mut table), []);
    table.take_back(&end(Side::Egress, Direction::Original));
    table.note_unseen(second(1), &end(Side::Egress, Direction::Original), &unseen);
    assert_eq!(listed(&mut table), recalled(&[ORIGINAL]), "of one that has taken it back");
    // To be dropped is what it wants.
    table.note_dropped(second(1), &end(Side::Egress, Direction::Original), &unseen);
    assert_eq!(listed(&mut table), []);
}

#[test]
fn review_recalls_what_is_not_allowed_any_more() {
    let mut table = offloaded();
    pass(&mut table, second(1), Side::Egress, &flow(protocol::UDP, 1, 1), &datagram(1));
    let mut asked = Vec::new();
    table.review(second(1), 0..1000, |flow| {
        asked.push(flow.key);
        Some(5)
    });
    assert_eq!(asked, [tcp()], "only what passes unseen");
    assert_eq!((listed(&mut table), table.flows(second(1), 0..1).next().unwrap().judged_at), (vec![], 5));
    table.review(second(1), 0..1000, |_| None);
    assert_eq!(listed(&mut table), recalled(&[ORIGINAL, REPLY]));
    table.review(second(1), 0..1000, |_| panic!("nothing passes unseen"));
}

#[test]
fn a_flow_that_is_found_brings_its_connection_back() {
    let unseen = Unseen { packets: 10, bytes: 1000, idle: Duration::from_secs(5) };
    for first in [ORIGINAL, REPLY] {
        let mut table = Connections::new(1);
        for (seen, direction) in [first, if first == ORIGINAL { REPLY } else { ORIGINAL }] {
            table.adopt_offloaded(second(50), &end(seen, direction), &unseen);
        }
        let flow = table.flows(second(50), 0..1).next().unwrap();
        assert_eq!((flow.side, flow.key, flow.state), (Side::Egress, tcp(), State::Established));
        assert_eq!((flow.packets, flow.bytes, flow.judged_at), ([10, 10], [1000, 1000], 0));
        assert_eq!((flow.idle, flow.offloaded, listed(&mut table)), (Duration::from_secs(5), true, vec![]));
        // No room: rather not in the flow cache than unknown here.
        let stranger = FlowEnd { endpoint: 9, ..end(Side::Egress, Direction::Original) };
        table.adopt_offloaded(second(50), &stranger, &unseen);
        assert_eq!(listed(&mut table), [Change::Recalled(stranger)]);
    }
    // One that is known already keeps its totals, and which way it was opened.
    let mut table = Connections::new(16);
    play_into(&mut table, "handshake", &HANDSHAKE);
    table.adopt_offloaded(second(1), &end(Side::Ingress, Direction::Original), &unseen);
    let flow = table.flows(second(1), 0..16).next().unwrap();
    assert_eq!((flow.packets, flow.idle), ([2, 11], Duration::ZERO));
    table.take_back(&end(Side::Ingress, Direction::Original));
    assert_eq!(table.offloaded(), 0);
}

#[derive(Debug, Clone)]
enum Action {
    Segment(u16, bool, u8),
    Datagram(u16, bool),
    Drop(u16, bool, bool),
    Unseen(u16, bool),
    Find(u16, bool),
    Wait(u64),
    Review(bool),
    Retain(u16),
}

fn any_action() -> impl Strategy<Value = Action> {
    let port = || 0u16..4;
    prop_oneof![
        20 => (port(), any::<bool>(), 0u8..14).prop_map(|(port, up, kind)| Action::Segment(port, up, kind)),
        10 => (port(), any::<bool>()).prop_map(|(port, up)| Action::Datagram(port, up)),
        2 => (port(), any::<bool>(), any::<bool>()).prop_map(|(port, up, tcp)| Action::Drop(port, up, tcp)),
        1 => (port(), any::<bool>()).prop_map(|(port, up)| Action::Unseen(port, up)),
        1 => (port(), any::<bool>()).prop_map(|(port, up)| Action::Find(port, up)),
        1 => (1u64..200).prop_map(Action::Wait),
        1 => any::<bool>().prop_map(Action::Review),
        1 => port().prop_map(Action::Retain),
    ]
}

fn end_of(protocol: u8, port: u16, up: bool) -> FlowEnd {
    let (key, seen) = (flow(protocol, port, 80), if up { Side::Egress } else { Side::Ingress });
    let key = if up { key } else { key.reverse() };
    FlowEnd { endpoint: ENDPOINT, seen, key, direction: Direction::Original }
}

fn act(table: &mut Connections, now: &mut u64, action: &Action) {
    use super::super::flags::{ACK, FIN, RST, SYN};
    let tick = second(*now);
    let side = |up: bool| if up { Side::Egress } else { Side::Ingress };
    match *action {
        Action::Segment(port, up, kind) => {
            let flags = [SYN, SYN | ACK, FIN | ACK, RST].get(usize::from(kind)).copied().unwrap_or(ACK);
            // As loose a network as there is: any number of either end, so that all transitions are met.
            let text = if up { "> A 101 501 0" } else { "< A 501 101 0" };
            let mut segment = segment(text).1;
            segment.flags = flags;
            if flags & SYN != 0 {
                segment.sequence -= 1;
            }
            let packet = Packet { bytes: 40, segment: Some(segment) };
            pass_and_offer(table, tick, side(up), &flow(protocol::TCP, port, 80), &packet);
        }
        Action::Datagram(port, up) => {
            pass_and_offer(table, tick, side(up), &flow(protocol::UDP, port, 80), &datagram(100));
        }
        Action::Drop(port, up, tcp) => {
            let protocol = if tcp { protocol::TCP } else { protocol::UDP };
            table.note_dropped(tick, &end_of(protocol, port, up), &Unseen::default());
        }
        Action::Unseen(port, up) => {
            table.note_unseen(tick, &end_of(protocol::UDP, port, up), &Unseen::default());
        }
        Action::Find(port, up) => {
            table.adopt_offloaded(tick, &end_of(protocol::TCP, port, up), &Unseen::default());
        }
        Action::Wait(seconds) => {
            *now += seconds;
            table.expire(second(*now), 100);
        }
        Action::Review(allowed) => table.review(tick, 0..table.capacity(), |_| allowed.then_some(1)),
        Action::Retain(port) => table.retain(tick, 0..table.capacity(), |flow| flow.key.source_port != port),
    }
}

/// The flows that pass unseen, as the entries have it.
fn bits(table: &Connections) -> HashSet<(Side, FlowKey)> {
    table.ends_that_pass_unseen().into_iter().map(|end| (end.seen, end.key)).collect()
}

proptest! {
    /// Whoever reads the list knows what the table holds: all that passes unseen was listed (or found), and all that does not
    /// any more was recalled, or was dropped by whoever reads.
    #[test]
    fn the_list_of_changes_tells_all(
        capacity in 2usize..12,
        actions in proptest::collection::vec(any_action(), 1..400),
    ) {
        let mut table = Connections::new(capacity);
        let (mut now, mut told) = (1, HashSet::new());
        for action in &actions {
            act(&mut table, &mut now, action);
            for change in listed(&mut table) {
                match change {
                    Change::Offloaded(end) => prop_assert!(told.insert((end.seen, end.key)), "offered twice: {:?}", end),
                    // Somebody wrote it at once.
                    Change::Beginning(end) => {
                        table.begin_unseen(second(now), &end);
                        prop_assert!(told.insert((end.seen, end.key)), "begun twice: {:?}", end);
                    }
                    Change::Recalled(end) => drop(told.remove(&(end.seen, end.key))),
                }
            }
            if let Action::Find(port, up) = *action {
                let end = end_of(protocol::TCP, port, up);
                if bits(&table).contains(&(end.seen, end.key)) {
                    told.insert((end.seen, end.key));
                }
            }
            prop_assert_eq!(&bits(&table), &told, "after {:?}", action);
            let offloaded = table.entries.iter().filter(|e| !e.key.is_free() && e.progress.is_offloaded());
            prop_assert_eq!(offloaded.count(), table.offloaded());
        }
    }
}
