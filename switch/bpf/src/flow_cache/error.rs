//! What can go wrong with the flow cache, and what to do about it.

use std::io;

use crate::SteeringError;

/// Why the flow cache could not be set up, changed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowCacheError {
    /// The bpffs directory or an interface, which are steering's too.
    #[error(transparent)]
    Place(#[from] SteeringError),
    /// The kernel did not take the programs.
    #[error("the kernel refused the flow cache's programs (it needs Linux 5.15 or later with BPF): {0:#}")]
    Load(#[source] libbpf_rs::Error),
    /// A map could not be pinned or taken over.
    #[error("cannot keep map {map} of the flow cache: {source:#}")]
    Keep {
        /// Which one.
        map: &'static str,
        /// What the kernel said.
        source: libbpf_rs::Error,
    },
    /// The interface did not take the program.
    #[error("cannot attach the flow cache to {interface}: {source}")]
    Attach {
        /// Where.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else's filter has the place.
    #[error(
        "{0} already has a tc filter that is not Heddle's where Heddle's would go: see `tc filter show dev {0} ingress`, and remove it"
    )]
    Conflict(String),
    /// A map did not take or give an entry.
    #[error("cannot access {map} of the flow cache: {source:#}")]
    Map {
        /// Which map.
        map: &'static str,
        /// What the kernel said.
        source: libbpf_rs::Error,
    },
    /// The map could not be read through.
    #[error("cannot read the flows: {0}")]
    Scan(#[source] io::Error),
    /// The request cannot be.
    #[error("impossible for the flow cache: {0}")]
    Impossible(&'static str),
    /// The kernel would not try a packet.
    #[error("cannot try the packet (it has to be at least 14 bytes long): {0:#}")]
    Try(#[source] libbpf_rs::Error),
}
