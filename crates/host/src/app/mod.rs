//! Accounts at work: settings become credentials and sessions, once each, and are shared.

mod account;
mod backend;
mod bridge;
mod compose;
pub mod doctor;
mod events;
mod expiries;
mod failures;
pub(crate) mod gateway;
mod generation;
mod grant;
mod hooked;
mod keeper;
mod orphans;
pub mod plugins;
pub(crate) mod queue;
pub mod renewal;
pub mod sandbox;
pub(crate) mod schedules;
mod secrets;
pub mod setup;
mod sign_in;
mod standing;
pub mod vault;
mod world;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use postrider_auth::{
    Credential, Description, Environment, GrantPolicy, Http, HttpSettings, InstanceSettings,
    Interaction, Keeper, LoadedPlugin, Loader, ReuseGrace, SecretSource,
};
use postrider_config::{
    self as config, Config, Presets, Rotation, SandboxAddress, SecretRef, Surroundings,
};
use postrider_schedule::{Clock, Draft};
use postrider_smtp::tls;
use serde_json::{Value, json};

use self::account::Around;
use self::secrets::References;
use self::vault::SharedVault;
use self::world::Lasting;
use crate::failure::Failure;
use crate::metrics::Metrics;

pub(crate) use account::test_recipient;
pub use account::{Account, RecipientOutcome, SendOutcome};
pub(crate) use compose::NULL_PATH;
pub use doctor::{DoctorOptions, DoctorReport, DoctorStage, Finding, Freshness, StageResult};
pub use grant::{LoggedOut, Rotated, Token};
pub use orphans::Orphan;
pub use queue::{Entry, Queue, Queued, Ticket};
pub(crate) use renewal::RenewalStanding;
pub use sign_in::{Connected, Verified};
pub use standing::{Expiry, LastFailure, Moment, RefreshToken, SignedIn, Standing, is_near};
pub use world::World;

pub(crate) use failures::{
    config as config_failure, edit as edit_failure, problems as problems_failure,
    subject as subject_of,
};

/// How long the end of the program waits for servers to answer `QUIT`.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long it waits for refreshes: one attempt, and keeping what it brought.
const SETTLING: Duration = Duration::from_secs(45);

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

/// One generation: what follows from the configuration as it was read.
struct Inner {
    config: Config,
    /// What outlives it.
    lasting: Arc<Lasting>,
    loader: Loader,
    /// By name: a file is read and verified once, however many accounts use it.
    plugins: Mutex<HashMap<String, Arc<LoadedPlugin>>>,
    /// By the file of their trust anchors; `None` is the platform's.
    tls: Mutex<HashMap<Option<PathBuf>, Arc<rustls::ClientConfig>>>,
    /// Accounts of the configuration that are in use; a script's own live in the script.
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    /// Of every account that was set up, the last one of each name.
    credentials: Mutex<Credentials>,
    /// What its scripts schedule.
    draft: OnceLock<Draft>,
}

/// What the keeper is to tend.
struct Credentials {
    all: Vec<Credential>,
    /// Whether this generation is the one that counts.
    in_force: bool,
}

impl App {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub fn open(settings: &AppSettings) -> Result<Self, Failure> {
        Self::open_with(settings, World::outside())
    }

    /// The same for a command that a person takes part in.
    ///
    /// # Errors
    /// Everything wrong with the configuration.
    pub fn open_for(settings: &AppSettings, person: Arc<dyn Interaction>) -> Result<Self, Failure> {
        let world = World {
            interaction: person,
            ..World::outside()
        };
        Self::open_with(settings, world)
    }

    /// The same inside a sandbox: no account may send anywhere else.
    ///
    /// # Errors
    /// Everything wrong with the configuration.
    pub fn open_in(settings: &AppSettings, sandbox: &sandbox::Embedded) -> Result<Self, Failure> {
        Self::open_with(settings, World::inside(sandbox))
    }

