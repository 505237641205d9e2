//! What host and plugin say to each other: the JSON inside the ABI's byte strings.
//!
//! A flow is a conversation. `begin` carries an input ([`LoginInput`], [`ObtainInput`],
//! [`SaslInput`], [`RevokeInput`]); the plugin answers with an [`Action`] and the host comes
//! back with an [`Event`], until the plugin answers with its result ([`Tokens`], or `{}`) or
//! with an [`ErrorDetail`]. Whoever reads ignores keys it does not know, so both sides may
//! be newer than the other.
//!
//! Times are milliseconds since the Unix epoch, durations say their unit, binary is base64
//! (RFC 4648 §4, padded).

use std::fmt;

use base64::{Engine as _, display::Base64Display, engine::general_purpose::STANDARD};
use schemars::Schema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

/// Octets, base64 on the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Octets(pub Vec<u8>);

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Octets({} octets)", self.0.len())
    }
}

impl Drop for Octets {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Encoded while it is written, so that no encoded copy stays in memory.
        serializer.collect_str(&Base64Display::new(&self.0, &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        STANDARD
            .decode(&*text)
            .map(Octets)
            .map_err(|_| serde::de::Error::custom("not base64 (RFC 4648 §4)"))
    }
}

/// Text that is secret: `Debug` shows nothing of it, and it is wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes ownership of `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: only for what is about to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a plugin says of itself, before any account exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The plugin's name, as `plugin = "…"` in an account names it.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// One line for people.
    #[serde(default)]
    pub summary: String,
    /// The operations it implements.
    pub ops: Vec<Op>,
    /// SASL mechanisms it speaks, best first (`XOAUTH2`, `PLAIN`, …).
    #[serde(default)]
    pub mechanisms: Vec<String>,
    /// JSON Schema 2020-12 of its settings. A property with `"x-postrider-secret": true` is
    /// never handed to `create`; the plugin asks for it with [`Action::SecretGet`].
    pub config_schema: Schema,
    /// Hosts it may reach over HTTPS: `host`, `host:port`, or `{setting}` for the host and
    /// port of the URL or host name in that setting.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// The operations of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Op {
    /// A person signs in once: browser, or device code.
    Login = 1,
    /// An access token without a person: refresh, client credentials.
    Obtain = 2,
    /// One SASL exchange (RFC 4422).
    Sasl = 3,
    /// The provider is told to forget a token (RFC 7009).
    Revoke = 4,
}

impl Op {
    /// The operation with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Login, Self::Obtain, Self::Sasl, Self::Revoke]
            .into_iter()
            .find(|op| *op as u32 == number)
    }
}

/// What `create` receives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The account's name, for messages.
    pub account: String,
    /// Who signs in (RFC 4616 authcid).
    pub username: String,
    /// The settings, checked against `config_schema`, without the secret ones.
    pub settings: Map<String, Value>,
    /// Names of the secret settings that are present.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Names of the actions this host can perform, as in [`Action`]'s JSON.
    #[serde(default)]
    pub host_features: Vec<String>,
}

/// Input of [`Op::Login`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoginInput {
    /// The host's clock.
    pub now_ms: u64,
    /// How the person will take part.
    pub method: LoginMethod,
}

/// How a person takes part in a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginMethod {
    /// A browser and a loopback redirect (RFC 8252 §7.3).
    Browser,
    /// A code typed on another device (RFC 8628).
    DeviceCode,
}

/// Input of [`Op::Obtain`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObtainInput {
    /// The host's clock.
    pub now_ms: u64,
    /// The refresh token of an earlier login, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// Scopes to ask for in place of the account's: for a token of another resource, where the
    /// provider's refresh tokens are not bound to one. A plugin that cannot says so
    /// (`unsupported`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// Input of [`Op::Sasl`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SaslInput {
    /// The host's clock.
    pub now_ms: u64,
    /// Mechanisms the server offers, in its order.
    pub offered: Vec<String>,
    /// Who proves (RFC 4616).
    pub authcid: String,
    /// Whom to act for, if another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authzid: Option<String>,
    /// The server's host name, as connected to (RFC 7628 `host`).
    pub host: String,
    /// The server's port (RFC 7628 `port`).
    pub port: u16,
    /// The access token, where the plugin obtains tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Secret>,
}

