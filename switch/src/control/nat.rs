//! What Linux translates for Heddle, in one nftables table of Heddle's own: the source of what pods send to the world, and the
//! destination of what comes to a port of the node that leads to a pod.
//!
//! Rules never change while the switch runs; ports are elements of the table's maps, so a port costs a lookup and not a rule.
//! A packet whose destination was translated goes to the pod by way of `heddle0`, with its sender's address, so that policy sees who
//! it is; the pod's answer goes back the same way, because the switch remembers that the host forwarded the connection
//! (`pipeline/conntrack.rs`). Only what the pod could not answer gets the node's address: its own packets, and those from the
//! node's loopback.

use std::fmt::Write as _;
use std::net::IpAddr;

use heddle_netdev::conntrack::{self, Connection};
use ipnet::IpNet;

use super::facts::NodeFacts;
use super::host::LINUX_SIDE;
use super::nft;
use super::ports::{Forward, Transport};
use crate::config::{Config, Family};

/// Name of the table, family `inet`. Nothing else of the node's firewall is touched.
const TABLE: &str = "heddle";

/// The table, as it is to be.
#[derive(Debug)]
pub(super) struct Nat {
    masquerade: bool,
    pods: Vec<IpNet>,
    cluster: Vec<IpNet>,
    /// The node's address of each family that it has one of, which it sends from.
    source: Vec<IpAddr>,
    /// All of the node's addresses.
    own: Vec<IpAddr>,
    forwards: Vec<Forward>,
    /// The kernel has the table, as far as anybody knows.
    installed: bool,
    /// The table of a former switch is replaced; until then nothing is written.
    started: bool,
}

impl Nat {
    pub(super) fn new(config: &Config, facts: &NodeFacts) -> Self {
        Self {
            masquerade: config.masquerade,
            pods: config.pod_cidrs.clone(),
            cluster: config.cluster_cidrs.clone(),
            source: [Family::Ipv4, Family::Ipv6]
                .into_iter()
                .filter_map(|family| facts.address(family))
                .collect(),
            own: facts.addresses.clone(),
            forwards: Vec::new(),
            installed: false,
            started: false,
        }
    }

    /// Puts the table in place of the one that a former switch has left, with all that was [added](Self::add) so far, in one
    /// transaction.
    pub(super) fn start(&mut self) -> Result<(), String> {
        self.started = true;
        if self.masquerade || !self.forwards.is_empty() {
            return self.write_all();
        }
        tear_down(false)
    }

    /// Lets ports of the node lead to a pod: all of them or, on failure, none.
    pub(super) fn add(&mut self, forwards: &[Forward]) -> Result<(), String> {
        let before = self.forwards.len();
        self.forwards.extend_from_slice(forwards);
        let result = self.change("add", forwards);
        match result {
            Ok(()) => self.forget_connections(forwards),
            Err(_) => self.forwards.truncate(before),
        }
        result
    }

    /// Ends that. What cannot be removed is gone with the next change that succeeds.
    pub(super) fn remove(&mut self, forwards: &[Forward]) {
        self.forwards.retain(|forward| !forwards.contains(forward));
        if let Err(reason) = self.change("delete", forwards) {
            tracing::warn!(reason, "port mappings of a pod that is gone stay until the next change");
        }
        self.forget_connections(forwards);
    }

    /// Without it, what goes on goes on as before: worth a warning, and no failure.
    fn forget_connections(&self, forwards: &[Forward]) {
        if !self.started || forwards.is_empty() {
            return;
        }
        match forget_connections(&self.own, forwards) {
            Ok(count) => tracing::debug!(count, "connections by changed port mappings forgotten"),
            Err(error) => tracing::warn!(%error, "UDP flows by changed port mappings may go on as before"),
        }
    }

    fn change(&mut self, verb: &str, forwards: &[Forward]) -> Result<(), String> {
        if !self.started || forwards.is_empty() {
            return Ok(());
        }
        if self.installed && nft::run(&elements(verb, forwards)).is_ok() {
            return Ok(());
        }
        // Somebody has changed or flushed it, or it was not needed until now.
        self.write_all()
    }

    fn write_all(&mut self) -> Result<(), String> {
        self.installed = false;
        nft::run(&(self.table() + &elements("add", &self.forwards)))?;
        self.installed = true;
        Ok(())
    }

