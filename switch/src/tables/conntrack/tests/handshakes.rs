//! TCP connections open, close and follow each other as RFC 9293 has it.

use super::super::State::{
    Accepted, Closing, Established, HalfClosed, Opening, OpeningBoth, Reset, TimeWait,
};
use super::super::{Fault, State};
use super::tools::{HANDSHAKE, Seen, after_handshake, original, play, reply};

#[test]
fn handshake_with_repetitions() {
    let script = [
        ("> S 100 0 0", Seen::New),
        ("> S 100 0 0", original(Opening)),
        ("< SA 500 101 0", reply(Accepted)),
        ("> S 100 0 0", original(Accepted)),
        ("< SA 500 101 0", reply(Accepted)),
        ("> A 101 501 0", original(Established)),
        ("< SA 500 101 0", reply(Established)),
        ("> A 101 501 30", original(Established)),
        ("< A 501 131 0", reply(Established)),
    ];
    let table = play("handshake", &script);
    assert_eq!(table.in_state(Established), 1);
    assert_eq!(table.counters().opened, 1);
}

#[test]
fn a_handshake_takes_the_exact_number() {
    let script = [
        ("> S 100 0 0", Seen::New),
        ("< SA 500 99 0", reply(Opening)),
        ("< SA 500 102 0", reply(Opening)),
        ("< A 500 101 0", reply(Opening)),
        ("< SA 500 101 0", reply(Accepted)),
        ("> A 101 500 0", original(Accepted)),
        ("> A 101 502 0", original(Accepted)),
        ("< A 501 101 10", reply(Accepted)),
        ("> A 101 501 0", original(Established)),
    ];
    assert_eq!(play("blind handshake", &script).counters().ignored, 6);
}

#[test]
fn numbers_wrap() {
    let script = [
        ("> S 4294967295 0 0", Seen::New),
        ("< SA 4294967290 0 0", reply(Accepted)),
        ("> A 0 4294967291 100", original(Established)),
        ("< A 4294967291 100 50", reply(Established)),
        ("> FA 100 45 0", original(HalfClosed)),
        ("< FA 45 101 0", reply(Closing)),
        ("> A 101 46 0", original(TimeWait)),
    ];
    play("wrap", &script);
}

#[test]
fn both_open_at_once() {
    let script = [
        ("> S 100 0 0", Seen::New),
        ("< S 500 0 0", reply(OpeningBoth)),
        ("< S 500 0 0", reply(OpeningBoth)),
        ("> SA 100 501 0", original(OpeningBoth)),
        ("< SA 500 101 0", reply(Established)),
        ("> A 101 501 5", original(Established)),
    ];
    play("simultaneous open", &script);
}

#[test]
fn both_open_at_once_and_one_answer_is_lost() {
    let script = [
        ("> S 100 0 0", Seen::New),
        ("< S 500 0 0", reply(OpeningBoth)),
        ("> SA 100 501 0", original(OpeningBoth)),
        ("< A 501 101 0", reply(Established)),
    ];
    play("simultaneous open", &script);
}

#[test]
fn early_data_taken_and_declined() {
    let taken = [
        ("> S 100 0 20", Seen::New),
        ("> S 100 0 20", original(Opening)),
        ("< SA 500 121 0", reply(Accepted)),
        ("< A 501 121 10", reply(Accepted)),
        ("> A 121 511 0", original(Established)),
    ];
    play("fast open", &taken);
    let declined = [
        ("> S 100 0 20", Seen::New),
        ("< SA 500 101 0", reply(Accepted)),
        ("< A 501 101 10", reply(Accepted)),
        ("> A 101 400 20", original(Accepted)),
        ("> A 101 501 20", original(Established)),
    ];
    play("fast open declined", &declined);
}

#[test]
fn one_end_closes_and_the_other_goes_on() {
    let rest = [
        ("> FA 101 501 10", original(HalfClosed)),
        ("< A 501 112 0", reply(HalfClosed)),
        ("< A 501 112 400", reply(HalfClosed)),
        ("> A 112 901 0", original(HalfClosed)),
        ("< FA 901 112 0", reply(Closing)),
        ("> A 112 901 0", original(Closing)),
        ("> A 112 902 0", original(TimeWait)),
        ("< FA 901 112 0", reply(TimeWait)),
    ];
    after_handshake("half-close", &rest);
}

#[test]
fn both_close_at_once() {
    let rest = [
        ("> FA 101 501 0", original(HalfClosed)),
        ("< FA 501 101 0", reply(Closing)),
        ("> A 102 502 0", original(Closing)),
        ("< A 502 102 0", reply(TimeWait)),
    ];
    after_handshake("simultaneous close", &rest);
}

#[test]
fn nothing_follows_a_fin() {
    let rest = [
        ("> FA 101 501 0", original(HalfClosed)),
        ("> A 102 501 300", original(HalfClosed)),
        ("< FA 501 102 0", reply(Closing)),
        ("> A 102 502 0", original(TimeWait)),
    ];
    after_handshake("data after FIN", &rest);
}

