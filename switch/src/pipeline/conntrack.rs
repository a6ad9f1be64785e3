//! Stage 8: is the packet part of a connection that policy allows?
//!
//! Asked at both ends of its way, as far as they are here: for the endpoint it leaves by the worker that received it,
//! for the endpoint it enters by the worker that owns that endpoint. So no connection is ever touched by two workers, and
//! a frame that changes worker is judged twice, each time by the one whose entry it is.

use heddle_xsk::Frame;

use super::by_host;
use super::packet::Ip;
use super::policy::{Judge, denied};
use super::remember;
use super::route::Next;
use super::scene::{Scene, Sender};
use super::subject::{self, Subject};
use super::tracker::Tracker;
use crate::DropReason;
use crate::tables::HOST;
use crate::tables::conntrack::{Direction, Fault, FlowKey, Known, Outcome, Packet, Probe, Side, Tick};
use crate::wire::Fragment;

/// First of the ports that Linux hands out (`ip_local_port_range`, ip-sysctl.rst); those of RFC 6335, section 6, begin higher.
const FIRST_HANDED_OUT: u16 = 32768;

/// Which way a packet goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As its destination is routed.
    Routed,
    /// By the host, as what it answers to has come ([`by_host`]).
    Host,
}

/// Asks for both ends, and says where the packet goes on. An endpoint of another worker is asked over there, by [`arrive`].
#[inline(always)]
pub(super) fn check<'t>(
    scene: &Scene<'t>,
    tracker: &mut Tracker,
    (sender, next): (Sender<'_>, Next<'t>),
    frame: &Frame,
    ip: &Ip,
) -> Result<Next<'t>, DropReason> {
    let leaving = match sender {
        Sender::Endpoint(number, endpoint) => Judge::of(scene.tables, (number, endpoint), Side::Egress)?,
        Sender::Vtep(_) | Sender::Switch => None,
    };
    let entering = match next {
        Next::Endpoint(number, endpoint) if endpoint.port.worker == scene.worker => {
            let judge = Judge::of(scene.tables, (number, endpoint), Side::Ingress)?;
            judge.map(|judge| judge.of_packet(by_host::is_from_host(scene)))
        }
        Next::Endpoint(..) | Next::Vtep(..) => None,
    };
    match ask(tracker, [leaving.as_ref(), entering.as_ref()], frame, ip)? {
        Way::Routed => Ok(next),
        Way::Host => enter_host(scene, tracker, frame, ip),
    }
}

/// The host in place of the next hop that the route names.
#[cold]
fn enter_host<'t>(
    scene: &Scene<'t>,
    tracker: &mut Tracker,
    frame: &Frame,
    ip: &Ip,
) -> Result<Next<'t>, DropReason> {
    let host = scene.tables.endpoints.get(HOST).ok_or(DropReason::NoRoute)?;
    if host.port.worker == scene.worker
        && let Some(judge) = Judge::of(scene.tables, (HOST, host), Side::Ingress)?
    {
        arrive(tracker, &judge, frame, ip)?;
    }
    Ok(Next::Endpoint(HOST, host))
}

/// Asks for the endpoint that a frame from another worker is about to enter.
pub(super) fn arrive(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    frame: &Frame,
    ip: &Ip,
) -> Result<(), DropReason> {
    ask(tracker, [None, Some(judge)], frame, ip).map(drop)
}

