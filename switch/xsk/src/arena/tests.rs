//! Frames in all places add up to the arena's count, whatever is taken, put, lent and returned in whatever order.

use proptest::prelude::*;

use super::*;
use crate::Pool;
use crate::lent::Lent;

#[derive(Debug, Clone, Copy)]
enum Step {
    Take(usize),
    Put(usize, usize),
    Lend(usize),
    /// Something a kernel might write into a ring, sensible or not.
    Return(usize, usize),
    CloseSocket,
    NewPool(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Step::Take),
        2 => (0..2_usize, 0..64_usize).prop_map(|(pool, held)| Step::Put(pool, held)),
        2 => (0..64_usize).prop_map(Step::Lend),
        2 => (0..400_usize, 0..3000_usize).prop_map(|(chunk, offset)| Step::Return(chunk, offset)),
        1 => Just(Step::CloseSocket),
        1 => (0..2_usize).prop_map(Step::NewPool),
    ]
}

proptest! {
    #[test]
    fn frames_add_up(count in 1_u32..300, steps in proptest::collection::vec(step(), 0..300)) {
        let arena = Arena::heap(count, 2048).unwrap();
        let mut pools = [Pool::new(Arc::clone(&arena)), Pool::new(Arc::clone(&arena))];
        let mut lent = Lent::new(&arena);
        let mut held: Vec<Frame> = Vec::new();
        for step in steps {
            match step {
                Step::Take(pool) => held.extend(pools[pool].take()),
                Step::Put(pool, at) if !held.is_empty() => {
                    let frame = held.swap_remove(at % held.len());
                    pools[pool].put(frame);
                }
                Step::Lend(at) if !held.is_empty() => {
                    let frame = held.swap_remove(at % held.len());
                    lent.lend(frame).unwrap();
                }
                Step::Return(chunk, offset) => held.extend(lent.take_back(chunk * 2048 + offset).map(|(frame, _)| frame)),
                Step::CloseSocket => lent = Lent::new(&arena),
                Step::NewPool(pool) => pools[pool] = Pool::new(Arc::clone(&arena)),
                Step::Put(..) | Step::Lend(_) => {}
            }
            let pooled: usize = pools.iter().map(Pool::len).sum();
            let total = arena.reserved() + arena.quarantined() + pooled + lent.len() as usize + held.len();
            prop_assert_eq!(total, count as usize);
            let mut numbers: Vec<u32> = held.iter().map(Frame::index).collect();
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), held.len(), "no frame exists twice");
        }
        for frame in held {
            pools[0].put(frame);
        }
    }
}

#[test]
fn a_descriptor_of_a_frame_that_is_not_lent_makes_no_frame() {
    let arena = Arena::heap(4, 2048).unwrap();
    let mut pool = Pool::new(Arc::clone(&arena));
    let mut lent = Lent::new(&arena);
    let index = lent.lend(pool.take().unwrap()).unwrap() as usize;
    for address in [(index ^ 1) * 2048, 4 * 2048, usize::MAX, usize::MAX - 2047] {
        assert!(lent.take_back(address).is_none(), "address {address:#x}");
    }
    let (frame, offset) = lent.take_back(index * 2048 + 300).unwrap();
    assert_eq!((frame.index() as usize, offset), (index, 300));
    assert!(lent.take_back(index * 2048 + 300).is_none(), "the second time");
    pool.put(frame);
}

#[test]
fn a_closed_sockets_frames_rest_in_quarantine_first() {
    let arena = Arena::heap(8, 2048).unwrap();
    let mut pool = Pool::new(Arc::clone(&arena));
    let mut lent = Lent::new(&arena);
    for _ in 0..3 {
        lent.lend(pool.take().unwrap()).unwrap();
    }
    drop(pool);
    let closed = std::time::Instant::now();
    drop(lent);
    assert_eq!((arena.reserved(), arena.quarantined()), (5, 3));
    while arena.quarantined() > 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(closed.elapsed() >= crate::quarantine::QUARANTINE);
    assert_eq!(arena.reserved(), 8);
}

#[test]
fn a_frame_of_another_arena_cannot_be_lent() {
    let (ours, theirs) = (Arena::heap(2, 2048).unwrap(), Arena::heap(2, 2048).unwrap());
    let mut pool = Pool::new(theirs);
    let mut lent = Lent::new(&ours);
    let frame = lent.lend(pool.take().unwrap()).unwrap_err();
    assert_eq!(lent.len(), 0);
    pool.put(frame);
}

#[test]
fn impossible_sizes_are_refused() {
    assert!(matches!(Arena::heap(1, 1024), Err(ArenaError::ChunkSize(1024))));
    assert!(matches!(Arena::heap(0, 2048), Err(ArenaError::Count(0))));
    assert!(matches!(Arena::heap(Arena::MAX_FRAMES + 1, 2048), Err(ArenaError::Count(_))));
}
