//! The `postrider` host: command line, accounts at work, Lua.
//!
//! Alone in knowing all the other crates: it turns settings into credentials and sessions,
//! and what went wrong into advice.
#![deny(unsafe_code)]

pub mod app;
pub mod cli;
pub mod failure;
pub mod log;
pub mod lua;
mod state;
mod suggest;
mod terminal;

pub use failure::{Failure, SmtpFailure};
