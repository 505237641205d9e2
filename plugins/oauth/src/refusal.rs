//! What an endpoint's "no" means: its JSON error (RFC 6749 §5.2) sorted by what helps.
//!
//! `error` and `suberror` decide; Microsoft's AADSTS numbers only refine an answer that would
//! otherwise say too little, since Microsoft may change them. [`ErrorKind::InvalidGrant`]
//! retires a refresh token, so it is said only of a grant that is certainly dead: a grant that
//! lacks a second factor, a consent or a policy's blessing stays.
//!
//! A body that is no JSON error (a proxy's page) is never quoted: it may hold anything.

use std::fmt::Write as _;
use std::time::Duration;

use oauth2::url::Url;
use postrider_plugin::wire::HttpResponse;
use postrider_plugin::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use crate::http_date;

/// Octets kept of an `error` or `suberror`.
const CODE_OCTETS: usize = 100;
/// Octets kept of an `error_description`: Microsoft's longest are about half of it.
const DESCRIPTION_OCTETS: usize = 2000;
/// Octets kept of an `error_uri`.
const URL_OCTETS: usize = 500;

/// The error an endpoint, or a redirect, reports.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    #[serde(default, deserialize_with = "lenient_text")]
    pub(crate) suberror: Option<String>,
    #[serde(default, deserialize_with = "lenient_text")]
    pub(crate) error_description: Option<String>,
    #[serde(default, deserialize_with = "lenient_text")]
    pub(crate) error_uri: Option<String>,
    #[serde(default, deserialize_with = "lenient_numbers")]
    pub(crate) error_codes: Vec<u64>,
}

impl Refusal {
    /// The error, as one of `who`'s, with every text passed through `clean`.
    pub(crate) fn into_error(self, who: &str, clean: impl Fn(&str) -> String) -> Error {
        let codes = match (&*self.error_codes, &self.error_description) {
            ([], Some(text)) => Vec::from_iter(aadsts(text)),
            (codes, _) => codes.to_vec(),
        };
        let kind = kind(&self.error, self.suberror.as_deref(), &codes);
        let code = bounded(&clean(&self.error), CODE_OCTETS);
        let suberror = self
            .suberror
            .map(|text| bounded(&clean(&text), CODE_OCTETS))
            .filter(|text| !text.is_empty());

        let mut message = format!("{who} answered {code}");
        if let Some(suberror) = &suberror {
            let _ = write!(message, "/{suberror}");
        }
        if let Some(number) = codes.first() {
            let _ = write!(message, " (AADSTS{number})");
        }

        let mut error = Error::new(kind, message).with_oauth_error(code);
        if let Some(suberror) = suberror {
            error = error.with_oauth_suberror(suberror);
        }
        if let Some(text) = self.error_description {
            error = error.with_oauth_description(bounded(&clean(&text), DESCRIPTION_OCTETS));
        }
        if let Some(url) = self.error_uri.and_then(|text| web_page(&clean(&text))) {
            error = error.with_user_url(url);
        }
        error
    }
}

/// The error in `response`, which is none of success: `who` sent it, at `now_ms`.
pub(crate) fn judge(
    response: &HttpResponse,
    who: &str,
    now_ms: u64,
    clean: impl Fn(&str) -> String,
) -> Error {
    let busy = response.status >= 500 || matches!(response.status, 408 | 425 | 429);
    let mut error = match serde_json::from_slice::<Refusal>(&response.body.0) {
        Ok(refusal) => refusal.into_error(who, clean),
        Err(_) => unreadable(response, who),
    };
    if busy {
        error.kind = ErrorKind::Transient;
    }
    match retry_after(response, now_ms) {
        Some(wait) if error.kind == ErrorKind::Transient => error.with_retry_after(wait),
        _ => error,
    }
}

