//! The connection table: a packet of an established connection among 100,000, with its key hashed on the way.
//!
//! `hit` takes one packet after the other, `batch` warms 64 at a time as the pipeline does. Packets come from
//! connections picked at random, so hardly any line is in the cache already: the worst case, since real traffic prefers
//! few connections. `few` is the other end, where all entries are in the cache and only the work is left.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heddle_switch::tables::conntrack::{
    Connections, Direction, FlowKey, FragmentKey, Fragments, Outcome, Packet, Probe, Role, Segment, Side,
    Tick, flags,
};

const BATCH: usize = 64;
const TCP: u8 = 6;
/// Packets in one pass; a power of two, and many times the cache.
const PACKETS: usize = 1 << 17;

fn key(number: u32, v6: bool) -> FlowKey {
    let (source, destination) = if v6 {
        let of = |net: u128| IpAddr::V6(Ipv6Addr::from_bits((net << 64) | u128::from(number % 5000)));
        (of(0xfd00_0010_0244_0001), of(0xfd00_0010_0244_0002))
    } else {
        let of = |net: u32| IpAddr::V4(Ipv4Addr::from_bits(net | (number % 5000)));
        (of(0x0af4_0000), of(0x0af5_0000))
    };
    let source_port = 10_000 + (number / 5000) as u16;
    FlowKey { source, destination, source_port, destination_port: 80, protocol: TCP, role: Role::Any }
}

fn now() -> Tick {
    Tick::at(Duration::from_secs(5))
}

fn segment(flags: u8, sequence: u32, acknowledgement: u32) -> Packet {
    let segment = Segment { sequence, acknowledgement, payload: 0, window: 60_000, flags, scale: None };
    Packet { bytes: 60, segment: Some(segment) }
}

/// A table of established TCP connections, one for each of `flows`.
fn established(capacity: usize, flows: &[FlowKey]) -> Connections {
    let mut table = Connections::new(capacity);
    for (number, flow) in flows.iter().enumerate() {
        let endpoint = number as u32 % 1000;
        let probe = table.probe(endpoint, Side::Egress, flow);
        table.open(now(), &probe, &segment(flags::SYN, 0, 0), Direction::Original, 1);
        let back = table.probe(endpoint, Side::Ingress, &flow.reverse());
        table.track(now(), &back, &segment(flags::SYN | flags::ACK, 0, 1));
        table.track(now(), &probe, &segment(flags::ACK, 1, 1));
    }
    table
}

/// A stream of (flow, endpoint), each picked at random (xorshift64).
fn picks(flows: &[FlowKey]) -> Vec<(FlowKey, u32)> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % flows.len()
    };
    (0..PACKETS).map(|_| next()).map(|number| (flows[number], number as u32 % 1000)).collect()
}

fn hits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conntrack");
    group.throughput(Throughput::Elements(PACKETS as u64));
    group.sample_size(20);
    let packet = segment(flags::ACK, 1, 1);
    for (name, count, v6) in [
        ("few/v4", 500, false),
        ("100k/v4", 100_000, false),
        ("100k/v6", 100_000, true),
        ("1M/v4", 1_000_000, false),
    ] {
        let flows: Vec<_> = (0..count).map(|number| key(number, v6)).collect();
        let mut table = established(flows.len(), &flows);
        assert!(table.flows(now(), 0..flows.len()).all(|flow| flow.state.is_established()));
        let stream = picks(&flows);
        group.bench_function(format!("hit/{name}"), |bencher| {
            bencher.iter(|| {
                for (flow, endpoint) in &stream {
                    let probe = table.probe(*endpoint, Side::Egress, flow);
                    let outcome = table.track(now(), &probe, &packet);
                    assert!(matches!(black_box(outcome), Outcome::Known(known) if known.judged_at() == 1));
                }
            });
        });
        let mut probes: Vec<Probe> = Vec::with_capacity(BATCH);
        group.bench_function(format!("batch/{name}"), |bencher| {
            bencher.iter(|| {
                for batch in stream.chunks(BATCH) {
                    probes.clear();
                    let hash = |(flow, endpoint): &(FlowKey, u32)| table.probe(*endpoint, Side::Egress, flow);
                    probes.extend(batch.iter().map(hash));
                    table.warm(&mut probes);
                    for probe in &probes {
                        let outcome = table.track(now(), probe, &packet);
                        assert!(
                            matches!(black_box(outcome), Outcome::Known(known) if known.judged_at() == 1)
                        );
                    }
                }
            });
        });
    }
    group.finish();
}

/// New connections into a full table: each pushes out the longest idle half-open one.
fn flood(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conntrack");
    group.throughput(Throughput::Elements(1));
    let mut table = Connections::new(100_000);
    let mut number = 0;
    let syn = segment(flags::SYN, 0, 0);
    group.bench_function("open/full", |bencher| {
        bencher.iter(|| {
            number += 1;
            let probe = table.probe(number, Side::Egress, &key(number, false));
            assert!(matches!(table.track(now(), &probe, &syn), Outcome::New));
            table.open(now(), &probe, &syn, Direction::Original, 1);
        });
    });
    let mut fragments = Fragments::new(4096);
    group.bench_function("fragment", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            let FlowKey { source, destination, protocol, .. } = key(number, false);
            let fragment = FragmentKey { source, destination, protocol, identification: number };
            fragments.decide(now(), 1, Side::Egress, &fragment, true);
            fragments.find(now(), 1, Side::Egress, &fragment)
        });
    });
    group.finish();
}

criterion_group!(benches, hits, flood);
criterion_main!(benches);
