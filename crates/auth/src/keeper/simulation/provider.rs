//! A token endpoint that rotates refresh tokens, notices when one is used again, and fails
//! as it is told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::history::Verdict;

/// What a provider does with refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Custom {
    /// There are none: the client vouches for itself.
    AppOnly,
    /// One for ever.
    Static,
    /// A new one each time; the old ones stay good (Entra ID).
    Lenient,
    /// A new one each time; an old one that comes back later than this after it was
    /// superseded ends the whole family.
    Strict { grace: Duration },
}

/// How a provider fails while it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 400 `invalid_request`.
    InvalidRequest,
    /// 401 and no JSON.
    Junk,
    /// 429.
    TooMany { retry_after: Option<u64> },
    /// 500.
    Broken,
    /// 200 and a web page.
    Html,
    /// It never answers.
    Hang,
    /// It does what was asked, and the connection breaks before the answer.
    Lost,
    /// It does what was asked, and the answer never comes.
    LostSlowly,
    /// `invalid_client`.
    InvalidClient,
    /// The family ends: `invalid_grant`.
    Revoked,
    /// `interaction_required`: the refresh token is good, but not enough.
    Interaction,
    /// A token that has expired already.
    Expired,
    /// No new refresh token: the one presented stays.
    Keeps,
    /// The token says to be refreshed after a tenth of its life.
    RefreshIn,
}

/// A grant as the provider knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) custom: Custom,
    pub(super) lifetime: Duration,
}

/// A fault, and when it strikes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) from: Duration,
    pub(super) to: Duration,
    /// None: every grant's requests.
    pub(super) grant: Option<usize>,
    pub(super) fault: Fault,
}

/// What the provider answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    /// What is in the way of it.
    pub(super) fault: Option<Fault>,
    pub(super) refresh_in: Option<Duration>,
}

/// One provider.
pub(super) struct Provider {
    weather: Vec<Weather>,
    families: Mutex<Vec<Family>>,
}

struct Family {
    terms: Terms,
    access: u32,
    /// The newest refresh token; its number grows by one with each.
    refresh: u32,
    /// The first refresh token of those from the last sign-in.
    first: u32,
    superseded: BTreeMap<u32, Duration>,
    over: bool,
}

impl Provider {
    pub(super) fn new(terms: &[Terms], weather: Vec<Weather>) -> Self {
        let family = |&terms: &Terms| Family {
            terms,
            access: 0,
            refresh: 0,
            first: 0,
            superseded: BTreeMap::new(),
            over: false,
        };
        Self {
            weather,
            families: Mutex::new(terms.iter().map(family).collect()),
        }
    }

    /// A person signs in: the tokens of a new family.
    pub(super) fn sign_in(&self, grant: usize) -> (u32, Option<u32>) {
        let family = &mut self.families.lock().unwrap()[grant];
        family.access += 1;
        family.over = false;
        if family.terms.custom == Custom::AppOnly {
            return (family.access, None);
        }
        family.refresh += 1;
        family.first = family.refresh;
        family.superseded.clear();
        (family.access, Some(family.refresh))
    }

    /// A request for `grant` with this refresh token arrives at `now`.
    pub(super) fn ask(&self, grant: usize, refresh: Option<u32>, now: Duration) -> Answer {
        let fault = self.weather(grant, now);
        let mut families = self.families.lock().unwrap();
        let family = &mut families[grant];
        let verdict = match fault {
            Some(
                Fault::InvalidRequest
                | Fault::Junk
                | Fault::TooMany { .. }
                | Fault::Broken
                | Fault::Html
                | Fault::Hang
                | Fault::InvalidClient,
            ) => Verdict::Failure,
            Some(Fault::Revoked | Fault::Interaction) if refresh.is_none() => Verdict::Failure,
            Some(Fault::Interaction) => Verdict::Over,
            Some(Fault::Revoked) => {
                family.over = true;
                Verdict::Over
            }
            _ => family.refresh(refresh, now, fault),
        };
        let refresh_in = (fault == Some(Fault::RefreshIn)).then_some(family.terms.lifetime / 10);
        Answer {
            verdict,
            fault,
            refresh_in,
        }
    }

    fn weather(&self, grant: usize, now: Duration) -> Option<Fault> {
        let strikes = |weather: &&Weather| {
            (weather.from..weather.to).contains(&now)
                && weather.grant.is_none_or(|only| only == grant)
        };
        self.weather
            .iter()
            .find(strikes)
            .map(|weather| weather.fault)
    }
}

