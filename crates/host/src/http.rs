//! HTTP for scripts: so that a warning leaves by another road than mail.
//!
//! Certificates are always checked, nothing is followed or tried again, and everything is
//! bounded in size and time. What goes wrong is said with host and port alone: in the rest of
//! a webhook's address lies what makes it somebody's.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider_smtp::TlsFailure;
use postrider_smtp::tls::{self, Roots};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect;
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::Failure;
use crate::failure::with_sources;

pub use postrider_lua::request::{
    Method, RESPONSE_OCTETS, RESPONSE_OCTETS_MAX, Request, Response, TIMEOUT,
};

/// The largest request body: alerts are small.
const REQUEST_OCTETS: usize = 1 << 20;
const URL_OCTETS: usize = 16 << 10;
const HEADER_FIELDS: usize = 64;
const HEADER_OCTETS: usize = 64 << 10;
/// How long a connection may take, before another attempt is better than patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way at one time; further ones wait, and their time does not run.
const AT_ONCE: usize = 16;

const USER_AGENT: &str = concat!(
    "postrider/",
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR")
);

/// Header fields that frame the message or belong to the connection.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How far requests may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Anywhere.
    Anywhere,
    /// To this machine only, as with `--sandbox`.
    Loopback,
}

/// Performs requests.
pub struct Client {
    reach: Reach,
    known: Mutex<HashMap<(Trust, Reach), reqwest::Client>>,
    slots: Semaphore,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("reach", &self.reach)
            .finish_non_exhaustive()
    }
}

/// Whose word is taken for who a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trust {
    /// Nobody's: there is no TLS.
    Nobody,
    Platform,
    File(PathBuf),
}

impl Client {
    /// One whose requests go no further than `reach`. Nothing is read or connected yet.
    pub fn new(reach: Reach) -> Self {
        Self {
            reach,
            known: Mutex::default(),
            slots: Semaphore::new(AT_ONCE),
        }
    }

    /// Performs `request`.
    ///
    /// # Errors
    /// Why there is no response. A response with any status is none of them.
    pub async fn send(&self, request: Request) -> Result<Response, Failure> {
        let url = parse_url(request.url.expose_secret())?;
        let peer = peer(&url);
        let (trust, reach) = self.route(&request, &url, &peer)?;
        let sent = checked(&request)?;
        let client = self.client(trust, reach).await?;

        let (method, span) = (request.method, request.timeout);
        let sent = match method {
            Method::Get => client.get(url),
            Method::Post => client.post(url).body(request.body),
        }
        .headers(sent);
        let _slot = self.slots.acquire().await;
        match tokio::time::timeout(span, exchange(sent, request.max_octets)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Trouble::TooLarge)) => Err(Failure::new(
                "http.response_too_large",
                format!(
                    "the response of {peer} is larger than {} octets",
                    request.max_octets
                ),
            )
            .with_remedy("allow more with max_octets")),
            Ok(Err(Trouble::Failed(error))) => Err(failure(&error, &peer, method)),
            Err(_) => Err(Failure {
                retryable: method == Method::Get,
                ..Failure::new(
                    "network.timeout",
                    format!("{peer} did not answer within {span:?}"),
                )
            }),
        }
    }

    /// By which rules the request travels.
    fn route(&self, request: &Request, url: &Url, peer: &str) -> Result<(Trust, Reach), Failure> {
        let is_here = is_loopback(url);
        if self.reach == Reach::Loopback && !is_here {
            return Err(Failure::new(
                "config.outside_sandbox",
                format!(
                    "{peer} is not this machine, and in the sandbox nothing goes to the outside"
                ),
            )
            .with_remedy(
                "give an address of this machine, or run without --sandbox (the repl with --live)",
            ));
        }
        if url.scheme() == "https" {
            let trust = request.ca_file.clone().map_or(Trust::Platform, Trust::File);
            return Ok((trust, self.reach));
        }
        if is_here {
            return Ok((Trust::Nobody, Reach::Loopback));
        }
        if request.danger_plaintext {
            return Ok((Trust::Nobody, Reach::Anywhere));
        }
        Err(Failure::new(
            "http.plaintext",
            format!("nothing was sent: plain http to {peer} could be read and changed on the way"),
        )
        .with_remedy("use https; danger_plaintext = true allows it all the same"))
    }

    /// The client for these rules, made once.
    async fn client(&self, trust: Trust, reach: Reach) -> Result<reqwest::Client, Failure> {
        let key = (trust, reach);
        if let Some(client) = self.lock().get(&key) {
            return Ok(client.clone());
        }
        let (trust, reach) = key.clone();
        let made = tokio::task::spawn_blocking(move || make(trust, reach))
            .await
            .map_err(|_| Failure::new("internal", "setting http up was interrupted"))??;
        Ok(self.lock().entry(key).or_insert(made).clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Trust, Reach), reqwest::Client>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads files.
fn make(trust: Trust, reach: Reach) -> Result<reqwest::Client, Failure> {
    let tls = match trust {
        Trust::Nobody => tls::client_config_trusting(rustls::RootCertStore::empty()),
        Trust::Platform => tls::client_config(&Roots::default()),
        Trust::File(path) => tls::client_config(&Roots {
            ca_file: Some(path),
        }),
    }
    .map_err(|error| Failure::new("config.trust", with_sources(&error)))?;
    client_over(tls, reach)
}

/// A client that trusts whom `tls` does and goes no further than `reach`.
pub(crate) fn client_over(
    tls: rustls::ClientConfig,
    reach: Reach,
) -> Result<reqwest::Client, Failure> {
    let unusable = |why: &dyn Error| Failure::new("config.http", with_sources(why));
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .dns_resolver(Arc::new(Resolver(reach)))
        .no_proxy();
    if reach == Reach::Anywhere
        && let Some(proxy) =
            postrider_auth::environment_proxy().map_err(|error| unusable(&error))?
    {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| unusable(&error))
}

/// Why an exchange brought no response.
enum Trouble {
    TooLarge,
    Failed(reqwest::Error),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        // Its own words may name the url.
        Self::Failed(error.without_url())
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    max_octets: usize,
) -> Result<Response, Trouble> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > max_octets - body.len() {
            return Err(Trouble::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    Ok(Response {
        status: response.status().as_u16(),
        headers,
        body,
    })
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("http.invalid", message)
}

/// The address, if it is one; nothing of what it is otherwise.
fn parse_url(text: &str) -> Result<Url, Failure> {
    if text.len() > URL_OCTETS {
        return Err(invalid(format!(
            "the url is longer than {URL_OCTETS} octets"
        )));
    }
    let url =
        Url::parse(text.trim()).map_err(|problem| invalid(format!("not a url: {problem}")))?;
    match url.scheme() {
        "https" | "http" => Ok(url),
        _ => Err(invalid("the url begins with neither https:// nor http://")),
    }
}

/// `hooks.example.org:443`.
pub(crate) fn peer(url: &Url) -> String {
    format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or_default()
    )
}

/// Whether the url names this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The header fields, if all of the request is fit to be sent.
fn checked(request: &Request) -> Result<reqwest::header::HeaderMap, Failure> {
    if request.body.len() > REQUEST_OCTETS {
        return Err(Failure::new(
            "http.request_too_large",
            format!(
                "the request has {} octets, more than {REQUEST_OCTETS}",
                request.body.len()
            ),
        ));
    }
    let octets: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.expose_secret().len())
        .sum();
    if request.headers.len() > HEADER_FIELDS || octets > HEADER_OCTETS {
        return Err(invalid(format!(
            "the request has more than {HEADER_FIELDS} header fields or {HEADER_OCTETS} octets in them"
        )));
    }
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in &request.headers {
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(invalid(format!(
                "{} is no name of a header field",
                name.escape_debug().take(80).collect::<String>()
            )));
        };
        if OURS.contains(&known.as_str()) {
            return Err(invalid(format!("header field {known} is not yours to set")));
        }
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| {
            invalid(format!(
                "header field {known} has a line break or something else in it that is not plain text"
            ))
        })?;
        value.set_sensitive(true);
        headers.append(known, value);
    }
    Ok(headers)
}

