//! What stands between an account and a sent message, stage by stage, and the cause of what
//! does not work: `postrider doctor`, `account test` and a script's `account:check()`; and between
//! a device and its gateway.
//!
//! Every stage that can be looked at is looked at, whatever failed before it: a name that is
//! not resolved keeps nobody from looking at the token. What a server keeps to itself (`535
//! 5.7.3` says of ten causes not which) is found out from the token's claims and from Graph.
//!
//! Not here: what single refusals mean (the diagnosis), and putting anything right.

mod claims;
mod devices;
mod directory;
mod gateway;
mod inspect;
mod listener;
mod mail;
mod narrow;
mod provider;
mod report;
mod start;
mod wire;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use postrider_auth::{AccessToken, AuthError, LoginMethod, SecretSource as _};
use postrider_config::{Account as Settings, SecretRef};
use postrider_diagnose as diagnose;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use self::claims::{Claims, Lack, Needs};
use self::provider::Provider;
use self::report::YOU;
use super::account::Account;
use super::setup::{AdminSignIn, Administrator, Purpose};
use super::{App, failures};
use crate::failure::Failure;
use crate::when;

pub(crate) use gateway::{Around, Daemon, GatewayReport, accounts_behind};
pub use report::{DoctorReport, DoctorStage, Finding, STAGES, StageResult};

/// Why there is no test message.
const NO_MESSAGE: &str = "not asked for: --send-test sends one";

/// How far the doctor goes. A test message is the caller's to send, see
/// [`DoctorReport::with_message`].
#[derive(Debug, Default)]
pub struct DoctorOptions<'a> {
    /// Only what needs no network.
    pub offline: bool,
    /// Which token it goes by.
    pub freshness: Freshness,
    /// Whose rights Graph is asked with, in place of the account's.
    pub admin: Option<&'a Administrator>,
    /// Whether Graph is not asked at all.
    pub without_graph: bool,
}

/// Which token the doctor goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// One that is fetched now: a kept one says nothing of a secret that was changed since.
    #[default]
    Now,
    /// Whichever serves, as for a send.
    Kept,
}

impl App {
    /// Looks at the account called `name`. One that cannot be set up is a report, too.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn doctor(
        &self,
        name: &str,
        options: &DoctorOptions<'_>,
    ) -> Result<DoctorReport, Failure> {
        let settings = self.settings_of(name)?.clone();
        match self.account(name).await {
            Ok(account) => Ok(account.doctor(options).await),
            Err(failure) => Ok(not_set_up(&settings, failure)),
        }
    }

    /// Has an administrator sign in to look into this account's tenant.
    ///
    /// # Errors
    /// The account has no tenant, or nobody signed in.
    pub async fn doctors_administrator(
        &self,
        name: &str,
        method: LoginMethod,
        client_id: Option<&str>,
    ) -> Result<Administrator, Failure> {
        let account = self.account(name).await?;
        let without = |what: &str| {
            Failure::new("usage.no_tenant", format!("--admin: {what}")).with_account(name)
        };
        let setting = |key: &str| account.setting(key).map(str::to_owned);
        let (Some(authority), Some(tenant)) = (setting("authority"), setting("tenant")) else {
            return Err(without(
                "the account does not sign in to a Microsoft tenant",
            ));
        };
        let provider = Provider::ask(&account).await;
        if let Some(failure) = provider.as_ref().and_then(Provider::trouble) {
            return Err(failure.clone().with_account(name));
        }
        let graph = provider
            .and_then(|provider| provider.graph)
            .ok_or_else(|| without("the sign-in service names no Microsoft Graph"))?;
        let authority = authority
            .parse()
            .map_err(|_| without("its authority is no URL"))?;
        self.administrator(&AdminSignIn {
            authority,
            tenant,
            graph,
            client_id: client_id.map(str::to_owned),
            ca_file: account.settings().ca_file.clone(),
            login_hint: None,
            purpose: Purpose::Inspect,
            method,
        })
        .await
    }
}

