//! `postrider test`: scripts in a world made for each case.
//!
//! A case has an app in the sandbox, whatever its providers are, a clock that only it moves, and
//! an outside that says what the case lets it say. Nothing leaves the machine, and nothing of the
//! user's state is read or written.
//!
//! Not here: what a test file can say; that is `pr.test`, in `postrider-lua`.

mod backend;
mod bench;
mod clock;
mod delivery;
mod example;
mod find;
mod gateway;
mod log;
mod outbox;
mod outside;
mod parking;
mod redirect;
pub mod report;
mod runner;
mod stage;
mod watch;
mod world;

pub use example::Examples;
pub use find::{config_for, test_files};
pub use runner::{CaseResult, FileResult, Problem, Runner, Settings};
pub use watch::{LOOK_EVERY, Watch};
