//! A reset ends a connection only when it comes from somebody who sees the connection; and connections whose windows
//! are not known.

use super::super::State::{Accepted, Established, HalfClosed, Opening, OpeningBoth, Reset, TimeWait};
use super::super::{Change, Connections, Direction, Fault, Packet};
use super::tools::{
    ENDPOINT, Seen, after_handshake, flow, original, play, play_into, reply, second, segment,
};
use crate::wire::protocol;

const REFUSED: Seen = Seen::Refused(Fault::Reset);

#[test]
fn the_exact_number_resets() {
    for (text, seen) in [
        // What the sender would send next, which is what the other end waits for.
        ("< R 501 0 0", reply(Reset)),
        ("> R 101 0 0", original(Reset)),
        ("< RA 501 101 0", reply(Reset)),
    ] {
        after_handshake(text, &[(text, seen)]);
    }
}

#[test]
fn a_reset_behind_data_or_instead_of_it_is_exact_too() {
    let behind = [("< A 501 101 100", reply(Established)), ("< R 601 0 0", reply(Reset))];
    after_handshake("behind data on its way", &behind);
    let instead = [("< A 501 101 100", reply(Established)), ("< R 501 0 0", reply(Reset))];
    after_handshake("at the acknowledged number", &instead);
}

#[test]
fn elsewhere_in_the_window_it_is_let_through_without_effect() {
    let rest = [
        ("< R 502 0 0", reply(Established)),
        ("< R 1501 0 0", reply(Established)),
        ("> A 101 501 0", original(Established)),
        ("< R 501 0 0", reply(Reset)),
    ];
    let table = after_handshake("challenged", &rest);
    assert_eq!(table.counters().refused, [0; 3]);
}

#[test]
fn outside_the_window_it_is_refused() {
    let rest = [
        ("< R 500 0 0", REFUSED),
        ("< R 1502 0 0", REFUSED),
        ("< RA 4000000000 101 0", REFUSED),
        ("> R 0 0 0", REFUSED),
        ("> R 1102 0 0", REFUSED),
        ("> A 101 501 10", original(Established)),
        ("< A 501 111 10", reply(Established)),
    ];
    let table = after_handshake("forged", &rest);
    assert_eq!(table.counters().refused, [0, 0, 5]);
    assert_eq!(table.in_state(Established), 1);
}

#[test]
fn a_connection_is_refused_by_its_peer() {
    let script = [
        ("> S 100 0 0", Seen::New),
        ("< R 0 0 0", REFUSED),
        ("< RA 0 100 0", REFUSED),
        ("< RA 0 102 0", REFUSED),
        ("< RA 0 101 0", reply(Reset)),
    ];
    play("connection refused", &script);
}

#[test]
fn opening_connections_are_reset_by_the_exact_number() {
    let opener =
        [("> S 100 0 0", Seen::New), ("> R 7 0 0", original(Opening)), ("> R 101 0 0", original(Reset))];
    play("given up", &opener);
    let accepted = [
        ("> S 100 0 0", Seen::New),
        ("< SA 500 101 0", reply(Accepted)),
        ("< R 600 0 0", REFUSED),
        ("> R 101 0 0", original(Reset)),
    ];
    play("given up after the answer", &accepted);
    let both = [
        ("> S 100 0 0", Seen::New),
        ("< S 500 0 0", reply(OpeningBoth)),
        ("< R 600 0 0", REFUSED),
        ("< R 501 0 0", reply(Reset)),
    ];
    play("given up by the other", &both);
}

#[test]
fn time_wait_is_not_cut_short() {
    let rest = [
        ("> FA 101 501 0", original(HalfClosed)),
        ("< FA 501 102 0", reply(super::super::State::Closing)),
        ("> A 102 502 0", original(TimeWait)),
        ("> R 102 0 0", original(TimeWait)),
    ];
    after_handshake("RFC 1337", &rest);
}

#[test]
fn what_follows_a_reset_does_not_keep_the_connection() {
    let mut table = after_handshake("reset", &[("> R 101 0 0", original(Reset))]);
    let flow = flow(protocol::TCP, 40_000, 80);
    let (side, segment) = segment("< A 501 101 50");
    let packet = Packet { bytes: 90, segment: Some(segment) };
    assert_eq!(super::tools::track(&mut table, second(11), side, &flow, &packet), reply(Reset));
    assert_eq!(super::tools::track(&mut table, second(12), side, &flow, &packet), Seen::Stray);
}

/// Opens a connection with a packet from its middle.
fn picked_up(text: &str, direction: Direction) -> Connections {
    let mut table = Connections::new(4);
    let (side, segment) = segment(text);
    let flow = flow(protocol::TCP, 40_000, 80);
    let key = if side == super::super::Side::Egress { flow } else { flow.reverse() };
    let probe = table.probe(ENDPOINT, side, &key);
    table.open(second(1), &probe, &Packet { bytes: 40, segment: Some(segment) }, direction, 1);
    table
}

#[test]
fn picked_up_on_the_way() {
    let mut table = picked_up("> A 1000 5000 100", Direction::Original);
    let rest = [
        ("< R 4999 0 0", REFUSED),
        ("< A 5000 1100 60000", reply(Established)),
        ("> A 1100 65000 0", original(Established)),
        ("> R 3000000000 0 0", REFUSED),
        ("> FA 1100 65000 0", original(HalfClosed)),
        ("< R 65000 0 0", reply(Reset)),
    ];
    play_into(&mut table, "picked up", &rest);
}

#[test]
fn picked_up_as_a_reply() {
    let mut table = picked_up("> A 1000 5000 100", Direction::Reply);
    let rest = [("> A 1100 5000 10", reply(Established)), ("< A 5000 1110 0", original(Established))];
    play_into(&mut table, "picked up as a reply", &rest);
    assert_eq!(table.flows(second(1), 0..4).next().map(|flow| flow.packets), Some([1, 2]));
}

#[test]
fn picked_up_at_its_end() {
    assert_eq!(picked_up("> FA 1000 5000 0", Direction::Original).in_state(HalfClosed), 1);
    assert_eq!(picked_up("> R 1000 5000 0", Direction::Original).in_state(Reset), 1);
}

#[test]
fn offloaded_connections_are_not_judged_by_windows() {
    let set_offloaded = |table: &mut Connections, offloaded: bool| {
        let flow = flow(protocol::TCP, 40_000, 80);
        let error = super::super::Side::Ingress;
        let mut known = table.related(second(1), ENDPOINT, error, &flow).expect("it is there");
        if offloaded {
            known.offload();
        } else {
            let [.., Change::Offloaded(end)] = *std::mem::take(table.changes()) else {
                panic!("not offloaded")
            };
            table.take_back(&end);
        }
    };
    let mut table = after_handshake("offloaded", &[]);
    set_offloaded(&mut table, true);
    let seen_again = [("< A 900000 800000 100", reply(Established))];
    play_into(&mut table, "out of date", &seen_again);
    set_offloaded(&mut table, false);
    let strict = [
        ("< A 900100 800000 0", reply(Established)),
        ("> A 800000 900100 0", original(Established)),
        ("< R 5 0 0", REFUSED),
        ("< FA 5 800000 0", reply(Established)),
    ];
    play_into(&mut table, "learned afresh", &strict);
    set_offloaded(&mut table, true);
    let closing = [("> FA 999 1 0", original(HalfClosed)), ("< FA 888 1 0", reply(TimeWait))];
    play_into(&mut table, "closes unseen", &closing);
}
