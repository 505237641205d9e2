//! One account's way to authenticate.
use std::fmt;
use std::sync::Arc;

use postrider_plugin::wire::LoginMethod;

use crate::clock::Clock;
use crate::error::{AuthError, AuthErrorKind};
use crate::http::Http;
use crate::interaction::Interaction;
use crate::load::LoadedPlugin;
use crate::sasl::SaslFlow;
use crate::settings::InstanceSettings;
use crate::token::{AccessToken, TokenStore};

/// What flows need of the world.
#[derive(Clone)]
pub struct Environment {
    /// Performs HTTP requests.
    pub http: Http,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Shows things to a person.
    pub interaction: Arc<dyn Interaction>,
    /// Keeps tokens.
    pub tokens: TokenStore,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// One account's way to authenticate. Clones are the same credential.
#[derive(Clone, Debug)]
pub struct Credential {
    plugin: Arc<LoadedPlugin>,
    settings: InstanceSettings,
    environment: Arc<Environment>,
}

impl Credential {
    /// A credential of this plugin with these settings, which are checked first.
    pub fn new(
        plugin: Arc<LoadedPlugin>,
        settings: InstanceSettings,
        environment: Arc<Environment>,
    ) -> Result<Self, AuthError> {
        Ok(Self {
            plugin,
            settings,
            environment,
        })
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.settings.account
    }

    /// The plugin in use.
    pub fn plugin(&self) -> &Arc<LoadedPlugin> {
        &self.plugin
    }

    /// A usable access token, obtained if need be; `None` where the plugin uses none.
    pub async fn access_token(&self) -> Result<Option<AccessToken>, AuthError> {
        let _ = &self.environment;
        Err(AuthError::new(
            self.account(),
            AuthErrorKind::Unsupported,
            "not built yet",
        ))
    }

    /// Signs a person in.
    pub async fn login(&self, method: LoginMethod) -> Result<AccessToken, AuthError> {
        let _ = method;
        Err(AuthError::new(
            self.account(),
            AuthErrorKind::Unsupported,
            "not built yet",
        ))
    }

    /// Forgets the access token of this generation, which a server refused; does nothing
    /// where a newer one is there already.
    pub async fn invalidate(&self, generation: u64) {
        let _ = generation;
    }

    /// Begins a SASL exchange with a server offering these mechanisms; obtains a token
    /// first where the plugin uses tokens.
    pub async fn begin_sasl(
        &self,
        offered: &[String],
        host: &str,
        port: u16,
    ) -> Result<SaslFlow, AuthError> {
        let _ = (offered, host, port);
        Err(AuthError::new(
            self.account(),
            AuthErrorKind::Unsupported,
            "not built yet",
        ))
    }
}
