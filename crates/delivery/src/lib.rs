//! Takes queued mail to its servers: when, in what order, and what follows from each reply.
#![forbid(unsafe_code)]

mod judge;
mod policy;
mod report;
mod throttle;

pub use judge::{Consequence, Judgement, judge_error, judge_reply};
pub use policy::{OnUnknown, Policy, Random, Report, Steps, random};
pub use throttle::{Pause, PauseKind};
