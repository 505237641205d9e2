//! Requests exactly as sent, and what becomes of every kind of answer.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod credentials;
mod hostile;
mod paging;
mod patience;
mod refusals;
mod requests;
mod script;
