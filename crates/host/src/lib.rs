//! The `postrider` host: command line, accounts at work, Lua.
//!
//! Alone in knowing all the other crates: it turns settings into credentials and sessions,
//! and what went wrong into advice.
#![forbid(unsafe_code)]

pub mod lua;
