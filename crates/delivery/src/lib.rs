//! Takes queued mail to its servers: when, in what order, and what follows from each reply.
//!
//! A message is taken from the queue when a session is ready for it, and not before: so what the
//! queue calls `sending` is what may have left. A refusal is the message's or the account's
//! ([`judge_reply`]): a message waits longer each time and fails in the end; an account waits as a
//! whole, and the others do not wait for it. Trouble with a token fails no message, and none grows
//! too old for it; only what its sender lets expire does. A message whose verdict was lost is never sent
//! again unless the operator said so.
//!
//! Not here: how the queue is kept, SMTP, tokens; what the host makes of all that happens, of which
//! a [`Sink`] hears.
#![forbid(unsafe_code)]

mod account;
mod attempt;
mod body;
mod delivery;
mod drive;
mod judge;
mod ledger;
mod policy;
mod report;
mod route;
mod seat;
mod session;
mod shared;
mod sink;
mod supervisor;
mod tally;
mod throttle;

pub use delivery::{Delivery, DeliverySettings, Flush, Flushed};
pub use judge::{Consequence, Judgement, judge_error, judge_reply};
pub use policy::{OnUnknown, Policy, Random, Report, Steps, random};
pub use route::{Limits, Route, RouteFailure, Routes};
pub use sink::{Sink, Transition};
pub use throttle::{Pause, PauseKind};
