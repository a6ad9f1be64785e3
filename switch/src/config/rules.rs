//! What the values of single settings have to be.

use std::path::PathBuf;

use ipnet::IpNet;
use toml::Value;

use super::section::{self, describe};

/// Least MTU of a link that carries IPv6 (RFC 8200, section 5).
pub(crate) const MIN_MTU: u16 = 1280;
/// Largest that native XDP without fragments allows on a veth: a page less headroom, Ethernet header and
/// `skb_shared_info` (`veth_xdp_set`, drivers/net/veth.c).
pub(crate) const MAX_MTU: u16 = 3504;
/// Room of `sun_path` in `sockaddr_un`, less its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// A DNS subdomain, as Kubernetes names nodes (RFC 1123).
pub(super) fn node_name(value: &Value) -> Result<String, String> {
    let text = section::text(value)?;
    let label = |label: &str| {
        let bytes = label.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(a), Some(z)) if *a != b'-' && *z != b'-')
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text);
    }
    Err(format!("is \"{text}\", write the node's name in lower case letters, digits, '-' and '.'"))
}

pub(super) fn absolute_path(value: &Value) -> Result<PathBuf, String> {
    let text = section::text(value)?;
    if text.starts_with('/') && !text.contains('\0') {
        Ok(text.into())
    } else {
        Err(format!("is \"{text}\", write an absolute path"))
    }
}

pub(super) fn socket_path(value: &Value) -> Result<PathBuf, String> {
    let path = absolute_path(value)?;
    if path.as_os_str().len() > MAX_SOCKET_PATH || path.file_name().is_none() {
        return Err(format!("is \"{}\", write a file of at most {MAX_SOCKET_PATH} bytes", path.display()));
    }
    Ok(path)
}

/// A name Linux takes for an interface.
pub(super) fn interface_name(value: &Value) -> Result<String, String> {
    let text = section::text(value)?;
    if text == "lo" {
        return Err(
            "is \"lo\", the loopback, which leads to no other node; write the name of the NIC that does"
                .into(),
        );
    }
    match heddle_netdev::check_link_name(&text) {
        Ok(()) => Ok(text),
        Err(_) => Err(format!("is \"{text}\", write the name of the NIC as `ip link` shows it")),
    }
}

/// At least one prefix; none contains another.
pub(super) fn cidrs(value: &Value) -> Result<Vec<IpNet>, String> {
    let cidrs = section::list(value, cidr)?;
    if cidrs.is_empty() {
        return Err("is empty, write at least one prefix such as \"10.244.1.0/24\"".to_owned());
    }
    for (index, one) in cidrs.iter().enumerate() {
        if let Some(other) = cidrs[..index].iter().find(|other| overlap(one, other)) {
            return Err(format!("has {other} and {one}, which overlap; keep one of them"));
        }
    }
    Ok(cidrs)
}

fn cidr(value: &Value) -> Result<IpNet, String> {
    let text = section::text(value)?;
    let example = "write a prefix such as \"10.244.1.0/24\" or \"fd00:10:244:1::/64\"";
    let prefix: IpNet = text.parse().map_err(|_| format!("is \"{text}\", {example}"))?;
    if prefix != prefix.trunc() {
        return Err(format!("is \"{text}\", which has host bits set; write \"{}\"", prefix.trunc()));
    }
    if prefix.prefix_len() == 0 {
        return Err(format!("is \"{text}\", which is everything; {example}"));
    }
    // Link-local holds the gateways; the others never are a pod's address.
    let reserved =
        ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::1/128", "fe80::/10", "ff00::/8"];
    let clash = reserved.iter().filter_map(|r| r.parse::<IpNet>().ok()).find(|r| overlap(r, &prefix));
    match clash {
        Some(reserved) => Err(format!("is \"{text}\", which overlaps {reserved}, reserved; {example}")),
        None => Ok(prefix),
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// A pod outside the cluster's prefixes would be treated as the world: masqueraded, and unreachable for the node.
pub(super) fn pods_outside_cluster(pods: &[IpNet], cluster: &[IpNet]) -> Vec<String> {
    let outside = pods.iter().filter(|pod| !cluster.iter().any(|c| c.contains(*pod)));
    outside.map(|pod| format!("does not contain {pod} of pod_cidrs; add a prefix that does")).collect()
}

/// One core for each worker, or none at all.
pub(super) fn cores(value: &Value, workers: u16) -> Result<Vec<usize>, String> {
    let cores = section::list(value, |core| section::integer(core, 0..=usize::from(u16::MAX)))?;
    if cores.len() != usize::from(workers) {
        return Err(format!("names {} cores for {workers} workers; name one each", cores.len()));
    }
    match cores.iter().enumerate().find(|(index, core)| cores[..*index].contains(core)) {
        Some((_, twice)) => Err(format!("names core {twice} twice; give each worker a core of its own")),
        None => Ok(cores),
    }
}

pub(super) fn frame_size(value: &Value) -> Result<u32, String> {
    // What the kernel takes without huge pages (`xdp_umem_reg`, net/xdp/xdp_umem.c).
    match value.as_integer() {
        Some(2048) => Ok(2048),
        Some(4096) => Ok(4096),
        _ => Err(format!("is {}, write 2048 or 4096", describe(value))),
    }
}
