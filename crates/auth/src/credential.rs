//! One account's way to authenticate: its plugin instance, its grant, its flows.

mod key;
mod login;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use postrider_plugin::wire::{
    LoginInput, LoginMethod, ObtainInput, Op, RevokeInput, SaslInput, Secret, Tokens,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::call::Instance;
use crate::clock::{Clock, unix_ms};
use crate::error::{AuthError, AuthErrorKind};
use crate::flow::{Context, Flow, Rest, wrong_json};
use crate::http::Http;
use crate::interaction::Interaction;
use crate::keeper::{
    AccessToken, Expiry, Grant, GrantKey, GrantStatus, Keeper, KnownExpiry, NotObtained, Obtained,
    Revoked, Rotation, RotationOutcome, Tended, TokenSource,
};
use crate::load::LoadedPlugin;
use crate::sasl::SaslFlow;
use crate::scrub::one_line;
use crate::settings::InstanceSettings;
use crate::tally::Tally;
pub use login::PendingLogin;

/// How long a person has to sign in: a device code lives fifteen minutes.
const LOGIN_TIME: Duration = Duration::from_mins(20);
/// How long a provider has to forget a grant.
const REVOKE_TIME: Duration = Duration::from_secs(30);

/// The lifetime of a token whose provider does not state one (RFC 6749 §5.1 leaves it
/// optional): short, so that it is asked for too often rather than used too late.
const UNSTATED_LIFETIME: Duration = Duration::from_mins(5);
/// No access token is believed to live longer.
const LONGEST_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// The largest access token: SMTP's longest line for `AUTH` is 12,288 octets (RFC 4954 §4),
/// and continuation lines are bounded likewise.
const TOKEN_OCTETS: usize = 64 << 10;

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
    pub keeper: Keeper,
    /// Hears how calls of plugins end.
    pub tally: Arc<dyn Tally>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// One account's way to authenticate. Clones are the same credential.
#[derive(Clone)]
pub struct Credential {
    shared: Arc<Shared>,
    /// `None` where the plugin uses no tokens.
    tokens: Option<TokenGrant>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// Where an account's tokens are kept, and where they come from.
#[derive(Clone)]
struct TokenGrant {
    grant: Arc<Grant>,
    source: Arc<dyn TokenSource>,
}

/// What became of a grant that is no longer wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Whether there was anything to forget.
    pub had_grant: bool,
    /// Whether the provider forgot its tokens too; `None` where there were none.
    pub revoked: Option<Result<(), AuthError>>,
}

struct Shared {
    context: Arc<Context>,
    /// Also that there is none, once `create` did not return: it is not tried again.
    instance: OnceCell<Result<Arc<Instance>, AuthError>>,
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
        let shared = Arc::new(Shared {
            context: Arc::new(context),
            instance: OnceCell::new(),
        });
        let context = &shared.context;
        let plugin = &context.plugin;
        let uses_tokens = plugin.has(Op::Obtain) || plugin.has(Op::Login);
        let tokens = uses_tokens.then(|| TokenGrant {
            grant: context
                .environment
                .keeper
                .grant(key::grant_key(context), key::identity(context)),
            source: Arc::new(Source(Arc::clone(&shared))),
        });
        Ok(Self { shared, tokens })
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.shared.context.account
    }

    /// The plugin in use.
    pub fn plugin(&self) -> &Arc<LoadedPlugin> {
        &self.shared.context.plugin
    }

    /// What tells this account's grant from others; accounts with the same share one. `None`
    /// where the plugin uses no tokens.
    pub fn grant_key(&self) -> Option<GrantKey> {
        self.tokens.as_ref().map(|tokens| tokens.grant.key())
    }

    /// The secrets whose end is known.
    pub fn expiries(&self) -> &[KnownExpiry] {
        &self.shared.context.expiries
    }

    /// A usable access token, obtained if need be; `None` where the plugin uses none.
    ///
    /// One that is due is replaced in the background: see [`Keeper::settle`] before the
    /// process ends.
    pub async fn access_token(&self) -> Result<Option<AccessToken>, AuthError> {
        let Some(tokens) = &self.tokens else {
            return Ok(None);
        };
        let token = tokens.grant.token(&tokens.source).await;
        token.map(Some).map_err(|error| self.own(error))
    }

    /// A token for these scopes, which are another resource's, by the same grant; `None` where
    /// the plugin uses no tokens. It is kept nowhere, and the grant serves on as before.
    ///
    /// A plugin from before this could be asked for gives a token of the account's own
    /// resource: whoever uses it finds out by what it is refused for.
    ///
    /// # Errors
    /// Nobody has signed in yet, the provider refuses, or the plugin cannot.
    pub async fn token_aside(&self, scopes: &[&str]) -> Result<Option<AccessToken>, AuthError> {
        let Some(tokens) = &self.tokens else {
            return Ok(None);
        };
        let shared = Arc::clone(&self.shared);
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let ask = move |refresh| async move { shared.obtain(refresh, scopes).await }.boxed();
        let token = tokens.grant.aside(ask).await;
        token.map(Some).map_err(|error| self.own(error))
    }

