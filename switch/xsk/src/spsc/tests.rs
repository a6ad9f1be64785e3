//! The queue keeps order, is bounded, wraps around, drops what is left, and loses nothing between real threads.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

#[test]
fn items_leave_in_the_order_they_entered() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!(consumer.pop(), None);
    for item in 0..3 {
        producer.push(item).unwrap();
    }
    assert_eq!(producer.len(), 3);
    assert_eq!(consumer.drain().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(consumer.is_empty() && producer.is_empty());
}

#[test]
fn a_full_queue_gives_the_item_back() {
    // Three items in four slots: the bound is what was asked for, not the power of two above it.
    let (mut producer, mut consumer) = ring(3);
    assert_eq!(producer.capacity(), 3);
    for item in 0..3 {
        producer.push(item).unwrap();
    }
    assert_eq!(producer.push(3), Err(3));
    assert_eq!(consumer.pop(), Some(0));
    assert_eq!(producer.push(3), Ok(()));
    assert_eq!(producer.push(4), Err(4));
    assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn capacity_zero_means_one() {
    let (mut producer, mut consumer) = ring(0);
    assert_eq!(producer.push('a'), Ok(()));
    assert_eq!(producer.push('b'), Err('b'));
    assert_eq!(consumer.pop(), Some('a'));
}

#[test]
fn indices_wrap_around() {
    let (mut producer, mut consumer) = ring(2);
    let near_the_end = usize::MAX - 2;
    producer.shared.head.store(near_the_end, Ordering::Relaxed);
    producer.shared.tail.store(near_the_end, Ordering::Relaxed);
    (producer.tail, producer.head_seen) = (near_the_end, near_the_end);
    (consumer.head, consumer.tail_seen) = (near_the_end, near_the_end);
    for item in 0..8 {
        producer.push(item).unwrap();
        producer.push(item + 100).unwrap();
        assert!(producer.push(0).is_err());
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(item), Some(item + 100), None));
    }
    assert!(producer.tail < near_the_end, "the test went past the end");
}

#[test]
fn dropping_the_queue_drops_what_is_in_it_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let (mut producer, mut consumer) = ring(8);
    for _ in 0..5 {
        assert!(producer.push(Counted(Arc::clone(&dropped))).is_ok());
    }
    drop(consumer.pop());
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    drop(producer);
    assert_eq!(dropped.load(Ordering::Relaxed), 1, "the consumer can still take them");
    drop(consumer);
    assert_eq!(dropped.load(Ordering::Relaxed), 5);
}

#[test]
fn two_threads_lose_nothing() {
    const ITEMS: u64 = 20_000;
    for capacity in [1, 3, 64] {
        let (mut producer, mut consumer) = ring(capacity);
        let pushing = thread::spawn(move || {
            for item in 0..ITEMS {
                // Boxed, so that a slot read twice or too early is a crash and not only a wrong number.
                let mut item = Box::new(item);
                while let Err(back) = producer.push(item) {
                    item = back;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..ITEMS {
            let item = loop {
                match consumer.pop() {
                    Some(item) => break item,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*item, expected);
        }
        pushing.join().unwrap();
        assert_eq!(consumer.pop(), None);
    }
}

/// `Rc` is not `Send`: a queue of it must not compile. The assertion is that this trait is not ambiguous for `Rc`.
#[test]
fn only_items_that_may_change_threads_enter() {
    trait NotSend<Marker> {
        fn holds() {}
    }
    impl<T> NotSend<()> for T {}
    impl<T: Send> NotSend<u8> for T {}
    <Rc<u8> as NotSend<_>>::holds();
}
