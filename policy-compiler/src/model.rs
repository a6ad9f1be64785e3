//! Namespaces, pods and policies as the compiler works with them: checked, with the API's defaults filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use heddle_image::Protocol;
use ipnet::IpNet;
use serde::Serialize;

use crate::selector::Selector;

/// The label the API server gives every namespace.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Labels of a namespace or a pod.
pub type Labels = BTreeMap<String, String>;

/// Names a pod or a policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name, unique in the namespace for its kind.
    pub name: String,
}

impl ObjectName {
    /// A name from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What policy needs of a Namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

impl Namespace {
    /// A namespace nobody defined, with what the API server gives every one.
    pub fn unlabelled(name: &str) -> Self {
        Self { name: name.to_owned(), labels: Labels::from([(NAME_LABEL.into(), name.to_owned())]) }
    }
}

/// Any of the objects that policy depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Namespace.
    Namespace(Namespace),
    /// A Pod.
    Pod(Pod),
    /// A `NetworkPolicy`.
    Policy(Policy),
}

/// Tells an object from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `Namespace`, `Pod` or `NetworkPolicy`.
    pub kind: &'static str,
    /// Its name; a Namespace has an empty namespace.
    pub name: ObjectName,
}

impl Object {
    /// Tells it from all others.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Namespace(namespace) => {
                ObjectKey { kind: "Namespace", name: ObjectName::new("", &namespace.name) }
            }
            Self::Pod(pod) => ObjectKey { kind: "Pod", name: pod.name.clone() },
            Self::Policy(policy) => ObjectKey { kind: "NetworkPolicy", name: policy.name.clone() },
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectName { namespace, name } = &self.name;
        let slash = if namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {namespace}{slash}{name}", self.kind)
    }
}

/// What policy needs of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: ObjectName,
    /// Its labels.
    pub labels: Labels,
    /// The ports its containers gave names to, sorted.
    pub ports: Vec<NamedPort>,
    /// Its addresses, sorted; none before the node has set them.
    pub addresses: Vec<IpAddr>,
    /// The node it runs on, once it is scheduled.
    pub node: Option<String>,
    /// It uses the node's network: its packets cannot be told from the node's, so no policy selects it and no podSelector
    /// matches it.
    pub host_network: bool,
    /// Succeeded or failed: its addresses may belong to another pod by now.
    pub finished: bool,
    /// When it was created, in seconds since 1970. Of two pods that claim an address, the younger has it.
    pub created: i64,
}

/// A container port with a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// A `NetworkPolicy` that passed validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: ObjectName,
    /// The pods of its namespace that it applies to.
    pub pods: Selector,
    /// What may come in; None when the policy says nothing about that.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out; None when the policy says nothing about that.
    pub egress: Option<Vec<Rule>>,
}

/// One entry of `spec.ingress` or `spec.egress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The other side; None allows everyone.
    pub peers: Option<Vec<Peer>>,
    /// The destination port; None allows every port of every protocol.
    pub ports: Option<Vec<PortMatch>>,
}

/// One entry of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods by labels.
    Pods {
        /// Their namespaces; None is the policy's own.
        namespaces: Option<Selector>,
        /// The pods in there.
        pods: Selector,
    },
    /// Addresses.
    Block(Block),
}

/// An `ipBlock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// The addresses.
    pub cidr: IpNet,
    /// But not these.
    pub except: Vec<IpNet>,
}

impl Block {
    /// True when the address is in the block and in none of its exceptions.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|except| except.contains(&address))
    }
}

/// One entry of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMatch {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its numbers.
    pub numbers: PortNumbers,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortNumbers {
    /// All of them.
    All,
    /// From the first to the last, both included.
    Range(u16, u16),
    /// Whatever the destination pod calls so.
    Named(String),
}
