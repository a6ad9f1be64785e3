//! The packet switch: what frames enter by, what happens to them, and what they leave by.
//!
//! `docs/architecture.md` has the map, `docs/packet-path.md` the stages in packet order.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
mod drop_reason;
pub mod flow_cache;
pub mod pipeline;
pub mod ports;
pub mod stats;
pub mod tables;
pub mod wire;
pub mod worker;

pub use drop_reason::DropReason;
