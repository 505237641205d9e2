//! The scheduler at work, on a clock that is moved by hand: every count is exact.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod support;

mod clock_jumps;
mod daylight_saving;
mod failing_store;
mod forgotten;
mod plans;
mod policies;
mod processes;
mod reload;
mod slow_store;
