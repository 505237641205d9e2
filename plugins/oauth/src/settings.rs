//! What an account may say to this plugin, and whether it makes sense.
//!
//! [`Settings`] is the schema the host checks an account against; [`Account`] is what is left
//! when the settings agree with each other. An [`Account`] holds no secret: it knows which
//! ones exist, and the flows ask the host for them when a request needs them, so that a
//! rotated secret is picked up by the next request.

use oauth2::url::Url;
use oauth2::{AuthUrl, ClientId, DeviceAuthorizationUrl, RevocationUrl, Scope, TokenUrl};
use postrider_plugin::kit::SecretSetting;
use postrider_plugin::wire::Config;
use postrider_plugin::{Error, ErrorKind};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::assertion::Algorithm;
use crate::client_auth::ClientAuth;
use crate::provider::{Endpoints, IssuerCheck, Provider};
use crate::sasl::Mechanism;

/// Settings of an account that signs in with OAuth 2.0.
///
/// The provider is named in one of three ways: `authority` and `tenant` (Microsoft),
/// `issuer` (discovery), or `token_endpoint` and the endpoints beside it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "oauth")]
// An application's own token is the application's, whichever mailbox it is used for.
#[schemars(extend("x-postrider-shared-grant" = {"flow": "client_credentials"}))]
// Not `flow`: whether a person signed in with a browser or a code makes no other grant, and an
// application's own is told apart by having no person.
#[schemars(extend("x-postrider-grant" = [
    "authority", "tenant", "issuer", "token_endpoint", "client_id", "scopes"
]))]
#[schemars(extend("x-postrider-client" = [
    "authority", "tenant", "issuer", "token_endpoint", "client_id"
]))]
pub(crate) struct Settings {
    /// How the first token is obtained: `client_credentials` for an application of its own,
    /// `authorization_code` for a person at a browser, `device_code` for a person elsewhere.
    flow: Flow,
    /// Microsoft: base URL of the sign-in service, such as `https://login.microsoftonline.com`.
    authority: Option<String>,
    /// Microsoft: the tenant's domain or id; `common`, `organizations` and `consumers` serve
    /// people only.
    tenant: Option<String>,
    /// URL of an OpenID Connect or RFC 8414 issuer; its endpoints are discovered.
    issuer: Option<String>,
    /// The authorization endpoint (RFC 6749 §3.1), where there is no discovery.
    authorization_endpoint: Option<String>,
    /// The token endpoint (RFC 6749 §3.2), where there is no discovery.
    token_endpoint: Option<String>,
    /// The device authorization endpoint (RFC 8628 §3.1), where there is no discovery.
    device_authorization_endpoint: Option<String>,
    /// The revocation endpoint (RFC 7009 §2), where there is no discovery.
    revocation_endpoint: Option<String>,
    /// The userinfo endpoint (OpenID Connect Core §5.3), where there is no discovery: it says
    /// who signed in.
    userinfo_endpoint: Option<String>,
    /// The application's identifier, as the provider registered it.
    client_id: String,
    /// The scopes to ask for, each an item of its own.
    #[serde(default)]
    scopes: Vec<String>,
    /// How the application proves itself. Unless said: `private_key_jwt` with a certificate,
    /// key or assertion, `post` with a client secret, else `none`.
    client_auth: Option<ClientAuthSetting>,
    /// The client secret, for `post` and `basic`.
    client_secret: Option<SecretSetting>,
    /// PEM certificate registered with the provider, for `private_key_jwt`.
    certificate: Option<SecretSetting>,
    /// PEM RSA private key of that certificate (PKCS#8 or PKCS#1, not encrypted).
    private_key: Option<SecretSetting>,
    /// An assertion of another issuer (workload identity federation), sent as it is.
    assertion: Option<SecretSetting>,
    /// Signature algorithm of the assertion made with `private_key`: `PS256` unless said.
    #[serde(default)]
    assertion_alg: Algorithm,
    /// `aud` of that assertion, where the provider wants another than its token endpoint.
    assertion_audience: Option<String>,
    /// The registered loopback redirect URI without its port: `http://localhost` unless said.
    redirect_uri: Option<String>,
    /// The account the sign-in page should suggest: the account's username unless said.
    login_hint: Option<String>,
    /// SASL mechanisms to use, best first: `XOAUTH2`, `OAUTHBEARER` unless said.
    mechanisms: Option<Vec<Mechanism>>,
}

