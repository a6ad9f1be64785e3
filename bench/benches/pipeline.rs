//! The whole pipeline per packet, in batches of 64, over ports in memory. `bench/README.md` says what the numbers mean.

use std::net::SocketAddr;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heddle_bench::packets;
use heddle_bench::rig::{
    NEIGHBOR, NIC, NODES, OWN_VTEP, PODS, Rig, Underlay, local_pod, node_address, pod_mac, remote_pod, tables,
};
use heddle_bench::typical;
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::Tables;
use heddle_xsk::BATCH;

/// Bytes from the Ethernet header on: a small packet, and a full one that still fits a tunnel.
const LENGTHS: [usize; 2] = [64, 1400];

const VXLAN_PORT: u16 = 4789;

/// Index into a pod's pair of addresses.
const V4: usize = 0;
const V6: usize = 1;

/// A batch of packets from pod 1, each to another pod: `target` says which is the n-th.
fn from_pod(tables: &Tables, len: usize, family: usize, target: impl Fn(u32) -> SocketAddr) -> Vec<Vec<u8>> {
    let macs = (pod_mac(1), tables.node.gateway_mac);
    let from = |n| SocketAddr::new(local_pod(1)[family], 40_000 + n as u16);
    (0..BATCH as u32).map(|n| packets::udp(macs, from(n), target(n), len)).collect()
}

/// A batch of packets for pods of this node, each from a pod of another node, in their tunnels.
fn from_nodes(underlay: Underlay, len: usize) -> Vec<Vec<u8>> {
    let here = SocketAddr::new(node_address(underlay, 0), VXLAN_PORT);
    let tunnelled = |n| {
        let node = spread(n) % NODES;
        let from = SocketAddr::new(remote_pod(node, 7)[V4], 40_000);
        let to = SocketAddr::new(local_pod(1 + spread(n) % PODS)[V4], 80);
        let inner = packets::udp((pod_mac(1 << 24 | node), OWN_VTEP), from, to, len);
        let there = SocketAddr::new(node_address(underlay, node + 1), 50_000 + n as u16);
        packets::vxlan((NEIGHBOR, NIC), there, here, 1, &inner)
    };
    (0..BATCH as u32).map(tunnelled).collect()
}

/// Far apart for neighboring `n`, so that lookups do not find each other's cache lines warm.
fn spread(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1) >> 8
}

fn measure(c: &mut Criterion, name: &str, len: usize, mut rig: Rig, batch: &[Vec<u8>]) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64));
    rig.load(batch);
    rig.forward();
    assert_eq!(rig.unload(), BATCH, "all packets pass, but: {:?}", rig.drops());
    group.bench_function(BenchmarkId::from_parameter(len), |b| {
        b.iter_custom(|batches| {
            typical(batches, || {
                rig.load(batch);
                let start = Instant::now();
                rig.forward();
                let time = start.elapsed();
                rig.unload();
                time
            })
        });
    });
    assert_eq!(rig.drops(), [], "nothing was dropped");
    group.finish();
}

fn pipeline(c: &mut Criterion) {
    for len in LENGTHS {
        for (name, family) in [("local_v4", V4), ("local_v6", V6)] {
            let tables = tables(Underlay::V4);
            let batch = from_pod(&tables, len, family, |n| {
                SocketAddr::new(local_pod(2 + spread(n) % (PODS - 1))[family], 80)
            });
            measure(c, name, len, Rig::new(tables, Ingress::Endpoint(1)), &batch);
        }
        for (name, underlay) in [("encapsulated_v4", Underlay::V4), ("encapsulated_v6", Underlay::V6)] {
            let tables = tables(underlay);
            let batch =
                from_pod(&tables, len, V4, |n| SocketAddr::new(remote_pod(spread(n) % NODES, 7)[V4], 80));
            measure(c, name, len, Rig::new(tables, Ingress::Endpoint(1)), &batch);
        }
        for (name, underlay) in [("decapsulated_v4", Underlay::V4), ("decapsulated_v6", Underlay::V6)] {
            let batch = from_nodes(underlay, len);
            measure(c, name, len, Rig::new(tables(underlay), Ingress::Uplink), &batch);
        }
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
