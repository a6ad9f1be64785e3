//! The real plugin binary against the real kernel, in private network namespaces, with a switch that only remembers what it
//! is told. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod add;
mod attach;
mod chain;
mod del;
mod delegated;
mod fake_switch;
mod gc;
mod hostile;
mod killed;
mod lookers;
mod node;
mod recorded;
mod vanishing;
mod wishes;
