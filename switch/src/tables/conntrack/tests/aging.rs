//! Idle connections go in time, and when the table is full the right ones go first.

use super::super::{Connections, Direction, Group, Packet, Side, State};
use super::tools::{
    ENDPOINT, Seen, datagram, flow, original, pass, play_into, reply, second, segment, track,
};
use crate::wire::protocol;

/// A table with so many UDP flows, opened a second apart; the port is the second.
fn with_flows(capacity: usize, flows: u16) -> Connections {
    let mut table = Connections::new(capacity);
    for port in 1..=flows {
        pass(&mut table, second(port.into()), Side::Egress, &flow(protocol::UDP, port, 53), &datagram(1));
    }
    table
}

/// The source ports of the connections that are left.
fn ports(table: &Connections, now: u64) -> Vec<u16> {
    let mut ports: Vec<_> =
        table.flows(second(now), 0..usize::MAX).map(|flow| flow.key.source_port).collect();
    ports.sort_unstable();
    ports
}

/// A handshake on the given port.
fn establish(table: &mut Connections, now: u64, port: u16) {
    let key = flow(protocol::TCP, port, 80);
    for text in ["> S 100 0 0", "< SA 500 101 0", "> A 101 501 0"] {
        let (side, segment) = segment(text);
        pass(table, second(now), side, &key, &Packet { bytes: 40, segment: Some(segment) });
    }
}

#[test]
fn the_idle_expire_and_the_busy_do_not() {
    let mut table = with_flows(64, 10);
    let busy = flow(protocol::UDP, 3, 53);
    for now in 11..=60 {
        track(&mut table, second(now), Side::Egress, &busy, &datagram(1));
        table.expire(second(now), usize::MAX);
    }
    assert_eq!(ports(&table, 60), [3]);
    assert_eq!((table.len(), table.counters().expired), (1, 9));
}

#[test]
fn an_idle_connection_is_swept_up_a_quarter_late_at_most() {
    for state in State::ALL {
        assert!(state.timeout() >= 4, "{} would be looked after at every tick", state.name());
    }
    let mut table = with_flows(64, 1);
    let mut looks = 0;
    for now in 2..=31 {
        looks += table.expire(second(now), usize::MAX);
        assert_eq!(table.len(), 1, "30 s are not over");
    }
    assert!((2..=4).contains(&looks), "{looks} looks, 4 in a timeout are enough");
    for now in 32..=40 {
        table.expire(second(now), usize::MAX);
    }
    assert!(table.is_empty());
}

#[test]
fn an_expired_connection_is_not_found_even_before_it_is_swept_up() {
    let mut table = with_flows(64, 1);
    let key = flow(protocol::UDP, 1, 53);
    assert_eq!(track(&mut table, second(31), Side::Ingress, &key, &datagram(1)), reply(State::UdpAnswered));
    assert_eq!(
        track(&mut table, second(151), Side::Egress, &key, &datagram(1)),
        original(State::UdpAnswered)
    );
    assert_eq!(track(&mut table, second(272), Side::Egress, &key, &datagram(1)), Seen::New);
    assert_eq!((table.len(), table.counters().expired), (0, 1));
}

#[test]
fn expiry_keeps_to_its_budget() {
    let mut table = with_flows(64, 40);
    let looks: Vec<_> = (0..5).map(|_| table.expire(second(100), 15)).collect();
    assert_eq!(looks, [15, 15, 10, 0, 0]);
    assert!(table.is_empty());
}

#[test]
fn when_full_the_longest_idle_goes() {
    let mut table = with_flows(8, 8);
    for port in [1, 2, 4] {
        track(&mut table, second(9), Side::Egress, &flow(protocol::UDP, port, 53), &datagram(1));
    }
    for port in 9..=11 {
        pass(&mut table, second(10), Side::Egress, &flow(protocol::UDP, port, 53), &datagram(1));
    }
    assert_eq!(ports(&table, 10), [1, 2, 4, 7, 8, 9, 10, 11]);
    assert_eq!(table.counters().evicted[State::UdpUnanswered as usize], 3);
}

