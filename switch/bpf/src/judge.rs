//! Asking the kernel what a program would do with a packet, without sending one.

use libbpf_rs::ProgramInput;

use crate::attach::ifindex;
use crate::maps::Role;
use crate::{Steering, SteeringError};

/// What a program does with a packet (`enum xdp_action`, `include/uapi/linux/bpf.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody gets it.
    Drop,
    /// Linux gets it.
    Pass,
    /// The socket gets it.
    Redirect,
}

impl Steering {
    /// What would become of `packet`, which is at least an Ethernet header, arriving on queue 0 of the uplink.
    pub fn judge_uplink(&self, packet: &[u8]) -> Result<Verdict, SteeringError> {
        self.judge(Role::Uplink, 0, packet)
    }

    /// What would become of `packet`, which is at least an Ethernet header, arriving on `interface`, if the ports'
    /// program is there.
    pub fn judge_port(&self, interface: &str, packet: &[u8]) -> Result<Verdict, SteeringError> {
        self.judge(Role::Port, ifindex(interface)?, packet)
    }

    fn judge(&self, role: Role, ifindex: u32, packet: &[u8]) -> Result<Verdict, SteeringError> {
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&(packet.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
        let input =
            ProgramInput { context_in: Some(&mut context), data_in: Some(packet), ..ProgramInput::default() };
        let output = self.maps.program(role).test_run(input).map_err(SteeringError::Judge)?;
        Ok(match output.return_value {
            2 => Verdict::Pass,
            4 => Verdict::Redirect,
            // Aborted is dropped too, and nothing else is ever returned.
            _ => Verdict::Drop,
        })
    }
}
