//! What a command does alone, and the daemon in its place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, Stream, StreamExt as _};
use postrider_auth::GrantKey;
use postrider_config::{self as config, SecretRef};
use postrider_vault::Kind;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::AccountStatus;
use crate::app::{
    self, App, DoctorOptions, DoctorReport, Expiry, Moment, Rotated, SendOutcome, Standing,
};
use crate::failure::Failure;
use crate::lua::SendRequest;

/// Accounts at a time: enough to keep a provider's caps (16 requests) busy.
const AT_A_TIME: usize = 16;

/// An access token, for whoever asked for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenAnswer {
    /// The one place where a secret goes out.
    #[serde(serialize_with = "exposed", deserialize_with = "hidden")]
    pub(crate) access_token: SecretString,
    pub(crate) token_type: String,
    pub(crate) expires_at: Moment,
    pub(crate) expires_in: u64,
    pub(crate) scope: Option<String>,
    pub(crate) account: String,
    pub(crate) username: String,
}

fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// A token of this account with at least that much life left.
pub(crate) async fn token(
    app: &App,
    name: &str,
    at_least: Duration,
) -> Result<TokenAnswer, Failure> {
    let account = app.account(name).await?;
    let token = account.token(at_least).await?;
    let left = token.expires_at.0.duration_since(SystemTime::now());
    Ok(TokenAnswer {
        access_token: token.value,
        token_type: token.token_type,
        expires_at: token.expires_at,
        expires_in: left.unwrap_or_default().as_secs(),
        scope: token.scope,
        account: account.settings().name.clone(),
        username: account.settings().username.clone(),
    })
}

/// Sends one message.
pub(crate) async fn send(
    app: &App,
    account: &str,
    message: SendRequest,
) -> Result<SendOutcome, Failure> {
    app.account(account).await?.send(message).await
}

/// One account in the list of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) provider: String,
    pub(crate) username: String,
    pub(crate) sender: String,
    pub(crate) server: String,
    pub(crate) plugin: String,
    #[serde(flatten)]
    pub(crate) credential: ListedCredential,
}

/// How its credential stands, or why nobody knows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum ListedCredential {
    Known(Box<Standing>),
    Unknown {
        /// `unknown`.
        state: Cow<'static, str>,
        problem: Box<Failure>,
    },
}

/// The configured accounts, and how each one's credential stands; nobody is asked.
pub(crate) async fn accounts(app: &App) -> Vec<Listed> {
    let accounts: Vec<config::Account> = app.accounts().into_iter().cloned().collect();
    let lookups = accounts.into_iter().map(|settings| {
        let app = app.clone();
        async move { listed(&app, &settings).await }
    });
    stream::iter(lookups).buffered(AT_A_TIME).collect().await
}

/// An account as it is understood, presets filled in, secrets by reference only.
pub(crate) fn account(app: &App, name: &str) -> Result<Value, Failure> {
    serde_json::to_value(app.settings_of(name)?)
        .map_err(|problem| Failure::new("internal", problem.to_string()))
}

async fn listed(app: &App, settings: &config::Account) -> Listed {
    let standing = match app.account(&settings.name).await {
        Ok(account) => account.standing().await,
        Err(failure) => Err(failure),
    };
    Listed {
        name: settings.name.clone(),
        provider: settings.provider.clone(),
        username: settings.username.clone(),
        sender: settings.sender.to_string(),
        server: format!("{}:{}", settings.server.host, settings.server.port),
        plugin: settings.auth.plugin.clone(),
        credential: match standing {
            Ok(standing) => ListedCredential::Known(Box::new(standing)),
            Err(failure) => ListedCredential::Unknown {
                state: "unknown".into(),
                problem: Box::new(failure),
            },
        },
    }
}

/// What is to be checked.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CheckRequest {
    /// Whether a test message is to follow: then somebody has to be there who gets it.
    pub(crate) send: bool,
    /// Who that is, if not the account's `test_recipient`.
    pub(crate) to: Option<String>,
    /// Only what needs no network.
    pub(crate) offline: bool,
}

