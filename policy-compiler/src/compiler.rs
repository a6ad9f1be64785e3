//! The compiler's state and what may be done to it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use heddle_image::Image;
use serde::Serialize;
use thiserror::Error;

use crate::blocks::BlockIndex;
use crate::classes::PeerClasses;
use crate::identities::{AddressState, IdentityNumber, NamespaceState, PodNumber, Pods};
use crate::model::{Block, Namespace, ObjectName, Pod, Policy};
use crate::policies::{Policies, PolicyNumber};
use crate::rulebooks::{PolicyClasses, Rulebooks};
use crate::terms::{TermNumber, Terms};
use crate::{Map, Set};

/// Whose policy is compiled. All pods are peers in any case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Enforced {
    /// That of every pod.
    #[default]
    Cluster,
    /// That of the pods on the node of this name: all that one switch needs.
    Node(String),
}

/// Where the compiler refuses to go on, so that a cluster that splits its pods beyond measure cannot take the node's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most peer classes.
    pub peer_classes: usize,
    /// Most bytes of bitmaps.
    pub row_bytes: usize,
    /// Most peer classes without an address that are kept up to date, so that pods that come back find theirs.
    pub idle_classes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { peer_classes: 1 << 20, row_bytes: 1 << 30, idle_classes: 256 }
    }
}

/// The policies need more than the [`Limits`] allow. No image was made; the one before is still right for the state before,
/// and the compiler goes on from here when the cause is gone.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// Too many columns.
    #[error(
        "policies tell {count} groups of addresses apart, more than the limit of {limit}: select pods by fewer different labels and ipBlocks"
    )]
    PeerClasses {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Too much memory.
    #[error(
        "the bitmaps of {rulebooks} rulebooks need more than the limit of {limit} bytes: select pods by fewer different labels, or raise the limit"
    )]
    RowBytes {
        /// How many rulebooks there are.
        rulebooks: usize,
        /// Bytes they may take.
        limit: usize,
    },
    /// Too many rows.
    #[error("the policies {} tell more than 65535 groups of ports apart: use ranges", policies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    PortClasses {
        /// The policies that apply together.
        policies: Vec<ObjectName>,
    },
}

/// How much of everything there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Pods known.
    pub pods: usize,
    /// Policies in force.
    pub policies: usize,
    /// Different combinations of namespace, labels and named ports.
    pub identities: usize,
    /// Different peers of rules.
    pub terms: usize,
    /// Peer classes some address is in.
    pub peer_classes: usize,
    /// Columns, idle ones included.
    pub columns: usize,
    /// Different sets of rules for a direction.
    pub rulebooks: usize,
    /// Different pairs of those.
    pub policy_classes: usize,
    /// Bytes of all bitmaps.
    pub row_bytes: usize,
}

/// Keeps the policy image in step with namespaces, pods and policies. Changes are collected and take effect together with
/// [`Compiler::update`], whose cost depends on what they touch.
#[derive(Debug)]
pub struct Compiler {
    pub(crate) enforced: Enforced,
    pub(crate) limits: Limits,
    pub(crate) namespaces: Map<String, NamespaceState>,
    pub(crate) pods: Pods,
    pub(crate) addresses: Map<IpAddr, AddressState>,
    pub(crate) policies: Policies,
    pub(crate) terms: Terms,
    /// Terms that apply in namespaces to be found out.
    pub(crate) wide_terms: BTreeSet<TermNumber>,
    pub(crate) block_terms: BTreeSet<TermNumber>,
    pub(crate) blocks: BlockIndex,
    /// Peer classes of the ranges in the image, each held once.
    pub(crate) range_classes: Vec<u32>,
    pub(crate) classes: PeerClasses,
    pub(crate) books: Rulebooks,
    pub(crate) policy_classes: PolicyClasses,
    pub(crate) image: Image,
    pub(crate) pending: Pending,
}

/// What changed since the last update.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Appeared, or were relabelled.
    pub(crate) namespaces: Set<String>,
    /// To be matched with all terms.
    pub(crate) identities: Set<IdentityNumber>,
    /// To be matched with the policies of their namespace.
    pub(crate) selections: Set<IdentityNumber>,
    /// To be given a peer class.
    pub(crate) addresses: Set<IpAddr>,
    /// To be told their policy class.
    pub(crate) endpoints: Set<PodNumber>,
    /// Came or went.
    pub(crate) blocks: Vec<Block>,
    /// Policy classes to be put into the image.
    pub(crate) policy_classes: BTreeSet<u32>,
    /// Policies that are gone, whose numbers can be used again after the update.
    pub(crate) policies: Vec<PolicyNumber>,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new(Enforced::Cluster, Limits::default())
    }
}

impl Compiler {
    /// A compiler that knows nothing yet.
    pub fn new(enforced: Enforced, limits: Limits) -> Self {
        Self {
            enforced,
            limits,
            namespaces: Map::default(),
            pods: Pods::default(),
            addresses: Map::default(),
            policies: Policies::default(),
            terms: Terms::default(),
            wide_terms: BTreeSet::new(),
            block_terms: BTreeSet::new(),
            blocks: BlockIndex::default(),
            range_classes: Vec::new(),
            classes: PeerClasses::new(limits.idle_classes),
            books: Rulebooks::default(),
            policy_classes: PolicyClasses::default(),
            image: Image::default(),
            pending: Pending { policy_classes: BTreeSet::from([0]), ..Pending::default() },
        }
    }

