//! What Heddle has running in the kernel: steering and the flow cache.
//!
//! **Steering** (`c/steering.bpf.c`) sends packets up to the switch: an XDP program on the host's end of every direct pod's
//! veth and on the workers' ends of trunks, which sends everything to a socket or drops it; and one on the uplink, which
//! sends the overlay's packets to the socket of their receive queue and leaves all others to Linux.
//!
//! The **flow cache** (`c/flow_cache.bpf.c`) keeps packets from going up: tc programs on the host's end of every cached pod's
//! veth, on the vxlan device and on the trunks, which forward the packets of judged flows themselves.
//!
//! **Crossings** (`c/crossing.bpf.c`) lead packets from one interface to the queue of another: from a limited pod's veth to its
//! shaper, and back.
//!
//! Programs stay attached when the switch stops, by what is pinned under its bpffs directory: meanwhile flows in the cache
//! go on, other packets of pods are dropped, not leaked to the host's stack, and the uplink passes everything. A starting
//! switch takes attachments over by swapping the program in them. Of steering nothing else outlives a switch: what its maps
//! hold, the sockets, died with the one before. The flow cache's maps are taken over with all that is in them, if the switch
//! that left them had the same shapes; else the new one starts with empty maps and says so ([`Start`]).
#![deny(unsafe_code)]

mod attach;
mod crossings;
mod error;
mod flow_cache;
mod judge;
mod maps;
mod pins;
mod steering;
#[allow(unsafe_code, reason = "calls of libbpf that libbpf-rs lacks")]
mod syscalls;

pub use crossings::Crossings;
pub use error::SteeringError;
pub use flow_cache::{
    Counters, FIRST_VTEP_HOP, Flow, FlowCache, FlowCacheError, FlowCacheOptions, FlowKey, Flows, Hook, Hop,
    Inserted, Mac, Outcome, Party, Port, Rewrite, Role, Settings, Side, Start, TAG_FENCE, TAG_HOP,
    TAG_SPOOFED, Trial, UNKNOWN_HOP, Use,
};
pub use judge::Verdict;
pub use maps::UplinkFilter;
pub use steering::{Steering, XdpMode};
