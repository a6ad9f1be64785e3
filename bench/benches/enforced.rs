//! What enforcing policy adds to the pipeline, per packet. `bench/README.md` says what the numbers mean.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heddle_bench::packets;
use heddle_bench::rig::{NODES, PODS, Rig, Underlay, local_pod, pod_mac, remote_pod, tables};
use heddle_image::{Bitmap, PeerClass, PolicyClass, PolicyClassNumber, PortTable, Row, Rows, Rulebook};
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::{EndpointPolicy, Tables};
use heddle_xsk::BATCH;

/// Bytes from the Ethernet header on.
const LEN: usize = 64;

/// Connections in use at the same time: as many as a batch has packets, and as many as leave no cache warm.
const CONNECTIONS: [u32; 2] = [BATCH as u32, 100_032];

/// Puts all pods under a policy: peer class 1, any port, both directions.
fn enforce(tables: &mut Tables) {
    let mut peers = Bitmap::default();
    peers.insert(1);
    let book = Rulebook { ports: PortTable::new(&[(0, 0)]), rows: Rows::new(&[Row::Classes(peers)]) };
    let class = PolicyClass { ingress: book.clone(), egress: book };
    tables.policy.image.policy_classes.set(0, Arc::new(class));
    let remote = (0..NODES).map(|node| remote_pod(node, 7));
    for address in (1..=PODS).map(local_pod).chain(remote).flatten() {
        tables.policy.image.set_pod(address, PeerClass(1));
    }
    for number in 1..=PODS {
        let endpoint = tables.endpoints.get(number).cloned();
        let policy = EndpointPolicy::Class(PolicyClassNumber(0));
        tables.endpoints.set(number, heddle_switch::tables::Endpoint { policy, ..endpoint.expect("a pod") });
    }
}

/// Batches of packets from pod 1, one packet of each connection, in an order that no prefetcher foresees.
fn batches(family: usize, connections: u32, target: impl Fn(u32) -> SocketAddr) -> Vec<Vec<Vec<u8>>> {
    let macs = (pod_mac(1), Tables::default().node.gateway_mac);
    let packet = |n: u32| {
        // An odd multiplier permutes the numbers below a power of two; those too large are left out.
        let from = SocketAddr::new(local_pod(1)[family], 1024 + (n % 60_000) as u16);
        packets::udp(macs, from, target(n / 60_000 + 2), LEN)
    };
    let scattered = (0..1 << 17).map(|n: u32| n.wrapping_mul(0x9e37_79b1) & 0x1_ffff);
    let packets: Vec<_> = scattered.filter(|n| *n < connections).map(packet).collect();
    packets.chunks(BATCH).map(<[Vec<u8>]>::to_vec).collect()
}

/// One rig with policy and one without, fed the same packets in turns.
struct Pair {
    open: Rig,
    enforced: Rig,
    batches: Vec<Vec<Vec<u8>>>,
    next: usize,
}

impl Pair {
    fn new(batches: Vec<Vec<Vec<u8>>>) -> Self {
        let open = tables(Underlay::V4);
        let mut enforced = open.clone();
        enforce(&mut enforced);
        let rig = |tables| Rig::new(tables, Ingress::Endpoint(1));
        let mut pair = Self { open: rig(open), enforced: rig(enforced), batches, next: 0 };
        // From here on every packet is of a connection that is known.
        for _ in 0..pair.batches.len() {
            pair.turn(false);
        }
        pair
    }

    /// How much longer one batch takes with policy than without; negative when noise is larger.
    fn turn(&mut self, judge_again: bool) -> i64 {
        let batch = &self.batches[self.next];
        self.next = (self.next + 1) % self.batches.len();
        if judge_again {
            self.enforced.tables_mut().policy.generation += 1;
        }
        let time = |rig: &mut Rig| {
            rig.load(batch);
            let start = Instant::now();
            rig.forward();
            let time = start.elapsed();
            assert_eq!(rig.unload(), BATCH, "all packets pass, but: {:?}", rig.drops());
            time.as_nanos() as i64
        };
        let open = time(&mut self.open);
        time(&mut self.enforced) - open
    }
}

fn measure(c: &mut Criterion, name: &str, connections: u32, judge_again: bool, mut pair: Pair) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(BenchmarkId::from_parameter(connections), |b| {
        b.iter_custom(|turns| {
            let added: i64 = (0..turns).map(|_| pair.turn(judge_again)).sum();
            // Criterion cannot do with nothing.
            Duration::from_nanos(u64::try_from(added).unwrap_or_default().max(1))
        });
    });
    group.finish();
}

fn enforced(c: &mut Criterion) {
    for connections in CONNECTIONS {
        for (family, version) in [(0, "v4"), (1, "v6")] {
            // One end is here: the sender's.
            let one_end =
                || batches(family, connections, |n| SocketAddr::new(remote_pod(n * 97, 7)[family], 80));
            // Both ends are here, at one worker.
            let both_ends = || batches(family, connections, |n| SocketAddr::new(local_pod(n)[family], 80));
            let known = format!("added_by_known_connection_{version}");
            measure(c, &known, connections, false, Pair::new(one_end()));
            let both = format!("added_by_known_connection_at_both_ends_{version}");
            measure(c, &both, connections, false, Pair::new(both_ends()));
            let again = format!("added_by_connection_judged_again_{version}");
            measure(c, &again, connections, true, Pair::new(one_end()));
        }
    }
}

criterion_group!(benches, enforced);
criterion_main!(benches);
