//! Control over a dataplane that only takes notes: what is refused, with which status; what is published; and that a call
//! that fails changes nothing.

mod endpoints;
pub(super) mod fake;
mod grpc;
mod policy;
mod ports;
mod routes;
