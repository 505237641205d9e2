//! Who the client is: its registration, and its proof by secret, certificate or federation.
//!
//! An assertion is believed only after its signature was checked with a registered key and
//! every claim that says whom and when it is for; and each only once.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::jwt::{Jws, TokenProblem, VerifyingKey, shown};
use crate::scenario::{App, Scenario};

use super::aadsts::Aadsts;
use super::form::Form;
use super::{Entra, TenantPath};

/// How a client proved itself: the claim `appidacr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// None asked of it.
    Public,
    Secret,
    /// Certificate or federation.
    Assertion,
}

impl Proof {
    pub(crate) fn acr(self) -> &'static str {
        match self {
            Self::Public => "0",
            Self::Secret => "1",
            Self::Assertion => "2",
        }
    }
}

/// Whether a client may come without a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Public {
    /// Only if its registration says that it is a public client.
    No,
    /// It came through a redirect of a single-page app.
    May,
    /// It came through a redirect of a desktop app, and must show none.
    Must,
}

/// What a request says about its client: from the body or from HTTP Basic.
pub(crate) struct Presented {
    pub(crate) client_id: String,
    secret: Option<String>,
    assertion: Option<(String, String)>,
}

impl Presented {
    /// Collects the client's id and credentials.
    pub(crate) fn read(headers: &HeaderMap, form: &Form) -> Result<Self, Aadsts> {
        let basic = basic(headers)?;
        if basic.is_some() && (form.has("client_secret") || form.has("client_assertion")) {
            return Err(Aadsts::malformed(
                "credentials in the body and in HTTP Basic",
            ));
        }
        let (client_id, secret) = match basic {
            Some((id, _)) if form.get("client_id").is_some_and(|c| c != id) => {
                return Err(Aadsts::malformed(
                    "the body and HTTP Basic name two clients",
                ));
            }
            Some((id, secret)) => (id, Some(secret)),
            None => (
                form.need("client_id")?.to_owned(),
                form.get("client_secret").map(str::to_owned),
            ),
        };
        let assertion = match (
            form.get("client_assertion"),
            form.get("client_assertion_type"),
        ) {
            (None, None) => None,
            (Some(assertion), Some(kind)) => Some((kind.to_owned(), assertion.to_owned())),
            (None, Some(_)) => return Err(Aadsts::missing("client_assertion")),
            (Some(_), None) => return Err(Aadsts::missing("client_assertion_type")),
        };
        Ok(Self {
            client_id,
            secret,
            assertion,
        })
    }

    /// Checks the proof. A client with a secret must show it, a public one must not.
    pub(crate) fn prove(
        &self,
        entra: &Entra,
        app: &App,
        path: &TenantPath,
        may: Public,
    ) -> Result<Proof, Aadsts> {
        let presented = self.secret.is_some() || self.assertion.is_some();
        if may == Public::Must || app.public_client && !(presented && app.has_credentials()) {
            return if presented {
                Err(Aadsts::new(700_025, &[]))
            } else {
                Ok(Proof::Public)
            };
        }
        match (&self.secret, &self.assertion) {
            (Some(_), Some(_)) => Err(Aadsts::malformed("a secret and an assertion")),
            (Some(secret), None) => self.check_secret(entra, app, secret),
            (None, Some((kind, assertion))) => {
                if kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
                    return Err(Aadsts::malformed("unknown client_assertion_type"));
                }
                check_assertion(entra, app, path, assertion).map(|()| Proof::Assertion)
            }
            (None, None) if may == Public::May => Ok(Proof::Public),
            (None, None) => Err(Aadsts::new(7_000_218, &[])),
        }
    }

    fn check_secret(&self, entra: &Entra, app: &App, presented: &str) -> Result<Proof, Aadsts> {
        let now = entra.state.now();
        let mut fitting = app
            .secrets
            .iter()
            .filter(|s| s.value.is(presented) && !entra.state.is_settling(s.key_id.as_str()))
            .peekable();
        if fitting.peek().is_none() {
            return Err(Aadsts::new(7_000_215, &[&self.client_id]));
        }
        if fitting.any(|s| s.expires.is_none_or(|end| end > now)) {
            Ok(Proof::Secret)
        } else {
            Err(Aadsts::new(7_000_222, &[&self.client_id]))
        }
    }
}

/// The app a client id means on this path.
pub(crate) fn find_app<'s>(
    scenario: &'s Scenario,
    client_id: &str,
    path: &TenantPath,
) -> Result<&'s App, Aadsts> {
    let directory = path.display(scenario);
    let unknown = || Aadsts::new(700_016, &[client_id, &directory]);
    let app = scenario.app(client_id).ok_or_else(unknown)?;
    if !app.service_principal {
        return Err(unknown().because("the app has no service principal in its tenant"));
    }
    match path {
        TenantPath::Tenant(id) => {
            let home = scenario.tenant(&app.tenant).is_some_and(|t| t.id == *id);
            if home || app.multi_tenant {
                Ok(app)
            } else {
                Err(unknown())
            }
        }
        _ if app.multi_tenant => Ok(app),
        _ => Err(Aadsts::new(50_194, &[app.client_id.as_str(), &app.name])),
    }
}

/// The id and secret of HTTP Basic, each form-encoded first (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Aadsts> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let malformed = || Aadsts::malformed("the Authorization header is not HTTP Basic");
    let value = value.to_str().map_err(|_| malformed())?;
    let (scheme, credentials) = value.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let octets = STANDARD
        .decode(credentials.trim())
        .map_err(|_| malformed())?;
    let text = String::from_utf8(octets).map_err(|_| malformed())?;
    let (id, secret) = text.split_once(':').ok_or_else(malformed)?;
    // One name without a value: the decoder's first pair is the decoded text.
    let decoded = |part: &str| {
        let part = part.replace('&', "%26").replace('=', "%3D");
        url::form_urlencoded::parse(part.as_bytes())
            .next()
            .map(|(name, _)| name.into_owned())
            .unwrap_or_default()
    };
    Ok(Some((decoded(id), decoded(secret))))
}

