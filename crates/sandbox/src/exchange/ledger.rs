//! What each mailbox has used up: parallel senders, messages a minute, recipients a day.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::scenario::{Limits, OverRate};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// One account per mailbox that ever signed in.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    mailboxes: Mutex<HashMap<String, Account>>,
}

#[derive(Debug, Default)]
struct Account {
    senders: u32,
    /// When each message of the last day went, or may go, and to how many.
    sent: VecDeque<(Timestamp, u32)>,
}

/// One of a mailbox's places for a parallel sender; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    ledger: Arc<Ledger>,
    mailbox: String,
}

/// Why a message is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Too many in the last minute.
    Rate,
    /// Too many recipients in the last 24 hours.
    Day,
}

impl Ledger {
    /// A seat, if one is free.
    pub(super) fn seat(self: &Arc<Self>, mailbox: &str, limits: &Limits) -> Option<Seat> {
        let mut mailboxes = self.mailboxes();
        let account = mailboxes.entry(mailbox.to_owned()).or_default();
        if limits.connections > 0 && account.senders >= limits.connections {
            return None;
        }
        account.senders += 1;
        Some(Seat {
            ledger: Arc::clone(self),
            mailbox: mailbox.to_owned(),
        })
    }

    /// Enters a message to so many recipients, and says how long it has to wait.
    ///
    /// # Errors
    /// The limit it is over; it is then not entered.
    pub(super) fn admit(
        &self,
        mailbox: &str,
        recipients: u32,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Duration, Over> {
        let mut mailboxes = self.mailboxes();
        let sent = &mut mailboxes.entry(mailbox.to_owned()).or_default().sent;
        while sent
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) >= DAY)
        {
            sent.pop_front();
        }
        let today: u64 = sent
            .iter()
            .map(|(_, recipients)| u64::from(*recipients))
            .sum();
        if today + u64::from(recipients) > u64::from(limits.recipients_per_day) {
            return Err(Over::Day);
        }
        // With n a minute, a message may go a minute after the one n places before it.
        let n = limits.messages_per_minute as usize;
        let before = sent
            .len()
            .checked_sub(n)
            .filter(|_| n > 0)
            .map(|index| sent[index].0);
        let earliest = before
            .and_then(|at| at.checked_add(MINUTE).ok())
            .unwrap_or(now);
        let wait = earliest.duration_since(now).max(SignedDuration::ZERO);
        if !wait.is_zero() && limits.over_rate == OverRate::Refuse {
            return Err(Over::Rate);
        }
        sent.push_back((earliest.max(now), recipients));
        Ok(wait.unsigned_abs())
    }

    /// Forgets what was used up.
    pub(super) fn clear(&self) {
        for account in self.mailboxes().values_mut() {
            account.sent.clear();
        }
    }

    fn mailboxes(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(account) = self.ledger.mailboxes().get_mut(&self.mailbox) {
            account.senders = account.senders.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    #[test]
    fn a_seat_is_free_again_when_its_holder_leaves() {
        let ledger = Arc::new(Ledger::default());
        let limits = Limits {
            connections: 2,
            ..Limits::default()
        };
        let first = ledger.seat("a", &limits).unwrap();
        let _second = ledger.seat("a", &limits).unwrap();
        assert!(ledger.seat("a", &limits).is_none());
        assert!(
            ledger.seat("b", &limits).is_some(),
            "each mailbox has its own"
        );
        drop(first);
        assert!(ledger.seat("a", &limits).is_some());
    }

    #[test]
    fn the_minute_slides() {
        let ledger = Ledger::default();
        let limits = Limits {
            messages_per_minute: 2,
            ..Limits::default()
        };
        let admit = |second| ledger.admit("a", 1, at(second), &limits);
        assert_eq!(admit(0), Ok(Duration::ZERO));
        assert_eq!(admit(30), Ok(Duration::ZERO));
        assert_eq!(admit(59), Err(Over::Rate));
        assert_eq!(admit(60), Ok(Duration::ZERO));
        assert_eq!(admit(61), Err(Over::Rate));
        assert_eq!(admit(90), Ok(Duration::ZERO));
    }

    #[test]
    fn delayed_messages_queue_behind_each_other() {
        let ledger = Ledger::default();
        let limits = Limits {
            messages_per_minute: 1,
            over_rate: OverRate::Delay,
            ..Limits::default()
        };
        let waits =
            [0, 0, 0].map(|second| ledger.admit("a", 1, at(second), &limits).unwrap().as_secs());
        assert_eq!(waits, [0, 60, 120]);
    }

    #[test]
    fn the_day_counts_recipients_and_refused_messages_cost_nothing() {
        let ledger = Ledger::default();
        let limits = Limits {
            recipients_per_day: 10,
            ..Limits::default()
        };
        let admit = |recipients, second| ledger.admit("a", recipients, at(second), &limits);
        assert!(admit(9, 0).is_ok());
        assert_eq!(admit(2, 1), Err(Over::Day));
        assert!(admit(1, 2).is_ok());
        assert_eq!(admit(1, 86_399), Err(Over::Day));
        assert!(admit(9, 86_400).is_ok());
    }
}
