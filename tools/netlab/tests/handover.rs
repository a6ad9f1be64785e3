//! Thousands of connections of all sizes, whose flows go from the switch to the kernel, arrive unchanged, and that loses nothing and
//! lets nothing overtake. Most flows go there with the answer to the SYN; those that do so in the middle have a fence, which
//! `switch/bpf/tests` hold to its word.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{TestLab, seed};
use heddle_netlab::{AttachMode, Lab, LabSpec, Pod, Swarm, TcpCounters};

/// Of a round.
const CONNECTIONS: u64 = 1500;
const AT_ONCE: u64 = 4;
/// A busy machine may drop or reorder packets by itself, in any network. What the move does wrong it does in every round.
const ROUNDS: usize = 4;

/// Drops that have nothing to do with TCP: the kernels' own solicitations.
const OTHERS: [&str; 2] = ["multicast", "nd_unanswered"];

/// What a round has come to.
#[derive(Debug)]
struct Round {
    /// Flows that were handed over.
    flows: u64,
    tcp: TcpCounters,
    dropped: BTreeMap<String, u64>,
}

/// Everything that may have dropped a packet, and how many it did.
fn drops(lab: &Lab) -> BTreeMap<String, u64> {
    let state = lab.state();
    let nodes: Vec<_> = state.nodes.iter().map(|node| lab.node(&node.name.to_string()).unwrap()).collect();
    let pods = state.pods.iter().map(|pod| lab.pod(&pod.name.to_string()).unwrap().namespace);
    let namespaces = pods.chain(nodes.iter().map(|node| node.namespace)).chain([lab.world()]);
    let mut drops = BTreeMap::new();
    for namespace in namespaces {
        drops.extend(namespace.interface_drops().unwrap());
    }
    for node in nodes {
        let of_switch = node.control().unwrap().drops().unwrap();
        let of_switch = of_switch.into_iter().filter(|drop| !OTHERS.contains(&drop.reason.as_str()));
        drops.extend(of_switch.map(|drop| (format!("{} {}", node.state.name, drop.reason), drop.packets)));
    }
    drops
}

/// Sums over the pods of the lab.
fn tcp(lab: &Lab) -> TcpCounters {
    let pods = lab.state().pods.into_iter().map(|pod| lab.pod(&pod.name.to_string()).unwrap());
    pods.fold(TcpCounters::default(), |sum, pod| sum + pod.namespace.tcp_counters().unwrap())
}

fn flows(lab: &Lab) -> u64 {
    let nodes = lab.state().nodes.into_iter().map(|node| lab.node(&node.name.to_string()).unwrap());
    let caches =
        nodes.map(|node| node.control().unwrap().status().unwrap().flow_cache.expect("a cached node"));
    caches.map(|cache| cache.inserted).sum()
}

fn round(lab: &Lab, from: &Pod, to: &Pod, v6: bool, seed: u64) -> Round {
    let before = (flows(lab), tcp(lab), drops(lab));
    let swarm = Swarm { connections: CONNECTIONS / AT_ONCE, at_once: AT_ONCE, seed };
    swarm.run(&from.namespace, &to.namespace, to.address(v6).unwrap()).unwrap();
    let grown = drops(lab).into_iter().map(|(name, count)| {
        let old = before.2.get(&name).copied().unwrap_or_default();
        (name, count - old)
    });
    let dropped = grown.filter(|(_, count)| *count > 0).collect();
    let round = Round { flows: flows(lab) - before.0, tcp: tcp(lab) - before.1, dropped };
    println!("{} → {}, IPv6 {v6}: {round:?}", from.namespace, to.namespace);
    assert!(round.tcp.opened >= 2 * CONNECTIONS, "the connections are counted");
    assert!(round.flows > CONNECTIONS / 2, "flows are handed over");
    round
}

/// Repeats rounds until one has nothing that it should not have.
fn comes_out_clean(lab: &Lab, from: &str, to: &str) {
    let (from, to, seed) = (lab.pod(from).unwrap(), lab.pod(to).unwrap(), seed());
    let is_clean = |round: Round| {
        let Round { tcp, dropped, .. } = round;
        dropped.is_empty() && (tcp.out_of_order, tcp.retransmitted, tcp.timeouts) == (0, 0, 0)
    };
    for v6 in [false, true] {
        let mut rounds = (0..ROUNDS as u64).map(|number| round(lab, &from, &to, v6, seed + AT_ONCE * number));
        assert!(rounds.any(is_clean), "no round was clean");
    }
}

fn lab(nodes: u8, pods: u16) -> TestLab {
    let lab = TestLab::up(&LabSpec { mode: Some(AttachMode::Cached), ..LabSpec::new(nodes, pods) });
    for pod in lab.state().pods {
        lab.pod(&pod.name.to_string()).unwrap().namespace.set_plain_tcp().unwrap();
    }
    lab
}

#[test]
fn on_a_node_nothing_is_lost_or_overtaken() {
    comes_out_clean(&lab(1, 2), "n1p1", "n1p2");
}

#[test]
fn across_nodes_nothing_is_lost_or_overtaken() {
    comes_out_clean(&lab(2, 1), "n1p1", "n2p1");
}
