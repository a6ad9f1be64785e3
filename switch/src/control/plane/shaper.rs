//! Limited pods: token buckets of the kernel, in the way of everything that enters and leaves.
//!
//! What the pod receives waits in the queue of its own veth's host end. What it sends cannot wait there, as packets that come in have
//! no queue; so they cross (`heddle_bpf::Crossings`) to the queue of a veth pair of their own, the *shaper*, and the switch has the
//! shaper's far end in place of the pod's veth, in either attach mode:
//!
//! ```text
//!                       ┌──────────── crossing ───────────►│ queue: egress │
//!   pod's eth0 ═══ hdl…                                      heddle-q7 ═══ heddle-q7s ── socket, or flow cache
//!                       │ queue: ingress │◄── crossing ────┘
//! ```
//!
//! In cached mode what the pod receives takes no crossing: the flow cache's programs put it into the veth's queue. So a pod whose
//! ingress alone is limited needs no shaper there.

use heddle_bpf::Crossings;
use heddle_netdev::ethtool::{Offload, set_offload};
use heddle_netdev::sysctl::set_ipv6_enabled;
use heddle_netdev::{Link, Netlink, Shape};

use super::super::dataplane::Shapes;
use super::super::host::has_ipv6;
use super::super::pair;
use super::{ControlError, Plane};
use crate::config::MAX_MTU;
use crate::tables::{AttachMode, Delivery, EndpointNumber};

const SHAPER: &str = "heddle-q";

/// The end that what the pod sends leaves by.
fn near_end(number: EndpointNumber) -> String {
    format!("{SHAPER}{number}")
}

/// The switch's end.
fn far_end(number: EndpointNumber) -> String {
    format!("{SHAPER}{number}s")
}

/// How a limited endpoint hangs on the switch.
#[derive(Debug)]
pub(super) struct Limited {
    /// The interface that the switch takes over in place of the pod's veth.
    pub(super) interface: String,
    /// Index of that interface.
    pub(super) index: u32,
    pub(super) delivery: Delivery,
    shapes: Shapes,
    /// There is a shaper.
    shaper: bool,
}

impl Plane {
    /// Puts the limits in place, or changes those that are there.
    pub(super) fn limit(
        &mut self,
        veth: &str,
        number: EndpointNumber,
        mode: AttachMode,
        shapes: Shapes,
    ) -> Result<Limited, ControlError> {
        let limited = self.make_limits(veth, number, mode, shapes);
        if limited.is_err() {
            self.unlimit(veth, number);
        }
        limited.map_err(|error| {
            ControlError::Precondition(format!("the bandwidth limits cannot be set up: {error}"))
        })
    }

    fn make_limits(
        &mut self,
        veth: &str,
        number: EndpointNumber,
        mode: AttachMode,
        shapes: Shapes,
    ) -> Result<Limited, String> {
        let text = |error: heddle_netdev::Error| error.to_string();
        let link = self.runtime.block_on(self.netlink.link(veth)).map_err(text)?;
        let queue = async |link: &Link, shape: Option<Shape>| match shape {
            Some(shape) => self.netlink.shape(link, shape).await,
            None => self.netlink.clear_queueing(link).await,
        };
        self.runtime.block_on(queue(&link, shapes.ingress)).map_err(text)?;
        let delivery = Delivery { interface: link.index, queued: shapes.ingress.is_some() };
        if mode == AttachMode::Cached && shapes.egress.is_none() {
            return Ok(Limited {
                interface: veth.to_owned(),
                index: link.index,
                delivery,
                shapes,
                shaper: false,
            });
        }
        let (near, far) = (near_end(number), far_end(number));
        let ends = self.runtime.block_on(set_up(&self.netlink, [&near, &far], mode)).map_err(text)?;
        match shapes.egress {
            Some(shape) => self.runtime.block_on(self.netlink.shape(&ends[0], shape)),
            // A super-packet becomes more segments than the veth's ring holds.
            None => self.runtime.block_on(self.netlink.set_queueing(&ends[0])).map(drop),
        }
        .map_err(text)?;
        if self.crossings.is_none() {
            self.crossings = Some(Crossings::open(&self.steering).map_err(|error| error.to_string())?);
        }
        let Some(crossings) = &mut self.crossings else { return Err("there are no crossings".to_owned()) };
        crossings
            .make(&near, veth)
            .and_then(|()| crossings.make(veth, &near))
            .map_err(|error| error.to_string())?;
        Ok(Limited { interface: far, index: ends[1].index, delivery, shapes, shaper: true })
    }

