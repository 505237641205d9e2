//! What an operator may decide: how long, how often, and what becomes of lost verdicts.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How delivery goes about its work.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What becomes of a message whose verdict was lost.
    pub unknown: OnUnknown,
    /// How long a message is tried before it fails. Time in which its account was parked does
    /// not count.
    pub max_age: Duration,
    /// Who is told of a failure by mail.
    pub report: Report,
    /// Waits between attempts at one message.
    pub retry: Steps,
    /// Waits of an account whose server asked for less.
    pub slow: Steps,
    /// Waits of an account whose server is away or in trouble.
    pub away: Steps,
    /// Waits of an account that needs a person, or a token: it is tried again after them, or as
    /// soon as [`Route::ready`](crate::Route::ready) says so.
    pub park: Steps,
    /// How long messages in flight may still take once delivery is to stop.
    pub stop_within: Duration,
}

/// What becomes of a message whose verdict was lost after its last octet had left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// It stays `unknown` until a person decides.
    Hold,
    /// It is sent again, with the same `Message-ID`; it may arrive twice.
    Retry,
}

/// Who is told of a message that failed, besides the [`Sink`](crate::Sink).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nobody.
    None,
    /// The envelope's sender, by a message in the form of RFC 3464.
    Sender,
}

/// Waits that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The first one.
    pub first: Duration,
    /// None is longer, jitter aside.
    pub ceiling: Duration,
}

impl Default for Policy {
    /// Five days (RFC 5321 §4.5.4.1 asks for four or five); one minute to four hours between
    /// attempts at a message. Accounts wait for shorter times, as one probe tells of all their
    /// mail; longer for a person, yet not so long that one who signed in elsewhere waits for it.
    fn default() -> Self {
        let steps = |first, ceiling| Steps { first, ceiling };
        Self {
            unknown: OnUnknown::Hold,
            max_age: Duration::from_hours(5 * 24),
            report: Report::Sender,
            retry: steps(Duration::from_mins(1), Duration::from_hours(4)),
            slow: steps(Duration::from_secs(15), Duration::from_hours(1)),
            away: steps(Duration::from_secs(30), Duration::from_mins(15)),
            park: steps(Duration::from_mins(5), Duration::from_hours(1)),
            stop_within: Duration::from_secs(20),
        }
    }
}

/// Numbers from 0 up to, not including, 1.
pub type Random = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Numbers that differ from process to process: enough to spread attempts, no secret.
pub fn random() -> Random {
    let (seed, counter) = (RandomState::new(), AtomicU64::new(0));
    Arc::new(move || {
        let hash = seed.hash_one(counter.fetch_add(1, Ordering::Relaxed));
        let high = u32::try_from(hash >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    })
}

impl Steps {
    /// The wait after `failures` in a row, counted from 1, a quarter more or less as `random`
    /// (from 0 to 1) says.
    pub fn after(self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let wait = self.first.saturating_mul(1 << doublings).min(self.ceiling);
        wait.mul_f64(0.75 + random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: Steps = Steps {
        first: Duration::from_mins(1),
        ceiling: Duration::from_hours(4),
    };

    #[test]
    fn waits_double_up_to_their_ceiling() {
        let minutes = |failures| STEPS.after(failures, 0.5).as_secs() / 60;
        let waits: Vec<_> = (0..11).map(minutes).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 64, 128, 240, 240]);
        assert_eq!(minutes(u32::MAX), 240);
    }

    #[test]
    fn jitter_is_a_quarter_either_way() {
        assert_eq!(STEPS.after(1, 0.0), Duration::from_secs(45));
        assert_eq!(STEPS.after(1, 1.0), Duration::from_secs(75));
        assert_eq!(STEPS.after(1, 7.0), Duration::from_secs(75));
    }

    #[test]
    fn random_numbers_lie_between_nought_and_one_and_differ() {
        let random = random();
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.windows(2).any(|pair| pair[0] < pair[1]));
        assert!(numbers.windows(2).any(|pair| pair[0] > pair[1]));
    }
}
