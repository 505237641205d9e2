//! A grant as it is kept: versioned JSON.
//!
//! Whoever reads ignores fields it does not know and does not write them back; another
//! version is refused. Times are milliseconds since the Unix epoch.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postrider_plugin::wire::{Identity, Secret};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::mutation::mutated;
use super::parameters::ReuseGrace;
use super::status::Reason;
use super::store::StoreError;
use super::token::Obtained;
use crate::clock::unix_ms;
use crate::error::{AuthError, AuthErrorKind};

const VERSION: u32 = 1;

/// Room for everything in a record but its tokens: the buffer does not grow while it holds
/// them, for growing leaves copies behind.
const ROOM: usize = 16 << 10;

/// What is kept of a grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which token is the newest; grows with each.
    pub(crate) generation: u64,
    pub(crate) access: Option<Access>,
    pub(crate) refresh: Option<Refresh>,
    /// The refresh token before, where the provider would still accept it.
    pub(crate) previous_refresh: Option<Secret>,
    /// A request with the refresh token is under way, or was when its process ended.
    pub(crate) intent: Option<Intent>,
    /// A mail server refused the access token.
    #[serde(default)]
    pub(crate) spoilt: bool,
    /// When a mail server last did.
    #[serde(default, with = "optional_time")]
    pub(crate) forced_at: Option<SystemTime>,
    /// When the tokens came.
    #[serde(default, with = "optional_time")]
    pub(crate) refreshed_at: Option<SystemTime>,
    pub(crate) scope: Option<String>,
    pub(crate) identity: Option<Identity>,
    /// Whose it is, for whoever clears up.
    pub(crate) owner: Option<Owner>,
    /// What went wrong since.
    pub(crate) failure: Option<Failed>,
    /// A person must sign in; nothing is asked of the provider.
    pub(crate) retired: Option<Retired>,
}

/// For whom a grant is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The account that kept it last, of those that use it.
    pub(crate) account: String,
    /// None where it is an application's.
    pub(crate) username: Option<String>,
}

/// An access token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) token: Secret,
    pub(crate) token_type: Option<String>,
    /// When it was asked for.
    #[serde(with = "time")]
    pub(crate) issued_at: SystemTime,
    #[serde(with = "time")]
    pub(crate) expires_at: SystemTime,
    /// When the provider would like it refreshed.
    #[serde(default, with = "optional_time")]
    pub(crate) refresh_at: Option<SystemTime>,
}

/// A refresh token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refresh {
    pub(crate) token: Secret,
    /// When it was received, or last used.
    #[serde(with = "time")]
    pub(crate) issued_at: SystemTime,
    /// When it lapses, if the provider said so.
    #[serde(default, with = "optional_time")]
    pub(crate) lapses_at: Option<SystemTime>,
}

/// A refresh token is about to be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The generation it is to replace.
    pub(crate) generation: u64,
    /// SHA-256 of the refresh token, in hex.
    pub(crate) refresh_sha256: String,
    #[serde(with = "time")]
    pub(crate) at: SystemTime,
}

impl Intent {
    pub(crate) fn new(generation: u64, refresh: &Secret, at: SystemTime) -> Self {
        Self {
            generation,
            refresh_sha256: sha256_hex(refresh),
            at,
        }
    }

    /// Whether this is about the refresh token that `record` has.
    pub(crate) fn concerns(&self, record: &Record) -> bool {
        record
            .refresh
            .as_ref()
            .is_some_and(|refresh| self.refresh_sha256 == sha256_hex(&refresh.token))
    }
}

fn sha256_hex(token: &Secret) -> String {
    let digest = Sha256::digest(token.expose().as_bytes());
    digest.iter().fold(String::new(), |mut hex, octet| {
        let _ = write!(hex, "{octet:02x}");
        hex
    })
}

/// A refresh that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failed {
    #[serde(with = "time")]
    pub(crate) at: SystemTime,
    /// How many in a row.
    pub(crate) attempts: u32,
    /// Nobody asks before; none where something may be put right at any moment.
    #[serde(default, with = "optional_time")]
    pub(crate) retry_at: Option<SystemTime>,
    /// Whether the provider named that time.
    #[serde(default)]
    pub(crate) asked: bool,
    pub(crate) why: Why,
}

/// Nobody asks for a token until somebody signs in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Retired {
    pub(crate) reason: Reason,
    #[serde(with = "time")]
    pub(crate) since: SystemTime,
    /// Whether somebody heard of it.
    #[serde(default)]
    pub(crate) told: bool,
    pub(crate) why: Why,
}

