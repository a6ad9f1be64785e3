//! The FIB and the publication of snapshots, beside what could have been used instead.
//!
//! `lookup` is 64 lookups, over addresses in random order, so that the processor's caches hold what they hold in a switch. `change` is what the control thread pays to have one route changed in a table that workers look at: clone, insert,
//! free the old. `publish` compares ways to hand snapshots to workers. Memory is printed once, at the start.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use heddle_bench::typical;
use heddle_switch::tables::publish::Publisher;
use heddle_switch::tables::{Fib, NextHop};
use heddle_xsk::BATCH;
use ipnet::IpNet;

/// Hosts with a route of their own in each node's network; with the network's route, 20 routes a node.
const HOSTS: u32 = 19;
/// Addresses looked up in turn; a power of two.
const ADDRESSES: usize = 1 << 14;
const SIZES: [u32; 2] = [1_000, 100_000];

/// How addresses are laid out.
#[derive(Clone, Copy)]
enum Layout {
    /// A /24 of 10.0.0.0/8 a node.
    V4,
    /// A /64 a node, its pods numbered from 1, as Heddle's IPAM does.
    V6,
    /// A /64 a node, random interface identifiers (RFC 7217).
    V6Random,
}

const LAYOUTS: [(&str, Layout); 3] =
    [("v4", Layout::V4), ("v6", Layout::V6), ("v6_random", Layout::V6Random)];

/// A number that looks random, the same every time (splitmix64).
fn scatter(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl Layout {
    fn network(self, node: u32) -> IpNet {
        let len = if matches!(self, Self::V4) { 24 } else { 64 };
        IpNet::new_assert(self.host(node, 0), len).trunc()
    }

    /// The address of a host in a node's network. Different hosts below 128 have different addresses.
    fn host(self, node: u32, host: u32) -> IpAddr {
        let [_, high, mid, low] = node.to_be_bytes();
        let random = scatter(u64::from(node) << 32 | u64::from(host));
        let v6 = |identifier: u64| {
            let network = 0xfd00_0010_u128 << 96 | u128::from(node) << 64;
            IpAddr::from((network | u128::from(identifier)).to_be_bytes())
        };
        match self {
            // Every second number, as if half of the pods had come and gone.
            Self::V4 => IpAddr::from([10_u8.wrapping_add(high), mid, low, (host * 2 + 1) as u8]),
            Self::V6 => v6(u64::from(host * 2 + 1)),
            Self::V6Random => v6(random),
        }
    }

    /// The routes of a cluster: a default, and for each node its network and some hosts in it.
    fn routes(self, count: u32) -> Vec<(IpNet, NextHop)> {
        let everything = IpNet::new_assert(self.host(0, 0), 0).trunc();
        let mut routes = vec![(everything, NextHop::Endpoint(0))];
        for node in 0..count / (HOSTS + 1) {
            routes.push((self.network(node), NextHop::Vtep(node)));
            routes.extend((0..HOSTS).map(|host| (self.host(node, host).into(), NextHop::Endpoint(host))));
        }
        routes
    }

    /// Addresses in random order: half of them hosts with a route, half others of the nodes' networks.
    fn hits(self, count: u32) -> Vec<IpAddr> {
        let pick = |n| {
            let random = scatter(n);
            let node = (random >> 32) as u32 % (count / (HOSTS + 1));
            self.host(node, random as u32 % (2 * HOSTS))
        };
        (0..ADDRESSES as u64).map(pick).collect()
    }

    /// Addresses without a route, in the next network behind the cluster's.
    fn misses(self) -> Vec<IpAddr> {
        let outside = |n| self.host(0x40_0000 + (scatter(n) as u32 >> 12), scatter(n) as u32 % HOSTS);
        (0..ADDRESSES as u64).map(outside).collect()
    }
}

fn fib(routes: &[(IpNet, NextHop)]) -> Fib {
    let mut fib = Fib::default();
    for (prefix, next_hop) in routes {
        fib.insert(*prefix, *next_hop);
    }
    fib
}

/// The obvious alternative: one hash table for each length in use, tried from the longest.
#[derive(Clone, Default)]
struct HashPerLength(Vec<(u8, HashMap<IpAddr, NextHop, RandomState>)>);

impl HashPerLength {
    fn new(routes: &[(IpNet, NextHop)]) -> Self {
        let mut table = Self::default();
        for (prefix, next_hop) in routes {
            table.insert(*prefix, *next_hop);
        }
        table
    }

    fn insert(&mut self, prefix: IpNet, next_hop: NextHop) {
        let at =
            self.0.binary_search_by_key(&u8::MAX.wrapping_sub(prefix.prefix_len()), |(len, _)| u8::MAX - len);
        let at = at.unwrap_or_else(|at| {
            self.0.insert(at, (prefix.prefix_len(), HashMap::default()));
            at
        });
        self.0[at].1.insert(prefix.network(), next_hop);
    }

    fn lookup(&self, address: IpAddr) -> Option<NextHop> {
        self.0.iter().find_map(|(len, table)| {
            let prefix = IpNet::new(address, *len).ok()?;
            table.get(&prefix.network()).copied()
        })
    }
}

/// Time of 64 lookups, one behind the other, going through `addresses`.
fn bench_lookup(
    c: &mut Criterion,
    id: BenchmarkId,
    addresses: &[IpAddr],
    lookup: impl Fn(IpAddr) -> Option<NextHop>,
) {
    let mut batches = addresses.chunks_exact(BATCH).cycle();
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(id, |b| {
        b.iter_custom(|count| {
            typical(count, || {
                let batch = batches.next().unwrap_or_default();
                let start = Instant::now();
                for address in batch {
                    // A reference goes through the box: an address just stored, and loaded otherwise than stored, would stall.
                    black_box(lookup(*black_box(address)));
                }
                start.elapsed()
            })
        });
    });
}

fn lookup(c: &mut Criterion) {
    for (name, layout) in LAYOUTS {
        for size in SIZES {
            let routes = layout.routes(size);
            let (trie, hash, hits) = (fib(&routes), HashPerLength::new(&routes), layout.hits(size));
            assert!(
                hits.iter().all(|address| trie.lookup(*address) == hash.lookup(*address)),
                "{name}: they disagree"
            );
            bench_lookup(c, BenchmarkId::new(name, size), &hits, |address| trie.lookup(address));
            bench_lookup(c, BenchmarkId::new(format!("{name}_hash_per_length"), size), &hits, |a| {
                hash.lookup(a)
            });
            // Without the default route, so that it is a miss.
            let (trie, misses) = (fib(&routes[1..]), layout.misses());
            assert!(misses.iter().all(|address| trie.lookup(*address).is_none()), "{name}: a miss hits");
            bench_lookup(c, BenchmarkId::new(format!("{name}_miss"), size), &misses, |address| {
                trie.lookup(address)
            });
        }
    }
}

/// One host route changed, in a table of 100,000 that is in use.
fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    for (name, layout) in LAYOUTS {
        let routes = layout.routes(100_000);
        let mut next = 0;
        let mut prefix = || {
            next += 1;
            IpNet::from(layout.host(scatter(next) as u32 % 5_000, HOSTS + next as u32 % HOSTS))
        };
        let mut current = fib(&routes);
        group.bench_function(BenchmarkId::new("insert_and_free_old", name), |b| {
            b.iter(|| {
                let mut changed = current.clone();
                changed.insert(prefix(), NextHop::Endpoint(7));
                current = changed;
            });
        });
        group.bench_function(BenchmarkId::new("insert_then_remove", name), |b| {
            b.iter(|| {
                let (prefix, mut changed) = (prefix(), current.clone());
                changed.insert(prefix, NextHop::Endpoint(7));
                let mut restored = changed.clone();
                restored.remove(prefix);
                (changed, restored)
            });
        });
        group.bench_function(BenchmarkId::new("clone", name), |b| b.iter(|| current.clone()));
        let mut hash = HashPerLength::new(&routes);
        group.sample_size(10).bench_function(BenchmarkId::new("hash_per_length", name), |b| {
            b.iter(|| {
                let mut changed = hash.clone();
                changed.insert(prefix(), NextHop::Endpoint(7));
                hash = changed;
            });
        });
        group.sample_size(100);
    }
}

