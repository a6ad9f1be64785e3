//! Real container runtimes, as Debian has them, start and stop containers on a node of a lab, and call heddle-cni as they call every
//! plugin: containerd by `ctr` and by CRI, podman, and the reference plugins in one chain with it. Needs root.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod chain;
mod cri;
mod ctr;
mod machine;
mod messages;
mod podman;
mod pods;
