//! An account's place at the table: whether it is driven, and when it is to be next.

use std::sync::Arc;

use futures_util::future::AbortHandle;
use jiff::Timestamp;
use postrider_spool::PaceLimit;

use crate::account::Account;

/// An account's place at the table.
pub(crate) struct Seat {
    pub(crate) account: Arc<Account>,
    pub(crate) running: bool,
    /// When its next message is due.
    pub(crate) due: Option<Timestamp>,
    /// In vain before this time.
    pub(crate) not_before: Option<Timestamp>,
    /// Waits for a token beside the pause.
    pub(crate) watch: Option<AbortHandle>,
    /// What it had begun when its task was started.
    pub(crate) begun: u64,
}

impl Seat {
    pub(crate) fn new(account: &str) -> Self {
        Self {
            account: Arc::new(Account::new(account)),
            running: false,
            due: None,
            not_before: None,
            watch: None,
            begun: 0,
        }
    }

    /// When it is to be started, if it is not running.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        let due = self.due.filter(|_| !self.running)?;
        Some(
            self.not_before
                .map_or(due, |not_before| not_before.max(due)),
        )
    }

    /// Whether a flush waits for it: its mail is due, and what holds it back soon passes.
    pub(crate) fn is_worth_waiting_for(&self, now: Timestamp) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let held = self.not_before.is_some_and(|until| until > now);
        let passes = matches!(
            self.account.answer().limit,
            None | Some(PaceLimit::PerMinute)
        );
        !held || (passes && self.account.paused(now).is_none())
    }

    /// Whether a pause holds it back, one of its own or of another process.
    pub(crate) fn is_held_back(&self, now: Timestamp) -> bool {
        let limit = self.account.answer().limit;
        limit == Some(PaceLimit::BackOff) || self.account.paused(now).is_some()
    }

    /// Until when its mail waits that is due, and for what.
    pub(crate) fn waits(&self, now: Timestamp) -> Option<(Timestamp, String)> {
        let until = self.not_before.filter(|until| *until > now)?;
        self.due.filter(|due| *due <= now)?;
        let why = match (self.account.paused(now), self.account.answer().limit) {
            (Some(pause), _) => format!("{}: {}", pause.kind.name(), pause.why),
            (None, Some(limit)) => limit.name().to_owned(),
            (None, None) => "other processes use all of its sessions".to_owned(),
        };
        Some((until, why))
    }
}
