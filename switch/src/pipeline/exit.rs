//! How a frame leaves.

use crate::DropReason;
use crate::ports::PortId;
use crate::tables::{AttachMode, Endpoint, EndpointNumber, Hop, Tunnel, Uplink, VtepNumber};

/// The port a frame leaves by and, where that is a trunk, whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) port: PortId,
    /// Nothing when the port is the endpoint's own, or the uplink's.
    pub(super) hop: Option<Hop>,
}

impl Exit {
    /// To an endpoint.
    #[inline(always)]
    pub(super) fn to_endpoint(number: EndpointNumber, endpoint: &Endpoint) -> Result<Self, DropReason> {
        let hop = match endpoint.attach {
            AttachMode::Direct => None,
            AttachMode::Cached => Some(Hop::endpoint(number).ok_or(DropReason::UnknownEndpoint)?),
        };
        Ok(Self { port: endpoint.port, hop })
    }

    /// To another node, by the uplink's port of `worker`.
    #[inline(always)]
    pub(super) fn to_vtep(uplink: &Uplink, worker: u16, number: VtepNumber) -> Result<Self, DropReason> {
        let port = *uplink.ports.get(usize::from(worker)).ok_or(DropReason::NoUplink)?;
        let hop = match uplink.tunnel {
            Tunnel::Switch => None,
            Tunnel::Kernel { .. } => Some(Hop::vtep(number).ok_or(DropReason::NoUplink)?),
        };
        Ok(Self { port, hop })
    }
}
