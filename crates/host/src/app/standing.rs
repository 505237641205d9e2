//! How an account's credential stands, for people, programs and scripts: what is known without
//! asking anybody.

use std::borrow::Cow;
use std::time::SystemTime;

use jiff::Timestamp;
use postrider_auth::{
    FailureStatus, GrantState, GrantStatus, Identity, KnownExpiry, RefreshTokenStatus, days_left,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::when;

/// How long before its end a secret is mentioned: the first of the keeper's notices.
const NEAR_DAYS: i64 = 30;

/// The fields that are points in time.
const TIMES: [&str; 10] = [
    "queued_at",
    "at",
    "expires_at",
    "issued_at",
    "lapses_at",
    "last_refreshed",
    "next_refresh",
    "remove_after",
    "retry_at",
    "since",
];

/// A point in time, as RFC 3339 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub SystemTime);

impl Moment {
    /// The same with seconds and the zone UTC; nothing for what no calendar reaches.
    pub fn timestamp(self) -> Option<Timestamp> {
        let timestamp = Timestamp::try_from(self.0).ok()?;
        Timestamp::from_second(timestamp.as_second()).ok()
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.timestamp() {
            Some(timestamp) => serializer.collect_str(&timestamp),
            None => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(Self(timestamp.into()))
    }
}

/// How an account's credential stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// `fresh`, `due`, `refreshing`, `degraded`, `reauthorization_required`, `absent`, or `none`
    /// where the plugin uses no tokens.
    pub state: Cow<'static, str>,
    /// Whether nothing can be sent before a person has signed in.
    pub sign_in_needed: bool,
    /// Why a person must sign in again: `revoked`, `expired`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The same in a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
    /// Which token of its grant the newest is; 0 before the first.
    pub generation: u64,
    /// When the access token expires.
    pub expires_at: Option<Moment>,
    /// When the next one is due.
    pub next_refresh: Option<Moment>,
    /// When this one came.
    pub last_refreshed: Option<Moment>,
    /// The refresh token, where there is one.
    pub refresh_token: Option<RefreshToken>,
    /// Scopes granted, separated by spaces.
    pub scope: Option<String>,
    /// What went wrong since the last success.
    pub last_failure: Option<LastFailure>,
    /// Who signed in.
    pub signed_in: Option<SignedIn>,
    /// Secrets of the account whose end is known, the nearest first.
    pub expires: Vec<Expiry>,
}

/// How a refresh token stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RefreshToken {
    /// When it came, or was last used.
    pub issued_at: Moment,
    /// When it lapses if nothing uses it.
    pub lapses_at: Option<Moment>,
}

/// What went wrong last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastFailure {
    /// When.
    pub at: Moment,
    /// What, in a line.
    pub message: String,
    /// When it is tried again.
    pub retry_at: Option<Moment>,
}

/// Who signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedIn {
    /// Every name the provider gave this person.
    pub usernames: Vec<String>,
    /// The name for people.
    pub name: Option<String>,
    /// Microsoft's tenant.
    pub tenant: Option<String>,
}

/// A secret whose end is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expiry {
    /// Its setting.
    pub secret: String,
    /// When it ends.
    pub expires_at: Moment,
    /// Days left, as [`days_left`] counts them.
    pub days: i64,
    /// How that is known: `declared`, `vault` or `certificate`.
    pub source: Cow<'static, str>,
}

