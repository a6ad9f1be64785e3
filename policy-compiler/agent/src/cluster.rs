//! One picture of what a source says and what the switch has, and the compiler that is kept in step with it.
//!
//! - A pod has the labels and ports of its object. One that has an endpoint and no object has none.
//! - An address that an endpoint has is that endpoint's pod's, whatever objects say. Beyond that a pod has the addresses of its status.
//! - Only pods with an endpoint are enforced, so only they are named in the image. A pod that runs here is not finished and is not on the
//!   node's network, even if its object is behind or ahead.
//! - A namespace that is only named exists, with the one label that every namespace has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use heddle_image::Image;
use heddle_policy::model::{Labels, Namespace, Object, ObjectKey, ObjectName, Pod};
use heddle_policy::{Compiler, Enforced, LimitError, Limits, Stats};

use crate::source::Change;

/// An endpoint of this node's switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// As the switch knows it.
    pub id: String,
    /// Its pod; both parts are empty for a container that is no pod.
    pub pod: ObjectName,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    node: String,
    compiler: Compiler,
    namespaces: BTreeMap<String, NamespaceState>,
    /// As their objects say.
    pods: HashMap<ObjectName, Pod>,
    policies: HashSet<ObjectName>,
    endpoints: BTreeMap<String, LocalEndpoint>,
    /// Ids of the endpoints of each pod.
    of_pod: HashMap<ObjectName, BTreeSet<String>>,
    /// Whose endpoint has an address.
    owners: HashMap<IpAddr, ObjectName>,
    /// The pods whose objects say that they have an address.
    claims: HashMap<IpAddr, BTreeSet<ObjectName>>,
    /// In the compiler.
    compiled: HashSet<ObjectName>,
    /// To be brought to the compiler.
    touched: BTreeSet<ObjectName>,
}

#[derive(Debug, Default)]
struct NamespaceState {
    object: Option<Namespace>,
    /// Pods and policies in it.
    content: usize,
}

