//! The plugin's flows, driven as a host drives them: each test is the network, the person and
//! the clock.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod browser;
mod client_auth;
mod device;
mod discovery;
mod grants;
mod host;
mod identity;
mod keys;
mod properties;
mod refusals;
mod sasl;
mod secrets;
mod settings;
