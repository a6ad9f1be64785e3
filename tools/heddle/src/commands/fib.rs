//! `heddle fib`.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::args::{Output, TargetOptions};
use crate::output::{print, print_json, table};
use crate::view::{Endpoint, FibEntry, NextHop, short_id};

pub(super) fn run(target: &TargetOptions, output: Output) -> Result<()> {
    let mut control = target.connect()?;
    let entries: Vec<_> = control.fib()?.into_iter().map(FibEntry::from).collect();
    if output == Output::Json {
        return print_json(&entries);
    }
    let endpoints = control.endpoints()?.into_iter().map(Endpoint::from);
    let titles: BTreeMap<_, _> = endpoints.map(|endpoint| (endpoint.id.clone(), endpoint.title())).collect();
    let mut table = table(&["prefix", "to", "through"]);
    for FibEntry { prefix, next_hop } in entries {
        let (to, through) = match next_hop {
            NextHop::Endpoint { endpoint } => {
                let title = titles.get(&endpoint).cloned();
                (format!("pod {}", title.unwrap_or_else(|| short_id(&endpoint))), String::new())
            }
            NextHop::Vtep { vtep, neighbor_mac } => {
                let neighbor =
                    neighbor_mac.map_or_else(|| "not resolved".to_owned(), |mac| format!("next hop {mac}"));
                (format!("node {}", vtep.node), format!("VTEP {} ({}), {neighbor}", vtep.address, vtep.mac))
            }
            NextHop::Host => ("host".to_owned(), String::new()),
            NextHop::Unreachable => ("unreachable".to_owned(), String::new()),
            NextHop::Unknown => ("?".to_owned(), "newer than this command: update heddle".to_owned()),
        };
        table.add_row([prefix, to, through]);
    }
    print(table)
}
