//! `heddle flows`: the connections of one switch, or of all the switches of a lab.

use std::net::IpAddr;

use anyhow::Result;
use heddle_api as api;
use heddle_netlab::Control;

use crate::args::{FlowsOptions, Output, TargetOptions};
use crate::output::{align_right, bytes, print, print_json, table};
use crate::target::{ask_every_node, lab_instead_of_node};
use crate::view::{Endpoint, Flow};

pub(super) fn run(target: &TargetOptions, options: &FlowsOptions) -> Result<()> {
    let lab = if target.is_default() { lab_instead_of_node() } else { None };
    let mut flows = match lab {
        Some(lab) => ask_every_node(&lab, read)?.into_iter().flat_map(|(_, flows)| flows).collect(),
        None => read(&mut target.connect()?)?,
    };
    if let Some(pod) = &options.pod {
        flows.retain(|flow| is_of(flow, pod));
    }
    // The busiest first: who looks at a node with 100,000 connections looks for those.
    flows.sort_by_key(|flow| std::cmp::Reverse(flow.original.bytes + flow.reply.bytes));
    if options.format.output == Output::Json {
        return print_json(&flows);
    }
    print(flows_table(&flows))
}

fn read(control: &mut Control) -> Result<Vec<Flow>> {
    let endpoints: Vec<_> = control.endpoints()?.into_iter().map(Endpoint::from).collect();
    let title = |id: &str| endpoints.iter().find(|endpoint| endpoint.id == id).map(Endpoint::title);
    let flow = |flow: api::Flow| Flow::new(title(&flow.endpoint), flow);
    Ok(control.flows()?.into_iter().map(flow).collect())
}

/// `pod` is a name or `namespace/name`.
fn is_of(flow: &Flow, pod: &str) -> bool {
    flow.pod == pod || flow.pod.rsplit('/').next() == Some(pod)
}

fn flows_table(flows: &[Flow]) -> String {
    if flows.is_empty() {
        return "no connections".to_owned();
    }
    let mut table = table(&["pod", "side", "connection", "state", "by", "idle", "sent", "answered"]);
    for flow in flows {
        table.add_row([
            flow.pod.clone(),
            flow.side.clone(),
            format!(
                "{} {} → {}",
                flow.protocol,
                place(&flow.source, flow.source_port),
                place(&flow.destination, flow.destination_port)
            ),
            flow.state.clone(),
            // Whoever forwards its packets at the moment.
            if flow.offloaded { "cache" } else { "switch" }.to_owned(),
            format!("{:.1} s", std::time::Duration::from_millis(flow.idle_milliseconds).as_secs_f64()),
            bytes(flow.original.bytes),
            bytes(flow.reply.bytes),
        ]);
    }
    align_right(&mut table, &[5, 6, 7]);
    table.to_string()
}

/// An address with its port, as in URLs.
fn place(address: &str, port: u32) -> String {
    match address.parse() {
        Ok(IpAddr::V6(_)) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    //! A connection reads as what it is, and pods are found by either form of their name.
    use super::*;

    fn flow() -> Flow {
        let api = api::Flow {
            endpoint: "c1/eth0".into(),
            side: "egress".into(),
            protocol: 6,
            source: "fd00::1".into(),
            source_port: 40_000,
            destination: "fd00::2".into(),
            destination_port: 80,
            state: "established".into(),
            idle_milliseconds: 1250,
            ..api::Flow::default()
        };
        Flow::new(Some("shop/web".into()), api)
    }

    #[test]
    fn a_row_tells_the_connection() {
        let table = flows_table(&[flow()]);
        for part in ["shop/web", "egress", "tcp [fd00::1]:40000 → [fd00::2]:80", "established", "1.2 s"] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
        assert_eq!(flows_table(&[]), "no connections");
    }

    #[test]
    fn a_row_tells_who_forwards() {
        let mut flow = flow();
        assert!(flows_table(std::slice::from_ref(&flow)).contains("switch"));
        flow.offloaded = true;
        let table = flows_table(&[flow]);
        assert!(table.contains("cache") && !table.contains("switch"), "{table}");
    }

    #[test]
    fn pods_are_found_by_name() {
        assert!(is_of(&flow(), "web") && is_of(&flow(), "shop/web"));
        assert!(!is_of(&flow(), "shop") && !is_of(&flow(), "bar/web") && !is_of(&flow(), "eb"));
    }
}
