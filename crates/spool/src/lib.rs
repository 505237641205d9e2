//! A durable queue of outgoing mail: what it has accepted survives a crash.
//!
//! [`Store`] is what a queue does; [`SqliteSpool`] keeps it in a directory that processes share.
//! Each recipient of a message stands somewhere ([`State`]), and what has been handed to a
//! session is `sending` on the disk before its first octet leaves. So after a crash everything
//! that may have left is known, and nothing else is. A message is handed to one holder at a
//! time; a [`Lease`] that somebody else took over changes nothing any more.
//!
//! A request is answered when it is on the disk. All that wait are written together: one
//! transaction, one flush.
//!
//! Not here: SMTP, what a reply means, when to try again. This crate knows no other of ours, and
//! no clock: every time is the caller's.
#![forbid(unsafe_code)]

mod body;
mod claim;
mod error;
mod holder;
mod id;
mod message;
mod query;
mod sqlite;
mod state;
mod store;

pub use body::{Body, BodyPlace, BodyWriter, Staged, StoredBody};
pub use claim::{
    AT_ONCE, Back, Began, Begin, Claim, Lease, Outcome, Pace, PaceLimit, Settled, Settlement,
    Ticket, Transition, Turn,
};
pub use error::{SpoolError, SpoolErrorKind};
pub use holder::{Changes, Holder, HolderId, Recovered, Slot};
pub use id::{NotAnId, QueueId};
pub use message::{Accepted, Dsn, Facts, NewMessage, Notify, Priority, Recipient, Return};
pub use query::{
    AccountState, AccountStats, Aged, Due, Filter, Listed, Select, Shown, ShownRecipient, Stats,
    Tidied,
};
pub use sqlite::{Counters, SpoolSettings, SqliteSpool};
pub use state::{State, StateKind};
pub use store::{Answer, SILENCE, Store};
