//! Publication on real threads: readers keep up, old snapshots go away, and only the publisher frees them.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::{self, ThreadId};

use super::*;

/// Counts its drops, by whether they happened on the thread that made it.
struct Tracked {
    number: u64,
    home: ThreadId,
    drops: Arc<Drops>,
}

#[derive(Default)]
struct Drops {
    at_home: AtomicUsize,
    elsewhere: AtomicUsize,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let at_home = thread::current().id() == self.home;
        let counter = if at_home { &self.drops.at_home } else { &self.drops.elsewhere };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn readers_get_what_was_published_last() {
    let (mut publisher, mut readers) = Publisher::new("a", 2);
    assert_eq!((publisher.generation(), *readers[0].refresh()), (0, "a"));
    assert_eq!(publisher.publish("b"), 1);
    assert_eq!(**publisher.current(), "b");
    assert_eq!(readers.iter_mut().map(|reader| *reader.refresh()).collect::<Vec<_>>(), ["b", "b"]);
}

#[test]
fn snapshot_is_kept_until_the_slowest_reader_moved_on() {
    let (mut publisher, mut readers) = Publisher::new(0, 2);
    for reader in &mut readers {
        assert_eq!(*reader.refresh(), 0);
    }
    let generation = publisher.publish(1);
    assert_eq!((publisher.seen_by_all(generation), publisher.retired()), (false, 1));
    readers[0].refresh();
    publisher.reclaim();
    assert_eq!((publisher.seen_by_all(generation), publisher.retired()), (false, 1));
    readers[1].refresh();
    assert_eq!((publisher.seen_by_all(generation), publisher.retired()), (true, 1));
    publisher.reclaim();
    assert_eq!(publisher.retired(), 0);
    assert!(!publisher.seen_by_all(generation + 1), "not published yet");
}

#[test]
fn parked_and_dropped_readers_hold_nothing_back() {
    let (mut publisher, mut readers) = Publisher::new(0, 2);
    let generation = publisher.publish(1);
    assert_eq!((publisher.seen_by_all(generation), publisher.retired()), (true, 0), "born parked");
    for reader in &mut readers {
        assert_eq!(*reader.refresh(), 1);
    }
    let generation = publisher.publish(2);
    readers[0].park();
    assert!(!publisher.seen_by_all(generation));
    drop(readers.pop());
    assert!(publisher.seen_by_all(generation));
    assert_eq!(*readers[0].refresh(), 2, "waking takes the newest");
}

#[test]
fn reader_goes_on_with_what_it_has_while_the_lock_is_taken() {
    let (mut publisher, mut readers) = Publisher::new(0, 1);
    readers[0].refresh();
    publisher.publish(1);
    let shared = Arc::clone(&publisher.shared);
    let guard = shared.lock();
    assert_eq!(*readers[0].refresh(), 0);
    assert!(!publisher.seen_by_all(1));
    drop(guard);
    assert_eq!(*readers[0].refresh(), 1);
    assert!(publisher.seen_by_all(1));
}

#[test]
fn workers_never_free_a_snapshot() {
    const SNAPSHOTS: u64 = 20_000;
    let drops = Arc::new(Drops::default());
    let home = thread::current().id();
    let snapshot = |number| Tracked { number, home, drops: Arc::clone(&drops) };
    let (mut publisher, readers) = Publisher::new(snapshot(0), 3);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut reader in readers {
            let done = &done;
            scope.spawn(move || {
                let (mut newest, mut rounds) = (0, 0_u64);
                while !done.load(Ordering::Relaxed) {
                    let number = reader.refresh().number;
                    assert!(number >= newest, "went back from {newest} to {number}");
                    newest = number;
                    rounds += 1;
                    if rounds.is_multiple_of(7) {
                        reader.park();
                    }
                }
            });
        }
        for number in 1..=SNAPSHOTS {
            assert_eq!(publisher.publish(snapshot(number)), number);
        }
        done.store(true, Ordering::Relaxed);
    });
    publisher.reclaim();
    assert_eq!(publisher.retired(), 0);
    assert_eq!(drops.at_home.load(Ordering::Relaxed) as u64, SNAPSHOTS, "all but the current one are freed");
    assert_eq!(drops.elsewhere.load(Ordering::Relaxed), 0);
}
