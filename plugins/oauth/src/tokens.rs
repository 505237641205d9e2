//! A token endpoint's success (RFC 6749 §5.1), as forgiving as real providers need.

use std::time::Duration;

use oauth2::helpers::{deserialize_space_delimited_vec, serialize_space_delimited_vec};
use oauth2::{AccessToken, RefreshToken, Scope, TokenResponse, TokenType};
use postrider_plugin::wire::{Secret, Tokens};
use postrider_plugin::{Error, ErrorKind};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The members this plugin uses. `Debug` shows none of the tokens.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Granted {
    access_token: AccessToken,
    token_type: Kind,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    refresh_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<RefreshToken>,
    /// How long the refresh token lives, under the two names in use: RFC 6749 has none.
    #[serde(default, deserialize_with = "lenient_seconds")]
    refresh_token_expires_in: Option<u64>,
    #[serde(default, deserialize_with = "lenient_seconds")]
    refresh_expires_in: Option<u64>,
    #[serde(
        default,
        rename = "scope",
        deserialize_with = "deserialize_space_delimited_vec",
        serialize_with = "serialize_space_delimited_vec"
    )]
    scopes: Option<Vec<Scope>>,
    /// Not an access token, but as secret as one.
    #[serde(default)]
    id_token: Option<AccessToken>,
}

/// `token_type`, in the provider's spelling.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Kind(String);

impl TokenType for Kind {}

impl TokenResponse for Granted {
    type TokenType = Kind;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &Kind {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        self.scopes.as_ref()
    }
}

impl Granted {
    /// The tokens as the host wants them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] for an empty access token, and for one that is no bearer
    /// token (RFC 6750): the SASL mechanisms here carry no other.
    pub(crate) fn into_tokens(self) -> Result<Tokens, Error> {
        if !self.token_type.0.eq_ignore_ascii_case("bearer") {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the provider issued a token whose token_type is not Bearer",
            ));
        }
        if self.access_token.secret().is_empty() {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the provider issued an empty access token",
            ));
        }
        let scope = self.scopes.map(|scopes| {
            let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
            scopes.join(" ")
        });
        Ok(Tokens {
            access_token: Secret::new(self.access_token.into_secret()),
            token_type: Some("Bearer".to_owned()),
            expires_in: self.expires_in,
            refresh_in: self.refresh_in,
            refresh_token: present(self.refresh_token.map(RefreshToken::into_secret)),
            refresh_token_expires_in: self.refresh_token_expires_in.or(self.refresh_expires_in),
            scope: scope.filter(|scope| !scope.is_empty()),
            id_token: present(self.id_token.map(AccessToken::into_secret)),
            identity: None,
        })
    }
}

/// Some providers send empty strings for tokens they do not issue.
fn present(token: Option<String>) -> Option<Secret> {
    token
        .map(Secret::new)
        .filter(|token| !token.expose().is_empty())
}

/// Seconds, where what is unreadable says nothing. Keycloak's 0 is a refresh token without an
/// end (an offline session).
fn lenient_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let said = match Value::deserialize(from)? {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    };
    Ok(said.filter(|seconds| *seconds > 0))
}

/// Seconds as a number, or as a string of digits.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let wrong = || serde::de::Error::custom("not a number of seconds");
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::Number(number) => number.as_u64().map(Some).ok_or_else(wrong),
        Value::String(digits) if digits.is_empty() => Ok(None),
        Value::String(digits) => digits.parse().map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}
