//! What scripts are doing: whether anything is at work, or everything waits for the clock.
//!
//! Whatever works holds a [`Busy`]; a task that waits for the clock, or for tasks of its own,
//! lends its back meanwhile. A sleeper whose time has come counts as at work although nobody
//! woke it yet: so a test that moves the clock sees what follows from it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use postrider_schedule::Clock;
use tokio::sync::Notify;

/// Counts what is at work. Clones are the same.
#[derive(Clone, Default)]
pub struct Activity(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Below zero for a moment, where a task ends before what it waits for.
    busy: isize,
    tickets: u64,
    /// Until when those sleep who wait for the clock.
    sleepers: BTreeSet<(Timestamp, u64)>,
}

impl Activity {
    /// Something is at work for as long as the answer lives.
    pub fn begin(&self) -> Busy {
        self.lock().busy += 1;
        Busy(self.clone())
    }

    /// Whoever waits until `at` by the clock is not at work for as long as the answer lives.
    pub fn sleep(&self, at: Timestamp) -> Asleep {
        let ticket = {
            let mut state = self.lock();
            state.tickets += 1;
            let ticket = state.tickets;
            state.sleepers.insert((at, ticket));
            state.busy -= 1;
            ticket
        };
        self.0.changed.notify_waiters();
        Asleep {
            place: (at, ticket),
            activity: self.clone(),
        }
    }

    /// Whoever waits for tasks of its own is not at work for as long as the answer lives.
    pub(crate) fn lend(&self) -> Lent {
        self.lock().busy -= 1;
        self.0.changed.notify_waiters();
        Lent(self.clone())
    }

    /// How much is at work.
    pub fn busy(&self) -> usize {
        usize::try_from(self.lock().busy).unwrap_or(0)
    }

    /// Waits until everything there is waits for a later time of `clock`, or has ended.
    pub async fn quiet(&self, clock: &dyn Clock) {
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.is_quiet(clock.now()) {
                return;
            }
            changed.await;
        }
    }

    fn is_quiet(&self, now: Timestamp) -> bool {
        let state = self.lock();
        state.busy == 0 && state.sleepers.first().is_none_or(|(at, _)| *at > now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something at work.
pub struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.0.changed.notify_waiters();
    }
}

/// Somebody who would be at work, but waits for others.
pub(crate) struct Lent(Activity);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.lock().busy += 1;
    }
}

/// Somebody who would be at work, but waits for the clock.
pub struct Asleep {
    place: (Timestamp, u64),
    activity: Activity,
}

impl Drop for Asleep {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        state.sleepers.remove(&self.place);
        state.busy += 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use postrider_schedule::ManualClock;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[tokio::test]
    async fn it_is_quiet_when_everybody_waits_for_a_later_time() {
        let (activity, clock) = (Activity::default(), ManualClock::new(at(100)));
        let quiet = || activity.quiet(&clock).now_or_never().is_some();
        assert!(quiet());

        let task = activity.begin();
        assert!(!quiet());

        let asleep = activity.sleep(at(160));
        assert!(quiet());
        clock.set(at(160));
        assert!(!quiet(), "its time has come");
        drop(asleep);
        assert!(!quiet(), "it is awake");

        drop(task);
        assert!(quiet());
        assert_eq!(activity.busy(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_quiet_is_told() {
        let (activity, clock) = (Activity::default(), ManualClock::new(at(100)));
        let task = activity.begin();
        let mut quiet = Box::pin(activity.quiet(&clock));
        assert!((&mut quiet).now_or_never().is_none());

        drop(task);

        assert!(quiet.now_or_never().is_some());
    }
}
