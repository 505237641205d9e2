//! When a token is due, and when to try again: arithmetic on times of day, nothing else.

use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::mutation::mutated;
use super::parameters::{GrantPolicy, Parameters};
use super::record::{Access, Record, Refresh};
use super::store::GrantKey;

/// The times in an access token's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// When it was asked for.
    pub(crate) issued_at: SystemTime,
    /// From here on the next one is fetched.
    pub(crate) soft: SystemTime,
    /// From here on something is wrong if it has not been.
    pub(crate) hard: SystemTime,
    /// From here on it is not handed out.
    pub(crate) floor: SystemTime,
    pub(crate) expires_at: SystemTime,
}

/// A refresh token that lives for less than twice this long is not kept alive: its provider
/// would be asked without end.
const IDLE_AT_LEAST: Duration = Duration::from_secs(30);

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// Nothing needs doing.
    Fresh,
    /// It is handed out, and the next one is fetched.
    Due,
    /// It claims to be of the future: the clock was set back, and how much of its life is
    /// left cannot be told.
    Doubtful,
    /// It is not handed out.
    Unfit,
}

impl Fitness {
    /// Whether the token can be handed out without another thought.
    pub(crate) fn is_fit(self) -> bool {
        matches!(self, Self::Fresh | Self::Due)
    }
}

impl Life {
    /// The life of the token of `generation`.
    pub(crate) fn new(
        access: &Access,
        key: &GrantKey,
        generation: u64,
        parameters: &Parameters,
    ) -> Self {
        let lifetime = access
            .expires_at
            .duration_since(access.issued_at)
            .unwrap_or_default();
        let before = |window: Duration, fraction: f64| {
            let window = window.min(lifetime.mul_f64(fraction.clamp(0.0, 1.0)));
            access
                .expires_at
                .checked_sub(window)
                .unwrap_or(access.issued_at)
        };
        let hard = before(parameters.hard_window, parameters.hard_fraction);
        let wished = access.refresh_at.map_or_else(
            || lifetime.mul_f64(parameters.soft_fraction.clamp(0.0, 1.0)),
            |at| at.duration_since(access.issued_at).unwrap_or_default(),
        );
        let early = lifetime
            .mul_f64(parameters.jitter_fraction.clamp(0.0, 1.0))
            .mul_f64(unit(parameters.seed, key, generation, 0));
        // However soon the provider would like it: a tenth of a life is lived first.
        let after = wished
            .min(lifetime)
            .saturating_sub(early)
            .max(lifetime / 10);
        Self {
            issued_at: access.issued_at,
            soft: (access.issued_at + after).min(hard),
            hard,
            floor: if mutated!(HasNoFloor) {
                access.expires_at
            } else {
                before(parameters.use_floor, parameters.floor_fraction)
            },
            expires_at: access.expires_at,
        }
    }

    /// What the token is good for `now`.
    pub(crate) fn fitness(&self, now: SystemTime) -> Fitness {
        // An error of the clock that the floor makes up for is none.
        let slack = self
            .expires_at
            .duration_since(self.floor)
            .unwrap_or_default();
        if now >= self.floor {
            Fitness::Unfit
        } else if now + slack < self.issued_at {
            Fitness::Doubtful
        } else if now >= self.soft {
            Fitness::Due
        } else {
            Fitness::Fresh
        }
    }
}

/// How long to leave a grant in peace after `attempts` failures in a row: full jitter, so
/// that those who failed together do not come back together.
pub(crate) fn backoff(
    key: &GrantKey,
    generation: u64,
    attempts: u32,
    parameters: &Parameters,
) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    let longest = parameters
        .backoff
        .saturating_mul(1 << doublings)
        .min(parameters.backoff_cap);
    let wait = longest.mul_f64(unit(parameters.seed, key, generation, attempts));
    wait.max(Duration::from_secs(1))
}

/// When the refresh token lapses unused, as far as anybody knows.
pub(crate) fn lapses_at(refresh: &Refresh, policy: GrantPolicy) -> Option<SystemTime> {
    let by_policy = || {
        let lifetime = policy.refresh_token_lifetime?;
        refresh.issued_at.checked_add(lifetime)
    };
    refresh.lapses_at.or_else(by_policy)
}

/// When a grant that nobody uses is refreshed so that its refresh token does not lapse.
pub(crate) fn idle_at(
    record: &Record,
    policy: GrantPolicy,
    parameters: &Parameters,
) -> Option<SystemTime> {
    let refresh = record.refresh.as_ref()?;
    let life = lapses_at(refresh, policy)?
        .duration_since(refresh.issued_at)
        .unwrap_or_default();
    let after = life.mul_f64(parameters.idle_fraction.clamp(0.0, 1.0));
    Some(refresh.issued_at + after.max(IDLE_AT_LEAST))
}

