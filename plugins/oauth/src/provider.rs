//! Where a provider's endpoints are: derived (Microsoft), given, or discovered.

use std::sync::OnceLock;

use oauth2::url::{ParseError, Url};
use oauth2::{AuthUrl, DeviceAuthorizationUrl, RevocationUrl, TokenUrl};
use postrider_plugin::wire::{HttpRequest, HttpResponse};
use postrider_plugin::{Error, ErrorKind, Io};
use serde::Deserialize;

use crate::refusal;
use crate::settings::misfit;

/// The tenant that all personal accounts are in.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// How the account names its provider.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Entra ID: endpoints derived from authority and tenant.
    Microsoft(Endpoints),
    /// Endpoints given one by one.
    Known(Endpoints),
    /// An issuer whose metadata names the endpoints.
    Discovered(String),
}

/// A provider's endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) token: TokenUrl,
    pub(crate) authorization: Option<AuthUrl>,
    pub(crate) device_authorization: Option<DeviceAuthorizationUrl>,
    pub(crate) revocation: Option<RevocationUrl>,
    pub(crate) userinfo: Option<Url>,
    pub(crate) issuer: IssuerCheck,
}

/// What `iss` is checked against, in a redirect (RFC 9207 §2.4) and in an ID token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IssuerCheck {
    /// The settings do not say who the issuer is.
    Unknown,
    /// Entra ID's `{authority}/{tenant id}/v2.0`: the settings may know the tenant by a domain,
    /// or leave it to the person who signs in.
    Entra {
        /// Without a slash at its end.
        authority: String,
        tenant_id: Option<String>,
    },
    /// This issuer, and `required` if its metadata promises to send `iss`.
    Exactly { issuer: String, required: bool },
}

impl Provider {
    /// Entra ID v2 at `authority`, an absolute URL.
    pub(crate) fn microsoft(authority: &str, tenant: &str) -> Result<Self, ParseError> {
        let base = authority.trim_end_matches('/');
        let endpoint = |name: &str| format!("{base}/{tenant}/oauth2/v2.0/{name}");
        Ok(Self::Microsoft(Endpoints {
            token: TokenUrl::new(endpoint("token"))?,
            authorization: Some(AuthUrl::new(endpoint("authorize"))?),
            device_authorization: Some(DeviceAuthorizationUrl::new(endpoint("devicecode"))?),
            revocation: None,
            // Entra ID's is Microsoft Graph's, which wants another access token than a mail
            // server does.
            userinfo: None,
            issuer: IssuerCheck::Entra {
                authority: Url::parse(base)?.as_str().trim_end_matches('/').to_owned(),
                tenant_id: tenant_id(tenant),
            },
        }))
    }

    /// The endpoints; discovered ones are fetched once and kept in `kept`.
    pub(crate) async fn endpoints<'a>(
        &'a self,
        io: &Io,
        kept: &'a OnceLock<Endpoints>,
    ) -> Result<&'a Endpoints, Error> {
        let issuer = match self {
            Self::Microsoft(endpoints) | Self::Known(endpoints) => return Ok(endpoints),
            Self::Discovered(issuer) => issuer,
        };
        if let Some(endpoints) = kept.get() {
            return Ok(endpoints);
        }
        let found = discover(io, issuer).await?;
        // Another flow may have been quicker: what it found is as good.
        Ok(kept.get_or_init(|| found))
    }
}

/// The tenant's id, where the setting tells it.
fn tenant_id(tenant: &str) -> Option<String> {
    let parts: Vec<_> = tenant.split('-').map(str::len).collect();
    match tenant {
        "consumers" => Some(CONSUMERS.to_owned()),
        _ if parts == [8, 4, 4, 4, 12] && !tenant.contains('.') => Some(tenant.to_owned()),
        _ => None,
    }
}

