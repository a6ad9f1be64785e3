//! Interfaces, addresses, routes, queues and offloads are in the kernel as asked, seen through iproute2 and ethtool.

use std::net::IpAddr;

use heddle_netdev::ethtool::{self, Offload};
use heddle_netdev::{
    BridgeSpec, Errno, Error, ExternalVxlanSpec, Mac, ROUTE_PROTOCOL, Route, VethEnd, VxlanSpec,
    check_link_name,
};

use crate::scratch::Scratch;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

async fn pair(near: &Scratch, far: &Scratch) {
    let netlink = near.netlink();
    let far_end =
        VethEnd { mac: Some(MAC), netns: Some(&far.netns), mtu: Some(1400), ..VethEnd::named("eth0") };
    let near_end = VethEnd { mtu: Some(1400), ..VethEnd::named("near0") };
    netlink.create_veth(near_end, far_end).await.unwrap();
}

#[tokio::test]
async fn a_veth_pair_across_namespaces_comes_in_one_step() {
    let (near, far) = (Scratch::new(), Scratch::new());
    pair(&near, &far).await;
    let (near_link, far_link) =
        (near.netlink().link("near0").await.unwrap(), far.netlink().link("eth0").await.unwrap());
    assert_eq!(far_link.mac, Some(MAC));
    assert_eq!((far_link.mtu, near_link.mtu), (1400, 1400));
    assert_eq!((far_link.tx_queues, far_link.rx_queues), (1, 1));
    assert_eq!((near_link.tx_queues, near_link.rx_queues), (1, 1));
    assert_eq!(near_link.kind.as_deref(), Some("veth"));
    assert_eq!(near_link.peer_index, Some(far_link.index));
    assert_eq!(far_link.peer_index, Some(near_link.index));
    assert!(!near_link.up && !far_link.up);
    assert_eq!(
        near.netns.run(|| ethtool::queues("near0")).unwrap().unwrap(),
        ethtool::Queues { rx: 1, tx: 1 }
    );
}

#[tokio::test]
async fn a_link_is_changed_renamed_and_deleted() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    netlink.create_veth(VethEnd::named("a"), VethEnd { up: true, ..VethEnd::named("b") }).await.unwrap();
    let a = netlink.link("a").await.unwrap();
    netlink.set_mtu(&a, 1280).await.unwrap();
    netlink.set_mac(&a, MAC).await.unwrap();
    netlink.rename(&a, "renamed").await.unwrap();
    netlink.set_up(&a).await.unwrap();
    let renamed = netlink.link("renamed").await.unwrap();
    assert_eq!((renamed.index, renamed.mtu, renamed.mac), (a.index, 1280, Some(MAC)));
    assert!(renamed.up && renamed.carrier);
    assert_eq!(netlink.find_link_by_index(a.index).await.unwrap().unwrap().name, "renamed");
    netlink.set_down(&a).await.unwrap();
    assert!(!netlink.link("renamed").await.unwrap().up);

    assert!(netlink.delete_link("renamed").await.unwrap());
    assert!(!netlink.delete_link("renamed").await.unwrap());
    assert_eq!(netlink.find_link("b").await.unwrap(), None);
    assert!(matches!(netlink.link("b").await, Err(Error::NoLink { name }) if name == "b"));
    assert_eq!(netlink.links().await.unwrap().len(), 1, "only loopback is left");
}

#[tokio::test]
async fn what_exists_is_not_made_again() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    netlink.create_veth(VethEnd::named("a"), VethEnd::named("b")).await.unwrap();
    let error = netlink.create_veth(VethEnd::named("a"), VethEnd::named("c")).await.unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
    assert!(error.to_string().contains("veth pair a and c"), "{error}");
}

#[test]
fn refuses_names_the_kernel_would_refuse() {
    for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx", "nul\0"] {
        assert!(check_link_name(name).is_err(), "{name:?}");
    }
    for name in ["eth0", "fifteen-bytes-x", "é", "..."] {
        assert!(check_link_name(name).is_ok(), "{name:?}");
    }
}

