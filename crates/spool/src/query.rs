//! Looking into the queue: what is asked, what is told.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::claim::Back;
use crate::id::QueueId;
use crate::message::{Dsn, Facts, Notify, Priority};
use crate::state::{State, StateKind};

/// Which messages. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this account.
    pub account: Option<String>,
    /// With a recipient in this state.
    pub state: Option<StateKind>,
    /// With a recipient whose address has this in it, in capitals or not.
    pub recipient: Option<String>,
    /// Accepted before this time.
    pub older_than: Option<Timestamp>,
    /// Accepted under this idempotency key.
    pub key: Option<String>,
    /// With this `Message-ID`.
    pub message_id: Option<String>,
    /// Accepted after this one: the last of the page before.
    pub after: Option<QueueId>,
    /// How many; [`Filter::PAGE`] at most and by default.
    pub limit: Option<usize>,
}

impl Filter {
    /// The longest page.
    pub const PAGE: usize = 1000;
}

/// Which messages to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// These.
    Ids(Vec<QueueId>),
    /// All that match now; `limit` is how many at most, [`Filter::PAGE`] or not.
    Matching(Filter),
}

/// A message in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: QueueId,
    /// Its account.
    pub account: String,
    /// Where failures are reported.
    pub reverse_path: Option<String>,
    /// Its `Message-ID`.
    pub message_id: String,
    /// How many recipients are in each state.
    pub states: BTreeMap<StateKind, u64>,
    /// The first recipient that is not done, or the first.
    pub recipient: String,
    /// Why that one stands where it stands.
    pub why: Option<String>,
    /// How often it was begun for that one.
    pub attempts: u32,
    /// When the next recipient is due.
    pub due_at: Option<Timestamp>,
    /// What goes first.
    pub priority: Priority,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Its octets.
    pub octets: u64,
    /// Who queued it.
    pub origin: String,
}

/// All about a message but its octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// As in a list.
    pub listed: Listed,
    /// Not before this time.
    pub send_at: Option<Timestamp>,
    /// What its octets need from the server.
    pub facts: Facts,
    /// The notifications asked for, of all recipients alike.
    pub dsn: Dsn,
    /// The key it was accepted under, if the window is not over.
    pub idempotency_key: Option<String>,
    /// Each recipient.
    pub recipients: Vec<ShownRecipient>,
}

/// A recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRecipient {
    /// The address.
    pub address: String,
    /// Where it stands.
    pub state: State,
    /// How often it was begun.
    pub attempts: u32,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// When to notify of it.
    pub notify: Option<Notify>,
    /// The address that the sender knows.
    pub orcpt: Option<String>,
}

/// How much is where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages in the queue, those done included.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// What the queue takes on the disk.
    pub on_disk: u64,
    /// Recipients in each state, by account.
    pub accounts: BTreeMap<String, AccountStats>,
}

/// How much of one account is where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountStats {
    /// Recipients in each state.
    pub states: BTreeMap<StateKind, u64>,
    /// When the oldest message was accepted that waits or is being sent.
    pub oldest: Option<Timestamp>,
}

/// What holds an account back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountState {
    /// The server asked for patience, or it is parked. One that is over is told, too: mail did
    /// not grow old while its account was parked.
    pub back_off: Option<Back>,
    /// Messages that count for the minute.
    pub in_minute: u64,
    /// Recipients that count for the day.
    pub recipients_in_day: u64,
    /// Messages under way.
    pub under_way: u64,
    /// Sessions open.
    pub sessions: u64,
}

/// An account with something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its name.
    pub account: String,
    /// When the next is due; what holds the account back is not counted in.
    pub at: Timestamp,
}

/// Messages of an account that are too old to be tried any further. Only whoever delivers knows
/// which waiting counts, so each account has its own bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aged {
    /// The account.
    pub account: String,
    /// Those fail that are queued or deferred, were accepted before this time and were to be sent
    /// before it ([`NewMessage::send_at`](crate::NewMessage::send_at)).
    pub accepted_before: Timestamp,
    /// Why. Of one that was deferred, why it was follows after a colon.
    pub why: String,
}

/// What was tidied away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Messages past their retention.
    pub messages: u64,
    /// Keys past their window.
    pub keys: u64,
    /// Files of large bodies.
    pub segments: u64,
    /// Octets that were moved, so that files could go.
    pub moved: u64,
    /// There is more to do.
    pub more: bool,
}
