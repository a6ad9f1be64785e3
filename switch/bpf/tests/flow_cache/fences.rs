//! A pending flow opens when all its packets that went up have come back down, when one that was lost is outlived by the next,
//! or when its time is over, and not before; a super-packet counts as its segments both ways.

use std::time::{Duration, Instant};

use heddle_bpf::{Flow, FlowKey, Outcome, Role, Trial};

use crate::bench::{Bench, POD_ONE, POD_TWO, bench, flow, readdress, tag};
use crate::sample::{SAMPLES, Sample};

const SAMPLE: Sample = SAMPLES[0];
const FENCE: u16 = 0x1234;
/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

fn pending(pending_for: Duration) -> Flow {
    Flow { fence: FENCE, pending_for, ..flow(POD_ONE, POD_TWO) }
}

fn start(bench: &Bench, pending_for: Duration) -> FlowKey {
    bench.flows.reset_fence(FENCE).unwrap();
    bench.insert(SAMPLE, pending(pending_for))
}

fn fence_tag(sequence: u16) -> [u8; 6] {
    tag(0x4e, u32::from(FENCE) << 16 | u32::from(sequence))
}

/// Sends a packet, or a super-packet of so many segments, which has to go up with this number.
fn goes_up(bench: &mut Bench, segments: u32, sequence: u16) {
    let packet = SAMPLE.packet(100 * segments as usize);
    let gso = (segments > 1).then_some((100, segments));
    let tried =
        bench.run(&Trial { role: Role::Endpoint, interface: "fc-one", packet: &packet, gso, summed: false });
    assert_eq!(tried.outcomes, [Outcome::Pending]);
    assert_eq!(tried.macs(), (fence_tag(sequence), tag(0x4d, POD_ONE.hop)));
    assert_eq!(tried.packet[12..], packet[12..]);
}

/// Lets the worker send that packet down, or so many of its segments at once.
fn comes_down(bench: &mut Bench, segments: u32, sequence: u16) {
    let packet =
        readdress(&SAMPLE.packet(100 * segments as usize), tag(0x4d, POD_TWO.hop), fence_tag(sequence));
    let gso = (segments > 1).then_some((100, segments));
    let tried =
        bench.run(&Trial { role: Role::Trunk, interface: "fc-trunk", packet: &packet, gso, summed: false });
    assert_eq!(tried.outcomes, [Outcome::Delivered]);
}

fn opens(bench: &mut Bench) {
    bench.send(&SAMPLE.packet(10)).assert_hit();
}

fn is_open(bench: &Bench, key: &FlowKey) -> bool {
    bench.flows.read(key).unwrap().unwrap().1.open
}

#[test]
fn the_first_packet_goes_up_behind_those_that_had_no_flow() {
    bench(|mut bench| {
        let key = start(&bench, LONG);
        goes_up(&mut bench, 1, 0);
        assert!(!is_open(&bench, &key));
        comes_down(&mut bench, 1, 0);
        opens(&mut bench);
        let used = bench.flows.read(&key).unwrap().unwrap().1;
        assert_eq!((used.open, used.packets), (true, 1), "what goes up is not counted as forwarded");
        // It stays open, whatever the fence says.
        bench.flows.reset_fence(FENCE).unwrap();
        opens(&mut bench);
    });
}

#[test]
fn all_have_to_come_back() {
    bench(|mut bench| {
        start(&bench, LONG);
        for sequence in 0..5 {
            goes_up(&mut bench, 1, sequence);
        }
        for sequence in 0..4 {
            comes_down(&mut bench, 1, sequence);
            goes_up(&mut bench, 1, 5 + sequence);
        }
        for sequence in 4..8 {
            comes_down(&mut bench, 1, sequence);
        }
        goes_up(&mut bench, 1, 9);
        comes_down(&mut bench, 1, 8);
        comes_down(&mut bench, 1, 9);
        opens(&mut bench);
    });
}

#[test]
fn the_next_packet_makes_up_for_a_lost_one() {
    bench(|mut bench| {
        start(&bench, LONG);
        goes_up(&mut bench, 1, 0);
        goes_up(&mut bench, 1, 1);
        comes_down(&mut bench, 1, 0);
        // 1 is lost; 2 comes back.
        goes_up(&mut bench, 1, 2);
        comes_down(&mut bench, 1, 2);
        opens(&mut bench);
    });
}

