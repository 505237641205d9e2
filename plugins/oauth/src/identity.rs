//! Who signed in: the ID token (OpenID Connect Core §2), or else the userinfo endpoint (§5.3).
//!
//! An ID token is believed because it came from the token endpoint itself, over TLS, and so
//! its signature is not looked at (§3.1.3.7, rule 6); what it says of issuer, audience, end
//! and nonce must fit, or the sign-in fails. The access token is never read: to a client it is
//! opaque.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use oauth2::url::Url;
use postrider_plugin::wire::{HttpRequest, Identity, IdentitySource, Secret, Tokens};
use postrider_plugin::{Error, ErrorKind, Level};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::endpoint::Http;
use crate::provider::IssuerCheck;
use crate::refusal::{self, bounded};

/// The scope that asks for an ID token (OpenID Connect Core §3.1.2.1).
pub(crate) const OPENID: &str = "openid";

/// How far this machine's clock may be ahead of the provider's.
const LEEWAY: Duration = Duration::from_mins(5);
/// RFC 5321 §4.5.3.1: the longest local part, `@`, and the longest domain.
const USERNAME_OCTETS: usize = 64 + 1 + 255;
/// OpenID Connect Core §2: the longest `sub`. What is longer is none.
const SUBJECT_OCTETS: usize = 255;
/// Octets kept of a person's name, and of what an error quotes.
const SHOWN_OCTETS: usize = 200;

/// Who the person behind `tokens` is; `nonce` is that of the authorization request. Nobody,
/// where the provider says nothing.
///
/// # Errors
///
/// [`ErrorKind::Protocol`] for an ID token that is not for this sign-in,
/// [`ErrorKind::Transient`] if the userinfo endpoint could not be asked.
pub(crate) async fn find(
    http: &Http<'_>,
    tokens: &Tokens,
    nonce: Option<&Secret>,
) -> Result<Option<Identity>, Error> {
    let told = match &tokens.id_token {
        Some(id_token) if http.account.asks_for(OPENID) => {
            Some(Expected::of(http, nonce).check(id_token)?)
        }
        _ => None,
    };
    let known = told.as_ref().is_some_and(|told| !told.usernames.is_empty());
    let (false, Some(endpoint)) = (known, &http.endpoints.userinfo) else {
        return Ok(told);
    };
    match userinfo(http, endpoint, &tokens.access_token).await {
        // OpenID Connect Core §5.3.2: another subject's claims must not be used.
        Ok(asked)
            if told
                .as_ref()
                .is_some_and(|told| told.subject != asked.subject) =>
        {
            Err(bad(
                "the userinfo endpoint speaks of another `sub` than the ID token",
            ))
        }
        Ok(asked) => Ok(Some(asked)),
        Err(error) if error.kind == ErrorKind::Transient => Err(error),
        Err(error) => {
            http.io
                .log(Level::Warn, &format!("who signed in is not known: {error}"));
            Ok(told)
        }
    }
}

/// What an ID token has to say to be for this sign-in.
#[derive(Debug)]
struct Expected<'a> {
    issuer: &'a IssuerCheck,
    client_id: &'a str,
    nonce: Option<&'a Secret>,
    now_ms: u64,
}

/// The claims of an ID token or of userinfo, of whatever type they came.
#[derive(Debug, Deserialize)]
struct Claims(Map<String, Value>);

impl<'a> Expected<'a> {
    fn of(http: &'a Http<'_>, nonce: Option<&'a Secret>) -> Self {
        Self {
            issuer: &http.endpoints.issuer,
            client_id: &http.account.client_id,
            nonce,
            now_ms: http.io.now_ms(),
        }
    }