/// What a worker pays a batch when nothing changed, and what both sides pay together when something did.
fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    let (mut publisher, mut readers) = Publisher::new(1_u64, 1);
    let mut reader = readers.remove(0);
    group.bench_function("unchanged/heddle", |b| b.iter(|| black_box(*reader.refresh())));
    group.bench_function("changed/heddle", |b| {
        b.iter(|| {
            publisher.publish(black_box(2));
            black_box(*reader.refresh());
        });
    });
    group.bench_function("park_and_wake/heddle", |b| {
        b.iter(|| {
            reader.park();
            black_box(*reader.refresh())
        });
    });

    let swap = ArcSwap::from_pointee(1_u64);
    group.bench_function("unchanged/arc_swap", |b| b.iter(|| black_box(**swap.load())));
    group.bench_function("changed/arc_swap", |b| {
        b.iter(|| {
            swap.store(Arc::new(black_box(2)));
            black_box(**swap.load());
        });
    });
    let mut cache = arc_swap::Cache::new(&swap);
    group.bench_function("unchanged/arc_swap_cache", |b| b.iter(|| black_box(**cache.load())));
    group.bench_function("changed/arc_swap_cache", |b| {
        b.iter(|| {
            swap.store(Arc::new(black_box(2)));
            black_box(**cache.load());
        });
    });

    // To follow the pointer, and to free what it replaced, would take `unsafe`: so this is the entering alone, and
    // there is no "changed".
    let epoch = crossbeam_epoch::Atomic::new(1_u64);
    group.bench_function("unchanged/crossbeam_epoch", |b| {
        b.iter(|| {
            let guard = crossbeam_epoch::pin();
            black_box(epoch.load(Ordering::Acquire, &guard).is_null())
        });
    });
}

/// Bytes of memory the process has resident.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the kernel has /proc/self/statm");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second field is a number, see proc_pid_statm(5)") * 4096
}

fn memory(_: &mut Criterion) {
    // All kept to the end, or the later ones would be built in the memory of the earlier.
    let mut kept = Vec::new();
    for (name, layout) in LAYOUTS {
        let routes = layout.routes(100_000);
        let before = resident();
        kept.extend((0..10).map(|_| fib(&routes)));
        let each = (resident() - before) / 10;
        eprintln!(
            "memory/{name}: {} KiB for {} routes, {} bytes a route",
            each >> 10,
            routes.len(),
            each / routes.len()
        );
    }
}

criterion_group!(benches, memory, publish, change, lookup);
criterion_main!(benches);
