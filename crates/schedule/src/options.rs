//! What a schedule does when things do not go to plan.

use std::time::Duration;

/// How a schedule behaves; the defaults suit a job that may be late but must not pile up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What it is called. Only a schedule with a name survives restarts.
    pub name: Option<String>,
    /// It starts up to so much later than planned, always by the same span for the same slot.
    pub jitter: Duration,
    /// What becomes of a slot that falls due while a run is under way.
    pub overlap: Overlap,
    /// What becomes of slots that fell due while nobody watched.
    pub missed: Missed,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// Whether a run that failed is tried again.
    pub retry: Retry,
}

/// What becomes of a slot that falls due while a run is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It waits until the run has ended; at most a hundred wait, the oldest are left out.
    Queue,
    /// It runs beside it.
    Allow,
}

/// What becomes of slots that fell due while the process was stopped, the machine asleep or its
/// clock wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// One run stands for all of them.
    #[default]
    Once,
    /// Each is run, one after the other; at most the latest thousand.
    All,
}

/// When a run that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often after the first time.
    pub attempts: u32,
    /// How long after the first failure; twice as long after each further one.
    pub backoff: Duration,
    /// The longest wait.
    pub longest: Duration,
}

/// Never; thirty seconds and an hour are where retries are asked for and nothing else is said:
/// most refusals for a time (`4xx`) are over by then.
impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 0,
            backoff: Duration::from_secs(30),
            longest: Duration::from_hours(1),
        }
    }
}

impl Retry {
    /// The wait after failed attempt `attempt`, counted from one; up to a quarter longer by
    /// `spread`, which is within 0..=1, so that many do not come back at once.
    pub(crate) fn wait(&self, attempt: u32, spread: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let wait = self.backoff.saturating_mul(doubled).min(self.longest);
        wait.saturating_add(wait.div_f64(4.0).mul_f64(spread.clamp(0.0, 1.0)))
    }
}

impl Overlap {
    /// As it is written: `skip`.
    pub const NAMES: [(&str, Self); 3] = [
        ("skip", Self::Skip),
        ("queue", Self::Queue),
        ("allow", Self::Allow),
    ];
}

impl Missed {
    /// As it is written: `once`.
    pub const NAMES: [(&str, Self); 3] = [
        ("skip", Self::Skip),
        ("once", Self::Once),
        ("all", Self::All),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_retry_waits_twice_as_long_up_to_the_longest() {
        let retry = Retry {
            attempts: 9,
            backoff: Duration::from_secs(10),
            longest: Duration::from_mins(1),
        };

        let waits: Vec<u64> = (1..=5).map(|n| retry.wait(n, 0.0).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 60, 60]);
        assert_eq!(retry.wait(1, 1.0), Duration::from_millis(12_500));
        assert_eq!(retry.wait(u32::MAX, 0.0), Duration::from_mins(1));
    }
}
