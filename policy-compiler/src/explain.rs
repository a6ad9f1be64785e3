//! Why a packet is allowed or denied: from the same compiled rules that the bitmaps are made of.

mod text;

use std::net::IpAddr;

use heddle_image::{Direction, PeerClass, Protocol, port_key};
use serde::Serialize;
use thiserror::Error;

pub use text::{ParseError, Place, Port};

use crate::compiler::{Compiler, LimitError};
use crate::identities::{Identity, PodState};
use crate::model::ObjectName;
use crate::rulebooks::{ALLOW_ALL, BookKey};
use crate::terms::Membership;

/// Both sides' verdicts on a connection from one place to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// As asked.
    pub from: Place,
    /// As asked.
    pub to: Place,
    /// As asked.
    pub port: Port,
    /// One for each address family that both ends have; one without addresses if one end has none yet.
    pub paths: Vec<Path>,
}

/// Both sides' verdicts on one pair of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Path {
    /// Unknown for a pod that has no address yet. Then its ipBlocks are not considered.
    pub source: Option<IpAddr>,
    /// As `source`.
    pub destination: Option<IpAddr>,
    /// Both sides allow it.
    pub allowed: bool,
    /// What the source's policies say.
    pub egress: Reason,
    /// What the destination's policies say.
    pub ingress: Reason,
}

/// The verdict of one side and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "because", rename_all = "camelCase")]
pub enum Reason {
    /// Allowed: both ends are the same pod, which can always reach itself.
    Itself,
    /// Allowed: not a pod, so there is no policy for it.
    NotAPod,
    /// Allowed: on the node's network, where policies do not apply.
    HostNetwork,
    /// Allowed: no policy selects the pod for this direction.
    NoPolicy,
    /// Allowed by each of these.
    Rules {
        /// Never empty.
        rules: Vec<RuleReference>,
    },
    /// Denied: policies select the pod for this direction, and none of their rules allows it.
    DefaultDeny {
        /// Those that select the pod.
        policies: Vec<ObjectName>,
    },
    /// Not known here: policy is compiled for another node's pods.
    NotEnforcedHere,
}

/// One place in a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RuleReference {
    /// The policy.
    pub policy: ObjectName,
    /// Index in `spec.ingress` or `spec.egress`.
    pub rule: usize,
    /// Index in the rule's `from` or `to`; None if the rule allows everyone.
    pub peer: Option<usize>,
    /// Index in the rule's `ports`; None if the rule allows every port.
    pub port: Option<usize>,
}

/// Why there is nothing to explain.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ExplainError {
    /// A name that nobody has.
    #[error("there is no pod {0}: names are <namespace>/<name>")]
    UnknownPod(ObjectName),
    /// A pod that is over.
    #[error("pod {0} has finished: it neither sends nor receives")]
    Finished(ObjectName),
    /// IPv4 to IPv6.
    #[error("the two ends have no address family in common")]
    NoCommonFamily,
    /// Compilation failed.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl Reason {
    /// The verdict.
    pub fn allows(&self) -> bool {
        !matches!(self, Self::DefaultDeny { .. } | Self::NotEnforcedHere)
    }
}

/// One end, with the address it uses, if it has one.
#[derive(Clone, Copy)]
struct End<'a> {
    pod: Option<(&'a PodState, Option<&'a Identity>)>,
    address: Option<IpAddr>,
}

impl Compiler {
    /// Explains the verdicts on a packet that opens a connection, after all changes so far.
    pub fn explain(&mut self, from: &Place, to: &Place, port: Port) -> Result<Explanation, ExplainError> {
        self.update()?;
        let (sources, destinations) = (self.ends(from)?, self.ends(to)?);
        let pairs = sources
            .iter()
            .flat_map(|source| destinations.iter().map(move |destination| (*source, *destination)));
        let family = |end: End<'_>| end.address.map(|address| address.is_ipv4());
        let fits = |pair: &(End<'_>, End<'_>)| match (family(pair.0), family(pair.1)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        let paths: Vec<_> =
            pairs.filter(fits).map(|(source, destination)| self.path(source, destination, port)).collect();
        if paths.is_empty() {
            return Err(ExplainError::NoCommonFamily);
        }
        Ok(Explanation { from: from.clone(), to: to.clone(), port, paths })
    }

    /// An end for each address, or one without address.
    fn ends(&self, place: &Place) -> Result<Vec<End<'_>>, ExplainError> {
        let pod = match place {
            Place::Pod(name) => {
                let pod = self.pods.number(name).and_then(|number| self.pods.get(number));
                Some(pod.ok_or_else(|| ExplainError::UnknownPod(name.clone()))?)
            }
            Place::Address(address) => {
                self.addresses.get(address).and_then(|state| self.pods.owner(&state.owners))
            }
        };
        if let Some(finished) = pod.filter(|pod| pod.finished) {
            return Err(ExplainError::Finished(finished.name.clone()));
        }
        let identity = pod.and_then(|pod| pod.identity).and_then(|identity| self.pods.identity(identity));
        let end = |address| End { pod: pod.map(|pod| (pod, identity)), address };
        Ok(match (place, pod) {
            (Place::Address(address), _) => vec![end(Some(*address))],
            (Place::Pod(_), Some(pod)) if !pod.addresses.is_empty() => {
                pod.addresses.iter().map(|a| end(Some(*a))).collect()
            }
            (Place::Pod(_), _) => vec![end(None)],
        })
    }