/// The members of a metadata document that matter here (RFC 8414 §2, RFC 8628 §4, RFC 9207
/// §3).
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: TokenUrl,
    authorization_endpoint: Option<AuthUrl>,
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    revocation_endpoint: Option<RevocationUrl>,
    userinfo_endpoint: Option<Url>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    fn endpoints(&self) -> impl Iterator<Item = (&'static str, &Url)> {
        let authorization = self.authorization_endpoint.as_ref().map(AuthUrl::url);
        let device = self.device_authorization_endpoint.as_ref();
        let revocation = self.revocation_endpoint.as_ref().map(RevocationUrl::url);
        [
            ("token_endpoint", Some(self.token_endpoint.url())),
            ("authorization_endpoint", authorization),
            (
                "device_authorization_endpoint",
                device.map(DeviceAuthorizationUrl::url),
            ),
            ("revocation_endpoint", revocation),
            ("userinfo_endpoint", self.userinfo_endpoint.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, url)| url.map(|url| (name, url)))
    }
}

/// The issuer's metadata: at the place OpenID Connect Discovery §4 gives it, else at that of
/// RFC 8414 §3.
async fn discover(io: &Io, issuer: &str) -> Result<Endpoints, Error> {
    let mut failure = None;
    for url in metadata_urls(issuer)? {
        let response = io
            .http(HttpRequest {
                method: "GET".to_owned(),
                url: url.to_string(),
                headers: vec![("accept".to_owned(), "application/json".to_owned())],
                body: None,
            })
            .await?;
        if response.status == 200 {
            match serde_json::from_slice(&response.body.0) {
                Ok(metadata) => return endpoints(metadata, issuer),
                Err(_) => failure = Some(refusal::unreadable(&response, url.as_str())),
            }
        } else {
            let error = absent(&response, &url, io.now_ms());
            if error.kind == ErrorKind::Transient {
                return Err(error);
            }
            failure.get_or_insert(error);
        }
    }
    Err(failure.unwrap_or_else(|| misfit("issuer has no metadata")))
}

fn absent(response: &HttpResponse, url: &Url, now_ms: u64) -> Error {
    let error = refusal::judge(response, url.as_str(), now_ms, str::to_owned);
    match error.kind {
        ErrorKind::Transient => error,
        _ => misfit(&format!(
            "issuer has no metadata: {url} answered HTTP {}",
            response.status
        )),
    }
}

fn metadata_urls(issuer: &str) -> Result<[Url; 2], Error> {
    let wrong = |_| misfit("issuer is not a URL");
    let base = issuer.trim_end_matches('/');
    let openid = Url::parse(&format!("{base}/.well-known/openid-configuration")).map_err(wrong)?;
    let mut oauth = Url::parse(base).map_err(wrong)?;
    let path = oauth.path().trim_end_matches('/').to_owned();
    oauth.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    Ok([openid, oauth])
}

/// Checks a metadata document (RFC 8414 §3.3): another issuer's could send the account's
/// secrets elsewhere.
fn endpoints(metadata: Metadata, issuer: &str) -> Result<Endpoints, Error> {
    if metadata.issuer != issuer {
        return Err(misfit(&format!(
            "issuer does not match: the provider calls itself {}",
            refusal::bounded(&metadata.issuer, 200)
        )));
    }
    let secure = issuer.starts_with("https:");
    for (name, url) in metadata.endpoints() {
        if url.scheme() != "https" && (secure || url.scheme() != "http") {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the provider's metadata: {name} is not an https URL"),
            ));
        }
    }
    Ok(Endpoints {
        token: metadata.token_endpoint,
        authorization: metadata.authorization_endpoint,
        device_authorization: metadata.device_authorization_endpoint,
        revocation: metadata.revocation_endpoint,
        userinfo: metadata.userinfo_endpoint,
        issuer: IssuerCheck::Exactly {
            issuer: metadata.issuer,
            required: metadata.authorization_response_iss_parameter_supported,
        },
    })
}
