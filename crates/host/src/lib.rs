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
pub mod failure;
mod hidden;
pub mod http;
pub mod log;
pub mod lua;
mod state;
mod suggest;
mod terminal;
mod when;

pub use failure::{Failure, SmtpFailure};
