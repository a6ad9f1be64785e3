//! Packets that are dropped, and why, by the stage that refuses them.

mod gateway;
mod parse;
mod policy;
mod route;
mod sender;
mod tunnel;

use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::Tables;

use crate::common::cluster::{V4, VNI, from_pod, inner, outer, pod};
use crate::common::packets::{Spec, vxlan};

pub(crate) const POD_1: Ingress = Ingress::Endpoint(1);

/// One packet and why it is dropped.
pub(crate) struct Case {
    pub(crate) reason: DropReason,
    pub(crate) what: &'static str,
    pub(crate) ingress: Ingress,
    pub(crate) packet: Vec<u8>,
    /// What is special about the tables.
    pub(crate) change: fn(&mut Tables),
    /// The sender is told by an ICMP error.
    pub(crate) told: bool,
}

fn case(reason: DropReason, what: &'static str, ingress: Ingress, packet: Vec<u8>) -> Case {
    Case { reason, what, ingress, packet, change: |_| (), told: false }
}

/// A packet from pod 1 to its neighbor.
fn good(family: usize) -> Spec {
    from_pod(family, pod(1, 2)[family])
}

/// An inner packet from a pod of node 2.
fn good_inner(family: usize) -> Spec {
    inner(pod(2, 1)[family], pod(1, 1)[family])
}

fn tunnelled(inner: &Spec) -> Vec<u8> {
    vxlan(&outer(V4), VNI, &inner.bytes())
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [parse::cases(), tunnel::cases(), sender::cases(), gateway::cases(), route::cases(), policy::cases()]
        .into_iter()
        .flatten()
        .collect()
}