/// An error, to be told again by whoever reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Why {
    kind: Kind,
    pub(crate) message: String,
    oauth_error: Option<String>,
    oauth_suberror: Option<String>,
    oauth_description: Option<String>,
    user_url: Option<String>,
}

/// The kinds of error that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Config,
    NeedsUser,
    InvalidGrant,
    Transient,
    Denied,
    Protocol,
    Unsupported,
    #[serde(other)]
    Internal,
}

impl Why {
    pub(crate) fn new(error: &AuthError) -> Self {
        let kind = match error.kind {
            AuthErrorKind::Config => Kind::Config,
            AuthErrorKind::NeedsUser => Kind::NeedsUser,
            AuthErrorKind::InvalidGrant => Kind::InvalidGrant,
            AuthErrorKind::Transient => Kind::Transient,
            AuthErrorKind::Denied => Kind::Denied,
            AuthErrorKind::Protocol => Kind::Protocol,
            AuthErrorKind::Unsupported => Kind::Unsupported,
            AuthErrorKind::Internal | AuthErrorKind::Unresponsive => Kind::Internal,
        };
        Self {
            kind,
            message: error.message.clone(),
            oauth_error: error.oauth_error.clone(),
            oauth_suberror: error.oauth_suberror.clone(),
            oauth_description: error.oauth_description.clone(),
            user_url: error.user_url.clone(),
        }
    }

    /// The error, as one of `account`'s.
    pub(crate) fn error(&self, account: &str, retry_after: Option<Duration>) -> AuthError {
        let kind = match self.kind {
            Kind::Config => AuthErrorKind::Config,
            Kind::NeedsUser => AuthErrorKind::NeedsUser,
            Kind::InvalidGrant => AuthErrorKind::InvalidGrant,
            Kind::Transient => AuthErrorKind::Transient,
            Kind::Denied => AuthErrorKind::Denied,
            Kind::Protocol => AuthErrorKind::Protocol,
            Kind::Unsupported => AuthErrorKind::Unsupported,
            Kind::Internal => AuthErrorKind::Internal,
        };
        AuthError {
            oauth_error: self.oauth_error.clone(),
            oauth_suberror: self.oauth_suberror.clone(),
            oauth_description: self.oauth_description.clone(),
            user_url: self.user_url.clone(),
            retry_after,
            ..AuthError::new(account, kind, self.message.clone())
        }
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    value: &'a T,
}

impl Record {
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, StoreError> {
        decode(octets)
    }

    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        encode(self, ROOM + self.token_octets())
    }

    /// Becomes the record of `generation`, with what a flow brought.
    pub(crate) fn renew(&mut self, generation: u64, obtained: Obtained, grace: ReuseGrace) {
        let issued_at = if mutated!(NeverGoesBack) {
            obtained
                .requested_at
                .max(self.refreshed_at.unwrap_or(UNIX_EPOCH))
        } else {
            obtained.requested_at
        };
        let after = |wait: Duration| issued_at.checked_add(wait);
        let old = self.refresh.take();
        let replaced = obtained.refresh.is_some();
        self.previous_refresh = old
            .as_ref()
            .filter(|_| replaced && grace.permits(issued_at, issued_at))
            .map(|old| old.token.clone());
        // RFC 6749 §6: without a new refresh token the old one stays.
        let kept_until = old.as_ref().and_then(|old| old.lapses_at);
        let token = obtained.refresh.or(old.map(|old| old.token));
        self.refresh = token.map(|token| Refresh {
            token,
            issued_at,
            lapses_at: obtained
                .refresh_lifetime
                // Keycloak says so of one that does not lapse.
                .filter(|lifetime| !lifetime.is_zero())
                .and_then(after)
                .or(kept_until.filter(|_| !replaced)),
        });
        self.generation = generation;
        self.access = after(obtained.lifetime).map(|expires_at| Access {
            token: Secret::new(obtained.access.expose_secret()),
            token_type: obtained.token_type,
            issued_at,
            expires_at,
            refresh_at: obtained.refresh_in.and_then(after),
        });
        self.refreshed_at = Some(issued_at);
        self.scope = obtained.scope.or(self.scope.take());
        self.identity = obtained.identity.or(self.identity.take());
        self.intent = None;
        self.spoilt = false;
        self.failure = None;
        self.retired = None;
    }

    fn token_octets(&self) -> usize {
        let tokens = [
            self.access.as_ref().map(|access| &access.token),
            self.refresh.as_ref().map(|refresh| &refresh.token),
            self.previous_refresh.as_ref(),
        ];
        let octets = |token: &Secret| 2 * token.expose().len();
        tokens.into_iter().flatten().map(octets).sum()
    }
}

