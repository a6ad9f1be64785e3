//! Safe AF_XDP: memory for packets, the frames it is divided into, and the sockets that move them.
//!
//! This crate is the only place where Heddle shares memory with the kernel, and so the only one in the dataplane with
//! `unsafe` code. Outside of it a [`Frame`] is an ordinary value: it is moved, never aliased, and gives access to its
//! packet as a byte slice.
//!
//! An [`Arena`] is the memory (a UMEM, or heap memory for tests and benchmarks), a [`Pool`] one worker's stock of free
//! frames, a [`Socket`] what exchanges them with the kernel. [`spsc`] carries them between workers.

mod arena;
mod bind;
mod error;
mod frame;
mod lent;
mod options;
mod pool;
mod quarantine;
mod socket;
pub mod spsc;
mod sync;
mod umem;

pub use arena::{Arena, max_packet};
pub use error::{ArenaError, SocketError};
pub use frame::Frame;
pub use options::{Options, Statistics};
pub use pool::Pool;
pub use socket::{HeldFrames, Socket, SocketFaults};

/// Frames handled together at most.
pub const BATCH: usize = 64;
