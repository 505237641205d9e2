//! What a queue promises.

mod bodies;
mod crash;
mod disk;
mod holders;
mod keys;
mod model;
mod pace;
mod people;
mod picking;
mod support;