#[test]
fn segments_count_one_by_one_and_merged() {
    bench(|mut bench| {
        start(&bench, LONG);
        goes_up(&mut bench, 10, 0);
        for _ in 0..9 {
            comes_down(&mut bench, 1, 0);
        }
        goes_up(&mut bench, 3, 10);
        comes_down(&mut bench, 1, 0);
        goes_up(&mut bench, 1, 13);
        // Some of 10 to 12 are merged on the way down, and one is lost: 13 makes up for it.
        comes_down(&mut bench, 2, 10);
        comes_down(&mut bench, 1, 13);
        opens(&mut bench);
    });
}

#[test]
fn a_lost_segment_is_missed() {
    bench(|mut bench| {
        start(&bench, LONG);
        goes_up(&mut bench, 10, 0);
        comes_down(&mut bench, 5, 0);
        comes_down(&mut bench, 4, 0);
        goes_up(&mut bench, 1, 10);
        comes_down(&mut bench, 1, 10);
        opens(&mut bench);
    });
}

#[test]
fn numbers_go_round() {
    bench(|mut bench| {
        start(&bench, LONG);
        let mut sequence = 0_u16;
        // 35 segments of 100 bytes are as many as the kernel takes for a trial.
        for _ in 0..=u32::from(u16::MAX) / 35 {
            goes_up(&mut bench, 35, sequence);
            sequence = sequence.wrapping_add(35);
        }
        assert!(sequence < 35, "they went round");
        comes_down(&mut bench, 35, sequence.wrapping_sub(35));
        opens(&mut bench);
    });
}

#[test]
fn a_fence_holds_no_longer_than_it_may() {
    bench(|mut bench| {
        start(&bench, Duration::from_millis(50));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut pending = 0;
        let last = loop {
            let tried = bench.send(&SAMPLE.packet(10));
            if tried.outcomes != [Outcome::Pending] {
                break tried;
            }
            pending += 1;
            assert!(Instant::now() < deadline, "{pending} packets are still held up");
        };
        assert!(pending > 0);
        assert_eq!(last.outcomes, [Outcome::Hit, Outcome::Forced]);
        opens(&mut bench);
    });
}

#[test]
fn nothing_is_forced_when_nothing_is_under_way() {
    bench(|mut bench| {
        start(&bench, Duration::from_nanos(1));
        std::thread::sleep(Duration::from_millis(50));
        opens(&mut bench);
    });
}

#[test]
fn fences_are_apart() {
    bench(|mut bench| {
        start(&bench, LONG);
        goes_up(&mut bench, 1, 0);
        // Another's return, of the same sequence, and one without a tag.
        for source in [tag(0x4e, (u32::from(FENCE) + 1) << 16), tag(0x4d, 1), [0; 6]] {
            let down = readdress(&SAMPLE.packet(1), tag(0x4d, POD_TWO.hop), source);
            assert_eq!(bench.send_down(&down).outcomes, [Outcome::Delivered]);
        }
        goes_up(&mut bench, 1, 1);
        // What comes down for a hop that is gone has come down all the same.
        let lost = readdress(&SAMPLE.packet(1), tag(0x4d, 99), fence_tag(0));
        bench.send_down(&lost).assert_dropped(Outcome::NoHop);
        let lost = readdress(&SAMPLE.packet(1), tag(0x4d, 99), fence_tag(1));
        bench.send_down(&lost).assert_dropped(Outcome::NoHop);
        opens(&mut bench);
    });
}

#[test]
fn a_pending_packet_is_judged_before_it_is_held_up() {
    bench(|mut bench| {
        start(&bench, LONG);
        let mut spoofed = SAMPLE.packet(10);
        spoofed[11] ^= 1;
        bench.send(&spoofed).assert_up(Outcome::Spoofed, &spoofed, "spoofed");
        let big = SAMPLE.packet(1600);
        bench.send(&big).assert_up(Outcome::TooBig, &big, "too big");
        let kept = bench.cache.hop(POD_TWO.hop).unwrap();
        bench.cache.set_hop(POD_TWO.hop, 0, None).unwrap();
        let packet = SAMPLE.packet(10);
        bench.send(&packet).assert_up(Outcome::Revoked, &packet, "revoked");
        bench.cache.set_hop(POD_TWO.hop, kept.0, kept.1).unwrap();
        goes_up(&mut bench, 1, 0);
    });
}