/// Input of [`Op::Revoke`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevokeInput {
    /// The host's clock.
    pub now_ms: u64,
    /// The refresh token to revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// The access token to revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Secret>,
}

/// What a flow asks the host to do. One JSON object with one key: `{"sleep_ms":5000}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Perform an HTTP request; answered by [`Answer::Http`].
    Http(HttpRequest),
    /// Wait so many milliseconds; answered by [`Answer::Slept`].
    SleepMs(u64),
    /// So many random octets (1 to 1024); answered by [`Answer::Random`].
    Random(u32),
    /// Listen for a redirect on the loopback interface; answered by [`Answer::Listening`].
    Listen(Listen),
    /// Show the person this URL and await the redirect to the listener; answered by
    /// [`Answer::Redirect`].
    OpenUrl(OpenUrl),
    /// Show the person this code; answered at once by [`Answer::Shown`].
    DeviceCode(DeviceCode),
    /// Ask the person; answered by [`Answer::Text`].
    Prompt(Prompt),
    /// A secret setting by name; answered by [`Answer::Secret`].
    SecretGet(String),
    /// Send `AUTH` with this mechanism; answered by [`Answer::SaslChallenge`] if the server
    /// asks for more. Only in [`Op::Sasl`].
    SaslStart(SaslStart),
    /// Answer the server's challenge. Only in [`Op::Sasl`].
    SaslSend(Octets),
}

impl Action {
    /// The names a host lists in [`Config::host_features`] when it performs all of them.
    pub const FEATURES: [&'static str; 10] = [
        "http",
        "sleep_ms",
        "random",
        "listen",
        "open_url",
        "device_code",
        "prompt",
        "secret_get",
        "sasl_start",
        "sasl_send",
    ];

    /// Its key in the JSON, as listed in [`Action::FEATURES`].
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::SleepMs(_) => "sleep_ms",
            Self::Random(_) => "random",
            Self::Listen(_) => "listen",
            Self::OpenUrl(_) => "open_url",
            Self::DeviceCode(_) => "device_code",
            Self::Prompt(_) => "prompt",
            Self::SecretGet(_) => "secret_get",
            Self::SaslStart(_) => "sasl_start",
            Self::SaslSend(_) => "sasl_send",
        }
    }
}

/// An HTTP request. The host adds `Host`, `Content-Length` and its own `User-Agent`; it
/// follows no redirect.
#[derive(Clone, Serialize, Deserialize)]
pub struct HttpRequest {
    /// `GET`, `POST`, ….
    pub method: String,
    /// Absolute, `https` unless the operator allowed otherwise.
    pub url: String,
    /// Header fields in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Octets>,
}

/// An HTTP response.
#[derive(Clone, Serialize, Deserialize)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body, at most 1 MiB.
    #[serde(default)]
    pub body: Octets,
}

impl fmt::Debug for HttpRequest {
    /// Without what may be secret: query, header values, body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.url.split(['?', '#']).next().unwrap_or_default();
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &place)
            .field("headers", &Names(&self.headers))
            .field("body", &self.body)
            .finish()
    }
}

impl fmt::Debug for HttpResponse {
    /// Without what may be secret: header values, body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("headers", &Names(&self.headers))
            .field("body", &self.body)
            .finish()
    }
}

/// Header fields by name alone.
struct Names<'a>(&'a [(String, String)]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl HttpResponse {
    /// The first header field of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A loopback listener for one redirect (RFC 8252 §7.3).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listen {
    /// The registered redirect URI without its port, such as `http://localhost/`.
    pub redirect_uri: String,
}

/// A URL for the person's browser.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenUrl {
    /// The URL, as the browser should open it.
    pub url: String,
}

/// A code for another device (RFC 8628 §3.2).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceCode {
    /// What the person types.
    pub user_code: String,
    /// Where the person types it.
    pub verification_uri: String,
    /// The same with the code in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<String>,
    /// Seconds until the code lapses.
    pub expires_in: u64,
    /// The provider's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A question for the person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prompt {
    /// What to ask.
    pub label: String,
    /// Whether the answer must not be echoed.
    #[serde(default)]
    pub secret: bool,
}

