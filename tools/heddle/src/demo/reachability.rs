//! Who reaches whom: pods, nodes and the world, by ping, in both families.

use std::net::IpAddr;

use anyhow::{Result, bail};
use heddle_netlab::{Lab, Name, Namespace, Ping, WORLD};

use crate::output::table;

/// Somebody who can be pinged, by [IPv4, IPv6], and mostly can ping.
struct Party {
    name: String,
    namespace: Namespace,
    addresses: [IpAddr; 2],
    pings: bool,
}

/// Answers to each row's pings of each column: [IPv4, IPv6].
pub(super) struct Matrix {
    rows: Vec<(String, Vec<Option<[bool; 2]>>)>,
    columns: Vec<String>,
}

/// Pings from every pod and node to every other, and to the world.
pub(super) fn measure(lab: &Lab) -> Result<Matrix> {
    let parties = parties(lab)?;
    let rows = std::thread::scope(|scope| {
        // A row at a time for each sender: the senders do not disturb each other.
        let senders = parties.iter().filter(|party| party.pings);
        let threads: Vec<_> =
            senders.map(|from| scope.spawn(|| Ok((from.name.clone(), row(from, &parties)?)))).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(row) => row,
            Err(_) => bail!("a ping panicked"),
        });
        joined.collect::<Result<Vec<_>>>()
    })?;
    Ok(Matrix { rows, columns: parties.into_iter().map(|party| party.name).collect() })
}

fn row(from: &Party, parties: &[Party]) -> Result<Vec<Option<[bool; 2]>>> {
    let cell = |to: &Party| {
        if to.name == from.name {
            return Ok(None);
        }
        let ping = Ping { count: 2, ..Ping::default() };
        let [v4, v6] = to.addresses.map(|address| from.namespace.ping(address, &ping).map(|pong| pong.all()));
        Ok(Some([v4?, v6?]))
    };
    parties.iter().map(cell).collect()
}

fn parties(lab: &Lab) -> Result<Vec<Party>> {
    let pinger = |name: Name, namespace, addresses| Party {
        name: name.to_string(),
        namespace,
        addresses,
        pings: true,
    };
    let state = lab.state();
    let mut parties = Vec::new();
    for pod in &state.pods {
        let pod = lab.pod(&pod.name.to_string())?;
        parties.push(pinger(pod.state.name, pod.namespace, [pod.address(false)?, pod.address(true)?]));
    }
    for node in &state.nodes {
        let node = lab.node(&node.name.to_string())?;
        parties.push(pinger(node.state.name, node.namespace, [node.address(false)?, node.address(true)?]));
    }
    parties.push(Party { name: "world".to_owned(), namespace: lab.world(), addresses: WORLD, pings: false });
    Ok(parties)
}

impl Matrix {
    /// The matrix; as an error when anything was not answered.
    pub(super) fn verdict(self) -> Result<String> {
        let mut heads = vec!["from \\ to"];
        heads.extend(self.columns.iter().map(String::as_str));
        let mut table = table(&heads);
        let mut missing = Vec::new();
        let mut pairs = 0;
        for (from, cells) in &self.rows {
            let mut line = vec![from.clone()];
            for (to, cell) in self.columns.iter().zip(cells) {
                line.push(match cell {
                    None => String::new(),
                    Some([true, true]) => "4 6".to_owned(),
                    Some([true, false]) => "4 -".to_owned(),
                    Some([false, true]) => "- 6".to_owned(),
                    Some([false, false]) => "- -".to_owned(),
                });
                pairs += usize::from(cell.is_some());
                if cell.is_some_and(|families| families != [true, true]) {
                    missing.push(format!("{from} to {to}"));
                }
            }
            table.add_row(line);
        }
        if missing.is_empty() {
            return Ok(format!("{table}\n{pairs} ways, each in both families"));
        }
        bail!("no answer: {}\n{table}", missing.join(", "))
    }
}
