//! The verbs, one file each, and what some of them share.

pub(crate) mod add;
pub(crate) mod check;
pub(crate) mod del;
mod detach;
pub(crate) mod gc;
mod register;
pub(crate) mod status;
pub(crate) mod version;
