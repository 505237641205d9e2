//! A person signs in with a browser on this machine: authorization code with PKCE on a
//! loopback redirect (RFC 6749 §4.1, RFC 7636, RFC 8252 §7.3).
//!
//! The code is redeemed only after the redirect proved to be the answer to this request: its
//! `state` is ours, and its `iss`, if there is one, is the provider's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use oauth2::url::Url;
use oauth2::{AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl};
use postrider_plugin::wire::{Secret, Tokens};
use postrider_plugin::{Error, ErrorKind};
use ring::digest::{SHA256, digest};

use crate::endpoint::{Http, grant_error};
use crate::identity;
use crate::provider::{IssuerCheck, Provider};
use crate::refusal::{Refusal, bounded};

/// RFC 7636 §4.1 asks for 32 octets; `state` gets half as much (RFC 6749 §10.10 asks for a
/// chance of 2^-128).
const VERIFIER_OCTETS: u32 = 32;
const STATE_OCTETS: u32 = 16;
/// OpenID Connect Core §15.5.2 wants it as hard to guess as `state`.
const NONCE_OCTETS: u32 = 16;

/// Signs a person in.
pub(crate) async fn login(http: &Http<'_>) -> Result<Tokens, Error> {
    let Some(authorization) = http.endpoints.authorization.clone() else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this provider names no authorization_endpoint: sign in with a device code",
        ));
    };
    let verifier = http.io.random(VERIFIER_OCTETS).await?;
    let verifier = PkceCodeVerifier::new(BASE64URL.encode(verifier));
    let state = http.io.random(STATE_OCTETS).await?;
    let state = CsrfToken::new(BASE64URL.encode(state));

    let mut nonce = None;
    if http.account.asks_for(identity::OPENID) {
        let octets = http.io.random(NONCE_OCTETS).await?;
        nonce = Some(Secret::new(BASE64URL.encode(octets)));
    }

    let redirect = http.io.listen(&http.account.redirect_uri).await?;
    let redirect = RedirectUrl::new(redirect)
        .map_err(|_| Error::new(ErrorKind::Protocol, "the host's redirect URI is not a URL"))?;
    let client = http
        .grants()
        .set_auth_uri(authorization)
        .set_redirect_uri(redirect);

    let mut request = client
        .authorize_url(|| state)
        .add_scopes(http.account.scopes.iter().cloned())
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    if let Some(hint) = &http.account.login_hint {
        request = request.add_extra_param("login_hint", hint);
    }
    if let Some(nonce) = &nonce {
        request = request.add_extra_param("nonce", nonce.expose());
    }
    // OpenID Connect Core §11: without it a provider may ignore `offline_access`. Entra ID does
    // not, and would ask for consent again where an administrator gave it.
    if !matches!(http.account.provider, Provider::Microsoft(_))
        && http.account.asks_for(identity::OPENID)
        && http.account.asks_for("offline_access")
    {
        request = request.add_extra_param("prompt", "consent");
    }
    let (url, state) = request.url();
    let back = http.io.open_url(url.as_str()).await?;
    let code = code(&back, &state, &http.endpoints.issuer)?;

    let mut tokens = client
        .exchange_code(code)
        .set_pkce_verifier(verifier)
        .request_async(http)
        .await
        .map_err(grant_error)?
        .into_tokens()?;
    tokens.identity = identity::find(http, &tokens, nonce.as_ref()).await?;
    Ok(tokens)
}

/// The code in the redirect (RFC 6749 §4.1.2), if it answers our request.
fn code(
    redirect: &Secret,
    state: &CsrfToken,
    issuer: &IssuerCheck,
) -> Result<AuthorizationCode, Error> {
    let broken = |message: &str| Error::new(ErrorKind::Protocol, message);
    let url = Url::parse(redirect.expose())
        .map_err(|_| broken("the browser came back to what is not a URL"))?;
    let mut parameters = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        if parameters
            .insert(name.into_owned(), value.into_owned())
            .is_some()
        {
            return Err(broken("the browser came back with a parameter given twice"));
        }
    }

    let theirs = parameters.remove("state").unwrap_or_default();
    if !same(&theirs, state.secret()) {
        return Err(broken(
            "the browser came back with another `state`: this is not the answer to this sign-in",
        ));
    }
    check_issuer(parameters.remove("iss").as_deref(), issuer)?;
    if let Some(error) = parameters.remove("error") {
        let refusal = Refusal {
            error,
            suberror: parameters.remove("error_subcode"),
            error_description: parameters.remove("error_description"),
            error_uri: parameters.remove("error_uri"),
            error_codes: Vec::new(),
        };
        return Err(refusal.into_error("the sign-in page", str::to_owned));
    }
    match parameters.remove("code") {
        Some(code) if !code.is_empty() => Ok(AuthorizationCode::new(code)),
        _ => Err(broken("the browser came back with neither code nor error")),
    }
}

/// RFC 9207 §2.4: a redirect of another provider must not reach this one's token endpoint.
fn check_issuer(theirs: Option<&str>, ours: &IssuerCheck) -> Result<(), Error> {
    let fits = match (theirs, ours) {
        (None, IssuerCheck::Exactly { required, .. }) => !required,
        (None, _) | (Some(_), IssuerCheck::Unknown) => true,
        (Some(theirs), IssuerCheck::Exactly { issuer, .. }) => theirs == issuer,
        (Some(theirs), IssuerCheck::Entra { authority, .. }) => theirs
            .strip_prefix(authority.as_str())
            .is_some_and(|rest| rest.starts_with('/')),
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Protocol,
        match theirs {
            Some(theirs) => format!(
                "the redirect is of another issuer ({})",
                bounded(theirs, 200)
            ),
            None => "the redirect lacks `iss`, which this provider promises".to_owned(),
        },
    ))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(one: &str, other: &str) -> bool {
    digest(&SHA256, one.as_bytes()).as_ref() == digest(&SHA256, other.as_bytes()).as_ref()
}
