//! A keeper makes those flows its own that a former one has left and nothing has changed for; their workers hear of each once.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::super::Order;
use super::fake::{Bench, FakeMap, Way, endpoint, vtep};
use crate::pipeline::{News, Party};
use crate::tables::conntrack::{Direction, Side, Unseen};

/// What a keeper leaves that is killed after it has written these.
fn left(ways: &[Way]) -> FakeMap {
    let mut bench = Bench::new(5);
    for way in ways {
        bench.ask(vec![way.offer(Side::Egress), way.offer(Side::Ingress)]);
    }
    assert_eq!(bench.cached().len(), ways.len());
    bench.map
}

fn found(news: &[News]) -> Vec<(u32, Side, u64)> {
    let of = |news: &News| match news {
        News::Found(end, unseen) => (end.endpoint, end.seen, unseen.packets),
        other => panic!("{other:?}"),
    };
    let mut found: Vec<_> = news.iter().map(of).collect();
    found.sort_by_key(|(endpoint, ..)| *endpoint);
    found
}

#[test]
fn flows_between_known_hops_go_on() {
    let ways = [Way::new(0, endpoint(1), endpoint(2)), Way::new(1, vtep(9), endpoint(3))];
    let map = left(&ways);
    map.forward(&ways[0].key(), 5, 500);
    let mut bench = Bench::over(map, 5);
    // A look before everything is known is no danger to them, whoever has offered something meanwhile.
    bench.ask(Way::new(2, endpoint(1), endpoint(2)).both());
    bench.keeper.look();
    assert_eq!(bench.take_over(), 3);
    assert_eq!(bench.cached().len(), 3);
    let found = found(&bench.news());
    assert_eq!(found, [(1, Side::Egress, 5), (2, Side::Ingress, 5), (3, Side::Ingress, 0)]);
    // From here on they are like others.
    bench.map.forward(&ways[0].key(), 2, 200);
    bench.pass_time(Duration::from_secs(2));
    bench.keeper.look();
    let idle = Duration::from_secs(2);
    let used = News::Used(ways[0].end(Side::Ingress), Unseen { packets: 2, bytes: 200, idle });
    assert!(bench.news().contains(&used), "what was forwarded before is not told again");
    bench.ask(vec![ways[1].recall(Side::Ingress)]);
    assert!(!bench.cached().contains(&ways[1].key()));
}

#[test]
fn flows_of_endpoints_that_are_gone_do_not() {
    let ways = [
        Way::new(0, endpoint(1), endpoint(4)),
        Way::new(1, endpoint(4), vtep(0)),
        Way::new(2, endpoint(1), vtep(0)),
    ];
    let mut bench = Bench::over(left(&ways), 3);
    assert_eq!((bench.take_over(), bench.cached()), (1, vec![ways[2].key()]));
    assert_eq!(found(&bench.news()), [(1, Side::Egress, 0)]);
}

#[test]
fn flows_of_an_earlier_generation_do_not() {
    let ways = [
        Way::new(0, endpoint(1), endpoint(2)),
        Way::new(1, endpoint(2), endpoint(1)),
        Way::new(2, endpoint(1), vtep(0)),
    ];
    let mut bench = Bench::over(left(&ways), 3);
    bench.order(Order::Generation(endpoint(2), 2));
    bench.order(Order::Generation(endpoint(1), 1));
    assert_eq!((bench.take_over(), bench.cached()), (1, vec![ways[2].key()]));
}

#[test]
fn a_flow_that_was_written_anew_is_not_taken_over() {
    let way = Way::new(0, endpoint(1), endpoint(2));
    let mut bench = Bench::over(left(&[way]), 3);
    bench.ask(way.both());
    assert_eq!(bench.take_over(), 1);
    assert_eq!((bench.cached(), bench.news()), (vec![way.key()], vec![]));
    bench.ask(vec![way.recall(Side::Egress)]);
    assert_eq!(bench.cached(), []);
    // The count of flows is right: one that was counted twice would be left here.
    assert_eq!(bench.stats.flows.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// One end has judged it anew and the other has not: the old agreement does not stand in for the other.
#[test]
fn a_flow_that_is_half_offered_is_not_taken_over() {
    let way = Way::new(0, endpoint(1), endpoint(2));
    for offered in [way, Way { to: Party { generation: 2, ..way.to }, ..way }] {
        let mut bench = Bench::over(left(&[way]), 3);
        bench.ask(vec![offered.offer(Side::Egress)]);
        bench.take_over();
        assert_eq!((bench.cached(), bench.news()), (vec![], vec![]));
        bench.ask(vec![offered.offer(Side::Ingress)]);
        assert_eq!(bench.cached(), [way.key()]);
    }
}

#[test]
fn which_way_a_flow_goes_is_remembered() {
    let way = Way::new(0, endpoint(1), endpoint(2));
    let map = left(&[way]);
    map.contents().flows.get_mut(&way.key()).unwrap().0.original = false;
    let mut bench = Bench::over(map, 3);
    bench.take_over();
    let reply = |news: &News| matches!(news, News::Found(end, _) if end.direction == Direction::Reply);
    let news = bench.news();
    assert!(news.len() == 2 && news.iter().all(reply), "{news:?}");
}
