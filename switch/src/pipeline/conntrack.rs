//! Stage 8: is the packet part of a connection that policy allows?
//!
//! Asked at both ends of its way, as far as they are here: for the endpoint it leaves by the worker that received it,
//! for the endpoint it enters by the worker that owns that endpoint. So no connection is ever touched by two workers, and
//! a frame that changes worker is judged twice, each time by the one whose entry it is.

use heddle_xsk::Frame;

use super::packet::Ip;
use super::policy::{Judge, denied};
use super::remember;
use super::route::Next;
use super::scene::{Scene, Sender};
use super::subject::{self, Subject};
use super::tracker::Tracker;
use crate::DropReason;
use crate::tables::conntrack::{Direction, Fault, FlowKey, Known, Outcome, Packet, Probe, Side, Tick};
use crate::wire::Fragment;

/// First of the ports that Linux hands out (`ip_local_port_range`, ip-sysctl.rst); those of RFC 6335, section 6, begin higher.
const FIRST_HANDED_OUT: u16 = 32768;

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
    let Ok(packet) = subject::packet(ip, transport) else {
        return ask_odd(tracker, [leaving, entering], frame, ip);
    };
    if let Some(judge) = leaving {
        track(tracker, judge, &flow, &packet)?;
    }
    if let Some(judge) = entering {
        track(tracker, judge, &flow, &packet)?;
    }
    Ok(())
}

/// What is not simply a packet of a flow: fragments, ICMP errors, what has neither ports nor an identifier, and what is cut off. An
/// open endpoint has nothing to say about it.
#[cold]
fn ask_odd(
    tracker: &mut Tracker,
    judges: [Option<&Judge<'_>>; 2],
    frame: &Frame,
    ip: &Ip,
) -> Result<(), DropReason> {
    let mut judges = judges.into_iter().flatten().filter(|judge| !judge.is_open()).peekable();
    if judges.peek().is_none() {
        return Ok(());
    }
    let subject = subject::of(frame, ip)?;
    judges.try_for_each(|judge| ask_one(tracker, judge, &subject, frame, ip))
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
        Outcome::Known(mut known) if known.judged_at() == judge.generation() => {
            if judge.is_cached() {
                if known.is_ripe() {
                    offload(judge, &mut known);
                } else if known.is_beginning() {
                    known.begin();
                }
            }
            Ok(())
        }
        Outcome::Known(known) => {
            let takes_over = may_take_over(&known, packet);
            judge_again(now, judge, known).or_else(|reason| {
                let opened = if takes_over { open(tracker, judge, &probe, packet) } else { Err(reason) };
                opened.map_err(|_| reason)
            })
        }
        Outcome::New => open(tracker, judge, &probe, packet),
        Outcome::Stray => adopt(tracker, judge, &probe, packet),
        // Its flows are known for the flow cache alone; what passes is no less than where nobody knows them.
        Outcome::Refused(_) if judge.is_open() => Ok(()),
        Outcome::Refused(Fault::Flags) => Err(DropReason::TcpMalformed),
        Outcome::Refused(Fault::Syn) => Err(DropReason::TcpSyn),
        Outcome::Refused(Fault::Reset) => Err(DropReason::TcpReset),
    }
}

/// Lets the flow's packets pass unseen if the flow cache can forward them at all: it costs what is known of the windows.
#[cold]
fn offload(judge: &Judge<'_>, known: &mut Known<'_>) {
    if remember::can_be_cached(judge.tables, &known.end()) {
        known.offload();
    }
}

/// A connection was allowed once; since policy changed, that has to be asked again, once.
///
/// One that is not allowed any more stays in the table, as what it is: without it, its packets would be strays, whose opener
/// is a guess. They find it and are judged each time, until policy allows it again or it has been idle for too long.
#[cold]
fn judge_again(now: Tick, judge: &Judge<'_>, mut known: Known<'_>) -> Result<(), DropReason> {
    let flow = known.flow(now);
    verdict(judge, flow.side, &flow.key)?;
    known.set_judged(judge.generation());
    Ok(())
}

/// Without a handshake, a packet against a connection that is not allowed any more may be the first of one the other way.
fn may_take_over(known: &Known<'_>, packet: &Packet) -> bool {
    packet.segment.is_none() && known.direction() == Direction::Reply
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
/// goes on if policy allows it both ways, whoever opened it. A packet that only claims to be a reply would pass otherwise.
///
/// For some time after the switch has started, one way is enough for TCP, if the ports tell which: otherwise a restart would
/// cut the connections of every pod that policy isolates.
#[cold]
fn adopt(tracker: &mut Tracker, judge: &Judge<'_>, probe: &Probe, packet: &Packet) -> Result<(), DropReason> {
    let flow = probe.flow();
    let as_original = || verdict(judge, judge.seen, &flow);
    let as_reply = || verdict(judge, judge.seen.opposite(), &flow.reverse());
    let may_be_older = packet.segment.is_some() && tracker.is_young();
    let direction = match sent_by_opener(&flow).filter(|_| may_be_older) {
        Some(true) => as_original().map(|()| Direction::Original)?,
        Some(false) => as_reply().map(|()| Direction::Reply)?,
        None => as_original().and_then(|()| as_reply()).map(|()| Direction::Original)?,
    };
    tracker.connections.open(tracker.now, probe, packet, direction, judge.generation());
    Ok(())
}

/// Whether a packet goes the way its connection was opened, as far as its ports tell: who opens a connection does so from
/// one of those that systems hand out, to one below.
fn sent_by_opener(flow: &FlowKey) -> Option<bool> {
    let is_handed_out = |port: u16| port >= FIRST_HANDED_OUT;
    match (is_handed_out(flow.source_port), is_handed_out(flow.destination_port)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// An ICMP error about an allowed connection is part of it, if it goes to whoever sent the packet that it quotes. Any other
/// is a packet like others without ports.
fn relate(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    about: Option<&FlowKey>,
    ip: &Ip,
) -> Result<(), DropReason> {
    let now = tracker.now;
    let about = about.filter(|inner| inner.source == ip.destination);
    let known = about.and_then(|inner| tracker.connections.related(now, judge.number, judge.seen, inner));
    match known {
        Some(known) if known.judged_at() == judge.generation() => Ok(()),
        Some(known) => judge_again(now, judge, known),
        None => verdict(judge, judge.seen, &subject::without_ports(ip)),
    }
}
