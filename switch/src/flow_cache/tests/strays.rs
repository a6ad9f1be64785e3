//! What is in the map and should not be, because the kernel refused something, does not stay there.
#![allow(clippy::unwrap_used)]

use super::fake::{Bench, FakeMap, Way, endpoint, vtep};
use crate::flow_cache::{CachedFlow, Usage};
use crate::pipeline::News;
use crate::tables::conntrack::Side;

fn ways() -> [Way; 3] {
    [0, 1, 2].map(|number| Way::new(number, endpoint(1), endpoint(2)))
}

/// A keeper that knows all there is in the map.
fn bench() -> Bench {
    let mut bench = Bench::new(3);
    assert_eq!(bench.take_over(), 0);
    bench
}

#[test]
fn a_removal_that_fails_is_repeated() {
    for others in [false, true] {
        let mut bench = bench();
        let [gone, other, later] = ways();
        bench.ask(gone.both());
        if others {
            bench.ask(other.both());
        }
        bench.map.contents().failing_removals = 1;
        bench.ask(vec![gone.recall(Side::Egress)]);
        assert!(bench.cached().contains(&gone.key()), "the kernel did not do it");
        assert_eq!(bench.news().len(), 2, "its ends hear nevertheless");
        // That something else has worked in between makes it no better.
        bench.ask([later.both(), vec![later.recall(Side::Egress)]].concat());
        bench.keeper.look();
        bench.map.contents().failing_removals = 1;
        bench.keeper.look();
        assert!(bench.cached().contains(&gone.key()));
        bench.keeper.look();
        assert_eq!(bench.cached().len(), usize::from(others), "{:?}", bench.cached());
    }
}

#[test]
fn flows_that_were_written_before_one_failed_go() {
    let mut bench = bench();
    let [one, two, three] = ways();
    bench.ask_together([one.both(), two.both(), three.both()].concat());
    assert_eq!(bench.cached().len(), 3);
    let mut bench = self::bench();
    bench.ask(three.both());
    let calls = bench.map.contents().calls[0];
    bench.map.contents().failing_inserts = 1;
    bench.ask_together([one.both(), two.both()].concat());
    assert_eq!(bench.map.contents().calls[0], calls + 1, "one call for all that is agreed");
    assert_eq!(bench.cached(), [three.key()]);
    let dropped = |news: &News| matches!(news, News::Dropped(..));
    assert_eq!(bench.news().iter().filter(|news| dropped(news)).count(), 4, "all of them are told");
    bench.ask([vec![three.recall(Side::Egress)], one.both()].concat());
    bench.keeper.look();
    assert_eq!(bench.cached(), [one.key()]);
}

/// Somebody else's: a keeper that was killed while it removed, or an administrator.
#[test]
fn what_nobody_has_offered_goes() {
    let mut bench = bench();
    let [known, stranger, in_the_way] = ways();
    let flow = |way: Way| CachedFlow { from: way.from, to: way.to, original: true, fence: 0 };
    bench.ask(known.both());
    bench.map.contents().flows.insert(stranger.key(), (flow(stranger), Usage::default()));
    bench.keeper.look();
    assert_eq!(bench.cached().len(), 2, "a worker may have written it just now");
    bench.keeper.look();
    assert_eq!(bench.cached(), [known.key()]);

    // One that is in the way of a flow to be written gives way at once, with its usage.
    let usage = Usage { packets: 99, ..Usage::default() };
    bench.map.contents().flows.insert(in_the_way.key(), (flow(Way::new(2, vtep(0), endpoint(2))), usage));
    bench.ask(in_the_way.both());
    let (written, usage) = bench.map.contents().flows[&in_the_way.key()];
    assert_eq!((written.from, written.to, usage), (in_the_way.from, in_the_way.to, Usage::default()));
    assert_eq!(bench.stats.inserted.get(), 2);
}

#[test]
fn fences_differ_from_flow_to_flow() {
    let mut bench = Bench::over(FakeMap::default(), 3);
    bench.ask_together(ways().into_iter().flat_map(Way::both).collect());
    let mut fences: Vec<_> = bench.map.contents().flows.values().map(|(flow, _)| flow.fence).collect();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 3);
}
