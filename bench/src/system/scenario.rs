//! What is measured of whom: systems, scenarios, metrics.

use std::fmt;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::load::Kind;

/// Something that connects pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum SystemName {
    /// Heddle, pods attached in mode `cached`
    HeddleCached,
    /// Heddle, pods attached in mode `direct`
    HeddleDirect,
    /// The CNI reference plugins bridge and host-local
    Bridge,
    /// The same on two nodes, with a kernel vxlan device between them, as Flannel sets it up
    BridgeVxlan,
    /// Open vSwitch in userspace, with AF_XDP ports
    Ovs,
}

impl SystemName {
    /// How pods are attached, for Heddle.
    pub(crate) fn mode(self) -> Option<&'static str> {
        match self {
            Self::HeddleCached => Some("cached"),
            Self::HeddleDirect => Some("direct"),
            _ => None,
        }
    }

    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::HeddleCached => "heddle-cached",
            Self::HeddleDirect => "heddle-direct",
            Self::Bridge => "bridge",
            Self::BridgeVxlan => "bridge-vxlan",
            Self::Ovs => "ovs",
        }
    }
}

/// How far apart the two pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reach {
    SameNode,
    AcrossNodes,
}

impl Reach {
    /// What is compared with.
    pub(crate) fn baseline(self) -> SystemName {
        match self {
            Self::SameNode => SystemName::Bridge,
            Self::AcrossNodes => SystemName::BridgeVxlan,
        }
    }
}

/// One kind of traffic between two pods, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scenario {
    Stream(Reach),
    StreamV6(Reach),
    Packets(Reach),
    PingPong(Reach),
    Connections(Reach),
    /// Many pods on one node, and no traffic.
    Idle,
    /// Pods that come and go, so many at once: what a container runtime waits for.
    PodStart(Crowd),
}

/// How many calls of the plugin are under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Crowd {
    Alone,
    Sixteen,
}

impl Crowd {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Sixteen => 16,
        }
    }
}

/// Pods of the idle node.
pub(crate) const IDLE_PODS: u16 = 100;

impl Scenario {
    /// In the order of the report.
    pub(crate) fn all() -> Vec<Self> {
        let with_traffic = [Reach::SameNode, Reach::AcrossNodes].into_iter().flat_map(|reach| {
            [Self::Stream, Self::StreamV6, Self::Packets, Self::PingPong, Self::Connections]
                .map(|of| of(reach))
        });
        let starts = [Crowd::Alone, Crowd::Sixteen].map(Self::PodStart);
        with_traffic.chain([Self::Idle]).chain(starts).collect()
    }

    /// Where the pods are, what is sent, and whether by IPv6; nothing where nothing is sent.
    pub(crate) fn traffic(self) -> Option<(Reach, Kind, bool)> {
        match self {
            Self::Stream(reach) => Some((reach, Kind::Stream, false)),
            Self::StreamV6(reach) => Some((reach, Kind::Stream, true)),
            Self::Packets(reach) => Some((reach, Kind::Packets, false)),
            Self::PingPong(reach) => Some((reach, Kind::PingPong, false)),
            Self::Connections(reach) => Some((reach, Kind::Connections, false)),
            Self::Idle | Self::PodStart(_) => None,
        }
    }

    /// Who takes part, the baseline among them.
    pub(crate) fn systems(self) -> &'static [SystemName] {
        use SystemName::{Bridge, BridgeVxlan, HeddleCached, HeddleDirect, Ovs};
        match self {
            Self::Stream(Reach::SameNode)
            | Self::Packets(Reach::SameNode)
            | Self::PingPong(Reach::SameNode) => &[HeddleCached, HeddleDirect, Bridge, Ovs],
            Self::StreamV6(Reach::SameNode) | Self::Connections(Reach::SameNode) => {
                &[HeddleCached, HeddleDirect, Bridge]
            }
            Self::Idle => &[HeddleCached, HeddleDirect],
            Self::PodStart(_) => &[HeddleCached, Bridge],
            _ => &[HeddleCached, HeddleDirect, BridgeVxlan],
        }
    }

    /// What is compared with; nobody on the idle node, where a bridge has no daemon.
    pub(crate) fn baseline(self) -> Option<SystemName> {
        match self {
            Self::PodStart(_) => Some(SystemName::Bridge),
            _ => self.traffic().map(|(reach, ..)| reach.baseline()),
        }
    }

    pub(crate) fn title(self) -> String {
        let what = match self {
            Self::Stream(_) => "TCP stream",
            Self::StreamV6(_) => "TCP stream, IPv6",
            Self::Packets(_) => "64-byte packets",
            Self::PingPong(_) => "TCP request and response",
            Self::Connections(_) => "new connections",
            Self::Idle => return format!("{IDLE_PODS} idle pods on one node"),
            Self::PodStart(Crowd::Alone) => return "pods added and removed one by one".to_owned(),
            Self::PodStart(crowd) => return format!("pods added and removed, {} at once", crowd.size()),
        };
        match self.baseline() {
            Some(SystemName::Bridge) => format!("same node: {what}"),
            _ => format!("across nodes: {what}"),
        }
    }
}

/// As reports and the command line have it.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Stream(_) => "tcp-stream",
            Self::StreamV6(_) => "tcp-stream-ipv6",
            Self::Packets(_) => "udp-64",
            Self::PingPong(_) => "tcp-request-response",
            Self::Connections(_) => "tcp-connections",
            Self::Idle => return write!(f, "idle-{IDLE_PODS}-pods"),
            Self::PodStart(Crowd::Alone) => return write!(f, "pod-start"),
            Self::PodStart(crowd) => return write!(f, "pod-start-{}-at-once", crowd.size()),
        };
        let place = if self.baseline() == Some(SystemName::Bridge) { "same-node" } else { "across-nodes" };
        write!(f, "{place}-{what}")
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SystemName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

#[cfg(test)]
mod tests {
    //! Names are unique and stable, and whoever is compared takes part beside what it is compared with.
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<String> = Scenario::all().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Scenario::all().len());
        assert!(names.contains("same-node-udp-64") && names.contains("across-nodes-tcp-stream-ipv6"));
    }

    #[test]
    fn the_baseline_takes_part() {
        for scenario in Scenario::all() {
            let baseline = scenario.baseline();
            assert!(baseline.is_none_or(|baseline| scenario.systems().contains(&baseline)), "{scenario}");
        }
    }

    #[test]
    fn the_command_line_and_the_report_use_the_same_names() {
        for name in SystemName::value_variants() {
            assert_eq!(name.to_possible_value().unwrap().get_name(), name.key());
        }
    }
}
