//! An administrator signs in at Entra ID, for as long as one command runs.
//!
//! The plugin that signs accounts in signs the administrator in, too, with a keeper of its own
//! whose grants lie in memory: neither the vault nor a file ever sees these tokens. No permission
//! is asked for that the command has no use for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use postrider_auth::{
    AuthError, Credential, Environment, GrantPolicy, Http, HttpSettings, Identity,
    InstanceSettings, LoginMethod, NoEvents, ReuseGrace, SecretSource,
};
use postrider_diagnose::{self as diagnose, Subject};
use postrider_graph::Graph;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::refusal::graph_failure;
use super::transport::GraphTransport;
use crate::app::sign_in::missing_scopes;
use crate::app::{App, failures, keeper};
use crate::failure::Failure;

/// Microsoft Graph Command Line Tools, the application of `Connect-MgGraph`: a public client of
/// Microsoft's own with a loopback redirect, present in every tenant of every cloud that has
/// used it. The id as the tool itself prints it ("Connected via delegated access using …") and
/// as Microsoft's Agent 365 developer tools (`InteractiveGraphAuthService`) name it.
pub const GRAPH_COMMAND_LINE_TOOLS: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

/// What stands for the account where there is none.
const LABEL: &str = "administrator";

/// What is asked for besides: who it is, and patience for whoever reads a plan for an hour.
const OPENID: [&str; 3] = ["openid", "profile", "offline_access"];

/// What the administrator is needed for; it decides which permissions are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To look: users, licences, consent, secrets.
    Inspect,
    /// To set an account up.
    SetUp {
        /// Whether people's consent is given for them.
        delegated: bool,
        /// Whether the application gets permissions of its own.
        application: bool,
    },
    /// To replace an application's secret or certificate.
    Rotate,
}

impl Purpose {
    /// Permissions of Microsoft Graph, delegated.
    pub fn permissions(self) -> Vec<&'static str> {
        match self {
            Self::Inspect => vec![
                "Application.Read.All",
                "Directory.Read.All",
                "Policy.Read.All",
            ],
            Self::SetUp {
                delegated,
                application,
            } => {
                let mut all = vec![
                    "Application.ReadWrite.All",
                    "Directory.Read.All",
                    "Policy.Read.All",
                ];
                all.extend(delegated.then_some("DelegatedPermissionGrant.ReadWrite.All"));
                all.extend(application.then_some("AppRoleAssignment.ReadWrite.All"));
                all
            }
            Self::Rotate => vec!["Application.ReadWrite.All"],
        }
    }
}

/// Where an administrator signs in, and how.
#[derive(Clone, Debug)]
pub struct AdminSignIn {
    /// The sign-in service: `https://login.microsoftonline.com`.
    pub authority: Url,
    /// The tenant's id or one of its domains.
    pub tenant: String,
    /// Microsoft Graph there: `https://graph.microsoft.com`.
    pub graph: Url,
    /// A public client of the tenant's own in place of [`GRAPH_COMMAND_LINE_TOOLS`].
    pub client_id: Option<String>,
    /// Further certificate authorities; the platform's where there is none.
    pub ca_file: Option<PathBuf>,
    /// Whom the sign-in page should suggest.
    pub login_hint: Option<String>,
    /// What for.
    pub purpose: Purpose,
    /// Browser or device code. `--paste` is a browser whose address is brought back.
    pub method: LoginMethod,
}

/// Somebody who signed in. Dropped, the tokens are gone.
pub struct Administrator {
    credential: Credential,
    identity: Option<Identity>,
    scope: Option<String>,
    graph: Url,
    transport: Arc<GraphTransport>,
}

impl fmt::Debug for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Administrator")
            .field("username", &self.username())
            .finish_non_exhaustive()
    }
}

impl Administrator {
    /// Who it is, as the provider says.
    pub fn username(&self) -> Option<&str> {
        let identity = self.identity.as_ref()?;
        identity.usernames.first().map(String::as_str)
    }

    /// Whether it is this user.
    pub fn is(&self, username: &str) -> bool {
        let names = self.identity.iter().flat_map(|person| &person.usernames);
        names
            .into_iter()
            .any(|name| name.to_lowercase() == username.to_lowercase())
    }

    /// The id of the tenant that was signed in to.
    pub fn tenant(&self) -> Option<&str> {
        self.identity.as_ref()?.tenant.as_deref()
    }

