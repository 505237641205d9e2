//! What a queue promises.

mod bodies;
mod crash;
mod disk;
mod holders;
mod keys;
mod pace;
mod people;
mod picking;
mod support;
