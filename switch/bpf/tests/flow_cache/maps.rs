//! The map of flows refuses what it has no room for, never evicts, and is read through without missing what stays.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heddle_bpf::{FlowCache, FlowCacheError, FlowCacheOptions, FlowKey, Inserted, Rewrite, Side, Steering};

use crate::bench::{POD_ONE, POD_TWO, bench, flow};
use crate::common::{BPFFS, sandbox};
use crate::sample::{SAMPLES, Sample};

fn keys(count: u32) -> Vec<FlowKey> {
    (0..count)
        .map(|number| {
            let sample = SAMPLES[number as usize % 4];
            let port = (number / 4) as u16;
            FlowKey { source_port: port, ifindex: 1 + number / 4 / 65_536, ..sample.key(1) }
        })
        .collect()
}

fn with_flows(flows: u32, test: impl FnOnce(heddle_bpf::Flows) + Send + 'static) {
    sandbox(move || {
        let steering = Steering::open(BPFFS.as_ref()).unwrap();
        let cache = FlowCache::open(&steering, &FlowCacheOptions { flows, hook: None }).unwrap();
        test(cache.flows());
    });
}

#[test]
fn a_full_map_refuses_and_never_evicts() {
    with_flows(1000, |flows| {
        assert_eq!(flows.capacity(), 1000);
        let all = keys(1100);
        let entries: Vec<_> = all.iter().map(|key| (*key, flow(POD_ONE, POD_TWO))).collect();
        let inserted = flows.insert(&entries).unwrap();
        assert!(inserted[..1000].iter().all(|result| *result == Inserted::Yes));
        assert!(inserted[1000..].iter().all(|result| *result == Inserted::Full));
        // An old one is there, even though there is no room.
        assert_eq!(flows.insert(&entries[..1]).unwrap(), [Inserted::Already]);
        for (number, key) in all.iter().enumerate() {
            assert_eq!(flows.read(key).unwrap().is_some(), number < 1000, "{number}");
        }
        // What is removed makes room for as many.
        assert!(flows.remove(&all[..10]).unwrap().iter().all(Option::is_some));
        let inserted = flows.insert(&entries[1000..1020]).unwrap();
        assert_eq!(inserted.iter().filter(|result| **result == Inserted::Yes).count(), 10);
    });
}

#[test]
fn flows_are_read_as_they_were_written() {
    with_flows(100, |flows| {
        for (number, sample) in SAMPLES.into_iter().enumerate() {
            for rewrite in [
                None,
                Some(Rewrite { side: Side::Source, address: sample.addresses()[1], port: 1 }),
                Some(Rewrite { side: Side::Destination, address: sample.addresses()[0], port: 65_535 }),
            ] {
                let mut written = flow(POD_ONE, POD_TWO);
                written.rewrite = rewrite;
                written.original = number % 2 == 0;
                written.fence = 0xfffe;
                written.from.hop = 0xffff;
                written.to.generation = u32::MAX;
                let key = sample.key(u32::MAX);
                assert_eq!(flows.insert(&[(key, written)]).unwrap(), [Inserted::Yes]);
                let (read, used) = flows.read(&key).unwrap().unwrap();
                assert_eq!(read, written);
                assert_eq!(
                    (used.packets, used.bytes, used.last_seen, used.open),
                    (0, 0, Duration::ZERO, true)
                );
                let mut seen = Vec::new();
                flows.scan(|key, flow, used| seen.push((key, flow, used))).unwrap();
                assert_eq!(seen, [(key, read, used)]);
                assert_eq!(flows.remove(&[key]).unwrap(), [Some(used)]);
                // Not open, it is read with no time left.
                written.pending_for = Duration::from_secs(1);
                flows.insert(&[(key, written)]).unwrap();
                let (read, used) = flows.read(&key).unwrap().unwrap();
                written.pending_for = Duration::ZERO;
                assert_eq!((read, used.open), (written, false));
                flows.remove(&[key]).unwrap();
            }
        }
    });
}

#[test]
fn mixed_families_and_other_protocols_are_refused() {
    with_flows(100, |flows| {
        let [v4, v6] = [false, true].map(|v6| Sample { v6, tcp: true }.key(1));
        let rewrite = |address: IpAddr| Some(Rewrite { side: Side::Source, address, port: 1 });
        for (key, rewrite) in [
            (FlowKey { destination: v6.destination, ..v4 }, None),
            (FlowKey { destination: v4.destination, ..v6 }, None),
            (v4, rewrite(v6.source)),
            (v6, rewrite(v4.source)),
            (FlowKey { protocol: 1, ..v4 }, None),
        ] {
            let mut flow = flow(POD_ONE, POD_TWO);
            flow.rewrite = rewrite;
            let result = flows.insert(&[(key, flow)]);
            assert!(matches!(result, Err(FlowCacheError::Impossible(_))), "{key:?}");
        }
    });
}

#[test]
fn a_scan_sees_everything_once() {
    // Well over a batch, and a map so full that buckets are cut by the ends of batches.
    with_flows(20_000, |flows| {
        let all = keys(20_000);
        let entries: Vec<_> = all.iter().map(|key| (*key, flow(POD_ONE, POD_TWO))).collect();
        assert!(flows.insert(&entries).unwrap().iter().all(|result| *result == Inserted::Yes));
        let mut seen = Vec::new();
        flows.scan(|key, _, _| seen.push(key)).unwrap();
        assert_eq!(seen.len(), all.len());
        assert_eq!(seen.into_iter().collect::<HashSet<_>>(), all.into_iter().collect());
    });
}

#[test]
fn a_scan_misses_nothing_that_stays_while_others_come_and_go() {
    with_flows(20_000, |flows| {
        let all = keys(20_000);
        let entries: Vec<_> = all.iter().map(|key| (*key, flow(POD_ONE, POD_TWO))).collect();
        let (stay, go) = entries.split_at(10_000);
        flows.insert(stay).unwrap();
        let stop = AtomicBool::new(false);
        let go_keys: Vec<_> = go.iter().map(|(key, _)| *key).collect();
        let other = flows.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    other.insert(go).unwrap();
                    other.remove(&go_keys).unwrap();
                }
            });
            for _ in 0..20 {
                let mut seen = HashSet::new();
                flows
                    .scan(|key, _, _| {
                        seen.insert(key);
                    })
                    .unwrap();
                assert!(stay.iter().all(|(key, _)| seen.contains(key)));
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn impossible_requests_are_refused() {
    bench(|bench| {
        let impossible = |result: Result<(), FlowCacheError>| {
            assert!(matches!(result, Err(FlowCacheError::Impossible(_))), "{result:?}");
        };
        impossible(bench.cache.set_hop(65_536, 1, None));
        impossible(bench.cache.set_trunk(256, 1));
        impossible(bench.cache.set_peer([172, 31, 0, 2].into(), 65_536));
        let mut settings = crate::bench::settings();
        settings.vni = 1 << 24;
        impossible(bench.cache.set_settings(&settings));
        settings.vni = 1;
        settings.trunks = 257;
        impossible(bench.cache.set_settings(&settings));
    });
}
