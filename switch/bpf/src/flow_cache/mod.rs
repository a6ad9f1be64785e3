//! The flow cache: flows that a worker has judged go on in the kernel (`c/flow_cache.bpf.c` says how).

mod attach;
mod cache;
mod counters;
mod error;
mod flows;
mod maps;
mod shapes;
mod trial;
mod types;

pub(crate) use attach::{Place, attach};
pub use cache::{FlowCache, FlowCacheOptions, Hook, Role, Start};
pub use counters::{Counters, Outcome};
pub use error::FlowCacheError;
pub use flows::{Flows, Inserted};
pub use trial::Trial;
pub use types::{
    FIRST_VTEP_HOP, Flow, FlowKey, Hop, Mac, Party, Port, Rewrite, Settings, Side, TAG_FENCE, TAG_HOP,
    TAG_SPOOFED, UNKNOWN_HOP, Use,
};
