//! A node with two pods in namespaces of their own, and a worker that takes up and sends down over an AF_XDP socket.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use heddle_bpf::{
    Counters, Flow, FlowCache, FlowCacheOptions, FlowKey, Flows, Hook, Hop, Inserted, Outcome, Port, Role,
    Settings, Side, Steering,
};
use heddle_netdev::ethtool::{Offload, set_offload};
use heddle_xsk::{Arena, Options, Socket};

use crate::bench::{GATEWAY_MAC, MTU, POD_MACS, POD_ONE, POD_TWO, VNI, VTEP_MAC, ifindex};
use crate::common::{BPFFS, End, ip};
use crate::connection::{PATIENCE, Place};
use crate::namespace::Namespace;
use crate::sample::{V4, V6};
use crate::worker::{ends, forward};

/// How the worker sends on a packet to a destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) hop: u32,
    /// As the flow's.
    pub(crate) rewrite: Option<(Side, SocketAddr)>,
}

/// Routes by the packet's addresses and ports, source and destination; without ports by destination address.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) by_destination: HashMap<IpAddr, u32>,
    pub(crate) rewrites: HashMap<(SocketAddr, SocketAddr), Route>,
}

pub(crate) struct Node {
    pub(crate) pods: [Namespace; 2],
    pub(crate) cache: Option<FlowCache>,
    pub(crate) flows: Flows,
    pub(crate) routes: Arc<Mutex<Routes>>,
    /// Packets that the worker did not send on.
    pub(crate) strays: Arc<Mutex<Vec<Vec<u8>>>>,
    steering: Option<Steering>,
    hook: Option<Hook>,
    worker: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// How many packets the worker sent on, by source and destination.
    sent_on: Arc<Mutex<HashMap<(SocketAddr, SocketAddr), u64>>>,
}

/// The pods as ends of connections.
pub(crate) const PODS: [Place; 2] =
    [Place { party: POD_ONE, interface: "fc-pod1" }, Place { party: POD_TWO, interface: "fc-pod2" }];

/// Interfaces with programs, and which.
pub(crate) const INTERFACES: [(&str, Role); 3] =
    [("fc-pod1", Role::Endpoint), ("fc-pod2", Role::Endpoint), ("fc-trunk", Role::Trunk)];

pub(crate) fn pod_addresses(v6: bool) -> [IpAddr; 2] {
    if v6 { V6.map(Into::into) } else { V4.map(Into::into) }
}

pub(crate) fn settings() -> Settings {
    let (gateway_mac, vtep_mac) = (GATEWAY_MAC, VTEP_MAC);
    Settings { gateway_mac, vtep_mac, vni: VNI, vxlan: None, local: None, trunks: 1 }
}

/// To be called in a sandbox.
pub(crate) fn node(hook: Option<Hook>) -> Node {
    ip(
        "link add fc-trunk numrxqueues 1 numtxqueues 1 type veth peer name fc-trunk-sw numrxqueues 1 numtxqueues 1",
    );
    let pods = [0, 1].map(add_pod);
    for interface in ["fc-trunk", "fc-trunk-sw"] {
        heddle_netdev::sysctl::set_ipv6_enabled(interface, false).unwrap();
        ip(&format!("link set {interface} up"));
    }
    // What goes up is complete and in segments.
    set_offload("fc-trunk", Offload::TxChecksum, false).unwrap();
    let steering = Steering::open(BPFFS.as_ref()).unwrap();
    let cache = FlowCache::open(&steering, &FlowCacheOptions { flows: 1000, hook }).unwrap();
    let mut node = Node {
        pods,
        flows: cache.flows(),
        cache: Some(cache),
        routes: Arc::default(),
        strays: Arc::default(),
        steering: Some(steering),
        hook,
        worker: None,
        stop: Arc::default(),
        sent_on: Arc::default(),
    };
    node.configure();
    node.attach();
    node.start_worker();
    node
}

/// A pod as the plugin makes it, with offloads on.
fn add_pod(number: usize) -> Namespace {
    let host = format!("fc-pod{}", number + 1);
    let pod = Namespace::new();
    ip(&format!("link add {host} type veth peer name fc-eth{number}"));
    heddle_netdev::sysctl::set_ipv6_enabled(&host, false).unwrap();
    pod.take(&format!("fc-eth{number}"));
    let mac = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
    let (own, gateway, v4, v6) = (mac(POD_MACS[number]), mac(GATEWAY_MAC), V4[number], V6[number]);
    pod.ip(&format!(
        "link set fc-eth{number} name eth0 address {own}
         link set eth0 up
         address add {v4}/32 dev eth0
         address add {v6}/128 dev eth0 nodad
         route add 169.254.1.1 dev eth0 scope link
         route add default via 169.254.1.1 dev eth0
         -6 route add default via fe80::1 dev eth0
         neigh add 169.254.1.1 lladdr {gateway} nud permanent dev eth0
         neigh add fe80::1 lladdr {gateway} nud permanent dev eth0"
    ));
    ip(&format!("link set {host} up"));
    pod
}