#[tokio::test]
async fn bridge_and_vxlan_are_made_as_specified() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    netlink.create_bridge(BridgeSpec { name: "br0", up: true }).await.unwrap();
    let bridge = netlink.link("br0").await.unwrap();
    assert_eq!((bridge.kind.as_deref(), bridge.up), (Some("bridge"), true));
    netlink.create_veth(VethEnd::named("a"), VethEnd::named("b")).await.unwrap();
    let a = netlink.link("a").await.unwrap();
    netlink.enslave(&a, &bridge).await.unwrap();
    assert_eq!(netlink.link("a").await.unwrap().bridge, Some(bridge.index));

    for (name, local) in [("vx4", "192.0.2.1"), ("vx6", "2001:db8::1")] {
        let spec = VxlanSpec {
            name,
            vni: 77,
            local: local.parse().unwrap(),
            remote: None,
            port: if name == "vx4" { 4789 } else { 4790 },
            device: None,
            mac: Some(MAC),
            mtu: Some(1400),
            learning: false,
            up: false,
        };
        netlink.create_vxlan(spec).await.unwrap();
        let text = scratch.exec(&format!("ip -d link show {name}"));
        for expected in ["vxlan id 77", &format!("local {local}"), "nolearning", "mtu 1400", &MAC.to_string()]
        {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }
    let device = netlink.link("vx4").await.unwrap();
    let zero = Mac([0; 6]);
    netlink.append_fdb(device.index, zero, "192.0.2.9".parse().unwrap()).await.unwrap();
    netlink.append_fdb(device.index, zero, "192.0.2.8".parse().unwrap()).await.unwrap();
    let fdb = scratch.exec("bridge fdb show dev vx4");
    assert!(fdb.contains("dst 192.0.2.9") && fdb.contains("dst 192.0.2.8"), "{fdb}");
}

#[tokio::test]
async fn addresses_are_usable_at_once_and_go_again() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    netlink
        .create_veth(VethEnd { up: true, ..VethEnd::named("a") }, VethEnd { up: true, ..VethEnd::named("b") })
        .await
        .unwrap();
    let a = netlink.link("a").await.unwrap();
    for text in ["10.9.0.5/32", "fd00:9::5/128"] {
        let address = text.parse().unwrap();
        netlink.add_address(&a, address).await.unwrap();
        assert!(netlink.addresses(&a).await.unwrap().contains(&address));
        let error = netlink.add_address(&a, address).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST));
    }
    assert!(!scratch.exec("ip -6 addr show dev a").contains("fd00:9::5/128 scope global tentative"));
    for text in ["10.9.0.5/32", "fd00:9::5/128"] {
        let address = text.parse().unwrap();
        assert!(netlink.delete_address(&a, address).await.unwrap());
        assert!(!netlink.delete_address(&a, address).await.unwrap());
    }
}

#[tokio::test]
async fn default_routes_go_through_an_on_link_gateway() {
    let (near, far) = (Scratch::new(), Scratch::new());
    pair(&near, &far).await;
    let netlink = far.netlink();
    let near_link = near.netlink().link("near0").await.unwrap();
    near.netlink().set_up(&near_link).await.unwrap();
    let link = netlink.link("eth0").await.unwrap();
    netlink.set_up(&link).await.unwrap();
    let gateways: [(&str, &str, &str); 2] =
        [("10.9.0.5/32", "169.254.1.1", "0.0.0.0/0"), ("fd00:9::5/128", "fe80::1", "::/0")];
    for (address, gateway, default) in gateways {
        netlink.add_address(&link, address.parse().unwrap()).await.unwrap();
        let gateway: IpAddr = gateway.parse().unwrap();
        let on_link = Route::on_interface(gateway.into(), link.index);
        let route = Route::via_on_link(default.parse().unwrap(), gateway, link.index);
        netlink.add_route(&on_link).await.unwrap();
        netlink.add_route(&route).await.unwrap();
        let error = netlink.add_route(&route).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
        netlink.replace_route(&route).await.unwrap();

        let world: IpAddr = if gateway.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        let lookup = netlink.lookup_route(world).await.unwrap();
        assert_eq!((lookup.gateway, lookup.interface, lookup.local), (Some(gateway), link.index, false));
        assert_eq!(lookup.source, Some(address.split('/').next().unwrap().parse().unwrap()));

        let ours: Vec<_> = netlink.routes().await.unwrap();
        let found = ours.iter().find(|r| r.destination == route.destination).unwrap();
        assert_eq!((found.gateway, found.protocol), (Some(gateway), ROUTE_PROTOCOL));
        assert!(netlink.delete_route(&route).await.unwrap());
        assert!(!netlink.delete_route(&route).await.unwrap());
    }
    assert!(far.exec("ip route show proto 68").contains("169.254.1.1 dev eth0 scope link"));
}

