//! What the flow cache is told, and tells.

use std::net::IpAddr;
use std::time::Duration;

/// The number of VTEP 0 among the hops. Endpoint n is hop n, so there is room for this many of each.
pub const FIRST_VTEP_HOP: u32 = 0x8000;
/// What the tag of a packet says that came from a VTEP which is no peer.
pub const UNKNOWN_HOP: u32 = 0xffff_ffff;
/// The first two octets of a MAC that is a tag with a hop, and four octets of its number.
pub const TAG_HOP: [u8; 2] = [0x02, 0x4d];
/// The first two octets of a MAC that is a tag with a fence, and two octets each of its number and the packet's.
pub const TAG_FENCE: [u8; 2] = [0x02, 0x4e];
/// As [`TAG_HOP`], of a packet whose own source MAC was not the endpoint's.
pub const TAG_SPOOFED: [u8; 2] = [0x02, 0x4f];

/// A MAC address.
pub type Mac = [u8; 6];

/// What all programs need to know about the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The gateway's MAC: endpoints send to it, and packets for them come from it.
    pub gateway_mac: Mac,
    /// The inner MAC of this node's VTEP.
    pub vtep_mac: Mac,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Index of the vxlan device, if there is one.
    pub vxlan: Option<u32>,
    /// The address tunnels come from. Without one, or to a VTEP of the other family, routing chooses.
    pub local: Option<IpAddr>,
    /// How many trunks there are, numbered from 0.
    pub trunks: u32,
}

/// What packets come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// A pod's interface.
    Endpoint {
        /// Index of the host end of its veth.
        ifindex: u32,
        /// Packets wait in that interface's queue, which limits them, instead of going straight into the pod.
        queued: bool,
        /// Largest IP packet it takes, in bytes.
        mtu: u32,
        /// Its MAC.
        mac: Mac,
    },
    /// The node's own stack.
    Host {
        /// Index of the interface that it receives by.
        ifindex: u32,
        /// Largest IP packet it takes, in bytes.
        mtu: u32,
        /// That interface's MAC.
        mac: Mac,
    },
    /// Another node.
    Vtep {
        /// Where the tunnel goes.
        address: IpAddr,
        /// Largest IP packet the tunnel takes, in bytes.
        mtu: u32,
        /// Its inner MAC.
        mac: Mac,
    },
}

/// Who is behind an interface that packets come in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Its hop.
    pub hop: u32,
    /// Index of the trunk that its packets go up by.
    pub trunk: u32,
    /// Its MAC, which its packets have to come from. `None`: any.
    pub mac: Option<Mac>,
}

/// What tells a flow from others: TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address. Both addresses are of one family.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// The interface its packets come in by: host end of a veth, or the vxlan device.
    pub ifindex: u32,
}

/// One end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// Its hop.
    pub hop: u32,
    /// The hop's generation that the flow was judged at.
    pub generation: u32,
}

/// An address and port to put in place of a packet's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// Which of the packet's.
    pub side: Side,
    /// The new address, of the packet's family.
    pub address: IpAddr,
    /// The new port.
    pub port: u16,
}

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// What was judged about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub from: Party,
    /// Who receives.
    pub to: Party,
    /// It goes the way the connection was opened. The programs do not care.
    pub original: bool,
    /// What is changed on the way.
    pub rewrite: Option<Rewrite>,
    /// The fence that keeps its first packets in order.
    pub fence: u16,
    /// How long the fence may at most send packets up, from the insertion on. Zero: it does not, the flow is open at once.
    pub pending_for: Duration,
}

/// How much a flow was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// Packets forwarded, as on the wire: every segment of a super-packet is one.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// When the last was forwarded, by `CLOCK_MONOTONIC` and to some milliseconds. Zero: never.
    pub last_seen: Duration,
    /// Packets are forwarded; else they go up until the fence opens.
    pub open: bool,
}
