//! What the switch tells, in the form that `-o json` prints: fields are added, never renamed or removed.

mod status;

use heddle_api as api;
use serde::Serialize;

pub(crate) use status::{FlowCache, Policy, Status, Uplink};

#[derive(Debug, Serialize)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl From<Option<api::Traffic>> for Traffic {
    fn from(traffic: Option<api::Traffic>) -> Self {
        let api::Traffic { packets, bytes } = traffic.unwrap_or_default();
        Self { packets, bytes }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Vtep {
    pub(crate) node: String,
    pub(crate) address: String,
    pub(crate) mac: String,
}

impl From<api::Vtep> for Vtep {
    fn from(api::Vtep { node, address, mac }: api::Vtep) -> Self {
        Self { node, address, mac }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) number: u32,
    pub(crate) pod_namespace: String,
    pub(crate) pod_name: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) mac: String,
    pub(crate) host_interface: String,
    pub(crate) mtu: u32,
    pub(crate) worker: u32,
    pub(crate) attach_mode: String,
    pub(crate) policy: String,
    pub(crate) rx: Traffic,
    pub(crate) tx: Traffic,
    /// The part of it that the flow cache forwarded.
    pub(crate) cached_rx: Traffic,
    pub(crate) cached_tx: Traffic,
    pub(crate) port_mappings: Vec<PortMapping>,
    /// Absent when the pod is not limited.
    pub(crate) bandwidth: Option<Bandwidth>,
}

/// A port of the node that leads to the pod.
#[derive(Debug, Serialize)]
pub(crate) struct PortMapping {
    pub(crate) protocol: String,
    pub(crate) host_port: u32,
    pub(crate) pod_port: u32,
    /// Empty for all addresses of the node.
    pub(crate) host_address: String,
}

/// Bits a second, and bits at once; 0 is no limit, and the switch's choice.
#[derive(Debug, Serialize)]
pub(crate) struct Bandwidth {
    pub(crate) ingress_rate: u64,
    pub(crate) ingress_burst: u64,
    pub(crate) egress_rate: u64,
    pub(crate) egress_burst: u64,
}

impl From<api::PortMapping> for PortMapping {
    fn from(api::PortMapping { protocol, host_port, pod_port, host_address }: api::PortMapping) -> Self {
        Self { protocol, host_port, pod_port, host_address }
    }
}

impl std::fmt::Display for PortMapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { protocol, host_port, pod_port, host_address } = self;
        match host_address.as_str() {
            "" => write!(f, "{host_port} → {pod_port}/{protocol}"),
            v6 if v6.contains(':') => write!(f, "[{v6}]:{host_port} → {pod_port}/{protocol}"),
            v4 => write!(f, "{v4}:{host_port} → {pod_port}/{protocol}"),
        }
    }
}

impl From<api::Bandwidth> for Bandwidth {
    fn from(bandwidth: api::Bandwidth) -> Self {
        let api::Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst } = bandwidth;
        Self { ingress_rate, ingress_burst, egress_rate, egress_burst }
    }
}

impl From<api::Endpoint> for Endpoint {
    fn from(endpoint: api::Endpoint) -> Self {
        Self {
            id: endpoint.id,
            number: endpoint.number,
            pod_namespace: endpoint.pod_namespace,
            pod_name: endpoint.pod_name,
            addresses: endpoint.addresses,
            mac: endpoint.mac,
            host_interface: endpoint.host_interface,
            mtu: endpoint.mtu,
            worker: endpoint.worker,
            attach_mode: endpoint.attach_mode,
            policy: endpoint.policy,
            rx: endpoint.rx.into(),
            tx: endpoint.tx.into(),
            cached_rx: endpoint.cached_rx.into(),
            cached_tx: endpoint.cached_tx.into(),
            port_mappings: endpoint.port_mappings.into_iter().map(PortMapping::from).collect(),
            bandwidth: endpoint.bandwidth.map(Bandwidth::from),
        }
    }
}

