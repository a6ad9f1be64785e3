//! `heddle status`.

use anyhow::Result;

use crate::args::{Output, TargetOptions};
use crate::output::{align_right, bytes, duration, print, print_json, table};
use crate::view::{FlowCache, Policy, Status, Uplink};

pub(super) fn run(target: &TargetOptions, output: Output) -> Result<()> {
    let status = Status::from(target.connect()?.status()?);
    if output == Output::Json {
        return print_json(&status);
    }
    print(summary(&status))?;
    print("")?;
    print(workers(&status))
}

fn summary(status: &Status) -> String {
    let Status { node, frames, .. } = status;
    let lines = [
        (
            "node",
            format!(
                "{}, heddle-switch {}, up {}",
                node.name,
                status.version,
                duration(status.uptime_seconds)
            ),
        ),
        (
            "pods",
            format!(
                "from {}; MTU {}, attach mode {}",
                node.pod_cidrs.join(" and "),
                node.pod_mtu,
                node.attach_mode
            ),
        ),
        ("gateway", format!("{} at {}", node.gateways.join(" and "), node.gateway_mac)),
        ("uplink", status.uplink.as_ref().map_or_else(|| "none".to_owned(), uplink)),
        (
            "tables",
            format!(
                "{} endpoints, {} routes; generation {}",
                status.endpoints, status.routes, status.generation
            ),
        ),
        ("policy", policy(&status.policy)),
        ("cache", status.flow_cache.as_ref().map_or_else(|| "none".to_owned(), flow_cache)),
        (
            "frames",
            format!(
                "{}: {} free, {} receiving, {} sending, {} between workers, {} quarantined",
                frames.total,
                frames.free,
                frames.receiving,
                frames.sending,
                frames.handoff,
                frames.quarantined
            ),
        ),
    ];
    lines.map(|(word, text)| format!("{word:<9}{text}")).join("\n")
}

/// Two lines: the map itself, and what became of packets that were looked up in it.
fn flow_cache(cache: &FlowCache) -> String {
    format!(
        "{} of {} flows; {} written, {} removed, {} not written because it was full\n\
         {:9}packets: {} hits, {} misses, {} pending, {} revoked, {} unusual, {} too big; {} flows forced",
        cache.entries,
        cache.capacity,
        cache.inserted,
        cache.removed,
        cache.refused,
        "",
        cache.hits,
        cache.misses,
        cache.pending,
        cache.revoked,
        cache.unusual,
        cache.too_big,
        cache.forced
    )
}

fn policy(policy: &Policy) -> String {
    let image = match policy.age_seconds {
        _ if policy.mode == "off" => return "off: every endpoint is open".to_owned(),
        None => "no image yet".to_owned(),
        Some(age) => format!("image {} of {} ago", policy.generation, duration(age)),
    };
    format!("{}, {image}; {} endpoints closed", policy.mode, policy.closed_endpoints)
}

fn uplink(uplink: &Uplink) -> String {
    let vtep = uplink.vtep.as_ref();
    let vtep =
        vtep.map_or_else(|| "no VTEP".to_owned(), |vtep| format!("VTEP {} ({})", vtep.address, vtep.mac));
    format!("{}, XDP {}; {vtep}, VNI {}, UDP port {}", uplink.interface, uplink.xdp, uplink.vni, uplink.port)
}

fn workers(status: &Status) -> comfy_table::Table {
    let heads = [
        "worker",
        "core",
        "polling",
        "ports",
        "rx packets",
        "rx",
        "tx packets",
        "tx",
        "ICMP errors",
        "sleeps",
        "connections",
    ];
    let mut table = table(&heads);
    for worker in &status.workers {
        table.add_row([
            worker.index.to_string(),
            worker.core.map_or_else(|| "any".to_owned(), |core| core.to_string()),
            worker.polling.clone(),
            worker.ports.to_string(),
            worker.rx.packets.to_string(),
            bytes(worker.rx.bytes),
            worker.tx.packets.to_string(),
            bytes(worker.tx.bytes),
            worker.icmp_errors.to_string(),
            worker.sleeps.to_string(),
            format!("{} of {}", worker.connections.count, worker.connections.capacity),
        ]);
    }
    align_right(&mut table, &[0, 3, 4, 5, 6, 7, 8, 9, 10]);
    table
}

#[cfg(test)]
mod tests {
    //! The flow cache is told whole, and a node without one says so.
    use heddle_api as api;

    use super::*;

    #[test]
    fn the_flow_cache_has_its_lines() {
        let mut status = api::Status::default();
        assert!(summary(&status.clone().into()).contains("\ncache    none\n"));
        let cache = api::FlowCache {
            entries: 12,
            capacity: 131_072,
            hits: 88,
            misses: 7,
            pending: 3,
            revoked: 2,
            forced: 1,
            refused: 4,
            ..api::FlowCache::default()
        };
        status.flow_cache = Some(cache);
        let text = summary(&status.into());
        for part in [
            "cache    12 of 131072 flows; ",
            "4 not written because it was full\n         packets: 88 hits, 7 misses, 3 pending, 2 revoked",
            "; 1 flows forced",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