/// An account that could not be set up, by where the fault lies.
fn not_set_up(settings: &Settings, failure: Failure) -> DoctorReport {
    let finding = Finding::from(failure);
    let at = match finding.code.split('.').next() {
        Some("plugin") => "plugin",
        Some("secret" | "vault") => "secrets",
        _ => "config",
    };
    let mut stages = Vec::new();
    let mut before = true;
    for name in STAGES {
        if name == at {
            before = false;
            let why = finding.clone();
            stages.push(DoctorStage::failed(name, Duration::ZERO, "", why));
        } else if before && name == "config" {
            stages.push(DoctorStage::ok(name, Duration::ZERO, in_words(settings)));
        } else {
            stages.push(DoctorStage::skipped(name, format!("{at} failed")));
        }
    }
    DoctorReport::new(&settings.name, stages)
}

/// An account's settings in a line.
fn in_words(settings: &Settings) -> String {
    let server = &settings.server;
    let mut text = format!(
        "{}, {} through {}:{}, plugin {}",
        settings.provider, settings.username, server.host, server.port, settings.auth.plugin
    );
    if settings.sender.email.as_ref() as &str != settings.username {
        let _ = write!(text, ", sender {}", settings.sender.email);
    }
    for key in ["flow", "tenant", "client_id"] {
        if let Some(value) = settings
            .auth
            .settings
            .get(key)
            .and_then(|value| value.as_str())
        {
            let _ = write!(text, ", {key} {value}");
        }
    }
    text
}

impl Account {
    /// Goes through every stage; sends nothing, unless it is asked to.
    pub async fn doctor(&self, options: &DoctorOptions<'_>) -> DoctorReport {
        let mut stages = vec![
            DoctorStage::ok("config", Duration::ZERO, in_words(self.settings())),
            self.secrets_stage(),
            self.plugin_stage(),
        ];
        if options.offline {
            let seen = stages.len();
            let rest = STAGES[seen..].iter();
            stages.extend(rest.map(|name| DoctorStage::skipped(name, "offline")));
            return DoctorReport::new(&self.settings().name, stages);
        }
        let provider = Provider::ask(self).await;
        stages.push(provider.as_ref().map_or_else(
            || DoctorStage::skipped("clock", "there is no sign-in service to ask for the time"),
            Provider::stage,
        ));

        let (token, fetched) = self.token_stage(options.freshness).await;
        let token = self.or_what_people_see(token).await;
        let claims = fetched
            .as_ref()
            .and_then(|token| Claims::read(token.value()));
        let graph = async {
            let skipped = |why: &str| {
                directory::STAGES
                    .map(|name| DoctorStage::skipped(name, why).into())
                    .into()
            };
            if options.without_graph {
                return skipped("it was not asked for");
            }
            if !self.uses_tokens() {
                return skipped("the account signs in with a password");
            }
            directory::look(self, provider.as_ref(), claims.as_ref(), options.admin).await
        };
        let (wire, graph) = tokio::join!(wire::walk(self), graph);
        stages.push(token);
        let lack = self.claims_stage(
            &mut stages,
            fetched.as_ref(),
            claims.as_ref(),
            provider.as_ref(),
        );
        narrow::narrow(
            self,
            narrow::Seen {
                stages: &mut stages,
                lack,
                graph,
                wire,
                claims: claims.as_ref(),
            },
        );
        stages.push(DoctorStage::skipped("message", NO_MESSAGE));
        DoctorReport::new(&self.settings().name, stages)
    }

