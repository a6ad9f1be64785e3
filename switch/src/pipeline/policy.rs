//! Stage 8, second half: what policy says of a connection. A verdict only; what it means for a packet is `conntrack`'s.

use std::net::IpAddr;

use heddle_image::{Direction, PolicyClassNumber, Protocol};

use crate::DropReason;
use crate::tables::conntrack::{FlowKey, Side};
use crate::tables::{AttachMode, Endpoint, EndpointNumber, EndpointPolicy, HOST, NextHop, Tables};

/// One endpoint that a packet leaves or enters, as the one who judges it there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'t> {
    pub(super) number: EndpointNumber,
    /// Where at the endpoint the packet is seen.
    pub(super) seen: Side,
    endpoint: &'t Endpoint,
    /// Nothing where everything is allowed.
    class: Option<PolicyClassNumber>,
    pub(super) tables: &'t Tables,
    /// The packet comes by the host.
    from_host: bool,
}

impl<'t> Judge<'t> {
    /// The judge of an endpoint, if it has one. An open endpoint has one where its flows may be cached, or may come by a port of the
    /// node: for that they have to be known.
    #[inline(always)]
    pub(super) fn of(
        tables: &'t Tables,
        (number, endpoint): (EndpointNumber, &'t Endpoint),
        seen: Side,
    ) -> Result<Option<Self>, DropReason> {
        match endpoint.policy {
            EndpointPolicy::Open if endpoint.attach == AttachMode::Direct && endpoint.mapped.is_empty() => {
                Ok(None)
            }
            EndpointPolicy::Open => {
                Ok(Some(Self { number, seen, endpoint, class: None, tables, from_host: false }))
            }
            EndpointPolicy::Closed => Err(DropReason::PolicyPending),
            EndpointPolicy::Class(class) => {
                Ok(Some(Self { number, seen, endpoint, class: Some(class), tables, from_host: false }))
            }
        }
    }

    /// The same, for a packet that may come by the host.
    pub(super) fn of_packet(self, from_host: bool) -> Self {
        Self { from_host, ..self }
    }

    /// Whether the endpoint's answers to this packet have to go by the host: it forwards for somebody whom the switch itself would
    /// not reach through it.
    pub(super) fn is_forwarded(&self, flow: &FlowKey) -> bool {
        self.from_host && !self.is_behind_host(flow.source)
    }

    /// Whether the endpoint's flows may be cached.
    #[inline(always)]
    pub(super) fn is_cached(&self) -> bool {
        self.endpoint.attach == AttachMode::Cached
    }

    /// Whether ports of the node lead to the endpoint.
    pub(super) fn is_mapped(&self) -> bool {
        !self.endpoint.mapped.is_empty()
    }

    /// Whether this packet may be the answer to one that came by a port of the node.
    pub(super) fn may_answer_by_host(&self, flow: &FlowKey) -> bool {
        let is_mapped = self.endpoint.mapped.contains(&(flow.protocol, flow.source_port));
        is_mapped && self.seen == Side::Egress && !self.is_behind_host(flow.destination)
    }

    /// Whether the switch itself would send to this address by the host.
    fn is_behind_host(&self, address: IpAddr) -> bool {
        self.tables.fib.lookup(address).is_none_or(|next| next == NextHop::Endpoint(HOST))
    }

    /// Whether it allows everything.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        self.class.is_none()
    }

    /// The generation of the policy that is judged by.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        self.tables.policy.generation
    }

    /// The verdict on a connection whose first packet is seen at `opened` and has the key `flow`.
    pub(super) fn allows(&self, opened: Side, flow: &FlowKey) -> bool {
        let Some(class) = self.class else { return true };
        let (direction, peer) = match opened {
            Side::Egress => (Direction::Egress, flow.destination),
            Side::Ingress => (Direction::Ingress, flow.source),
        };
        let image = &self.tables.policy.image;
        let protocol = Protocol::from_ip_number(flow.protocol);
        image.allows(class, direction, image.peer_class(peer), protocol, flow.destination_port)
            || self.is_exempt(peer)
    }

    /// Policies have no say between a pod and its own node, nor between a pod and itself. That an address of the node
    /// is the node's, `admit` has made sure: no pod and no other node can send with it.
    fn is_exempt(&self, peer: IpAddr) -> bool {
        self.endpoint.addresses.contains(&peer) || self.tables.is_host(peer)
    }
}

/// The reason to drop what a connection opened on this side is not allowed.
pub(super) const fn denied(opened: Side) -> DropReason {
    match opened {
        Side::Egress => DropReason::PolicyEgress,
        Side::Ingress => DropReason::PolicyIngress,
    }
}