/// What happened, by what can be done.
pub(crate) fn failure(error: &reqwest::Error, peer: &str, method: Method) -> Failure {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
        if let Some(error) = cause.downcast_ref::<NotResolved>() {
            return Failure::new("network.dns", format!("{peer}: {error}"))
                .with_remedy("check the name, and this machine's resolver")
                .retryable();
        }
        if let Some(error) = cause.downcast_ref().and_then(handshake_error) {
            let reason = tls::explain(error);
            return Failure::new("tls.failed", format!("{peer}: {reason}"))
                .with_remedy(tls_remedy(&reason));
        }
    }
    let innermost: String = cause.to_string().escape_debug().take(200).collect();
    if error.is_connect() {
        let what = if error.is_timeout() {
            format!("{peer} did not answer within {CONNECT_TIMEOUT:?}")
        } else {
            format!("cannot connect to {peer}: {innermost}")
        };
        return Failure::new("network.connect", what)
            .with_remedy("check host and port, and that a firewall lets this machine out there")
            .retryable();
    }
    Failure {
        retryable: method == Method::Get,
        ..Failure::new(
            "network.lost",
            format!("the exchange with {peer} broke off: {innermost}"),
        )
    }
}

/// The error that holds rustls's own; connectors wrap it in others, which do not name it as
/// their source.
fn handshake_error(mut error: &io::Error) -> Option<&io::Error> {
    loop {
        let inner = error.get_ref()?;
        if inner.is::<rustls::Error>() {
            return Some(error);
        }
        error = inner.downcast_ref()?;
    }
}

fn tls_remedy(reason: &TlsFailure) -> &'static str {
    match reason {
        TlsFailure::Expired => "the server's administrator has to renew its certificate",
        TlsFailure::NotYetValid => "check this machine's clock",
        TlsFailure::UnknownAuthority => "for a private authority, name its certificate as ca_file",
        _ => "check that host and port are the right ones",
    }
}

/// Resolves names, and says so when it could not.
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let mut found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(|error| NotResolved(error.to_string()))?
                .collect();
            if reach == Reach::Loopback {
                found.retain(|address| address.ip().is_loopback());
            }
            if found.is_empty() {
                return Err(NotResolved("the name leads nowhere".to_owned()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A name led to no address.
#[derive(Debug)]
struct NotResolved(String);

impl fmt::Display for NotResolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NotResolved {}

#[cfg(test)]
mod tests;
