//! The contract between Postrider and its auth plugins, and the kit to write one in Rust.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod wire;
