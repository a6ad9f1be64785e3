//! How workers, control and keeper speak with each other.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, unbounded};

use super::kernel::{CachedFlow, FlowMap, MapKey, NO_FENCE, Written};
use crate::pipeline::{Asked, News, Offer, Request};
use crate::stats::PortStats;
use crate::tables::Hop;

/// Requests that wait for the keeper at most. An offer beyond that is refused, and repeated by its worker later.
const REQUESTS: usize = 8192;

/// What the keeper is told.
#[derive(Debug)]
pub enum Message {
    /// By a worker.
    Request(Request),
    /// By control.
    Order(Order),
}

/// What control tells the keeper.
#[derive(Debug)]
pub enum Order {
    /// An endpoint is cached from now on.
    Settle(Hop, Resident),
    /// It is not, or is gone.
    Leave(Hop),
    /// The hop has another generation: flows of earlier ones are to go.
    Generation(Hop, u32),
    /// Everything that a former switch has left is known: its flows may be taken over. Answered when that is done, with the
    /// number of flows.
    TakeOver(Sender<usize>),
    /// End. What is in the map stays.
    Stop,
}

/// What the keeper has to know of an endpoint whose flows are cached.
#[derive(Debug, Clone)]
pub struct Resident {
    /// Its worker.
    pub worker: u16,
    /// What the flow cache forwarded for it. Only the keeper counts here.
    pub stats: Arc<PortStats>,
}

/// One worker's line to the keeper.
#[derive(Debug)]
pub struct Link {
    messages: Sender<Message>,
    news: Receiver<Vec<News>>,
    /// What could not be sent yet. Recalls must arrive, and before later offers of the same flow.
    unsent: VecDeque<Request>,
    /// The map, to write flows that begin; nothing until there is one.
    map: Option<Box<dyn FlowMap>>,
}

/// All lines, at the keeper's end.
#[derive(Debug)]
pub struct Links {
    pub(super) messages: Receiver<Message>,
    /// By worker.
    pub(super) news: Vec<Sender<Vec<News>>>,
}

/// Lines for so many workers, the keeper, and control.
pub fn connect(workers: usize) -> (Vec<Link>, Links, Sender<Message>) {
    let (messages, received) = bounded(REQUESTS);
    let (news, links) = (0..workers)
        .map(|_| {
            let (sender, news) = unbounded();
            (sender, Link { messages: messages.clone(), news, unsent: VecDeque::new(), map: None })
        })
        .unzip();
    (links, Links { messages: received, news }, messages)
}

impl Asked for Link {
    fn ask(&mut self, request: Request) -> bool {
        self.catch_up();
        let is_offer = matches!(request, Request::Offer(_));
        if !self.unsent.is_empty() {
            if !is_offer {
                self.unsent.push_back(request);
            }
            return !is_offer;
        }
        match self.messages.try_send(Message::Request(request)) {
            Ok(()) => true,
            Err(TrySendError::Full(Message::Request(request))) if !is_offer => {
                self.unsent.push_back(request);
                true
            }
            Err(_) => false,
        }
    }

    fn begin(&mut self, offers: Vec<Offer>) -> bool {
        let Some(map) = &mut self.map else { return false };
        let mut flows: Vec<(MapKey, CachedFlow)> = Vec::with_capacity(2);
        for offer in &offers {
            let (from, to, original) = (offer.from, offer.to, offer.is_original());
            let flow = CachedFlow { from, to, original, fence: NO_FENCE };
            let key = MapKey { flow: *offer.key(), interface: offer.interface };
            if flows.iter().all(|(there, _)| *there != key) {
                flows.push((key, flow));
            }
        }
        let written = map.insert(&flows).unwrap_or_default();
        let is_new = |written: Option<&Written>| written == Some(&Written::New);
        if (0..flows.len()).all(|index| is_new(written.get(index))) {
            return self.ask(Request::Written(offers));
        }
        let half: Vec<_> = (0..)
            .zip(&flows)
            .filter(|(index, _)| is_new(written.get(*index)))
            .map(|(_, (key, _))| *key)
            .collect();
        // If this fails, the keeper finds what nobody knows.
        let _ = map.remove(&half);
        false
    }
}

impl Link {
    /// Flows that begin can be written from now on.
    pub fn set_map(&mut self, map: Box<dyn FlowMap>) {
        self.map = Some(map);
    }

    /// Sends what could not be sent before.
    pub fn catch_up(&mut self) {
        while let Some(request) = self.unsent.pop_front() {
            if let Err(TrySendError::Full(Message::Request(request))) =
                self.messages.try_send(Message::Request(request))
            {
                self.unsent.push_front(request);
                return;
            }
        }
    }

    /// Some of what the keeper has told.
    pub fn news(&mut self) -> Option<Vec<News>> {
        self.news.try_recv().ok()
    }

    /// True while there is something to send, or to hear.
    pub fn is_busy(&self) -> bool {
        !self.unsent.is_empty() || !self.news.is_empty()
    }
}
