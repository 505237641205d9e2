//! The `postrider` host: command line, accounts at work, Lua.
//!
//! Alone in knowing all the other crates: it turns settings into credentials and sessions,
//! and what went wrong into advice.
#![deny(unsafe_code)]
#![allow(
    clippy::result_large_err,
    reason = "a failure is made once, at the end of an operation, and says all there is to say"
)]

pub mod app;
pub mod cli;
pub mod control;
mod hidden;
pub mod http;
pub mod log;
pub mod metrics;
mod sendmail;
mod serve;
mod signals;
mod state;
mod terminal;
pub mod testing;
mod when;

pub use postrider_lua as lua;
pub use postrider_lua::failure::{self, Failure, SmtpFailure};
use postrider_lua::suggest;
