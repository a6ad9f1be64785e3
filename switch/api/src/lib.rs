//! The control socket's messages, service and client, generated from `proto/heddle.proto`, where the semantics of
//! every call and the units of every field are written down.
#![forbid(unsafe_code)]

mod attach_mode;
mod connect;

#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::large_enum_variant,
    rustdoc::invalid_html_tags,
    reason = "generated code"
)]
mod generated {
    tonic::include_proto!("heddle.v1");
}

pub use attach_mode::{AttachMode, UnknownAttachMode};
pub use connect::{Client, ConnectError, connect};
pub use generated::*;

/// Bytes of the largest message either side takes, so of the largest policy image. 10,000 policies and 100,000 pods make one
/// of 11 MiB (docs/policy.md).
pub const MAX_MESSAGE: usize = 64 << 20;

/// Where the switch of a node listens unless its configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/heddle/switch.sock";
