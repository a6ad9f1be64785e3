//! The flow cache in a real kernel: packets tried one by one (`BPF_PROG_TEST_RUN`), real traffic between network namespaces,
//! and attachments that outlive a switch. Needs root.
#![allow(clippy::unwrap_used)]

#[path = "../../../xsk/tests/common/mod.rs"]
mod common;

mod bench;
mod changes;
mod connection;
mod down;
mod fences;
mod host;
mod life;
mod maps;
mod namespace;
mod node;
mod overlay;
mod raw;
mod sample;
mod traffic;
mod unusual;
mod up;
mod wire;
mod worker;