    /// Signs a person in; nothing is stored yet. Dropping the future ends the attempt.
    pub async fn login(&self, method: LoginMethod) -> Result<PendingLogin, AuthError> {
        let shared = &self.shared;
        let Some(tokens) = &self.tokens else {
            return Err(shared.does_not(Op::Login));
        };
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
            .unwrap_or_else(|_| {
                Err(NotObtained {
                    error: too_long(),
                    unheard: true,
                })
            })
            .map_err(|failed| failed.error)?;
        Ok(PendingLogin::new(self.clone(), tokens, obtained))
    }

    /// Goes on with a sign-in that somebody made for another program: keeps its refresh token,
    /// with which the first access token is fetched when one is needed. Whether it was kept: a
    /// sign-in that is or was here already is newer, and stays.
    ///
    /// # Errors
    /// It could not be stored.
    pub async fn take_in(&self, refresh_token: &SecretString) -> Result<bool, AuthError> {
        let Some(tokens) = &self.tokens else {
            return Ok(false);
        };
        let refresh_token = Secret::new(refresh_token.expose_secret());
        let taken = tokens.grant.take_in(refresh_token).await;
        taken.map_err(|error| self.own(error))
    }

    /// Fetches the next token if it is due, or if `force`d in any case: then also where a
    /// failure asks for patience, unless the provider itself does.
    ///
    /// # Errors
    /// What a refresh failed with, even where the token at hand is still good.
    pub async fn rotate(&self, force: bool) -> Result<Rotation, AuthError> {
        let Some(tokens) = &self.tokens else {
            return Ok(Rotation {
                outcome: RotationOutcome::NoTokens,
                expires_at: None,
                next_refresh: None,
                generation: 0,
            });
        };
        let rotation = tokens.grant.rotate(&tokens.source, force).await;
        rotation.map_err(|error| self.own(error))
    }

    /// How the grant stands; `None` where the plugin uses no tokens. Asks nobody.
    pub async fn status(&self) -> Result<Option<GrantStatus>, AuthError> {
        let Some(tokens) = &self.tokens else {
            return Ok(None);
        };
        let status = tokens.grant.status().await;
        status.map(Some).map_err(|error| self.own(error))
    }