impl Cluster {
    /// The picture from the node of this name.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            compiler: Compiler::new(Enforced::Node(node.to_owned()), Limits::default()),
            namespaces: BTreeMap::new(),
            pods: HashMap::new(),
            policies: HashSet::new(),
            endpoints: BTreeMap::new(),
            of_pod: HashMap::new(),
            owners: HashMap::new(),
            claims: HashMap::new(),
            compiled: HashSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Takes in what a source says.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Set(Object::Namespace(namespace)) => {
                let state = self.namespaces.entry(namespace.name.clone()).or_default();
                state.object = Some(namespace.clone());
                self.compiler.set_namespace(namespace);
            }
            Change::Set(Object::Policy(policy)) => {
                if self.policies.insert(policy.name.clone()) {
                    self.fill(&policy.name.namespace);
                }
                self.compiler.set_policy(policy);
            }
            Change::Set(Object::Pod(pod)) => {
                self.forget_pod(&pod.name);
                for address in &pod.addresses {
                    self.claims.entry(*address).or_default().insert(pod.name.clone());
                }
                self.touched.insert(pod.name.clone());
                self.pods.insert(pod.name.clone(), pod);
            }
            Change::Remove(ObjectKey { kind: "Namespace", name }) => self.remove_namespace(&name.name),
            Change::Remove(ObjectKey { kind: "Pod", name }) => self.forget_pod(&name),
            Change::Remove(ObjectKey { name, .. }) => {
                if self.policies.remove(&name) {
                    self.compiler.remove_policy(&name);
                    self.empty(&name.namespace);
                }
            }
        }
    }

    /// True when this very endpoint has been taken in.
    pub fn has_endpoint(&self, endpoint: &LocalEndpoint) -> bool {
        self.endpoints.get(&endpoint.id) == Some(endpoint)
    }

    /// Takes in that the switch has an endpoint.
    pub fn add_endpoint(&mut self, endpoint: LocalEndpoint) {
        self.remove_endpoint(&endpoint.id);
        for address in &endpoint.addresses {
            self.owners.insert(*address, endpoint.pod.clone());
            self.touch_claimants(*address);
        }
        self.of_pod.entry(endpoint.pod.clone()).or_default().insert(endpoint.id.clone());
        self.touched.insert(endpoint.pod.clone());
        self.endpoints.insert(endpoint.id.clone(), endpoint);
    }

    /// Takes in that the switch has an endpoint no more.
    pub fn remove_endpoint(&mut self, id: &str) {
        let Some(endpoint) = self.endpoints.remove(id) else { return };
        for address in &endpoint.addresses {
            if self.owners.get(address) == Some(&endpoint.pod) {
                self.owners.remove(address);
            }
            self.touch_claimants(*address);
        }
        if let Some(ids) = self.of_pod.get_mut(&endpoint.pod) {
            ids.remove(id);
            if ids.is_empty() {
                self.of_pod.remove(&endpoint.pod);
            }
        }
        self.touched.insert(endpoint.pod);
    }

    /// Takes in all endpoints the switch has: others are gone.
    pub fn replace_endpoints(&mut self, endpoints: Vec<LocalEndpoint>) {
        let there: HashSet<_> = endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
        let gone: Vec<_> = self.endpoints.keys().filter(|id| !there.contains(*id)).cloned().collect();
        // An address may have gone from one to another meanwhile.
        for id in gone {
            self.remove_endpoint(&id);
        }
        for endpoint in endpoints {
            if !self.has_endpoint(&endpoint) {
                self.add_endpoint(endpoint);
            }
        }
    }

    /// The image of all of it.
    pub fn image(&mut self) -> Result<Image, LimitError> {
        for name in std::mem::take(&mut self.touched) {
            match self.merged(&name) {
                Some(pod) => {
                    if self.compiled.insert(name.clone()) {
                        self.fill(&name.namespace);
                    }
                    self.compiler.set_pod(pod);
                }
                None if self.compiled.remove(&name) => {
                    self.compiler.remove_pod(&name);
                    self.empty(&name.namespace);
                }
                None => {}
            }
        }
        self.compiler.update()
    }

    /// How much of everything there is, as of the last image.
    pub fn stats(&self) -> Stats {
        self.compiler.stats()
    }

    /// A pod as the compiler is to know it.
    fn merged(&self, name: &ObjectName) -> Option<Pod> {
        let endpoints = self.of_pod.get(name);
        let object = self.pods.get(name);
        if endpoints.is_none() && object.is_none() {
            return None;
        }
        let mut pod = object.cloned().unwrap_or_else(|| unknown(name));
        // Somebody else's by now.
        pod.addresses.retain(|address| self.owners.get(address).is_none_or(|owner| owner == name));
        let Some(endpoints) = endpoints else { return Some(Pod { node: None, ..pod }) };
        let elsewhere = pod.node.as_ref().is_some_and(|node| *node != self.node);
        if elsewhere || pod.finished || pod.host_network {
            pod.addresses.clear();
        }
        let there = endpoints.iter().filter_map(|id| self.endpoints.get(id));
        pod.addresses.extend(there.flat_map(|endpoint| &endpoint.addresses));
        pod.addresses.sort_unstable();
        pod.addresses.dedup();
        Some(Pod { node: Some(self.node.clone()), host_network: false, finished: false, ..pod })
    }

    fn forget_pod(&mut self, name: &ObjectName) {
        let Some(pod) = self.pods.remove(name) else { return };
        for address in &pod.addresses {
            if let Some(names) = self.claims.get_mut(address) {
                names.remove(name);
                if names.is_empty() {
                    self.claims.remove(address);
                }
            }
        }
        self.touched.insert(pod.name);
    }

    fn touch_claimants(&mut self, address: IpAddr) {
        self.touched.extend(self.claims.get(&address).into_iter().flatten().cloned());
    }

    fn remove_namespace(&mut self, name: &str) {
        let Some(state) = self.namespaces.get_mut(name) else { return };
        state.object = None;
        if state.content > 0 {
            self.compiler.set_namespace(Namespace::unlabelled(name));
        } else {
            self.namespaces.remove(name);
            self.compiler.remove_namespace(name);
        }
    }

    /// There is one more in a namespace.
    fn fill(&mut self, namespace: &str) {
        let state = self.namespaces.entry(namespace.to_owned()).or_default();
        state.content += 1;
        // What is no pod is in no namespace.
        if state.content == 1 && state.object.is_none() && !namespace.is_empty() {
            self.compiler.set_namespace(Namespace::unlabelled(namespace));
        }
    }

    /// There is one less in a namespace.
    fn empty(&mut self, namespace: &str) {
        let Some(state) = self.namespaces.get_mut(namespace) else { return };
        state.content = state.content.saturating_sub(1);
        if state.content == 0 && state.object.is_none() {
            self.namespaces.remove(namespace);
            self.compiler.remove_namespace(namespace);
        }
    }
}

/// A pod of which only the endpoint is known.
fn unknown(name: &ObjectName) -> Pod {
    Pod {
        name: name.clone(),
        labels: Labels::new(),
        ports: Vec::new(),
        addresses: Vec::new(),
        node: None,
        host_network: false,
        finished: false,
        created: 0,
    }
}

#[cfg(test)]
mod tests;
