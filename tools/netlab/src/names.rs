//! What things in a lab are called. Every name can be recognised again, so that a lab whose records are lost can still
//! be taken down by name, and nothing else with it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Prefix of the lab's network namespaces.
pub(crate) const NAMESPACE_PREFIX: &str = "hd-";

/// Something in a lab that has a network namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Name {
    /// The segment all nodes hang on, and the way to the world: `wire`.
    Wire,
    /// A node with a switch: `n1`.
    Node(u8),
    /// A pod, by node and number: `n1p1`.
    Pod(u8, u16),
    /// A node that has Linux's vxlan device instead of a switch: `x3`.
    Peer(u8),
}

impl Name {
    /// The namespace's name, as `ip netns` shows it.
    pub fn namespace(self) -> String {
        format!("{NAMESPACE_PREFIX}{self}")
    }

    /// The inverse of [`Name::namespace`]; nothing for a namespace that no lab made.
    pub fn of_namespace(namespace: &str) -> Option<Self> {
        namespace.strip_prefix(NAMESPACE_PREFIX)?.parse().ok()
    }

    /// Interface on the wire's bridge that leads to this node.
    pub(crate) fn wire_port(self) -> String {
        format!("to-{self}")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire => f.write_str("wire"),
            Self::Node(node) => write!(f, "n{node}"),
            Self::Pod(node, pod) => write!(f, "n{node}p{pod}"),
            Self::Peer(node) => write!(f, "x{node}"),
        }
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.split_at_checked(1) {
            _ if text == "wire" => Some(Self::Wire),
            Some(("x", node)) => node.parse().ok().map(Self::Peer),
            Some(("n", rest)) => match rest.split_once('p') {
                Some((node, pod)) => node.parse().ok().zip(pod.parse().ok()).map(|(n, p)| Self::Pod(n, p)),
                None => rest.parse().ok().map(Self::Node),
            },
            _ => None,
        };
        match parsed {
            // "n01" and "n+1" parse as numbers, but are nobody's name.
            Some(name) if name.to_string() == text => Ok(name),
            _ => bail!("'{text}' is not a name in a lab: nodes are n1, n2, …, their pods n1p1, n1p2, …"),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    //! Names round-trip, and nothing else is taken for one.
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [Name::Wire, Name::Node(1), Name::Node(16), Name::Pod(2, 100), Name::Peer(3)] {
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
            assert_eq!(Name::of_namespace(&name.namespace()), Some(name));
        }
    }

    #[test]
    fn other_names_are_nobodys() {
        for text in ["", "n", "n01", "n+1", "n1p", "np1", "n256", "pod", "wires", "n1p1p1", "ñ1"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        for namespace in ["n1", "cni-1234", "hd-backup", "hd-"] {
            assert_eq!(Name::of_namespace(namespace), None, "{namespace}");
        }
    }
}
