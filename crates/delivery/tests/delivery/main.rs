//! Delivery as an operator would watch it, on a clock that a test moves, with servers that
//! answer as they are told.

#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod age;
mod fairness;
mod flush;
mod idle;
mod outage;
mod pace;
mod promise;
mod report;
mod stop;
mod support;
mod tokens;
mod trouble;
mod verdicts;
mod wire;
