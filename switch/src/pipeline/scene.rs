//! What is the same for all packets of a batch.

use std::net::IpAddr;

use crate::DropReason;
use crate::tables::{Endpoint, EndpointNumber, Hop, HopKind, Node, Tables, Uplink, VtepNumber};

/// What a batch came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingress {
    /// The port of an endpoint; the host is one.
    Endpoint(EndpointNumber),
    /// The port towards other nodes.
    Uplink,
    /// A trunk: every packet says for itself where it is from.
    Trunk,
}

/// The tables, and where in them the batch came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'t> {
    pub(super) tables: &'t Tables,
    /// Nothing can pass without an origin, so its absence is a refusal of every packet.
    pub(super) origin: Result<Origin<'t>, DropReason>,
    pub(super) worker: u16,
}

/// An [`Ingress`] looked up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'t> {
    Endpoint(EndpointNumber, &'t Endpoint),
    /// The tunnel is still around its packets.
    Uplink(&'t Uplink),
    /// Another node, whose packets Linux took out of the tunnel.
    Vtep(VtepNumber, &'t Uplink),
}

/// Who a packet is from. Known after decapsulation; the endpoint's claim is checked by `admit`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sender<'t> {
    Endpoint(EndpointNumber, &'t Endpoint),
    /// Another node.
    Vtep(VtepNumber),
    /// The switch itself: a notice.
    Switch,
}

impl<'t> Scene<'t> {
    pub(super) fn new(tables: &'t Tables, ingress: Ingress, worker: u16) -> Self {
        let origin = match ingress {
            Ingress::Endpoint(number) => {
                let endpoint = tables.endpoints.get(number).ok_or(DropReason::UnknownEndpoint);
                endpoint.map(|endpoint| Origin::Endpoint(number, endpoint))
            }
            Ingress::Uplink => tables.node.uplink.as_ref().map(Origin::Uplink).ok_or(DropReason::NoUplink),
            // Its packets have scenes of their own: `of_hop`.
            Ingress::Trunk => Err(DropReason::TrunkTag),
        };
        Self { tables, origin, worker }
    }

    /// For a packet that came by a trunk.
    #[inline]
    pub(super) fn of_hop(tables: &'t Tables, hop: Hop, worker: u16) -> Self {
        let origin = match hop.kind() {
            HopKind::Endpoint(number) => {
                // What was under way when the endpoint changed worker: its connections are not here.
                let endpoint = tables.endpoints.get(number).filter(|endpoint| endpoint.port.worker == worker);
                endpoint.map(|endpoint| Origin::Endpoint(number, endpoint)).ok_or(DropReason::UnknownEndpoint)
            }
            HopKind::Vtep(number) => {
                let uplink = tables.node.uplink.as_ref().ok_or(DropReason::NoUplink);
                uplink.map(|uplink| Origin::Vtep(number, uplink))
            }
        };
        Self { tables, origin, worker }
    }

    pub(super) fn node(&self) -> &'t Node {
        &self.tables.node
    }

    /// True for the addresses that the switch answers for.
    #[inline]
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address == self.node().gateway_v4,
            IpAddr::V6(address) => address == self.node().gateway_v6,
        }
    }
}
