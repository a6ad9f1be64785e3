//! Pods, the identities they share, and their addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::Map;
use crate::model::{Labels, NamedPort, ObjectName, Pod};
use crate::policies::PolicyNumber;
use crate::terms::{Membership, TermNumber};

pub(crate) type PodNumber = u32;
pub(crate) type IdentityNumber = u32;

/// All that selectors and named ports can see of a pod. Pods that have it in common are matched once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct IdentityKey {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) ports: Vec<NamedPort>,
}

#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: Arc<IdentityKey>,
    pub(crate) pods: BTreeSet<PodNumber>,
    /// How many of `pods` this compiler enforces policy for.
    pub(crate) enforced: usize,
    /// In terms of selectors, sorted. What the blocks add depends on the address.
    pub(crate) memberships: Vec<Membership>,
    /// Those that select it, sorted.
    pub(crate) policies: Vec<PolicyNumber>,
    /// Set while `enforced` is not 0.
    pub(crate) policy_class: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PodState {
    pub(crate) name: ObjectName,
    /// None for a pod that takes no part: finished, or on the node's network.
    pub(crate) identity: Option<IdentityNumber>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) enforced: bool,
    pub(crate) created: i64,
    pub(crate) host_network: bool,
    pub(crate) finished: bool,
}

#[derive(Debug, Default)]
pub(crate) struct NamespaceState {
    /// None while the Namespace object has not been seen: then no namespaceSelector matches it.
    pub(crate) labels: Option<Labels>,
    pub(crate) identities: BTreeSet<IdentityNumber>,
    pub(crate) policies: BTreeSet<PolicyNumber>,
    /// Terms that name this namespace.
    pub(crate) local: BTreeSet<TermNumber>,
    /// Terms whose namespaceSelector matches it, and those of every pod.
    pub(crate) wide: BTreeSet<TermNumber>,
}

/// Who claims an address, and its class once that is known.
#[derive(Debug, Default)]
pub(crate) struct AddressState {
    pub(crate) owners: Vec<PodNumber>,
    pub(crate) class: Option<u32>,
}

/// All pods by number and by name, and their identities.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    slots: Vec<Option<PodState>>,
    free: Vec<PodNumber>,
    numbers: Map<ObjectName, PodNumber>,
    identities: Vec<Option<Identity>>,
    free_identities: Vec<IdentityNumber>,
    identity_numbers: Map<Arc<IdentityKey>, IdentityNumber>,
}

impl Pods {
    pub(crate) fn number(&self, name: &ObjectName) -> Option<PodNumber> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn get(&self, number: PodNumber) -> Option<&PodState> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn identity_count(&self) -> usize {
        self.identity_numbers.len()
    }

    pub(crate) fn identity(&self, number: IdentityNumber) -> Option<&Identity> {
        self.identities.get(number as usize)?.as_ref()
    }

    pub(crate) fn identity_mut(&mut self, number: IdentityNumber) -> Option<&mut Identity> {
        self.identities.get_mut(number as usize)?.as_mut()
    }

    /// Adds a pod whose name is free to its identity, which may be a new one, and returns its number.
    pub(crate) fn insert(&mut self, pod: Pod, enforced: bool) -> PodNumber {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as PodNumber - 1
        });
        self.numbers.insert(pod.name.clone(), number);
        let Pod { name, labels, ports, addresses, host_network, finished, created, .. } = pod;
        let key = IdentityKey { namespace: name.namespace.clone(), labels, ports };
        let takes_part = !host_network && !finished;
        let identity = takes_part.then(|| self.identity_of(key));
        let enforced = takes_part && enforced;
        if let Some(identity) = identity.and_then(|identity| self.identity_mut(identity)) {
            identity.pods.insert(number);
            identity.enforced += usize::from(enforced);
        }
        let state = PodState { name, identity, addresses, enforced, created, host_network, finished };
        self.slots[number as usize] = Some(state);
        number
    }

    /// Takes a pod out, also of its identity, which stays even when it was the last one.
    pub(crate) fn remove(&mut self, number: PodNumber) -> Option<PodState> {
        let state = self.slots.get_mut(number as usize)?.take()?;
        self.numbers.remove(&state.name);
        self.free.push(number);
        if let Some(identity) = state.identity.and_then(|identity| self.identity_mut(identity)) {
            identity.pods.remove(&number);
            identity.enforced -= usize::from(state.enforced);
        }
        Some(state)
    }

    /// True when the pod would come to the same state again.
    pub(crate) fn is_same(&self, number: PodNumber, pod: &Pod, enforced: bool) -> bool {
        let Some(state) = self.get(number) else { return false };
        let takes_part = !pod.host_network && !pod.finished;
        let same_identity = match state.identity.and_then(|identity| self.identity(identity)) {
            Some(identity) => {
                takes_part && identity.key.labels == pod.labels && identity.key.ports == pod.ports
            }
            None => !takes_part,
        };
        same_identity
            && state.addresses == pod.addresses
            && state.enforced == (takes_part && enforced)
            && (state.created, state.host_network, state.finished)
                == (pod.created, pod.host_network, pod.finished)
    }

    /// Forgets an identity without pods.
    pub(crate) fn remove_identity(&mut self, number: IdentityNumber) {
        if let Some(identity) = self.identities[number as usize].take() {
            self.identity_numbers.remove(&identity.key);
            self.free_identities.push(number);
        }
    }

    /// The pod that has an address among those that claim it: the youngest. The names make it definite.
    pub(crate) fn owner(&self, claims: &[PodNumber]) -> Option<&PodState> {
        let pods = claims.iter().filter_map(|number| self.get(*number));
        pods.max_by_key(|pod| (pod.created, &pod.name))
    }

    fn identity_of(&mut self, key: IdentityKey) -> IdentityNumber {
        if let Some(number) = self.identity_numbers.get(&key) {
            return *number;
        }
        let key = Arc::new(key);
        let number = self.free_identities.pop().unwrap_or_else(|| {
            self.identities.push(None);
            self.identities.len() as IdentityNumber - 1
        });
        self.identity_numbers.insert(key.clone(), number);
        self.identities[number as usize] = Some(Identity {
            key,
            pods: BTreeSet::new(),
            enforced: 0,
            memberships: Vec::new(),
            policies: Vec::new(),
            policy_class: None,
        });
        number
    }
}
