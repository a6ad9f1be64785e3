//! What happens to a packet, stage by stage, in this order.
//!
//! A batch runs to completion packet by packet (docs/adr/0002-run-to-completion.md). A stage either lets the packet
//! pass or refuses it with a reason, which is counted here and nowhere else. A refusal may come with a notice: the
//! ICMP error that goes to the sender in place of the packet.
#![deny(clippy::indexing_slicing)]
#![expect(
    clippy::inline_always,
    reason = "a stage that is called passes its packet through memory; see the ADR"
)]

mod admit;
mod answer;
mod arp;
mod by_host;
mod conntrack;
mod decap;
mod emit;
mod encap;
mod exit;
mod fit;
mod hop_limit;
mod notice;
mod packet;
mod parse;
mod policy;
mod refusal;
mod remember;
mod route;
mod run;
mod scene;
mod subject;
mod tracker;
mod trunk;

use heddle_xsk::Frame;

pub(crate) use encap::overhead;
use refusal::Disposition;
pub use remember::{Asked, News, Offer, Party, Request};
pub use run::{Outbox, Pipeline};
pub use scene::Ingress;
use scene::Scene;
use tracker::Tracker;
pub(crate) use trunk::{addressee, sender};

/// One packet's way.
#[inline(always)]
fn walk(scene: &Scene<'_>, tracker: &mut Tracker, frame: &mut Frame) -> Disposition {
    if arp::is_arp(frame) {
        return arp::answer(scene, frame);
    }
    let mut packet = parse::parse(frame)?;
    let sender = decap::decap(scene, frame, &mut packet)?;
    admit::admit(scene, sender, &packet)?;
    if let Some(exit) = answer::answer(scene, sender, frame, &packet)? {
        return Ok(exit);
    }
    let ip = &packet.ip;
    hop_limit::check(ip)?;
    let next = route::route(scene, sender, ip)?;
    fit::fit(ip, &next)?;
    let next = conntrack::check(scene, tracker, (sender, next), frame, ip)?;
    hop_limit::spend(frame, ip);
    emit::emit(scene, frame, ip, &next)
}
