//! What goes into the queue.

use jiff::Timestamp;

use crate::body::Body;
use crate::id::QueueId;

/// A message to be queued. Whether its octets may go on the wire was found out before.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The account that sends it.
    pub account: String,
    /// Where failures are reported; `None` is the empty reverse-path.
    pub reverse_path: Option<String>,
    /// Who gets it; at least one, each once.
    pub recipients: Vec<Recipient>,
    /// Its `Message-ID`, with angle brackets.
    pub message_id: String,
    /// Header and body.
    pub body: Body,
    /// What whoever checked the body found out.
    pub facts: Facts,
    /// The notifications asked for, of all recipients alike.
    pub dsn: Dsn,
    /// What goes first.
    pub priority: Priority,
    /// Not before this time; `None`: at once.
    pub send_at: Option<Timestamp>,
    /// Not after this time.
    pub expires_at: Option<Timestamp>,
    /// The same key within the window is the same message of this account.
    pub idempotency_key: Option<String>,
    /// Who queued it, for people: `script report.lua`, `sendmail uid 1000`.
    pub origin: String,
}

impl NewMessage {
    /// A message of normal priority that goes at once.
    pub fn new<R: Into<Recipient>>(
        account: &str,
        recipients: impl IntoIterator<Item = R>,
        message_id: &str,
        body: Body,
    ) -> Self {
        Self {
            account: account.to_owned(),
            reverse_path: None,
            recipients: recipients.into_iter().map(Into::into).collect(),
            message_id: message_id.to_owned(),
            body,
            facts: Facts::default(),
            dsn: Dsn::default(),
            priority: Priority::Normal,
            send_at: None,
            expires_at: None,
            idempotency_key: None,
            origin: String::new(),
        }
    }
}

/// What the octets of a message need from the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `8BITMIME`.
    pub eight_bit: bool,
    /// `SMTPUTF8`.
    pub smtputf8: bool,
}

/// Who gets a message, and what its sender wants to hear of it (RFC 3461).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// When to notify; `None` says nothing, and leaves it to the servers.
    pub notify: Option<Notify>,
    /// The address that the sender knows, as `ORCPT` has it: `type;xtext`.
    pub orcpt: Option<String>,
}

impl From<String> for Recipient {
    fn from(address: String) -> Self {
        Self {
            address,
            notify: None,
            orcpt: None,
        }
    }
}

/// When to notify of a recipient (RFC 3461 §4.1). None of the three is `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// It was delivered.
    pub success: bool,
    /// It will not be.
    pub failure: bool,
    /// It is not yet.
    pub delay: bool,
}

/// What a message's delivery status notifications have in common (RFC 3461).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dsn {
    /// How much of the message comes back.
    pub ret: Option<Return>,
    /// An identifier that comes back in each notice.
    pub envid: Option<String>,
}

/// How much of the message comes back in a failure notice (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// What goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// In its turn.
    #[default]
    Normal,
    /// When there is nothing better to do; yet one start in eight is for what waits longest
    /// behind a higher priority.
    Low,
}

impl Priority {
    /// From the highest to the lowest.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// `high`, `normal` or `low`.
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The one called so.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// What is on the disk now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The message's name.
    pub id: QueueId,
    /// Its `Message-ID`; for a duplicate, that of the first.
    pub message_id: String,
    /// Whether its key was known, so that nothing was queued: the rest tells of the first.
    pub duplicate: bool,
    /// When the message was accepted.
    pub accepted_at: Timestamp,
}
