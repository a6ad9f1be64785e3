//! What pods send to the world leaves with the node's address: one nftables table, Heddle's own.

use std::fmt::Write as _;
use std::io::Write;
use std::process::{Command, Stdio};

use ipnet::IpNet;

use super::host::LINUX_SIDE;
use crate::config::{Config, Family};

/// Name of the table, family `inet`. Nothing else of the node's firewall is touched.
const TABLE: &str = "heddle";

/// Puts the table in place, in one transaction.
pub(super) fn set_up(config: &Config) -> Result<(), String> {
    nft(&script(&config.pod_cidrs, &config.cluster_cidrs))
}

/// The whole table. What stays within the cluster keeps its address: policy and replies need it.
fn script(pods: &[IpNet], cluster: &[IpNet]) -> String {
    let mut rules = String::new();
    for (family, word) in [(Family::Ipv4, "ip"), (Family::Ipv6, "ip6")] {
        let set = |cidrs: &[IpNet]| {
            let cidrs = cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family);
            cidrs.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (pods, cluster) = (set(pods), set(cluster));
        if !pods.is_empty() {
            let _ = writeln!(
                rules,
                "    {word} saddr {{ {pods} }} {word} daddr != {{ {cluster} }} oifname != \"{LINUX_SIDE}\" masquerade"
            );
        }
    }
    format!(
        "table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n  chain postrouting {{\n    \
         type nat hook postrouting priority srcnat; policy accept;\n{rules}  }}\n}}\n"
    )
}

fn nft(script: &str) -> Result<(), String> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = nft.spawn().map_err(|error| {
        format!("cannot run nft ({error}); apt-get install nftables, or write masquerade = false")
    })?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|error| format!("cannot run nft: {error}"))?;
    if output.status.success() && written.is_ok() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    let first = reason.lines().next().unwrap_or("no reason given").to_owned();
    Err(format!(
        "nft refuses the table inet {TABLE}: {first}; write masquerade = false if this kernel has no nftables"
    ))
}

#[cfg(test)]
mod tests {
    //! The rules name every prefix once, family by family, and nothing of families the node does not have.
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families() {
        let text = script(&cidrs(&["10.244.1.0/24", "fd00:1::/64"]), &cidrs(&["10.244.0.0/16", "fd00::/16"]));
        assert!(text.contains(
            "    ip saddr { 10.244.1.0/24 } ip daddr != { 10.244.0.0/16 } oifname != \"heddle0\" masquerade\n"
        ));
        assert!(text.contains(
            "    ip6 saddr { fd00:1::/64 } ip6 daddr != { fd00::/16 } oifname != \"heddle0\" masquerade\n"
        ));
    }

    #[test]
    fn one_family() {
        let text = script(&cidrs(&["10.244.1.0/24"]), &cidrs(&["10.244.0.0/16"]));
        assert_eq!(text.matches("masquerade").count(), 1);
        assert!(!text.contains("ip6"));
    }
}
