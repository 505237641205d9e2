//! No more messages in any minute than the account's server takes.
//!
//! In this process only: other processes that send as the same mailbox count for themselves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use postrider_schedule::Clock;

use crate::lua::Activity;

const MINUTE: Duration = Duration::from_mins(1);

/// When messages may start.
pub(super) struct Pace {
    per_minute: usize,
    clock: Arc<dyn Clock>,
    turns: Mutex<Turns>,
}

struct Turns {
    /// When the last `per_minute` messages started, or will.
    starts: VecDeque<Timestamp>,
    /// The time when it was last looked at.
    seen: Timestamp,
}

impl Pace {
    /// At most `per_minute` messages in any minute; as many as there are where that is `None`.
    pub(super) fn new(per_minute: Option<u32>, clock: Arc<dyn Clock>) -> Self {
        let per_minute = per_minute.and_then(|count| usize::try_from(count).ok());
        Self {
            per_minute: per_minute.unwrap_or(usize::MAX),
            turns: Mutex::new(Turns {
                starts: VecDeque::new(),
                seen: clock.now(),
            }),
            clock,
        }
    }

    /// Waits for this message's turn, on behalf of a task that is at work. A turn once taken is
    /// used up, whatever comes of it.
    pub(super) async fn turn(&self, account: &str, activity: &Activity) {
        let now = self.clock.now();
        let start = self.reserve(now);
        if start > now {
            let wait = start.duration_since(now).as_secs();
            tracing::info!(
                account,
                per_minute = self.per_minute,
                "waits {wait} s for its turn"
            );
            let asleep = activity.sleep(start);
            self.clock.sleep_until(start).await;
            drop(asleep);
        }
    }

    fn reserve(&self, now: Timestamp) -> Timestamp {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.follow(now);
        let start = if turns.starts.len() < self.per_minute {
            now
        } else {
            let oldest = turns.starts.pop_front();
            oldest.map_or(now, |oldest| now.max(oldest + MINUTE))
        };
        if self.per_minute < usize::MAX {
            turns.starts.push_back(start);
        }
        start
    }
}

impl Turns {
    /// A clock that was set back takes the turns along: nobody waits an hour for it.
    fn follow(&mut self, now: Timestamp) {
        if now < self.seen {
            let back = self.seen.duration_since(now);
            for start in &mut self.starts {
                *start = start.saturating_sub(back).unwrap_or(now);
            }
        }
        self.seen = now;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::FutureExt as _;
    use postrider_schedule::ManualClock;

    use super::*;

    fn began() -> Timestamp {
        "2026-03-02T08:00:00Z".parse().unwrap()
    }

    /// When the next message starts, if the clock is moved from turn to turn.
    async fn start(pace: &Pace, clock: &ManualClock) -> Duration {
        let activity = Activity::default();
        let _busy = activity.begin();
        let mut turn = Box::pin(pace.turn("a", &activity));
        if (&mut turn).now_or_never().is_none() {
            clock.set(clock.next_wake().unwrap());
            turn.await;
        }
        clock.now().duration_since(began()).unsigned_abs()
    }

    #[tokio::test]
    async fn no_minute_sees_more_messages_than_agreed() {
        let clock = ManualClock::new(began());
        let pace = Pace::new(Some(30), Arc::new(clock.clone()));
        let mut starts = Vec::new();

        for _ in 0..100 {
            starts.push(start(&pace, &clock).await);
        }

        for window in starts.windows(31) {
            assert!(window[30] >= window[0] + MINUTE, "{window:?}");
        }
        assert_eq!(starts[29], Duration::ZERO, "the first thirty go at once");
        assert_eq!(starts[99], 3 * MINUTE);
    }

    #[tokio::test]
    async fn without_a_pace_nothing_waits() {
        let clock = ManualClock::new(began());
        let pace = Pace::new(None, Arc::new(clock.clone()));

        for _ in 0..1000 {
            assert_eq!(start(&pace, &clock).await, Duration::ZERO);
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_nobody_wait_longer_than_a_minute() {
        let clock = ManualClock::new(began());
        let pace = Pace::new(Some(1), Arc::new(clock.clone()));
        start(&pace, &clock).await;

        clock.set(began() - Duration::from_hours(1));
        let activity = Activity::default();
        let _busy = activity.begin();
        let mut turn = Box::pin(pace.turn("a", &activity));

        assert!((&mut turn).now_or_never().is_none());
        let wake = clock.next_wake().unwrap();
        assert_eq!(wake.duration_since(clock.now()).unsigned_abs(), MINUTE);
    }
}
