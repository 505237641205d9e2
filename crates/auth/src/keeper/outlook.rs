//! A record without its secrets: what is to be expected of a grant, in few octets.

use std::time::{Duration, SystemTime};

use super::parameters::{GrantPolicy, Parameters};
use super::record::Record;
use super::schedule::{Fitness, Life, idle_at};
use super::store::GrantKey;

/// What is to be expected of a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    pub(crate) generation: u64,
    pub(crate) life: Option<Life>,
    pub(crate) spoilt: bool,
    pub(crate) forced_at: Option<SystemTime>,
    /// When the refresh token wants to be used.
    idle_at: Option<SystemTime>,
    /// There was a failure since; nobody asks before this time, if there is one.
    pub(crate) failing: bool,
    retry_at: Option<SystemTime>,
    pub(crate) retired: bool,
}

impl Outlook {
    pub(crate) fn new(
        record: &Record,
        key: &GrantKey,
        policy: GrantPolicy,
        parameters: &Parameters,
    ) -> Self {
        let access = record.access.as_ref();
        Self {
            generation: record.generation,
            life: access.map(|access| Life::new(access, key, record.generation, parameters)),
            spoilt: record.spoilt,
            forced_at: record.forced_at,
            idle_at: idle_at(record, policy, parameters),
            failing: record.failure.is_some(),
            retry_at: record.failure.as_ref().and_then(|failed| failed.retry_at),
            retired: record.retired.is_some(),
        }
    }

    /// What the access token is good for.
    pub(crate) fn fitness(&self, now: SystemTime) -> Fitness {
        let Some(life) = self.life.filter(|_| !self.spoilt) else {
            return Fitness::Unfit;
        };
        match life.fitness(now) {
            Fitness::Fresh if self.idle_at.is_some_and(|idle| idle <= now) => Fitness::Due,
            fitness => fitness,
        }
    }

    /// When the next token is fetched if nothing happens before.
    pub(crate) fn due_at(&self) -> Option<SystemTime> {
        let soft = self.life.map(|life| life.soft);
        [soft, self.idle_at].into_iter().flatten().min()
    }

    /// How long nobody is to ask, if so. A pause longer than any there is was set by a
    /// clock that has been set back since.
    pub(crate) fn pause(&self, now: SystemTime, parameters: &Parameters) -> Option<Duration> {
        let left = self.retry_at?.duration_since(now).ok()?;
        let longest = parameters.retry_after_cap.max(parameters.backoff_cap);
        (!left.is_zero() && left <= longest).then_some(left)
    }

    /// When a grant wants attention though nobody uses it: while its token lives, so that
    /// there always is one; while it fails, until it does not; and else when its refresh
    /// token would lapse.
    pub(crate) fn upkeep_at(&self, now: SystemTime, parameters: &Parameters) -> Option<SystemTime> {
        if self.retired {
            return None;
        }
        let alive = self.fitness(now) != Fitness::Unfit;
        let at = if alive {
            self.due_at()
        } else if self.failing || self.spoilt {
            Some(now)
        } else {
            self.idle_at
        };
        let paused = self.pause(now, parameters).map(|left| now + left);
        at.map(|at| paused.map_or(at, |until| at.max(until)))
    }
}
