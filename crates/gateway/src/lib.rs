//! The gateway: SMTP submission for programs and devices that know nothing but a password.
//!
//! Nobody sends without a credential of the gateway's own, and nobody hears 250 before the queue
//! has the message on the disk.
//!
//! Not here: the queue, accounts, the vault and scripts. The host gives them by traits.
#![forbid(unsafe_code)]

mod author;
mod backend;
mod body;
mod certificate;
pub mod credential;
mod doors;
mod error;
mod event;
mod gateway;
mod handshake;
pub mod ledger;
pub mod limits;
mod listener;
mod network;
pub mod rehearsal;
pub mod report;
mod session;
mod settings;
mod sign_in;
mod tarpit;
mod trace;
mod transaction;

pub use author::check as check_author;
pub use backend::{AccountSender, Arrival, Backend, Decision, Entry, Finished, Queued, Refusal};
pub use certificate::{CertificateFacts, certificate};
pub use error::GatewayError;
pub use event::{Accepted, Event, TurnedAway};
pub use gateway::Gateway;
pub use network::{InvalidNetwork, Network};
pub use settings::{Certificate, Mode, Policy, Quirks, Rehearse, Sender, Settings, TlsMode};