/// What was told of one secret's expiry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// The smallest threshold that somebody heard of, in days.
    pub(crate) told: Option<u32>,
}

impl Notice {
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, StoreError> {
        decode(octets)
    }

    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        encode(self, 64)
    }
}

fn decode<T: for<'de> Deserialize<'de>>(octets: &[u8]) -> Result<T, StoreError> {
    // What is wrong with it is not quoted: it holds secrets.
    let damaged = |_| StoreError::new("a stored record is not what postrider wrote", true);
    let Version { version } = serde_json::from_slice(octets).map_err(damaged)?;
    if version != VERSION {
        let message = format!(
            "a stored record is of version {version}; this postrider knows version {VERSION}"
        );
        return Err(StoreError::new(message, true));
    }
    serde_json::from_slice(octets).map_err(damaged)
}

fn encode(value: &impl Serialize, room: usize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut octets = Zeroizing::new(Vec::with_capacity(room));
    let versioned = Versioned {
        version: VERSION,
        value,
    };
    serde_json::to_writer(&mut *octets, &versioned)
        .map_err(|_| StoreError::new("a record does not fit into json", true))?;
    Ok(octets)
}

fn from_ms(ms: u64) -> SystemTime {
    // A time beyond what the system can express is none we wrote.
    UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .unwrap_or(UNIX_EPOCH)
}

mod time {
    use super::{Deserialize, Deserializer, Serializer, SystemTime, from_ms, unix_ms};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(unix_ms(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        u64::deserialize(from).map(from_ms)
    }
}

mod optional_time {
    use super::{Deserialize, Deserializer, Serialize, Serializer, SystemTime, from_ms, unix_ms};

    #[allow(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        at: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(unix_ms).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(from_ms))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> Record {
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let error = AuthError {
            retry_after: Some(Duration::from_secs(7)),
            oauth_error: Some("temporarily_unavailable".into()),
            ..AuthError::new("ops", AuthErrorKind::Transient, "busy")
        };
        Record {
            generation: 3,
            access: Some(Access {
                token: Secret::new("access-canary"),
                token_type: Some("Bearer".into()),
                issued_at: at,
                expires_at: at + Duration::from_hours(1),
                refresh_at: None,
            }),
            refresh: Some(Refresh {
                token: Secret::new("refresh-canary"),
                issued_at: at,
                lapses_at: Some(at + Duration::from_hours(2)),
            }),
            previous_refresh: Some(Secret::new("previous-canary")),
            intent: Some(Intent::new(3, &Secret::new("refresh-canary"), at)),
            spoilt: true,
            forced_at: Some(at),
            refreshed_at: Some(at),
            scope: Some("send".into()),
            identity: Some(Identity::default()),
            owner: Some(Owner {
                account: "ops".into(),
                username: Some("ops@example.org".into()),
            }),
            failure: Some(Failed {
                at,
                attempts: 2,
                retry_at: Some(at),
                asked: true,
                why: Why::new(&error),
            }),
            retired: Some(Retired {
                reason: Reason::LostRotation,
                since: at,
                told: true,
                why: Why::new(&error),
            }),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_kept() {
        for record in [full(), Record::default()] {
            let octets = record.encode().unwrap();
            assert_eq!(Record::decode(&octets).unwrap(), record);
        }
        assert!(full().intent.unwrap().concerns(&full()));
        assert!(!full().intent.unwrap().concerns(&Record::default()));
    }

    #[test]
    fn the_buffer_that_holds_tokens_does_not_grow() {
        let mut record = full();
        record.previous_refresh = Some(Secret::new("p".repeat(60_000)));
        let octets = record.encode().unwrap();
        assert_eq!(octets.capacity(), ROOM + record.token_octets());
    }

    #[test]
    fn unknown_fields_are_ignored_and_unknown_versions_refused() {
        let mut newer: Value = serde_json::from_slice(&full().encode().unwrap()).unwrap();
        newer["colour"] = json!("green");
        assert_eq!(
            Record::decode(newer.to_string().as_bytes()).unwrap(),
            full()
        );
        newer["version"] = json!(2);
        let error = Record::decode(newer.to_string().as_bytes()).unwrap_err();
        assert!(
            error.lasting && error.message.contains("version 2"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_record_is_told_without_its_content() {
        for garbage in [
            "",
            "refresh-canary",
            r#"{"version":1,"generation":"refresh-canary"}"#,
        ] {
            let error = Record::decode(garbage.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        assert!(!format!("{:?}", full()).contains("-canary\""));
    }
}
