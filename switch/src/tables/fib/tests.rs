//! The trie answers like a search through a list of all routes, whatever was inserted and removed; copies do
//! not see each other's changes; and what is removed leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::node::{Head, Subtrie};
use super::*;

/// What the FIB should do, without any idea how: a list, searched from end to end.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<IpNet, NextHop>);

impl Model {
    fn lookup(&self, address: IpAddr) -> Option<NextHop> {
        let matching = self.0.iter().filter(|(prefix, _)| prefix.contains(&address));
        matching.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, next_hop)| *next_hop)
    }
}

/// Makes addresses share beginnings of every length: half of all octets become one of four.
fn cluster<const N: usize>(octets: [u8; N]) -> [u8; N] {
    octets.map(|octet| if octet < 128 { [0, 1, 10, 0xff][usize::from(octet % 4)] } else { octet % 16 })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| IpAddr::from(cluster(octets))),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::from(cluster(octets))),
    ]
}

/// All lengths, those of hosts, pod CIDRs and the default route more often. Host bits are left in.
fn prefix() -> impl Strategy<Value = IpNet> {
    let v4_len = prop_oneof![Just(0), Just(24), Just(32), 0..=32_u8];
    let v6_len = prop_oneof![Just(0), Just(64), Just(128), 0..=128_u8];
    prop_oneof![
        (any::<[u8; 4]>(), v4_len)
            .prop_map(|(octets, len)| Ipv4Net::new_assert(cluster(octets).into(), len).into()),
        (any::<[u8; 16]>(), v6_len).prop_map(|(octets, len)| Ipv6Net::new_assert(
            cluster(octets).into(),
            len
        )
        .into()),
    ]
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    prop_oneof![
        (0..3_u32).prop_map(NextHop::Endpoint),
        (0..3_u32).prop_map(NextHop::Vtep),
        Just(NextHop::Unreachable)
    ]
}

#[derive(Debug, Clone)]
enum Change {
    Insert(IpNet, NextHop),
    /// Of a prefix that is perhaps not there.
    Remove(IpNet),
    /// Of the route that is at this place of all, from 0 to 255.
    RemoveAt(u8),
    Copy,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (prefix(), next_hop()).prop_map(|(prefix, next_hop)| Change::Insert(prefix, next_hop)),
        1 => prefix().prop_map(Change::Remove),
        3 => any::<u8>().prop_map(Change::RemoveAt),
        1 => Just(Change::Copy),
    ]
}

/// Checks the invariants of `trie.rs` below `subtrie`, and counts routes and nodes.
fn check<const N: usize>(subtrie: &Subtrie<N>, above: Option<Head<N>>) -> (usize, usize) {
    let (head, ends, children) = (subtrie.head(), subtrie.ends(), subtrie.children());
    assert!(above.is_none_or(|above| head.depth > above.depth));
    assert!(above.is_none_or(|above| prefix::common_bytes(&head.bytes, &above.bytes) >= above.depth));
    let mut found = (ends.as_slice().len(), 0);
    if let Subtrie::Route(..) = subtrie {
        return found;
    }
    assert!(found.0 + children.len() >= 2, "nothing to decide at {}", head.depth);
    found.1 = 1;
    for (_, child) in children {
        let below = check(child, Some(head));
        found = (found.0 + below.0, found.1 + below.1);
    }
    found
}

fn check_trie<const N: usize>(trie: &Trie<N>) {
    let (routes, nodes) = check(trie.root(), None);
    let default_route = trie.iter().filter(|(prefix, _)| prefix.len == 0).count();
    assert_eq!(routes + default_route, trie.len());
    assert!(nodes < routes.max(1), "{nodes} nodes for {routes} routes");
}

