//! SASL with an access token: XOAUTH2 (Google, Microsoft) and OAUTHBEARER (RFC 7628).
//!
//! Both put names and token between `^A` octets, so neither may hold one.

use postrider_plugin::wire::{Octets, SaslInput};
use postrider_plugin::{Error, ErrorKind, Io};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::refusal::bounded;
use crate::settings::misfit;

/// A SASL mechanism that carries an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) enum Mechanism {
    /// `XOAUTH2`.
    #[serde(rename = "XOAUTH2")]
    XOAuth2,
    /// `OAUTHBEARER` (RFC 7628).
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
}

impl Mechanism {
    /// The order used unless the settings give another: XOAUTH2 first, since where both are
    /// offered it is the one the provider's own clients exercise.
    pub(crate) const PREFERENCE: [Self; 2] = [Self::XOAuth2, Self::OAuthBearer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::XOAuth2 => "XOAUTH2",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    fn initial_response(self, user: &str, input: &SaslInput, token: &str) -> Octets {
        let (host, port) = (&input.host, input.port);
        Octets(
            match self {
                Self::XOAuth2 => format!("user={user}\x01auth=Bearer {token}\x01\x01"),
                Self::OAuthBearer => format!(
                    "n,a={},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01",
                    saslname(user)
                ),
            }
            .into_bytes(),
        )
    }

    /// What a client answers to the server's error so that the exchange can end: nothing
    /// (XOAUTH2), or `^A` (RFC 7628 §3.2.3).
    fn surrender(self) -> &'static [u8] {
        match self {
            Self::XOAuth2 => b"",
            Self::OAuthBearer => b"\x01",
        }
    }
}

/// One exchange, with the first of `preference` that the server offers.
pub(crate) async fn exchange(
    io: &Io,
    preference: &[Mechanism],
    input: &SaslInput,
) -> Result<(), Error> {
    let offers = |mechanism: &Mechanism| {
        let name = mechanism.name();
        input
            .offered
            .iter()
            .any(|offer| offer.eq_ignore_ascii_case(name))
    };
    let Some(mechanism) = preference.iter().copied().find(offers) else {
        return Err(nothing_offered(preference, &input.offered));
    };
    let token = match &input.access_token {
        Some(token) if is_b64token(token.expose()) => token.expose(),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the access token has characters no bearer token has (RFC 6750 §2.1)",
            ));
        }
        None => {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the host began a sign-in without an access token",
            ));
        }
    };
    let user = input.authzid.as_deref().unwrap_or(&input.authcid);
    if user.is_empty() || user.contains(char::is_control) {
        return Err(misfit("username is empty or holds control characters"));
    }
    if input.host.contains(char::is_control) {
        return Err(misfit("the server's host name holds control characters"));
    }

    let initial = mechanism.initial_response(user, input, token);
    io.sasl_start(mechanism.name(), Some(&initial.0)).await?;
    // A server with a challenge after the initial response has refused; its JSON says why,
    // and the host has seen it. Its final reply follows this, and ends the flow.
    io.sasl_send(mechanism.surrender()).await?;
    Err(Error::new(
        ErrorKind::Protocol,
        format!(
            "the server went on with {} after refusing",
            mechanism.name()
        ),
    ))
}

fn nothing_offered(preference: &[Mechanism], offered: &[String]) -> Error {
    let wanted: Vec<_> = preference
        .iter()
        .map(|mechanism| mechanism.name())
        .collect();
    let offered = match bounded(&offered.join(" "), 200) {
        none if none.is_empty() => "no mechanism".to_owned(),
        some => some,
    };
    Error::new(
        ErrorKind::Unsupported,
        format!("the server offers {offered}, not {}", wanted.join(" or ")),
    )
}

/// RFC 5801 §4: `=` and `,` are escaped.
fn saslname(user: &str) -> String {
    user.replace('=', "=3D").replace(',', "=2C")
}

/// RFC 6750 §2.1 `b64token`, which RFC 7628 §3.1 also sends.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet);
    !body.is_empty() && body.bytes().all(fits)
}
