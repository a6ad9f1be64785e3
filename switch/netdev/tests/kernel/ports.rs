//! What pods with ports, limits and addresses of their node's network need: token buckets, proxies, and connections to forget.

use std::net::{IpAddr, UdpSocket};

use heddle_netdev::{Shape, VethEnd, conntrack};

use crate::scratch::Scratch;

#[tokio::test]
async fn a_limit_is_put_changed_and_removed() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    netlink.create_veth(VethEnd { up: true, ..VethEnd::named("a") }, VethEnd::named("b")).await.unwrap();
    let link = netlink.link("a").await.unwrap();
    // More than 32 bits of bytes a second.
    for (rate, shown) in [(2_500_000, "rate 20Mbit"), (12_500_000_000, "rate 100Gbit")] {
        netlink.shape(&link, Shape { rate, burst: 50_000, queue: 200_000 }).await.unwrap();
        let text = scratch.exec("tc -d qdisc show dev a");
        assert!(text.contains("tbf") && text.contains(shown), "{text}");
    }
    assert_eq!(netlink.queueing(&link).await.unwrap(), "tbf");
    assert_eq!(netlink.queue_drops(&link).await.unwrap(), 0);
    for _ in 0..2 {
        netlink.clear_queueing(&link).await.unwrap();
        assert_eq!(netlink.queueing(&link).await.unwrap(), "noqueue");
    }
}

#[tokio::test]
async fn only_heddle_s_proxies_are_listed() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    netlink.create_veth(VethEnd { up: true, ..VethEnd::named("a") }, VethEnd::named("b")).await.unwrap();
    let index = netlink.link("a").await.unwrap().index;
    scratch.exec("ip neigh add proxy 10.9.0.99 dev a");
    let addresses: [IpAddr; 2] = ["10.9.0.7".parse().unwrap(), "fd00:9::7".parse().unwrap()];
    for address in addresses {
        for _ in 0..2 {
            netlink.add_proxy(index, address).await.unwrap();
        }
    }
    assert_eq!(netlink.proxies().await.unwrap(), addresses.map(|address| (index, address)));
    for address in addresses {
        assert!(netlink.delete_proxy(index, address).await.unwrap());
        assert!(!netlink.delete_proxy(index, address).await.unwrap());
    }
    assert_eq!(netlink.proxies().await.unwrap(), []);
    assert!(scratch.exec("ip neigh show proxy").contains("10.9.0.99"), "somebody else's stays");
}

#[test]
fn chosen_connections_are_forgotten() {
    let scratch = Scratch::new();
    scratch.exec("ip link set lo up");
    // Somebody has to ask for connections to be tracked.
    scratch.exec("nft add table ip t");
    scratch.exec("nft add chain ip t c { type filter hook output priority 0 ; }");
    scratch.exec("nft add rule ip t c ct state new counter");
    scratch
        .netns
        .run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for port in [7001, 7002, 7003] {
                let _ = socket.send_to(b"x", ("127.0.0.1", port));
            }
            let to = |port| move |connection: &conntrack::Connection| connection.to.1 == port;
            assert_eq!(conntrack::delete(to(7002)).unwrap(), 1);
            assert_eq!(conntrack::delete(to(7002)).unwrap(), 0);
            let mut left = Vec::new();
            conntrack::delete(|connection| {
                left.extend((connection.protocol == 17).then_some(connection.to.1));
                assert_eq!(connection.to, connection.replies_from);
                false
            })
            .unwrap();
            left.sort_unstable();
            assert_eq!(left, [7001, 7003]);
        })
        .unwrap();
}
