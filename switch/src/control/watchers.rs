//! Those who watch the endpoints come and go.

use heddle_api as api;
use heddle_api::endpoint_event::Event;
use tokio::sync::mpsc;

use super::ControlError;

/// Events a watcher may be behind. A start of a node is a burst of some hundred.
const SLACK: usize = 1024;

/// What a watcher gets: events, and at the end why there are no more.
pub(super) type EndpointEvents = mpsc::Receiver<Result<api::EndpointEvent, ControlError>>;

/// All watchers.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    list: Vec<mpsc::Sender<Result<api::EndpointEvent, ControlError>>>,
    stopped: bool,
}

impl Watchers {
    /// A new watcher, who is told of `there` first.
    pub(super) fn add(
        &mut self,
        there: impl ExactSizeIterator<Item = api::Endpoint>,
    ) -> Result<EndpointEvents, ControlError> {
        if self.stopped {
            return Err(stopping());
        }
        // Room for those that are there, the end of them, the slack, and the reason for an end.
        let (sender, receiver) = mpsc::channel(there.len() + 1 + SLACK + 1);
        let first = there.map(Event::Added).chain([Event::Synced(api::Synced {})]);
        for event in first {
            // There is room.
            let _ = sender.try_send(Ok(api::EndpointEvent { event: Some(event) }));
        }
        self.list.retain(|watcher| !watcher.is_closed());
        self.list.push(sender);
        Ok(receiver)
    }

    /// Tells all of them. Never waits: who is too far behind has to begin anew, and finds out why in the last place of the
    /// channel, which is kept for that.
    pub(super) fn tell(&mut self, event: &Event) {
        self.list.retain(|watcher| {
            let message = if watcher.capacity() > 1 {
                Ok(api::EndpointEvent { event: Some(event.clone()) })
            } else {
                let problem = format!("the watcher is more than {SLACK} events behind; watch anew");
                Err(ControlError::Lagging(problem))
            };
            let goes_on = message.is_ok();
            watcher.try_send(message).is_ok() && goes_on
        });
    }

    /// Ends all watches, and those to come.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        for watcher in self.list.drain(..) {
            let _ = watcher.try_send(Err(stopping()));
        }
    }
}

fn stopping() -> ControlError {
    ControlError::Unavailable("heddle-switch is stopping; watch again when it is back".to_owned())
}

#[cfg(test)]
mod tests {
    //! A watcher hears everything in order, or that it did not; none can hold the others up.
    use super::*;

    fn endpoint(id: &str) -> api::Endpoint {
        api::Endpoint { id: id.into(), ..api::Endpoint::default() }
    }

    fn next(events: &mut EndpointEvents) -> Option<Result<Event, ControlError>> {
        events.try_recv().ok().map(|message| message.map(|event| event.event.unwrap()))
    }

    #[test]
    fn what_is_there_comes_first_then_changes() {
        let mut watchers = Watchers::default();
        let mut events = watchers.add([endpoint("a"), endpoint("b")].into_iter()).unwrap();
        watchers.tell(&Event::Removed("a".into()));
        let heard: Vec<_> = std::iter::from_fn(|| next(&mut events)).map(Result::unwrap).collect();
        let expected = [
            Event::Added(endpoint("a")),
            Event::Added(endpoint("b")),
            Event::Synced(api::Synced {}),
            Event::Removed("a".into()),
        ];
        assert_eq!(heard, expected);
    }

    #[test]
    fn who_falls_behind_is_told_so_and_let_go() {
        let mut watchers = Watchers::default();
        let mut slow = watchers.add([].into_iter()).unwrap();
        let mut quick = watchers.add([].into_iter()).unwrap();
        assert_eq!(next(&mut quick), Some(Ok(Event::Synced(api::Synced {}))));
        for number in 0..SLACK + 10 {
            watchers.tell(&Event::Removed(number.to_string()));
            assert_eq!(next(&mut quick), Some(Ok(Event::Removed(number.to_string()))));
        }
        let heard: Vec<_> = std::iter::from_fn(|| next(&mut slow)).collect();
        let (last, rest) = heard.split_last().unwrap();
        assert!(matches!(last, Err(ControlError::Lagging(_))), "{last:?}");
        assert!(rest.iter().all(Result::is_ok) && rest.len() == SLACK + 1, "{}", rest.len());
        assert!(slow.is_closed() && watchers.list.len() == 1);
    }

    #[test]
    fn a_stop_ends_all_and_lets_nobody_begin() {
        let mut watchers = Watchers::default();
        let mut events = watchers.add([].into_iter()).unwrap();
        watchers.stop();
        assert!(next(&mut events).unwrap().is_ok());
        assert!(matches!(next(&mut events), Some(Err(ControlError::Unavailable(_)))));
        assert!(watchers.add([].into_iter()).is_err());
    }
}
