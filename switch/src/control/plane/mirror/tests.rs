//! What is planned for the kernel is what the tables say; whatever flows rely on changes a generation, and nothing else does.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::ports::PortId;
use crate::tables::{EndpointPolicy, Uplink};
use crate::wire::Mac;

fn around() -> Surroundings {
    Surroundings { host_interface: 7, trunks: vec![50, 51] }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([172, 31, 0, last])
}

fn add_endpoint(tables: &mut Tables, number: u32, attach: AttachMode) {
    let endpoint = Endpoint {
        addresses: vec![IpAddr::from([10, 0, 0, number as u8])],
        mac: Mac([2, 0, 0, 0, 0, number as u8]),
        port: PortId { worker: (number % 2) as u16, slot: 0, serial: 0 },
        attach,
        interface: 100 + number,
        delivery: crate::tables::Delivery { interface: 100 + number, queued: false },
        mtu: 1400,
        policy: EndpointPolicy::Open,
        mapped: Vec::new(),
    };
    tables.endpoints.set(number, endpoint);
}

fn change(tables: &mut Tables, number: u32, how: impl FnOnce(&mut Endpoint)) {
    let mut endpoint = tables.endpoints.get(number).unwrap().clone();
    how(&mut endpoint);
    tables.endpoints.set(number, endpoint);
}

fn set_vtep(tables: &mut Tables, number: u32, last: u8) {
    let mac = Mac([2, 1, 0, 0, 0, last]);
    tables.vteps.set(number, Vtep { address: address(last), mac, neighbor: None });
}

/// A node with the host, endpoints 1 and 2, and two peers.
fn node() -> Tables {
    let mut tables = Tables::default();
    tables.node.uplink = Some(Uplink {
        tunnel: Tunnel::Kernel { interface: 9 },
        ports: vec![PortId { worker: 0, slot: 0, serial: 0 }],
        mac: Mac::default(),
        address_v4: None,
        address_v6: None,
        vtep_mac: Mac::default(),
        mtu: 1500,
    });
    (0..3).for_each(|number| add_endpoint(&mut tables, number, AttachMode::Cached));
    set_vtep(&mut tables, 0, 1);
    set_vtep(&mut tables, 1, 2);
    tables
}

fn endpoint(number: u32) -> Hop {
    Hop::endpoint(number).unwrap()
}

fn vtep(number: u32) -> Hop {
    Hop::vtep(number).unwrap()
}

/// Plans and publishes; returns the changes.
fn publish(mirror: &mut Mirror, tables: &Tables, touched: &[NextHop]) -> Changes {
    let changes = mirror.plan(tables, touched, &around());
    mirror.published(tables.clone());
    changes
}

/// A mirror that has published [`node`].
fn mirror() -> (Mirror, Tables) {
    let (mut mirror, tables) = (Mirror::default(), node());
    publish(&mut mirror, &tables, &[]);
    (mirror, tables)
}

fn renewed(changes: &Changes) -> Vec<Hop> {
    let mut hops: Vec<_> = changes.set.iter().map(|(hop, ..)| *hop).collect();
    hops.sort();
    hops
}

fn generation(mirror: &Mirror, hop: Hop) -> Option<u32> {
    mirror.generations().get(hop.number()).copied()
}

#[test]
fn a_node_is_written_as_its_tables_say() {
    let (mut mirror, tables) = (Mirror::default(), node());
    let changes = publish(&mut mirror, &tables, &[]);
    let hop = |wanted: Hop| changes.set.iter().find(|(hop, ..)| *hop == wanted).unwrap().2;
    assert_eq!(hop(endpoint(0)), KernelHop::Host { ifindex: 7, mtu: 1400, mac: [2, 0, 0, 0, 0, 0] });
    assert_eq!(
        hop(endpoint(1)),
        KernelHop::Endpoint { ifindex: 101, queued: false, mtu: 1400, mac: [2, 0, 0, 0, 0, 1] }
    );
    // What the uplink takes, less the tunnel's headers.
    assert_eq!(hop(vtep(1)), KernelHop::Vtep { address: address(2), mtu: 1450, mac: [2, 1, 0, 0, 0, 2] });
    let ports = [
        (100, Port { hop: 0, trunk: 50, mac: None }),
        (101, Port { hop: 1, trunk: 51, mac: Some([2, 0, 0, 0, 0, 1]) }),
        (102, Port { hop: 2, trunk: 50, mac: Some([2, 0, 0, 0, 0, 2]) }),
    ];
    assert_eq!(
        (&changes.ports[..], &changes.peers[..]),
        (&ports[..], &[(address(1), vtep(0)), (address(2), vtep(1))][..])
    );
    assert_eq!(changes.gone, Gone::default());
    let mut generations: Vec<_> = mirror.current().map(|(_, generation)| generation).collect();
    generations.sort_unstable();
    assert_eq!(generations, [1, 2, 3, 4, 5], "no two hops share one");
    assert!(publish(&mut mirror, &tables, &[]).set.is_empty(), "the same again is no change");
}

