//! Stage 9 for packets to another node: into the tunnel (RFC 7348).

use std::net::{IpAddr, Ipv6Addr};

use heddle_xsk::Frame;

use super::decap::ECN;
use super::packet::{HOP_LIMIT, Ip};
use super::scene::Scene;
use crate::DropReason;
use crate::tables::{Uplink, Vtep};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, ether_type};
use crate::wire::{Mac, ipv4, ipv6, protocol, udp, vxlan};

/// First of the dynamic ports (RFC 6335); RFC 7348 (section 5) wants the flow's hash spread over them.
const FIRST_DYNAMIC_PORT: u16 = 49152;

/// Bytes by which an outer IP packet to `peer` is longer than the inner one.
#[inline]
pub(crate) fn overhead(peer: IpAddr) -> u16 {
    vxlan::overhead(match peer {
        IpAddr::V4(_) => ipv4::HEADER,
        IpAddr::V6(_) => ipv6::HEADER,
    })
}

/// Puts the tunnel's headers in front of the packet.
///
/// Of the traffic class only ECN goes outside (RFC 6040, section 4.1): a pod's DSCP claims nothing on the underlay. The
/// outer UDP checksum is left out over IPv4, as RFC 7348 advises; the inner packet has its own.
#[inline(always)]
pub(super) fn encap(
    scene: &Scene<'_>,
    frame: &mut Frame,
    ip: &Ip,
    vtep: &Vtep,
    uplink: &Uplink,
) -> Result<(), DropReason> {
    let neighbor = vtep.neighbor.ok_or(DropReason::NoNeighbor)?;
    let datagram = Datagram {
        source_port: FIRST_DYNAMIC_PORT | (ip.flow_hash(frame.bytes()) as u16 & !FIRST_DYNAMIC_PORT),
        destination_port: scene.node().vxlan_port,
        vni: scene.node().vni,
        inner_destination: vtep.mac,
        inner_source: uplink.vtep_mac,
        inner_len: frame.len(),
    };
    let traffic_class = ip.traffic_class & ECN;
    match vtep.address {
        IpAddr::V4(destination) => {
            let source = uplink.address_v4.ok_or(DropReason::NoUplink)?;
            let outer = ipv4::Header {
                source,
                destination,
                protocol: protocol::UDP,
                ttl: HOP_LIMIT,
                traffic_class,
                payload_len: datagram.len(),
            };
            let bytes = frame.prepend(overhead(vtep.address).into()).ok_or(DropReason::NoHeadroom)?;
            let (header, rest) = bytes.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
            ethernet::write(header, neighbor, uplink.mac, ether_type::IPV4);
            let (header, rest) = rest.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
            outer.write(header);
            datagram.write(rest, None)
        }
        IpAddr::V6(destination) => {
            let source = uplink.address_v6.ok_or(DropReason::NoUplink)?;
            let outer = ipv6::Header {
                source,
                destination,
                protocol: protocol::UDP,
                hop_limit: HOP_LIMIT,
                traffic_class,
                payload_len: datagram.len(),
            };
            let checksum = datagram.checksum(source, destination, ip, frame.bytes());
            let bytes = frame.prepend(overhead(vtep.address).into()).ok_or(DropReason::NoHeadroom)?;
            let (header, rest) = bytes.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
            ethernet::write(header, neighbor, uplink.mac, ether_type::IPV6);
            let (header, rest) = rest.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
            outer.write(header);
            datagram.write(rest, Some(checksum))
        }
    }
}

/// What the outer IP packet carries: UDP and VXLAN headers, and the inner packet with new MACs.
struct Datagram {
    source_port: u16,
    destination_port: u16,
    vni: u32,
    inner_destination: Mac,
    inner_source: Mac,
    inner_len: usize,
}

impl Datagram {
    #[inline(always)]
    fn len(&self) -> usize {
        udp::HEADER + vxlan::HEADER + self.inner_len
    }

    /// The UDP checksum. `inner` is the inner packet, still with the MACs it came with.
    ///
    /// Headers are summed as values, before they are written, and an IPv4 header not at all: `parse` found its checksum
    /// right and every change kept it so, hence it adds nothing.
    #[inline(always)]
    fn checksum(&self, source: Ipv6Addr, destination: Ipv6Addr, ip: &Ip, inner: &[u8]) -> u16 {
        let (ether_type, unsummed) = match ip.source {
            IpAddr::V4(_) => (ether_type::IPV4, ip.transport.into()),
            IpAddr::V6(_) => (ether_type::IPV6, ethernet::HEADER),
        };
        let len = self.len() as u32;
        Sum::pseudo_header(source.into(), destination.into(), protocol::UDP, len)
            .with_number(u32::from(self.source_port) << 16 | u32::from(self.destination_port))
            .with_number(len << 16)
            .with(&vxlan::header(self.vni))
            .with(&self.inner_destination.0)
            .with(&self.inner_source.0)
            .with_number(ether_type.into())
            .with(inner.get(unsummed..).unwrap_or_default())
            .finish()
    }

    /// Writes the headers and the MACs over the start of `bytes`.
    #[inline(always)]
    fn write(&self, bytes: &mut [u8], checksum: Option<u16>) -> Result<(), DropReason> {
        let (header, rest) = bytes.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
        udp::write(header, self.source_port, self.destination_port, vxlan::HEADER + self.inner_len);
        if let Some(checksum) = checksum {
            udp::set_checksum(header, checksum);
        }
        let (header, rest) = rest.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
        *header = vxlan::header(self.vni);
        let header = rest.first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
        ethernet::rewrite(header, self.inner_destination, self.inner_source);
        Ok(())
    }
}
