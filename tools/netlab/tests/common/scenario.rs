//! What happens in a lab, chosen at random: connections, their ends, policies, pods that come and go.

use heddle_netlab::Random;

/// Those who talk: pods on two nodes, one of which comes and goes, and the nodes themselves.
pub(crate) const ACTORS: [&str; 6] = ["n1p1", "n1p2", "n1p3", "n2p1", "n1", "n2"];
/// The pod that comes and goes, by its index among the actors.
pub(crate) const COMES_AND_GOES: usize = 2;
/// The first actor that is a node.
const FIRST_NODE: usize = 4;

/// Policies, of which one is in force at a time. Nothing is allowed to a pod of the first two that it does not say.
pub(crate) const POLICIES: [&str; 5] = [
    "",
    "spec: {podSelector: {matchLabels: {pod: n1p2}}, policyTypes: [Ingress]}",
    "spec: {podSelector: {matchLabels: {pod: n2p1}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {pod: n1p1}}}]}]}",
    "spec: {podSelector: {matchLabels: {pod: n1p1}}, policyTypes: [Egress], egress: [{ports: [{protocol: TCP, port: 8000}]}]}",
    "spec: {podSelector: {matchLabels: {pod: n1p3}}, policyTypes: [Ingress, Egress], ingress: [{ports: [{protocol: UDP, port: 4000}]}]}",
];

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) v6: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// One end closes, the other goes on.
    Half,
    /// One end closes, then the other.
    Both,
    Reset,
}

/// One thing that happens. Connections have numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Connect(u16, Way),
    /// From here on, datagrams may go this way and back.
    Bind(u16, Way),
    /// So many messages there and back.
    Exchange(u16, u64),
    /// So many bytes one way.
    Bulk(u16, u64),
    Close(u16, Closing),
    Ping(u16, Way),
    /// The policy of this index is in force.
    Policy(usize),
    /// The pod that comes and goes is replaced, by one with its addresses or with others.
    Replace {
        same_addresses: bool,
    },
    /// Milliseconds.
    Idle(u64),
}

impl Step {
    /// After this, everything is tried.
    pub(crate) fn changes_what_is_allowed(&self) -> bool {
        matches!(self, Self::Policy(_) | Self::Replace { .. })
    }
}

pub(crate) fn scenario(seed: u64, length: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let (mut steps, mut open, mut policy) = (Vec::new(), Vec::new(), 0);
    for id in (1..).take(length) {
        let way = way(&mut random);
        let step = match random.below(20) {
            0..4 => Step::Connect(id, way),
            4..6 => Step::Bind(id, way),
            6 => Step::Ping(id, way),
            7..9 => {
                // Another one than now.
                policy = (policy + 1 + random.below(POLICIES.len() as u64 - 1) as usize) % POLICIES.len();
                Step::Policy(policy)
            }
            9 => Step::Replace { same_addresses: random.below(3) > 0 },
            10 => Step::Idle(200 + random.below(1500)),
            _ if open.is_empty() => Step::Connect(id, way),
            choice => {
                let at = random.below(open.len() as u64) as usize;
                match choice {
                    11..13 => {
                        let how = [Closing::Half, Closing::Both, Closing::Both, Closing::Reset];
                        Step::Close(open.swap_remove(at), *random.choose(&how))
                    }
                    13..15 => Step::Bulk(open[at], 1 << (10 + random.below(12))),
                    _ => Step::Exchange(open[at], 1 + random.below(60)),
                }
            }
        };
        if let Step::Connect(id, _) | Step::Bind(id, _) = step {
            open.push(id);
        }
        steps.push(step);
    }
    steps
}

/// Between two nodes nothing passes a switch.
fn way(random: &mut Random) -> Way {
    loop {
        let [from, to] = [0, 0].map(|_| random.below(ACTORS.len() as u64) as usize);
        let v6 = random.below(2) == 1;
        if from != to && from.min(to) < FIRST_NODE {
            return Way { from, to, v6 };
        }
    }
}

/// All ways between pods.
pub(crate) fn all_ways() -> Vec<Way> {
    let pods = 0..FIRST_NODE;
    let pairs =
        pods.clone().flat_map(|from| pods.clone().map(move |to| (from, to))).filter(|(from, to)| from != to);
    pairs.flat_map(|(from, to)| [false, true].map(|v6| Way { from, to, v6 })).collect()
}
