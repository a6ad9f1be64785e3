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
            endpoint.title(),
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