/// How the first token of an account is obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Flow {
    /// The application's own account (RFC 6749 §4.4).
    ClientCredentials,
    /// A browser on this machine (RFC 6749 §4.1, RFC 7636, RFC 8252 §7.3).
    AuthorizationCode,
    /// A browser elsewhere (RFC 8628).
    DeviceCode,
}

/// How the application proves itself to the token endpoint (OpenID Connect Core §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum ClientAuthSetting {
    /// The client secret in the body.
    Post,
    /// The client secret as HTTP Basic.
    Basic,
    /// A signed assertion (RFC 7523).
    PrivateKeyJwt,
    /// A public client.
    None,
}

/// An account whose settings agree with each other.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) flow: Flow,
    pub(crate) provider: Provider,
    pub(crate) client_id: ClientId,
    pub(crate) client_auth: ClientAuth,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) redirect_uri: String,
    pub(crate) login_hint: Option<String>,
    pub(crate) mechanisms: Vec<Mechanism>,
}

impl Account {
    /// Checks an account's settings.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], naming the setting to change.
    pub(crate) fn from_config(config: Config) -> Result<Self, Error> {
        let settings: Settings = config.settings()?;
        if settings.client_id.is_empty() || settings.client_id.contains(char::is_control) {
            return Err(misfit("client_id is empty or holds control characters"));
        }
        let provider = provider(&settings)?;
        let client_auth = client_auth(&settings, &provider)?;
        Ok(Self {
            flow: settings.flow,
            provider,
            client_auth,
            client_id: ClientId::new(settings.client_id),
            scopes: scopes(settings.scopes)?,
            redirect_uri: redirect_uri(settings.redirect_uri.as_deref())?,
            login_hint: settings
                .login_hint
                .or(Some(config.username))
                .filter(|hint| !hint.is_empty()),
            mechanisms: mechanisms(settings.mechanisms)?,
        })
    }

    /// Whether this scope is asked for.
    pub(crate) fn asks_for(&self, scope: &str) -> bool {
        self.scopes.iter().any(|asked| asked.as_str() == scope)
    }
}

/// A [`ErrorKind::Config`] error.
pub(crate) fn misfit(message: &str) -> Error {
    Error::new(ErrorKind::Config, message)
}

fn provider(settings: &Settings) -> Result<Provider, Error> {
    let explicit = [
        ("token_endpoint", &settings.token_endpoint),
        ("authorization_endpoint", &settings.authorization_endpoint),
        (
            "device_authorization_endpoint",
            &settings.device_authorization_endpoint,
        ),
        ("revocation_endpoint", &settings.revocation_endpoint),
        ("userinfo_endpoint", &settings.userinfo_endpoint),
    ]
    .into_iter()
    .find_map(|(name, value)| value.as_ref().map(|_| name));
    let microsoft = match (&settings.authority, &settings.tenant) {
        (Some(_), _) => Some("authority"),
        (None, Some(_)) => Some("tenant"),
        (None, None) => None,
    };
    let issuer = settings.issuer.as_ref().map(|_| "issuer");

    match (microsoft, issuer, explicit) {
        (Some(_), None, None) => microsoft_provider(settings),
        (None, Some(_), None) => {
            let issuer = url_setting("issuer", settings.issuer.as_deref())?;
            issuer.map_or_else(
                || Err(misfit("issuer is empty")),
                |(text, _)| Ok(Provider::Discovered(text)),
            )
        }
        (None, None, Some(_)) => explicit_provider(settings),
        (None, None, None) => Err(misfit(
            "no provider: set authority and tenant (Microsoft), or issuer, or token_endpoint and its like",
        )),
        (first, second, third) => {
            let given: Vec<_> = [first, second, third].into_iter().flatten().collect();
            Err(misfit(&format!(
                "{} exclude each other: each names the provider, keep one",
                given.join(" and ")
            )))
        }
    }
}