/// A number from 0 to 1 that depends on nothing but its arguments.
fn unit(seed: u64, key: &GrantKey, generation: u64, attempt: u32) -> f64 {
    let mut digest = Sha256::new();
    digest.update(seed.to_be_bytes());
    digest.update(key.0);
    digest.update(generation.to_be_bytes());
    digest.update(attempt.to_be_bytes());
    let digest = digest.finalize();
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use postrider_plugin::wire::Secret;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn life(lifetime: u64, refresh_in: Option<u64>, key: u8) -> Life {
        let access = Access {
            token: Secret::new("t"),
            token_type: None,
            issued_at: at(1000),
            expires_at: at(1000 + lifetime),
            refresh_at: refresh_in.map(|after| at(1000 + after)),
        };
        Life::new(&access, &GrantKey([key; 32]), 1, &Parameters::default())
    }

    #[test]
    fn an_hours_token_is_due_between_two_and_three_fifths_and_served_to_its_last_minute() {
        for key in 0..200 {
            let life = life(3600, None, key);
            assert!((at(2440)..=at(3160)).contains(&life.soft), "{life:?}");
            assert_eq!((life.hard, life.floor), (at(4300), at(4540)));
        }
        let spread: std::collections::BTreeSet<_> =
            (0..200).map(|key| life(3600, None, key).soft).collect();
        assert!(spread.len() > 190, "the jitter spreads");
    }

    #[test]
    fn a_short_token_has_short_windows() {
        let short = life(100, None, 1);
        assert_eq!((short.hard, short.floor), (at(1080), at(1095)));
        assert_eq!(life(0, None, 1).fitness(at(1000)), Fitness::Unfit);
    }

    #[test]
    fn the_provider_s_own_wish_counts_but_not_beyond_the_hard_window() {
        assert!((at(2080)..=at(2800)).contains(&life(3600, Some(1800), 1).soft));
        assert!(life(3600, Some(100_000), 1).soft <= at(4300));
        assert_eq!(life(3600, Some(0), 1).soft, at(1360));
    }

    #[test]
    fn fitness_follows_the_clock_and_doubts_what_comes_from_the_future() {
        let life = life(3600, None, 1);
        for (now, fitness) in [
            (at(0), Fitness::Doubtful),
            (at(939), Fitness::Doubtful),
            (at(940), Fitness::Fresh),
            (at(1000), Fitness::Fresh),
            (life.soft, Fitness::Due),
            (at(4539), Fitness::Due),
            (at(4540), Fitness::Unfit),
            (at(90_000), Fitness::Unfit),
        ] {
            assert_eq!(life.fitness(now), fitness, "{now:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_their_cap_and_differ_from_grant_to_grant() {
        let parameters = Parameters::default();
        let pause = |key, attempts| backoff(&GrantKey([key; 32]), 1, attempts, &parameters);
        for (attempts, longest) in [(1, 5), (2, 10), (3, 20), (7, 300), (1000, 300)] {
            let longest = Duration::from_secs(longest);
            let pauses: Vec<_> = (0..100).map(|key| pause(key, attempts)).collect();
            assert!(
                pauses
                    .iter()
                    .all(|pause| (Duration::from_secs(1)..=longest).contains(pause))
            );
            assert!(pauses.iter().any(|pause| *pause > longest / 2));
        }
        assert_eq!(pause(1, 3), pause(1, 3));
    }

    #[test]
    fn an_unused_refresh_token_is_used_at_half_its_life() {
        let record = |lapses_at| Record {
            refresh: Some(Refresh {
                token: Secret::new("r"),
                issued_at: at(1000),
                lapses_at,
            }),
            ..Record::default()
        };
        let policy = GrantPolicy {
            refresh_token_lifetime: Some(Duration::from_secs(400)),
            ..GrantPolicy::default()
        };
        let parameters = Parameters::default();
        let idle = |record: &Record, policy| idle_at(record, policy, &parameters);

        assert_eq!(idle(&record(None), policy), Some(at(1200)));
        assert_eq!(idle(&record(Some(at(1100))), policy), Some(at(1050)));
        assert_eq!(idle(&record(Some(at(1002))), policy), Some(at(1030)));
        assert_eq!(idle(&record(None), GrantPolicy::default()), None);
        assert_eq!(idle(&Record::default(), policy), None);
    }
}