#[test]
fn what_flows_rely_on_renews_their_hop_and_policy_does_not() {
    let (mut mirror, mut tables) = mirror();
    change(&mut tables, 1, |endpoint| endpoint.policy = EndpointPolicy::Closed);
    assert_eq!(renewed(&publish(&mut mirror, &tables, &[])), []);
    let changes: [fn(&mut Endpoint); 5] = [
        |endpoint| endpoint.mtu = 1280,
        |endpoint| endpoint.mac = Mac([2, 9, 9, 9, 9, 9]),
        |endpoint| endpoint.addresses.push(address(77)),
        |endpoint| endpoint.delivery.interface = 444,
        |endpoint| endpoint.delivery.queued = true,
    ];
    for how in changes {
        let before = generation(&mirror, endpoint(1)).unwrap();
        change(&mut tables, 1, how);
        assert_eq!(renewed(&publish(&mut mirror, &tables, &[])), [endpoint(1)]);
        assert!(generation(&mirror, endpoint(1)).unwrap() > before);
    }
}

#[test]
fn what_is_gone_is_cleared_and_comes_back_as_something_else() {
    let (mut mirror, mut tables) = mirror();
    let before = generation(&mirror, endpoint(1)).unwrap();
    tables.endpoints.remove(1);
    tables.vteps.remove(0);
    let changes = publish(&mut mirror, &tables, &[]);
    let cleared: Vec<_> = changes.gone.hops().map(|(hop, _)| hop).collect();
    assert_eq!((renewed(&changes), cleared), (vec![], vec![endpoint(1), vtep(0)]));
    assert!(changes.gone.hops().all(|(_, generation)| generation > before));
    assert_eq!((&changes.gone.ports[..], &changes.gone.peers[..]), (&[101][..], &[address(1)][..]));
    assert_eq!(generation(&mirror, endpoint(1)), None, "no flow can be offered for it");

    add_endpoint(&mut tables, 1, AttachMode::Cached);
    publish(&mut mirror, &tables, &[]);
    let back = generation(&mirror, endpoint(1)).unwrap();
    assert!(back > changes.gone.hops().next().unwrap().1, "never again a generation that was");
    // A port of its own takes it out of the kernel's hands as well.
    change(&mut tables, 1, |endpoint| endpoint.attach = AttachMode::Direct);
    let changes = publish(&mut mirror, &tables, &[]);
    assert_eq!(
        (changes.gone.hops().next().map(|(hop, _)| hop), &changes.gone.ports[..]),
        (Some(endpoint(1)), &[101][..])
    );
}

#[test]
fn peers_that_exchange_addresses_keep_both() {
    let (mut mirror, mut tables) = mirror();
    set_vtep(&mut tables, 0, 2);
    set_vtep(&mut tables, 1, 1);
    let changes = publish(&mut mirror, &tables, &[]);
    assert_eq!(renewed(&changes), [vtep(0), vtep(1)]);
    assert_eq!(changes.peers, [(address(2), vtep(0)), (address(1), vtep(1))]);
    assert_eq!(changes.gone, Gone::default());
    // One takes over the address of another that goes.
    tables.vteps.remove(0);
    set_vtep(&mut tables, 1, 2);
    let changes = publish(&mut mirror, &tables, &[]);
    assert_eq!(
        (&changes.peers[..], &changes.gone.peers[..]),
        (&[(address(2), vtep(1))][..], &[address(1)][..])
    );
}

#[test]
fn touched_hops_are_renewed_once() {
    let (mut mirror, mut tables) = mirror();
    let touched = [NextHop::Vtep(1), NextHop::Endpoint(2), NextHop::Unreachable, NextHop::Endpoint(99)];
    change(&mut tables, 2, |endpoint| endpoint.mtu = 1300);
    let changes = publish(&mut mirror, &tables, &touched);
    assert_eq!(renewed(&changes), [endpoint(2), vtep(1)]);
    assert_eq!(
        generation(&mirror, endpoint(2)),
        changes.set.iter().find(|(hop, ..)| *hop == endpoint(2)).map(|set| set.1)
    );
}

