//! What programs hand in that know no accounts: `sendmail` for cron, PHP, git and all others.
//!
//! A message goes through here once, as a stream: [`options`] reads the command line, [`gather`]
//! standard input; [`client`] hands both to a daemon, at its [`door`], or to the queue itself. There
//! [`Intake`](postrider_smtp::message::Intake) makes lines and header of the octets and [`plan`] decides on account, envelope and
//! header. What a program said is queued, durably, or refused with a status it knows.
//!
//! Not here: delivery, and what a person sends (`postrider send`).

mod accept;
pub(crate) mod client;
pub(crate) mod door;
mod dot;
pub(crate) mod gather;
mod ledger;
pub(crate) mod mailq;
pub(crate) mod options;
mod peer;
pub(crate) mod plan;
mod sender;
pub(crate) mod smtp;

pub(crate) use accept::unique;
