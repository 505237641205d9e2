//! One account's way to authenticate: its plugin instance, its grant, its flows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postrider_plugin::wire::{LoginInput, LoginMethod, ObtainInput, Op, SaslInput, Secret, Tokens};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::call::Instance;
use crate::clock::{Clock, unix_ms};
use crate::error::{AuthError, AuthErrorKind};
use crate::flow::{Context, Flow, Rest, wrong_json};
use crate::http::Http;
use crate::interaction::Interaction;
use crate::load::LoadedPlugin;
use crate::sasl::SaslFlow;
use crate::scrub::one_line;
use crate::settings::InstanceSettings;
use crate::token::{AccessToken, Grant, GrantKey, Obtained, TokenStore};

/// How long a person has to sign in: a device code lives fifteen minutes.
const LOGIN_TIME: Duration = Duration::from_mins(20);
/// How long fetching a token may take, all its requests together.
const OBTAIN_TIME: Duration = Duration::from_secs(90);

/// The lifetime of a token whose provider does not state one (RFC 6749 §5.1 leaves it
/// optional): short, so that it is asked for too often rather than used too late.
const UNSTATED_LIFETIME: Duration = Duration::from_mins(5);
/// No access token is believed to live longer.
const LONGEST_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// The largest access token: SMTP's longest line for `AUTH` is 12,288 octets (RFC 4954 §4),
/// and continuation lines are bounded likewise.
const TOKEN_OCTETS: usize = 64 << 10;

/// A schema keyword: accounts whose settings have these values share one grant, whoever
/// signs in. `"x-postrider-shared-grant": {"flow": "client_credentials"}` says that an
/// app-only token is the app's, not the mailbox's.
const SHARED_GRANT: &str = "x-postrider-shared-grant";

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
    shared: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    /// Also that there is none, once `create` did not return: it is not tried again.
    instance: OnceCell<Result<Arc<Instance>, AuthError>>,
    grant: OnceCell<Arc<Grant>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)
    }
}

impl Credential {
    /// A credential of this plugin with these settings, which are checked by the plugin's
    /// schema first. The plugin itself sees them when the credential is first used.
    pub fn new(
        plugin: Arc<LoadedPlugin>,
        settings: InstanceSettings,
        environment: Arc<Environment>,
    ) -> Result<Self, AuthError> {
        if let Err(problems) = plugin.check_settings(&settings) {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let message = one_line(&problems.join("; "), 1000);
            return Err(AuthError::new(
                &settings.account,
                AuthErrorKind::Config,
                message,
            ));
        }
        let context = Context::new(plugin, settings, environment)?;
        Ok(Self {
            shared: Arc::new(Shared {
                context: Arc::new(context),
                instance: OnceCell::new(),
                grant: OnceCell::new(),
            }),
        })
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.shared.context.account
    }

    /// The plugin in use.
    pub fn plugin(&self) -> &Arc<LoadedPlugin> {
        &self.shared.context.plugin
    }

    /// A usable access token, obtained if need be; `None` where the plugin uses none.
    pub async fn access_token(&self) -> Result<Option<AccessToken>, AuthError> {
        let plugin = self.plugin();
        if !plugin.has(Op::Obtain) && !plugin.has(Op::Login) {
            return Ok(None);
        }
        let grant = self.shared.grant().await?;
        let clock = Arc::clone(&self.shared.context.environment.clock);
        let shared = Arc::clone(&self.shared);
        grant
            .token(
                move || clock.now(),
                |refresh| async move { shared.obtain(refresh).await },
            )
            .await
            .map(Some)
            .map_err(|error| AuthError {
                // Whose flight it was does not matter to who waited for it.
                account: self.account().to_owned(),
                ..error
            })
    }

    /// Signs a person in. Dropping the future ends the attempt.
    pub async fn login(&self, method: LoginMethod) -> Result<AccessToken, AuthError> {
        let shared = &self.shared;
        let input = LoginInput {
            now_ms: shared.now_ms(),
            method,
        };
        let too_long = || {
            let message = "nobody signed in in time";
            shared.context.error(AuthErrorKind::NeedsUser, message)
        };
        let obtained = timeout(LOGIN_TIME, shared.tokens(Op::Login, &input))
            .await
            .unwrap_or_else(|_| Err(too_long()))?;
        Ok(shared.grant().await?.adopt(obtained))
    }

    /// Stops using the access token of this generation, which a server refused; does
    /// nothing where a newer one is there already, or where this happened a minute ago.
    pub async fn invalidate(&self, generation: u64) {
        if let Ok(grant) = self.shared.grant().await {
            grant.invalidate(generation, self.shared.context.environment.clock.now());
        }
    }

    /// Begins a SASL exchange with a server offering these mechanisms; obtains a token
    /// first where the plugin uses tokens.
    pub async fn begin_sasl(
        &self,
        offered: &[String],
        host: &str,
        port: u16,
    ) -> Result<SaslFlow, AuthError> {
        let shared = &self.shared;
        let token = self.access_token().await?;
        let input = SaslInput {
            now_ms: shared.now_ms(),
            offered: offered.to_vec(),
            authcid: shared.context.username.clone(),
            authzid: None,
            host: host.to_owned(),
            port,
            access_token: token
                .as_ref()
                .map(|token| Secret::new(token.value().expose_secret())),
        };
        if let Some(token) = &input.access_token {
            shared.context.scrubber.learn(token.expose());
        }
        let flow = shared.begin(Op::Sasl, &input).await?;
        let generation = token.map_or(0, |token| token.generation());
        SaslFlow::start(Arc::clone(&shared.context), flow, offered, generation).await
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        unix_ms(self.context.environment.clock.now())
    }

