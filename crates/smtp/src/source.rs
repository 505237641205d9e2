//! Where the messages of one session come from, and where their verdicts go.

use futures_util::future::BoxFuture;

use crate::{Outgoing, Receipt, SendError};

/// What one session sends, one message after another.
///
/// Messages count from 0 in the order they are given. Each ends once, in that order unless it
/// never left. Some may not end if [`Pool::send_all`](crate::Pool::send_all) returns an error,
/// and then have not left; or if its future is dropped, and then may have, unless they are
/// [`unsent`](Source::unsent).
pub trait Source: Send {
    /// Up to `room` more messages, those there are now; none ends the session's work, once what
    /// is in flight has been answered. Asked when a session is there to take them, and again
    /// when half of its window is free; nothing is written or read until it has answered. Dropping
    /// the future loses nothing.
    fn next(&mut self, room: usize) -> BoxFuture<'_, Vec<Outgoing>>;

    /// What became of one of them, as soon as it is known.
    fn ended(&mut self, index: u64, outcome: Result<Receipt, SendError>);

    /// Not an octet of this one's text has left, and none will: the future was dropped before,
    /// or there was no session. Nothing else is said of it.
    fn unsent(&mut self, _index: u64) {}
}

/// What one session carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentAll {
    /// The messages it was given; each of them has ended.
    pub messages: u64,
    /// Whether the source had no more. Otherwise the session ended first, and there may be more
    /// to send.
    pub drained: bool,
}
