//! What is fuzzed: bytes from outside, and what must hold whatever they are. A target panics when it does not.
//!
//! The same functions run in the normal tests, over the seeds and over every input that once made them panic.
#![forbid(unsafe_code)]

pub mod image;
pub mod packets;
pub mod plugin;

/// A target by the name that its binary and its directory of regressions have.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All targets: name, what must hold of an input, and inputs to start from.
pub const TARGETS: [Target; 3] = [
    ("image", image::check, image::seeds),
    ("packets", packets::check, packets::seeds),
    ("plugin", plugin::check, plugin::seeds),
];