    /// The permissions granted, separated by spaces, where the provider said.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// The access token.
    ///
    /// # Errors
    /// It has expired, and there is no other without a new sign-in.
    pub async fn token(&self) -> Result<SecretString, Failure> {
        match self.credential.access_token().await {
            Ok(Some(token)) => Ok(token.value().clone()),
            Ok(None) => Err(Failure::new("internal", "the sign-in brought no token")),
            Err(error) => Err(failure(&error, None)),
        }
    }

    /// Microsoft Graph on the administrator's behalf.
    ///
    /// # Errors
    /// As for [`Self::token`].
    pub async fn graph(&self) -> Result<Graph, Failure> {
        let transport = Arc::clone(&self.transport) as _;
        Graph::new(self.graph.clone(), self.token().await?, transport)
            .map_err(|error| graph_failure(&error))
    }

    /// `wids` of the access token: the directory roles of whoever signed in, by template. Read
    /// for a diagnosis, never for a decision; nothing where the token does not tell.
    pub async fn role_templates(&self) -> Option<Vec<String>> {
        let token = self.token().await.ok()?;
        let claims = token.expose_secret().split('.').nth(1).and_then(decode)?;
        let texts = claims.get("wids")?.as_array()?.iter();
        Some(texts.filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

/// The claims of a token, from its middle part.
fn decode(part: &str) -> Option<Value> {
    use base64::Engine as _;
    let octets = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&octets).ok()
}

impl App {
    /// Has an administrator sign in; whoever this app was opened for is asked.
    ///
    /// # Errors
    /// What kept the person from signing in, or which permission was not granted.
    pub async fn administrator(&self, sign_in: &AdminSignIn) -> Result<Administrator, Failure> {
        let app = self.clone();
        let wanted = sign_in.clone();
        let (credential, transport) = tokio::task::spawn_blocking(move || app.client(&wanted))
            .await
            .map_err(|_| Failure::new("internal", "preparing the sign-in was interrupted"))??;
        let told = |error| failure(&error, Some(sign_in));
        let pending = credential.login(sign_in.method).await.map_err(told)?;
        check_scopes(sign_in, &pending.requested_scopes(), pending.scope())?;
        let identity = pending.identity().cloned();
        let scope = pending.scope().map(str::to_owned);
        pending.keep().await.map_err(told)?;
        Ok(Administrator {
            credential,
            identity,
            scope,
            graph: sign_in.graph.clone(),
            transport,
        })
    }

    /// The public client that signs in, and how Graph is reached. Reads files.
    fn client(&self, sign_in: &AdminSignIn) -> Result<(Credential, Arc<GraphTransport>), Failure> {
        let lasting = &self.0.lasting;
        let tls = self.tls(sign_in.ca_file.as_deref())?;
        let http = Http::new(HttpSettings::new((*tls).clone()))
            .map_err(|error| Failure::new("config.http", error.to_string()))?;
        let clock = lasting.time_of_day();
        let environment = Environment {
            http,
            clock: Arc::clone(&clock),
            interaction: Arc::clone(&lasting.world.interaction),
            keeper: keeper::passing(clock, Arc::new(NoEvents)),
            tally: Arc::new(lasting.metrics.clone()),
        };
        let settings = InstanceSettings {
            account: LABEL.to_owned(),
            username: sign_in.login_hint.clone().unwrap_or_default(),
            settings: settings(sign_in),
            secrets: Arc::new(NoSecrets),
            allow_hosts: Vec::new(),
            policy: GrantPolicy {
                refresh_token_lifetime: None,
                reuse_grace: ReuseGrace::Forever,
            },
            expiries: Vec::new(),
        };
        let plugin = self.plugin("oauth")?;
        let credential = Credential::new(plugin, settings, Arc::new(environment))
            .map_err(|error| failure(&error, Some(sign_in)))?;
        let transport = GraphTransport::new(
            (*tls).clone(),
            &sign_in.graph,
            Arc::clone(&lasting.world.clock),
        )?;
        Ok((credential, Arc::new(transport)))
    }
}

fn client_id(sign_in: &AdminSignIn) -> &str {
    let given = sign_in.client_id.as_deref();
    given.unwrap_or(GRAPH_COMMAND_LINE_TOOLS)
}

/// What the plugin is told. Permissions without a resource are Graph's, in every cloud (facts
/// B1).
fn settings(sign_in: &AdminSignIn) -> serde_json::Map<String, Value> {
    let flow = match sign_in.method {
        LoginMethod::DeviceCode => "device_code",
        LoginMethod::Browser => "authorization_code",
    };
    let mut scopes = sign_in.purpose.permissions();
    scopes.extend(OPENID);
    let settings = json!({
        "flow": flow,
        "authority": sign_in.authority.as_str().trim_end_matches('/'),
        "tenant": sign_in.tenant,
        "client_id": client_id(sign_in),
        "scopes": scopes,
    });
    match settings {
        Value::Object(settings) => settings,
        _ => serde_json::Map::new(),
    }
}

/// A token that may not do what it is for is of no use.
fn check_scopes(
    sign_in: &AdminSignIn,
    requested: &[String],
    granted: Option<&str>,
) -> Result<(), Failure> {
    let missing = granted.map_or_else(Vec::new, |granted| missing_scopes(requested, granted));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        "auth.scope_missing",
        format!(
            "the sign-in was not granted {} of Microsoft Graph",
            missing.join(", ")
        ),
    )
    .with_remedy(format!(
        "sign in as an administrator who may consent for the tenant (a Global or Privileged Role \
         Administrator), or have one consent to app {} beforehand",
        client_id(sign_in)
    )))
}

