//! What goes by the host although it could go straight: connections whose destination Linux has translated.
//!
//! Somebody sends to a port of the node; Linux translates that to a pod's and forwards the packet, with its sender's address. The
//! pod's answer has to pass Linux again, or it comes from an address that nobody has written to. So a connection that the host
//! forwards from a sender whom the switch would reach in another way is marked, and what the endpoint answers goes to the host.
//!
//! The endpoint's worker may be another than the host's; then the frame says in its source MAC, which carries no information
//! there, that it came by the host.

use heddle_xsk::Frame;

use super::scene::{Origin, Scene};
use crate::tables::{Endpoint, HOST};
use crate::wire::Mac;
use crate::wire::ethernet::{self, Ethernet};

/// Locally administered, and no tag of a trunk (`trunk.rs`).
const MARK: Mac = Mac([0x02, 0x50, 0, 0, 0, 0]);

/// True when the host sent the packet.
#[inline(always)]
pub(super) fn is_from_host(scene: &Scene<'_>) -> bool {
    matches!(scene.origin, Ok(Origin::Endpoint(HOST, _)))
}

/// The source MAC of a frame for an endpoint.
#[inline(always)]
pub(super) fn source(scene: &Scene<'_>, endpoint: &Endpoint) -> Mac {
    if is_from_host(scene) && endpoint.port.worker != scene.worker { MARK } else { scene.node().gateway_mac }
}

/// True when the frame is marked.
#[inline]
pub(super) fn is_marked(frame: &Frame) -> bool {
    Ethernet::parse(frame.bytes()).is_ok_and(|ethernet| ethernet.source() == MARK)
}

/// True when the frame was marked; now it looks like others.
#[inline]
pub(super) fn take_mark(frame: &mut Frame, gateway: Mac) -> bool {
    let marked = Ethernet::parse(frame.bytes()).ok().filter(|ethernet| ethernet.source() == MARK);
    let Some(destination) = marked.map(|ethernet| ethernet.destination()) else { return false };
    if let Some(header) = frame.bytes_mut().first_chunk_mut() {
        ethernet::rewrite(header, destination, gateway);
    }
    true
}
