//! What delivery tells of itself, as it happens.

use jiff::Timestamp;
use postrider_spool::{QueueId, SpoolError, State, StateKind};

use crate::throttle::Pause;

/// Hears of everything that happens to queued mail. Called in the middle of the work: must not
/// wait for anything.
pub trait Sink: Send + Sync + 'static {
    /// A recipient got into another state; it is on the disk.
    fn transition(&self, transition: &Transition);

    /// Nothing more of the account is sent for a while.
    fn paused(&self, account: &str, pause: &Pause);

    /// A pause ended before its time.
    fn resumed(&self, account: &str);

    /// The queue did not do what it was asked; it is asked again.
    fn trouble(&self, error: &SpoolError);
}

/// A recipient of a queued message got into another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// The message.
    pub id: QueueId,
    /// Its account.
    pub account: String,
    /// Its `Message-ID`.
    pub message_id: String,
    /// The recipient.
    pub recipient: String,
    /// The state before; of what waited, `queued` stands for `deferred`, too.
    pub from: StateKind,
    /// The state now: with the server's reply or why, and when it is tried again.
    pub to: State,
    /// How often it was begun.
    pub attempts: u32,
}

impl Transition {
    /// What the server said, or why the recipient stands where it stands.
    pub fn why(&self) -> Option<&str> {
        self.to.why()
    }

    /// When it is tried again, if it is put off.
    pub fn next(&self) -> Option<Timestamp> {
        match &self.to {
            State::Deferred { until, .. } => Some(*until),
            _ => None,
        }
    }
}
