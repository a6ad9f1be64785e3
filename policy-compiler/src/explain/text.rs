//! Places and ports as the operator writes them, explanations as they are printed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use heddle_image::Protocol;
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::{Explanation, Path, Reason, RuleReference, protocol_name};
use crate::model::ObjectName;

/// One end of a connection: `<namespace>/<pod>`, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A pod by name.
    Pod(ObjectName),
    /// An address; if a pod has it, that pod.
    Address(IpAddr),
}

/// A protocol with its destination port: `tcp/80`, `udp/53`, `sctp/9`, or `icmp` for everything without ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// 0 for [`Protocol::Other`].
    pub number: u16,
}

/// Text that is neither.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Not a place.
    #[error("{0:?} is neither <namespace>/<pod> nor an IP address")]
    Place(String),
    /// Not a port.
    #[error("{0:?} is not a port: write tcp/80, udp/53, sctp/9 or icmp")]
    Port(String),
}

impl FromStr for Place {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let name = text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
        let (namespace, name) = name.ok_or_else(|| ParseError::Place(text.to_owned()))?;
        Ok(Self::Pod(ObjectName::new(namespace, name)))
    }
}

impl FromStr for Port {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::Port(text.to_owned());
        let lower = text.to_ascii_lowercase();
        if matches!(lower.as_str(), "icmp" | "other") {
            return Ok(Self { protocol: Protocol::Other, number: 0 });
        }
        let (protocol, number) = lower.split_once('/').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(wrong()),
        };
        Ok(Self { protocol, number: number.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Other => f.write_str(protocol_name(self.protocol)),
            protocol => write!(f, "{}/{}", protocol_name(protocol), self.number),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Explanation {
    /// Three lines a path: the verdict, and each side's reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.paths.iter().enumerate() {
            let newline = if index > 0 { "\n" } else { "" };
            let verdict = if path.allowed { "ALLOWED" } else { "DENIED" };
            let Path { source, destination, .. } = path;
            let (from, to) = (With(&self.from, *source), With(&self.to, *destination));
            writeln!(f, "{newline}{from} -> {to} {}: {verdict}", self.port)?;
            writeln!(f, "  egress of {}: {}", self.from, Side(&path.egress, "egress", "to"))?;
            write!(f, "  ingress of {}: {}", self.to, Side(&path.ingress, "ingress", "from"))?;
        }
        Ok(())
    }
}

/// A place and the address it has in this path.
struct With<'a>(&'a Place, Option<IpAddr>);

impl fmt::Display for With<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Place::Pod(name), Some(address)) => write!(f, "{name} ({address})"),
            (place, _) => place.fmt(f),
        }
    }
}

/// A reason with the words for its direction: the list of rules, and the list of a rule's peers.
struct Side<'a>(&'a Reason, &'static str, &'static str);

impl fmt::Display for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reason, list, peers) = self;
        match reason {
            Reason::Itself => f.write_str("allowed, a pod always reaches itself"),
            Reason::NotAPod => f.write_str("allowed, not a pod of this cluster, so no policy applies"),
            Reason::HostNetwork => f.write_str("allowed, on the node's network, where no policy applies"),
            Reason::NoPolicy => write!(f, "allowed, no policy selects it for {list}"),
            Reason::NotEnforcedHere => f.write_str("unknown here, it is another node's to enforce"),
            Reason::DefaultDeny { policies } => {
                let names: Vec<_> = policies.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "denied, selected for {list} by {}, and no rule of these allows it",
                    names.join(", ")
                )
            }
            Reason::Rules { rules } => {
                f.write_str("allowed by ")?;
                for (index, rule) in rules.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{}", Rule(rule, list, peers))?;
                }
                Ok(())
            }
        }
    }
}

/// A rule as the path of its fields.
struct Rule<'a>(&'a RuleReference, &'static str, &'static str);

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rule, list, peers) = self;
        write!(f, "{} spec.{list}[{}]", rule.policy, rule.rule)?;
        match rule.peer {
            Some(peer) => write!(f, " {peers}[{peer}]")?,
            None => write!(f, " (everyone)")?,
        }
        match rule.port {
            Some(port) => write!(f, " ports[{port}]"),
            None => write!(f, " (every port)"),
        }
    }
}

#[cfg(test)]
mod tests {
    //! What operators write is read, and what cannot be is named.
    use super::*;

    #[test]
    fn places_and_ports() {
        assert_eq!("a/b".parse(), Ok(Place::Pod(ObjectName::new("a", "b"))));
        assert_eq!("::ffff:10.0.0.1".parse(), Ok(Place::Address([10, 0, 0, 1].into())));
        assert!(["", "a", "/b", "a/"].iter().all(|text| text.parse::<Place>().is_err()));
        assert_eq!("TCP/80".parse(), Ok(Port { protocol: Protocol::Tcp, number: 80 }));
        assert_eq!("icmp".parse::<Port>().map(|port| port.to_string()), Ok("other".into()));
        assert!(
            ["tcp", "tcp/", "tcp/65536", "gre/1", "tcp/-1"].iter().all(|text| text.parse::<Port>().is_err())
        );
    }
}
