//! One account's health: whether it may send now, and on how many sessions.
//!
//! Sessions fail side by side, so what happens while a pause runs belongs to that pause and does
//! not lengthen it. Success takes back step by step what failure took: a server that asks for
//! less every now and then settles at what it can bear.

use std::time::Duration;

use jiff::Timestamp;

use crate::judge::Consequence;
use crate::policy::{Policy, Steps};

/// How many accepted messages a session has to show before one more may open beside it.
const ACCEPTED_PER_STEP: u32 = 10;

/// Why an account does not send for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What it waits for.
    pub kind: PauseKind,
    /// When it is tried again.
    pub until: Timestamp,
    /// The server's reply, or what went wrong.
    pub why: String,
}

/// What a paused account waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseKind {
    /// The server asked for less.
    SlowDown,
    /// The server cannot be reached or is in trouble.
    Away,
    /// A token, or a person.
    Park,
}

impl PauseKind {
    /// `slow`, `away` or `parked`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowDown => "slow",
            Self::Away => "away",
            Self::Park => "parked",
        }
    }

    /// What the store's reason for a pause begins with, and the rest of it. What somebody else
    /// wrote there is for them to lift: it is taken for a request for patience.
    pub(crate) fn read(why: &str) -> (Self, &str) {
        let named = |kind: Self| Some((kind, why.strip_prefix(kind.name())?.strip_prefix(": ")?));
        let known = [Self::SlowDown, Self::Away, Self::Park];
        known
            .into_iter()
            .find_map(named)
            .unwrap_or((Self::SlowDown, why))
    }
}

#[derive(Debug)]
pub(crate) struct Throttle {
    /// At most so many sessions, from 1; `None` as many as the route allows.
    sessions: Option<u32>,
    accepted: u32,
    slow: u32,
    away: u32,
    park: u32,
    /// Pauses that a token ended which turned out to mend nothing.
    useless: u32,
    /// A token ended the last pause, and nothing has come of it yet.
    trusting: bool,
    /// Until then further failures count as the same one.
    until: Timestamp,
    /// The pause until then is for a token, or a person.
    parked: bool,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            sessions: None,
            accepted: 0,
            slow: 0,
            away: 0,
            park: 0,
            useless: 0,
            trusting: false,
            until: Timestamp::MIN,
            parked: false,
        }
    }
}

impl Throttle {
    /// How many sessions may run at once, where the route allows `limit`.
    pub(crate) fn sessions(&self, limit: u32) -> u32 {
        self.sessions.unwrap_or(limit).clamp(1, limit.max(1))
    }

    /// A failure; the pause that follows, unless one runs that it belongs to.
    pub(crate) fn failed(
        &mut self,
        consequence: Consequence,
        limit: u32,
        why: &str,
        now: Timestamp,
        (policy, random): (&Policy, f64),
    ) -> Option<Pause> {
        let (kind, least) = match consequence {
            Consequence::SlowDown(least) => (PauseKind::SlowDown, least),
            Consequence::Away => (PauseKind::Away, Duration::ZERO),
            Consequence::Park => (PauseKind::Park, Duration::ZERO),
        };
        // A token that is missing is not the server's asking for less, whatever came before it.
        let same = kind != PauseKind::Park || self.parked;
        if now < self.until && same {
            return None;
        }
        let (steps, failures): (Steps, &mut u32) = match kind {
            PauseKind::SlowDown => (policy.slow, &mut self.slow),
            PauseKind::Away => (policy.away, &mut self.away),
            PauseKind::Park => (policy.park, &mut self.park),
        };
        *failures = failures.saturating_add(1);
        if kind == PauseKind::Park && std::mem::take(&mut self.trusting) {
            self.useless = self.useless.saturating_add(1);
        }
        let until = later(now, steps.after(*failures, random).max(least));
        if until <= self.until {
            return None;
        }
        if kind == PauseKind::SlowDown {
            self.sessions = Some(self.sessions(limit).div_ceil(2).max(1));
        }
        self.accepted = 0;
        (self.until, self.parked) = (until, kind == PauseKind::Park);
        Some(Pause {
            kind,
            until,
            why: why.to_owned(),
        })
    }

