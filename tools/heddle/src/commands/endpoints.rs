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
    let mut table = table(&["no", "pod", "addresses", "mac", "interface", "worker", "policy", "rx", "tx"]);
    for endpoint in &endpoints {
        table.add_row([
            endpoint.number.to_string(),
            endpoint.title(),
            endpoint.addresses.join("\n"),
            endpoint.mac.clone(),
            endpoint.host_interface.clone(),
            endpoint.worker.to_string(),
            endpoint.policy.clone(),
            bytes(endpoint.rx.bytes),
            bytes(endpoint.tx.bytes),
        ]);
    }
    align_right(&mut table, &[0, 5, 7, 8]);
    print(table)
}
