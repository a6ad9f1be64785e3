//! A frame behaves like a vector of bytes with bounded room on both sides.

use std::sync::Arc;

use proptest::prelude::*;

use crate::arena::DATA_OFFSET;
use crate::{Arena, Frame, Pool};

#[derive(Debug, Clone)]
enum Step {
    Prepend(Vec<u8>),
    Strip(usize),
    SetLen(usize),
    CopyFrom(Vec<u8>),
    MoveTo(u16),
    Fill(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Step::Prepend),
        (0..400_usize).prop_map(Step::Strip),
        (0..2200_usize).prop_map(Step::SetLen),
        proptest::collection::vec(any::<u8>(), 0..2200).prop_map(Step::CopyFrom),
        (0..=2048_u16).prop_map(Step::MoveTo),
        any::<u8>().prop_map(Step::Fill),
    ]
}

/// Does `step` to both, and checks that the frame refuses exactly what does not fit.
fn apply(step: Step, frame: &mut Frame, start: &mut usize, model: &mut Vec<u8>) {
    match step {
        Step::Prepend(bytes) => {
            let fits = bytes.len() <= *start;
            let whole = frame.prepend(bytes.len());
            assert_eq!(whole.is_some(), fits);
            if let Some(whole) = whole {
                whole[..bytes.len()].copy_from_slice(&bytes);
                *start -= bytes.len();
                model.splice(0..0, bytes);
            }
        }
        Step::Strip(n) => {
            assert_eq!(frame.strip(n), n <= model.len());
            if n <= model.len() {
                model.drain(..n);
                *start += n;
            }
        }
        Step::SetLen(len) => {
            assert_eq!(frame.set_len(len), *start + len <= 2048);
            if *start + len <= 2048 {
                let old = model.len();
                model.resize(len, 0);
                // What an extension contains is unspecified.
                if len > old {
                    frame.bytes_mut()[old..].fill(0);
                }
            }
        }
        Step::CopyFrom(bytes) => {
            assert_eq!(frame.copy_from(&bytes), *start + bytes.len() <= 2048);
            if *start + bytes.len() <= 2048 {
                *model = bytes;
            }
        }
        Step::MoveTo(to) => {
            let fits = usize::from(to) + model.len() <= 2048;
            assert_eq!(frame.move_to(to), fits);
            if fits {
                *start = usize::from(to);
            }
        }
        Step::Fill(byte) => {
            frame.bytes_mut().fill(byte);
            model.fill(byte);
        }
    }
}

proptest! {
    #[test]
    fn a_frame_is_a_vector_with_bounded_room(steps in proptest::collection::vec(step(), 0..60)) {
        let arena = Arena::heap(3, 2048).unwrap();
        let mut pool = Pool::new(Arc::clone(&arena));
        // The middle one of three: writing beyond its chunk would be seen in its neighbors.
        let mut frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).collect();
        frames.sort_by_key(Frame::index);
        for frame in &mut frames {
            prop_assert!(frame.move_to(0) && frame.set_len(2048));
            frame.bytes_mut().fill(0xa5);
        }
        let frame = &mut frames[1];
        prop_assert!(frame.set_len(0) && frame.move_to(DATA_OFFSET));
        let (mut start, mut model) = (usize::from(DATA_OFFSET), Vec::new());
        for step in steps {
            apply(step, frame, &mut start, &mut model);
            prop_assert_eq!(frame.bytes(), &model[..]);
            prop_assert_eq!((frame.headroom(), frame.len()), (start, model.len()));
            prop_assert_eq!(frame.headroom() + frame.len() + frame.tailroom(), 2048);
            prop_assert_eq!(frame.is_empty(), model.is_empty());
        }
        prop_assert!(frames[0].bytes().iter().chain(frames[2].bytes()).all(|byte| *byte == 0xa5));
        for frame in frames {
            pool.put(frame);
        }
    }
}

#[test]
fn a_packet_that_does_not_fit_its_chunk_is_refused() {
    let mut pool = Pool::new(Arena::heap(1, 2048).unwrap());
    let mut frame = pool.take().unwrap();
    assert!(frame.set_packet(256, 1792));
    for (start, len) in [(256, 1793), (2048, 1), (65535, 0), (0, 70_000)] {
        assert!(!frame.set_packet(start, len), "{len} bytes at {start}");
        assert_eq!((frame.headroom(), frame.len()), (256, 1792));
    }
    pool.put(frame);
}
