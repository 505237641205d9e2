//! The server half of an SMTP submission: it frames, a [`Handler`] decides.
//!
//! [`serve`] runs one connection to its end. It parses commands ([`Command`]), keeps
//! their order legal, answers pipelined commands in one write, upgrades to TLS, passes
//! bodies from `DATA` and `BDAT` on to a [`BodySink`] as they arrive, and enforces
//! [`Limits`]. What a connection costs is bounded in octets, commands and time before any
//! handler code runs, octets that arrived before TLS are never used after it, and one
//! sequence only ends a message, so none comes out that was not sent as one.
//!
//! Not here: who may send what, where a message goes, the wording of replies. A
//! [`Handler`] answers those; each wording has a default taken from the RFCs.

mod arguments;
mod body;
mod command;
mod connection;
mod dialogue;
mod handler;
mod incoming;
mod limits;
mod path;
mod quirks;
mod reply;
mod serve;
#[cfg(test)]
mod tests;

pub use command::{BadCommand, BodyType, Command, MailCommand, Notify, RcptCommand, Ret, Verb};
pub use handler::{
    BodySink, Cue, EnvelopeSoFar, Exchange, ExchangeEnd, Handler, Problem, Submission,
};
pub use limits::{Limits, TlsPolicy};
pub use quirks::Quirks;
pub use reply::{After, ServerReply};
pub use serve::serve;
