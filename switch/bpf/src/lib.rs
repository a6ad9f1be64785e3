//! Steering: the XDP programs that send packets up to the switch, and who gets which.
//!
//! Two programs (c/steering.bpf.c): one on the host's end of every pod's veth, which sends everything to the pod's socket
//! or drops it; one on the uplink, which sends the overlay's packets to the socket of their receive queue and leaves all
//! others to Linux.
//!
//! Programs stay attached when the switch stops, by **links** pinned under its bpffs directory: meanwhile pods' packets are
//! dropped, not leaked to the host's stack, and the uplink passes everything. A starting switch loads its own programs with
//! empty maps and takes the links over by swapping the program in them. Nothing else outlives a switch: what the maps hold,
//! the sockets, died with the one before, so there is no format to carry along.
#![forbid(unsafe_code)]

mod attach;
mod error;
mod judge;
mod maps;
mod pins;
mod steering;

pub use error::SteeringError;
pub use judge::Verdict;
pub use maps::UplinkFilter;
pub use steering::{Steering, XdpMode};
