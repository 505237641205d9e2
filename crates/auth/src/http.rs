//! HTTP for plugins: their requests, our policy.
//!
//! TLS as configured by the host, no redirects, everything bounded in size and time. Which
//! hosts may be reached is decided before ([`crate::flow::hosts`]), except for where a name
//! leads: that is known only when it is resolved, so it is checked there, on the very
//! addresses that are then connected to. Through a proxy, the proxy resolves, and what it
//! may reach is for whoever runs it to say.

use std::env;
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postrider_plugin::wire::{Failure, FailureKind, HttpRequest, HttpResponse, Octets};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Method, NoProxy, Proxy, redirect};
use url::Url;

use crate::flow::hosts::{Reach, is_public};
use crate::scrub::one_line;

/// How plugins' requests are made.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Trust anchors and TLS versions (1.2 at least).
    pub tls: rustls::ClientConfig,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may take altogether.
    pub total_timeout: Duration,
    /// The largest response body, in octets.
    pub body_cap: usize,
    /// Which proxy to go through.
    pub proxy: ProxySetting,
}

/// Which proxy HTTPS requests go through. Plain HTTP, which is for loopback and metadata
/// services, never does.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum ProxySetting {
    /// `HTTPS_PROXY` and `NO_PROXY` of the environment, upper or lower case.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one.
    Explicit {
        /// The proxy's URL, with user and password if it wants them.
        url: String,
        /// Hosts to reach without it, as in `NO_PROXY`.
        no_proxy: String,
    },
}

impl fmt::Debug for ProxySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::Direct => "Direct",
            Self::Explicit { .. } => "Explicit",
        })
    }
}

impl HttpSettings {
    /// The usual limits: 10 s to connect, 30 s altogether, 1 MiB.
    pub fn new(tls: rustls::ClientConfig) -> Self {
        Self {
            tls,
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            body_cap: 1 << 20,
            proxy: ProxySetting::default(),
        }
    }
}

/// Why the HTTP client could not be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError(String);

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HttpError {}

/// What a request of a plugin may be at most. Far above what OAuth needs.
const URL_OCTETS: usize = 16 << 10;
const HEADER_FIELDS: usize = 64;
const HEADER_OCTETS: usize = 64 << 10;
const BODY_OCTETS: usize = 1 << 20;

const USER_AGENT: &str = concat!(
    "postrider/",
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR")
);

/// Header fields that frame the message or belong to the host.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

const METHODS: [Method; 6] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// Performs plugins' HTTP requests.
#[derive(Clone)]
pub struct Http {
    anywhere: Client,
    public: Client,
    total_timeout: Duration,
    body_cap: usize,
}

impl Http {
    /// A client with these settings.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        let HttpSettings {
            tls,
            connect_timeout,
            total_timeout,
            body_cap,
            proxy,
        } = settings;
        let proxy = proxy_address(proxy, |name| env::var(name).ok());
        let public_only = PublicOnly {
            except: proxy.as_ref().and_then(|(url, _)| host_of(url)),
        };
        let client = |public_only: Option<PublicOnly>| {
            let mut builder = Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(USER_AGENT)
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(connect_timeout)
                .timeout(total_timeout)
                .no_proxy();
            if let Some(proxy) = &proxy {
                builder = builder.proxy(through(proxy)?);
            }
            if let Some(resolver) = public_only {
                builder = builder.dns_resolver(Arc::new(resolver));
            }
            builder
                .build()
                .map_err(|error| HttpError(one_line(&format!("no http client: {error}"), 300)))
        };
        Ok(Self {
            anywhere: client(None)?,
            public: client(Some(public_only))?,
            total_timeout,
            body_cap,
        })
    }

    /// Performs `request`, whose `url` the account's list allows as far as `reach`.
    pub(crate) async fn perform(
        &self,
        request: &HttpRequest,
        url: Url,
        reach: Reach,
    ) -> Result<HttpResponse, Unperformed> {
        let peer = format!(
            "{}:{}",
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default()
        );
        let client = match reach {
            Reach::Public => &self.public,
            Reach::Anywhere => &self.anywhere,
        };
        let request = build(client, request, url)?;
        self.exchange(client, request)
            .await
            .map_err(|error| match error {
                Trouble::TooLarge => Unperformed {
                    failure: refused(format!(
                        "the response of {peer} is larger than {} octets",
                        self.body_cap
                    )),
                    sent: true,
                },
                Trouble::Request(error) => Unperformed {
                    failure: self.failure(&peer, &error),
                    sent: !error.is_connect(),
                },
            })
    }

    async fn exchange(
        &self,
        client: &Client,
        request: reqwest::Request,
    ) -> Result<HttpResponse, Trouble> {
        let mut response = client.execute(request).await?;
        let mut body = Octets::default();
        while let Some(chunk) = response.chunk().await? {
            if chunk.len() > self.body_cap - body.0.len() {
                return Err(Trouble::TooLarge);
            }
            body.0.extend_from_slice(&chunk);
        }
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        Ok(HttpResponse {
            status: response.status().as_u16(),
            headers,
            body,
        })
    }

    /// Says what happened without the URL, whose query may be secret.
    fn failure(&self, peer: &str, error: &reqwest::Error) -> Failure {
        let mut innermost: &(dyn std::error::Error + 'static) = error;
        while let Some(source) = innermost.source() {
            innermost = source;
            if innermost.is::<NotPublic>() {
                return refused(format!(
                    "{peer} leads to no public address; allow_hosts may allow it"
                ));
            }
        }
        let message = if error.is_timeout() {
            format!(
                "{peer} did not answer within {} s",
                self.total_timeout.as_secs()
            )
        } else if error.source().is_none() {
            format!("the exchange with {peer} failed")
        } else {
            one_line(&format!("cannot talk to {peer}: {innermost}"), 300)
        };
        Failure {
            kind: FailureKind::Unreachable,
            message,
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// Why a plugin gets no response.
#[derive(Debug)]
pub(crate) struct Unperformed {
    pub(crate) failure: Failure,
    /// Whether the other side may have received the request.
    pub(crate) sent: bool,
}

impl From<Failure> for Unperformed {
    /// It was not even tried.
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            sent: false,
        }
    }
}

/// Why an exchange brought no response.
enum Trouble {
    TooLarge,
    Request(reqwest::Error),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        Self::Request(error)
    }
}

