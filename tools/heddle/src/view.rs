//! What the switch tells, in the form that `-o json` prints: fields are added, never renamed or removed.

use heddle_api as api;
use serde::Serialize;

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
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) uptime_seconds: u64,
    pub(crate) node: Node,
    /// Absent on a node that has no way to others.
    pub(crate) uplink: Option<Uplink>,
    pub(crate) generation: u64,
    pub(crate) endpoints: u32,
    pub(crate) routes: u32,
    pub(crate) workers: Vec<Worker>,
    pub(crate) frames: Frames,
    pub(crate) policy: Policy,
}

#[derive(Debug, Serialize)]
pub(crate) struct Policy {
    pub(crate) mode: String,
    pub(crate) generation: u32,
    /// Absent before the first image.
    pub(crate) age_seconds: Option<u64>,
    pub(crate) closed_endpoints: u32,
}

impl From<api::PolicyStatus> for Policy {
    fn from(status: api::PolicyStatus) -> Self {
        let api::PolicyStatus { mode, generation, age_seconds, closed_endpoints } = status;
        Self { mode, generation, age_seconds, closed_endpoints }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) pod_cidrs: Vec<String>,
    pub(crate) gateways: Vec<String>,
    pub(crate) gateway_mac: String,
    pub(crate) pod_mtu: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Uplink {
    pub(crate) interface: String,
    pub(crate) xdp: String,
    pub(crate) vni: u32,
    pub(crate) port: u32,
    pub(crate) vtep: Option<Vtep>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Worker {
    pub(crate) index: u32,
    pub(crate) core: Option<u32>,
    pub(crate) polling: String,
    pub(crate) ports: u32,
    pub(crate) rx: Traffic,
    pub(crate) tx: Traffic,
    pub(crate) sleeps: u64,
    pub(crate) icmp_errors: u64,
    pub(crate) connections: Connections,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) count: u64,
    pub(crate) capacity: u64,
    pub(crate) opened: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
    pub(crate) removed: u64,
}

impl From<api::Connections> for Connections {
    fn from(table: api::Connections) -> Self {
        let api::Connections { count, capacity, opened, expired, evicted, removed } = table;
        Self { count, capacity, opened, expired, evicted, removed }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Frames {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) receiving: u64,
    pub(crate) sending: u64,
    pub(crate) handoff: u64,
    pub(crate) quarantined: u64,
}

impl From<api::Status> for Status {
    fn from(status: api::Status) -> Self {
        let node = status.node.unwrap_or_default();
        let uplink = (!status.uplink.is_empty()).then(|| Uplink {
            interface: status.uplink,
            xdp: status.uplink_xdp,
            vni: status.vni,
            port: status.vxlan_port,
            vtep: node.vtep.map(Vtep::from),
        });
        let frames = status.frames.unwrap_or_default();
        Self {
            version: status.version,
            uptime_seconds: status.uptime_seconds,
            node: Node {
                name: node.name,
                pod_cidrs: node.pod_cidrs,
                gateways: node.gateways,
                gateway_mac: node.gateway_mac,
                pod_mtu: node.pod_mtu,
            },
            uplink,
            generation: status.generation,
            endpoints: status.endpoints,
            routes: status.routes,
            workers: status.workers.into_iter().map(Worker::from).collect(),
            frames: Frames {
                total: frames.total,
                free: frames.free,
                receiving: frames.receiving,
                sending: frames.sending,
                handoff: frames.handoff,
                quarantined: frames.quarantined,
            },
            policy: status.policy.unwrap_or_default().into(),
        }
    }
}

impl From<api::Worker> for Worker {
    fn from(worker: api::Worker) -> Self {
        Self {
            index: worker.index,
            core: worker.core,
            polling: worker.polling,
            ports: worker.ports,
            rx: worker.rx.into(),
            tx: worker.tx.into(),
            sleeps: worker.sleeps,
            icmp_errors: worker.icmp_errors,
            connections: worker.connections.unwrap_or_default().into(),
        }
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
    fn a_node_without_uplink_has_none() {
        let json = serde_json::to_value(Status::from(api::Status::default())).unwrap();
        assert_eq!(json["uplink"], serde_json::Value::Null);
        assert_eq!(json["frames"]["quarantined"], 0);
    }

    #[test]
    fn ids_are_shortened_for_tables() {
        assert_eq!(short_id("0123456789abcdef/eth0"), "0123456789ab…/eth0");
        assert_eq!(short_id("lab-n1p1/eth0"), "lab-n1p1/eth0");
        assert_eq!(short_id("odd"), "odd");
    }
}