impl Family {
    fn refresh(&mut self, refresh: Option<u32>, now: Duration, fault: Option<Fault>) -> Verdict {
        let next = match (self.terms.custom, refresh) {
            (Custom::AppOnly, _) => None,
            (_, None) => return Verdict::Failure,
            (_, Some(refresh)) if self.over || !(self.first..=self.refresh).contains(&refresh) => {
                return Verdict::Over;
            }
            (Custom::Static, Some(_)) => None,
            (Custom::Strict { grace }, Some(refresh))
                if self
                    .superseded
                    .get(&refresh)
                    .is_some_and(|&since| now > since + grace) =>
            {
                self.over = true;
                return Verdict::Over;
            }
            (_, Some(_)) if fault == Some(Fault::Keeps) => None,
            (_, Some(refresh)) => {
                self.superseded.entry(refresh).or_insert(now);
                self.superseded.entry(self.refresh).or_insert(now);
                self.refresh += 1;
                Some(self.refresh)
            }
        };
        self.access += 1;
        Verdict::Tokens {
            access: self.access,
            refresh: next,
            lifetime: match fault {
                Some(Fault::Expired) => Duration::ZERO,
                _ => self.terms.lifetime,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn provider(custom: Custom, weather: Vec<Weather>) -> Provider {
        let terms = Terms {
            custom,
            lifetime: HOUR,
        };
        Provider::new(&[terms], weather)
    }

    fn tokens(provider: &Provider, refresh: u32, at: u64) -> Option<(u32, Option<u32>)> {
        let at = Duration::from_secs(at);
        match provider.ask(0, Some(refresh), at).verdict {
            Verdict::Tokens {
                access, refresh, ..
            } => Some((access, refresh)),
            _ => None,
        }
    }

    #[test]
    fn a_strict_provider_ends_the_family_when_an_old_refresh_token_returns() {
        let provider = provider(
            Custom::Strict {
                grace: Duration::from_secs(30),
            },
            Vec::new(),
        );
        assert_eq!(provider.sign_in(0), (1, Some(1)));
        assert_eq!(tokens(&provider, 1, 0), Some((2, Some(2))));
        assert_eq!(tokens(&provider, 1, 30), Some((3, Some(3))), "within grace");
        assert_eq!(tokens(&provider, 3, 40), Some((4, Some(4))));
        assert_eq!(tokens(&provider, 1, 61), None, "reuse");
        assert_eq!(tokens(&provider, 4, 62), None, "the whole family is over");

        assert_eq!(provider.sign_in(0), (5, Some(5)));
        assert_eq!(tokens(&provider, 4, 63), None, "of the family before");
        assert_eq!(tokens(&provider, 5, 63), Some((6, Some(6))));
    }

    #[test]
    fn a_lenient_provider_takes_old_ones_and_a_static_one_has_only_one() {
        let lenient = provider(Custom::Lenient, Vec::new());
        lenient.sign_in(0);
        assert_eq!(tokens(&lenient, 1, 0), Some((2, Some(2))));
        assert_eq!(tokens(&lenient, 1, 9999), Some((3, Some(3))));

        let fixed = provider(Custom::Static, Vec::new());
        fixed.sign_in(0);
        assert_eq!(tokens(&fixed, 1, 0), Some((2, None)));
        assert_eq!(tokens(&fixed, 1, 9999), Some((3, None)));
    }

    #[test]
    fn a_lost_answer_has_rotated_and_another_fault_has_not() {
        let strike = |from, fault| Weather {
            from: Duration::from_secs(from),
            to: Duration::from_secs(from + 1),
            grant: None,
            fault,
        };
        let weather = vec![strike(0, Fault::Broken), strike(1, Fault::Lost)];
        let provider = provider(
            Custom::Strict {
                grace: Duration::ZERO,
            },
            weather,
        );
        provider.sign_in(0);
        assert_eq!(tokens(&provider, 1, 0), None);
        let lost = provider.ask(0, Some(1), Duration::from_secs(1));
        assert_eq!(lost.fault, Some(Fault::Lost));
        assert!(matches!(lost.verdict, Verdict::Tokens { .. }));
        assert_eq!(tokens(&provider, 1, 2), None, "that was reuse");
    }
}