    /// The whole table, without elements.
    fn table(&self) -> String {
        let mut text = format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
        for (v, word, kind) in [(4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr")] {
            let _ = write!(
                text,
                "  map ports{v} {{ type inet_proto . inet_service : {kind} . inet_service; }}\n  \
                 map own_ports{v} {{ type {kind} . inet_proto . inet_service : {kind} . inet_service; }}\n  \
                 set pods{v} {{ type {kind} . {kind}; }}\n  \
                 chain ports{v} {{\n    \
                 dnat {word} to {word} daddr . meta l4proto . th dport map @own_ports{v}\n    \
                 dnat {word} to meta l4proto . th dport map @ports{v}\n  }}\n"
            );
        }
        // dstnat and srcnat, by number: nft takes the first name in prerouting only.
        for (hook, priority) in [("prerouting", -100), ("output", -100)] {
            let _ = write!(
                text,
                "  chain {hook} {{\n    type nat hook {hook} priority {priority}; policy accept;\n    \
                 fib daddr type local meta nfproto ipv4 meta l4proto {{ tcp, udp, sctp }} jump ports4\n    \
                 fib daddr type local meta nfproto ipv6 meta l4proto {{ tcp, udp, sctp }} jump ports6\n  }}\n"
            );
        }
        text.push_str(
            "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n",
        );
        for family in [Family::Ipv4, Family::Ipv6] {
            self.source_rules(family, &mut text);
        }
        text.push_str("  }\n}\n");
        text
    }

    fn source_rules(&self, family: Family, text: &mut String) {
        let (v, word) = match family {
            Family::Ipv4 => (4, "ip"),
            Family::Ipv6 => (6, "ip6"),
        };
        let source = self.source.iter().find(|address| Family::of(**address) == family);
        let as_node =
            source.map_or_else(|| "masquerade".to_owned(), |source| format!("snat {word} to {source}"));
        // A pod that reaches itself by its node's port would see its own address as the sender.
        let _ = writeln!(text, "    ct status dnat {word} saddr . {word} daddr @pods{v} {as_node}");
        if family == Family::Ipv4 {
            let _ = writeln!(text, "    oifname \"{LINUX_SIDE}\" ip saddr 127.0.0.0/8 {as_node}");
        }
        let set = |cidrs: &[IpNet]| {
            let cidrs = cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family);
            cidrs.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (pods, cluster) = (set(&self.pods), set(&self.cluster));
        if self.masquerade && !pods.is_empty() {
            // What stays within the cluster keeps its address: policy and replies need it.
            let _ = writeln!(
                text,
                "    {word} saddr {{ {pods} }} {word} daddr != {{ {cluster} }} oifname != \"{LINUX_SIDE}\" masquerade"
            );
        }
    }
}

/// Adds or deletes the elements that these need.
fn elements(verb: &str, forwards: &[Forward]) -> String {
    let mut text = String::new();
    let mut pods = Vec::new();
    for Forward { front, pod, pod_port } in forwards {
        let v = if pod.is_ipv4() { 4 } else { 6 };
        let (map, own) = match front.address {
            Some(address) => ("own_ports", format!("{address} . ")),
            None => ("ports", String::new()),
        };
        let key = format!("{own}{} . {}", front.protocol.name(), front.port);
        let value = if verb == "add" { format!(" : {pod} . {pod_port}") } else { String::new() };
        let _ = writeln!(text, "{verb} element inet {TABLE} {map}{v} {{ {key}{value} }}");
        if !pods.contains(pod) {
            pods.push(*pod);
            let _ = writeln!(text, "{verb} element inet {TABLE} pods{v} {{ {pod} . {pod} }}");
        }
    }
    text
}

/// What the kernel remembers that the change of these makes untrue: connections that were translated to a pod, and datagrams to a port
/// of the node (one of `own`) that were not. UDP flows have no end that the kernel sees, so one that never pauses would go on to a
/// pod that is gone, or never reach one that is new. TCP connections to a listener of the node's own are left to it.
fn forget_connections(own: &[IpAddr], forwards: &[Forward]) -> heddle_netdev::Result<usize> {
    let concerns = |connection: &Connection, Forward { front, pod, pod_port }: &Forward| {
        let is_translated = connection.replies_from != connection.to;
        let to_pod = connection.replies_from == (*pod, *pod_port);
        let to_port = connection.to.1 == front.port
            && own.contains(&connection.to.0)
            && connection.to.0.is_ipv4() == pod.is_ipv4()
            && front.address.is_none_or(|address| address == connection.to.0);
        let untranslated_datagrams = front.protocol == Transport::Udp && to_port && !is_translated;
        connection.protocol == front.protocol.number()
            && ((is_translated && to_pod) || untranslated_datagrams)
    };
    conntrack::delete(|connection| forwards.iter().any(|forward| concerns(connection, forward)))
}

/// Removes the table, if there is one. Where nobody needs nft, nobody has to have it.
fn tear_down(needed: bool) -> Result<(), String> {
    if !needed && !nft::is_there() {
        return Ok(());
    }
    // Deleting what is not there is an error, so it is made first.
    nft::run(&format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\n"))
}

#[cfg(test)]
mod tests {
    //! The table names every prefix once, family by family, and nothing of families the node does not have; an element of it
    //! is for the address it was asked for.
    use super::super::ports::{self, PortMapping};
    use super::super::tests::fake::facts;
    use super::*;

    fn nat(pods: &[&str], cluster: &[&str], own: &[&str], masquerade: bool) -> String {
        let list = |cidrs: &[&str]| {
            format!("[{}]", cidrs.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", "))
        };
        let text = format!(
            "node = \"n\"\npod_cidrs = {}\ncluster_cidrs = {}\nmasquerade = {masquerade}\n",
            list(pods),
            list(cluster)
        );
        let config = Config::parse(&text, std::path::Path::new("t")).unwrap();
        let addresses = own.iter().map(|address| address.parse().unwrap()).collect();
        Nat::new(&config, &NodeFacts { addresses, uplink: None, ..facts() }).table()
    }

    #[test]
    fn both_families() {
        let text =
            nat(&["10.244.1.0/24", "fd00:1::/64"], &["10.244.0.0/16", "fd00::/16"], &["172.31.0.1"], true);
        assert!(text.contains(
            "    ip saddr { 10.244.1.0/24 } ip daddr != { 10.244.0.0/16 } oifname != \"heddle0\" masquerade\n"
        ));
        assert!(text.contains(
            "    ip6 saddr { fd00:1::/64 } ip6 daddr != { fd00::/16 } oifname != \"heddle0\" masquerade\n"
        ));
        assert!(
            text.contains("@pods4 snat ip to 172.31.0.1\n") && text.contains("@pods6 masquerade\n"),
            "{text}"
        );
    }

    #[test]
    fn one_family_and_none() {
        let world = "oifname != \"heddle0\" masquerade";
        assert_eq!(nat(&["10.244.1.0/24"], &["10.244.0.0/16"], &[], true).matches(world).count(), 1);
        assert_eq!(nat(&["10.244.1.0/24"], &["10.244.0.0/16"], &[], false).matches(world).count(), 0);
    }

    #[test]
    fn elements_are_of_one_address_or_of_all() {
        let mapping = |host_address: Option<&str>| PortMapping {
            protocol: Transport::Tcp,
            host_port: 8080,
            pod_port: 80,
            host_address: host_address.map(|address| address.parse().unwrap()),
        };
        let pod = ["10.244.1.5".parse().unwrap(), "fd00:1::5".parse().unwrap()];
        let both = ports::forwards(&[mapping(None)], &pod);
        assert_eq!(
            elements("add", &both),
            "add element inet heddle ports4 { tcp . 8080 : 10.244.1.5 . 80 }\n\
             add element inet heddle pods4 { 10.244.1.5 . 10.244.1.5 }\n\
             add element inet heddle ports6 { tcp . 8080 : fd00:1::5 . 80 }\n\
             add element inet heddle pods6 { fd00:1::5 . fd00:1::5 }\n"
        );
        let one = ports::forwards(&[mapping(Some("172.31.0.1"))], &pod);
        assert_eq!(
            elements("delete", &one),
            "delete element inet heddle own_ports4 { 172.31.0.1 . tcp . 8080 }\n\
             delete element inet heddle pods4 { 10.244.1.5 . 10.244.1.5 }\n"
        );
    }
}
