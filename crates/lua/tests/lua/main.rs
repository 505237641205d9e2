//! Scripts as operators write them, against a host that only notes what it is asked for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod errors;
mod events;
mod gateway;
mod host;
mod library;
mod limits;
mod live;
mod logged;
mod requests;
mod schedules;
mod tasks;
mod turns;
