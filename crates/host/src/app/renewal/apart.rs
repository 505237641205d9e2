//! An account beside the one that sends: with other secrets, with tokens that nobody keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_auth::{
    GrantStore as _, Keeper, KeeperSettings, MemoryStore, NoEvents, Parameters, Shelf, Unattended,
    VaultStore,
};
use postrider_config as config;
use secrecy::SecretString;
use serde_json::json;
use url::Url;

use crate::app::account::{Account, Around};
use crate::app::{App, failures};
use crate::failure::Failure;

/// Whose own secret this is may be asked of Graph in any cloud; a sandbox has the global one's
/// name (facts A7, B1).
const GLOBAL: &str = "https://graph.microsoft.com";

/// Values in place of those that the account's settings lead to.
pub(super) type Replaced = BTreeMap<String, SecretString>;

impl App {
    /// `settings` at work with these secrets. Where `signed_in`, it begins with a copy of the
    /// account's sign-in; what becomes of the copy stays in memory.
    pub(super) async fn apart(
        &self,
        settings: config::Account,
        replaced: Replaced,
        signed_in: bool,
    ) -> Result<Account, Failure> {
        let app = self.clone();
        tokio::task::spawn_blocking(move || app.set_apart(settings, replaced, signed_in))
            .await
            .map_err(|_| Failure::new("internal", "setting the account up was interrupted"))?
    }

    fn set_apart(
        &self,
        settings: config::Account,
        replaced: Replaced,
        signed_in: bool,
    ) -> Result<Account, Failure> {
        let named = |failure: Failure| failure.with_account(&settings.name);
        self.check_confinement(&settings)?;
        let plugin = self.plugin(&settings.auth.plugin).map_err(named)?;
        let server_tls = self.server_tls(&settings)?;
        let lasting = &self.0.lasting;
        let kept = MemoryStore::default();
        let mut environment = (*self.environment(&settings, plugin.description())?).clone();
        environment.interaction = Arc::new(Unattended);
        environment.keeper = Keeper::new(KeeperSettings {
            store: Arc::new(kept.clone()),
            clock: lasting.time_of_day(),
            events: Arc::new(NoEvents),
            parameters: Parameters::default(),
        });
        let secrets = Arc::new(self.references(&settings).replacing(replaced));
        let instance = self.instance_settings(&settings, &secrets);
        plugin
            .check_settings(&instance)
            .map_err(|problems| failures::settings(&self.0.config, &settings, &problems))?;
        let account = Account::new(
            settings,
            plugin,
            instance,
            secrets,
            &Arc::new(environment),
            server_tls,
            Around {
                sign_in_tls: None,
                clock: Arc::clone(self.clock()),
                hooks: Arc::default(),
                swap: Arc::clone(&lasting.swap),
                activity: lasting.world.activity.clone(),
                leaving: Arc::clone(&lasting.leaving),
                events: Arc::clone(&lasting.events),
                metrics: lasting.metrics.clone(),
                queue: Arc::clone(&lasting.queue),
            },
        )?;
        if signed_in
            && let Some(key) = account.grant_key()
            && let Some(vault) = lasting.vault.existing()?
        {
            let told = |error| failures::store(&error);
            let grant = VaultStore::new(vault)
                .load(Shelf::Grant, &key)
                .map_err(told)?;
            if let Some(grant) = grant {
                kept.save(Shelf::Grant, &key, &grant).map_err(told)?;
            }
        }
        Ok(account)
    }
}

/// The same application signing itself in to Microsoft Graph.
pub(super) fn at_graph(account: &config::Account) -> config::Account {
    let mut account = account.clone();
    let graph = account.graph();
    let resource = graph.as_ref().map_or(GLOBAL, Url::as_str);
    let scope = format!("{}/.default", resource.trim_end_matches('/'));
    let settings = &mut account.auth.settings;
    settings.insert("flow".to_owned(), json!("client_credentials"));
    settings.insert("scopes".to_owned(), json!([scope]));
    for of_people in ["login_hint", "redirect_uri"] {
        settings.remove(of_people);
    }
    account
}
