//! A flow is in the map exactly while all its ends agree, at the generations that its hops have; and whoever has a part in it
//! hears what became of it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::super::Order;
use super::fake::{Bench, Way, endpoint, vtep};
use crate::pipeline::{News, Party, Request};
use crate::tables::conntrack::{Direction, Side, Unseen};

fn dropped(way: Way, seen: Side) -> News {
    News::Dropped(way.end(seen), Unseen::default())
}

/// As [`dropped`], whatever was forwarded.
fn is_dropped(news: &News, way: Way, seen: Side) -> bool {
    matches!(news, News::Dropped(end, _) if *end == way.end(seen))
}

#[test]
fn every_end_on_this_node_has_to_offer() {
    let (one, two, far) = (endpoint(1), endpoint(2), vtep(0));
    let cases = [
        (Way::new(0, one, two), vec![Side::Egress, Side::Ingress]),
        (Way::new(1, one, far), vec![Side::Egress]),
        (Way::new(2, far, two), vec![Side::Ingress]),
        // The host is an endpoint like others.
        (Way::new(3, endpoint(0), one), vec![Side::Ingress, Side::Egress]),
    ];
    for (way, ends) in cases {
        let mut bench = Bench::new(3);
        for (offers, end) in (1..).zip(&ends) {
            assert_eq!(bench.cached(), []);
            bench.ask(vec![way.offer(*end)]);
            assert_eq!(bench.cached().len(), usize::from(offers == ends.len()));
        }
        assert_eq!(bench.cached(), [way.key()]);
        let flow = bench.map.contents().flows[&way.key()].0;
        assert_eq!((flow.from, flow.to, flow.original), (way.from, way.to, true));
        assert_eq!(bench.news(), []);
    }
}

#[test]
fn one_end_that_recalls_is_enough_and_both_hear() {
    for by in [Side::Egress, Side::Ingress] {
        for together in [false, true] {
            let way = Way::new(0, endpoint(1), endpoint(2));
            let mut bench = Bench::new(3);
            let requests = [way.both(), vec![way.recall(by)]].concat();
            if together {
                bench.ask_together(requests);
            } else {
                bench.ask(requests);
            }
            assert_eq!(bench.cached(), []);
            // Worker 0 has endpoint 2, worker 1 endpoint 1.
            let news = bench.news();
            assert!(is_dropped(&news[0], way, Side::Ingress) && is_dropped(&news[1], way, Side::Egress));
            assert_eq!(news.len(), 2);
            // Nothing is left of what was offered before.
            bench.ask(vec![way.offer(by)]);
            assert_eq!(bench.cached(), []);
        }
    }
}

/// All in one go: agreed, recalled, and offered again by one end alone, which does not make it agreed.
#[test]
fn an_agreement_does_not_outlive_a_recall() {
    let way = Way::new(0, endpoint(1), endpoint(2));
    let mut bench = Bench::new(3);
    let again = vec![way.recall(Side::Egress), way.offer(Side::Egress)];
    bench.ask_together([way.both(), again].concat());
    assert_eq!(bench.cached(), []);
    bench.ask(vec![way.offer(Side::Ingress)]);
    assert_eq!(bench.cached(), [way.key()]);
}

#[test]
fn a_recall_by_nobody_concerned_is_no_recall() {
    let way = Way::new(0, endpoint(1), endpoint(2));
    let mut bench = Bench::new(4);
    bench.ask(way.both());
    let mut stranger = way.end(Side::Egress);
    stranger.endpoint = 3;
    bench.ask(vec![Request::Recall(stranger), Way { number: 9, ..way }.recall(Side::Egress)]);
    assert_eq!((bench.cached(), bench.news()), (vec![way.key()], vec![]));
}

#[test]
fn what_was_judged_before_a_change_is_not_written() {
    let way = Way::new(0, endpoint(1), vtep(4));
    for hop in [endpoint(1), vtep(4)] {
        let mut bench = Bench::new(3);
        bench.ask(way.both());
        bench.order(Order::Generation(hop, 7));
        assert_eq!(bench.cached(), []);
        assert!(is_dropped(&bench.news()[0], way, Side::Egress));

        bench.ask(vec![way.offer(Side::Egress)]);
        assert_eq!((bench.cached(), bench.news()), (vec![], vec![dropped(way, Side::Egress)]));
        // The workers may know the new generation before the keeper does.
        for generation in [7, 8] {
            let party = |party: Party| {
                if party.hop == hop { Party { generation, ..party } } else { party }
            };
            let way = Way { from: party(way.from), to: party(way.to), number: generation as u16 };
            bench.ask(vec![way.offer(Side::Egress)]);
            assert!(bench.cached().contains(&way.key()));
        }
        // And the keeper may hear of a generation that is not news.
        bench.order(Order::Generation(hop, 8));
        assert_eq!(bench.cached(), [Way { number: 8, ..way }.key()]);
    }
}