fn check_fib(fib: &Fib, model: &Model, probes: &[IpAddr]) {
    check_trie(&fib.v4);
    check_trie(&fib.v6);
    assert_eq!(fib.iter().collect::<Vec<_>>(), model.0.iter().map(|(p, n)| (*p, *n)).collect::<Vec<_>>());
    assert_eq!((fib.len(), fib.is_empty()), (model.0.len(), model.0.is_empty()));
    for address in probes {
        assert_eq!(fib.lookup(*address), model.lookup(*address), "{address} in {model:?}");
    }
    for (prefix, next_hop) in &model.0 {
        assert_eq!(fib.get(*prefix), Some(*next_hop), "{prefix}");
        for address in [prefix.network(), prefix.broadcast()] {
            assert_eq!(fib.lookup(address), model.lookup(address), "{address} in {model:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn answers_like_a_list(
        changes in prop::collection::vec(change(), 1..120),
        probes in prop::collection::vec(address(), 40),
    ) {
        let (mut fib, mut model) = (Fib::default(), Model::default());
        let mut copies = Vec::new();
        for change in changes {
            match change {
                Change::Insert(prefix, next_hop) => {
                    prop_assert_eq!(fib.insert(prefix, next_hop), model.0.insert(prefix.trunc(), next_hop));
                }
                Change::Remove(prefix) => {
                    prop_assert_eq!(fib.get(prefix), model.0.get(&prefix.trunc()).copied());
                    prop_assert_eq!(fib.remove(prefix), model.0.remove(&prefix.trunc()));
                }
                Change::RemoveAt(at) => {
                    let Some(prefix) = model.0.keys().nth(usize::from(at) * model.0.len() / 256).copied() else { continue };
                    prop_assert_eq!(fib.remove(prefix), model.0.remove(&prefix));
                }
                Change::Copy => copies.push((fib.clone(), model.clone())),
            }
        }
        copies.push((fib.clone(), model.clone()));
        for (fib, model) in &copies {
            check_fib(fib, model, &probes);
        }
        for prefix in model.0.keys() {
            fib.remove(*prefix);
        }
        prop_assert!(fib.v4.root().is_nothing() && fib.v6.root().is_nothing() && fib.is_empty());
        drop(fib);
        for (fib, model) in &copies {
            check_fib(fib, model, &probes);
        }
    }

    /// The order of changes leaves no trace: a table reached by detours is the one built directly.
    #[test]
    fn removal_restores_the_table_before(
        stays in prop::collection::vec((prefix(), next_hop()), 0..40),
        goes in prop::collection::vec((prefix(), next_hop()), 1..40),
    ) {
        let mut fib = Fib::default();
        for (prefix, next_hop) in &stays {
            fib.insert(*prefix, *next_hop);
        }
        let before = format!("{fib:?}");
        let goes: Vec<_> = goes.into_iter().filter(|(prefix, _)| fib.get(*prefix).is_none()).collect();
        for (prefix, next_hop) in &goes {
            fib.insert(*prefix, *next_hop);
        }
        for (prefix, _) in &goes {
            fib.remove(*prefix);
        }
        prop_assert_eq!(format!("{:?}", fib), before);
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn default_routes_are_per_family_and_shadowed_by_all_others() {
    let mut fib = Fib::default();
    fib.insert(net("0.0.0.0/0"), NextHop::Endpoint(0));
    fib.insert(net("10.0.0.0/8"), NextHop::Vtep(1));
    assert_eq!(fib.lookup("10.1.2.3".parse().unwrap()), Some(NextHop::Vtep(1)));
    assert_eq!(fib.lookup("11.1.2.3".parse().unwrap()), Some(NextHop::Endpoint(0)));
    assert_eq!(fib.lookup("::1".parse().unwrap()), None);
    fib.insert(net("::/0"), NextHop::Unreachable);
    assert_eq!(fib.lookup("::1".parse().unwrap()), Some(NextHop::Unreachable));
    assert_eq!(fib.remove(net("0.0.0.0/0")), Some(NextHop::Endpoint(0)));
    assert_eq!(fib.lookup("11.1.2.3".parse().unwrap()), None);
}

/// A route changed in a copy copies the nodes above it and no others.
#[test]
fn change_copies_only_its_path() {
    let mut fib = Fib::default();
    for (third, host) in (0..8).flat_map(|third| (1..5).map(move |host| (third, host))) {
        fib.insert(IpAddr::from([10, 244, third, host]).into(), NextHop::Endpoint(u32::from(host)));
    }
    let before = fib.clone();
    fib.insert(net("10.244.3.200/32"), NextHop::Endpoint(200));
    let (old, new) = (before.v4.root(), fib.v4.root());
    assert_eq!((old.head().depth, new.head().depth), (2, 2), "two bytes in common are skipped");
    for third in 0..8 {
        let pair = (old.child(third), new.child(third));
        let (Some(Subtrie::Leaf(old)), Some(Subtrie::Leaf(new))) = pair else {
            panic!("no leaves: {pair:?}")
        };
        assert_eq!(Arc::ptr_eq(old, new), third != 3, "10.244.{third}.0/24");
    }
}

/// A host route alone in its network costs no node, in IPv6 too.
#[test]
fn lone_host_routes_need_no_nodes() {
    let mut fib = Fib::default();
    for network in 0..200 {
        fib.insert(
            IpAddr::from([0xfd00, 0x10, network, 0, 0x1234, 0x5678, 0x9abc, 0xdef0]).into(),
            NextHop::Vtep(1),
        );
    }
    let (routes, nodes) = check(fib.v6.root(), None);
    assert_eq!((routes, nodes), (200, 1));
}

/// The shapes that nodes have are those that `node.rs` says, and each of them is used.
#[test]
fn nodes_take_the_shape_of_their_place() {
    let shape = |routes: &[&str]| {
        let mut fib = Fib::default();
        for route in routes {
            fib.insert(net(route), NextHop::Vtep(1));
        }
        let root =
            if fib.v4.len() > 0 { format!("{:?}", fib.v4.root()) } else { format!("{:?}", fib.v6.root()) };
        root.split('(').next().map(str::to_owned).unwrap()
    };
    for (expected, routes) in [
        ("Route", &["10.0.0.0/8"][..]),
        ("Leaf", &["10.0.0.1/32", "10.0.0.2/32"]),
        ("Leaf", &["10.0.0.0/28", "10.0.0.2/32"]),
        ("Fork", &["10.0.0.0/24", "10.0.0.2/32"]),
        ("Fork", &["fd00:1::1/128", "fd00:2::1/128"]),
        ("Fan", &["fd00::1111:2222:3333:4444/128", "fd00::5555:6666:7777:8888/128"]),
        ("Fork", &["fd00::1100:0:0:0/72", "fd00::5555:6666:7777:8888/128"]),
    ] {
        assert_eq!(shape(routes), expected, "{routes:?}");
    }
}

proptest! {
    /// What a prefix is taken from when it comes: itself, or the longest around it, and never a part of it.
    #[test]
    fn around_a_prefix_is_the_longest_that_holds_all_of_it(
        routes in prop::collection::vec((prefix(), 0..100_u32), 0..60),
        asked in prop::collection::vec(prefix(), 1..20),
    ) {
        let (mut fib, mut model) = (Fib::default(), Model::default());
        for (prefix, number) in &routes {
            fib.insert(*prefix, NextHop::Vtep(*number));
            model.0.insert(prefix.trunc(), NextHop::Vtep(*number));
        }
        for prefix in asked.iter().chain(routes.iter().map(|(prefix, _)| prefix)) {
            let around = model.0.iter().filter(|(route, _)| route.contains(prefix));
            let expected = around.max_by_key(|(route, _)| route.prefix_len()).map(|(_, next_hop)| *next_hop);
            prop_assert_eq!(fib.around(*prefix), expected, "{}", prefix);
        }
    }
}
