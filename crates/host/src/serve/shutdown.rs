//! The end, in order and within a stated time.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// Kept of the time for what must not be cut short: keeping a token that is just coming, and
/// taking leave of servers.
const FAREWELL: Duration = Duration::from_secs(5);

/// The time that is left for shutting down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// When everything has ended.
    end: Instant,
    /// When calls have.
    calls: Instant,
}

impl Deadline {
    /// All of it in `at_most`.
    pub(super) fn within(at_most: Duration) -> Self {
        let now = Instant::now();
        Self {
            end: now + at_most,
            calls: now + at_most.saturating_sub(FAREWELL.min(at_most / 2)),
        }
    }

    /// What calls into scripts have left.
    pub(super) fn for_calls(self) -> Duration {
        self.calls.saturating_duration_since(Instant::now())
    }

    /// Does one of the last things, and says whether there was time for it.
    pub(super) async fn allow(self, what: &str, work: impl Future<Output = ()>) {
        let left = self.end.saturating_duration_since(Instant::now());
        if timeout(left, work).await.is_err() {
            tracing::warn!("{what} took too long and was cut short");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_leave_time_for_the_farewell_and_nothing_takes_longer_than_stated() {
        let began = Instant::now();
        let deadline = Deadline::within(Duration::from_secs(30));
        assert_eq!(deadline.for_calls(), Duration::from_secs(25));
        assert_eq!(
            Deadline::within(Duration::from_secs(4)).for_calls(),
            Duration::from_secs(2)
        );

        let () = deadline.allow("forever", std::future::pending()).await;

        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert_eq!(deadline.for_calls(), Duration::ZERO);
    }
}
