//! Why packets are dropped: one reason a drop, one counter a reason.

/// Declares the reasons once; the enum, the table of all, the stable names and the descriptions follow from it.
macro_rules! drop_reasons {
    ($($variant:ident $name:literal $text:literal,)*) => {
        /// Why the switch dropped a packet. The disposition of a frame that goes nowhere.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $text] $variant,)* }

        impl DropReason {
            /// Every reason, in the order of the packet's way.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// Stable name, in snake case, for command line and metrics.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
            /// One sentence for the operator.
            pub const fn description(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

drop_reasons! {
    KernelRxRingFull "kernel_rx_ring_full" "A worker was too slow: its socket's receive ring was full.",
    KernelNoFrame "kernel_no_frame" "The kernel had no frame to receive into: the share of the port was used up by a burst.",
    KernelRxInvalid "kernel_rx_invalid" "The kernel could not receive the packet into a frame: larger than a frame, or multi-buffer.",
    Truncated "truncated" "The packet ended inside a header, or was shorter than its own length field says.",
    MalformedIp "malformed_ip" "The IP header is impossible: version, header length, checksum, or more than eight extension headers.",
    UnknownEtherType "unknown_ether_type" "Neither IPv4, IPv6 nor ARP.",
    NotForUs "not_for_us" "The destination MAC, or an overlay packet's outer destination address, is not one the switch listens to.",
    CacheNoPort "cache_no_port" "Dropped by the flow cache's program: it does not know the endpoint yet that sent it, or not its trunk.",
    CacheNoHop "cache_no_hop" "Dropped by the flow cache's program: on its way from the switch to an endpoint or node that is gone.",
    CacheOtherVni "cache_other_vni" "Dropped by the flow cache's program: a VXLAN packet of another VNI on the overlay's port.",
    CacheBadTag "cache_bad_tag" "Dropped by the flow cache's program: a frame on a trunk that the switch has not sent.",
    CacheNoTunnel "cache_no_tunnel" "Dropped by the flow cache's program: Linux refused the tunnel to the other node.",
    TrunkTag "trunk_tag" "A frame on a trunk without the tag that says where it is from: somebody else sent it.",
    TunnelMalformed "tunnel_malformed" "Received on the uplink, but not a VXLAN packet of this node's VNI as RFC 7348 has it.",
    TunnelUnknownPeer "tunnel_unknown_peer" "A VXLAN packet from an address that is no known node's VTEP.",
    TunnelChecksum "tunnel_checksum" "A VXLAN packet whose outer UDP checksum is wrong, or missing over IPv6.",
    TunnelEcn "tunnel_ecn" "The underlay marked congestion on a packet whose sender would not hear of it (RFC 6040).",
    TunnelBadSource "tunnel_bad_source" "A VXLAN packet whose inner source does not live behind the VTEP that sent it.",
    UnknownEndpoint "unknown_endpoint" "The packet came by a port whose endpoint is gone.",
    SpoofedMac "spoofed_mac" "The source MAC is not the endpoint's own.",
    SpoofedAddress "spoofed_address" "The source address is not one of the endpoint's own.",
    Martian "martian" "An address that never appears on a wire: unspecified, loopback, reserved, or a group as source.",
    ArpUnanswered "arp_unanswered" "An ARP message that is not a request for the gateway.",
    NdUnanswered "nd_unanswered" "A neighbor discovery message that is not a valid solicitation for the gateway.",
    Multicast "multicast" "Multicast and broadcast are not forwarded: there is no broadcast domain.",
    GatewayUnserved "gateway_unserved" "Addressed to the gateway itself, which answers only ARP, neighbor discovery and echo.",
    LinkLocal "link_local" "IPv6 link-local addresses do not leave their link (RFC 4291).",
    HopLimitExceeded "hop_limit_exceeded" "TTL or hop limit ran out; the sender was told unless limits on ICMP forbade it.",
    NoRoute "no_route" "No route to the destination; the sender was told unless limits on ICMP forbade it.",
    Unreachable "unreachable" "The route says unreachable; the sender was told unless limits on ICMP forbade it.",
    Transit "transit" "Came from another node and would have to leave for another: nodes do not forward for each other.",
    TooBig "too_big" "Larger than the next hop's MTU; the sender was told the MTU unless limits on ICMP forbade it.",
    PolicyPending "policy_pending" "The endpoint is closed until the first policy image that names it.",
    PolicyEgress "policy_egress" "No NetworkPolicy of the sender's allows the connection; `heddle policy explain` says which rules were asked.",
    PolicyIngress "policy_ingress" "No NetworkPolicy of the receiver's allows the connection; `heddle policy explain` says which rules were asked.",
    FragmentUnknown "fragment_unknown" "A later fragment of an IP packet whose first fragment, which has the ports, was not seen before it.",
    TcpMalformed "tcp_malformed" "A TCP header that is cut off or impossible, or with flags that no sender combines.",
    TcpSyn "tcp_syn" "A TCP SYN towards the opener of a live connection.",
    TcpReset "tcp_reset" "A TCP reset outside the window of its connection.",
    NoNeighbor "no_neighbor" "The underlay's next hop towards the VTEP has not been resolved.",
    NoUplink "no_uplink" "The destination is on another node, and this switch has no uplink of the tunnel's address family.",
    NoHeadroom "no_headroom" "No room in the frame for the headers to add.",
    BandwidthIngress "bandwidth_ingress" "The queue in front of a pod's ingress bandwidth limit was full.",
    BandwidthEgress "bandwidth_egress" "The queue in front of a pod's egress bandwidth limit was full.",
    PortGone "port_gone" "The outgoing port was detached while the packet was on its way.",
    HandoffFull "handoff_full" "The ring to the worker that owns the outgoing port was full.",
    TxRingFull "tx_ring_full" "The outgoing port's transmit ring was full.",
    Unsendable "unsendable" "Too short or too long for the outgoing port's socket.",
}

#[cfg(test)]
mod tests {
    //! The table must stay usable as array index and as a stable interface.
    use super::*;

    #[test]
    fn discriminants_index_the_table() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(index, *reason as usize);
        }
    }

    #[test]
    fn names_are_unique_snake_case() {
        let names: std::collections::BTreeSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