    /// Whether every secret is where the account says; a program that prints one is not run.
    fn secrets_stage(&self) -> DoctorStage {
        let began = Instant::now();
        let mut seen = Vec::new();
        for (setting, reference) in &self.settings().auth.secrets {
            if matches!(reference, SecretRef::Command(_)) {
                seen.push(format!("{setting} from a program, run when it is needed"));
                continue;
            }
            if let Err(why) = self.secrets.secret(setting) {
                let failure = self.secrets.take_unresolved(self.settings());
                let failure = failure.unwrap_or_else(|| Failure::new("secret.missing", why));
                return DoctorStage::failed("secrets", began.elapsed(), seen.join(", "), failure);
            }
            seen.push(format!("{setting} from {reference}"));
        }
        if seen.is_empty() {
            seen.push("the account has none".to_owned());
        }
        let evidence = seen.join(", ");
        if self.has_id_for_secret() {
            return DoctorStage::warning(
                "secrets",
                began.elapsed(),
                evidence,
                self.id_for_secret(),
            );
        }
        DoctorStage::ok("secrets", began.elapsed(), evidence)
    }

    /// Whether the client secret looks like a secret's id: Entra makes ids of this form, and
    /// never values.
    fn has_id_for_secret(&self) -> bool {
        let is_command = matches!(
            self.settings().auth.secrets.get("client_secret"),
            None | Some(SecretRef::Command(_))
        );
        if is_command || self.setting("authority").is_none() {
            return false;
        }
        let Ok(secret) = self.secrets.secret("client_secret") else {
            return false;
        };
        let parts: Vec<&str> = secret.expose_secret().trim().split('-').collect();
        let hex = |part: &&str| part.bytes().all(|octet| octet.is_ascii_hexdigit());
        parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(hex)
    }

    /// Whether `rotate` puts a client secret right that is refused like this.
    fn may_be_renewed(&self, code: &str) -> bool {
        matches!(
            code,
            "auth.client_secret_expired" | "auth.client_secret_wrong"
        ) && self.setting("authority").is_some()
            && matches!(
                self.settings().auth.secrets.get("client_secret"),
                Some(SecretRef::Vault(_))
            )
    }

    fn id_for_secret(&self) -> Finding {
        Finding::new(
            "auth.client_secret_id",
            "the client secret is the secret's id, not its value: it has the form of an id",
            format!(
                "the portal shows the value once, beside the id, when a secret is made: make a new \
                 one and store its Value ({}); or postrider rotate --client-secret {}",
                self.settings()
                    .auth
                    .secrets
                    .get("client_secret")
                    .map_or_else(String::new, ToString::to_string),
                self.settings().name
            ),
            YOU,
        )
    }

    fn plugin_stage(&self) -> DoctorStage {
        let description = self.credential().plugin().description();
        let evidence = format!(
            "{} {}, {}",
            description.name,
            description.version,
            description.mechanisms.join(" ")
        );
        DoctorStage::ok("plugin", Duration::ZERO, evidence)
    }

    /// The token as a stage, and the token: where fetching one failed, whichever still serves.
    async fn token_stage(&self, freshness: Freshness) -> (DoctorStage, Option<AccessToken>) {
        const NAME: &str = "token";
        let began = Instant::now();
        if !self.uses_tokens() {
            let why = format!("plugin {} uses none", self.settings().auth.plugin);
            return (DoctorStage::skipped(NAME, why), None);
        }
        let renewed = match freshness {
            Freshness::Now => self.credential().rotate(true).await.map(drop),
            Freshness::Kept => Ok(()),
        };
        let kept = self.credential().access_token().await;
        let failed = |error: &AuthError| {
            let mut finding = Finding::from(self.auth_failure(error));
            if finding.code == "auth.client_secret_wrong" && self.has_id_for_secret() {
                finding = self.id_for_secret();
            } else if self.may_be_renewed(&finding.code) {
                let name = &self.settings().name;
                finding.remedy = format!(
                    "{}: postrider rotate --client-secret {name} --admin",
                    finding.remedy
                );
            }
            DoctorStage::failed(NAME, began.elapsed(), narrow::one_line(error), finding)
        };
        match (renewed, kept) {
            (Err(error), kept) => (failed(&error), kept.ok().flatten()),
            (Ok(()), Err(error)) => (failed(&error), None),
            (Ok(()), Ok(None)) => (DoctorStage::skipped(NAME, "there is none"), None),
            (Ok(()), Ok(Some(token))) => {
                let evidence = self.token_in_words(&token).await;
                (
                    DoctorStage::ok(NAME, began.elapsed(), evidence),
                    Some(token),
                )
            }
        }
    }