/// An endpoint that is not entered, because the packet goes by the host, is not asked.
#[inline(always)]
fn ask(
    tracker: &mut Tracker,
    [leaving, entering]: [Option<&Judge<'_>>; 2],
    frame: &Frame,
    ip: &Ip,
) -> Result<Way, DropReason> {
    if leaving.is_none() && entering.is_none() {
        return Ok(Way::Routed);
    }
    let transport = ip.transport(frame.bytes());
    let (Fragment::Whole, Some(flow)) = (ip.fragment, subject::flow(ip, transport)) else {
        return ask_odd(tracker, [leaving, entering], frame, ip);
    };
    let Ok(packet) = subject::packet(ip, transport) else {
        return ask_odd(tracker, [leaving, entering], frame, ip);
    };
    if let Some(judge) = leaving
        && track(tracker, judge, &flow, &packet)? == Way::Host
    {
        return Ok(Way::Host);
    }
    if let Some(judge) = entering {
        track(tracker, judge, &flow, &packet)?;
    }
    Ok(Way::Routed)
}

/// What is not simply a packet of a flow: fragments, ICMP errors, what has neither ports nor an identifier, and what is cut off. An
/// open endpoint has nothing to say about it.
#[cold]
fn ask_odd(
    tracker: &mut Tracker,
    judges: [Option<&Judge<'_>>; 2],
    frame: &Frame,
    ip: &Ip,
) -> Result<Way, DropReason> {
    let mut judges =
        judges.into_iter().flatten().filter(|judge| !judge.is_open() || judge.is_mapped()).peekable();
    if judges.peek().is_none() {
        return Ok(Way::Routed);
    }
    let subject = subject::of(frame, ip)?;
    for judge in judges {
        if ask_one(tracker, judge, &subject, frame, ip)? == Way::Host {
            return Ok(Way::Host);
        }
    }
    Ok(Way::Routed)
}

fn ask_one(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    subject: &Subject,
    frame: &Frame,
    ip: &Ip,
) -> Result<Way, DropReason> {
    if ip.fragment == Fragment::Later {
        let key = subject::fragment_key(frame, ip)?;
        let found = tracker.fragments.find(tracker.now, judge.number, judge.seen, &key);
        let unknown = if judge.is_open() { Ok(Way::Routed) } else { Err(DropReason::FragmentUnknown) };
        return found.unwrap_or(unknown);
    }
    let answer = match subject {
        Subject::Flow(flow, packet) => track(tracker, judge, flow, packet),
        Subject::Error(about) => relate(tracker, judge, about.as_ref(), ip),
        Subject::Other => verdict(judge, judge.seen, &subject::without_ports(ip)).map(|()| Way::Routed),
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
) -> Result<Way, DropReason> {
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
            Ok(way(judge, &known))
        }
        Outcome::Known(known) => {
            let (takes_over, way) = (may_take_over(&known, packet), way(judge, &known));
            judge_again(now, judge, known).map(|()| way).or_else(|reason| {
                let opened = if takes_over { open(tracker, judge, &probe, packet) } else { Err(reason) };
                opened.map_err(|_| reason)
            })
        }
        Outcome::New => open(tracker, judge, &probe, packet),
        Outcome::Stray => adopt(tracker, judge, &probe, packet),
        // Its flows are known for the flow cache alone; what passes is no less than where nobody knows them.
        Outcome::Refused(_) if judge.is_open() => Ok(Way::Routed),
        Outcome::Refused(Fault::Flags) => Err(DropReason::TcpMalformed),
        Outcome::Refused(Fault::Syn) => Err(DropReason::TcpSyn),
        Outcome::Refused(Fault::Reset) => Err(DropReason::TcpReset),
    }
}

/// What an endpoint sends on a connection that the host forwards to it goes by the host.
#[inline(always)]
fn way(judge: &Judge<'_>, known: &Known<'_>) -> Way {
    if known.is_by_host() && judge.seen == Side::Egress { Way::Host } else { Way::Routed }
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
fn open(tracker: &mut Tracker, judge: &Judge<'_>, probe: &Probe, packet: &Packet) -> Result<Way, DropReason> {
    let flow = probe.flow();
    verdict(judge, judge.seen, &flow)?;
    let mut known =
        tracker.connections.open(tracker.now, probe, packet, Direction::Original, judge.generation());
    if judge.is_forwarded(&flow) {
        known.set_by_host();
    }
    Ok(way(judge, &known))
}

/// A packet from the middle of a connection nobody knows: the switch is younger than the connection, or forgot it. It
/// goes on if policy allows it both ways, whoever opened it. A packet that only claims to be a reply would pass otherwise.
///
/// For some time after the switch has started, one way is enough for TCP, if the ports tell which: otherwise a restart would
/// cut the connections of every pod that policy isolates.
///
/// What may be an answer by a port of the node is taken for one: if it is not, the host sends it on as it is.
#[cold]
fn adopt(
    tracker: &mut Tracker,
    judge: &Judge<'_>,
    probe: &Probe,
    packet: &Packet,
) -> Result<Way, DropReason> {
    let flow = probe.flow();
    let as_original = || verdict(judge, judge.seen, &flow);
    let as_reply = || verdict(judge, judge.seen.opposite(), &flow.reverse());
    let may_be_older = packet.segment.is_some() && tracker.is_young();
    let direction = match sent_by_opener(&flow).filter(|_| may_be_older) {
        Some(true) => as_original().map(|()| Direction::Original)?,
        Some(false) => as_reply().map(|()| Direction::Reply)?,
        None => as_original().and_then(|()| as_reply()).map(|()| Direction::Original)?,
    };
    let mut known = tracker.connections.open(tracker.now, probe, packet, direction, judge.generation());
    let is_answer = sent_by_opener(&flow) != Some(true) && judge.may_answer_by_host(&flow);
    if is_answer || judge.is_forwarded(&flow) {
        known.set_by_host();
    }
    Ok(way(judge, &known))
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
) -> Result<Way, DropReason> {
    let now = tracker.now;
    let about = about.filter(|inner| inner.source == ip.destination);
    let known = about.and_then(|inner| tracker.connections.related(now, judge.number, judge.seen, inner));
    match known {
        Some(known) if known.judged_at() == judge.generation() => Ok(way(judge, &known)),
        Some(known) => {
            let way = way(judge, &known);
            judge_again(now, judge, known).map(|()| way)
        }
        None => verdict(judge, judge.seen, &subject::without_ports(ip)).map(|()| Way::Routed),
    }
}
