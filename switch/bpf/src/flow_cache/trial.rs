//! Asking the kernel what a program of the flow cache would do with a packet, without sending one.

use libbpf_rs::ProgramInput;

use super::cache::{FlowCache, Role};
use super::error::FlowCacheError;
use crate::Verdict;
use crate::attach::ifindex;

/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE`, `include/uapi/linux/bpf.h` (Linux 6.16)
const CHECKSUM_COMPLETE: u32 = 1 << 2;
/// `struct __sk_buff`, `include/uapi/linux/bpf.h`, and the offsets of what can be set in it.
const CONTEXT: usize = 192;
const IFINDEX: usize = 40;
const GSO_SEGMENTS: usize = 164;
const GSO_SIZE: usize = 176;

/// A packet to be tried.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The program.
    pub role: Role,
    /// The interface the packet comes in by.
    pub interface: &'a str,
    /// The packet, from the Ethernet header on.
    pub packet: &'a [u8],
    /// Of a super-packet, payload of a segment in bytes and number of segments.
    pub gso: Option<(u32, u32)>,
    /// The kernel knows the sum of the packet (`CHECKSUM_COMPLETE`), and refuses the trial if the program makes it wrong.
    pub summed: bool,
}

impl FlowCache {
    /// What would become of a packet, and what it would look like. Counters, flows and fences take it for real.
    pub fn try_packet(&self, trial: &Trial<'_>) -> Result<(Verdict, Vec<u8>), FlowCacheError> {
        let (size, segments) = trial.gso.unwrap_or((0, 0));
        let mut context = [0; CONTEXT];
        for (at, value) in [(IFINDEX, ifindex(trial.interface)?), (GSO_SEGMENTS, segments), (GSO_SIZE, size)]
        {
            context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let mut after = vec![0; trial.packet.len()];
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(trial.packet),
            data_out: Some(&mut after),
            flags: if trial.summed { CHECKSUM_COMPLETE } else { 0 },
            ..ProgramInput::default()
        };
        let output = self.maps().program(trial.role).test_run(input).map_err(FlowCacheError::Try)?;
        // `TC_ACT_SHOT` and `TC_ACT_REDIRECT`, include/uapi/linux/pkt_cls.h
        let verdict = match output.return_value {
            2 => Verdict::Drop,
            7 => Verdict::Redirect,
            _ => Verdict::Pass,
        };
        Ok((verdict, after))
    }
}
