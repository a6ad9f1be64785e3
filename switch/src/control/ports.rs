//! Port mappings: ports of the node that lead to ports of a pod, as asked for, and who has which.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_api as api;
use serde::{Deserialize, Serialize};

use super::ControlError;
use super::facts::NodeFacts;
use crate::config::Family;
use crate::wire::protocol;

/// More than any pod has containers with ports; what the kernel's tables are asked to hold is bounded by it.
const MOST: usize = 1024;

/// A protocol that has ports to map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Transport {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// In the control protocol and in nft.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// IANA's number.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
            Self::Sctp => protocol::SCTP,
        }
    }
}

/// A mapping as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct PortMapping {
    pub(super) protocol: Transport,
    pub(super) host_port: u16,
    pub(super) pod_port: u16,
    /// The node's address it is for; the unspecified one of a family means all of that family, none means all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_address: Option<IpAddr>,
}

impl PortMapping {
    pub(super) fn to_message(&self) -> api::PortMapping {
        api::PortMapping {
            protocol: self.protocol.name().to_owned(),
            host_port: self.host_port.into(),
            pod_port: self.pod_port.into(),
            host_address: self.host_address.map_or_else(String::new, |address| address.to_string()),
        }
    }

    /// As the kernel is told: once for each family it is for.
    fn forwards<'a>(&'a self, addresses: &'a [IpAddr]) -> impl Iterator<Item = Forward> + 'a {
        let family = self.host_address.map(Family::of);
        // One address a family: the first is the pod's main one (`ips` of a CNI result).
        let first = |wanted: Family| addresses.iter().copied().find(move |a| Family::of(*a) == wanted);
        let wanted =
            [Family::Ipv4, Family::Ipv6].into_iter().filter(move |f| family.is_none_or(|of| of == *f));
        wanted.filter_map(first).map(|pod| Forward {
            front: Front {
                family: Family::of(pod),
                protocol: self.protocol,
                port: self.host_port,
                address: self.host_address.filter(|address| !address.is_unspecified()),
            },
            pod,
            pod_port: self.pod_port,
        })
    }
}

/// What a packet to the node has to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Front {
    family: Family,
    pub(super) protocol: Transport,
    pub(super) port: u16,
    /// None for all addresses of the node.
    pub(super) address: Option<IpAddr>,
}

impl Front {
    fn overlaps(&self, other: &Self) -> bool {
        let same_port = (self.family, self.protocol, self.port) == (other.family, other.protocol, other.port);
        same_port && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = match self.family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = self.address.unwrap_or(any);
        write!(f, "{} port {} of {address}", self.protocol.name(), self.port)
    }
}

/// A port of the node in one family, and where it leads: a port mapping in the kernel's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub(super) front: Front,
    pub(super) pod: IpAddr,
    pub(super) pod_port: u16,
}

/// All that an endpoint's mappings mean, in the kernel's terms.
pub(super) fn forwards(mappings: &[PortMapping], addresses: &[IpAddr]) -> Vec<Forward> {
    mappings.iter().flat_map(|mapping| mapping.forwards(addresses)).collect()
}

/// Which endpoint has which port of the node.
#[derive(Debug, Default)]
pub(super) struct Fronts(BTreeMap<Front, String>);

impl Fronts {
    /// Who has a port that one of these overlaps.
    pub(super) fn taken(&self, wanted: &[Forward]) -> Option<(Front, &str)> {
        wanted.iter().find_map(|Forward { front, .. }| {
            // Fronts of one port are neighbors: the address is compared last.
            let first = Front { address: None, ..*front };
            let rivals =
                self.0.range(first..).take_while(|(other, _)| Front { address: None, ..**other } == first);
            rivals
                .into_iter()
                .find(|(other, _)| other.overlaps(front))
                .map(|(other, id)| (*other, id.as_str()))
        })
    }

    pub(super) fn insert(&mut self, id: &str, forwards: &[Forward]) {
        self.0.extend(forwards.iter().map(|forward| (forward.front, id.to_owned())));
    }

    pub(super) fn remove(&mut self, forwards: &[Forward]) {
        for forward in forwards {
            self.0.remove(&forward.front);
        }
    }
}

/// Checks the mappings of a request for a pod with these addresses. All mistakes are named.
pub(super) fn parse(
    facts: &NodeFacts,
    requested: &[api::PortMapping],
    addresses: &[IpAddr],
) -> Result<Vec<PortMapping>, Vec<String>> {
    if requested.len() > MOST {
        return Err(vec![format!("port_mappings: there are {}, at most {MOST} can be", requested.len())]);
    }
    let mut mistakes = Vec::new();
    let mut mappings = Vec::new();
    let mut fronts: Vec<Front> = Vec::new();
    for (index, one) in requested.iter().enumerate() {
        match mapping(facts, one, addresses) {
            Ok(mapping) => {
                for Forward { front, .. } in mapping.forwards(addresses) {
                    if fronts.iter().any(|other| other.overlaps(&front)) {
                        mistakes.push(format!("port_mappings[{index}]: {front} is mapped twice"));
                    }
                    fronts.push(front);
                }
                mappings.push(mapping);
            }
            Err(problem) => mistakes.push(format!("port_mappings[{index}]: {problem}")),
        }
    }
    if mistakes.is_empty() { Ok(mappings) } else { Err(mistakes) }
}

