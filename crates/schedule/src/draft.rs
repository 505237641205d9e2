//! A set of schedules in the making, and what a script holds of one schedule.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use jiff::Timestamp;

use crate::error::ScheduleError;
use crate::job::Schedule;
use crate::row::{PastRun, Row};
use crate::scheduler::{Key, Scheduler, Shared};

/// A set of schedules. Clones are the same; one that was never installed is forgotten with the
/// last of them.
#[derive(Clone)]
pub struct Draft(Arc<Inner>);

struct Inner {
    scheduler: Scheduler,
    set: u64,
    /// What the store keeps, if it was read.
    kept: OnceLock<BTreeMap<String, Row>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.scheduler.state().drafts.remove(&self.set);
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({})", self.0.set)
    }
}

impl Draft {
    pub(crate) fn new(scheduler: Scheduler, set: u64) -> Self {
        Self(Arc::new(Inner {
            scheduler,
            set,
            kept: OnceLock::new(),
        }))
    }

    pub(crate) fn set(&self) -> u64 {
        self.0.set
    }

    /// Reads what the store keeps, if that was not done before, so that schedules with a name
    /// know from the start when they last ran. Takes as long as another process holds the file,
    /// seconds at most; a store that cannot be read is no error here.
    pub async fn read(&self) {
        if self.0.kept.get().is_none()
            && let Ok(kept) = self.0.scheduler.kept(None).await
        {
            // Two may have read it at once.
            let _ = self.0.kept.set(kept);
        }
    }

    /// One more schedule, at once and without asking the store: beside the set in force until this one is installed, and at work at
    /// once from then on. [`ScheduleError::Superseded`] when a later set has taken its place.
    pub fn add(&self, schedule: Schedule) -> Result<Handle, ScheduleError> {
        self.0
            .scheduler
            .add_to(self.0.set, schedule, self.0.kept.get())
    }
}

/// One schedule, in the hands of who asked for it. It keeps nothing alive.
#[derive(Clone)]
pub struct Handle {
    scheduler: Weak<Shared>,
    set: u64,
    key: Key,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.key).finish()
    }
}

impl Handle {
    pub(crate) fn new(scheduler: &Scheduler, set: u64, key: Key) -> Self {
        Self {
            scheduler: Arc::downgrade(&scheduler.0),
            set,
            key,
        }
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        match &self.key {
            Key::Named(name) => Some(name),
            Key::Unnamed(_) => None,
        }
    }

    /// Ends it; a run under way goes on. False if it has ended before, or belongs to a later
    /// generation by now.
    pub fn cancel(&self) -> bool {
        let Some(scheduler) = self.scheduler() else {
            return false;
        };
        let mut state = scheduler.state();
        let is_ours = state
            .find(self.set, &self.key)
            .is_some_and(|entry| entry.set == self.set);
        if is_ours {
            match state.drafts.get_mut(&self.set) {
                Some(draft) => draft.remove(&self.key),
                None => state.live.remove(&self.key),
            };
            scheduler.forget(&state, &self.key);
        }
        drop(state);
        scheduler.nudge();
        is_ours
    }

    /// When it runs next.
    pub fn next(&self) -> Option<Timestamp> {
        let scheduler = self.scheduler()?;
        let now = scheduler.now();
        scheduler.state().find(self.set, &self.key)?.next(now)
    }

    /// Runs it at once, beside its plan.
    pub fn run_now(&self) -> Result<(), ScheduleError> {
        match self.scheduler() {
            Some(scheduler) => scheduler.run_key(self.set, &self.key),
            None => Err(ScheduleError::Unknown(self.key.row())),
        }
    }

    /// The latest run that has ended.
    pub fn last(&self) -> Option<PastRun> {
        let scheduler = self.scheduler()?;
        let mut state = scheduler.state();
        state.find(self.set, &self.key)?.row.last.clone()
    }

    /// Whether it runs no more, now or ever: it was cancelled, its time is over, or a later
    /// generation has taken its place.
    pub fn is_over(&self) -> bool {
        let Some(scheduler) = self.scheduler() else {
            return true;
        };
        let now = scheduler.now();
        let mut state = scheduler.state();
        let mut runs = state.under_way.iter();
        if runs.any(|run| run.set == self.set && run.key == self.key) {
            return false;
        }
        match state.find(self.set, &self.key) {
            Some(entry) => entry.set != self.set || entry.is_done(now),
            None => true,
        }
    }

    /// Waits until [`Self::is_over`].
    pub async fn over(&self) {
        while let Some(scheduler) = self.scheduler() {
            let changed = scheduler.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_over() {
                return;
            }
            changed.await;
        }
    }

    fn scheduler(&self) -> Option<Scheduler> {
        self.scheduler.upgrade().map(Scheduler)
    }
}