    /// OpenID Connect Core §3.1.3.7.
    fn check(&self, id_token: &Secret) -> Result<Identity, Error> {
        let claims = claims(id_token).ok_or_else(|| bad("the ID token is not a signed JWT"))?;
        self.check_issuer(&claims)?;
        self.check_audience(&claims)?;
        let ends = claims
            .0
            .get("exp")
            .and_then(Value::as_f64)
            .ok_or_else(|| bad("the ID token does not say when it ends (`exp`)"))?;
        #[allow(
            clippy::cast_precision_loss,
            reason = "exact until the year 287396, and only compared"
        )]
        let now = self.now_ms as f64 / 1000.0;
        if ends + LEEWAY.as_secs_f64() <= now {
            return Err(bad(
                "the ID token has lapsed already: this machine's clock may be wrong",
            ));
        }
        let ours = self.nonce.map(Secret::expose);
        if ours.is_some() && claims.text("nonce") != ours {
            return Err(bad(
                "the ID token has another `nonce`: it is not of this sign-in",
            ));
        }
        Ok(claims.identity(IdentitySource::IdToken))
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), Error> {
        let theirs = claims
            .text("iss")
            .ok_or_else(|| bad("the ID token does not say who issued it (`iss`)"))?;
        let tid = claims.text("tid").unwrap_or_default();
        let fits = match self.issuer {
            IssuerCheck::Unknown => true,
            IssuerCheck::Exactly { issuer, .. } => theirs == issuer,
            IssuerCheck::Entra { authority, .. } => {
                !tid.is_empty() && theirs == format!("{authority}/{tid}/v2.0")
            }
        };
        if !fits {
            return Err(bad(&format!(
                "the ID token is of another issuer ({})",
                bounded(theirs, SHOWN_OCTETS)
            )));
        }
        match self.issuer {
            IssuerCheck::Entra {
                tenant_id: Some(ours),
                ..
            } if !tid.eq_ignore_ascii_case(ours) => Err(bad(&format!(
                "the ID token is of another tenant ({})",
                bounded(tid, SHOWN_OCTETS)
            ))),
            _ => Ok(()),
        }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Error> {
        let among = match claims.0.get("aud") {
            Some(Value::Array(several)) => several.iter().any(|one| self.is_client(one)),
            Some(one) => self.is_client(one),
            None => false,
        };
        if among && claims.0.get("azp").is_none_or(|azp| self.is_client(azp)) {
            Ok(())
        } else {
            Err(bad("the ID token is for another client (`aud`)"))
        }
    }

    fn is_client(&self, name: &Value) -> bool {
        let name = name.as_str().unwrap_or_default();
        match self.issuer {
            // A GUID, which people write in either case.
            IssuerCheck::Entra { .. } => name.eq_ignore_ascii_case(self.client_id),
            _ => name == self.client_id,
        }
    }
}

impl Claims {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A claim that is one word of at most `octets`; what is empty, longer, or holds what no
    /// name holds, is none.
    fn word(&self, name: &str, octets: usize) -> Option<String> {
        let text = self.text(name)?;
        let fits = !text.is_empty() && text.len() <= octets && !text.contains(char::is_control);
        fits.then(|| text.to_owned())
    }

    fn identity(&self, source: IdentitySource) -> Identity {
        // Some providers write their booleans as text.
        let unverified = self.0.get("email_verified") == Some(&Value::Bool(false))
            || self.text("email_verified") == Some("false");
        let mut usernames: Vec<String> = Vec::new();
        for claim in ["preferred_username", "upn", "email"] {
            let Some(name) = self.word(claim, USERNAME_OCTETS) else {
                continue;
            };
            let known = usernames
                .iter()
                .any(|known| known.eq_ignore_ascii_case(&name));
            if known || (claim == "email" && unverified) {
                continue;
            }
            usernames.push(name);
        }
        Identity {
            usernames,
            subject: self.word("sub", SUBJECT_OCTETS),
            tenant: self.word("tid", SUBJECT_OCTETS),
            name: self
                .text("name")
                .map(|name| bounded(name, SHOWN_OCTETS))
                .filter(|name| !name.is_empty()),
            source,
        }
    }
}

/// What the userinfo endpoint says of the access token's owner.
async fn userinfo(
    http: &Http<'_>,
    endpoint: &Url,
    access_token: &Secret,
) -> Result<Identity, Error> {
    let authorization = format!("Bearer {}", access_token.expose());
    let response = http
        .io
        .http(HttpRequest {
            method: "GET".to_owned(),
            url: endpoint.to_string(),
            headers: vec![
                ("accept".to_owned(), "application/json".to_owned()),
                ("authorization".to_owned(), authorization),
            ],
            body: None,
        })
        .await?;
    if response.status != 200 {
        return Err(refusal::judge(
            &response,
            "the userinfo endpoint",
            http.io.now_ms(),
            |text| text.replace(access_token.expose(), "…"),
        ));
    }
    let claims: Claims = serde_json::from_slice(&response.body.0)
        .map_err(|_| refusal::unreadable(&response, "the userinfo endpoint"))?;
    Ok(claims.identity(IdentitySource::Userinfo))
}

/// The claims in a JWS of compact form (RFC 7515 §3.1).
fn claims(token: &Secret) -> Option<Claims> {
    let mut parts = token.expose().split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&BASE64URL.decode(payload).ok()?).ok()
}

fn bad(message: &str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
