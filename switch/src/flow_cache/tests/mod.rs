//! The keeper against a map in memory: what is in it, what the workers hear, and what never gets there.

mod fake;
mod keeper;
mod link;
mod model;
mod node;
mod strays;
mod take_over;
