//! What the pipeline tests share: packets to send, a small cluster, and a switch that tells everything that happened.
#![allow(dead_code, reason = "every test crate uses a part of it")]

pub(crate) mod cluster;
pub(crate) mod packets;
pub(crate) mod policy;
pub(crate) mod switch;
