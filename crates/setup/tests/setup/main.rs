//! Plans and their carrying out, against a tenant in memory.
#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod findings;
mod interrupted;
mod plans;
mod record;
mod sandbox;
mod tenant;
