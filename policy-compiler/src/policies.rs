//! Policies with their rules cut into terms.

use heddle_image::Direction;

use crate::Map;
use crate::model::{ObjectName, Peer, Policy, PortMatch, PortNumbers, Rule};
use crate::terms::{PortName, Term, TermNumber, TermPeer, Terms};

/// Number of a policy; a changed policy gets another one.
pub(crate) type PolicyNumber = u32;

/// A rule in terms.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    /// A term a peer; None allows everyone.
    pub(crate) peers: Option<Vec<TermNumber>>,
    /// None allows every port.
    pub(crate) ports: Option<Vec<CompiledPort>>,
}

#[derive(Debug)]
pub(crate) struct CompiledPort {
    pub(crate) matches: PortMatch,
    /// Of a named port in an egress rule: a term for each peer, or one for every pod if the rule has no peers.
    pub(crate) named: Vec<TermNumber>,
}

#[derive(Debug)]
pub(crate) struct PolicyState {
    pub(crate) policy: Policy,
    ingress: Vec<CompiledRule>,
    egress: Vec<CompiledRule>,
}

impl PolicyState {
    pub(crate) fn rules(&self, direction: Direction) -> &[CompiledRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// True when the policy says something about the direction.
    pub(crate) fn applies(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.policy.ingress.is_some(),
            Direction::Egress => self.policy.egress.is_some(),
        }
    }

    /// The terms of one direction, as often as it uses them.
    pub(crate) fn terms(&self, direction: Direction) -> impl Iterator<Item = TermNumber> + '_ {
        self.rules(direction).iter().flat_map(|rule| {
            let named = rule.ports.iter().flatten().flat_map(|port| &port.named);
            rule.peers.iter().flatten().chain(named).copied()
        })
    }

    /// The names of ports that ingress rules use: resolved on the selected pods themselves.
    pub(crate) fn ingress_port_names(&self) -> impl Iterator<Item = PortName> + '_ {
        self.ingress
            .iter()
            .flat_map(|rule| rule.ports.iter().flatten())
            .filter_map(|port| port_name(&port.matches))
    }
}

/// All policies by number and by name.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    slots: Vec<Option<PolicyState>>,
    free: Vec<PolicyNumber>,
    numbers: Map<ObjectName, PolicyNumber>,
}

impl Policies {
    pub(crate) fn number(&self, name: &ObjectName) -> Option<PolicyNumber> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn get(&self, number: PolicyNumber) -> Option<&PolicyState> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Adds a policy under its name. An older one of that name keeps its number and is to be removed by it.
    pub(crate) fn insert(&mut self, policy: Policy, terms: &mut Terms) -> PolicyNumber {
        let namespace = &policy.name.namespace;
        let ingress = policy
            .ingress
            .iter()
            .flatten()
            .map(|rule| compile(rule, namespace, Direction::Ingress, terms))
            .collect();
        let egress = policy
            .egress
            .iter()
            .flatten()
            .map(|rule| compile(rule, namespace, Direction::Egress, terms))
            .collect();
        let name = policy.name.clone();
        let state = Some(PolicyState { policy, ingress, egress });
        let number = if let Some(number) = self.free.pop() {
            self.slots[number as usize] = state;
            number
        } else {
            self.slots.push(state);
            self.slots.len() as PolicyNumber - 1
        };
        self.numbers.insert(name, number);
        number
    }

    /// Takes a policy out. Its number stays taken until [`Self::free`]: rulebooks still refer to it.
    pub(crate) fn remove(&mut self, number: PolicyNumber, terms: &mut Terms) {
        let Some(state) = self.slots[number as usize].take() else { return };
        if self.numbers.get(&state.policy.name) == Some(&number) {
            self.numbers.remove(&state.policy.name);
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            for term in state.terms(direction) {
                terms.release(term);
            }
        }
    }

    pub(crate) fn free(&mut self, number: PolicyNumber) {
        self.free.push(number);
    }
}

fn port_name(port: &PortMatch) -> Option<PortName> {
    match &port.numbers {
        PortNumbers::Named(name) => Some(PortName { name: name.clone(), protocol: port.protocol }),
        PortNumbers::All | PortNumbers::Range(..) => None,
    }
}

fn compile(rule: &Rule, namespace: &str, direction: Direction, terms: &mut Terms) -> CompiledRule {
    let peers: Option<Vec<TermPeer>> =
        rule.peers.as_ref().map(|peers| peers.iter().map(|peer| term_peer(peer, namespace)).collect());
    let compile_port = |port: &PortMatch| {
        let name = port_name(port).filter(|_| direction == Direction::Egress);
        let named = name.map(|name| {
            let anyone = [TermPeer::AnyPod];
            let peers = peers.as_deref().unwrap_or(&anyone);
            peers
                .iter()
                .map(|peer| terms.acquire(Term { peer: peer.clone(), port: Some(name.clone()) }))
                .collect()
        });
        CompiledPort { matches: port.clone(), named: named.unwrap_or_default() }
    };
    let ports = rule.ports.as_ref().map(|ports| ports.iter().map(compile_port).collect());
    let plain = |peers: &Vec<TermPeer>| {
        peers.iter().map(|peer| terms.acquire(Term { peer: peer.clone(), port: None })).collect()
    };
    CompiledRule { peers: peers.as_ref().map(plain), ports }
}

fn term_peer(peer: &Peer, namespace: &str) -> TermPeer {
    match peer {
        Peer::Pods { namespaces: None, pods } => {
            TermPeer::Local { namespace: namespace.to_owned(), pods: pods.clone() }
        }
        Peer::Pods { namespaces: Some(namespaces), pods } => {
            TermPeer::Wide { namespaces: namespaces.clone(), pods: pods.clone() }
        }
        Peer::Block(block) => TermPeer::Block(block.clone()),
    }
}
