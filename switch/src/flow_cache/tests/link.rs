//! A worker never waits for the keeper, and what it recalls arrives, in its place among what it offers.
#![allow(clippy::unwrap_used)]

use super::super::{Links, Message, connect};
use super::fake::{Way, endpoint, vtep};
use crate::pipeline::Asked as _;
use crate::pipeline::{News, Request};
use crate::tables::conntrack::{Side, Unseen};

fn way(number: u16) -> Way {
    Way::new(number, endpoint(1), vtep(0))
}

fn receive(lines: &Links) -> Option<Request> {
    match lines.messages.try_recv().ok()? {
        Message::Request(request) => Some(request),
        Message::Order(order) => panic!("{order:?}"),
    }
}

#[test]
fn a_full_line_refuses_offers_and_keeps_recalls_in_order() {
    let (mut links, keepers, _orders) = connect(1);
    let link = &mut links[0];
    let mut taken = 0;
    while link.ask(way(0).offer(Side::Egress)) {
        taken += 1;
        assert!(taken < 100_000, "the line has no bound");
    }
    assert!(!link.is_busy());
    for number in [1, 2] {
        assert!(link.ask(way(number).recall(Side::Egress)), "a recall is always taken");
    }
    assert!(link.is_busy(), "there is something to send");
    // The keeper has read something. The recalls go first, whatever is asked now.
    receive(&keepers).unwrap();
    assert!(!link.ask(way(3).offer(Side::Egress)), "an offer does not overtake the recalls before it");
    for _ in 0..10 {
        receive(&keepers).unwrap();
    }
    assert!(link.ask(way(3).offer(Side::Egress)));
    assert!(!link.is_busy());
    let rest: Vec<_> = std::iter::from_fn(|| receive(&keepers)).skip(taken - 11).collect();
    assert_eq!(rest, [way(1).recall(Side::Egress), way(2).recall(Side::Egress), way(3).offer(Side::Egress)]);
}

#[test]
fn a_keeper_that_is_gone_refuses_offers_and_holds_nobody_up() {
    let (mut links, keepers, _orders) = connect(1);
    drop(keepers);
    assert!(!links[0].ask(way(0).offer(Side::Egress)));
    links[0].ask(way(0).recall(Side::Egress));
    links[0].catch_up();
    assert!(!links[0].is_busy(), "a worker with something to do does not sleep");
}

#[test]
fn news_go_to_the_worker_they_are_for() {
    let (mut links, keepers, _orders) = connect(2);
    let news = vec![News::Used(way(0).end(Side::Egress), Unseen::default())];
    keepers.news[1].send(news.clone()).unwrap();
    assert!(!links[0].is_busy() && links[1].is_busy());
    assert_eq!((links[0].news(), links[1].news()), (None, Some(news)));
}