fn mapping(facts: &NodeFacts, one: &api::PortMapping, addresses: &[IpAddr]) -> Result<PortMapping, String> {
    let protocol = Transport::ALL.into_iter().find(|transport| transport.name() == one.protocol);
    let protocol =
        protocol.ok_or_else(|| format!("protocol \"{}\" is none of tcp, udp, sctp", one.protocol))?;
    let host_port = port("host_port", one.host_port)?;
    let pod_port = port("pod_port", one.pod_port)?;
    let host_address = match one.host_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("host_address \"{text}\" is no IP address"))?),
    };
    if let Some(address) = host_address {
        host_address_fits(address, addresses)?;
    }
    let overlay = facts.uplink.as_ref().map(|uplink| uplink.port);
    if protocol == Transport::Udp && overlay == Some(host_port) {
        return Err(format!("host_port {host_port} is the overlay's; take another one"));
    }
    Ok(PortMapping { protocol, host_port, pod_port, host_address })
}

fn host_address_fits(address: IpAddr, addresses: &[IpAddr]) -> Result<(), String> {
    if !addresses.iter().any(|pod| pod.is_ipv4() == address.is_ipv4()) {
        return Err(format!("host_address {address} is of a family that the pod has no address of"));
    }
    // The kernel routes nothing from ::1 to another interface, whoever translates it (ip6_route_me_harder).
    if address == IpAddr::V6(Ipv6Addr::LOCALHOST) {
        return Err(
            "host_address ::1 cannot lead anywhere; write another address of the node, or ::".to_owned()
        );
    }
    if address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        return Err(format!("host_address {address} is the address of no interface"));
    }
    Ok(())
}

fn port(field: &str, value: u32) -> Result<u16, String> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{field} {value} is not from 1 to 65535")),
    }
}

/// The refusal of a mapping whose port is taken.
pub(super) fn clash(front: Front, id: &str, pod: &str) -> ControlError {
    ControlError::AlreadyExists(format!(
        "{front} belongs to pod {pod} (endpoint {id}); remove that one first, or take another host port"
    ))
}

#[cfg(test)]
mod tests {
    //! Ports are refused when they make no sense or are taken, a wildcard being all addresses of its family.
    use super::super::tests::fake::facts;
    use super::*;

    fn asked(protocol: &str, host_port: u32, host_address: &str) -> api::PortMapping {
        api::PortMapping {
            protocol: protocol.into(),
            host_port,
            pod_port: 80,
            host_address: host_address.into(),
        }
    }

    fn pod() -> [IpAddr; 2] {
        ["10.244.1.5".parse().unwrap(), "fd00:10:244:1::5".parse().unwrap()]
    }

    fn mapped(requests: &[api::PortMapping]) -> Vec<Forward> {
        forwards(&parse(&facts(), requests, &pod()).unwrap(), &pod())
    }

    #[test]
    fn every_mistake_is_named() {
        let requests = [
            asked("icmp", 80, ""),
            asked("tcp", 0, ""),
            asked("tcp", 65536, ""),
            asked("tcp", 80, "here"),
            asked("tcp", 80, "::1"),
            asked("tcp", 80, "224.0.0.1"),
            asked("udp", 4789, ""),
            api::PortMapping { pod_port: 0, ..asked("tcp", 80, "") },
        ];
        let mistakes = parse(&facts(), &requests, &pod()).unwrap_err();
        assert_eq!(mistakes.len(), requests.len(), "{mistakes:?}");
        let v4_only = &pod()[..1];
        assert!(parse(&facts(), &[asked("tcp", 80, "fd00::1")], v4_only).is_err());
        let twice = [asked("tcp", 80, ""), asked("tcp", 80, "172.31.0.1")];
        assert!(parse(&facts(), &twice, &pod()).unwrap_err()[0].contains("twice"));
    }

    #[test]
    fn wildcards_are_of_the_pod_s_families() {
        let families = |request| {
            mapped(&[request]).iter().map(|forward| (forward.pod, forward.front.address)).collect::<Vec<_>>()
        };
        let [v4, v6] = pod();
        assert_eq!(families(asked("tcp", 80, "")), [(v4, None), (v6, None)]);
        assert_eq!(families(asked("tcp", 80, "0.0.0.0")), [(v4, None)]);
        assert_eq!(families(asked("tcp", 80, "::")), [(v6, None)]);
        let own = "172.31.0.1";
        assert_eq!(families(asked("tcp", 80, own)), [(v4, Some(own.parse().unwrap()))]);
    }

    #[test]
    fn a_port_has_one_owner() {
        let mut fronts = Fronts::default();
        let first = mapped(&[asked("tcp", 80, "172.31.0.1"), asked("udp", 53, "")]);
        fronts.insert("a/eth0", &first);
        for (taken, request) in [
            (true, asked("tcp", 80, "172.31.0.1")),
            (true, asked("tcp", 80, "")),
            (true, asked("tcp", 80, "0.0.0.0")),
            (false, asked("tcp", 80, "172.31.0.2")),
            (false, asked("tcp", 80, "::")),
            (false, asked("sctp", 80, "")),
            (false, asked("tcp", 81, "")),
            (true, asked("udp", 53, "fd00::7")),
        ] {
            let owner = fronts.taken(&mapped(std::slice::from_ref(&request))).map(|(_, id)| id);
            assert_eq!(owner, taken.then_some("a/eth0"), "{request:?}");
        }
        fronts.remove(&first);
        assert!(fronts.taken(&mapped(&[asked("udp", 53, ""), asked("tcp", 80, "")])).is_none());
    }
}