#[test]
fn worth_decides_who_goes() {
    let mut table = Connections::new(5);
    establish(&mut table, 1, 1);
    // Answered, half-open, and closed: each younger than the one before.
    let answered = flow(protocol::UDP, 2, 53);
    pass(&mut table, second(2), Side::Egress, &answered, &datagram(1));
    pass(&mut table, second(2), Side::Ingress, &answered, &datagram(1));
    pass(&mut table, second(3), Side::Egress, &flow(protocol::UDP, 3, 53), &datagram(1));
    establish(&mut table, 4, 4);
    establish(&mut table, 5, 5);
    for (port, text) in [(4, "> FA 101 501 0"), (5, "> R 101 0 0")] {
        let (side, segment) = segment(text);
        let packet = Packet { bytes: 40, segment: Some(segment) };
        pass(&mut table, second(6), side, &flow(protocol::TCP, port, 80), &packet);
    }
    for (port, left) in [(6, vec![1, 2, 3, 4, 6]), (7, vec![1, 2, 4, 6, 7]), (8, vec![1, 2, 4, 7, 8])] {
        pass(&mut table, second(7), Side::Egress, &flow(protocol::UDP, port, 53), &datagram(1));
        assert_eq!(ports(&table, 7), left);
    }
    // Closed by one end goes before answered, answered before established.
    for port in [7, 8] {
        pass(&mut table, second(7), Side::Ingress, &flow(protocol::UDP, port, 53), &datagram(1));
    }
    establish(&mut table, 7, 9);
    assert_eq!(ports(&table, 7), [1, 2, 7, 8, 9]);
    establish(&mut table, 8, 10);
    assert_eq!(ports(&table, 8), [1, 7, 8, 9, 10]);
}

#[test]
fn a_flood_of_syns_pushes_out_only_its_like() {
    let mut table = Connections::new(1000);
    for port in 1..=600 {
        establish(&mut table, 1, port);
    }
    for attempt in 0..20_000u32 {
        let key = flow(protocol::TCP, attempt as u16, 1000 + (attempt >> 16) as u16);
        let (side, segment) = segment("> S 7 0 0");
        pass(&mut table, second(2), side, &key, &Packet { bytes: 40, segment: Some(segment) });
    }
    let counters = table.counters();
    assert_eq!(table.len(), 1000);
    assert_eq!(table.in_state(State::Established), 600);
    assert_eq!(counters.evicted[State::Opening as usize], 20_000 - 400);
    assert_eq!(counters.evicted.iter().sum::<u64>(), 20_000 - 400);
    assert_eq!(counters.collided, 0);
}

#[test]
fn a_table_full_of_busy_established_connections_takes_one_more() {
    let mut table = Connections::new(32);
    for port in 1..=32 {
        establish(&mut table, 1, port);
    }
    for port in 1..=32 {
        let (side, segment) = segment("> A 101 501 0");
        let packet = Packet { bytes: 40, segment: Some(segment) };
        track(&mut table, second(2), side, &flow(protocol::TCP, port, 80), &packet);
    }
    establish(&mut table, 3, 100);
    assert_eq!((table.len(), table.in_state(State::Established)), (32, 32));
    assert_eq!(table.counters().evicted[State::Established as usize], 1);
}

#[test]
fn a_table_of_one_works() {
    let mut table = Connections::new(0);
    assert_eq!(table.capacity(), 1);
    let script = [("> S 1 0 0", Seen::New), ("< SA 5 2 0", reply(State::Accepted))];
    play_into(&mut table, "one", &script);
    assert_eq!(
        pass(&mut table, second(1), Side::Egress, &flow(protocol::UDP, 1, 1), &datagram(1)),
        Seen::New
    );
    assert_eq!(table.len(), 1);
}

#[test]
fn an_open_connection_replaced_on_its_key_is_one() {
    let mut table = Connections::new(4);
    let probe = table.probe(ENDPOINT, Side::Egress, &flow(protocol::UDP, 1, 1));
    for generation in 1..=3 {
        table.open(second(1), &probe, &datagram(1), Direction::Original, generation);
    }
    assert_eq!((table.len(), table.counters().opened, table.counters().reopened), (1, 3, 2));
}

#[test]
fn the_index_holds_whatever_fits_into_the_table() {
    for capacity in [2, 13, 100, 6 * 1024, 50_000] {
        let mut table = Connections::new(capacity);
        for number in 0..capacity as u32 {
            let key = flow(protocol::UDP, number as u16, (number >> 16) as u16);
            let probe = table.probe(ENDPOINT, Side::Egress, &key);
            table.open(second(1), &probe, &datagram(1), Direction::Original, 1);
        }
        assert_eq!((table.len(), table.counters().collided), (capacity, 0), "of {capacity}");
        for number in 0..capacity as u32 {
            let key = flow(protocol::UDP, number as u16, (number >> 16) as u16);
            let seen = track(&mut table, second(1), Side::Egress, &key, &datagram(1));
            assert_eq!(seen, original(State::UdpUnanswered), "number {number} of {capacity}");
        }
    }
}

#[test]
fn groups_are_in_order() {
    assert!(Group::ALL.is_sorted());
    assert_eq!(State::Established.group(), Group::Established);
}
