//! A switch over ports in memory, with tables as a large cluster has them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use heddle_switch::DropReason;
use heddle_switch::pipeline::{Ingress, Outbox, Pipeline};
use heddle_switch::ports::{Batch, MemoryPort, MemoryWire, Port, PortId};
use heddle_switch::stats::WorkerStats;
use heddle_switch::tables::{
    AttachMode, Endpoint, EndpointPolicy, HOST, NextHop, Tables, Tunnel, Uplink, Vtep,
};
use heddle_switch::wire::Mac;
use heddle_xsk::{Arena, BATCH, Pool};

/// Pods of this node.
pub const PODS: u32 = 250;
/// Other nodes, with a pod prefix of each family and an address of each.
pub const NODES: u32 = 5000;

/// Connections a worker remembers, twice as many as by default, for both ends of 100,000.
pub const CONNECTIONS: usize = 1 << 18;

/// MAC of this node's NIC.
pub const NIC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Inner destination MAC of this node.
pub const OWN_VTEP: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The underlay's next hop.
pub const NEIGHBOR: Mac = Mac([2, 0, 0, 0, 0, 3]);

/// Which family the tunnels go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// Outer IPv4.
    V4,
    /// Outer IPv6.
    V6,
}

/// Address of a pod of this node, of either family.
pub fn local_pod(number: u32) -> [IpAddr; 2] {
    pod(0, number)
}

/// Address of a pod of another node.
pub fn remote_pod(node: u32, number: u32) -> [IpAddr; 2] {
    pod(node + 1, number)
}

fn pod(node: u32, number: u32) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::from((10 << 24) | (node << 8) | number);
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0, node as u16, 0, 0, 0, number as u16);
    [v4.into(), v6.into()]
}

/// Underlay address of another node, or of this one: number 0.
pub fn node_address(underlay: Underlay, node: u32) -> IpAddr {
    match underlay {
        Underlay::V4 => Ipv4Addr::from((172 << 24) | (16 << 16) | node).into(),
        Underlay::V6 => Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, node as u16).into(),
    }
}

/// MAC of a pod of this node.
pub fn pod_mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([6, 0, a, b, c, d])
}

fn port(slot: u16) -> PortId {
    PortId { worker: 0, slot, serial: u32::from(slot) }
}

/// A node of a cluster of [`NODES`] others, with [`PODS`] pods.
///
/// # Panics
///
/// Never: the prefixes are constant.
pub fn tables(underlay: Underlay) -> Tables {
    let mut tables = Tables::default();
    let (address_v4, address_v6) = match node_address(underlay, 0) {
        IpAddr::V4(address) => (Some(address), None),
        IpAddr::V6(address) => (None, Some(address)),
    };
    tables.node.uplink = Some(Uplink {
        tunnel: Tunnel::Switch,
        ports: vec![port(1)],
        mac: NIC,
        address_v4,
        address_v6,
        vtep_mac: OWN_VTEP,
        mtu: 1600,
    });
    let endpoint = |addresses: &[IpAddr], mac| Endpoint {
        addresses: addresses.to_vec(),
        mac,
        port: port(1),
        attach: AttachMode::Direct,
        interface: 0,
        delivery: heddle_switch::tables::Delivery::default(),
        mtu: 1500,
        policy: EndpointPolicy::Open,
        mapped: Vec::new(),
    };
    tables.endpoints.set(HOST, endpoint(&[], pod_mac(HOST)));
    for default in ["0.0.0.0/0", "::/0"] {
        tables.fib.insert(default.parse().expect("a prefix"), NextHop::Endpoint(HOST));
    }
    for number in 1..=PODS {
        let addresses = local_pod(number);
        tables.endpoints.set(number, endpoint(&addresses, pod_mac(number)));
        for address in addresses {
            tables.fib.insert(address.into(), NextHop::Endpoint(number));
        }
    }
    for node in 0..NODES {
        let address = node_address(underlay, node + 1);
        tables.vteps.set(node, Vtep { address, mac: pod_mac(1 << 24 | node), neighbor: Some(NEIGHBOR) });
        tables.fib.insert(address.into(), NextHop::Vtep(node));
        for (prefix, len) in remote_pod(node, 0).into_iter().zip([24, 64]) {
            let prefix = ipnet::IpNet::new(prefix, len).expect("a length of the family");
            tables.fib.insert(prefix, NextHop::Vtep(node));
        }
    }
    tables
}

/// One worker with one port to receive by and one to send by.
pub struct Rig {
    tables: Tables,
    ingress: Ingress,
    pipeline: Pipeline,
    stats: Arc<WorkerStats>,
    pool: Pool,
    batch: Batch,
    outbox: Outbox,
    source: (MemoryPort, MemoryWire),
    sink: (MemoryPort, MemoryWire),
}

impl Rig {
    /// With packets that come by `ingress`.
    ///
    /// # Panics
    ///
    /// When there is no memory for the frames.
    pub fn new(tables: Tables, ingress: Ingress) -> Self {
        let arena = Arena::heap(4096, 2048).expect("memory");
        let stats = Arc::new(WorkerStats::default());
        Self {
            tables,
            ingress,
            pipeline: Pipeline::new(0, Arc::clone(&stats), CONNECTIONS),
            stats,
            pool: Pool::new(Arc::clone(&arena)),
            batch: Batch::new(),
            outbox: Outbox::new(),
            source: MemoryPort::new(Arc::clone(&arena), BATCH),
            sink: MemoryPort::new(arena, BATCH),
        }
    }

    /// Puts up to a batch of packets on the wire to the switch.
    pub fn load(&mut self, packets: &[Vec<u8>]) {
        self.source.1.inject_all(packets.iter().map(Vec::as_slice));
    }

    /// Moves what is on the wire through the switch: port, pipeline, outbox, port.
    pub fn forward(&mut self) {
        self.source.0.receive(&mut self.pool, &mut self.batch);
        let now = Instant::now();
        self.pipeline.run(now, &self.tables, self.ingress, &mut self.pool, &mut self.batch, &mut self.outbox);
        self.batch.extend(self.outbox.drain(..).map(|(_, frame)| frame));
        self.sink.0.transmit(&mut self.pool, &mut self.batch);
    }

    /// The tables, to change them between two batches.
    pub fn tables_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// Takes what the switch sent off the wire; returns how many packets that were.
    pub fn unload(&mut self) -> usize {
        self.sink.1.collect_all(|packet| {
            black_box(packet);
        })
    }

    /// Drops so far, with their reasons.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let drops = DropReason::ALL.iter().map(|reason| (*reason, self.stats.drops(*reason)));
        drops.filter(|(_, count)| *count > 0).collect()
    }
}
