//! The time in a test: it stands until the test moves it, for scripts, schedules, the keeper and
//! the sandbox alike.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use jiff::Timestamp;
use postrider_schedule::{Clock, ManualClock};
use tokio::sync::Notify;

/// So many sleeps that are over before they begin are a loop which time cannot end.
const IDLE_SLEEPS: usize = 20_000;

/// A clock that a test moves. Clones are the same.
#[derive(Clone)]
pub(super) struct TestClock {
    manual: ManualClock,
    /// Sleeps of no length since the clock was last moved.
    idle: Arc<AtomicUsize>,
    spun: Arc<Notify>,
}

impl TestClock {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            manual: ManualClock::new(now),
            idle: Arc::default(),
            spun: Arc::default(),
        }
    }

    /// Sets it and wakes whoever waited for that.
    pub(super) fn set(&self, now: Timestamp) {
        self.idle.store(0, Ordering::Relaxed);
        self.manual.set(now);
    }

    /// The next moment that somebody waits for.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.manual.next_wake()
    }

    /// Whether somebody sleeps for no time again and again.
    pub(super) fn is_spinning(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > IDLE_SLEEPS
    }

    /// Waits until somebody has slept for no time again and again.
    pub(super) async fn spun(&self) {
        self.spun.notified().await;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.manual.now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        if at <= self.now() {
            if self.idle.fetch_add(1, Ordering::Relaxed) < IDLE_SLEEPS {
                return futures_util::future::ready(()).boxed();
            }
            self.spun.notify_one();
            return pending().boxed();
        }
        self.manual.sleep_until(at)
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now().checked_add(span).unwrap_or(Timestamp::MAX))
    }

    fn set_back(&self) -> BoxFuture<'static, ()> {
        self.manual.set_back()
    }
}

/// The sandbox outlives the worlds: its time is that of the world it is in.
#[derive(Default)]
pub(super) struct SandboxClock(Mutex<Option<TestClock>>);

impl SandboxClock {
    pub(super) fn follow(&self, clock: &TestClock) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock.clone());
    }
}

impl postrider_sandbox::Clock for SandboxClock {
    fn now(&self) -> SystemTime {
        let clock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clock
            .as_ref()
            .map_or_else(SystemTime::now, |clock| clock.now().into())
    }
}
