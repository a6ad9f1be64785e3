//! `heddle endpoints`.

use anyhow::Result;

use crate::args::{Output, TargetOptions};
use crate::output::{align_right, bytes, print, print_json, table};
use crate::view::Endpoint;

pub(super) fn run(target: &TargetOptions, output: Output) -> Result<()> {
    let endpoints = target.connect()?.endpoints()?.into_iter().map(Endpoint::from);
    let mut endpoints: Vec<_> = endpoints.collect();
    endpoints.sort_by_key(|endpoint| endpoint.number);
    if output == Output::Json {
        return print_json(&endpoints);
    }
    print(endpoints_table(&endpoints))
}

fn endpoints_table(endpoints: &[Endpoint]) -> comfy_table::Table {
    let heads = ["no", "pod", "addresses", "interface, mac", "worker", "policy", "mode", "rx", "tx"];
    let mut table = table(&heads);
    for endpoint in endpoints {
        table.add_row([
            endpoint.number.to_string(),
            pod(endpoint),
            endpoint.addresses.join("\n"),
            format!("{}\n{}", endpoint.host_interface, endpoint.mac),
            endpoint.worker.to_string(),
            endpoint.policy.clone(),
            mode(endpoint),
            bytes(endpoint.rx.bytes),
            bytes(endpoint.tx.bytes),
        ]);
    }
    align_right(&mut table, &[0, 4, 7, 8]);
    table
}

/// The pod; below it, the node's ports that lead to it, and its limits.
fn pod(endpoint: &Endpoint) -> String {
    let mut lines = vec![endpoint.title()];
    lines.extend(endpoint.port_mappings.iter().map(ToString::to_string));
    let limits = endpoint.bandwidth.iter().flat_map(|limits| {
        [("rx", limits.egress_rate), ("tx", limits.ingress_rate)].into_iter().filter(|(_, rate)| *rate > 0)
    });
    lines.extend(limits.map(|(direction, rate)| format!("{direction} ≤ {}", bits_per_second(rate))));
    lines.join("\n")
}

/// A rate in the largest unit that it is a whole or decimal number of.
fn bits_per_second(rate: u64) -> String {
    let (unit, name) = match rate {
        1_000_000_000.. => (1_000_000_000, "Gbit/s"),
        1_000_000.. => (1_000_000, "Mbit/s"),
        _ => (1000, "kbit/s"),
    };
    let tenths = rate * 10 / unit;
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

/// The mode; below it, in cached mode, how much of the pod's bytes the flow cache forwards.
fn mode(endpoint: &Endpoint) -> String {
    match endpoint.cached_percent() {
        Some(percent) if endpoint.attach_mode == "cached" => format!("cached\n{percent} %"),
        _ => endpoint.attach_mode.clone(),
    }
}

#[cfg(test)]
mod tests {
    //! How much the cache forwards is told of cached pods, and only of them; the table fits the usual terminal.
    use heddle_api as api;

    use super::*;

    #[test]
    fn ports_and_limits_are_below_the_pod() {
        let mapping = |host_address: &str| api::PortMapping {
            protocol: "tcp".into(),
            host_port: 8080,
            pod_port: 80,
            host_address: host_address.into(),
        };
        let endpoint = Endpoint::from(api::Endpoint {
            pod_namespace: "shop".into(),
            pod_name: "web-0".into(),
            port_mappings: vec![mapping(""), mapping("fd00::1")],
            bandwidth: Some(api::Bandwidth { ingress_rate: 20_500_000, ..api::Bandwidth::default() }),
            ..api::Endpoint::default()
        });
        assert_eq!(pod(&endpoint), "shop/web-0\n8080 → 80/tcp\n[fd00::1]:8080 → 80/tcp\ntx ≤ 20.5 Mbit/s");
        assert_eq!(bits_per_second(64_000), "64 kbit/s");
        assert_eq!(bits_per_second(10_000_000_000), "10 Gbit/s");
    }

    #[test]
    fn the_cache_s_share_is_shown_where_there_is_one() {
        let endpoint = |mode: &str, cached| {
            Endpoint::from(api::Endpoint {
                id: "0123456789abcdef/eth0".into(),
                pod_namespace: "default".into(),
                pod_name: format!("{mode}-0"),
                addresses: vec!["10.244.1.5".into(), "fd00:10:244:1::5".into()],
                mac: "0a:68:0a:f4:01:05".into(),
                host_interface: "hdlc12c21fb6b0".into(),
                attach_mode: mode.into(),
                policy: "class 7".into(),
                rx: Some(api::Traffic { packets: 10, bytes: 1000 }),
                cached_rx: Some(api::Traffic { packets: 9, bytes: cached }),
                ..api::Endpoint::default()
            })
        };
        assert_eq!(mode(&endpoint("direct", 0)), "direct");
        assert_eq!(mode(&endpoint("cached", 0)), "cached\n0 %");
        assert_eq!(
            mode(&Endpoint { rx: None.into(), cached_rx: None.into(), ..endpoint("cached", 0) }),
            "cached"
        );
        let text = endpoints_table(&[endpoint("direct", 0), endpoint("cached", 980)]).to_string();
        for whole in ["hdlc12c21fb6b0 ", "0a:68:0a:f4:01:05 ", "fd00:10:244:1::5 ", "98 % "] {
            assert!(text.contains(whole), "{whole} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
