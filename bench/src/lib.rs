//! What the benchmarks share: packets, tables of a realistic size, and a switch over ports in memory.

pub mod packets;
pub mod rig;