    async fn begin(&self, op: Op, input: &impl Serialize) -> Result<Flow, AuthError> {
        if !self.context.plugin.has(op) {
            let message = format!("plugin {:?} does not do this", self.context.plugin.name());
            return Err(self.context.error(AuthErrorKind::Unsupported, message));
        }
        let create = || async {
            match self.context.instance().await {
                Err(error) if error.kind != AuthErrorKind::Unresponsive => Err(error),
                settled => Ok(settled),
            }
        };
        match self.instance.get_or_try_init(create).await? {
            Ok(instance) => Flow::begin(Arc::clone(&self.context), instance, op, input).await,
            Err(error) => Err(error.clone()),
        }
    }

    /// Fetches a token without a person.
    async fn obtain(&self, refresh_token: Option<Secret>) -> Result<Obtained, AuthError> {
        if !self.context.plugin.has(Op::Obtain) {
            let message = "somebody must sign in first";
            return Err(self.context.error(AuthErrorKind::NeedsUser, message));
        }
        if let Some(token) = &refresh_token {
            self.context.scrubber.learn(token.expose());
        }
        let input = ObtainInput {
            now_ms: self.now_ms(),
            refresh_token,
        };
        let too_long = || {
            let message = format!("no token came within {} s", OBTAIN_TIME.as_secs());
            self.context.error(AuthErrorKind::Transient, message)
        };
        timeout(OBTAIN_TIME, self.tokens(Op::Obtain, &input))
            .await
            .unwrap_or_else(|_| Err(too_long()))
    }

    /// Runs a flow whose result is tokens.
    async fn tokens(&self, op: Op, input: &impl Serialize) -> Result<Obtained, AuthError> {
        let broken = |how: String| {
            let message = format!("plugin {:?}: {how}", self.context.plugin.name());
            self.context.error(AuthErrorKind::Internal, message)
        };
        let mut flow = self.begin(op, input).await?;
        let Rest::Finished(output) = flow.run().await? else {
            return Err(broken("it wants to talk to the mail server".into()));
        };
        let tokens: Tokens = serde_json::from_slice(&output)
            .map_err(|error| broken(wrong_json("its result", &error)))?;
        for secret in [
            Some(&tokens.access_token),
            tokens.refresh_token.as_ref(),
            tokens.id_token.as_ref(),
        ] {
            self.context
                .scrubber
                .learn(secret.map_or("", Secret::expose));
        }
        let access = tokens.access_token.expose();
        let fits = (1..=TOKEN_OCTETS).contains(&access.len());
        if !fits || !access.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(broken(
                "its access token is empty, too long or not ascii".into(),
            ));
        }
        Ok(Obtained {
            access: SecretString::from(access),
            // Some providers send an empty one where they issue none.
            refresh: tokens
                .refresh_token
                .filter(|token| !token.expose().is_empty()),
            scope: tokens.scope.map(|scope| one_line(&scope, 2000)),
            requested_at: flow.requested_at(),
            lifetime: tokens
                .expires_in
                .map_or(UNSTATED_LIFETIME, Duration::from_secs)
                .min(LONGEST_LIFETIME),
        })
    }

    /// This account's grant.
    async fn grant(&self) -> Result<Arc<Grant>, AuthError> {
        let grant = self
            .grant
            .get_or_try_init(|| async {
                let key = self.grant_key().await?;
                Ok(self.context.environment.tokens.grant(key))
            })
            .await?;
        Ok(Arc::clone(grant))
    }

    /// What tells this account's grant from others.
    ///
    /// When in doubt they are apart: plugin, settings, and then account and user. Only
    /// where the plugin's schema says that the user does not matter are accounts one, and
    /// then only with the same secrets, for a secret is what proves the client.
    async fn grant_key(&self) -> Result<GrantKey, AuthError> {
        let context = &self.context;
        let mut key = Sha256::new();
        let mut part = |name: &str, value: &[u8]| {
            for octets in [name.as_bytes(), value] {
                key.update((octets.len() as u64).to_be_bytes());
                key.update(octets);
            }
        };
        part("plugin", context.plugin.name().as_bytes());
        let mut settings: Vec<_> = context.settings.iter().collect();
        settings.sort_by_key(|(name, _)| *name);
        for (name, value) in settings {
            part(name, canonical(value).as_bytes());
        }
        if self.is_shared() {
            let mut names = context.secrets.names();
            names.sort();
            for name in names {
                let source = Arc::clone(&context.secrets);
                let fetch = {
                    let name = name.clone();
                    move || source.secret(&name)
                };
                let secret = tokio::task::spawn_blocking(fetch)
                    .await
                    .unwrap_or_else(|_| Err("it could not be fetched".into()))
                    .map_err(|reason| {
                        let message = one_line(&format!("{name}: {reason}"), 500);
                        context.error(AuthErrorKind::Config, message)
                    })?;
                part(&name, secret.expose_secret().as_bytes());
            }
        } else {
            part("account", context.account.as_bytes());
            part("username", context.username.as_bytes());
        }
        Ok(GrantKey(key.finalize().into()))
    }

    /// Whether the plugin says that accounts with these settings share their grant.
    fn is_shared(&self) -> bool {
        let schema = self.context.plugin.description().config_schema.as_value();
        let Some(Value::Object(condition)) = schema.get(SHARED_GRANT) else {
            return false;
        };
        !condition.is_empty()
            && condition
                .iter()
                .all(|(name, value)| self.context.settings.get(name) == Some(value))
    }
}

/// JSON with the keys of every object in order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests;