    /// Has the provider forget the grant, where it and the plugin can, and forgets it.
    ///
    /// # Errors
    /// The grant could not be forgotten here. That the provider did not is no error.
    pub async fn logout(&self) -> Result<Forgotten, AuthError> {
        let Some(tokens) = &self.tokens else {
            return Ok(Forgotten {
                had_grant: false,
                revoked: None,
            });
        };
        let shared = Arc::clone(&self.shared);
        let revoke = move |refresh, access| -> BoxFuture<'static, Revoked> {
            async move { Some(shared.revoke(refresh, access).await) }.boxed()
        };
        let forgotten = tokens.grant.forget(revoke).await;
        let (revoked, had_grant) = forgotten.map_err(|error| self.own(error))?;
        Ok(Forgotten { had_grant, revoked })
    }

    /// Forgets the grant here; the provider is not told.
    ///
    /// # Errors
    /// As for [`Self::logout`].
    pub async fn forget(&self) -> Result<Forgotten, AuthError> {
        let Some(tokens) = &self.tokens else {
            return Ok(Forgotten {
                had_grant: false,
                revoked: None,
            });
        };
        let forgotten = tokens.grant.forget(|_, _| ready(None).boxed()).await;
        let (revoked, had_grant) = forgotten.map_err(|error| self.own(error))?;
        Ok(Forgotten { had_grant, revoked })
    }

    /// Stops using the access token of this generation, which a server refused; does
    /// nothing where a newer one is there already, or where this happened a minute ago.
    pub async fn invalidate(&self, generation: u64) {
        if let Some(tokens) = &self.tokens {
            tokens.grant.invalidate(generation).await;
        }
    }

    /// What a keeper needs to look after the grant.
    pub(crate) fn tended(&self) -> Option<Tended> {
        self.tokens.as_ref().map(|tokens| Tended {
            grant: Arc::clone(&tokens.grant),
            source: Arc::clone(&tokens.source),
        })
    }

    /// What a keeper needs to tell of expiries.
    pub(crate) fn known_ends(&self) -> Vec<Expiry> {
        let context = &self.shared.context;
        let end = |known: &KnownExpiry| {
            let identity = context.secrets.identity(&known.secret);
            Expiry::new(context.account.as_str().into(), known, &identity)
        };
        context.expiries.iter().map(end).collect()
    }

    /// Whose flight it was does not matter to who waited for it.
    fn own(&self, error: AuthError) -> AuthError {
        AuthError {
            account: self.account().to_owned(),
            ..error
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
            return Err(self.does_not(op));
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

    fn does_not(&self, op: Op) -> AuthError {
        let name = self.context.plugin.name();
        let message = match op {
            Op::Revoke => format!("plugin {name:?} cannot revoke tokens"),
            _ => format!("plugin {name:?} does not do this"),
        };
        self.context.error(AuthErrorKind::Unsupported, message)
    }

    /// Fetches a token without a person.
    async fn obtain(
        &self,
        refresh_token: Option<Secret>,
        scopes: Vec<String>,
    ) -> Result<Obtained, NotObtained> {
        if !self.context.plugin.has(Op::Obtain) {
            let message = "somebody must sign in first";
            return Err(self.context.error(AuthErrorKind::NeedsUser, message).into());
        }
        self.learn([&refresh_token]);
        let input = ObtainInput {
            now_ms: self.now_ms(),
            refresh_token,
            scopes,
        };
        self.tokens(Op::Obtain, &input).await
    }

    /// Has the provider forget these tokens.
    async fn revoke(
        &self,
        refresh_token: Option<Secret>,
        access_token: Option<Secret>,
    ) -> Result<(), AuthError> {
        self.learn([&refresh_token, &access_token]);
        let input = RevokeInput {
            now_ms: self.now_ms(),
            refresh_token,
            access_token,
        };
        let revoke = async {
            let mut flow = self.begin(Op::Revoke, &input).await?;
            flow.run().await.map(drop)
        };
        timeout(REVOKE_TIME, revoke).await.unwrap_or_else(|_| {
            let message = format!("no answer came within {} s", REVOKE_TIME.as_secs());
            Err(self.context.error(AuthErrorKind::Transient, message))
        })
    }

    /// Remembers secrets, so that they are not shown.
    fn learn<const N: usize>(&self, secrets: [&Option<Secret>; N]) {
        for secret in secrets.into_iter().flatten() {
            self.context.scrubber.learn(secret.expose());
        }
    }

    /// Runs a flow whose result is tokens.
    async fn tokens(&self, op: Op, input: &impl Serialize) -> Result<Obtained, NotObtained> {
        let mut flow = self.begin(op, input).await?;
        let rest = flow.run().await;
        rest.and_then(|rest| self.obtained(rest, flow.requested_at()))
            .map_err(|error| {
                let error = flow.failed(error);
                NotObtained {
                    unheard: flow.is_unheard(&error),
                    error,
                }
            })
    }

    /// The tokens that a flow came to rest with.
    fn obtained(&self, rest: Rest, requested_at: SystemTime) -> Result<Obtained, AuthError> {
        let broken = |how: String| {
            let message = format!("plugin {:?}: {how}", self.context.plugin.name());
            self.context.error(AuthErrorKind::Internal, message)
        };
        let Rest::Finished(output) = rest else {
            return Err(broken("it wants to talk to the mail server".into()));
        };
        let tokens: Tokens = serde_json::from_slice(&output)
            .map_err(|error| broken(wrong_json("its result", &error)))?;
        self.context.scrubber.learn(tokens.access_token.expose());
        self.learn([&tokens.refresh_token, &tokens.id_token]);
        let access = tokens.access_token.expose();
        let fits = (1..=TOKEN_OCTETS).contains(&access.len());
        if !fits || !access.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(broken(
                "its access token is empty, too long or not ascii".into(),
            ));
        }
        let seconds = |seconds: u64| Duration::from_secs(seconds);
        Ok(Obtained {
            access: SecretString::from(access),
            token_type: tokens.token_type.map(|name| one_line(&name, 64)),
            // Some providers send an empty one where they issue none.
            refresh: tokens
                .refresh_token
                .filter(|token| !token.expose().is_empty()),
            refresh_lifetime: tokens.refresh_token_expires_in.map(seconds),
            scope: tokens.scope.map(|scope| one_line(&scope, 2000)),
            requested_at,
            lifetime: tokens
                .expires_in
                .map_or(UNSTATED_LIFETIME, seconds)
                .min(LONGEST_LIFETIME),
            refresh_in: tokens.refresh_in.map(seconds),
            identity: tokens.identity.map(login::shown),
        })
    }
}

/// An account's plugin, as the place where tokens come from.
struct Source(Arc<Shared>);

impl TokenSource for Source {
    fn obtain(&self, refresh: Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>> {
        let shared = Arc::clone(&self.0);
        async move { shared.obtain(refresh, Vec::new()).await }.boxed()
    }

    fn is_signed_in_to(&self) -> bool {
        self.0.context.plugin.has(Op::Login)
    }
}

impl From<AuthError> for NotObtained {
    /// Nothing was asked of the provider.
    fn from(error: AuthError) -> Self {
        Self {
            error,
            unheard: false,
        }
    }
}

#[cfg(test)]
mod tests;
