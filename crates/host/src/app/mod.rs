//! Accounts at work: settings become credentials and sessions, once each, and are shared.

mod account;
mod bridge;
mod compose;
mod failures;
pub mod plugins;
pub mod sandbox;
mod secrets;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_auth::{
    Environment, Http, HttpSettings, InstanceSettings, Loader, SystemClock, TokenStore,
};
use postrider_config::{self as config, Config, Presets, Surroundings};
use postrider_smtp::tls;
use secrecy::SecretString;
use serde_json::Value;

use crate::failure::Failure;
use crate::lua::{AccountHandle, Backend};
use crate::terminal;

pub use account::{Account, CheckReport, CheckStage, RecipientOutcome, SendOutcome};

/// How long the end of the program waits for servers to answer `QUIT`.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where settings and state are.
#[derive(Clone, Debug, Default)]
pub struct AppSettings {
    /// `--config`, else the usual places.
    pub config: Option<PathBuf>,
    /// `--state-dir`, else the platform's.
    pub state_dir: Option<PathBuf>,
}

/// Everything one process needs to send. Clones are the same.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    presets: Presets,
    loader: Loader,
    tokens: TokenStore,
    /// Values that stand in for environment variables: the embedded sandbox's secrets.
    stand_ins: BTreeMap<String, SecretString>,
    /// By trust anchors, since a TLS configuration is made for them.
    networks: Mutex<HashMap<Option<PathBuf>, Network>>,
    /// Accounts of the configuration that are in use; a script's own live in the script.
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    leaving: account::Leaving,
}

/// TLS with one set of trust anchors, and HTTP over it.
#[derive(Clone)]
struct Network {
    tls: Arc<rustls::ClientConfig>,
    environment: Arc<Environment>,
}

impl App {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub fn open(settings: &AppSettings) -> Result<Self, Failure> {
        Self::open_with(settings, Presets::builtin(), BTreeMap::new())
    }

    /// The same with other presets, and values that stand in for environment variables.
    ///
    /// # Errors
    /// Everything wrong with the configuration.
    pub fn open_with(
        settings: &AppSettings,
        presets: Presets,
        stand_ins: BTreeMap<String, SecretString>,
    ) -> Result<Self, Failure> {
        let config = load_config(settings, &presets)?;
        Ok(Self(Arc::new(Inner {
            loader: plugins::loader(&config),
            config,
            presets,
            tokens: TokenStore::default(),
            stand_ins,
            networks: Mutex::default(),
            accounts: Mutex::default(),
            leaving: account::Leaving::default(),
        })))
    }

    /// The file the configuration came from, if there is one.
    pub fn config_path(&self) -> Option<&Path> {
        self.0.config.path.as_deref()
    }

    /// The configured accounts, by name.
    pub fn accounts(&self) -> Vec<&config::Account> {
        self.0.config.accounts.values().collect()
    }

    /// The settings of the account called `name`.
    ///
    /// # Errors
    /// There is none, with the names that there are.
    pub fn settings_of(&self, name: &str) -> Result<&config::Account, Failure> {
        let accounts = &self.0.config.accounts;
        accounts.get(name).ok_or_else(|| {
            let file = self.config_path().map_or_else(
                || "no configuration file was found".to_owned(),
                |path| format!("{} has no such account", path.display()),
            );
            let known = accounts.keys().map(String::as_str);
            let remedy = match crate::suggest::nearest(name, known.clone()) {
                Some(nearest) => format!("did you mean \"{nearest}\"?"),
                None if accounts.is_empty() => {
                    "add an [account.NAME] table to postrider.toml".to_owned()
                }
                None => format!("it has: {}", known.collect::<Vec<_>>().join(", ")),
            };
            Failure::new("config.no_such_account", file)
                .with_account(name)
                .with_remedy(remedy)
        })
    }

    /// The account called `name`, ready to use; the same one each time.
    ///
    /// # Errors
    /// What kept it from being set up. Nothing is connected yet.
    pub async fn account(&self, name: &str) -> Result<Arc<Account>, Failure> {
        if let Some(account) = self.lock_accounts().get(name) {
            return Ok(Arc::clone(account));
        }
        let settings = self.settings_of(name)?.clone();
        let account = self.set_up(settings).await?;
        Ok(Arc::clone(
            self.lock_accounts()
                .entry(name.to_owned())
                .or_insert(account),
        ))
    }

    /// Whether the account's plugin loads and takes its settings.
    ///
    /// # Errors
    /// The first thing that is wrong, in full.
    pub fn check_settings(&self, settings: &config::Account) -> Result<(), Failure> {
        let plugin = self
            .0
            .loader
            .load(&settings.auth.plugin)
            .map_err(|error| plugins::load_failure(&error).with_account(&settings.name))?;
        plugin
            .check_settings(&self.instance_settings(settings))
            .map_err(|problems| failures::settings(&self.0.config, settings, &problems))
    }