fn microsoft_provider(settings: &Settings) -> Result<Provider, Error> {
    let Some((authority, _)) = url_setting("authority", settings.authority.as_deref())? else {
        return Err(misfit(
            "authority is missing: tenant alone names no provider",
        ));
    };
    let tenant = match settings.tenant.as_deref() {
        Some(tenant) if !tenant.is_empty() => tenant,
        _ => return Err(misfit("tenant is missing: authority needs one")),
    };
    if !tenant
        .bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.'))
        || tenant.starts_with('.')
    {
        return Err(misfit("tenant is neither a domain nor an id"));
    }
    let shared = ["common", "organizations", "consumers"];
    if settings.flow == Flow::ClientCredentials && shared.contains(&tenant) {
        return Err(misfit(&format!(
            "tenant: client_credentials needs a tenant's own domain or id, not {tenant}"
        )));
    }
    Provider::microsoft(&authority, tenant)
        .map_err(|_| misfit("authority and tenant make no valid URL"))
}

fn explicit_provider(settings: &Settings) -> Result<Provider, Error> {
    let endpoint = |name: &'static str, value: &Option<String>| {
        url_setting(name, value.as_deref()).map(|found| found.map(|(_, url)| url))
    };
    let Some((token, _)) = url_setting("token_endpoint", settings.token_endpoint.as_deref())?
    else {
        return Err(misfit("token_endpoint is missing"));
    };
    let endpoints = Endpoints {
        token: TokenUrl::new(token).map_err(|_| misfit("token_endpoint is not a URL"))?,
        authorization: endpoint("authorization_endpoint", &settings.authorization_endpoint)?
            .map(AuthUrl::from_url),
        device_authorization: endpoint(
            "device_authorization_endpoint",
            &settings.device_authorization_endpoint,
        )?
        .map(DeviceAuthorizationUrl::from_url),
        revocation: endpoint("revocation_endpoint", &settings.revocation_endpoint)?
            .map(RevocationUrl::from_url),
        userinfo: endpoint("userinfo_endpoint", &settings.userinfo_endpoint)?,
        issuer: IssuerCheck::Unknown,
    };
    match settings.flow {
        Flow::AuthorizationCode if endpoints.authorization.is_none() => {
            Err(misfit("authorization_endpoint is missing"))
        }
        Flow::DeviceCode if endpoints.device_authorization.is_none() => {
            Err(misfit("device_authorization_endpoint is missing"))
        }
        _ => Ok(Provider::Known(endpoints)),
    }
}