    /// Reads the configuration, for a world of the caller's own.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub fn open_with(settings: &AppSettings, world: World) -> Result<Self, Failure> {
        let config = load_config(settings, &world.presets)?;
        Ok(Self::with_config(settings, config, world))
    }

    /// The same with a configuration that was read already.
    pub fn with_config(settings: &AppSettings, config: Config, world: World) -> Self {
        let lasting = Arc::new(Lasting::new(settings, &config, world));
        Self::assemble(config, lasting, true)
    }

    fn assemble(config: Config, lasting: Arc<Lasting>, in_force: bool) -> Self {
        let app = Self(Arc::new(Inner {
            loader: plugins::loader(&config),
            plugins: Mutex::default(),
            config,
            lasting,
            tls: Mutex::default(),
            accounts: Mutex::default(),
            draft: OnceLock::new(),
            credentials: Mutex::new(Credentials {
                all: Vec::new(),
                in_force,
            }),
        }));
        if in_force {
            app.0.lasting.ways.lead_to(&app);
        }
        app
    }

    /// Tells scripts of something.
    pub(crate) fn announce(&self, name: &'static str, payload: Value) {
        self.0.lasting.events.tell(name, payload);
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.lasting.metrics
    }

    /// The time of day.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.lasting.world.clock
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The file the configuration came from, if there is one.
    pub fn config_path(&self) -> Option<&Path> {
        self.0.config.path.as_deref()
    }

    /// Whoever keeps tokens.
    fn keeper(&self) -> &Keeper {
        &self.0.lasting.keeper
    }

    /// The vault.
    pub fn vault(&self) -> &SharedVault {
        &self.0.lasting.vault
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
                None if accounts.is_empty() => "make one: postrider setup".to_owned(),
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

    /// Whether the account's trust anchors and secret files can be read, and its plugin loads
    /// and takes its settings.
    ///
    /// # Errors
    /// The first thing that is wrong, in full.
    pub fn check_settings(&self, settings: &config::Account) -> Result<(), Failure> {
        self.server_tls(settings)?;
        let plugin = self
            .plugin(&settings.auth.plugin)
            .map_err(|failure| failure.with_account(&settings.name))?;
        self.environment(settings, plugin.description())?;
        plugin
            .check_settings(&self.instance_settings(settings, &self.references(settings)))
            .map_err(|problems| failures::settings(&self.0.config, settings, &problems))?;
        self.check_secret_files(settings)
    }

    /// Secrets in files can be looked at without running anything; an environment variable may
    /// be set only where the program will run.
    fn check_secret_files(&self, settings: &config::Account) -> Result<(), Failure> {
        let base_dir = self.0.config.base_dir();
        for (setting, reference) in &settings.auth.secrets {
            if matches!(reference, SecretRef::File(_)) {
                reference
                    .resolve(base_dir, &config::NoVault)
                    .map_err(|error| failures::secret(settings, setting, &error))?;
            }
        }
        Ok(())
    }

    /// From now on the token of every account that is set up is refreshed before it is needed,
    /// until [`App::close`].
    pub fn keep_fresh(&self) {
        let lasting = &self.0.lasting;
        let begin = || keeper::Tending::begin(lasting.keeper.clone());
        lasting.tending().get_or_insert_with(begin);
    }

    /// When the next token falls due, as far as the keeper looks after any.
    pub fn next_refresh(&self) -> Option<Timestamp> {
        let next = self.keeper().next_attention()?;
        Timestamp::try_from(next).ok()
    }

    /// The clock was moved by hand: what has fallen due is refreshed.
    pub fn time_moved(&self) {
        if let Some(tending) = &*self.0.lasting.tending() {
            tending.look_again();
        }
    }

    /// Waits for refreshes under way, for a new refresh token must not be lost, and takes leave
    /// of every server. Accounts that somebody still holds keep their sessions.
    pub async fn close(&self) {
        if let Some(scheduler) = self.0.lasting.scheduler.get() {
            // What the store could not be told yet, it is told now.
            scheduler.drain(Duration::ZERO).await;
        }
        drop(self.0.lasting.tending().take());
        self.0.lasting.keeper.settle(SETTLING).await;
        self.0.lasting.ways.end();
        self.retire().await;
        self.0.lasting.queue.leave().await;
    }

    /// Takes leave of every server; the same for a generation that another has followed.
    pub async fn retire(&self) {
        self.lock_accounts().clear();
        let everyone_left = self.0.lasting.leaving.write();
        if tokio::time::timeout(FAREWELL, everyone_left).await.is_err() {
            tracing::debug!("a server did not answer QUIT in time");
        }
    }

    /// Loads the plugin and makes the pool. Reads files and starts threads, so it runs where
    /// blocking is allowed.
    pub(crate) async fn set_up(&self, settings: config::Account) -> Result<Arc<Account>, Failure> {
        self.check_confinement(&settings)?;
        let (name, plugin) = (settings.name.clone(), settings.auth.plugin.clone());
        let account = self.make(settings).await.inspect_err(|failure| {
            if failure.code.starts_with("plugin.") {
                let payload = json!({
                    "account": name,
                    "plugin": plugin,
                    "code": failure.code,
                    "message": failure.message,
                });
                self.0.lasting.events.tell("plugin.failed", payload);
            }
        })?;
        self.hand_over(&account);
        Ok(account)
    }

    async fn make(&self, settings: config::Account) -> Result<Arc<Account>, Failure> {
        let app = self.clone();
        tokio::task::spawn_blocking(move || {
            // Trust anchors and plugin are read at the same time: each takes milliseconds.
            let (plugin, server_tls) = thread::scope(|scope| {
                let plugin = scope.spawn(|| app.plugin(&settings.auth.plugin));
                (plugin.join(), app.server_tls(&settings))
            });
            let plugin = plugin
                .unwrap_or_else(|_| Err(Failure::new("internal", "loading the plugin failed")))
                .map_err(|failure| failure.with_account(&settings.name))?;
            let server_tls = server_tls?;
            let environment = app.environment(&settings, plugin.description())?;
            let signs_in = !plugin.description().hosts.is_empty();
            let sign_in_tls = match settings.ca_file.as_deref() {
                ca_file if signs_in => Some(app.tls(ca_file)?),
                _ => None,
            };
            let secrets = app.references(&settings);
            let instance = app.instance_settings(&settings, &secrets);
            plugin
                .check_settings(&instance)
                .map_err(|problems| failures::settings(&app.0.config, &settings, &problems))?;
            Account::new(
                settings,
                plugin,
                instance,
                secrets,
                &environment,
                server_tls,
                Around {
                    clock: Arc::clone(app.clock()),
                    hooks: Arc::clone(&app.0.lasting.hooks),
                    swap: Arc::clone(&app.0.lasting.swap),
                    activity: app.0.lasting.world.activity.clone(),
                    leaving: Arc::clone(&app.0.lasting.leaving),
                    events: Arc::clone(&app.0.lasting.events),
                    metrics: app.0.lasting.metrics.clone(),
                    queue: Arc::clone(&app.0.lasting.queue),
                    sign_in_tls,
                },
            )
            .map(Arc::new)
        })
        .await
        .map_err(|_| Failure::new("internal", "setting the account up was interrupted"))?
    }

    /// What the keeper and whoever tells of events are to know of a new account.
    fn hand_over(&self, account: &Account) {
        let credential = account.credential();
        let is_in_force = {
            let mut ours = self.lock_credentials();
            ours.all
                .retain(|earlier| earlier.account() != credential.account());
            ours.all.push(credential.clone());
            ours.in_force
        };
        let lasting = &self.0.lasting;
        lasting.events.know(account.settings());
        if let Some(tending) = &*lasting.tending()
            && is_in_force
        {
            tending.add(credential.clone());
            lasting.keeper.remind(credential);
        }
    }

    /// With `--sandbox` neither a message nor a secret goes anywhere else.
    fn check_confinement(&self, settings: &config::Account) -> Result<(), Failure> {
        let Some(sandbox) = &self.0.lasting.world.confined_to else {
            return Ok(());
        };
        let server = &settings.server;
        let elsewhere = if server.host != sandbox.smtp_host || server.port != sandbox.smtp_port {
            Some(format!("sends through {}:{}", server.host, server.port))
        } else {
            settings.auth.settings.iter().find_map(|(key, value)| {
                let is_endpoint =
                    key == "authority" || key == "issuer" || key.ends_with("endpoint");
                let url = value.as_str().filter(|_| is_endpoint)?;
                (!is_inside(sandbox, url)).then(|| format!("signs in at {url}"))
            })
        };
        elsewhere.map_or(Ok(()), |where_to| {
            Err(Failure::new(
                "config.outside_sandbox",
                format!("{where_to}, and in the sandbox nothing goes to the outside"),
            )
            .with_account(&settings.name)
            .with_remedy(
                "use provider = \"microsoft365\" without a server or endpoints of its own, or run \
                 without --sandbox (the repl with --live)",
            ))
        })
    }

    /// The plugin of that name; the same one each time.
    fn plugin(&self, name: &str) -> Result<Arc<LoadedPlugin>, Failure> {
        let mut loaded = self
            .0
            .plugins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = loaded.get(name) {
            return Ok(Arc::clone(plugin));
        }
        let plugin = plugins::load(&self.0.loader, name)?;
        loaded.insert(name.to_owned(), Arc::clone(&plugin));
        Ok(plugin)
    }

    fn references(&self, settings: &config::Account) -> Arc<References> {
        Arc::new(References::new(
            settings.auth.secrets.clone(),
            self.0.lasting.world.stand_ins.clone(),
            self.0.config.base_dir().to_owned(),
            self.0.lasting.vault.clone(),
        ))
    }

    /// What the account tells its plugin and the keeper. Reads the certificate, if it has one.
    fn instance_settings(
        &self,
        settings: &config::Account,
        secrets: &Arc<References>,
    ) -> InstanceSettings {
        let vault = &self.0.lasting.vault;
        let base_dir = self.0.config.base_dir();
        InstanceSettings {
            account: settings.name.clone(),
            username: settings.username.clone(),
            settings: settings.auth.settings.clone(),
            secrets: Arc::clone(secrets) as Arc<dyn SecretSource>,
            allow_hosts: settings.auth.allow_hosts.clone(),
            policy: grant_policy(&settings.rotation),
            expiries: expiries::known(
                settings,
                |reference| vault.resolve(reference, base_dir).ok(),
                |name| vault.expiry(name),
            ),
        }
    }

    fn server_tls(&self, settings: &config::Account) -> Result<Arc<rustls::ClientConfig>, Failure> {
        let server = settings.server.ca_file.as_deref();
        self.tls(server.or(settings.ca_file.as_deref()))
            .map_err(|failure| failure.with_account(&settings.name))
    }

    /// What the account's plugin talks over. One that reaches no host needs no trust anchors.
    fn environment(
        &self,
        settings: &config::Account,
        description: &Description,
    ) -> Result<Arc<Environment>, Failure> {
        let tls = if description.hosts.is_empty() && settings.auth.allow_hosts.is_empty() {
            tls::client_config_trusting(rustls::RootCertStore::empty())
                .map(Arc::new)
                .map_err(|error| failures::tls(&error))
        } else {
            self.tls(settings.ca_file.as_deref())
        };
        let named = |failure: Failure| failure.with_account(&settings.name);
        let tls = tls.map_err(named)?;
        let http = Http::new(HttpSettings::new((*tls).clone()))
            .map_err(|error| named(Failure::new("config.http", error.to_string())))?;
        Ok(Arc::new(Environment {
            http,
            clock: self.0.lasting.time_of_day(),
            interaction: Arc::clone(&self.0.lasting.world.interaction),
            keeper: self.0.lasting.keeper.clone(),
            tally: Arc::new(self.0.lasting.metrics.clone()),
        }))
    }

    /// TLS that trusts the authorities in this file, or the platform's; the same one each time.
    fn tls(&self, ca_file: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, Failure> {
        let key = ca_file.map(Path::to_owned);
        let mut known = self.0.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tls) = known.get(&key) {
            return Ok(Arc::clone(tls));
        }
        let roots = tls::Roots {
            ca_file: key.clone(),
        };
        let made = tls::client_config(&roots)
            .map(Arc::new)
            .map_err(|error| failures::tls(&error))?;
        known.insert(key, Arc::clone(&made));
        Ok(made)
    }

    fn lock_credentials(&self) -> MutexGuard<'_, Credentials> {
        self.0
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_accounts(&self) -> MutexGuard<'_, HashMap<String, Arc<Account>>> {
        self.0
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `url` leads to the sandbox's own sign-in service.
fn is_inside(sandbox: &SandboxAddress, url: &str) -> bool {
    let authority = &sandbox.authority;
    authority
        .join(url)
        .is_ok_and(|url| url.origin() == authority.origin())
}

/// What the configuration says of refresh tokens, in the keeper's terms.
fn grant_policy(rotation: &Rotation) -> GrantPolicy {
    GrantPolicy {
        refresh_token_lifetime: rotation.refresh_token_lifetime,
        reuse_grace: match rotation.reuse_grace {
            config::ReuseGrace::Forever => ReuseGrace::Forever,
            config::ReuseGrace::For(grace) => ReuseGrace::For(grace),
        },
    }
}

/// The configuration, from the first of the usual places that has one; empty if none has.
fn load_config(settings: &AppSettings, presets: &Presets) -> Result<Config, Failure> {
    match config::find(settings.config.as_deref(), &Surroundings::of_process()) {
        Some(path) => {
            // Absolute, so that what it names relative to itself stays there.
            let path = std::path::absolute(&path).unwrap_or(path);
            Config::load(&path, presets).map_err(|errors| failures::config(&errors))
        }
        None => Ok(Config::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sandboxs_own_origin_is_inside() {
        let sandbox = SandboxAddress {
            smtp_host: "localhost".to_owned(),
            smtp_port: 25,
            authority: "https://localhost:8443/".parse().unwrap(),
            ca_file: PathBuf::new(),
        };
        for inside in ["https://localhost:8443", "https://localhost:8443/t/token"] {
            assert!(is_inside(&sandbox, inside), "{inside}");
        }
        for outside in [
            "https://localhost:84430",
            "https://localhost:8443@login.example.org/",
            "https://localhost:8443.example.org/",
            "http://localhost:8443/",
            "https://login.example.org/",
        ] {
            assert!(!is_inside(&sandbox, outside), "{outside}");
        }
    }
}
