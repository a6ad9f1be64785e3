//! Stage 9: the headers of the next link, and the port.

use heddle_xsk::Frame;

use super::by_host;
use super::encap::encap;
use super::exit::Exit;
use super::packet::Ip;
use super::refusal::Disposition;
use super::route::Next;
use super::scene::Scene;
use crate::DropReason;
use crate::tables::Tunnel;
use crate::wire::ethernet;

/// Makes the packet ready to leave.
#[inline(always)]
pub(super) fn emit(scene: &Scene<'_>, frame: &mut Frame, ip: &Ip, next: &Next<'_>) -> Disposition {
    match *next {
        Next::Endpoint(number, endpoint) => {
            let header = frame.bytes_mut().first_chunk_mut().ok_or(DropReason::Truncated)?;
            ethernet::rewrite(header, endpoint.mac, by_host::source(scene, endpoint));
            Ok(Exit::to_endpoint(number, endpoint)?)
        }
        Next::Vtep(number, vtep, uplink) => {
            if uplink.tunnel == Tunnel::Switch {
                encap(scene, frame, ip, vtep, uplink)?;
            }
            Ok(Exit::to_vtep(uplink, scene.worker, number)?)
        }
    }
}
