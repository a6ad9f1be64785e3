//! What the table must do, apart from the cases that need a file of their own.

mod aging;
mod fragments;
mod handshakes;
mod honest;
mod model;
mod offload;
mod resets;
mod segments;
mod table;
mod tools;