pub(crate) fn refused(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Refused,
        message: message.into(),
    }
}

/// A plugin's request as ours, if it is one a plugin may make.
fn build(client: &Client, request: &HttpRequest, url: Url) -> Result<reqwest::Request, Failure> {
    if url.as_str().len() > URL_OCTETS {
        return Err(refused("the url is too long"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("the url contains a user name or password"));
    }
    let Some(method) = METHODS
        .iter()
        .find(|method| method.as_str() == request.method)
    else {
        return Err(refused("the method is not one a plugin may use"));
    };
    let octets = |(name, value): &(String, String)| name.len() + value.len();
    if request.headers.len() > HEADER_FIELDS
        || request.headers.iter().map(octets).sum::<usize>() > HEADER_OCTETS
    {
        return Err(refused("the request has too many header fields"));
    }
    let mut ours = client.request(method.clone(), url);
    for (name, value) in &request.headers {
        let shown = one_line(name, 64);
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(refused(format!("{shown:?} is no header field name")));
        };
        if OURS.contains(&name.as_str()) {
            return Err(refused(format!("header field {name} is the host's to set")));
        }
        let Ok(mut value) = HeaderValue::from_str(value) else {
            return Err(refused(format!(
                "the value of header field {name} contains what must not stand there"
            )));
        };
        value.set_sensitive(true);
        ours = ours.header(name, value);
    }
    if let Some(body) = &request.body {
        if body.0.len() > BODY_OCTETS {
            return Err(refused("the request body is larger than 1 MiB"));
        }
        ours = ours.body(body.0.clone());
    }
    ours.build()
        .map_err(|_| refused("the request makes no sense"))
}

/// The proxy of the environment, for another client that is to go the same way.
pub fn environment_proxy() -> Result<Option<Proxy>, HttpError> {
    proxy_address(ProxySetting::Environment, |name| env::var(name).ok())
        .as_ref()
        .map(through)
        .transpose()
}

fn through((url, except): &(String, String)) -> Result<Proxy, HttpError> {
    // The URL may hold a password: say nothing of it.
    let proxy = Proxy::https(url)
        .map_err(|_| HttpError("the proxy's address is not a usable url".into()))?;
    Ok(proxy.no_proxy(NoProxy::from_string(except)))
}

/// The proxy's URL and the hosts to reach without it.
fn proxy_address(
    setting: ProxySetting,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(String, String)> {
    let either = |upper: &str, lower: &str| variable(upper).or_else(|| variable(lower));
    let (url, except) = match setting {
        ProxySetting::Direct => return None,
        ProxySetting::Explicit { url, no_proxy } => (url, no_proxy),
        ProxySetting::Environment => (
            either("HTTPS_PROXY", "https_proxy")?,
            either("NO_PROXY", "no_proxy").unwrap_or_default(),
        ),
    };
    (!url.trim().is_empty()).then_some((url, except))
}

/// The host of a proxy, which may be given without a scheme.
fn host_of(proxy: &str) -> Option<String> {
    let url = match Url::parse(proxy) {
        Ok(url) if url.has_host() => url,
        _ => Url::parse(&format!("http://{proxy}")).ok()?,
    };
    url.host_str().map(str::to_owned)
}

/// Resolves names to public addresses only.
#[derive(Debug)]
struct PublicOnly {
    /// The operator's proxy, which may be anywhere.
    except: Option<String>,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let anywhere = self.except.as_deref() == Some(name.as_str());
        Box::pin(async move {
            let mut addresses: Vec<_> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if !anywhere {
                addresses.retain(|address| is_public(address.ip()));
                if addresses.is_empty() {
                    return Err(NotPublic.into());
                }
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// A name led to no public address.
#[derive(Debug)]
struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no public address")
    }
}

impl std::error::Error for NotPublic {}

#[cfg(test)]
mod tests;