/// What a check found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckAnswer {
    pub(crate) check: DoctorReport,
    /// Who gets the test message.
    pub(crate) recipient: Option<String>,
}

/// Goes through every step up to a message, with a token fetched now.
pub(crate) async fn check(
    app: &App,
    name: &str,
    request: &CheckRequest,
) -> Result<CheckAnswer, Failure> {
    let settings = app.settings_of(name)?;
    let recipient = if request.send {
        Some(app::test_recipient(settings, request.to.as_deref())?)
    } else {
        None
    };
    let options = DoctorOptions {
        offline: request.offline,
        ..DoctorOptions::default()
    };
    Ok(CheckAnswer {
        check: app.doctor(name, &options).await?,
        recipient: recipient.map(|recipient| recipient.to_string()),
    })
}

/// Sends the test message.
pub(crate) async fn send_test(app: &App, name: &str, to: &str) -> Result<SendOutcome, Failure> {
    let account = app.account(name).await?;
    let recipient = account.test_recipient(Some(to))?;
    account.send_test(&recipient).await
}

/// Whose tokens are to be refreshed.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RotateRequest {
    /// Everybody's in place of `accounts`.
    pub(crate) all: bool,
    pub(crate) accounts: Vec<String>,
    /// What is not due, too.
    pub(crate) force: bool,
}

/// What became of one account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) account: String,
    #[serde(flatten)]
    pub(crate) rotated: Option<Rotated>,
    /// The account whose grant this one shares: what was done was done for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shares_grant_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Failure>,
    /// Secrets that end soon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expires_soon: Vec<Expiry>,
}

