//! A gateway over real sockets, with a host that lives in memory.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod certificates;
mod connections;
mod handshakes;
mod messages;
mod observing;
mod senders;
mod signing_in;
mod support;