    /// Takes leave of every server. Accounts that somebody still holds keep their sessions.
    pub async fn close(&self) {
        self.lock_accounts().clear();
        let everyone_left = self.0.leaving.write();
        if tokio::time::timeout(FAREWELL, everyone_left).await.is_err() {
            tracing::debug!("a server did not answer QUIT in time");
        }
    }

    /// Loads the plugin and makes the pool. Reads files and starts threads, so it runs where
    /// blocking is allowed.
    async fn set_up(&self, settings: config::Account) -> Result<Arc<Account>, Failure> {
        let app = self.clone();
        tokio::task::spawn_blocking(move || {
            let network = app.network(settings.ca_file.as_deref())?;
            let server_tls = match &settings.server.ca_file {
                Some(ca_file) => app.network(Some(ca_file))?.tls,
                None => Arc::clone(&network.tls),
            };
            let plugin = app
                .0
                .loader
                .load(&settings.auth.plugin)
                .map_err(|error| plugins::load_failure(&error).with_account(&settings.name))?;
            let instance = app.instance_settings(&settings);
            plugin
                .check_settings(&instance)
                .map_err(|problems| failures::settings(&app.0.config, &settings, &problems))?;
            Account::new(
                settings,
                plugin,
                instance,
                &network.environment,
                server_tls,
                Arc::clone(&app.0.leaving),
            )
            .map(Arc::new)
        })
        .await
        .map_err(|_| Failure::new("internal", "setting the account up was interrupted"))?
    }

    fn instance_settings(&self, settings: &config::Account) -> InstanceSettings {
        InstanceSettings {
            account: settings.name.clone(),
            username: settings.username.clone(),
            settings: settings.auth.settings.clone(),
            secrets: Arc::new(secrets::References::new(
                settings.auth.secrets.clone(),
                self.0.stand_ins.clone(),
                self.0.config.base_dir().to_owned(),
            )),
            allow_hosts: settings.auth.allow_hosts.clone(),
        }
    }

    fn network(&self, ca_file: Option<&Path>) -> Result<Network, Failure> {
        let key = ca_file.map(Path::to_owned);
        let mut networks = self
            .0
            .networks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = networks.get(&key) {
            return Ok(network.clone());
        }
        let tls = tls::client_config(&tls::Roots {
            ca_file: key.clone(),
        })
        .map_err(|error| failures::tls(&error))?;
        let http = Http::new(HttpSettings::new(tls.clone()))
            .map_err(|error| Failure::new("config.http", error.to_string()))?;
        let network = Network {
            tls: Arc::new(tls),
            environment: Arc::new(Environment {
                http,
                clock: Arc::new(SystemClock),
                interaction: terminal::interaction(),
                tokens: self.0.tokens.clone(),
            }),
        };
        networks.insert(key, network.clone());
        Ok(network)
    }

    fn lock_accounts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Account>>> {
        self.0
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration, from the first of the usual places that has one; empty if none has.
fn load_config(settings: &AppSettings, presets: &Presets) -> Result<Config, Failure> {
    match config::find(settings.config.as_deref(), &Surroundings::of_process()) {
        Some(path) => Config::load(&path, presets).map_err(|errors| failures::config(&errors)),
        None => Ok(Config::default()),
    }
}

impl Backend for App {
    fn account_from_config<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>> {
        async move {
            self.account(name)
                .await
                .map(|account| account as Arc<dyn AccountHandle>)
        }
        .boxed()
    }

    fn account_from_table(
        &self,
        table: Value,
    ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>> {
        async move {
            let name = table
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or("script")
                .to_owned();
            let settings = config::Account::from_value(&name, table, &self.0.presets)
                .map_err(|problems| failures::problems(&name, &problems))?;
            self.set_up(settings)
                .await
                .map(|account| account as Arc<dyn AccountHandle>)
        }
        .boxed()
    }

    fn config_get(&self, key: &str) -> Result<Option<Value>, Failure> {
        let Some(path) = self.config_path() else {
            return Ok(None);
        };
        config::edit::get(path, key).map_err(|error| failures::edit(&error))
    }

    fn config_set<'a>(&'a self, key: &'a str, value: Value) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let Some(path) = self.config_path().map(Path::to_owned) else {
                return Err(Failure::new(
                    "config.no_file",
                    "there is no configuration file to change",
                )
                .with_remedy("name one with --config, or create ./postrider.toml"));
            };
            let (key, app) = (key.to_owned(), self.clone());
            tokio::task::spawn_blocking(move || {
                config::edit::set(&path, &key, value, &app.0.presets)
                    .map_err(|error| failures::edit(&error))
            })
            .await
            .map_err(|_| Failure::new("internal", "the change was interrupted"))?
        }
        .boxed()
    }
}