#[test]
fn ends_that_contradict_each_other_cache_nothing() {
    let way = Way::new(0, endpoint(1), endpoint(2));
    let elsewhere = Way { to: Party { generation: 2, ..way.to }, ..way };
    let mut bench = Bench::new(3);
    bench.ask(vec![way.offer(Side::Egress), elsewhere.offer(Side::Ingress)]);
    assert_eq!((bench.cached(), bench.news()), (vec![], vec![dropped(way, Side::Egress)]));
    // The one that has come round makes it right.
    bench.ask(vec![elsewhere.offer(Side::Egress)]);
    assert_eq!(bench.cached(), [way.key()]);
    assert_eq!(bench.map.contents().flows[&way.key()].0.to, elsewhere.to);

    // Neither do they agree when each thinks that the other has opened the connection.
    let Request::Offer(mut reply) = elsewhere.offer(Side::Ingress) else { unreachable!() };
    reply.end.direction = Direction::Reply;
    bench.ask(vec![Request::Offer(reply)]);
    assert_eq!(bench.cached(), []);
}

#[test]
fn a_full_map_takes_no_more_and_says_so() {
    let mut bench = Bench::new(3);
    bench.map.contents().capacity = 1;
    let ways = [0, 1].map(|number| Way::new(number, endpoint(1), endpoint(2)));
    bench.ask_together(ways.into_iter().flat_map(Way::both).collect());
    assert_eq!(bench.cached(), [ways[0].key()]);
    assert_eq!(bench.news(), [dropped(ways[1], Side::Ingress), dropped(ways[1], Side::Egress)]);
    assert_eq!((bench.stats.inserted.get(), bench.stats.refused.get()), (1, 1));

    bench.ask(vec![ways[0].recall(Side::Egress)]);
    bench.ask(ways[1].both());
    assert_eq!(bench.cached(), [ways[1].key()]);
}

#[test]
fn idle_flows_leave() {
    let [used, silent, lonely] = [(0, endpoint(2)), (1, vtep(0)), (2, endpoint(2))]
        .map(|(number, to)| Way::new(number, endpoint(1), to));
    let mut bench = Bench::new(3);
    bench.ask([used.both(), silent.both(), vec![lonely.offer(Side::Egress)]].concat());
    for _ in 0..3 {
        bench.pass_time(Duration::from_secs(10));
        bench.map.forward(&used.key(), 1, 100);
        bench.keeper.look();
    }
    assert_eq!(bench.cached(), [used.key()]);
    let news = bench.news();
    let gone: Vec<_> = news.iter().filter(|news| matches!(news, News::Dropped(..))).collect();
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert!(gone.iter().any(|news| is_dropped(news, silent, Side::Egress)));
    assert!(gone.iter().any(|news| is_dropped(news, lonely, Side::Egress)), "the other end never offered it");
    bench.pass_time(Duration::from_secs(20));
    bench.keeper.look();
    let last = bench.news();
    let idle = Duration::from_secs(20);
    let expected = News::Dropped(used.end(Side::Ingress), Unseen { packets: 0, bytes: 0, idle });
    assert_eq!((bench.cached(), &last[0]), (vec![], &expected));
}

#[test]
fn what_was_forwarded_is_told_once_and_counted_at_both_endpoints() {
    let way = Way::new(0, endpoint(1), endpoint(2));
    let mut bench = Bench::new(3);
    bench.ask(way.both());
    let told = |bench: &mut Bench| -> u64 {
        let of = |news: News| match news {
            News::Used(end, unseen) | News::Dropped(end, unseen) if end == way.end(Side::Egress) => {
                unseen.packets
            }
            _ => 0,
        };
        bench.news().into_iter().map(of).sum()
    };
    let mut total = 0;
    for packets in [5, 0, 7] {
        bench.map.contents().now += Duration::from_secs(1);
        if packets > 0 {
            bench.map.forward(&way.key(), packets, 100 * packets);
        }
        bench.keeper.look();
        assert_eq!(told(&mut bench), packets);
        total += packets;
    }
    bench.map.forward(&way.key(), 3, 300);
    bench.ask(vec![way.recall(Side::Ingress)]);
    assert_eq!(told(&mut bench), 3, "the last of it comes with the end");
    total += 3;
    let [_, sender, receiver] = &bench.residents[..] else { unreachable!() };
    // Ports count the Ethernet header as well.
    assert_eq!((sender.rx.packets.get(), sender.rx.bytes.get()), (total, total * 114));
    assert_eq!((receiver.tx.packets.get(), receiver.tx.bytes.get()), (total, total * 114));
    assert_eq!((sender.tx.packets.get(), receiver.rx.packets.get()), (0, 0));
}

#[test]
fn an_endpoint_that_leaves_takes_its_flows_along() {
    let ways = [
        Way::new(0, endpoint(1), endpoint(2)),
        Way::new(1, endpoint(2), endpoint(1)),
        Way::new(2, vtep(0), endpoint(2)),
    ];
    let mut bench = Bench::new(3);
    bench.ask(
        ways.into_iter().flat_map(|way| vec![way.offer(Side::Egress), way.offer(Side::Ingress)]).collect(),
    );
    assert_eq!(bench.cached().len(), 3);
    bench.order(Order::Leave(endpoint(1)));
    assert_eq!(bench.cached(), [ways[2].key()]);
    assert_eq!(bench.news().len(), 4, "both ends of both");
    assert_eq!(bench.stats.removed.get(), 2);
}