impl Endpoint {
    /// The pod, or whatever else tells the endpoint from others.
    pub(crate) fn title(&self) -> String {
        match (self.pod_namespace.as_str(), self.pod_name.as_str()) {
            (_, "") => short_id(&self.id),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }

    /// Of a hundred bytes to and from it, how many the flow cache forwarded; none where nothing has passed.
    pub(crate) fn cached_percent(&self) -> Option<u64> {
        // Wider than the counters, which a hundredfold could overflow.
        let sum = |one: &Traffic, other: &Traffic| u128::from(one.bytes) + u128::from(other.bytes);
        let (cached, all) = (sum(&self.cached_rx, &self.cached_tx), sum(&self.rx, &self.tx));
        (100 * cached).checked_div(all).map(|percent| percent.min(100) as u64)
    }
}

/// An endpoint's id with the container's part as short as container tools show it.
pub(crate) fn short_id(id: &str) -> String {
    const SHORT: usize = 12;
    match id.split_once('/') {
        Some((container, interface)) if container.chars().count() > SHORT => {
            format!("{}…/{interface}", container.chars().take(SHORT).collect::<String>())
        }
        _ => id.to_owned(),
    }
}

/// A connection, seen from one of its ends.
#[derive(Debug, Serialize)]
pub(crate) struct Flow {
    /// `namespace/name`, or what else the endpoint is known by.
    pub(crate) pod: String,
    pub(crate) endpoint: String,
    pub(crate) side: String,
    /// Its name, or its number where it has none that everybody knows.
    pub(crate) protocol: String,
    pub(crate) source: String,
    pub(crate) source_port: u32,
    pub(crate) destination: String,
    pub(crate) destination_port: u32,
    pub(crate) state: String,
    pub(crate) idle_milliseconds: u64,
    pub(crate) judged_at: u32,
    pub(crate) original: Traffic,
    pub(crate) reply: Traffic,
    pub(crate) offloaded: bool,
}

impl Flow {
    pub(crate) fn new(pod: Option<String>, flow: api::Flow) -> Self {
        let protocol = match flow.protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            58 => "icmpv6".to_owned(),
            132 => "sctp".to_owned(),
            number => number.to_string(),
        };
        Self {
            pod: pod.unwrap_or_else(|| short_id(&flow.endpoint)),
            endpoint: flow.endpoint,
            side: flow.side,
            protocol,
            source: flow.source,
            source_port: flow.source_port,
            destination: flow.destination,
            destination_port: flow.destination_port,
            state: flow.state,
            idle_milliseconds: flow.idle_milliseconds,
            judged_at: flow.judged_at,
            original: flow.original.into(),
            reply: flow.reply.into(),
            offloaded: flow.offloaded,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct FibEntry {
    pub(crate) prefix: String,
    #[serde(flatten)]
    pub(crate) next_hop: NextHop,
}

#[derive(Debug, Serialize)]
#[serde(tag = "next_hop", rename_all = "snake_case")]
pub(crate) enum NextHop {
    Endpoint {
        endpoint: String,
    },
    Vtep {
        vtep: Vtep,
        neighbor_mac: Option<String>,
    },
    Host,
    Unreachable,
    /// Of a kind that this version of the command line does not know.
    Unknown,
}

impl From<api::FibEntry> for FibEntry {
    fn from(entry: api::FibEntry) -> Self {
        use api::fib_entry::NextHop as Api;
        let neighbor_mac = (!entry.neighbor_mac.is_empty()).then_some(entry.neighbor_mac);
        let next_hop = match entry.next_hop {
            Some(Api::Endpoint(endpoint)) => NextHop::Endpoint { endpoint },
            Some(Api::Vtep(vtep)) => NextHop::Vtep { vtep: vtep.into(), neighbor_mac },
            Some(Api::Host(_)) => NextHop::Host,
            Some(Api::Unreachable(_)) => NextHop::Unreachable,
            None => NextHop::Unknown,
        };
        Self { prefix: entry.prefix, next_hop }
    }
}

#[cfg(test)]
mod tests {
    //! The shape of the JSON is an interface: these are its witnesses.
    use api::fib_entry::NextHop as Api;

    use super::*;

    #[test]
    fn fib_entries() {
        let vtep =
            api::Vtep { node: "n2".into(), address: "172.31.0.2".into(), mac: "02:00:00:00:00:02".into() };
        let json = |entry: api::FibEntry| serde_json::to_value(FibEntry::from(entry)).unwrap();
        let entry = |next_hop| api::FibEntry {
            prefix: "10.244.2.0/24".into(),
            next_hop: Some(next_hop),
            neighbor_mac: String::new(),
        };
        assert_eq!(
            json(entry(Api::Vtep(vtep))),
            serde_json::json!({
                "prefix": "10.244.2.0/24",
                "next_hop": "vtep",
                "vtep": {"node": "n2", "address": "172.31.0.2", "mac": "02:00:00:00:00:02"},
                "neighbor_mac": null,
            })
        );
        assert_eq!(
            json(entry(Api::Endpoint("a/eth0".into()))),
            serde_json::json!({"prefix": "10.244.2.0/24", "next_hop": "endpoint", "endpoint": "a/eth0"})
        );
        let host = serde_json::json!({"prefix": "10.244.2.0/24", "next_hop": "host"});
        assert_eq!(json(entry(Api::Host(api::Host {}))), host);
    }

    #[test]
    fn the_cache_s_share_is_of_both_directions() {
        let traffic = |bytes| Some(api::Traffic { packets: 1, bytes });
        let endpoint = |rx, tx, cached_rx, cached_tx| {
            Endpoint::from(api::Endpoint {
                rx: traffic(rx),
                tx: traffic(tx),
                cached_rx: traffic(cached_rx),
                cached_tx: traffic(cached_tx),
                ..api::Endpoint::default()
            })
        };
        assert_eq!(endpoint(0, 0, 0, 0).cached_percent(), None);
        assert_eq!(endpoint(1000, 0, 0, 0).cached_percent(), Some(0));
        assert_eq!(endpoint(600, 400, 500, 299).cached_percent(), Some(79));
        assert_eq!(endpoint(u64::MAX, u64::MAX, u64::MAX, u64::MAX).cached_percent(), Some(100));
    }

    #[test]
    fn ids_are_shortened_for_tables() {
        assert_eq!(short_id("0123456789abcdef/eth0"), "0123456789ab…/eth0");
        assert_eq!(short_id("lab-n1p1/eth0"), "lab-n1p1/eth0");
        assert_eq!(short_id("odd"), "odd");
    }
}
