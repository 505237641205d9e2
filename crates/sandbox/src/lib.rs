//! An offline Microsoft 365: Entra ID, Exchange Online's SMTP submission and an inbox.
//!
//! One process, loopback only. Everything it knows is a [`Scenario`]; everything it
//! refuses, it can say why. It issues real signed tokens and really checks them, so a
//! client that works here has done each step of the protocol.
//!
//! Not here: anything that leaves this machine. Passwords and secrets of a scenario are
//! play money: never put real ones in.
#![forbid(unsafe_code)]

pub mod ca;
mod entra;
pub mod exchange;
pub mod inbox;
mod jwt;
pub mod scenario;
pub mod state;

pub use jwt::{SigningKey, TokenProblem};
pub use scenario::{Scenario, ScenarioError};
pub use state::{Claims, State};
