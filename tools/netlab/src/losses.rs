//! What the kernel counts in a namespace: TCP's repetitions and what arrived out of order, and what interfaces dropped.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use anyhow::{Context, Result};
use heddle_netdev::sysctl::write_sysctl;
use serde_json::Value;

use crate::namespace::Namespace;

/// Of all TCP connections of a namespace, those that are over included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpCounters {
    /// Segments that were repeated, for whatever reason (`RetransSegs`).
    pub retransmitted: u64,
    /// Expiries of the retransmission timer (`TCPTimeouts`).
    pub timeouts: u64,
    /// Segments that arrived before one that was sent earlier (`TCPOFOQueue`).
    pub out_of_order: u64,
    /// Segments that a receiver had already (`TCPDSACKOldSent`, `TCPDSACKOfoSent`).
    pub duplicates: u64,
    /// Connections opened, by either end.
    pub opened: u64,
}

impl TcpCounters {
    fn with(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            retransmitted: combine(self.retransmitted, other.retransmitted),
            timeouts: combine(self.timeouts, other.timeouts),
            out_of_order: combine(self.out_of_order, other.out_of_order),
            duplicates: combine(self.duplicates, other.duplicates),
            opened: combine(self.opened, other.opened),
        }
    }
}

impl Add for TcpCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, |one, other| one + other)
    }
}

impl Sub for TcpCounters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        self.with(before, |now, before| now - before)
    }
}

impl Namespace {
    /// What its TCP has counted so far.
    pub fn tcp_counters(&self) -> Result<TcpCounters> {
        // The thread's own: /proc/net is that of the process, whose namespace is another.
        let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let text = self.run(|| Ok::<_, std::io::Error>(read("snmp")? + &read("netstat")?))??;
        let counters = parse(&text);
        let of = |name: &str| {
            counters.get(name).copied().with_context(|| format!("the kernel does not count {name}"))
        };
        Ok(TcpCounters {
            retransmitted: of("Tcp.RetransSegs")?,
            timeouts: of("TcpExt.TCPTimeouts")?,
            out_of_order: of("TcpExt.TCPOFOQueue")?,
            duplicates: of("TcpExt.TCPDSACKOldSent")? + of("TcpExt.TCPDSACKOfoSent")?,
            opened: of("Tcp.ActiveOpens")? + of("Tcp.PassiveOpens")?,
        })
    }

    /// What its interfaces and their queues have dropped so far, by a name for each; those with nothing are left out.
    pub fn interface_drops(&self) -> Result<BTreeMap<String, u64>> {
        let mut drops = BTreeMap::new();
        let mut note = |name: String, count: Option<u64>| {
            if let Some(count @ 1..) = count {
                *drops.entry(name).or_default() += count;
            }
        };
        for link in self.json(&["ip", "-s", "-j", "link"])? {
            for way in ["rx", "tx"] {
                let name = format!("{self} {} {way}", link["ifname"].as_str().unwrap_or_default());
                note(name, link["stats64"][way]["dropped"].as_u64());
            }
        }
        for queue in self.json(&["tc", "-s", "-j", "qdisc"])? {
            let name = format!("{self} {} queue", queue["dev"].as_str().unwrap_or_default());
            note(name, queue["drops"].as_u64());
        }
        Ok(drops)
    }

    /// Makes its TCP one that repeats nothing without a reason in the network, for those who count what it repeats.
    ///
    /// BBR, which some machines have as their default, sends from timers, on whatever core they fire: on any veth, two segments of
    /// one connection may then overtake each other. And a loss probe (RFC 8985, section 7) repeats a segment when nothing was heard
    /// for two round trips, as soon as a busy machine pauses.
    pub fn set_plain_tcp(&self) -> Result<()> {
        self.run(|| {
            write_sysctl("net/ipv4/tcp_congestion_control", "cubic")?;
            write_sysctl("net/ipv4/tcp_early_retrans", "0")
        })??;
        Ok(())
    }

    fn json(self, command: &[&str]) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.exec(command)?)?)
    }
}

/// Lines come in pairs: names, and values in the same order.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    let pairs = lines.chunks_exact(2).filter(|pair| pair[0].0 == pair[1].0);
    let columns = pairs.flat_map(|pair| {
        let (names, values) = (pair[0].1.split_whitespace(), pair[1].1.split_whitespace());
        names
            .zip(values)
            .filter_map(|(name, value)| Some((format!("{}.{name}", pair[0].0), value.parse().ok()?)))
    });
    columns.collect()
}

#[cfg(test)]
mod tests {
    //! The kernel's tables are read by their names, whatever else is in them.
    use super::*;

    #[test]
    fn names_find_their_values() {
        let text = "Tcp: RtoMin MaxConn RetransSegs\nTcp: 200 -1 7\nUdp: InErrors\nUdp: 3\n";
        let counters = parse(text);
        assert_eq!((counters["Tcp.RetransSegs"], counters["Udp.InErrors"]), (7, 3));
        assert_eq!(counters.get("Tcp.MaxConn"), None, "it is negative");
    }
}
