//! The control socket's messages, service and client, generated from `proto/heddle.proto`, where the semantics of
//! every call and the units of every field are written down.
#![forbid(unsafe_code)]

mod connect;

#[allow(missing_docs, clippy::pedantic, rustdoc::invalid_html_tags, reason = "generated code")]
mod generated {
    tonic::include_proto!("heddle.v1");
}

pub use connect::{Client, ConnectError, connect};
pub use generated::*;

/// Where the switch of a node listens unless its configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/heddle/switch.sock";
