//! The compiler against the slow oracle, over random clusters: every verdict, and every explanation.
#![allow(clippy::unwrap_used)]

mod clusters;
mod explanations;
mod updates;
mod verdicts;