impl Node {
    fn configure(&mut self) {
        let cache = self.cache.as_ref().unwrap();
        cache.set_settings(&settings()).unwrap();
        let trunk = ifindex("fc-trunk");
        cache.set_trunk(0, trunk).unwrap();
        for (number, party) in [POD_ONE, POD_TWO].into_iter().enumerate() {
            let (ifindex, mac) = (ifindex(INTERFACES[number].0), POD_MACS[number]);
            cache
                .set_hop(
                    party.hop,
                    party.generation,
                    Some(Hop::Endpoint { ifindex, queued: false, mtu: MTU, mac }),
                )
                .unwrap();
            cache.set_port(ifindex, Port { hop: party.hop, trunk, mac: Some(mac) }).unwrap();
            let mut routes = self.routes.lock().unwrap();
            for v6 in [false, true] {
                routes.by_destination.insert(pod_addresses(v6)[number], party.hop);
            }
        }
    }

    fn attach(&mut self) {
        for (interface, role) in INTERFACES {
            let hook = self.cache.as_mut().unwrap().attach(interface, role).unwrap();
            // This kernel has tcx.
            assert_eq!(hook, self.hook.unwrap_or(Hook::Tcx));
        }
    }

    fn start_worker(&mut self) {
        let arena = Arena::umem(1024, 2048).unwrap();
        let socket = Socket::bind(&arena, "fc-trunk-sw", 0, Options::default()).unwrap();
        self.steering.as_mut().unwrap().attach_port("fc-trunk-sw", socket.as_fd()).unwrap();
        let mut end = End::new(&arena, socket);
        let (routes, strays) = (Arc::clone(&self.routes), Arc::clone(&self.strays));
        let (stop, sent_on) = (Arc::clone(&self.stop), Arc::clone(&self.sent_on));
        self.worker = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let frames = end.receive();
                if frames.is_empty() {
                    std::thread::yield_now();
                    continue;
                }
                let routes = routes.lock().unwrap();
                let mut down = Vec::new();
                for frame in frames {
                    match forward(&routes, frame.clone()) {
                        Some(changed) => {
                            *sent_on.lock().unwrap().entry(ends(&frame).unwrap()).or_default() += 1;
                            down.push(changed);
                        }
                        None => strays.lock().unwrap().push(frame),
                    }
                }
                end.send(&down);
            }
        }));
    }

    /// The switch is gone, as if killed: no worker, no handles.
    pub(crate) fn kill_switch(&mut self) {
        self.stop_worker();
        drop((self.cache.take(), self.steering.take()));
    }

    /// A new switch takes over.
    pub(crate) fn start_switch(&mut self) {
        let steering = Steering::open(BPFFS.as_ref()).unwrap();
        let options = FlowCacheOptions { flows: self.flows.capacity(), hook: self.hook };
        let cache = FlowCache::open(&steering, &options).unwrap();
        self.flows = cache.flows();
        self.steering = Some(steering);
        self.cache = Some(cache);
        self.attach();
        self.stop = Arc::default();
        self.start_worker();
    }

    fn stop_worker(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let result = worker.join();
            assert!(std::thread::panicking() || result.is_ok(), "the worker panicked");
        }
    }

    /// Waits for a packet that the worker did not send on, other than what Linux says on its own.
    pub(crate) fn await_stray(&self, is_it: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut strays = self.strays.lock().unwrap();
            if let Some(at) = strays.iter().position(|stray| is_it(stray)) {
                return strays.swap_remove(at);
            }
            drop(strays);
            assert!(Instant::now() < deadline, "it does not come up");
            std::thread::yield_now();
        }
    }

    /// Waits until an outcome was counted so often.
    pub(crate) fn await_count(&self, outcome: Outcome, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(outcome) < count {
            assert!(Instant::now() < deadline, "{outcome:?} is {}, not {count}", self.count(outcome));
            std::thread::yield_now();
        }
        assert_eq!(self.count(outcome), count, "{outcome:?}");
    }

    /// How many packets of flows the worker has sent on.
    pub(crate) fn sent_on(&self, keys: &[FlowKey]) -> u64 {
        let sent_on = self.sent_on.lock().unwrap();
        let ends = |key: &FlowKey| {
            (
                SocketAddr::new(key.source, key.source_port),
                SocketAddr::new(key.destination, key.destination_port),
            )
        };
        keys.iter().filter_map(|key| sent_on.get(&ends(key))).sum()
    }

    pub(crate) fn cache(&mut self) -> &mut FlowCache {
        self.cache.as_mut().unwrap()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.cache.as_ref().unwrap().counters().unwrap()
    }

    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.counters().get(outcome)
    }

    pub(crate) fn insert(&self, key: FlowKey, flow: Flow) {
        assert_eq!(self.flows.insert(&[(key, flow)]).unwrap(), [Inserted::Yes]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop_worker();
    }
}
