//! Every interleaving of the two ends keeps order and bound, and drops what is left once.
//! Run: `RUSTFLAGS="--cfg loom" cargo test -p heddle-xsk --lib --release`.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::*;

#[test]
fn order_and_bound_hold_while_wrapping() {
    // Capacity 1 and 2 with three items: both ends wait for each other and every slot is reused.
    for capacity in [1, 2] {
        loom::model(move || {
            let (mut producer, mut consumer) = ring(capacity);
            let pushing = thread::spawn(move || {
                for item in 0..3 {
                    let mut item = Box::new(item);
                    while let Err(back) = producer.push(item) {
                        item = back;
                        thread::yield_now();
                    }
                }
            });
            for expected in 0..3 {
                let item = loop {
                    assert!(consumer.len() <= capacity);
                    match consumer.pop() {
                        Some(item) => break item,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(*item, expected);
            }
            pushing.join().unwrap();
            assert!(consumer.pop().is_none());
        });
    }
}

#[test]
fn a_full_queue_refuses_and_an_empty_one_has_nothing() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(1);
        let pushing = thread::spawn(move || {
            let first = producer.push(1).is_ok();
            let second = producer.push(2).is_ok();
            (first, second)
        });
        let early = consumer.pop();
        let (first, second) = pushing.join().unwrap();
        assert!(first, "the queue was empty");
        let rest: Vec<u32> = consumer.drain().collect();
        let taken: Vec<u32> = early.into_iter().chain(rest).collect();
        assert_eq!(taken, if second { vec![1, 2] } else { vec![1] });
        assert!(!second || early == Some(1), "the second fits only after the first was taken");
    });
}

#[test]
fn what_is_left_is_dropped_once_whichever_end_goes_last() {
    struct Counted(loom::sync::Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    loom::model(|| {
        let dropped = loom::sync::Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(2);
        let counted = dropped.clone();
        let pushing = thread::spawn(move || {
            for _ in 0..2 {
                assert!(producer.push(Counted(counted.clone())).is_ok());
            }
        });
        drop(consumer.pop());
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    });
}
