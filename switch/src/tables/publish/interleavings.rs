//! Every interleaving (loom) of one publisher and its readers: nobody goes back in time, nobody is left on an
//! old snapshot that counts as unseen, and workers free nothing.

use loom::cell::UnsafeCell;
use loom::thread;

use super::*;

/// A value whose use loom checks: a reader's `read` and the publisher's `claim` must be ordered by the code under test.
struct Watched {
    number: u64,
    home: thread::ThreadId,
    cell: UnsafeCell<()>,
}

impl Watched {
    fn new(number: u64) -> Self {
        Self { number, home: thread::current().id(), cell: UnsafeCell::new(()) }
    }

    fn read(&self) -> u64 {
        self.cell.with(|_| self.number)
    }

    /// Fails the test when a reader's `read` may still be under way or to come.
    fn claim(&self) {
        self.cell.with_mut(|_| ());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.claim();
        assert_eq!(thread::current().id(), self.home, "snapshot {} freed by a worker", self.number);
    }
}

/// Publishes `last` times while readers with these lives run, then checks that all is reclaimed. Snapshots known to be
/// unseen are claimed on the spot.
fn run(last: u64, lives: &'static [fn(&mut Reader<Watched>)]) {
    loom::model(move || {
        let (mut publisher, readers) = Publisher::new(Watched::new(0), lives.len());
        let mut threads = Vec::new();
        for (mut reader, life) in readers.into_iter().zip(lives) {
            threads.push(thread::spawn(move || life(&mut reader)));
        }
        for number in 1..=last {
            let old = Arc::clone(publisher.current());
            let generation = publisher.publish(Watched::new(number));
            assert_eq!(generation, number);
            if publisher.seen_by_all(generation) {
                old.claim();
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(publisher.seen_by_all(last), "readers are gone");
        publisher.reclaim();
        assert_eq!(publisher.retired(), 0);
    });
}

/// Three batches; each sees the state of the one before or a newer one.
fn polls(reader: &mut Reader<Watched>) {
    let mut newest = 0;
    for _ in 0..3 {
        let number = reader.refresh().read();
        assert!(number >= newest, "went back from {newest} to {number}");
        newest = number;
    }
}

/// Sleeps between batches, and wakes up to nothing older than it had.
fn sleeps(reader: &mut Reader<Watched>) {
    let before = reader.refresh().read();
    reader.park();
    let after = reader.refresh().read();
    assert!(after >= before, "went back from {before} to {after}");
}

/// One batch, then asleep for good.
fn goes_to_sleep(reader: &mut Reader<Watched>) {
    reader.refresh().read();
    reader.park();
}

#[test]
fn polling_reader() {
    run(2, &[polls]);
}

#[test]
fn reader_that_parks_and_wakes() {
    run(2, &[sleeps]);
}

#[test]
fn two_readers_in_each_others_way() {
    run(1, &[goes_to_sleep, goes_to_sleep]);
}

#[test]
fn reader_woken_by_a_message_gets_what_was_published_before_it() {
    loom::model(|| {
        let (mut publisher, mut readers) = Publisher::new(Watched::new(0), 1);
        let mut reader = readers.remove(0);
        let published = Arc::new(AtomicU64::new(0));
        let message = Arc::clone(&published);
        let worker = thread::spawn(move || {
            let told = message.load(Ordering::Acquire);
            let number = reader.refresh().read();
            assert!(number >= told, "told of {told}, woke up to {number}");
        });
        published.store(publisher.publish(Watched::new(1)), Ordering::Release);
        worker.join().unwrap();
        publisher.reclaim();
    });
}