#[tokio::test]
async fn a_route_carries_its_source_and_own_addresses_are_local() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    let up = |name| VethEnd { up: true, ..VethEnd::named(name) };
    netlink.create_veth(up("a"), up("b")).await.unwrap();
    let a = netlink.link("a").await.unwrap();
    netlink.add_address(&a, "10.9.0.5/24".parse().unwrap()).await.unwrap();
    netlink.add_address(&a, "10.9.0.6/24".parse().unwrap()).await.unwrap();
    let mut route = Route::on_interface("10.20.0.0/16".parse().unwrap(), a.index);
    route.source = Some("10.9.0.6".parse().unwrap());
    netlink.add_route(&route).await.unwrap();
    let lookup = netlink.lookup_route("10.20.1.1".parse().unwrap()).await.unwrap();
    assert_eq!((lookup.source, lookup.gateway), (route.source, None));
    assert!(netlink.routes().await.unwrap().contains(&route));
    assert!(netlink.lookup_route("10.9.0.5".parse().unwrap()).await.unwrap().local);
    let error = netlink.lookup_route("192.0.2.1".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENETUNREACH), "{error}");
}

#[tokio::test]
async fn a_real_queue_replaces_noqueue() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    let up = |name| VethEnd { up: true, ..VethEnd::named(name) };
    netlink.create_veth(up("a"), up("b")).await.unwrap();
    let a = netlink.link("a").await.unwrap();
    assert_eq!(netlink.queueing(&a).await.unwrap(), "noqueue");
    let kind = netlink.set_queueing(&a).await.unwrap();
    assert_eq!(netlink.queueing(&a).await.unwrap(), kind);
    let text = scratch.exec("tc qdisc show dev a root");
    assert!(text.contains(kind), "{text}");
    assert!(!text.contains("limit 0p"), "a queue of nothing drops everything: {text}");
    netlink.set_queueing(&a).await.unwrap();
}

#[tokio::test]
async fn offloads_go_off_as_ethtool_sees_them() {
    let scratch = Scratch::new();
    scratch.netlink().create_veth(VethEnd::named("a"), VethEnd::named("b")).await.unwrap();
    let feature = |name: &str| {
        let text = scratch.exec("ethtool -k a");
        let line = text.lines().find(|l| l.trim().starts_with(&format!("{name}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap() == "on"
    };
    assert!(feature("tx-checksumming") && feature("tx-tcp-segmentation") && feature("tx-checksum-sctp"));
    scratch
        .netns
        .run(|| {
            ethtool::set_offload("a", Offload::TxChecksum, false).unwrap();
            ethtool::set_offload("a", Offload::Tso, false).unwrap();
            assert!(!ethtool::offload("a", Offload::TxChecksum).unwrap());
            assert!(!ethtool::offload("a", Offload::Tso).unwrap());
            ethtool::set_offload("a", Offload::Gro, true).unwrap();
            assert!(ethtool::offload("a", Offload::Gro).unwrap());
            let error = ethtool::set_offload("nothing", Offload::Tso, false).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::ENODEV), "{error}");
        })
        .unwrap();
    for name in [
        "tx-checksumming",
        "tx-tcp-segmentation",
        "tx-tcp6-segmentation",
        "tx-tcp-ecn-segmentation",
        "tx-udp-segmentation",
        "tx-checksum-ip-generic",
        "tx-checksum-sctp",
    ] {
        assert!(!feature(name), "{name} is still on:\n{}", scratch.exec("ethtool -k a"));
    }
    assert!(feature("generic-receive-offload"));
}

/// It is told packet by packet where to send: no VNI, no peer, and it learns nothing.
#[tokio::test]
async fn an_external_vxlan_device_is_made_and_known_again() {
    let scratch = Scratch::new();
    let netlink = scratch.netlink();
    let spec = ExternalVxlanSpec { name: "vx", port: 4790, mac: MAC, mtu: 1400 };
    netlink.create_external_vxlan(spec).await.unwrap();
    let link = netlink.link("vx").await.unwrap();
    assert_eq!((link.external_vxlan_port, link.mac, link.mtu), (Some(4790), Some(MAC), 1400));
    let shown = scratch.exec("ip -d link show vx");
    for expected in ["vxlan external", "dstport 4790", "nolearning", "mtu 1400", &MAC.to_string()] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    netlink.set_up(&link).await.unwrap();
    let error = netlink.create_external_vxlan(spec).await.unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
    // One that has a VNI is another's, and not to be taken for it.
    netlink.delete_link("vx").await.unwrap();
    scratch.exec("ip link add vx type vxlan id 7 dstport 4790");
    assert_eq!(netlink.link("vx").await.unwrap().external_vxlan_port, None);
}