    fn path(&self, source: End<'_>, destination: End<'_>, port: Port) -> Path {
        let same =
            |pair: Option<(&PodState, &PodState)>| pair.is_some_and(|(one, other)| one.name == other.name);
        let itself = same(source.pod.map(|pod| pod.0).zip(destination.pod.map(|pod| pod.0)));
        let [egress, ingress] = if itself {
            [Reason::Itself, Reason::Itself]
        } else {
            [
                self.reason(source, destination, Direction::Egress, port),
                self.reason(destination, source, Direction::Ingress, port),
            ]
        };
        let allowed = egress.allows() && ingress.allows();
        Path { source: source.address, destination: destination.address, allowed, egress, ingress }
    }

    /// What the policies of `judged` say about `peer`.
    fn reason(&self, judged: End<'_>, peer: End<'_>, direction: Direction, port: Port) -> Reason {
        let Some((pod, identity)) = judged.pod else { return Reason::NotAPod };
        if pod.host_network {
            return Reason::HostNetwork;
        }
        let class = identity.and_then(|identity| identity.policy_class).filter(|_| pod.enforced);
        let Some(books) = class.and_then(|class| self.policy_classes.books(class)) else {
            return Reason::NotEnforcedHere;
        };
        let number = if direction == Direction::Ingress { books[0] } else { books[1] };
        if number == ALLOW_ALL {
            return Reason::NoPolicy;
        }
        let Some(book) = self.books.get(number) else { return Reason::NotEnforcedHere };
        let peer_class = peer.address.map(|address| self.image.peer_class(address));
        let rules = self.deciders(&book.key, self.memberships_of(peer, peer_class), port);
        if let (Some(class), Some(compiled)) = (peer_class, &book.compiled) {
            let verdict = compiled.allows(class, port.protocol, port.number);
            debug_assert_eq!(verdict, !rules.is_empty(), "bitmap and explanation differ");
        }
        if rules.is_empty() {
            let policies = book.key.policies.iter().filter_map(|number| self.policies.get(*number));
            return Reason::DefaultDeny {
                policies: policies.map(|state| state.policy.name.clone()).collect(),
            };
        }
        Reason::Rules { rules }
    }

    /// The peer's memberships: those of its class, or without an address, those its labels give it.
    fn memberships_of<'a>(&'a self, peer: End<'a>, class: Option<PeerClass>) -> &'a [Membership] {
        match (class, peer.pod) {
            (Some(class), _) => self.classes.key(class.0),
            (None, Some((_, Some(identity)))) => &identity.memberships,
            (None, _) => &[],
        }
    }

    fn deciders(&self, key: &BookKey, memberships: &[Membership], port: Port) -> Vec<RuleReference> {
        let at = port_key(port.protocol, port.number);
        let mut rules = Vec::new();
        for grant in self.grants(key).into_iter().filter(|grant| grant.span.0 <= at && at <= grant.span.1) {
            let Some(state) = self.policies.get(grant.policy) else { continue };
            let rule = |peer| RuleReference {
                policy: state.policy.name.clone(),
                rule: grant.rule,
                peer,
                port: grant.port,
            };
            match grant.peers {
                None => rules.push(rule(None)),
                Some(peers) => {
                    let matching =
                        peers.iter().filter(|(_, wanted)| memberships.binary_search(wanted).is_ok());
                    rules.extend(matching.map(|(peer, _)| rule(*peer)));
                }
            }
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

/// The protocol's name as `--port` takes it.
fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
        Protocol::Other => "other",
    }
}