/// The names of the accounts, sorted, each once.
///
/// # Errors
/// One is not there: a mistake before anything is done.
pub(crate) fn names(app: &App, request: &RotateRequest) -> Result<Vec<String>, Failure> {
    if request.all {
        return Ok(app.accounts().iter().map(|one| one.name.clone()).collect());
    }
    for name in &request.accounts {
        app.settings_of(name)?;
    }
    let mut names = request.accounts.clone();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Refreshes what is due, and tells of each account when it is done.
pub(crate) fn rotate(
    app: App,
    names: Vec<String>,
    force: bool,
) -> impl Stream<Item = Report> + Send {
    let groups = async move {
        let groups = by_grant(&app, &names).await;
        stream::iter(groups)
            .map(move |group| rotate_group(app.clone(), group, force))
            .buffer_unordered(AT_A_TIME)
            .flat_map(stream::iter)
    };
    stream::once(groups).flatten()
}

/// Accounts that share one grant stand together: refreshing it once serves them all.
async fn by_grant(app: &App, names: &[String]) -> Vec<Vec<String>> {
    let keys: Vec<(String, Option<GrantKey>)> = stream::iter(names.to_owned())
        .map(|name| async move {
            let key = match app.account(&name).await {
                Ok(account) => account.grant_key(),
                // Its own rotation will say what is wrong.
                Err(_) => None,
            };
            (name, key)
        })
        .buffered(AT_A_TIME)
        .collect()
        .await;
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut places: BTreeMap<GrantKey, usize> = BTreeMap::new();
    for (name, key) in keys {
        match key {
            Some(key) => {
                let place = *places.entry(key).or_insert(groups.len());
                match groups.get_mut(place) {
                    Some(group) => group.push(name),
                    None => groups.push(vec![name]),
                }
            }
            None => groups.push(vec![name]),
        }
    }
    groups
}

/// Refreshes the grant of these accounts, once for all of them.
async fn rotate_group(app: App, group: Vec<String>, force: bool) -> Vec<Report> {
    let Some(first) = group.first().cloned() else {
        return Vec::new();
    };
    let outcome = match app.account(&first).await {
        Ok(account) => account.rotate(force).await,
        Err(failure) => Err(failure),
    };
    let mut reports = Vec::new();
    for name in group {
        let mut expires_soon = match app.account(&name).await {
            Ok(account) => account.expiries(),
            Err(_) => Vec::new(),
        };
        expires_soon.retain(Expiry::is_near);
        let (rotated, error) = match outcome.clone() {
            Ok(rotated) => (Some(rotated), None),
            Err(failure) => (None, Some(failure.with_account(&name))),
        };
        reports.push(Report {
            shares_grant_of: (name != first).then(|| first.clone()),
            account: name,
            rotated,
            error,
            expires_soon,
        });
    }
    reports
}

/// The state of accounts that cannot send before somebody has signed in.
pub(crate) const SIGN_IN_NEEDED: &str = "sign_in_needed";

/// How many accounts there are in each state of their credential.
pub(crate) async fn tokens_by_state(app: &App) -> BTreeMap<String, usize> {
    by_state(&accounts(app).await)
}

/// The same of accounts that were looked at.
pub(crate) fn by_state(accounts: &[Listed]) -> BTreeMap<String, usize> {
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for account in accounts {
        let state = match &account.credential {
            ListedCredential::Known(standing) if standing.sign_in_needed => SIGN_IN_NEEDED,
            ListedCredential::Known(standing) => &standing.state,
            ListedCredential::Unknown { state, .. } => state,
        };
        *states.entry(state.to_owned()).or_default() += 1;
    }
    states
}

/// Those among them that send nothing before a person has signed in.
pub(crate) fn waiting_for_a_person(accounts: &[Listed]) -> BTreeMap<&str, AccountStatus> {
    let waiting = accounts.iter().filter_map(|account| {
        let ListedCredential::Known(standing) = &account.credential else {
            return None;
        };
        let why = standing
            .message
            .as_deref()
            .unwrap_or("nobody has signed in");
        let failure = Failure::new("auth.sign_in_needed", why)
            .with_remedy(format!("postrider login {}", account.name));
        let status = AccountStatus::new(&account.name, SIGN_IN_NEEDED, Some(&failure));
        standing
            .sign_in_needed
            .then_some((account.name.as_str(), status))
    });
    waiting.collect()
}

/// Of the accounts with a secret that is not there, why the first one is not.
pub(crate) async fn missing_secrets(app: &App) -> BTreeMap<String, Failure> {
    let app = app.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let missing = |account: &config::Account| {
            let failure = missing_secret(&app, account)?;
            Some((account.name.clone(), failure))
        };
        app.accounts().into_iter().filter_map(missing).collect()
    });
    looking.await.unwrap_or_default()
}

/// Why the first secret of this account that is not there is not.
pub(crate) async fn missing_secret_of(app: &App, name: &str) -> Option<Failure> {
    let (app, settings) = (app.clone(), app.settings_of(name).ok()?.clone());
    let looking = tokio::task::spawn_blocking(move || missing_secret(&app, &settings));
    looking.await.ok()?
}

/// Why the first of the account's secrets that is not there is not. A program that prints one is
/// not run only to see whether it does: it may cost money, or ask somebody.
fn missing_secret(app: &App, account: &config::Account) -> Option<Failure> {
    let base_dir = app.config().base_dir();
    account
        .auth
        .secrets
        .iter()
        .find_map(|(setting, reference)| {
            if matches!(reference, SecretRef::Command(_)) {
                return None;
            }
            let mut failure = app.vault().resolve(reference, base_dir).err()?;
            failure.message = format!("{setting}: {}", failure.message);
            Some(failure.with_account(&account.name))
        })
}

/// Why the vault cannot be read, if there is one and it cannot.
pub(crate) async fn vault_problem(app: &App) -> Option<Failure> {
    let vault = app.vault().clone();
    let looked = tokio::task::spawn_blocking(move || match vault.existing() {
        Ok(Some(vault)) => vault
            .names(Kind::Grant)
            .map(drop)
            .map_err(|error| crate::app::vault::failure(&error)),
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    })
    .await;
    match looked {
        Ok(outcome) => outcome.err(),
        Err(_) => Some(Failure::new(
            "internal",
            "looking at the vault was interrupted",
        )),
    }
}
