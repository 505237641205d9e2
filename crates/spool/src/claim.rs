//! Handing out what is due, and taking back what became of it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::body::StoredBody;
use crate::error::SpoolError;
use crate::holder::HolderId;
use crate::id::QueueId;
use crate::message::{Dsn, Facts, Priority, Recipient};
use crate::state::State;

/// What a session that is ready asks for.
#[derive(Clone, Debug)]
pub struct Begin {
    /// On whose behalf.
    pub holder: HolderId,
    /// Whose mail.
    pub account: String,
    /// How many messages, at most; no more than [`AT_ONCE`] come.
    pub at_most: usize,
    /// How many recipients the server takes in one message.
    pub recipients_per_message: Option<u32>,
    /// How fast the account may send.
    pub pace: Pace,
    /// The time now.
    pub now: Timestamp,
}

/// Messages that one [`Begin`] gets at most.
pub const AT_ONCE: usize = 256;

/// How fast an account may send, over all processes and across restarts.
///
/// A message counts from its start until so long after its end, since the server sees it some
/// time in between: no window of the server's own clock has more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Messages in any 60 seconds.
    pub per_minute: Option<u32>,
    /// Recipients in any 24 hours.
    pub recipients_per_day: Option<u32>,
}

impl Pace {
    /// As fast as it goes.
    pub fn is_unlimited(self) -> bool {
        self.per_minute.is_none() && self.recipients_per_day.is_none()
    }
}

/// Which limit holds an account back.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaceLimit {
    /// Messages in a minute.
    PerMinute,
    /// Recipients in a day.
    RecipientsPerDay,
    /// The server asked for patience, or the account is parked.
    BackOff,
}

impl PaceLimit {
    /// `messages_per_minute`, `recipients_per_day` or `back_off`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerMinute => "messages_per_minute",
            Self::RecipientsPerDay => "recipients_per_day",
            Self::BackOff => "back_off",
        }
    }
}

/// What was handed out.
#[derive(Clone, Debug)]
pub struct Began {
    /// In the order they are to start.
    pub claims: Vec<Claim>,
    /// What is not to be sent any more and was given up in the same breath: expired, so failed,
    /// or damaged on the disk, so held.
    pub given_up: Vec<Settled>,
    /// When it is worth asking again: the next is due then, or may start. At or before now,
    /// where there was more than was asked for; `None`, if nothing waits.
    pub next: Option<Timestamp>,
    /// The limit without which more would have come.
    pub held_back_by: Option<PaceLimit>,
}

/// One message to be sent now, to some of its recipients or all.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The message.
    pub id: QueueId,
    /// By which its end is told.
    pub lease: Lease,
    /// Where failures are reported; `None` is the empty reverse-path.
    pub reverse_path: Option<String>,
    /// To whom it is to be sent now.
    pub recipients: Vec<Recipient>,
    /// Its `Message-ID`, with angle brackets.
    pub message_id: String,
    /// Header and body.
    pub body: StoredBody,
    /// What they need from the server.
    pub facts: Facts,
    /// The notifications asked for, of all recipients alike.
    pub dsn: Dsn,
    /// How often it was begun for these recipients, this time included: the most of any.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// From when its age counts: it was accepted then, or to be sent, or a person tried again.
    pub waiting_since: Timestamp,
    /// When it is not worth sending any more.
    pub expires_at: Option<Timestamp>,
    /// What goes first.
    pub priority: Priority,
    /// Who queued it.
    pub origin: String,
}

/// The right to settle what one claim handed out. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease(pub(crate) i64);

impl Lease {
    /// Its number in the store.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The one that a store numbers so.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }
}

/// What became of some recipients of a claim.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The message.
    pub id: QueueId,
    /// By which it was handed out.
    pub lease: Lease,
    /// Those whose end is known.
    pub recipients: Vec<(String, Outcome)>,
}

/// What became of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server took it.
    Delivered {
        /// What it said.
        reply: String,
    },
    /// Not now.
    Deferred {
        /// When it is tried again.
        until: Timestamp,
        /// Why.
        why: String,
    },
    /// Never.
    Failed {
        /// Why.
        why: String,
    },
    /// A person has to decide.
    Held {
        /// Why.
        why: String,
    },
    /// It left, and nobody knows whether it arrived.
    Unknown {
        /// Why.
        why: String,
    },
    /// Nothing of it left: it waits as before, and this start counts for nothing.
    Returned,
}

/// What a settlement did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The message.
    pub id: QueueId,
    /// Its account.
    pub account: String,
    /// Its `Message-ID`.
    pub message_id: String,
    /// What changed.
    pub transitions: Vec<Transition>,
    /// Recipients that this lease does not hold any more; nothing of theirs changed.
    pub fenced: Vec<String>,
    /// Nothing is left to do for any recipient.
    pub finished: bool,
}

/// A recipient that got into another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Who.
    pub recipient: String,
    /// The state now.
    pub to: State,
    /// How often it was begun.
    pub attempts: u32,
}

/// Whether a message that is not queued may start.
#[derive(Debug)]
pub enum Turn {
    /// Now; the ticket is kept until the server's verdict.
    Granted(Ticket),
    /// Not before this time, because of this limit.
    Wait(Timestamp, PaceLimit),
}

/// A start that counts as under way until it is ended, or dropped.
pub struct Ticket(pub(crate) Ending);

/// What a guard does at its end: with the time, where somebody tells it.
pub(crate) type Ending = Option<Box<dyn FnOnce(Option<Timestamp>) + Send + Sync>>;

impl Ticket {
    /// One that has nothing to count.
    pub fn free() -> Self {
        Self(None)
    }

    /// One whose end a store wants to hear of.
    pub fn new(ended: impl FnOnce(Option<Timestamp>) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(ended)))
    }

    /// The server has seen it, at this time at the latest.
    pub fn end(mut self, now: Timestamp) {
        if let Some(ended) = self.0.take() {
            ended(Some(now));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended(None);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

/// Why an account is to be left alone, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// Until then.
    pub until: Timestamp,
    /// Why.
    pub why: String,
}

/// As the design of a pace counts them.
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);

impl Settled {
    /// An error, if the lease was stale for any recipient.
    pub fn check(&self) -> Result<(), SpoolError> {
        if self.fenced.is_empty() {
            return Ok(());
        }
        let what = format!("{}: somebody else took it over", self.id);
        Err(SpoolError::new(crate::SpoolErrorKind::Fenced, &what))
    }
}
