//! The numbers of the state machine, each with its reason, and what an operator may say of a
//! provider.

use std::time::{Duration, SystemTime};

/// How a keeper times what it does. [`Default`] is what Postrider ships with.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Where a provider says nothing (`refresh_in`), a token is due after this part of its
    /// life: what is left bridges an outage of its provider.
    pub soft_fraction: f64,
    /// Up to this part of its life a token is due sooner, by a digest of its grant and
    /// generation: ten thousand tokens fetched together do not come due together.
    pub jitter_fraction: f64,
    /// A token not refreshed this long before its end makes its grant degraded…
    pub hard_window: Duration,
    /// …or this part of its life, if that is shorter.
    pub hard_fraction: f64,
    /// A token with less life is not handed out: it must outlast the commands up to `AUTH`…
    pub use_floor: Duration,
    /// …or this part of its life, if that is shorter.
    pub floor_fraction: f64,
    /// How long one attempt at the provider may take, all its requests together.
    pub attempt_timeout: Duration,
    /// How long another process is believed to be refreshing.
    pub lease: Duration,
    /// How often a process that waits for another one looks again, at most and at least: the
    /// whole crowd must be through within 200 ms.
    pub lock_poll: (Duration, Duration),
    /// The first pause after a failure; doubles with each.
    pub backoff: Duration,
    /// The longest pause that is our own choice.
    pub backoff_cap: Duration,
    /// The longest pause a provider may ask for (`Retry-After`).
    pub retry_after_cap: Duration,
    /// Requests at one provider at a time.
    pub issuer_inflight: usize,
    /// Requests at one provider a second.
    pub issuer_rate: u32,
    /// A grant nobody uses is refreshed after this part of its refresh token's life.
    pub idle_fraction: f64,
    /// After a mail server refused a token, the next refusal is not heeded for so long: if
    /// the new token is refused too, tokens are not what is wrong.
    pub min_force_interval: Duration,
    /// The first pause of a client that the provider does not know (`invalid_client`);
    /// doubles up to [`Parameters::breaker_cap`].
    pub breaker: Duration,
    /// The longest such pause.
    pub breaker_cap: Duration,
    /// The longest sleep of whoever waits for a time of day: clocks jump.
    pub tick: Duration,
    /// Days before a known expiry at which it is told.
    pub notice_days: [u32; 5],
    /// Salts every jitter. The same for all processes of one state directory, so that they
    /// agree when a token is due.
    pub seed: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            soft_fraction: 0.6,
            jitter_fraction: 0.2,
            hard_window: Duration::from_mins(5),
            hard_fraction: 0.2,
            use_floor: Duration::from_mins(1),
            floor_fraction: 0.05,
            attempt_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(90),
            lock_poll: (Duration::from_millis(10), Duration::from_millis(25)),
            backoff: Duration::from_secs(5),
            backoff_cap: Duration::from_mins(5),
            retry_after_cap: Duration::from_hours(1),
            issuer_inflight: 16,
            issuer_rate: 10,
            idle_fraction: 0.5,
            min_force_interval: Duration::from_mins(1),
            breaker: Duration::from_mins(1),
            breaker_cap: Duration::from_hours(1),
            tick: Duration::from_mins(1),
            notice_days: [30, 14, 7, 3, 1],
            seed: 0,
        }
    }
}

/// What the operator knows of a provider's refresh tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantPolicy {
    /// How long a refresh token lives from its last use, where the provider does not say.
    pub refresh_token_lifetime: Option<Duration>,
    /// How long a refresh token may still be used once it has been replaced.
    pub reuse_grace: ReuseGrace,
}

/// How long a provider accepts a refresh token that it has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReuseGrace {
    /// As long as it lives.
    Forever,
    /// So long, counted from when it was used.
    For(Duration),
}

impl Default for ReuseGrace {
    /// Not at all: RFC 9700 §4.14.2 wants the whole grant revoked then.
    fn default() -> Self {
        Self::For(Duration::ZERO)
    }
}

impl ReuseGrace {
    /// Whether a refresh token used at `used` may be used again `now`.
    pub(crate) fn permits(self, used: SystemTime, now: SystemTime) -> bool {
        match self {
            Self::Forever => true,
            Self::For(grace) => now.duration_since(used).is_ok_and(|age| age < grace),
        }
    }
}

/// A secret setting whose end is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownExpiry {
    /// The setting.
    pub secret: String,
    /// When it expires.
    pub expires_at: SystemTime,
    /// How that is known: `declared`, `certificate` or `vault`.
    pub source: &'static str,
}

/// Days from `now` until something ends, a begun one counted: 1 in its last hours, as the
/// notice before it says. 0 once it is over, and -1 a whole day later.
pub fn days_left(ends: SystemTime, now: SystemTime) -> i64 {
    const DAY: u64 = 24 * 60 * 60;
    let days = |span: u64| i64::try_from(span).unwrap_or(i64::MAX);
    match ends.duration_since(now) {
        Ok(left) => {
            let begun = u64::from(left.subsec_nanos() > 0);
            days((left.as_secs() + begun).div_ceil(DAY))
        }
        Err(over) => -days(over.duration().as_secs() / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_day_counts_and_what_is_over_has_none_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_000);
        let (day, instant) = (Duration::from_hours(24), Duration::from_nanos(1));

        for (ends, days) in [
            (now + day * 30, 30),
            (now + day * 30 + instant, 31),
            (now + day - instant, 1),
            (now + instant, 1),
            (now, 0),
            (now - instant, 0),
            (now - day + instant, 0),
            (now - day * 3, -3),
        ] {
            assert_eq!(days_left(ends, now), days);
        }
    }
}