    /// Takes an endpoint's limits away, whose veth may be gone.
    pub(super) fn unlimit(&mut self, veth: &str, number: EndpointNumber) {
        let near = near_end(number);
        if let Some(crossings) = &mut self.crossings {
            for interface in [veth, &near] {
                if let Err(error) = crossings.remove(interface) {
                    tracing::warn!(interface, %error, "a crossing stays");
                }
            }
        }
        let gone = self.runtime.block_on(async {
            pair::remove(&self.netlink, [&near, &far_end(number)]).await?;
            match self.netlink.find_link(veth).await? {
                Some(link) => self.netlink.clear_queueing(&link).await,
                None => Ok(()),
            }
        });
        if let Err(error) = gone {
            tracing::warn!(veth, number, %error, "a bandwidth limit stays");
        }
    }

    /// Removes the shapers and crossings that a former switch has left and nobody has claimed.
    pub(super) fn settle_limits(&mut self) {
        let wanted: Vec<_> = self.attachments.iter().filter(|(_, one)| one.limited.is_some()).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|(number, _)| near_end(*number)).collect();
        let cleared =
            self.runtime.block_on(tear_down(&self.netlink, |near| !wanted.iter().any(|one| one == near)));
        if let Err(error) = cleared {
            tracing::warn!(%error, "a shaper of a former run stays");
        }
        let removed = match &mut self.crossings {
            Some(crossings) => crossings.remove_unclaimed().map(drop).map_err(|error| error.to_string()),
            None => Crossings::remove_all(&self.steering).map_err(|error| error.to_string()),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, "crossings of a former run stay");
        }
    }

    /// Packets that the endpoints' limits have dropped, of what they receive and of what they send.
    pub(super) fn limit_drops(&self) -> [u64; 2] {
        let mut sums = self.limit_drops_before;
        for (number, attachment) in &self.attachments {
            let drops = self.drops_of(&attachment.interface, *number, attachment.limited.as_ref());
            sums = [sums[0] + drops[0], sums[1] + drops[1]];
        }
        sums
    }

    /// Of one endpoint, as long as its interfaces are there.
    pub(super) fn drops_of(&self, veth: &str, number: EndpointNumber, limited: Option<&Limited>) -> [u64; 2] {
        let Some(limited) = limited else { return [0; 2] };
        let count = |name: &str| {
            let link = self.runtime.block_on(self.netlink.find_link(name)).ok().flatten();
            link.and_then(|link| self.runtime.block_on(self.netlink.queue_drops(&link)).ok())
                .unwrap_or_default()
        };
        let ingress = limited.shapes.ingress.map_or(0, |_| count(veth));
        let egress = limited.shapes.egress.filter(|_| limited.shaper).map_or(0, |_| count(&near_end(number)));
        [ingress, egress]
    }
}

/// Makes a shaper, or takes over the one that is there. Returns both ends.
async fn set_up(netlink: &Netlink, ends: [&str; 2], mode: AttachMode) -> heddle_netdev::Result<[Link; 2]> {
    let links = pair::ensure(netlink, ends, MAX_MTU.into()).await?;
    for link in &links {
        if has_ipv6() {
            set_ipv6_enabled(&link.name, false)?;
        }
        netlink.set_up(link).await?;
    }
    // The switch sees what leaves the near end: in direct mode, complete packets.
    set_offload(ends[0], Offload::TxChecksum, mode == AttachMode::Cached)?;
    Ok(links)
}

/// Removes shapers, by their near ends.
pub(in super::super) async fn tear_down(
    netlink: &Netlink,
    doomed: impl Fn(&str) -> bool,
) -> heddle_netdev::Result<()> {
    for link in netlink.links().await? {
        if number_of(&link.name).is_some_and(|number| doomed(&near_end(number))) {
            // The other end may have taken it along.
            netlink.delete_link(&link.name).await?;
        }
    }
    Ok(())
}

/// True for the name of either end of a shaper.
pub(in super::super) fn is_ours(name: &str) -> bool {
    number_of(name).is_some()
}

/// The endpoint whose shaper has an end of this name.
fn number_of(name: &str) -> Option<EndpointNumber> {
    let rest = name.strip_prefix(SHAPER)?;
    rest.strip_suffix('s').unwrap_or(rest).parse().ok()
}
