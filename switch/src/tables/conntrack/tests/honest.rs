//! Two honest TCP ends are never disturbed, whatever the path does to their segments; and nobody who guesses numbers
//! ends their connection.

use proptest::prelude::*;

use super::super::{Connections, Packet, Segment, Side, State, flags};
use super::tools::{Seen, flow, pass, second};
use crate::wire::protocol;

/// One end that sends `left` bytes in pieces, takes what arrives in order, and repeats what was lost.
struct End {
    next: u32,
    oldest: u32,
    last: u32,
    expects: u32,
}

impl End {
    fn new(initial: u32, bytes: u32) -> Self {
        let next = initial.wrapping_add(1);
        Self { next, oldest: next, last: next.wrapping_add(bytes), expects: 0 }
    }

    fn segment(&self, sequence: u32, payload: u32, extra: u8) -> Segment {
        let acknowledgement = self.expects;
        Segment { sequence, acknowledgement, payload, window: 8000, flags: flags::ACK | extra, scale: None }
    }

    /// New data while the window allows, else the oldest that is not acknowledged, else only an acknowledgement.
    fn send(&mut self, size: u32, again: bool) -> Segment {
        let left = self.last.wrapping_sub(self.next);
        let out = self.next.wrapping_sub(self.oldest);
        if again && out > 0 {
            return self.segment(self.oldest, out.min(size).max(1), 0);
        }
        let payload = size.min(left).min(8000u32.saturating_sub(out));
        let segment = self.segment(self.next, payload, 0);
        self.next = self.next.wrapping_add(payload);
        segment
    }

    fn receive(&mut self, segment: &Segment) {
        let end = segment.end();
        let news = end.wrapping_sub(self.expects).cast_signed() > 0;
        if news && segment.sequence.wrapping_sub(self.expects).cast_signed() <= 0 {
            self.expects = end;
        }
        if segment.acknowledgement.wrapping_sub(self.oldest).cast_signed() > 0 {
            self.oldest = segment.acknowledgement;
        }
    }
}

struct Wire {
    table: Connections,
    ends: [End; 2],
}

impl Wire {
    fn open(initial: [u32; 2], bytes: u32) -> Self {
        let mut wire =
            Self { table: Connections::new(4), ends: initial.map(|initial| End::new(initial, bytes)) };
        for end in [0, 1] {
            wire.ends[end].expects = initial[1 - end].wrapping_add(1);
        }
        let syn = |end: usize, flags| Segment {
            sequence: initial[end],
            acknowledgement: if end == 0 { 0 } else { initial[0].wrapping_add(1) },
            flags,
            window: 8000,
            ..Segment::default()
        };
        assert_eq!(wire.see(0, &syn(0, flags::SYN)), Seen::New);
        wire.see(1, &syn(1, flags::SYN | flags::ACK));
        let last = wire.ends[0].segment(initial[0].wrapping_add(1), 0, 0);
        wire.see(0, &last);
        wire
    }

    fn see(&mut self, end: usize, segment: &Segment) -> Seen {
        let side = [Side::Egress, Side::Ingress][end];
        let packet = Packet { bytes: 40 + segment.payload, segment: Some(*segment) };
        pass(&mut self.table, second(1), side, &flow(protocol::TCP, 40_000, 80), &packet)
    }
}

proptest! {
    #[test]
    fn honest_segments_are_in_the_window(
        initial: [u32; 2],
        steps in proptest::collection::vec((0usize..2, 1u32..3000, any::<bool>(), 0u8..4), 0..80),
    ) {
        let mut wire = Wire::open(initial, 60_000);
        let mut late = Vec::new();
        for (end, size, again, fate) in steps {
            let segment = wire.ends[end].send(size, again);
            let seen = wire.see(end, &segment);
            prop_assert!(matches!(seen, Seen::Known(_, State::Established)), "{segment:?}: {seen:?}");
            match fate {
                0 => {}
                1 => late.push((end, segment)),
                _ => wire.ends[1 - end].receive(&segment),
            }
            if fate == 3 && let Some((end, segment)) = late.pop() {
                // Repeated on the way before us, and delivered late.
                wire.see(end, &segment);
                wire.ends[1 - end].receive(&segment);
            }
        }
        prop_assert_eq!(wire.table.counters().ignored, 0);
        // Both ends repeat until all is acknowledged, and close.
        for _ in 0..4 {
            for end in [0, 1] {
                let [oldest, next] = [wire.ends[end].oldest, wire.ends[end].next];
                let rest = wire.ends[end].segment(oldest, next.wrapping_sub(oldest), 0);
                wire.see(end, &rest);
                wire.ends[1 - end].receive(&rest);
            }
        }
        for end in [0, 1] {
            let fin = wire.ends[end].segment(wire.ends[end].next, 0, flags::FIN);
            wire.ends[end].next = wire.ends[end].next.wrapping_add(1);
            wire.see(end, &fin);
            wire.ends[1 - end].receive(&fin);
        }
        let last = wire.ends[0].segment(wire.ends[0].next, 0, 0);
        wire.see(0, &last);
        prop_assert_eq!(wire.table.in_state(State::TimeWait), 1);
        prop_assert_eq!(wire.table.counters().ignored, 0);
    }

    #[test]
    fn forged_segments_end_nothing(
        initial: [u32; 2],
        forged in proptest::collection::vec((0usize..2, any::<u32>(), any::<u32>(), 0u8..64, 0u32..1500), 1..60),
    ) {
        let mut wire = Wire::open(initial, 60_000);
        for (end, sequence, acknowledgement, flags, payload) in forged {
            // Numbers close enough to hit are not guesses; a window holds 8,000, and its echo 65,535.
            let guess = |number: u32, real: u32| {
                if number.wrapping_sub(real).wrapping_add(100_000) < 200_000 { number ^ 1 << 31 } else { number }
            };
            let sequence = guess(sequence, wire.ends[end].next);
            let acknowledgement = guess(acknowledgement, wire.ends[1 - end].next);
            let segment = Segment { sequence, acknowledgement, payload, flags, window: 9, scale: None };
            wire.see(end, &segment);
            prop_assert_eq!(wire.table.in_state(State::Established), 1, "{:?}", segment);
            for end in [0, 1] {
                let honest = wire.ends[end].send(500, false);
                let ignored = wire.table.counters().ignored;
                wire.see(end, &honest);
                wire.ends[1 - end].receive(&honest);
                prop_assert_eq!(wire.table.counters().ignored, ignored, "{:?} after {:?}", honest, segment);
            }
        }
    }
}