#[test]
fn a_fin_outside_the_window_closes_nothing() {
    let rest = [
        ("< FA 5000 101 0", reply(Established)),
        ("< FA 4000000000 101 0", reply(Established)),
        ("< FA 501 5000 0", reply(Established)),
        ("> FA 4000 501 0", original(Established)),
        ("> A 101 501 5", original(Established)),
    ];
    assert_eq!(after_handshake("forged FIN", &rest).counters().ignored, 4);
}

#[test]
fn scaled_windows_hold_more() {
    let script = [
        ("> S 100 0 0 scale=7", Seen::New),
        ("< SA 500 101 0 scale=3", reply(Accepted)),
        // 1000 << 7 is what the peer may send ahead.
        ("> A 101 501 0", original(Established)),
        ("< A 128000 101 10", reply(Established)),
        ("< FA 300000 101 0", reply(Established)),
        ("< FA 128010 101 0", reply(HalfClosed)),
    ];
    play("scaled", &script);
    let unscaled = [
        ("> S 100 0 0 scale=7", Seen::New),
        ("< SA 500 101 0", reply(Accepted)),
        ("> A 101 501 0", original(Established)),
        ("< FA 2000 101 0", reply(Established)),
        ("< FA 1400 101 0", reply(HalfClosed)),
    ];
    play("not scaled unless both agree", &unscaled);
}

#[test]
fn ports_are_reused_after_the_end() {
    let closed = [
        ("> FA 101 501 0", original(HalfClosed)),
        ("< FA 501 102 0", reply(Closing)),
        ("> A 102 502 0", original(TimeWait)),
        ("> S 9000 0 0", Seen::New),
        ("< SA 7000 9001 0", reply(Accepted)),
        ("> A 9001 7001 0", original(Established)),
    ];
    let table = after_handshake("reuse of time-wait", &closed);
    assert_eq!((table.len(), table.counters().reopened), (1, 1));

    let reset =
        [("> R 101 0 0", original(Reset)), ("> S 9000 0 0", Seen::New), ("> S 9000 0 0", original(Opening))];
    after_handshake("reuse after reset", &reset);
}

#[test]
fn the_other_end_may_reuse_the_ports_and_is_judged_on_its_own() {
    let rest = [
        ("< RA 501 0 0", reply(Reset)),
        ("< S 9000 0 0", Seen::New),
        // What was the reply is now the original direction.
        ("> SA 300 9001 0", reply(Accepted)),
        ("< A 9001 301 0", original(Established)),
    ];
    after_handshake("reuse by the peer", &rest);
}

#[test]
fn a_syn_replaces_no_live_connection() {
    let rest = [
        ("> S 70000 0 0", original(Established)),
        // The peer is alive and answers with a challenge.
        ("< A 501 101 0", reply(Established)),
        ("> A 101 501 8", original(Established)),
        ("< S 70000 0 0", Seen::Refused(Fault::Syn)),
        ("< A 501 109 0", reply(Established)),
    ];
    let table = after_handshake("SYN into a live connection", &rest);
    assert_eq!(table.counters().refused, [0, 1, 0]);
}

#[test]
fn an_end_that_lost_the_connection_starts_anew() {
    let challenged = [
        ("> S 70000 0 0", original(Established)),
        ("< A 501 101 0", reply(Established)),
        ("> R 101 0 0", original(Reset)),
        ("> S 70000 0 0", Seen::New),
    ];
    after_handshake("the other end remembers", &challenged);
    let forgotten = [
        ("> S 70000 0 0", original(Established)),
        ("< SA 9000 70001 0", reply(Accepted)),
        ("> A 70001 9001 0", original(Established)),
        ("< R 501 0 0", Seen::Refused(Fault::Reset)),
        ("< R 9001 0 0", reply(Reset)),
    ];
    after_handshake("both have lost it", &forgotten);
}

#[test]
fn impossible_flags_are_refused() {
    for flags in ["SF", "SR", "FR", "F", "SFRA", "-"] {
        let text = format!("> {flags} 101 501 0");
        let script: Vec<_> =
            HANDSHAKE.into_iter().chain([(text.as_str(), Seen::Refused(Fault::Flags))]).collect();
        play(flags, &script);
        play(flags, &[(text.as_str(), Seen::Refused(Fault::Flags))]);
    }
}

#[test]
fn what_opens_nothing_is_a_stray() {
    for text in ["> A 101 501 0", "> SA 100 1 0", "> FA 1 1 0", "< R 1 1 0"] {
        assert_eq!(play("stray", &[(text, Seen::Stray)]).len(), 0);
    }
}

#[test]
fn every_state_has_its_name() {
    let names: std::collections::BTreeSet<_> = State::ALL.iter().map(|state| state.name()).collect();
    assert_eq!(names.len(), State::COUNT);
}
