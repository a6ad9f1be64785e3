//! A cluster of two nodes: addresses, and each node's tables.
//!
//! Node `n` has pods 1 and 2 with addresses `10.244.n.1x` and `fd00:10:244:n::1x`, and the underlay addresses `172.31.0.n`
//! and `fd00:172:31::n`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_switch::ports::PortId;
use heddle_switch::tables::{
    AttachMode, Endpoint, EndpointPolicy, HOST, NextHop, Tables, Tunnel, Uplink, Vtep,
};
use heddle_switch::wire::Mac;

use super::packets::Spec;

pub(crate) const GATEWAY_MAC: Mac = Mac([0x02, 0x68, 0x64, 0, 0, 1]);
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const VNI: u32 = 0x00ab_cdef;
pub(crate) const VXLAN_PORT: u16 = 4789;
/// Of the underlay.
pub(crate) const UPLINK_MTU: u16 = 1550;
pub(crate) const POD_MTU: u16 = 1500;
/// Index in a pair of addresses.
pub(crate) const V4: usize = 0;
/// Index in a pair of addresses.
pub(crate) const V6: usize = 1;
pub(crate) const FAMILIES: [usize; 2] = [V4, V6];
/// Out in the world, in both families.
pub(crate) const WORLD: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Ports by slot: the host's is 0, the pods' follow, the uplink's is the last.
pub(crate) const UPLINK_SLOT: u16 = 3;

pub(crate) fn port(slot: u16) -> PortId {
    PortId { worker: 0, slot, serial: 100 + u32::from(slot) }
}

/// Addresses of a pod.
pub(crate) fn pod(node: u8, number: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(10, 244, node, 10 + number);
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, 0x10 + u16::from(number));
    [v4.into(), v6.into()]
}

pub(crate) fn pod_mac(node: u8, number: u8) -> Mac {
    Mac([0x0a, 0x58, 0, 0, node, number])
}

/// Underlay addresses of a node.
pub(crate) fn node_address(node: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(172, 31, 0, node);
    let v6 = Ipv6Addr::new(0xfd00, 0x172, 0x31, 0, 0, 0, 0, node.into());
    [v4.into(), v6.into()]
}

pub(crate) fn nic_mac(node: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, node])
}

pub(crate) fn vtep_mac(node: u8) -> Mac {
    Mac([0x02, 0x68, 0x64, 1, 0, node])
}

/// Tables of `node`, whose only peer is `peer`; `underlay` is the family of the tunnel.
pub(crate) fn tables(node: u8, peer: u8, underlay: usize) -> Tables {
    let mut tables = Tables::default();
    let [IpAddr::V4(own_v4), IpAddr::V6(own_v6)] = node_address(node) else { unreachable!() };
    tables.node.vni = VNI;
    tables.node.icmp_source_v4 = own_v4;
    tables.node.icmp_source_v6 = own_v6;
    tables.node.uplink = Some(Uplink {
        tunnel: Tunnel::Switch,
        ports: vec![port(UPLINK_SLOT)],
        mac: nic_mac(node),
        address_v4: Some(own_v4),
        address_v6: Some(own_v6),
        vtep_mac: vtep_mac(node),
        mtu: UPLINK_MTU,
    });
    for slot in 0..UPLINK_SLOT {
        let number = slot as u8;
        let addresses = if slot == 0 { node_address(node) } else { pod(node, number) }.to_vec();
        for address in &addresses {
            tables.fib.insert((*address).into(), NextHop::Endpoint(slot.into()));
        }
        let endpoint = Endpoint {
            addresses,
            mac: pod_mac(node, number),
            port: port(slot),
            attach: AttachMode::Direct,
            interface: 0,
            delivery: heddle_switch::tables::Delivery::default(),
            mtu: POD_MTU,
            policy: EndpointPolicy::Open,
            mapped: Vec::new(),
        };
        tables.endpoints.set(slot.into(), endpoint);
    }
    for prefix in ["0.0.0.0/0", "::/0"] {
        tables.fib.insert(prefix.parse().unwrap(), NextHop::Endpoint(HOST));
    }
    for prefix in [format!("10.244.{node}.0/24"), format!("fd00:10:244:{node}::/64")] {
        tables.fib.insert(prefix.parse().unwrap(), NextHop::Unreachable);
    }
    for prefix in [format!("10.244.{peer}.0/24"), format!("fd00:10:244:{peer}::/64")] {
        tables.fib.insert(prefix.parse().unwrap(), NextHop::Vtep(0));
    }
    for address in node_address(peer) {
        tables.fib.insert(address.into(), NextHop::Vtep(0));
    }
    let vtep =
        Vtep { address: node_address(peer)[underlay], mac: vtep_mac(peer), neighbor: Some(nic_mac(peer)) };
    tables.vteps.set(0, vtep);
    tables
}

/// A packet as pod 1 of node 1 sends it.
pub(crate) fn from_pod(family: usize, to: IpAddr) -> Spec {
    Spec::new((pod_mac(1, 1), GATEWAY_MAC), pod(1, 1)[family], to)
}

/// A packet as the switch of node 2 puts it into the tunnel to node 1.
pub(crate) fn inner(from: IpAddr, to: IpAddr) -> Spec {
    Spec::new((vtep_mac(2), vtep_mac(1)), from, to)
}

/// The outer packet of a tunnel from node 2 to node 1.
pub(crate) fn outer(underlay: usize) -> Spec {
    let macs = (nic_mac(2), nic_mac(1));
    Spec {
        ports: (50_000, VXLAN_PORT),
        ..Spec::new(macs, node_address(2)[underlay], node_address(1)[underlay])
    }
}
