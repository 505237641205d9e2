//! Where a Microsoft 365 account signs in, sends and is administered: one of Microsoft's clouds,
//! a sandbox, or what the configuration says already.

use std::path::PathBuf;

use postrider_config::{Presets, TlsMode};
use postrider_setup::Cloud;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::app::App;
use crate::failure::Failure;
use crate::http::{self, Client, Method, Reach, Request};

/// A sign-in service, the Graph and the server that belong to it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The preset of the account: `microsoft365`.
    pub provider: &'static str,
    /// The sign-in service.
    pub authority: Url,
    /// Microsoft Graph.
    pub graph: Url,
    /// Further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// The submission server, where it is not the preset's.
    pub server: Option<(String, u16)>,
    /// Whether the authority is not the preset's.
    pub own_authority: bool,
}

/// The preset for a cloud.
pub fn provider(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "microsoft365",
        Cloud::GccHigh => "microsoft365-gcchigh",
        Cloud::Dod => "microsoft365-dod",
        Cloud::China => "microsoft365-china",
    }
}

/// What a sandbox says of itself at `GET /v1/address`.
#[derive(Deserialize)]
struct SandboxAnswer {
    smtp_host: String,
    smtp_port: u16,
    authority: String,
    graph: String,
    ca_file: PathBuf,
}

/// What is read of a discovery document (facts B1).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    msgraph_host: Option<String>,
}

impl Place {
    /// One of Microsoft's clouds.
    ///
    /// # Errors
    /// The table of providers does not know it.
    pub fn of_cloud(cloud: Cloud) -> Result<Self, Failure> {
        let provider = provider(cloud);
        let unknown = || Failure::new("internal", format!("{provider} has no sign-in service"));
        let preset = Presets::all().iter().find(|one| one.name == provider);
        let (authority, graph) = preset
            .and_then(postrider_config::Preset::directory)
            .ok_or_else(unknown)?;
        Ok(Self {
            provider,
            authority,
            graph,
            ca_file: None,
            server: None,
            own_authority: false,
        })
    }

    /// The sandbox whose control address is `control`.
    ///
    /// # Errors
    /// Nobody answers there, or it is no sandbox of this version.
    pub async fn of_sandbox(control: &Url, cloud: Cloud) -> Result<Self, Failure> {
        let url = control
            .join("v1/address")
            .map_err(|_| Failure::new("usage.sandbox", "--sandbox is not the URL of a sandbox"))?;
        let client = Client::new(Reach::Loopback);
        let body = get(&client, &url, None).await?;
        let none = || {
            Failure::new(
                "usage.sandbox",
                format!("what answers at {url} is no sandbox"),
            )
            .with_remedy("give the address that `postrider sandbox` prints as its inbox")
        };
        let found: SandboxAnswer = serde_json::from_slice(&body).map_err(|_| none())?;
        Ok(Self {
            provider: provider(cloud),
            authority: found.authority.parse().map_err(|_| none())?,
            graph: found.graph.parse().map_err(|_| none())?,
            ca_file: Some(found.ca_file),
            server: Some((found.smtp_host, found.smtp_port)),
            own_authority: true,
        })
    }

    /// Where the account called `name` signs in already; nothing where it is not one of
    /// Microsoft 365's, or signs in where its preset says.
    ///
    /// # Errors
    /// Its sign-in service does not say where Graph is.
    pub async fn of_account(app: &App, name: &str, cloud: Cloud) -> Result<Option<Self>, Failure> {
        let Some(account) = app.config().accounts.get(name) else {
            return Ok(None);
        };
        let setting = |name: &str| account.auth.settings.get(name).and_then(Value::as_str);
        let Some(authority) = setting("authority").and_then(|text| Url::parse(text).ok()) else {
            return Ok(None);
        };
        if account.graph().is_some() {
            return Ok(None);
        }
        let tenant = setting("tenant").unwrap_or("common");
        let ca_file = account.ca_file.clone();
        let graph = discover(&authority, tenant, ca_file.clone()).await?.graph;
        let tls = account.server.tls == TlsMode::Starttls;
        Ok(Some(Self {
            provider: provider(cloud),
            graph: graph.ok_or_else(|| {
                Failure::new(
                    "config.graph",
                    format!("{authority} does not say where Microsoft Graph is"),
                )
                .with_account(name)
            })?,
            authority,
            ca_file,
            server: tls.then(|| (account.server.host.clone(), account.server.port)),
            own_authority: true,
        }))
    }
}

/// What a sign-in service says of a tenant without anybody signing in.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// The tenant's id, where the name given leads to one.
    pub tenant: Option<String>,
    /// Microsoft Graph.
    pub graph: Option<Url>,
}

/// Asks `authority` about `tenant`.
///
/// # Errors
/// It cannot be reached, or knows no such tenant.
pub async fn discover(
    authority: &Url,
    tenant: &str,
    ca_file: Option<PathBuf>,
) -> Result<Discovered, Failure> {
    let base = authority.as_str().trim_end_matches('/');
    let url = format!("{base}/{tenant}/v2.0/.well-known/openid-configuration");
    let url = Url::parse(&url).map_err(|_| no_tenant(tenant))?;
    let reach = if http::is_loopback(&url) {
        Reach::Loopback
    } else {
        Reach::Anywhere
    };
    let body = get(&Client::new(reach), &url, ca_file).await?;
    let found: Discovery = serde_json::from_slice(&body).map_err(|_| no_tenant(tenant))?;
    let tenant = found
        .issuer
        .rsplit('/')
        .find(|part| part.len() == 36 && part.split('-').count() == 5)
        .map(str::to_owned);
    // A host, or a host and a port.
    let graph = found
        .msgraph_host
        .and_then(|host| Url::parse(&format!("https://{host}")).ok());
    Ok(Discovered { tenant, graph })
}

fn no_tenant(tenant: &str) -> Failure {
    let shown: String = tenant.escape_debug().take(80).collect();
    Failure::new(
        "usage.tenant",
        format!("the sign-in service knows no tenant {shown}"),
    )
    .with_remedy("name the tenant's id or one of its domains with --tenant, and see --cloud")
}

async fn get(client: &Client, url: &Url, ca_file: Option<PathBuf>) -> Result<Vec<u8>, Failure> {
    let response = client
        .send(Request {
            method: Method::Get,
            url: SecretString::from(url.as_str()),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: http::TIMEOUT,
            max_octets: http::RESPONSE_OCTETS,
            ca_file,
            danger_plaintext: false,
        })
        .await?;
    match response.status {
        200 => Ok(response.body),
        400 | 404 if url.path().contains(".well-known") => {
            let tenant = url.path_segments().and_then(|mut parts| parts.next());
            Err(no_tenant(tenant.unwrap_or_default()))
        }
        status => Err(Failure::new(
            "network.answer",
            format!("{} answered HTTP {status}", http::peer(url)),
        )),
    }
}
