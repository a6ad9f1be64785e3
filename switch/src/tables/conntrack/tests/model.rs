//! The table does what a map that is scanned does, for any mixture of connections, answers, ages and removals; and
//! its index, lists and counters agree with each other throughout.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::entry::NONE;
use super::super::{Connections, Direction, FlowKey, Outcome, Role, Side, State, Tick};
use super::tools::{datagram, flow, second};
use crate::wire::protocol;

/// What the model keeps per connection, under endpoint and key of a packet that leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    side: Side,
    answered: bool,
    last_seen: u64,
    judged_at: u32,
    packets: [u64; 2],
    bytes: [u64; 2],
}

#[derive(Debug, Clone)]
enum Action {
    Packet { endpoint: u32, side: Side, flow: FlowKey, bytes: u32, allowed: bool },
    Related { endpoint: u32, side: Side, flow: FlowKey },
    Judge { endpoint: u32, flow: FlowKey, generation: u32 },
    Remove { endpoint: u32, flow: FlowKey },
    Wait(u64),
    Expire(usize),
    Retain(u32),
}

/// Few keys, so that they meet; any one may be opened from either side.
fn any_key() -> impl Strategy<Value = FlowKey> {
    let number = prop_oneof![Just(protocol::UDP), Just(protocol::SCTP), Just(47), Just(protocol::ICMP)];
    (number, 0u16..4, 0u16..3, any::<bool>()).prop_map(|(number, source, destination, asks)| {
        let key = flow(number, source, destination);
        match (number, asks) {
            (protocol::ICMP, true) => FlowKey { role: Role::Query, ..key },
            (protocol::ICMP, false) => FlowKey { role: Role::Answer, ..key },
            _ => key,
        }
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    let side = || prop_oneof![Just(Side::Egress), Just(Side::Ingress)];
    prop_oneof![
        12 => (0u32..3, side(), any_key(), 1u32..2000, 0u8..5).prop_map(|(endpoint, side, flow, bytes, deny)| {
            Action::Packet { endpoint, side, flow, bytes, allowed: deny > 0 }
        }),
        2 => (0u32..3, side(), any_key()).prop_map(|(endpoint, side, flow)| Action::Related { endpoint, side, flow }),
        1 => (0u32..3, any_key(), any::<u32>())
            .prop_map(|(endpoint, flow, generation)| Action::Judge { endpoint, flow, generation }),
        1 => (0u32..3, any_key()).prop_map(|(endpoint, flow)| Action::Remove { endpoint, flow }),
        3 => (1u64..40).prop_map(Action::Wait),
        2 => (0usize..8).prop_map(Action::Expire),
        1 => (0u32..3).prop_map(Action::Retain),
    ]
}

fn timeout(number: u8, answered: bool) -> u64 {
    match (number, answered) {
        (protocol::UDP | protocol::SCTP, false) => 30,
        (protocol::UDP, true) => 120,
        (protocol::SCTP, true) => 210,
        (protocol::ICMP, _) => 60,
        _ => 600,
    }
}

#[derive(Default)]
struct Naive(HashMap<(u32, FlowKey), Model>);

impl Naive {
    fn forget_idle(&mut self, now: u64) {
        self.0.retain(|(_, flow), model| now - model.last_seen <= timeout(flow.protocol, model.answered));
    }

    /// What is expected of a packet: its direction if it is known, whether it may open otherwise.
    fn packet(&mut self, now: u64, id: (u32, FlowKey), side: Side, bytes: u32, allowed: bool) -> Expected {
        let asks_from = match id.1.role {
            Role::Any => None,
            Role::Query => Some(Side::Egress),
            Role::Answer => Some(Side::Ingress),
        };
        if let Some(model) = self.0.get_mut(&id) {
            let direction = if side == model.side { Direction::Original } else { Direction::Reply };
            model.answered |= direction == Direction::Reply;
            model.last_seen = now;
            model.packets[direction as usize] += 1;
            model.bytes[direction as usize] += u64::from(bytes);
            return Expected::Known(direction);
        }
        if asks_from.is_some_and(|asks_from| asks_from != side) {
            return Expected::Stray;
        }
        if allowed {
            let (packets, bytes) = ([1, 0], [u64::from(bytes), 0]);
            let model = Model { side, answered: false, last_seen: now, judged_at: 1, packets, bytes };
            self.0.insert(id, model);
        }
        Expected::New
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Known(Direction),
    New,
    Stray,
}

fn as_seen(flow: &FlowKey, side: Side) -> FlowKey {
    if side == Side::Egress { *flow } else { flow.reverse() }
}

fn send(
    table: &mut Connections,
    now: Tick,
    id: (u32, FlowKey),
    side: Side,
    bytes: u32,
    allowed: bool,
) -> Expected {
    let mut probe = [table.probe(id.0, side, &as_seen(&id.1, side))];
    if bytes.is_multiple_of(2) {
        table.warm(&mut probe);
    }
    match table.track(now, &probe[0], &datagram(bytes)) {
        Outcome::Known(known) => Expected::Known(known.direction()),
        Outcome::Stray => Expected::Stray,
        Outcome::Refused(fault) => panic!("{fault:?}"),
        Outcome::New => {
            if allowed {
                table.open(now, &probe[0], &datagram(bytes), Direction::Original, 1);
            }
            Expected::New
        }
    }
}

fn apply(table: &mut Connections, naive: &mut Naive, now: &mut u64, action: &Action) {
    match *action {
        Action::Packet { endpoint, side, flow, bytes, allowed } => {
            let expected = naive.packet(*now, (endpoint, flow), side, bytes, allowed);
            assert_eq!(send(table, second(*now), (endpoint, flow), side, bytes, allowed), expected);
        }
        Action::Related { endpoint, side, flow } => {
            let inner = as_seen(&flow, side.opposite());
            let found = table.related(second(*now), endpoint, side, &inner).map(|known| known.side());
            assert_eq!(found, naive.0.get(&(endpoint, flow)).map(|model| model.side));
        }
        Action::Judge { endpoint, flow, generation } => {
            if let Some(mut known) = table.related(second(*now), endpoint, Side::Ingress, &flow) {
                known.set_judged(generation);
                naive.0.get_mut(&(endpoint, flow)).unwrap().judged_at = generation;
            }
        }
        Action::Remove { endpoint, flow } => {
            let now = second(*now);
            let gone = table.related(now, endpoint, Side::Ingress, &flow).map(|known| known.flow(now).key);
            assert_eq!(gone.is_some(), naive.0.remove(&(endpoint, flow)).is_some());
            table
                .retain(now, 0..table.capacity(), |flow| flow.endpoint != endpoint || Some(flow.key) != gone);
        }
        Action::Wait(seconds) => *now += seconds,
        Action::Expire(budget) => assert!(table.expire(second(*now), budget) <= budget),
        Action::Retain(endpoint) => {
            table.retain(second(*now), 0..table.capacity(), |flow| flow.endpoint != endpoint);
            naive.0.retain(|(of, _), _| *of != endpoint);
        }
    }
    naive.forget_idle(*now);
}

fn contents(table: &Connections, now: u64) -> HashMap<(u32, FlowKey), Model> {
    let flows = table.flows(second(now), 0..table.capacity());
    let model = |flow: super::super::Flow| Model {
        side: flow.side,
        answered: flow.state.is_established(),
        last_seen: now - flow.idle.as_secs(),
        judged_at: flow.judged_at,
        packets: flow.packets,
        bytes: flow.bytes,
    };
    flows.map(|flow| ((flow.endpoint, as_seen(&flow.key, flow.side)), model(flow))).collect()
}

/// Walks all there is: lists hold exactly the entries in use, each in the list of its state, and the index finds each.
fn check(table: &Connections) {
    let mut listed = 0;
    for &state in State::ALL {
        let mut slot = table.lists.head(state).unwrap_or(NONE);
        let mut previous = NONE;
        for _ in 0..table.in_state(state) {
            let entry = &table.entries[slot as usize];
            assert_eq!((entry.previous, entry.state()), (previous, state));
            let side = Side::Egress;
            let probe = table.probe(entry.key.endpoint(), side, &entry.key.flow(side));
            assert_eq!(table.find(&probe), Some(slot));
            (previous, slot) = (slot, entry.next);
            listed += 1;
        }
        assert_eq!(slot, NONE);
    }
    assert_eq!(listed, table.len());
    assert_eq!(table.entries.iter().filter(|entry| !entry.key.is_free()).count(), listed);
    let counters = table.counters();
    let gone = counters.expired + counters.removed + counters.reopened + counters.collided;
    assert_eq!(counters.opened - gone - counters.evicted.iter().sum::<u64>(), listed as u64);
}

proptest! {
    #[test]
    fn does_what_a_map_does(actions in proptest::collection::vec(any_action(), 1..250)) {
        let mut table = Connections::new(256);
        let (mut naive, mut now) = (Naive::default(), 1);
        for action in &actions {
            apply(&mut table, &mut naive, &mut now, action);
            prop_assert_eq!(contents(&table, now), naive.0.clone(), "after {:?}", action);
        }
        check(&table);
    }

    #[test]
    fn stays_whole_while_it_overflows(capacity in 1usize..12, actions in proptest::collection::vec(any_action(), 1..250)) {
        let mut table = Connections::new(capacity);
        let mut now = 1;
        for action in &actions {
            if let Action::Packet { endpoint, side, flow, bytes, .. } = *action {
                // Nothing to compare with, and whatever has been opened last must be there.
                let id = (endpoint, flow);
                if send(&mut table, second(now), id, side, bytes, true) == Expected::New {
                    assert_eq!(
                        send(&mut table, second(now), id, side, bytes, true),
                        Expected::Known(Direction::Original)
                    );
                }
            } else {
                match *action {
                    Action::Wait(seconds) => now += seconds,
                    Action::Expire(budget) => drop(table.expire(second(now), budget)),
                    Action::Retain(endpoint) => table.retain(second(now), 0..capacity, |flow| flow.endpoint != endpoint),
                    _ => {}
                }
            }
            check(&table);
        }
    }
}
