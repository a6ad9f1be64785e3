//! Policy: what a verdict costs, and what it costs to keep the image right. bench/README.md and docs/policy.md say what the numbers mean.
#![allow(missing_docs)]

mod cluster;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use cluster::{Cluster, pod};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use heddle_image::{Direction, Image, PeerClass, PolicyClass, Protocol};
use heddle_policy::{Compiler, model::ObjectName};

/// Packets asked about in turn: enough that the branch predictor cannot learn them.
const PACKETS: usize = 4096;

/// A deterministic sequence (Knuth's multiplicative hash).
fn scatter(index: usize) -> usize {
    index.wrapping_mul(2_654_435_761) >> 7
}

fn compile(cluster: &Cluster) -> (Compiler, Image) {
    let mut compiler = cluster.compiler();
    let image = compiler.update().expect("within the limits");
    (compiler, image)
}

fn judged(image: &Image) -> &PolicyClass {
    let number = image.endpoint("ns0", "app3-0").expect("the first namespace has it");
    image.policy_class(number).expect("it has policies")
}

/// Pod addresses of the cluster with their classes, and ports around those of the policies.
fn packets(cluster: &Cluster, image: &Image) -> Vec<(IpAddr, PeerClass, Protocol, u16)> {
    let ports = [
        (Protocol::Tcp, 8080),
        (Protocol::Udp, 53),
        (Protocol::Tcp, 9090),
        (Protocol::Tcp, 443),
        (Protocol::Sctp, 80),
    ];
    let packet = |index: usize| {
        let pod = &cluster.pods[scatter(index) % cluster.pods.len()];
        let (address, (protocol, port)) = (pod.addresses[0], ports[scatter(index + 7) % ports.len()]);
        (address, image.peer_class(address), protocol, port)
    };
    (0..PACKETS).map(packet).collect()
}

/// The bitmaps alone, the peer class at hand as in a forwarding entry; and with the address looked up. For more and more policies, and for
/// more and more pods.
fn verdicts(c: &mut Criterion) {
    let sizes = [(1, 10), (10, 100), (100, 1_000), (1_000, 10_000), (10_000, 100_000)];
    for (policies, pods) in sizes {
        let cluster = Cluster::new((pods / 100).max(1), pods, policies);
        let (_, image) = compile(&cluster);
        let packets = packets(&cluster, &image);
        let class = judged(&image);
        let size = format!("{policies} policies, {pods} pods");
        let mut group = c.benchmark_group("policy/verdict");
        let mut at = 0;
        let mut next = || {
            at = (at + 1) % PACKETS;
            packets[at]
        };
        group.bench_function(BenchmarkId::new("bitmap", &size), |b| {
            b.iter(|| {
                let (_, peer, protocol, port) = next();
                black_box(class.allows(Direction::Ingress, peer, protocol, port))
            });
        });
        group.bench_function(BenchmarkId::new("address and bitmap", &size), |b| {
            b.iter(|| {
                let (address, _, protocol, port) = next();
                black_box(class.allows(Direction::Ingress, image.peer_class(address), protocol, port))
            });
        });
        // Behind each other, as dependent loads: what one verdict delays a packet by.
        group.bench_function(BenchmarkId::new("latency", &size), |b| {
            let mut last = 0;
            b.iter(|| {
                let (_, peer, protocol, port) = next();
                last = u16::from(class.allows(
                    Direction::Ingress,
                    PeerClass(peer.0 ^ u32::from(last)),
                    protocol,
                    port ^ last,
                ));
                black_box(last)
            });
        });
        group.finish();
    }
}

/// The whole cluster of the design's targets.
fn full(c: &mut Criterion) {
    let cluster = Cluster::new(1000, 100_000, 10_000);
    let (compiler, image) = compile(&cluster);
    let (stats, size) = (compiler.stats(), image.size());
    println!("policy/full compile: {stats:?}");
    println!(
        "policy/image memory: {size:?}, {} bytes in all, {} encoded",
        size.total(),
        image.encode().len()
    );
    drop((compiler, image));
    let mut group = c.benchmark_group("policy/full compile");
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function("10000 policies, 100000 pods", |b| b.iter(|| compile(black_box(&cluster)).1));
    group.finish();
}

/// Changes to that cluster; each measurement goes there and back, so that it can be repeated.
fn changes(c: &mut Criterion) {
    let cluster = Cluster::new(1000, 100_000, 10_000);
    let (mut compiler, mut image) = compile(&cluster);
    let mut group = c.benchmark_group("policy/change");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    let mut there = false;
    let address = Ipv4Addr::new(10, 255, 0, 1);

    let added = pod("ns500", "app3-added", "app3", address, None);
    group.bench_function("pod added or removed", |b| {
        b.iter(|| {
            there = !there;
            if there {
                compiler.set_pod(added.clone());
            } else {
                compiler.remove_pod(&added.name);
            }
            image = compiler.update().expect("within the limits");
        });
    });
    let kinds = [3, 4].map(|app| pod("ns500", "app3-added", &format!("app{app}"), address, None));
    group.bench_function("pod relabelled", |b| {
        b.iter(|| {
            there = !there;
            compiler.set_pod(kinds[usize::from(there)].clone());
            image = compiler.update().expect("within the limits");
        });
    });
    // A combination of labels that no pod had: a new column in every rulebook that allows it.
    let mut round = 0;
    group.bench_function("pod of a new kind", |b| {
        b.iter(|| {
            round += 1;
            let kind = format!("app{}", round % 10);
            compiler.set_pod(pod(
                &format!("ns{}", round % 1000),
                "new-kind",
                &kind,
                address,
                Some(("tier", ["web", "batch"][round % 2])),
            ));
            image = compiler.update().expect("within the limits");
            compiler.remove_pod(&ObjectName::new(format!("ns{}", round % 1000), "new-kind"));
        });
    });
    policy_changes(&mut group, &mut compiler, &mut image);
    group.finish();
}

fn policy_changes(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    compiler: &mut Compiler,
    image: &mut Image,
) {
    let mut there = false;
    for (name, variants) in cluster::changed("ns500") {
        group.bench_function(name, |b| {
            b.iter(|| {
                there = !there;
                compiler.set_policy(variants[usize::from(there)].clone());
                *image = compiler.update().expect("within the limits");
            });
        });
    }
}

criterion_group!(benches, verdicts, full, changes);
criterion_main!(benches);
