//! Neighbor entries: permanent ones, resolution on request, and the stream of changes.

use std::net::IpAddr;
use std::time::Duration;

use heddle_netdev::{Mac, NeighborEvent, NeighborEvents, Netlink, VethEnd};

use crate::scratch::Scratch;

const FAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// `a` in one namespace, `b` in another, both up with addresses of both families.
async fn connected(near: &Scratch, far: &Scratch) -> (Netlink, u32) {
    let netlink = near.netlink();
    let b = VethEnd { mac: Some(FAR_MAC), netns: Some(&far.netns), up: true, ..VethEnd::named("b") };
    netlink.create_veth(VethEnd { up: true, ..VethEnd::named("a") }, b).await.unwrap();
    for (netlink, name, host) in [(&netlink, "a", 1), (&far.netlink(), "b", 2)] {
        let link = netlink.link(name).await.unwrap();
        netlink.add_address(&link, format!("10.9.0.{host}/24").parse().unwrap()).await.unwrap();
        netlink.add_address(&link, format!("fd00:9::{host}/64").parse().unwrap()).await.unwrap();
    }
    let index = netlink.link("a").await.unwrap().index;
    (netlink, index)
}

async fn wait_for(events: &mut NeighborEvents, wanted: impl Fn(&NeighborEvent) -> bool) -> NeighborEvent {
    let search = async {
        loop {
            let event = events.next().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), search).await.expect("no such event in 30 s")
}

#[tokio::test]
async fn resolution_on_request_is_announced() {
    let (near, far) = (Scratch::new(), Scratch::new());
    let (netlink, interface) = connected(&near, &far).await;
    let mut events = NeighborEvents::open_in(&near.netns).unwrap();
    for text in ["10.9.0.2", "fd00:9::2"] {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(netlink.find_neighbor(interface, address).await.unwrap(), None);
        netlink.resolve_neighbor(interface, address).await.unwrap();
        let event = wait_for(
            &mut events,
            |event| matches!(event, NeighborEvent::Changed(n) if n.address == address && n.mac.is_some()),
        );
        let NeighborEvent::Changed(neighbor) = event.await else { unreachable!() };
        assert_eq!((neighbor.interface, neighbor.mac), (interface, Some(FAR_MAC)));
        assert_eq!(netlink.find_neighbor(interface, address).await.unwrap().unwrap().mac, Some(FAR_MAC));
        // Asking again for a known neighbor is fine.
        netlink.resolve_neighbor(interface, address).await.unwrap();
    }
}

#[tokio::test]
async fn silence_is_announced_as_failure() {
    let (near, far) = (Scratch::new(), Scratch::new());
    let (netlink, interface) = connected(&near, &far).await;
    let mut events = NeighborEvents::open_in(&near.netns).unwrap();
    let nobody: IpAddr = "10.9.0.77".parse().unwrap();
    netlink.resolve_neighbor(interface, nobody).await.unwrap();
    wait_for(&mut events, |event| {
        matches!(event, NeighborEvent::Changed(n) if n.address == nobody && n.failed && n.mac.is_none())
    })
    .await;
}

#[tokio::test]
async fn permanent_entries_are_written_listed_and_removed() {
    let (near, far) = (Scratch::new(), Scratch::new());
    let (netlink, interface) = connected(&near, &far).await;
    let mut events = NeighborEvents::open_in(&near.netns).unwrap();
    let mac = Mac([2, 1, 1, 1, 1, 1]);
    for text in ["169.254.1.1", "fe80::1"] {
        let address: IpAddr = text.parse().unwrap();
        netlink.set_permanent_neighbor(interface, address, mac).await.unwrap();
        let shown = near.exec(&format!("ip neigh show {address} dev a"));
        assert!(shown.contains(&mac.to_string()) && shown.contains("PERMANENT"), "{shown}");
        let listed = netlink.neighbors().await.unwrap();
        assert!(listed.iter().any(|n| n.address == address && n.mac == Some(mac)));
        assert!(netlink.delete_neighbor(interface, address).await.unwrap());
        wait_for(&mut events, |event| matches!(event, NeighborEvent::Removed(n) if n.address == address))
            .await;
        assert!(!netlink.delete_neighbor(interface, address).await.unwrap());
    }
}
