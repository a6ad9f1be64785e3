//! Packets and tables for the tests.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::time::Duration;

use super::super::{
    Connections, Direction, Fault, FlowKey, Outcome, Packet, Role, Segment, Side, State, Tick,
};
use crate::wire::protocol;

/// The endpoint of all tests that need only one.
pub(super) const ENDPOINT: u32 = 7;

pub(super) fn second(seconds: u64) -> Tick {
    Tick::at(Duration::from_secs(seconds))
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A flow from the endpoint to a peer.
pub(super) fn flow(number: u8, source_port: u16, destination_port: u16) -> FlowKey {
    let (source, destination) = (address("10.244.1.5"), address("fd00:10:244:2::9"));
    let source = if number == protocol::ICMP { source } else { address("fd00:10:244:1::5") };
    let destination = if number == protocol::ICMP { address("10.244.2.9") } else { destination };
    FlowKey { source, destination, source_port, destination_port, protocol: number, role: Role::Any }
}

pub(super) fn datagram(bytes: u32) -> Packet {
    Packet { bytes, segment: None }
}

/// What became of a packet, without the borrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Known(Direction, State),
    New,
    Stray,
    Refused(Fault),
}

/// Tracks a packet of `flow`, whose key is that of a packet leaving the endpoint, and opens nothing.
pub(super) fn track(table: &mut Connections, now: Tick, side: Side, flow: &FlowKey, packet: &Packet) -> Seen {
    let key = if side == Side::Egress { *flow } else { flow.reverse() };
    let probe = table.probe(ENDPOINT, side, &key);
    match table.track(now, &probe, packet) {
        Outcome::Known(known) => Seen::Known(known.direction(), known.state()),
        Outcome::New => Seen::New,
        Outcome::Stray => Seen::Stray,
        Outcome::Refused(fault) => Seen::Refused(fault),
    }
}

/// As [`track`], and opens what is new, as if policy allowed all.
pub(super) fn pass(table: &mut Connections, now: Tick, side: Side, flow: &FlowKey, packet: &Packet) -> Seen {
    let seen = track(table, now, side, flow, packet);
    if seen == Seen::New {
        let key = if side == Side::Egress { *flow } else { flow.reverse() };
        let probe = table.probe(ENDPOINT, side, &key);
        table.open(now, &probe, packet, Direction::Original, 1);
    }
    seen
}

/// A segment: who sends it (`>` the endpoint, `<` the peer), flags, sequence number, acknowledgement and payload, such
/// as `"> SA 100 50 0"`. Options follow as `scale=7` and `window=100`.
pub(super) fn segment(text: &str) -> (Side, Segment) {
    use super::super::flags;
    let mut words = text.split(' ');
    let side = if words.next() == Some(">") { Side::Egress } else { Side::Ingress };
    let bits = |letter| match letter {
        'F' => flags::FIN,
        'S' => flags::SYN,
        'R' => flags::RST,
        'A' => flags::ACK,
        _ => 0,
    };
    let flags = words.next().unwrap().chars().map(bits).fold(0, |all, bit| all | bit);
    let [sequence, acknowledgement, payload] =
        std::array::from_fn(|_| words.next().unwrap().parse().unwrap());
    let mut segment = Segment { sequence, acknowledgement, payload, window: 1000, flags, scale: None };
    for option in words {
        match option.split_once('=').unwrap() {
            ("scale", scale) => segment.scale = Some(scale.parse().unwrap()),
            (_, window) => segment.window = window.parse().unwrap(),
        }
    }
    (side, segment)
}

/// Sends segments of one connection through a fresh table and compares what becomes of each. What is new is opened.
pub(super) fn play(name: &str, script: &[(&str, Seen)]) -> Connections {
    let mut table = Connections::new(16);
    play_into(&mut table, name, script);
    table
}

pub(super) fn play_into(table: &mut Connections, name: &str, script: &[(&str, Seen)]) {
    let flow = flow(protocol::TCP, 40_000, 80);
    for (step, (text, expected)) in script.iter().enumerate() {
        let (side, segment) = segment(text);
        let packet = Packet { bytes: segment.payload + 40, segment: Some(segment) };
        let seen = pass(table, second(1), side, &flow, &packet);
        assert_eq!(seen, *expected, "{name}, step {step}: {text}");
    }
}

pub(super) const fn original(state: State) -> Seen {
    Seen::Known(Direction::Original, state)
}

pub(super) const fn reply(state: State) -> Seen {
    Seen::Known(Direction::Reply, state)
}

/// A complete handshake: the endpoint has sent up to 101, the peer up to 501.
pub(super) const HANDSHAKE: [(&str, Seen); 3] = [
    ("> S 100 0 0", Seen::New),
    ("< SA 500 101 0", reply(State::Accepted)),
    ("> A 101 501 0", original(State::Established)),
];

/// A handshake and what comes after it.
pub(super) fn after_handshake(name: &str, rest: &[(&str, Seen)]) -> Connections {
    let script: Vec<_> = HANDSHAKE.iter().chain(rest).copied().collect();
    play(name, &script)
}
