//! What the switch says about the node, checked: its answer is input like any other.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{CniError, Result, code};
use crate::state::Range;
use crate::wishes::AttachMode;

/// Smallest MTU a pod gets: IPv6 needs 1280 (RFC 8200 5), IPv4 in practice 576 (RFC 791), and dual-stack pods both.
const MIN_MTU: u32 = 1280;

/// The node as ADD needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Where pod addresses come from.
    pub(crate) ranges: Vec<Range>,
    /// The link-local gateways, at most one of each family.
    pub(crate) gateways: Vec<IpAddr>,
    /// The pods' MTU.
    pub(crate) mtu: u32,
    /// How pods are attached that do not say otherwise.
    pub(crate) attach: AttachMode,
}

impl Node {
    /// The gateway of an address's family.
    pub(crate) fn gateway_for(&self, address: IpAddr) -> Result<IpAddr> {
        let same = |gateway: &&IpAddr| gateway.is_ipv4() == address.is_ipv4();
        self.gateways
            .iter()
            .find(same)
            .copied()
            .ok_or_else(|| wrong(format!("it has no gateway for {address}")))
    }
}

impl TryFrom<heddle_api::Node> for Node {
    type Error = CniError;

    fn try_from(node: heddle_api::Node) -> Result<Self> {
        let mut ranges = Vec::with_capacity(node.pod_cidrs.len());
        for text in &node.pod_cidrs {
            let prefix: IpNet = text.parse().map_err(|_| wrong(format!("pod CIDR '{text}' is no prefix")))?;
            ranges.push(Range::new(prefix).map_err(wrong)?);
        }
        if ranges.is_empty() {
            return Err(wrong("it has no pod CIDRs; set pod_cidrs in its configuration"));
        }
        let mut gateways = Vec::with_capacity(node.gateways.len());
        for text in &node.gateways {
            gateways.push(text.parse().map_err(|_| wrong(format!("gateway '{text}' is no address")))?);
        }
        let attach = node.attach_mode.parse::<AttachMode>().map_err(|_| {
            wrong(format!(
                "heddle-cni knows no attach mode '{}'; is it of the switch's version?",
                node.attach_mode
            ))
        })?;
        let checked = Self { ranges, gateways, mtu: node.pod_mtu, attach };
        for range in &checked.ranges {
            checked.gateway_for(range.prefix().addr())?;
        }
        // IP's own limit: RFC 791 3.1, RFC 8200 4.5 without jumbograms.
        if !(MIN_MTU..=65_535).contains(&checked.mtu) {
            return Err(wrong(format!("a pod MTU of {} is out of bounds", checked.mtu)));
        }
        Ok(checked)
    }
}

fn wrong(what: impl std::fmt::Display) -> CniError {
    CniError::new(
        code::NODE,
        format!("heddle-switch describes a node that pods cannot be attached to: {what}"),
    )
}

#[cfg(test)]
mod tests {
    //! Whatever the switch answers, ADD goes on only with a node that makes sense.
    use super::*;

    fn answer() -> heddle_api::Node {
        heddle_api::Node {
            pod_cidrs: vec!["10.244.1.0/24".to_owned(), "fd00:10:244:1::/64".to_owned()],
            gateways: vec!["169.254.1.1".to_owned(), "fe80::1".to_owned()],
            pod_mtu: 1450,
            attach_mode: "direct".into(),
            ..heddle_api::Node::default()
        }
    }

    #[test]
    fn takes_a_good_answer() {
        let node = Node::try_from(answer()).unwrap();
        assert_eq!(node.gateway_for("10.244.1.7".parse().unwrap()).unwrap().to_string(), "169.254.1.1");
        assert_eq!(node.gateway_for("fd00::7".parse().unwrap()).unwrap().to_string(), "fe80::1");
        assert_eq!((node.ranges.len(), node.mtu, node.attach), (2, 1450, AttachMode::Direct));
    }

    #[test]
    fn refuses_nonsense() {
        let spoil: [fn(&mut heddle_api::Node); 10] = [
            |node| node.pod_cidrs.clear(),
            |node| node.pod_cidrs.push("10.0.0.0".to_owned()),
            |node| node.pod_cidrs.push("224.0.0.0/8".to_owned()),
            |node| node.gateways.clear(),
            |node| drop(node.gateways.pop()),
            |node| node.gateways.push(String::new()),
            |node| node.pod_mtu = 0,
            |node| node.pod_mtu = 70_000,
            |node| node.attach_mode.clear(),
            |node| node.attach_mode.push('s'),
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let mut node = answer();
            spoil(&mut node);
            assert_eq!(Node::try_from(node).unwrap_err().code, code::NODE, "case {number}");
        }
    }
}
