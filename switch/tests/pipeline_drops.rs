//! Every reason to drop has a packet that is dropped for it, and for nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod drop_cases;

use std::collections::BTreeSet;

use common::cluster::{V4, V6, from_pod, pod};
use common::switch::{Outcome, Switch};
use drop_cases::POD_1;
use heddle_switch::DropReason;
use heddle_switch::ports::Batch;

/// Counted by ports and workers, not by the pipeline.
const ELSEWHERE: &[DropReason] = &[
    DropReason::KernelRxRingFull,
    DropReason::KernelNoFrame,
    DropReason::KernelRxInvalid,
    DropReason::PortGone,
    DropReason::HandoffFull,
    DropReason::TxRingFull,
    DropReason::Unsendable,
    // Dropped and counted by the flow cache's programs: switch/bpf/tests.
    DropReason::CacheNoPort,
    DropReason::CacheNoHop,
    DropReason::CacheOtherVni,
    DropReason::CacheBadTag,
    DropReason::CacheNoTunnel,
    // By the kernel's queues: tools/netlab/tests/bandwidth.rs.
    DropReason::BandwidthIngress,
    DropReason::BandwidthEgress,
];

#[test]
fn every_case_moves_its_counter_and_no_other() {
    for case in drop_cases::all() {
        let mut switch = Switch::node_1(V4);
        (case.change)(&mut switch.tables);
        let outcome = switch.pass(case.ingress, &case.packet);
        let name = format!("{}: {}", case.reason.name(), case.what);
        assert_eq!(outcome.drops, Outcome::dropped(case.reason).drops, "{name}");
        assert_eq!(outcome.icmp_errors, u64::from(case.told), "{name}");
        assert_eq!(outcome.sent.len(), usize::from(case.told), "{name}");
        assert_eq!(switch.missing_frames(), 0, "{name}");
    }
}

/// Needs a frame with its packet further forward than any port puts it, so it is no case of the table.
#[test]
fn no_headroom() {
    for (underlay, added) in [(V4, 50), (V6, 70)] {
        for (headroom, reason) in [(added - 1, Some(DropReason::NoHeadroom)), (added, None)] {
            let mut switch = Switch::node_1(underlay);
            let mut frame = switch.pool().take().unwrap();
            frame.prepend(frame.headroom() - headroom).unwrap();
            assert!(frame.copy_from(&from_pod(V4, pod(2, 1)[V4]).bytes()));
            let outcome = switch.run(POD_1, &mut Batch::from_iter([frame]));
            assert_eq!(outcome.drops.keys().next().copied(), reason);
            assert_eq!(outcome.sent.len(), usize::from(reason.is_none()));
            assert_eq!(switch.missing_frames(), 0);
        }
    }
}

#[test]
fn every_reason_has_a_case() {
    let mut covered: BTreeSet<_> = drop_cases::all().iter().map(|case| case.reason).collect();
    covered.insert(DropReason::NoHeadroom);
    // These take more than one packet: pipeline_policy.rs, `impossible_segments_do_no_harm`.
    covered.extend([DropReason::TcpSyn, DropReason::TcpReset]);
    let pipeline: BTreeSet<_> =
        DropReason::ALL.iter().copied().filter(|reason| !ELSEWHERE.contains(reason)).collect();
    assert_eq!(covered, pipeline);
}
