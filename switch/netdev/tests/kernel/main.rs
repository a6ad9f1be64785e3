//! Everything this crate asks of the kernel, asked of a real one, in private network namespaces. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod devices;
mod neighbors;
mod netns;
mod ports;
mod scratch;
