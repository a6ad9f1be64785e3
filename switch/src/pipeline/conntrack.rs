//! Stage 8: is the packet part of a connection that policy allows?
//!
//! Asked at both ends of its way, as far as they are here: for the endpoint it leaves by the worker that received it,
//! for the endpoint it enters by the worker that owns that endpoint. So no connection is ever touched by two workers, and
//! a frame that changes worker is judged twice, each time by the one whose entry it is.

use heddle_xsk::Frame;

use super::packet::Ip;
use super::policy::{Judge, denied};
use super::route::Next;
use super::scene::{Scene, Sender};
use super::subject::{self, Subject};
use super::tracker::Tracker;
use crate::DropReason;
use crate::tables::conntrack::{Direction, Fault, FlowKey, Known, Outcome, Packet, Probe, Side, Tick};
use crate::wire::Fragment;

/// Asks for both ends. An endpoint of another worker is asked over there, by [`arrive`].
#[inline(always)]
pub(super) fn check(
    scene: &Scene<'_>,
    tracker: &mut Tracker,
    (sender, next): (Sender<'_>, &Next<'_>),
    frame: &Frame,
    ip: &Ip,
) -> Result<(), DropReason> {
    let leaving = match sender {
        Sender::Endpoint(number, endpoint) => Judge::of(scene.tables, (number, endpoint), Side::Egress)?,
        Sender::Vtep(_) | Sender::Switch => None,
    };
    let entering = match *next {
        Next::Endpoint(number, endpoint) if endpoint.port.worker == scene.worker => {
            Judge::of(scene.tables, (number, endpoint), Side::Ingress)?
        }
        Next::Endpoint(..) | Next::Vtep(..) => None,
    };
    ask(tracker, [leaving.as_ref(), entering.as_ref()], frame, ip)
}

/// Asks for the endpoint that a frame from another worker is about to enter.
pub(super) fn arrive(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    frame: &Frame,
    ip: &Ip,
) -> Result<(), DropReason> {
    ask(tracker, [None, Some(judge)], frame, ip)
}

#[inline(always)]
fn ask(
    tracker: &mut Tracker,
    [leaving, entering]: [Option<&Judge<'_>>; 2],
    frame: &Frame,
    ip: &Ip,
) -> Result<(), DropReason> {
    if leaving.is_none() && entering.is_none() {
        return Ok(());
    }
    let transport = ip.transport(frame.bytes());
    let (Fragment::Whole, Some(flow)) = (ip.fragment, subject::flow(ip, transport)) else {
        return ask_odd(tracker, [leaving, entering], frame, ip);
    };
    let packet = subject::packet(ip, transport)?;
    if let Some(judge) = leaving {
        track(tracker, judge, &flow, &packet)?;
    }
    if let Some(judge) = entering {
        track(tracker, judge, &flow, &packet)?;
    }
    Ok(())
}

/// What is not simply a packet of a flow: fragments, ICMP errors, and what has neither ports nor an identifier.
#[cold]
fn ask_odd(
    tracker: &mut Tracker,
    judges: [Option<&Judge<'_>>; 2],
    frame: &Frame,
    ip: &Ip,
) -> Result<(), DropReason> {
    let subject = subject::of(frame, ip)?;
    judges.into_iter().flatten().try_for_each(|judge| ask_one(tracker, judge, &subject, frame, ip))
}

fn ask_one(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    subject: &Subject,
    frame: &Frame,
    ip: &Ip,
) -> Result<(), DropReason> {
    if ip.fragment == Fragment::Later {
        let key = subject::fragment_key(frame, ip)?;
        let found = tracker.fragments.find(tracker.now, judge.number, judge.seen, &key);
        return found.unwrap_or(Err(DropReason::FragmentUnknown));
    }
    let answer = match subject {
        Subject::Flow(flow, packet) => track(tracker, judge, flow, packet),
        Subject::Error(about) => relate(tracker, judge, about.as_ref(), ip),
        Subject::Other => verdict(judge, judge.seen, &subject::without_ports(ip)),
    };
    if ip.fragment == Fragment::First {
        let key = subject::fragment_key(frame, ip)?;
        tracker.fragments.decide(tracker.now, judge.number, judge.seen, &key, answer);
    }
    answer
}

#[inline(always)]
fn track(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    flow: &FlowKey,
    packet: &Packet,
) -> Result<(), DropReason> {
    let now = tracker.now;
    let probe = tracker.connections.probe(judge.number, judge.seen, flow);
    match tracker.connections.track(now, &probe, packet) {
        Outcome::Known(known) => still_allowed(tracker.now, judge, known),
        Outcome::New => open(tracker, judge, &probe, packet),
        Outcome::Stray => adopt(tracker, judge, &probe, packet),
        Outcome::Refused(Fault::Flags) => Err(DropReason::TcpMalformed),
        Outcome::Refused(Fault::Syn) => Err(DropReason::TcpSyn),
        Outcome::Refused(Fault::Reset) => Err(DropReason::TcpReset),
    }
}

/// A connection was allowed once; since policy changed, that has to be asked again, once.
#[inline(always)]
fn still_allowed(now: Tick, judge: &Judge<'_>, known: Known<'_>) -> Result<(), DropReason> {
    if known.judged_at() == judge.generation() { Ok(()) } else { judge_again(now, judge, known) }
}

#[cold]
fn judge_again(now: Tick, judge: &Judge<'_>, mut known: Known<'_>) -> Result<(), DropReason> {
    let flow = known.flow(now);
    let answer = verdict(judge, flow.side, &flow.key);
    match answer {
        Ok(()) => known.set_judged(judge.generation()),
        Err(_) => known.remove(),
    }
    answer
}

fn verdict(judge: &Judge<'_>, opened: Side, flow: &FlowKey) -> Result<(), DropReason> {
    if judge.allows(opened, flow) { Ok(()) } else { Err(denied(opened)) }
}

#[cold]
fn open(tracker: &mut Tracker, judge: &Judge<'_>, probe: &Probe, packet: &Packet) -> Result<(), DropReason> {
    verdict(judge, judge.seen, &probe.flow())?;
    tracker.connections.open(tracker.now, probe, packet, Direction::Original, judge.generation());
    Ok(())
}

/// A packet from the middle of a connection nobody knows: the switch is younger than the connection, or forgot it. It
/// goes on if policy allows that connection, whichever end opened it.
#[cold]
fn adopt(tracker: &mut Tracker, judge: &Judge<'_>, probe: &Probe, packet: &Packet) -> Result<(), DropReason> {
    let flow = probe.flow();
    let direction = if judge.allows(judge.seen, &flow) {
        Direction::Original
    } else {
        verdict(judge, judge.seen.opposite(), &flow.reverse()).map_err(|_| denied(judge.seen))?;
        Direction::Reply
    };
    tracker.connections.open(tracker.now, probe, packet, direction, judge.generation());
    Ok(())
}

/// An ICMP error about an allowed connection is part of it. Any other is a packet like others without ports.
fn relate(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    about: Option<&FlowKey>,
    ip: &Ip,
) -> Result<(), DropReason> {
    let now = tracker.now;
    let known = about.and_then(|inner| tracker.connections.related(now, judge.number, judge.seen, inner));
    match known {
        Some(known) => still_allowed(now, judge, known),
        None => verdict(judge, judge.seen, &subject::without_ports(ip)),
    }
}
