//! An offline Microsoft 365: Entra ID, a slice of Graph, Exchange Online's SMTP submission and
//! an inbox.
//!
//! One process, loopback only. Everything it knows is a [`Scenario`]; everything it
//! refuses, it can say why. It issues real signed tokens and really checks them, so a
//! client that works here has done each step of the protocol.
//!
//! Not here: anything that leaves this machine. Passwords and secrets of a scenario are
//! play money: never put real ones in. Whoever can connect to the control port can read and
//! change them.
#![forbid(unsafe_code)]

pub mod ca;
mod control;
mod entra;
pub mod exchange;
mod graph;
mod html;
pub mod inbox;
mod jwt;
mod sandbox;
pub mod scenario;
mod snippet;
pub mod state;

pub use inbox::Inbox;
pub use jwt::{KeyError, SigningKey, TokenProblem};
pub use sandbox::{Sandbox, SandboxOptions, StartError};
pub use scenario::{Scenario, ScenarioError};
pub use state::{Claims, Clock, Random, State, SystemClock, SystemRandomness};