impl Standing {
    pub(super) fn new(
        status: Option<GrantStatus>,
        expires: Vec<Expiry>,
        needs_person: bool,
    ) -> Self {
        let mut standing = Self {
            state: "none".into(),
            sign_in_needed: false,
            reason: None,
            message: None,
            since: None,
            generation: 0,
            expires_at: None,
            next_refresh: None,
            last_refreshed: None,
            refresh_token: None,
            scope: None,
            last_failure: None,
            signed_in: None,
            expires,
        };
        let Some(status) = status else {
            return standing;
        };
        standing.state = status.state.name().into();
        match status.state {
            GrantState::Absent => standing.sign_in_needed = needs_person,
            GrantState::ReauthorizationRequired {
                reason,
                message,
                since,
            } => {
                standing.sign_in_needed = true;
                standing.reason = Some(reason.name().into());
                standing.message = Some(message);
                standing.since = Some(Moment(since));
            }
            _ => {}
        }
        Self {
            generation: status.generation,
            expires_at: status.expires_at.map(Moment),
            next_refresh: status.next_refresh.map(Moment),
            last_refreshed: status.last_refreshed.map(Moment),
            refresh_token: status.refresh_token.map(RefreshToken::from),
            scope: status.scope,
            last_failure: status.last_failure.map(LastFailure::from),
            signed_in: status.identity.as_ref().map(SignedIn::from),
            ..standing
        }
    }
}

impl Expiry {
    /// Whether somebody should see to it by now.
    pub fn is_near(&self) -> bool {
        self.days <= NEAR_DAYS
    }

    /// `client_secret expires in 12 d (2026-12-05)`.
    pub fn in_words(&self, now: SystemTime) -> String {
        let verb = if self.days < 1 { "expired" } else { "expires" };
        format!(
            "{} {verb} {} ({})",
            self.secret,
            when::end(self.expires_at, now),
            when::day(self.expires_at)
        )
    }

    fn new(known: &KnownExpiry, now: SystemTime) -> Self {
        Self {
            secret: known.secret.clone(),
            expires_at: Moment(known.expires_at),
            days: days_left(known.expires_at, now),
            source: known.source.into(),
        }
    }
}

impl From<RefreshTokenStatus> for RefreshToken {
    fn from(status: RefreshTokenStatus) -> Self {
        Self {
            issued_at: Moment(status.issued_at),
            lapses_at: status.lapses_at.map(Moment),
        }
    }
}

impl From<FailureStatus> for LastFailure {
    fn from(status: FailureStatus) -> Self {
        Self {
            at: Moment(status.at),
            message: status.message,
            retry_at: status.retry_at.map(Moment),
        }
    }
}

impl From<&Identity> for SignedIn {
    fn from(identity: &Identity) -> Self {
        Self {
            usernames: identity.usernames.clone(),
            name: identity.name.clone(),
            tenant: identity.tenant.clone(),
        }
    }
}

/// Whether somebody should see to what ends then.
pub fn is_near(ends: SystemTime, now: SystemTime) -> bool {
    days_left(ends, now) <= NEAR_DAYS
}

/// These, the nearest first.
pub(super) fn expiries(known: &[KnownExpiry], now: SystemTime) -> Vec<Expiry> {
    let mut expiries: Vec<_> = known.iter().map(|one| Expiry::new(one, now)).collect();
    expiries.sort_by_key(|one| one.expires_at);
    expiries
}

/// The same with times as scripts have them: seconds since 1970.
pub(super) fn for_scripts(value: &impl Serialize) -> Value {
    fn convert(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    let seconds = value
                        .as_str()
                        .filter(|_| TIMES.contains(&key.as_str()))
                        .and_then(|text| text.parse::<Timestamp>().ok())
                        .map(Timestamp::as_second);
                    match seconds {
                        Some(seconds) => *value = seconds.into(),
                        None => convert(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(convert),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(value).unwrap_or_default();
    convert(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn scripts_get_seconds_and_nothing_else_changes() {
        let moment = Moment(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        let value = json!({
            "expires_at": moment,
            "next_refresh": null,
            "last_failure": { "at": moment, "message": "1970-01-01T00:00:01Z" },
            "expires": [{ "secret": "client_secret", "expires_at": moment }],
        });
        assert_eq!(value["expires_at"], "1970-01-01T00:00:01Z");

        let converted = for_scripts(&value);

        assert_eq!(converted["expires_at"], 1);
        assert_eq!(converted["next_refresh"], Value::Null);
        assert_eq!(converted["last_failure"]["at"], 1);
        assert_eq!(converted["last_failure"]["message"], "1970-01-01T00:00:01Z");
        assert_eq!(converted["expires"][0]["expires_at"], 1);
    }
}