/// The URL in a setting, as written and as parsed. Whether plain HTTP is allowed is the
/// host's policy, not this plugin's.
fn url_setting(name: &str, value: Option<&str>) -> Result<Option<(String, Url)>, Error> {
    let Some(text) = value else { return Ok(None) };
    let url = Url::parse(text).map_err(|_| misfit(&format!("{name} is not an absolute URL")))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(misfit(&format!("{name} is not an https URL")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(misfit(&format!("{name} must not hold a user or password")));
    }
    if url.fragment().is_some() {
        return Err(misfit(&format!("{name} must not hold a fragment (#)")));
    }
    Ok(Some((text.to_owned(), url)))
}

fn client_auth(settings: &Settings, provider: &Provider) -> Result<ClientAuth, Error> {
    let secret = settings.client_secret.is_some();
    let key = settings.private_key.is_some();
    let certificate = settings.certificate.is_some();
    let assertion = settings.assertion.is_some();
    let for_jwt = [
        ("private_key", key),
        ("certificate", certificate),
        ("assertion", assertion),
    ]
    .into_iter()
    .find_map(|(name, given)| given.then_some(name));

    let method = match (settings.client_auth, for_jwt) {
        (Some(method), _) => method,
        (None, Some(_)) => ClientAuthSetting::PrivateKeyJwt,
        (None, None) if secret => ClientAuthSetting::Post,
        (None, None) => ClientAuthSetting::None,
    };
    match (method, for_jwt) {
        (ClientAuthSetting::PrivateKeyJwt, _) if secret => Err(misfit(
            "client_secret is not used with private_key_jwt: remove it, or set client_auth",
        )),
        (ClientAuthSetting::PrivateKeyJwt, _) if assertion && (key || certificate) => Err(misfit(
            "assertion and private_key exclude each other: keep one of them",
        )),
        (ClientAuthSetting::PrivateKeyJwt, _) if assertion => Ok(ClientAuth::Federated),
        (ClientAuthSetting::PrivateKeyJwt, _) if !key => {
            Err(misfit("private_key is missing: private_key_jwt needs it"))
        }
        (ClientAuthSetting::PrivateKeyJwt, _)
            if !certificate && matches!(provider, Provider::Microsoft(_)) =>
        {
            Err(misfit(
                "certificate is missing: Microsoft finds the key by it",
            ))
        }
        (ClientAuthSetting::PrivateKeyJwt, _) => Ok(ClientAuth::Key {
            certificate,
            algorithm: settings.assertion_alg,
            audience: settings.assertion_audience.clone(),
        }),
        (_, Some(name)) => Err(misfit(&format!(
            "{name} is only used with client_auth = \"private_key_jwt\""
        ))),
        (ClientAuthSetting::None, None) if secret => Err(misfit(
            "client_secret is given, but client_auth is \"none\": a public client has no secret",
        )),
        (ClientAuthSetting::None, None) if settings.flow == Flow::ClientCredentials => Err(misfit(
            "client_credentials needs client_secret, or certificate and private_key, or assertion",
        )),
        (ClientAuthSetting::None, None) => Ok(ClientAuth::Public),
        (ClientAuthSetting::Post | ClientAuthSetting::Basic, None) if !secret => {
            Err(misfit("client_secret is missing: client_auth asks for it"))
        }
        (ClientAuthSetting::Post, None) => Ok(ClientAuth::Post),
        (ClientAuthSetting::Basic, None) => Ok(ClientAuth::Basic),
    }
}

/// RFC 6749 §3.3: a scope token is printable ASCII without space, `"` and `\`.
pub(crate) fn scopes(scopes: Vec<String>) -> Result<Vec<Scope>, Error> {
    scopes
        .into_iter()
        .map(|scope| {
            let fits = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
            if scope.is_empty() || !scope.bytes().all(fits) {
                return Err(misfit(
                    "scopes: each item is one scope, without spaces, quotes or backslashes",
                ));
            }
            Ok(Scope::new(scope))
        })
        .collect()
}

/// RFC 8252 §7.3: a loopback redirect, over plain HTTP, since it never leaves the machine.
fn redirect_uri(setting: Option<&str>) -> Result<String, Error> {
    let Some((text, url)) = url_setting("redirect_uri", setting)? else {
        return Ok("http://localhost".to_owned());
    };
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() != "http" || !loopback || url.query().is_some() {
        return Err(misfit(
            "redirect_uri must be http on localhost, 127.0.0.1 or [::1], without a query",
        ));
    }
    Ok(text)
}

fn mechanisms(setting: Option<Vec<Mechanism>>) -> Result<Vec<Mechanism>, Error> {
    match setting {
        Some(list) if list.is_empty() => {
            Err(misfit("mechanisms is empty: name one, or leave it out"))
        }
        Some(list) => Ok(list),
        None => Ok(Mechanism::PREFERENCE.to_vec()),
    }
}