#[test]
fn without_linux_tunnel_there_are_no_vteps() {
    let (mut mirror, mut tables) = mirror();
    tables.node.uplink = None;
    let changes = publish(&mut mirror, &tables, &[]);
    let mut cleared: Vec<_> = changes.gone.hops().map(|(hop, _)| hop).collect();
    cleared.sort();
    assert_eq!(cleared, [vtep(0), vtep(1)]);
    tables.node.uplink = node().node.uplink;
    tables.node.uplink.as_mut().unwrap().mtu = 1400;
    let changes = publish(&mut mirror, &tables, &[]);
    assert_eq!(renewed(&changes), [vtep(0), vtep(1)]);
    assert!(changes.set.iter().all(|(.., hop)| matches!(hop, KernelHop::Vtep { mtu: 1350, .. })));
}

#[test]
fn what_a_former_switch_left_is_claimed_or_cleared() {
    let (former, tables) = mirror();
    let mut mirror = Mirror::default();
    for (hop, there) in &former.hops {
        mirror.find(*hop, there.generation, Some(there.hop));
    }
    mirror.find(endpoint(30), 90, None);
    let mut fewer = tables.clone();
    fewer.endpoints.remove(2);
    fewer.vteps.remove(1);
    change(&mut fewer, 1, |endpoint| endpoint.mtu = 1300);
    let changes = publish(&mut mirror, &fewer, &[]);
    assert_eq!(renewed(&changes), [endpoint(1)], "the others are what they were");
    assert_eq!(generation(&mirror, endpoint(1)), Some(91), "beyond all that there were");
    assert_eq!(generation(&mirror, vtep(0)), generation(&former, vtep(0)));

    let unclaimed = mirror.unclaimed();
    let mut cleared: Vec<_> = unclaimed.hops().map(|(hop, _)| hop).collect();
    cleared.sort();
    assert_eq!((cleared, &unclaimed.peers[..]), (vec![endpoint(2), vtep(1)], &[address(2)][..]));
    assert!(unclaimed.hops().all(|(_, generation)| generation > 91));
    assert_eq!(mirror.unclaimed(), Gone::default());
}

/// Whether the kernel refused or a worker did not take the tables: nothing that was to be cleared is forgotten, and nothing that
/// may not have been written is believed to be there.
#[test]
fn a_publication_that_failed_is_made_up_for() {
    let (mut mirror, tables) = mirror();
    let mut next = tables.clone();
    next.endpoints.remove(1);
    next.vteps.remove(0);
    add_endpoint(&mut next, 3, AttachMode::Cached);
    change(&mut next, 2, |endpoint| endpoint.mtu = 1300);
    let attempt = mirror.plan(&next, &[], &around());
    mirror.failed(attempt);

    // Control gave up: the tables before hold, and of the new endpoint nothing is to be left.
    let back = publish(&mut mirror, &tables, &[]);
    assert_eq!(renewed(&back), [endpoint(1), endpoint(2), vtep(0)]);
    assert_eq!(back.gone.hops().map(|(hop, _)| hop).collect::<Vec<_>>(), [endpoint(3)]);
    assert_eq!((&back.gone.ports[..], &back.gone.peers[..]), (&[103][..], &[][..]));
    assert_eq!(back.ports.len(), 3);
    let quiet = publish(&mut mirror, &tables, &[]);
    assert_eq!((renewed(&quiet), quiet.gone), (vec![], Gone::default()));
    // Every generation is of its own still.
    let generations: HashSet<_> = mirror.current().map(|(_, generation)| generation).collect();
    assert_eq!(generations.len(), mirror.hops.len());

    // Control tries mirror.
    let (mut mirror, _) = self::mirror();
    let attempt = mirror.plan(&next, &[], &around());
    mirror.failed(attempt);
    let changes = publish(&mut mirror, &next, &[]);
    assert_eq!(renewed(&changes), [endpoint(2), endpoint(3)]);
    let cleared: HashSet<_> = changes.gone.hops().map(|(hop, _)| hop).collect();
    assert_eq!(cleared, [endpoint(1), vtep(0)].into());
    assert_eq!((&changes.gone.ports[..], &changes.gone.peers[..]), (&[101][..], &[address(1)][..]));
}