/// A response that has not the form its endpoint owes: status and media type, no more.
pub(crate) fn unreadable(response: &HttpResponse, who: &str) -> Error {
    let media_type = response
        .header("content-type")
        .map_or("no content type".to_owned(), |text| {
            bounded(text, CODE_OCTETS)
        });
    Error::new(
        ErrorKind::Protocol,
        format!(
            "{who} answered HTTP {} with a body that is not the JSON expected ({media_type})",
            response.status
        ),
    )
}

/// `text` on one line, of at most `octets` octets.
pub(crate) fn bounded(text: &str, octets: usize) -> String {
    let line = text
        .split(|c: char| c.is_control() || c == ' ')
        .filter(|word| !word.is_empty());
    let mut out = String::new();
    for word in line {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if out.len() > octets {
            out.truncate(out.floor_char_boundary(octets));
            out.push('…');
            break;
        }
    }
    out
}

/// The URL, if a person can open it in a browser.
pub(crate) fn web_page(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let fits = matches!(url.scheme(), "https" | "http") && url.as_str().len() <= URL_OCTETS;
    fits.then(|| url.into())
}

fn kind(error: &str, suberror: Option<&str>, codes: &[u64]) -> ErrorKind {
    match (error, suberror) {
        ("invalid_grant", Some("basic_action" | "additional_action" | "consent_required"))
        | (
            "interaction_required"
            | "login_required"
            | "consent_required"
            | "account_selection_required"
            | "expired_token"
            | "bad_verification_code",
            _,
        ) => ErrorKind::NeedsUser,
        // A policy says no (Conditional Access); the grant itself stays good.
        ("invalid_grant", Some("message_only"))
        | ("access_denied" | "authorization_declined", _) => ErrorKind::Denied,
        ("invalid_grant", Some("bad_token" | "token_expired" | "client_mismatch")) => {
            ErrorKind::InvalidGrant
        }
        ("invalid_grant", _) => evidence(codes).unwrap_or(ErrorKind::InvalidGrant),
        ("temporarily_unavailable" | "server_error" | "authorization_pending" | "slow_down", _) => {
            ErrorKind::Transient
        }
        (
            "invalid_client"
            | "unauthorized_client"
            | "invalid_request"
            | "invalid_scope"
            | "invalid_resource"
            | "invalid_target"
            | "invalid_tenant"
            | "unsupported_grant_type"
            | "unsupported_response_type",
            _,
        ) => ErrorKind::Config,
        ("unsupported_token_type", _) => ErrorKind::Unsupported,
        _ => evidence(codes).unwrap_or(ErrorKind::Denied),
    }
}

/// Microsoft's number at the head of a description: in a redirect it stands nowhere else.
fn aadsts(description: &str) -> Option<u64> {
    let rest = description.strip_prefix("AADSTS")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .map_or(rest, |end| &rest[..end]);
    digits.parse().ok()
}

/// What Microsoft's numbers add where `error` alone says too little.
fn evidence(codes: &[u64]) -> Option<ErrorKind> {
    codes.iter().find_map(|code| match code {
        // A second factor, consent, or another way to sign in is asked for.
        50_076 | 50_079 | 65_001 => Some(ErrorKind::NeedsUser),
        // Locked, password expired, disabled, not assigned, policy, security defaults,
        // consent declined or reserved to administrators: signing in again changes nothing.
        50_053 | 50_055 | 50_057 | 50_105 | 53_003 | 530_035 | 65_004 | 90_094 => {
            Some(ErrorKind::Denied)
        }
        // Service trouble, or a client that asks too often.
        50_033 | 50_087 | 50_196 | 90_006 | 90_024 | 90_033 => Some(ErrorKind::Transient),
        _ => None,
    })
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(response: &HttpResponse, now_ms: u64) -> Option<Duration> {
    let value = response.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date::seconds(value)?;
    Some(Duration::from_secs(at.saturating_sub(now_ms / 1000)))
}

/// A text that may be missing, null, or of another type, which then says nothing.
fn lenient_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn lenient_numbers<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Array(items) => items.iter().filter_map(Value::as_u64).collect(),
        _ => Vec::new(),
    })
}
