//! `heddle drops`: of one switch, or of all the switches of a lab.

use std::collections::BTreeMap;

use anyhow::Result;
use heddle_api as api;
use heddle_netlab::Control;
use serde::Serialize;

use crate::args::{DropsOptions, Output, TargetOptions};
use crate::output::{align_right, print, print_json, table};
use crate::target::{ask_every_node, lab_instead_of_node};

/// One reason, over all the switches asked.
#[derive(Debug, Serialize)]
struct Row {
    reason: String,
    description: String,
    packets: u64,
    /// By node, when several were asked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<String, u64>,
}

pub(super) fn run(target: &TargetOptions, options: DropsOptions) -> Result<()> {
    let lab = if target.is_default() { lab_instead_of_node() } else { None };
    let sources = match lab {
        Some(lab) => ask_every_node(&lab, Control::drops)?,
        None => vec![(String::new(), target.connect()?.drops()?)],
    };
    if options.format.output == Output::Json {
        return print_json(&add_up(sources));
    }
    print(drops_table(sources, options.all))
}

/// The drops of switches, by name, as a table; `all` includes reasons that nothing was dropped for.
pub(crate) fn drops_table(sources: Vec<(String, Vec<api::Drop>)>, all: bool) -> String {
    let names: Vec<String> =
        sources.iter().map(|(name, _)| name.clone()).filter(|name| !name.is_empty()).collect();
    let mut heads = vec!["reason"];
    heads.extend(names.iter().map(String::as_str));
    heads.extend(["packets", "what it means"]);
    let mut table = table(&heads);
    let rows: Vec<Row> = add_up(sources).into_iter().filter(|row| all || row.packets > 0).collect();
    if rows.is_empty() {
        return "nothing was dropped".to_owned();
    }
    for row in rows {
        let mut cells = vec![row.reason];
        cells.extend(names.iter().map(|name| row.nodes.get(name).copied().unwrap_or_default().to_string()));
        cells.extend([row.packets.to_string(), row.description]);
        table.add_row(cells);
    }
    let numbers: Vec<usize> = (1..=names.len() + 1).collect();
    align_right(&mut table, &numbers);
    table.to_string()
}

/// In the order in which the first switch lists its reasons, which is that of a packet's way.
fn add_up(sources: Vec<(String, Vec<api::Drop>)>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (name, drops) in sources {
        for drop in drops {
            let known = rows.iter().position(|row| row.reason == drop.reason);
            let index = known.unwrap_or(rows.len());
            if known.is_none() {
                let (reason, description) = (drop.reason, drop.description);
                rows.push(Row { reason, description, packets: 0, nodes: BTreeMap::new() });
            }
            let row = &mut rows[index];
            row.packets += drop.packets;
            if !name.is_empty() {
                row.nodes.insert(name.clone(), drop.packets);
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    //! Counts of several switches add up, and empty reasons stay out of the way.
    use super::*;

    fn drop(reason: &str, packets: u64) -> api::Drop {
        api::Drop { reason: reason.into(), description: format!("about {reason}"), packets }
    }

    #[test]
    fn several_switches_add_up() {
        let rows = add_up(vec![
            ("n1".into(), vec![drop("a", 1), drop("b", 0)]),
            ("n2".into(), vec![drop("a", 2), drop("b", 0), drop("c", 4)]),
        ]);
        let summary: Vec<_> = rows.iter().map(|row| (row.reason.as_str(), row.packets)).collect();
        assert_eq!(summary, [("a", 3), ("b", 0), ("c", 4)]);
        assert_eq!(rows[0].nodes, BTreeMap::from([("n1".into(), 1), ("n2".into(), 2)]));
    }

    #[test]
    fn the_table_shows_what_happened() {
        let one = |drops| vec![(String::new(), drops)];
        assert_eq!(drops_table(one(vec![drop("a", 0)]), false), "nothing was dropped");
        let table = drops_table(one(vec![drop("a", 0), drop("b", 7)]), false);
        assert!(table.contains("about b") && table.contains('7') && !table.contains("about a"), "{table}");
        assert!(drops_table(one(vec![drop("a", 0)]), true).contains("about a"));
    }
}
