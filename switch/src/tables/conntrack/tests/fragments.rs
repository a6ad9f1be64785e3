//! Later fragments follow the first, and nothing else does.

use super::super::{FragmentKey, Fragments, Side};
use super::tools::{address, second};

fn fragment(identification: u32) -> FragmentKey {
    FragmentKey {
        source: address("10.0.0.1"),
        destination: address("10.0.0.2"),
        protocol: 17,
        identification,
    }
}

#[test]
fn later_fragments_follow_the_first() {
    let mut fragments = Fragments::new(64);
    let (now, key) = (second(1), fragment(77));
    assert_eq!(fragments.find(now, 3, Side::Egress, &key), None, "before the first");
    fragments.decide(now, 3, Side::Egress, &key, true);
    assert_eq!(fragments.find(now, 3, Side::Egress, &key), Some(true));
    fragments.decide(now, 3, Side::Egress, &key, false);
    assert_eq!(fragments.find(now, 3, Side::Egress, &key), Some(false), "the last decision counts");
    assert_eq!(fragments.displaced(), 0);
}

#[test]
fn other_packets_do_not() {
    let mut fragments = Fragments::new(64);
    let now = second(1);
    fragments.decide(now, 3, Side::Egress, &fragment(77), ());
    let swapped =
        FragmentKey { source: address("10.0.0.2"), destination: address("10.0.0.1"), ..fragment(77) };
    let mapped =
        FragmentKey { source: address("::10.0.0.1"), destination: address("::10.0.0.2"), ..fragment(77) };
    let tcp = FragmentKey { protocol: 6, ..fragment(77) };
    for other in [fragment(78), swapped, mapped, tcp] {
        assert_eq!(fragments.find(now, 3, Side::Egress, &other), None, "{other:?}");
    }
    assert_eq!(fragments.find(now, 4, Side::Egress, &fragment(77)), None, "another endpoint");
    assert_eq!(fragments.find(now, 3, Side::Ingress, &fragment(77)), None, "another side");
}

#[test]
fn decisions_are_forgotten() {
    let mut fragments = Fragments::new(64);
    fragments.decide(second(1), 3, Side::Ingress, &fragment(1), ());
    assert_eq!(fragments.find(second(31), 3, Side::Ingress, &fragment(1)), Some(()));
    assert_eq!(fragments.find(second(32), 3, Side::Ingress, &fragment(1)), None);
}

#[test]
fn the_oldest_makes_way() {
    let mut fragments = Fragments::new(8);
    for number in 0..9 {
        fragments.decide(second(u64::from(number)), 3, Side::Egress, &fragment(number), number);
    }
    let found: Vec<_> =
        (0..9).filter_map(|number| fragments.find(second(9), 3, Side::Egress, &fragment(number))).collect();
    assert_eq!(found, (1..9).collect::<Vec<_>>());
    assert_eq!(fragments.displaced(), 1);
    for number in 100..108 {
        fragments.decide(second(60), 3, Side::Egress, &fragment(number), number);
    }
    assert_eq!(fragments.displaced(), 1, "what is out of date is no loss");
}
