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
    let heads =
        ["no", "pod", "addresses", "interface, mac", "worker", "policy", "mode", "rx", "tx", "by cache"];
    let mut table = table(&heads);
    for endpoint in endpoints {
        // 0 % would look as if something were wrong where nothing can be cached.
        let share = endpoint.cached_percent().filter(|_| endpoint.attach_mode == "cached");
        table.add_row([
            endpoint.number.to_string(),
            endpoint.title(),
            endpoint.addresses.join("\n"),
            format!("{}\n{}", endpoint.host_interface, endpoint.mac),
            endpoint.worker.to_string(),
            endpoint.policy.clone(),
            endpoint.attach_mode.clone(),
            bytes(endpoint.rx.bytes),
            bytes(endpoint.tx.bytes),
            share.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
        ]);
    }
    align_right(&mut table, &[0, 4, 7, 8, 9]);
    table
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
                pod_name: format!("a-{mode}-pod"),
                addresses: vec!["10.244.100.100".into(), "fd00:10:244:100::100".into()],
                mac: "0a:68:0a:f4:01:05".into(),
                host_interface: "hdlc12c21fb6b0".into(),
                attach_mode: mode.into(),
                policy: "class 1000".into(),
                rx: Some(api::Traffic { packets: 10, bytes: 1000 }),
                cached_rx: Some(api::Traffic { packets: 9, bytes: cached }),
                ..api::Endpoint::default()
            })
        };
        let text = endpoints_table(&[endpoint("direct", 0), endpoint("cached", 0), endpoint("cached", 980)])
            .to_string();
        for share in [" - ", " 0 % ", " 98 % "] {
            assert!(text.contains(share), "{share} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