    /// The server took a message.
    pub(crate) fn accepted(&mut self, limit: u32) {
        (self.away, self.park, self.useless, self.trusting) = (0, 0, 0, false);
        if self.slow == 0 && self.sessions.is_none() {
            return;
        }
        self.accepted += 1;
        let sessions = self.sessions(limit);
        if self.accepted < sessions.saturating_mul(ACCEPTED_PER_STEP) {
            return;
        }
        self.accepted = 0;
        self.slow = self.slow.saturating_sub(1);
        self.sessions = Some(sessions + 1).filter(|more| *more < limit);
    }

    /// The pause is over before its time: a token came.
    pub(crate) fn trusted(&mut self) {
        (self.until, self.trusting) = (Timestamp::MIN, true);
    }

    /// The pause is over before its time: a person said so.
    pub(crate) fn resumed(&mut self) {
        (self.until, self.useless, self.trusting) = (Timestamp::MIN, 0, false);
    }

    /// How long a token that is there is not believed to mend what parked the account: nothing
    /// the first time, then more and more.
    pub(crate) fn doubt(&self, policy: &Policy) -> Duration {
        match self.useless {
            0 => Duration::ZERO,
            useless => policy.park.after(useless, 0.5),
        }
    }
}

/// `span` after `time`, the end of time at most.
pub(crate) fn later(time: Timestamp, span: Duration) -> Timestamp {
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fail(throttle: &mut Throttle, consequence: Consequence, second: i64) -> Option<i64> {
        let policy = Policy::default();
        throttle
            .failed(consequence, 3, "432", at(second), (&policy, 0.5))
            .map(|pause| pause.until.as_second() - second)
    }

    const SLOW: Consequence = Consequence::SlowDown(Duration::ZERO);

    #[test]
    fn each_refusal_after_a_pause_doubles_it_and_those_within_it_count_as_one() {
        let mut throttle = Throttle::default();
        assert_eq!(fail(&mut throttle, SLOW, 0), Some(15));
        assert_eq!(fail(&mut throttle, SLOW, 1), None);
        assert_eq!(fail(&mut throttle, Consequence::Away, 14), None);
        assert_eq!(fail(&mut throttle, SLOW, 15), Some(30));
        assert_eq!(fail(&mut throttle, SLOW, 45), Some(60));
    }

    #[test]
    fn a_refusal_halves_the_sessions_and_success_brings_them_back_one_by_one() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.sessions(3), 3);
        fail(&mut throttle, SLOW, 0);
        assert_eq!(throttle.sessions(3), 2);
        fail(&mut throttle, SLOW, 100);
        assert_eq!(throttle.sessions(3), 1);
        for _ in 0..10 {
            throttle.accepted(3);
        }
        assert_eq!(throttle.sessions(3), 2);
        for _ in 0..20 {
            throttle.accepted(3);
        }
        assert_eq!(throttle.sessions(3), 3);
        // It was refused twice and has recovered twice.
        assert_eq!(fail(&mut throttle, SLOW, 1_000), Some(15));
    }

    #[test]
    fn a_pause_is_as_long_as_the_reply_needs() {
        let quota = Consequence::SlowDown(Duration::from_hours(1));
        assert_eq!(fail(&mut Throttle::default(), quota, 0), Some(3600));
    }

    #[test]
    fn a_missing_token_parks_an_account_that_was_only_slow() {
        let mut throttle = Throttle::default();
        fail(&mut throttle, SLOW, 0);
        assert_eq!(fail(&mut throttle, Consequence::Park, 1), Some(300));
        // The other sessions come to the same.
        assert_eq!(fail(&mut throttle, Consequence::Park, 2), None);
        assert_eq!(fail(&mut throttle, Consequence::Park, 301), Some(600));
    }

    #[test]
    fn a_token_that_mends_nothing_is_believed_later_each_time() {
        let (policy, mut throttle) = (Policy::default(), Throttle::default());
        let mut doubts = Vec::new();
        for round in 0..4 {
            fail(&mut throttle, Consequence::Park, round * 100_000);
            throttle.trusted();
            doubts.push(throttle.doubt(&policy).as_secs());
        }
        assert_eq!(doubts, [0, 300, 600, 1200]);
        throttle.accepted(3);
        assert_eq!(throttle.doubt(&policy), Duration::ZERO);
    }

    #[test]
    fn a_token_that_comes_after_many_probes_is_believed_at_once() {
        let (policy, mut throttle) = (Policy::default(), Throttle::default());
        for round in 0..20 {
            fail(&mut throttle, Consequence::Park, round * 100_000);
        }
        assert_eq!(throttle.doubt(&policy), Duration::ZERO);
    }
}
