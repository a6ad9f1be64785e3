//! Behind the stages: which flows the flow cache is to forward, and which not any more.

use crate::tables::conntrack::{Change, Direction, FlowEnd, FlowKey, Side, Unseen};
use crate::tables::{AttachMode, Hop, HopKind, NextHop, Tables, Tunnel};

/// What is asked of the flow cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// One end of a flow allows it to be cached.
    Offer(Offer),
    /// One end does not allow it any more.
    Recall(FlowEnd),
    /// These are in the map already, offered by all ends they need.
    Written(Vec<Offer>),
}

/// Who is asked.
pub trait Asked {
    /// Takes a request, to be carried out later. False for an offer that has to be repeated; a recall has to be taken.
    fn ask(&mut self, request: Request) -> bool;

    /// Has the flow cache forward these flows at once, before anything more of them is sent. False if that cannot be: then nothing
    /// is changed.
    fn begin(&mut self, offers: Vec<Offer>) -> bool;
}

/// Whoever takes requests only: flows that begin are offered like others, once they have been going on for a while.
impl<F: FnMut(Request) -> bool> Asked for F {
    fn ask(&mut self, request: Request) -> bool {
        self(request)
    }

    fn begin(&mut self, _: Vec<Offer>) -> bool {
        false
    }
}

/// A flow as one end offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The end.
    pub end: FlowEnd,
    /// Index of the interface that the flow's packets come in by.
    pub interface: u32,
    /// Where they are from.
    pub from: Party,
    /// Where they go.
    pub to: Party,
}

/// A hop as it was when a flow was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// Which one.
    pub hop: Hop,
    /// Its generation: see [`HopGenerations`](crate::tables::HopGenerations).
    pub generation: u32,
}

/// What the flow cache tells of one end of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It forwarded packets.
    Used(FlowEnd, Unseen),
    /// It does not forward it any more, or never has: nothing passes unseen any more.
    Dropped(FlowEnd, Unseen),
    /// It forwards one that a former switch has allowed.
    Found(FlowEnd, Unseen),
}

/// What a change means for the flow cache; nothing when it has no part in the flow. `tables` are those that the flow was judged
/// by.
pub(super) fn request(tables: &Tables, change: &Change) -> Option<Request> {
    match change {
        Change::Offloaded(end) => offer(tables, end).map(Request::Offer),
        Change::Recalled(end) => Some(Request::Recall(*end)),
        Change::Beginning(_) => None,
    }
}

/// The offers of all ends of a connection that is [beginning](Change::Beginning), which `changes` start with; nothing when the
/// flow cache has no part in one of its flows, or an end is another worker's.
pub(super) fn beginning(tables: &Tables, changes: &[Change]) -> (usize, Option<Vec<Offer>>) {
    let mut ends = changes.iter().map_while(|change| match change {
        Change::Beginning(end) => Some(*end),
        Change::Offloaded(_) | Change::Recalled(_) => None,
    });
    let Some(first) = ends.next() else { return (0, None) };
    let is_same = |end: &FlowEnd| end.key == first.key || end.key.reverse() == first.key;
    let ends: Vec<_> = std::iter::once(first).chain(ends.take_while(is_same)).collect();
    let offers: Option<Vec<_>> = ends.iter().map(|end| offer(tables, end)).collect();
    let is_complete = |offers: &Vec<Offer>| {
        // Each of the two flows is offered once by every end of it that is on this node.
        let local = |hop: Hop| usize::from(matches!(hop.kind(), HopKind::Endpoint(_)));
        offers.first().is_some_and(|one| offers.len() == 2 * (local(one.from.hop) + local(one.to.hop)))
    };
    (ends.len(), offers.filter(is_complete))
}

/// Whether the kernel sees the flow's packets both come and go.
pub(super) fn can_be_cached(tables: &Tables, end: &FlowEnd) -> bool {
    offer(tables, end).is_some()
}

/// The offer of a flow whose packets the kernel sees both come and go.
fn offer(tables: &Tables, end: &FlowEnd) -> Option<Offer> {
    let own = Place::of_endpoint(tables, end.endpoint)?;
    let (from, to) = match end.seen {
        Side::Egress => (own, Place::of(tables, tables.fib.lookup(end.key.destination)?)?),
        Side::Ingress => (Place::of(tables, tables.fib.lookup(end.key.source)?)?, own),
    };
    let party = |place: &Place| {
        let generation = *tables.hop_generations.get(place.hop.number())?;
        Some(Party { hop: place.hop, generation })
    };
    let offer = Offer { end: *end, interface: from.interface, from: party(&from)?, to: party(&to)? };
    // What an endpoint sends to itself never gets here, unless somebody translated it.
    (from.hop != to.hop).then_some(offer)
}

/// A hop, and the interface its packets come in by.
struct Place {
    hop: Hop,
    interface: u32,
}

impl Place {
    fn of(tables: &Tables, next_hop: NextHop) -> Option<Self> {
        match next_hop {
            NextHop::Endpoint(number) => Self::of_endpoint(tables, number),
            NextHop::Vtep(number) => match tables.node.uplink.as_ref()?.tunnel {
                Tunnel::Kernel { interface } => Some(Self { hop: Hop::vtep(number)?, interface }),
                Tunnel::Switch => None,
            },
            NextHop::Unreachable => None,
        }
    }

    fn of_endpoint(tables: &Tables, number: u32) -> Option<Self> {
        let endpoint = tables.endpoints.get(number)?;
        match endpoint.attach {
            AttachMode::Cached => Some(Self { hop: Hop::endpoint(number)?, interface: endpoint.interface }),
            AttachMode::Direct => None,
        }
    }
}

impl Offer {
    /// Whether the flow's packets go the way that its connection was opened.
    pub fn is_original(&self) -> bool {
        self.end.direction == Direction::Original
    }

    /// Of the flow's packets.
    pub fn key(&self) -> &FlowKey {
        &self.end.key
    }
}
