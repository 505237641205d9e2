//! What a queue promises.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod bodies;
mod crash;
mod disk;
mod holders;
mod keys;
mod memory;
mod model;
mod pace;
mod people;
mod picking;
mod support;
mod versions;