fn invalid_signature(reason: &str) -> Aadsts {
    Aadsts::new(700_027, &[reason])
}

fn check_assertion(
    entra: &Entra,
    app: &App,
    path: &TenantPath,
    assertion: &str,
) -> Result<(), Aadsts> {
    let jws = Jws::parse(assertion).map_err(|_| Aadsts::malformed("the assertion is no JWT"))?;
    let client_id = app.client_id.as_str();
    let claims = if jws.unproven("iss").is_some_and(|iss| app.client_id == *iss) {
        let claims = by_certificate(app, jws, entra.state.now())?;
        if !is_text(&claims, "sub", |sub| sub.eq_ignore_ascii_case(client_id)) {
            return Err(Aadsts::new(700_021, &[]));
        }
        if !is_text(&claims, "aud", |aud| entra.is_token_endpoint(aud, path)) {
            return Err(
                Aadsts::new(700_023, &[]).because(format!("aud is {}", text(&claims, "aud")))
            );
        }
        claims
    } else {
        by_federation(app, jws)?
    };
    check_times(entra, &claims)?;
    remember(entra, app, &claims)
}

fn by_certificate(app: &App, jws: Jws<'_>, now: Timestamp) -> Result<Value, Aadsts> {
    let thumbprint = jws.header_text("x5t#S256").unwrap_or_default();
    let key = app
        .certificates
        .iter()
        .filter_map(|certificate| VerifyingKey::from_pem(&certificate.pem).ok())
        .find(|key| key.thumbprint() == Some(thumbprint))
        .ok_or_else(|| invalid_signature("The key was not found."))?;
    // Unconfirmed: the wording of these two reasons.
    if key.is_expired(now) {
        return Err(invalid_signature("The key used is expired."));
    }
    key.verify(jws).map_err(|problem| {
        invalid_signature("The key was found, but the signature is wrong.")
            .because(problem.to_string())
    })
}

fn by_federation(app: &App, jws: Jws<'_>) -> Result<Value, Aadsts> {
    let claim = |name| jws.unproven(name).unwrap_or_default().to_owned();
    let (iss, sub, aud) = (claim("iss"), claim("sub"), claim("aud"));
    let credential = app
        .federated
        .iter()
        .find(|f| f.issuer == iss && f.subject == sub && f.audience == aud)
        .ok_or_else(|| {
            Aadsts::new(700_213, &[&sub]).because(format!(
                "issuer {}, audience {}",
                shown(&iss),
                shown(&aud)
            ))
        })?;
    // The issuer's keys carry no names here: the right one is the one that fits.
    let keys = credential
        .keys
        .iter()
        .filter_map(|pem| VerifyingKey::from_pem(pem).ok());
    let mut problem = TokenProblem::UnknownKey;
    let raw = jws;
    for key in keys {
        match key.verify(raw.clone()) {
            Ok(claims) => return Ok(claims),
            Err(p) => problem = p,
        }
    }
    Err(invalid_signature("The key was not found.").because(problem.to_string()))
}

fn check_times(entra: &Entra, claims: &Value) -> Result<(), Aadsts> {
    /// Clocks of two machines differ.
    const LEEWAY: i64 = 300;
    let now = entra.state.now();
    let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);
    let from = seconds("nbf").or_else(|| seconds("iat")).unwrap_or(0);
    let valid = seconds("exp").is_some_and(|exp| {
        exp.saturating_add(LEEWAY) > now.as_second()
            && from <= now.as_second() + LEEWAY
            && from < exp
    });
    if valid {
        return Ok(());
    }
    let shown = |seconds: i64| {
        Timestamp::from_second(seconds).map_or_else(|_| "-".to_owned(), |t| t.to_string())
    };
    Err(Aadsts::new(
        700_024,
        &[
            &now.to_string(),
            &shown(from),
            &shown(seconds("exp").unwrap_or(0)),
        ],
    ))
}

/// Each assertion is good once, as RFC 7523 §3 lets a server ask.
fn remember(entra: &Entra, app: &App, claims: &Value) -> Result<(), Aadsts> {
    let Some(jti) = claims
        .get("jti")
        .and_then(Value::as_str)
        .filter(|jti| !jti.is_empty())
    else {
        return if app
            .federated
            .iter()
            .any(|f| f.issuer == text(claims, "iss"))
        {
            Ok(()) // other issuers need not number their assertions
        } else {
            Err(Aadsts::malformed("the assertion has no jti"))
        };
    };
    let expires = claims
        .get("exp")
        .and_then(Value::as_i64)
        .unwrap_or(0)
        .saturating_add(600);
    let expires = Timestamp::from_second(expires).unwrap_or(Timestamp::MAX);
    let seen = entra
        .store()
        .assertions
        .insert((app.client_id.clone(), jti.to_owned()), expires);
    match seen {
        // Unconfirmed: the reason's wording.
        Some(_) => Err(invalid_signature("The assertion was already used.")),
        None => Ok(()),
    }
}

fn is_text(claims: &Value, name: &str, good: impl Fn(&str) -> bool) -> bool {
    claims.get(name).and_then(Value::as_str).is_some_and(good)
}

fn text(claims: &Value, name: &str) -> String {
    claims
        .get(name)
        .and_then(Value::as_str)
        .map(shown)
        .unwrap_or_default()
}
