//! Time as it is told to a scheduler: the system's, or one that a test moves by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::row::later;

/// The time of day, and waiting for it.
pub trait Clock: Send + Sync {
    /// The time now. It may jump either way between two calls.
    fn now(&self) -> Timestamp;

    /// Waits until it is `at` or later, also if the clock is set meanwhile or the machine sleeps.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;

    /// Waits until so much time has passed. Where time passes by itself, setting the clock does
    /// not shorten or lengthen it.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(later(self.now(), span))
    }

    /// Waits until the clock is set back: what is waited for may be another moment then. One that
    /// cannot be set back waits for ever.
    fn set_back(&self) -> BoxFuture<'static, ()> {
        pending().boxed()
    }
}

/// How long [`SystemClock`] waits before it looks at the time again: a clock that was set, or a
/// machine that woke up, is noticed within this time.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// How far the time may lag behind what has passed before the clock counts as set back.
const LAG: Duration = Duration::from_secs(5);

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        async move {
            loop {
                let Ok(left) = Duration::try_from(at.duration_since(Timestamp::now())) else {
                    return;
                };
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        }
        .boxed()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(span).boxed()
    }

    fn set_back(&self) -> BoxFuture<'static, ()> {
        async {
            loop {
                let (time, began) = (Timestamp::now(), Instant::now());
                tokio::time::sleep(LOOK_AGAIN).await;
                if later(Timestamp::now(), LAG) < later(time, began.elapsed()) {
                    return;
                }
            }
        }
        .boxed()
    }
}

/// A clock that stands until somebody moves it. Clones are the same.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Manual>>);

#[derive(Debug)]
struct Manual {
    now: Timestamp,
    /// Tells sleepers of one moment apart, in the order they came.
    tickets: u64,
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    /// Those who wait for it to be set back.
    wary: Vec<oneshot::Sender<()>>,
}

impl ManualClock {
    /// One that stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Manual {
            now,
            tickets: 0,
            sleepers: BTreeMap::new(),
            wary: Vec::new(),
        })))
    }

    /// Sets it, forwards or back, and wakes everybody whose time has come, the earliest first.
    pub fn set(&self, now: Timestamp) {
        let mut manual = self.lock();
        if now < manual.now {
            for wary in std::mem::take(&mut manual.wary) {
                let _ = wary.send(());
            }
        }
        manual.now = now;
        while let Some(first) = manual.sleepers.first_entry()
            && first.key().0 <= now
        {
            // Whoever waited may have lost interest.
            let _ = first.remove().send(());
        }
    }

    /// The earliest moment that somebody waits for.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let mut manual = self.lock();
        manual.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        manual.sleepers.first_key_value().map(|((at, _), _)| *at)
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let mut manual = self.lock();
        if at <= manual.now {
            return futures_util::future::ready(()).boxed();
        }
        let (wake, woken) = oneshot::channel();
        manual.tickets += 1;
        let ticket = manual.tickets;
        manual.sleepers.insert((at, ticket), wake);
        woken.map(|_| ()).boxed()
    }

    fn set_back(&self) -> BoxFuture<'static, ()> {
        let mut manual = self.lock();
        manual.wary.retain(|wary| !wary.is_closed());
        let (wake, woken) = oneshot::channel();
        manual.wary.push(wake);
        woken.map(|_| ()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_is_moved_past_its_time_and_not_before() {
        let clock = ManualClock::new(at(100));
        let mut sleeper = clock.sleep_until(at(160));

        clock.set(at(159));
        assert!((&mut sleeper).now_or_never().is_none());
        assert_eq!(clock.next_wake(), Some(at(160)));

        clock.set(at(160));
        assert!(sleeper.now_or_never().is_some());
        assert_eq!(clock.next_wake(), None);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_says_so_and_one_that_goes_on_does_not() {
        let clock = ManualClock::new(at(100));
        let mut set_back = clock.set_back();
        clock.set(at(160));
        assert!((&mut set_back).now_or_never().is_none());
        clock.set(at(159));
        assert!(set_back.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_systems_clock_notices_that_it_lags_behind_the_time_that_has_passed() {
        let began = Instant::now();
        // The paused timers run fast, the system's time does not.
        SystemClock.set_back().await;
        assert_eq!(began.elapsed(), LOOK_AGAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn the_systems_clock_looks_at_the_time_again_and_again() {
        let long = SystemClock.sleep_until(Timestamp::now() + Duration::from_hours(1));
        let began = Instant::now();

        let ended = tokio::time::timeout(Duration::from_mins(5), long).await;

        // The paused timers ran fast, the system's time did not: it still waits.
        assert!(ended.is_err());
        assert!(began.elapsed() >= Duration::from_mins(5));
    }
}
