//! The time in a run: tokio's paused one, and a wall clock bound to it that can be set.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::clock::Clock;

/// What the wall clock shows when a run begins, since the Unix epoch.
const BEGINNING: Duration = Duration::from_hours(480_000);

/// The time of one run.
pub(super) struct Time {
    start: Instant,
    /// Seconds that the wall clock was set forward, all together.
    set: Mutex<i64>,
}

impl Time {
    /// Time that begins now.
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            set: Mutex::new(0),
        }
    }

    /// True time since the beginning, which never jumps.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Somebody sets the wall clock forward, or back.
    pub(super) fn jump(&self, seconds: i64) {
        *self.set.lock().unwrap() += seconds;
    }
}

impl Clock for Time {
    fn now(&self) -> SystemTime {
        let set = *self.set.lock().unwrap();
        let by = Duration::from_secs(set.unsigned_abs());
        let at = UNIX_EPOCH + BEGINNING + self.elapsed();
        if set < 0 { at - by } else { at + by }
    }
}
