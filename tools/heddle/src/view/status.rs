//! The switch's health.

use heddle_api as api;
use serde::Serialize;

use super::{Traffic, Vtep};

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
    /// Absent on a node without cached endpoints.
    pub(crate) flow_cache: Option<FlowCache>,
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
    pub(crate) attach_mode: String,
}

/// The kernel's map of judged flows, and what became of the packets that were looked up in it.
#[derive(Debug, Serialize)]
pub(crate) struct FlowCache {
    pub(crate) entries: u64,
    pub(crate) capacity: u64,
    pub(crate) inserted: u64,
    pub(crate) removed: u64,
    pub(crate) refused: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) pending: u64,
    pub(crate) revoked: u64,
    pub(crate) unusual: u64,
    pub(crate) too_big: u64,
    pub(crate) forced: u64,
}

impl From<api::FlowCache> for FlowCache {
    fn from(cache: api::FlowCache) -> Self {
        Self {
            entries: cache.entries,
            capacity: cache.capacity,
            inserted: cache.inserted,
            removed: cache.removed,
            refused: cache.refused,
            hits: cache.hits,
            misses: cache.misses,
            pending: cache.pending,
            revoked: cache.revoked,
            unusual: cache.unusual,
            too_big: cache.too_big,
            forced: cache.forced,
        }
    }
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
                attach_mode: node.attach_mode,
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
            flow_cache: status.flow_cache.map(FlowCache::from),
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

#[cfg(test)]
mod tests {
    //! What a node does not have is null, not zero.
    use super::*;

    #[test]
    fn a_node_without_uplink_and_cached_pods_has_neither() {
        let json = serde_json::to_value(Status::from(api::Status::default())).unwrap();
        assert_eq!(json["uplink"], serde_json::Value::Null);
        assert_eq!(json["flow_cache"], serde_json::Value::Null);
        assert_eq!(json["frames"]["quarantined"], 0);
    }

    #[test]
    fn a_flow_cache_is_told_in_full() {
        let cache = api::FlowCache {
            entries: 1,
            capacity: 2,
            hits: 3,
            misses: 4,
            pending: 5,
            revoked: 6,
            unusual: 7,
            too_big: 8,
            forced: 9,
            inserted: 10,
            removed: 11,
            refused: 12,
        };
        let status = api::Status { flow_cache: Some(cache), ..api::Status::default() };
        let json = serde_json::to_value(Status::from(status)).unwrap();
        assert_eq!(
            json["flow_cache"],
            serde_json::json!({
                "entries": 1, "capacity": 2, "hits": 3, "misses": 4, "pending": 5, "revoked": 6, "unusual": 7,
                "too_big": 8, "forced": 9, "inserted": 10, "removed": 11, "refused": 12,
            })
        );
    }
}
