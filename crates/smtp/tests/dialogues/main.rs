//! The client half against a scripted server: what is said, when, and what is concluded.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authentication;
mod certificates;
mod delivery;
mod dovecot;
mod events;
mod many;
mod pooling;
mod postfix;
mod python;
mod queue;
mod round_trips;
mod security;
mod storms;
mod streams;
mod support;