    /// Adds a namespace or relabels it.
    pub fn set_namespace(&mut self, namespace: Namespace) {
        let state = self.namespaces.entry(namespace.name.clone()).or_default();
        if state.labels.as_ref() != Some(&namespace.labels) {
            state.labels = Some(namespace.labels);
            self.pending.namespaces.insert(namespace.name);
        }
    }

    /// Forgets a namespace's labels. Its pods and policies are removed by themselves.
    pub fn remove_namespace(&mut self, name: &str) {
        let Some(state) = self.namespaces.get_mut(name) else { return };
        if state.labels.take().is_some() {
            self.pending.namespaces.insert(name.to_owned());
        }
        if state.identities.is_empty() && state.policies.is_empty() && state.local.is_empty() {
            self.namespaces.remove(name);
        }
    }

    /// Adds a pod or changes it.
    pub fn set_pod(&mut self, pod: Pod) {
        let enforced = match &self.enforced {
            Enforced::Cluster => true,
            Enforced::Node(node) => pod.node.as_ref() == Some(node),
        };
        if let Some(number) = self.pods.number(&pod.name) {
            if self.pods.is_same(number, &pod, enforced) {
                return;
            }
            self.detach(number);
        }
        self.attach(pod, enforced);
    }

    /// Removes a pod.
    pub fn remove_pod(&mut self, name: &ObjectName) {
        if let Some(number) = self.pods.number(name) {
            self.detach(number);
        }
    }

    /// Adds a policy or changes it.
    pub fn set_policy(&mut self, policy: Policy) {
        let old = self.policies.number(&policy.name);
        if old.and_then(|number| self.policies.get(number)).is_some_and(|old| old.policy == policy) {
            return;
        }
        let namespace = policy.name.namespace.clone();
        // The new one first, while the old one still holds the terms they have in common.
        let number = self.policies.insert(policy, &mut self.terms);
        if let Some(old) = old {
            self.forget_policy(&namespace, old);
        }
        self.home(&namespace).policies.insert(number);
        let (Some(new), Some(state)) = (self.policies.get(number), self.namespaces.get(&namespace)) else {
            return;
        };
        let selected = |identity: &&IdentityNumber| {
            self.pods
                .identity(**identity)
                .is_some_and(|identity| new.policy.pods.matches(&identity.key.labels))
        };
        self.pending.selections.extend(state.identities.iter().filter(selected));
    }

    /// Removes a policy.
    pub fn remove_policy(&mut self, name: &ObjectName) {
        if let Some(number) = self.policies.number(name) {
            self.forget_policy(&name.namespace, number);
        }
    }

    /// Makes the image right for all changes so far. The image is a cheap copy: what did not change is shared with the one before.
    pub fn update(&mut self) -> Result<Image, LimitError> {
        self.match_terms();
        self.match_identities();
        self.drop_unused_terms();
        self.cut_blocks();
        self.classify_addresses();
        self.forget_unused_terms();
        self.select();
        self.build_rulebooks()?;
        self.emit_policy_classes();
        self.check_limits()?;
        Ok(self.image.clone())
    }

    /// How much of everything there is, as of the last update.
    pub fn stats(&self) -> Stats {
        let (peer_classes, columns) = self.classes.len();
        Stats {
            pods: self.pods.len(),
            policies: self.policies.len(),
            identities: self.pods.identity_count(),
            terms: self.terms.len(),
            peer_classes,
            columns,
            rulebooks: self.books.len(),
            policy_classes: self.policy_classes.len(),
            row_bytes: self.books.row_bytes,
        }
    }

    fn attach(&mut self, pod: Pod, enforced: bool) {
        let namespace = pod.name.namespace.clone();
        let number = self.pods.insert(pod, enforced);
        let Some(state) = self.pods.get(number) else { return };
        let Some(identity) = state.identity else { return };
        for address in &state.addresses {
            self.addresses.entry(*address).or_default().owners.push(number);
            self.pending.addresses.insert(*address);
        }
        self.pending.endpoints.insert(number);
        if self.home(&namespace).identities.insert(identity) {
            self.pending.identities.insert(identity);
        }
        self.pending.selections.insert(identity);
    }

    /// The state of a namespace, seen or not.
    pub(crate) fn home(&mut self, namespace: &str) -> &mut NamespaceState {
        if !self.namespaces.contains_key(namespace) {
            self.pending.namespaces.insert(namespace.to_owned());
        }
        self.namespaces.entry(namespace.to_owned()).or_default()
    }

    fn detach(&mut self, number: PodNumber) {
        let Some(state) = self.pods.remove(number) else { return };
        let Some(identity) = state.identity else { return };
        for address in state.addresses {
            if let Some(claims) = self.addresses.get_mut(&address) {
                claims.owners.retain(|owner| *owner != number);
            }
            self.pending.addresses.insert(address);
        }
        self.pending.selections.insert(identity);
        self.pending.endpoints.remove(&number);
        self.image.endpoints.remove(state.name.to_string().as_str());
    }

    fn forget_policy(&mut self, namespace: &str, number: PolicyNumber) {
        self.policies.remove(number, &mut self.terms);
        self.pending.policies.push(number);
        let Some(state) = self.namespaces.get_mut(namespace) else { return };
        state.policies.remove(&number);
        let had_it = |identity: &&IdentityNumber| {
            self.pods
                .identity(**identity)
                .is_some_and(|identity| identity.policies.binary_search(&number).is_ok())
        };
        self.pending.selections.extend(state.identities.iter().filter(had_it));
    }
}