/// The first command of a SASL exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SaslStart {
    /// One of the mechanisms the server offers.
    pub mechanism: String,
    /// The initial response (RFC 4422 §3); the host sends it with `AUTH` where the line
    /// fits, and after an empty `334` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_response: Option<Octets>,
}

/// What the host brings back: the clock, and the answer to the last action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// The host's clock.
    pub now_ms: u64,
    /// The answer; its key stands beside `now_ms`.
    #[serde(flatten)]
    pub answer: Answer,
}

/// The answer to an [`Action`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The response to [`Action::Http`].
    Http(HttpResponse),
    /// [`Action::SleepMs`] is over.
    Slept(Empty),
    /// Random octets.
    Random(Octets),
    /// The listener is up; this is the redirect URI with its port.
    Listening(String),
    /// The browser came back to this URL.
    Redirect(Secret),
    /// The code was shown.
    Shown(Empty),
    /// What the person typed.
    Text(Secret),
    /// The secret setting.
    Secret(Secret),
    /// The server's challenge, decoded.
    SaslChallenge(Octets),
    /// The action could not be performed.
    Failed(Failure),
}

impl Answer {
    /// Its key in the JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Slept(_) => "slept",
            Self::Random(_) => "random",
            Self::Listening(_) => "listening",
            Self::Redirect(_) => "redirect",
            Self::Shown(_) => "shown",
            Self::Text(_) => "text",
            Self::Secret(_) => "secret",
            Self::SaslChallenge(_) => "sasl_challenge",
            Self::Failed(_) => "failed",
        }
    }
}

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Why the host could not perform an action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure, for decisions.
    pub kind: FailureKind,
    /// What happened, for people.
    pub message: String,
}

/// The failures a plugin may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The other side could not be reached or did not answer in time.
    Unreachable,
    /// The host's policy forbids it: a host not on the list, plain HTTP, too large.
    Refused,
    /// Nobody is there to answer, or they declined.
    NoUser,
    /// There is no such thing: an unknown secret, an unknown action.
    Missing,
}

/// The result of [`Op::Login`] and [`Op::Obtain`] (RFC 6749 §5.1).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// The access token.
    pub access_token: Secret,
    /// `Bearer`, as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// Seconds the access token lives from when the request was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// Seconds after which the provider would like it refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_in: Option<u64>,
    /// The refresh token, if a new one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// Seconds the refresh token lives from when the request was sent, where the provider
    /// says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token_expires_in: Option<u64>,
    /// Scopes granted, separated by spaces, in the provider's words; none where it says
    /// nothing, which means: those asked for (RFC 6749 §5.1).
    ///
    /// A provider may list more than was asked for, and may leave out scopes which are not
    /// about the access token (`openid`, `profile`, `email`, `offline_access`): whether those
    /// were granted shows in [`Tokens::id_token`] and [`Tokens::refresh_token`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The ID token (OpenID Connect Core §2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<Secret>,
    /// Who signed in, as far as the provider says. Only of [`Op::Login`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// Who signed in, in the provider's words, checked by the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The names this person goes by: `preferred_username`, `upn`, and `email` unless the
    /// provider says it is not verified; in this order, each once.
    #[serde(default)]
    pub usernames: Vec<String>,
    /// `sub`: the provider's own, stable name for the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `tid`: Microsoft's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// `name`: for people to read, and for no decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the provider said so.
    #[serde(default)]
    pub source: IdentitySource,
}

/// Where an [`Identity`] comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentitySource {
    /// An ID token of the token endpoint (OpenID Connect Core §3.1.3.7).
    #[default]
    IdToken,
    /// The userinfo endpoint (OpenID Connect Core §5.3).
    Userinfo,
}

/// What a negative result carries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// What happened, one lower-case line.
    pub message: String,
    /// `error` of the provider (RFC 6749 §5.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_error: Option<String>,
    /// `suberror` of Entra ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_suberror: Option<String>,
    /// `error_description` of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_description: Option<String>,
    /// When a retry makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// A page that helps a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_url: Option<String>,
}
