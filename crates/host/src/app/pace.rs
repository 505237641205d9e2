//! No more messages in any minute than the account's server takes.
//!
//! In this process only: other processes that send as the same mailbox count for themselves.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_mins(1);

/// When messages may start.
#[derive(Debug)]
pub(super) struct Pace {
    per_minute: usize,
    /// When the last `per_minute` messages started, or will.
    starts: Mutex<VecDeque<Instant>>,
}

impl Pace {
    /// At most `per_minute` messages in any minute; as many as there are where that is `None`.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let per_minute = per_minute.and_then(|count| usize::try_from(count).ok());
        Self {
            per_minute: per_minute.unwrap_or(usize::MAX),
            starts: Mutex::default(),
        }
    }

    /// Waits for this message's turn. A turn once taken is used up, whatever comes of it.
    pub(super) async fn turn(&self, account: &str) {
        let now = Instant::now();
        let start = self.reserve(now);
        if start > now {
            let wait = (start - now).as_secs();
            tracing::info!(
                account,
                per_minute = self.per_minute,
                "waits {wait} s for its turn"
            );
            tokio::time::sleep_until(start).await;
        }
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let start = if starts.len() < self.per_minute {
            now
        } else {
            let oldest = starts.pop_front();
            oldest.map_or(now, |oldest| now.max(oldest + MINUTE))
        };
        if self.per_minute < usize::MAX {
            starts.push_back(start);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_sees_more_messages_than_agreed() {
        let pace = Pace::new(Some(30));
        let began = Instant::now();
        let mut starts = Vec::new();

        for _ in 0..100 {
            pace.turn("a").await;
            starts.push(began.elapsed());
        }

        for window in starts.windows(31) {
            assert!(window[30] >= window[0] + MINUTE, "{window:?}");
        }
        assert_eq!(starts[29], Duration::ZERO, "the first thirty go at once");
        assert_eq!(starts[99], 3 * MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pace_nothing_waits() {
        let pace = Pace::new(None);
        let began = Instant::now();

        for _ in 0..1000 {
            pace.turn("a").await;
        }

        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
