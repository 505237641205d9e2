//! Schedules: when something is to run, what becomes of runs that were missed, and who runs it.
#![forbid(unsafe_code)]

mod clock;

pub use clock::{Clock, ManualClock, SystemClock};