    /// Where somebody has to sign in, whether they could: what the sign-in page refuses is the
    /// cause.
    async fn or_what_people_see(&self, token: DoctorStage) -> DoctorStage {
        let code = token.failure.as_ref().map(|failure| failure.code.as_str());
        if code != Some("auth.sign_in_needed") || self.flow() != Some("authorization_code") {
            return token;
        }
        let Some(text) = Provider::refuses_people(self).await else {
            return token;
        };
        let subject = failures::subject(self.settings());
        let found = diagnose::oauth("invalid_request", None, Some(&text), subject);
        DoctorStage {
            evidence: format!("the sign-in page: {text}"),
            failure: Some(found.into()),
            ..token
        }
    }

    /// What there is to say of a token: how long it lives, how its grant stands, and what ends
    /// soon.
    async fn token_in_words(&self, token: &AccessToken) -> String {
        let now = self.now();
        let minutes = |until: SystemTime| {
            let left = until.duration_since(now);
            left.map_or(0, |left| left.as_secs() / 60)
        };
        let mut text = format!("valid for {} minutes", minutes(token.expires_at()));
        if let Ok(standing) = self.standing().await {
            if let Some(at) = standing.last_refreshed {
                let ago = now.duration_since(at.0).unwrap_or_default();
                let _ = write!(text, ", fetched {} ago", when::span(ago));
            }
            let _ = write!(text, ", {}", standing.state);
            if let Some(next) = standing.next_refresh {
                let _ = write!(text, ", next in {} minutes", minutes(next.0));
            }
        }
        if let Some(scope) = token.scope() {
            let _ = write!(text, ", scope {scope}");
        }
        for one in self.expiries().iter().filter(|one| one.is_near()) {
            let _ = write!(text, "; {}", one.in_words(now));
        }
        text
    }

    /// What the token says of itself against what the account needs.
    fn claims_stage(
        &self,
        stages: &mut Vec<DoctorStage>,
        token: Option<&AccessToken>,
        claims: Option<&Claims>,
        provider: Option<&Provider>,
    ) -> Option<Finding> {
        const NAME: &str = "claims";
        let skip = |why: &str| DoctorStage::skipped(NAME, why);
        let (Some(_), Some(claims)) = (token, claims) else {
            stages.push(skip(if token.is_some() {
                "the token is opaque, as personal accounts' are"
            } else {
                "there is no token"
            }));
            return None;
        };
        if self.setting("authority").is_none() {
            stages.push(skip("only Microsoft's tokens are known from within"));
            return None;
        }
        let scopes = self.scopes();
        let needs = Needs {
            account: &self.settings().name,
            username: &self.settings().username,
            app_only: !self.needs_person(),
            tenant: self.setting("tenant").unwrap_or_default(),
            tenant_id: provider.and_then(|provider| provider.tenant_id.as_deref()),
            client_id: self.setting("client_id").unwrap_or_default(),
            scopes: &scopes,
            now: self.now(),
        };
        let evidence = claims.in_words();
        match claims.lack(&needs) {
            Some(Lack::Certain(finding)) => {
                stages.push(DoctorStage::failed(NAME, Duration::ZERO, evidence, finding));
                None
            }
            Some(Lack::Suspect(finding)) => {
                stages.push(DoctorStage::ok(NAME, Duration::ZERO, evidence));
                Some(finding)
            }
            None => {
                stages.push(DoctorStage::ok(NAME, Duration::ZERO, evidence));
                None
            }
        }
    }

    /// The scopes that are asked for.
    fn scopes(&self) -> Vec<String> {
        let scopes = self.settings().auth.settings.get("scopes");
        let items = scopes
            .and_then(|scopes| scopes.as_array())
            .into_iter()
            .flatten();
        items
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    }
}
