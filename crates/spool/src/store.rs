//! What a durable queue does, whatever keeps it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::io::AsyncWrite;

use crate::body::{BodyWriter, StoredBody};
use crate::claim::{Back, Began, Begin, Pace, Settled, Settlement, Turn};
use crate::error::SpoolError;
use crate::holder::{Changes, Holder, HolderId, Recovered, Slot};
use crate::id::QueueId;
use crate::message::{Accepted, NewMessage};
use crate::query::{AccountState, Aged, Due, Filter, Listed, Select, Shown, Stats, Tidied};

/// What comes of a question to a store.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, SpoolError>>;

/// A durable queue of outgoing mail, shared by processes.
///
/// What a future resolved to is on the disk; of processes and their places ([`Store::join`],
/// [`Store::slot`]) it need not outlive the machine's. One that is dropped may have been done or
/// not. All times are the caller's, which may jump.
pub trait Store: Send + Sync + 'static {
    /// Takes a message. It is on the disk when this answers.
    fn accept(&self, message: NewMessage, now: Timestamp) -> Answer<'_, Accepted>;

    /// Takes a message's octets as they come, to be accepted by this store afterwards.
    fn body(&self) -> Box<dyn BodyWriter>;

    /// Hands out what is due and may start now, as `sending`. To be called when a session is
    /// ready for it: what is sending when the process dies is what may have left.
    fn begin(&self, begin: Begin) -> Answer<'_, Began>;

    /// Says what became of what was handed out. A settlement of a stale lease changes nothing,
    /// and its answer says so.
    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> Answer<'_, Vec<Settled>>;

    /// Room for one more session of `account`, of at most `at_most` over all processes.
    fn slot(
        &self,
        account: &str,
        holder: HolderId,
        at_most: u32,
        now: Timestamp,
    ) -> Answer<'_, Option<Slot>>;

    /// Lets a message start that was never queued, in the same pace as those that were.
    fn turn(
        &self,
        account: &str,
        holder: HolderId,
        pace: Pace,
        recipients: u32,
        now: Timestamp,
    ) -> Answer<'_, Turn>;

    /// Joins the processes at work. What they hold ends with the [`Holder`]'s last clone, with
    /// the process, or when it is silent for [`SILENCE`].
    fn join(&self, name: &str, now: Timestamp) -> Answer<'_, Holder>;

    /// Says that the holder is at work still; to be done several times in [`SILENCE`].
    /// Fenced, if others took it for dead: join anew.
    fn heartbeat(&self, holder: HolderId, now: Timestamp) -> Answer<'_, ()>;

    /// Ends a holder. What it was sending becomes unknown at the next [`Store::recover`].
    fn leave(&self, holder: HolderId) -> Answer<'_, ()>;

    /// Takes from dead holders what they held: what was `sending` is unknown now. A holder that
    /// lives but is silent is dead when two calls in a row find it so.
    fn recover(&self, now: Timestamp) -> Answer<'_, Vec<Recovered>>;

    /// Lets nothing of `account` start before `until`; `None` lifts it.
    fn back_off(&self, account: &str, back: Option<Back>, now: Timestamp) -> Answer<'_, ()>;

    /// What holds an account back.
    fn account_state(&self, account: &str, now: Timestamp) -> Answer<'_, AccountState>;

    /// The accounts with something queued or deferred, each with when its next is due.
    fn next_due(&self, now: Timestamp) -> Answer<'_, Vec<Due>>;

    /// Fails what waits past its expiry, of any account, and what `aged` names. At most some
    /// hundreds at once: to be called again until it answers with none.
    fn expire(&self, aged: Vec<Aged>, now: Timestamp) -> Answer<'_, Vec<Settled>>;

    /// A page of messages, in order of acceptance.
    fn list(&self, filter: Filter) -> Answer<'_, Vec<Listed>>;

    /// All about one message.
    fn show(&self, id: QueueId) -> Answer<'_, Option<Shown>>;

    /// How much is where.
    fn stats(&self) -> Answer<'_, Stats>;

    /// A queued message's octets.
    fn stored(&self, id: QueueId) -> Answer<'_, StoredBody>;

    /// Writes a queued message's octets; how many there were.
    fn export<'a>(
        &'a self,
        id: QueueId,
        into: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> Answer<'a, u64>;

    /// Makes recipients that are deferred, held, failed or unknown due now; how many messages
    /// it changed. Those that expired no longer expire. Where messages are selected by a state,
    /// only their recipients in that state.
    fn retry(&self, select: Select, now: Timestamp) -> Answer<'_, u64>;

    /// Holds recipients that are queued or deferred.
    fn hold(&self, select: Select, why: &str, now: Timestamp) -> Answer<'_, u64>;

    /// Queues recipients that are held.
    fn release(&self, select: Select, now: Timestamp) -> Answer<'_, u64>;

    /// Forgets messages of which nothing is being sent.
    fn remove(&self, select: Select) -> Answer<'_, u64>;

    /// Removes what is past its retention, keys past their window, and what no message needs.
    /// At most some thousand messages at once: to be called again while [`Tidied::more`].
    fn tidy(&self, now: Timestamp) -> Answer<'_, Tidied>;

    /// Looks whether another process changed something since the last look; those who await
    /// [`Store::changes`] are told.
    fn look(&self) -> Answer<'_, bool>;

    /// Tells when something was accepted, released or freed from now on, by this process or as
    /// [`Store::look`] finds.
    fn changes(&self) -> Changes;
}

/// How long a holder may be silent.
pub const SILENCE: Duration = Duration::from_mins(1);