/// Why nobody signed in.
fn failure(error: &AuthError, sign_in: Option<&AdminSignIn>) -> Failure {
    let mut failure = match &error.oauth_error {
        Some(oauth_error) => {
            let found = diagnose::oauth(
                oauth_error,
                error.oauth_suberror.as_deref(),
                error.oauth_description.as_deref(),
                Subject {
                    account: LABEL,
                    username: "the administrator",
                    client_id: sign_in.map_or("", client_id),
                    tenant: sign_in.map_or("", |sign_in| &sign_in.tenant),
                    ..Subject::default()
                },
            );
            let message = format!("{}: {}", found.cause, error.message);
            let mut failure = Failure::new(&found.code, message).with_remedy(found.remedy);
            failure.who = Some(found.who.to_string());
            failure
        }
        None => failures::by_kind(error),
    };
    failure.retryable = error.kind.is_transient() || error.retry_after.is_some();
    // Advice that concerns an account is none here.
    let concerns_account =
        |remedy: &String| remedy.contains("postrider login") || remedy.contains(LABEL);
    if failure.remedy.as_ref().is_some_and(concerns_account) {
        failure.remedy = Some(
            "run the command again, and sign in as an administrator who may consent to what is \
             asked for, such as a Global Administrator"
                .to_owned(),
        );
    }
    if sign_in.is_some_and(|sign_in| sign_in.method == LoginMethod::DeviceCode)
        && let Some(description) = &error.oauth_description
        && matches!(diagnose::aadsts_code(description), Some(530_035 | 53_003))
    {
        failure.remedy = Some(
            "the tenant refuses device codes: sign in with --admin-login browser, or with \
             --admin-login paste where the browser is on another machine"
                .to_owned(),
        );
    }
    failure
}

/// A public client has none.
struct NoSecrets;

impl SecretSource for NoSecrets {
    fn secret(&self, name: &str) -> Result<SecretString, String> {
        Err(format!("the administrator's sign-in has no {name}"))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn identity(&self, _name: &str) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(purpose: Purpose) -> AdminSignIn {
        AdminSignIn {
            authority: "https://login.example.org/".parse().unwrap(),
            tenant: "contoso.com".to_owned(),
            graph: "https://graph.example.org".parse().unwrap(),
            client_id: None,
            ca_file: None,
            login_hint: None,
            purpose,
            method: LoginMethod::DeviceCode,
        }
    }

    #[test]
    fn only_what_the_purpose_needs_is_asked_for() {
        for (purpose, writes) in [
            (Purpose::Inspect, false),
            (
                Purpose::SetUp {
                    delegated: true,
                    application: false,
                },
                true,
            ),
            (Purpose::Rotate, true),
        ] {
            let settings = settings(&sign_in(purpose));
            let scopes = settings["scopes"].to_string();
            assert_eq!(scopes.contains("ReadWrite"), writes, "{scopes}");
            assert_eq!(settings["authority"], "https://login.example.org");
            assert_eq!(settings["client_id"], GRAPH_COMMAND_LINE_TOOLS);
        }
    }

    #[test]
    fn a_permission_that_was_not_granted_is_named() {
        let wanted = sign_in(Purpose::Rotate);
        let requested = ["Application.ReadWrite.All".to_owned(), "openid".to_owned()];

        let granted = "https://graph.microsoft.com/Application.ReadWrite.All openid";
        assert!(check_scopes(&wanted, &requested, Some(granted)).is_ok());
        assert!(check_scopes(&wanted, &requested, None).is_ok());

        let failure = check_scopes(&wanted, &requested, Some("User.Read openid")).unwrap_err();
        assert_eq!(failure.code, "auth.scope_missing");
        assert!(failure.message.contains("Application.ReadWrite.All"));
    }
}
