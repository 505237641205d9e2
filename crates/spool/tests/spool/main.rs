//! What a queue promises.

mod picking;
mod support;
