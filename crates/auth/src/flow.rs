//! Driving a flow: the plugin says what to do next, this does it or says why not.
//!
//! Everything a plugin asks for passes through [`Flow::perform`]: that is the whole of what
//! it can do to the world. A flow is bounded in actions and in time, and ends when it is
//! dropped, whoever drops it.

pub(crate) mod hosts;
mod redirect;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, select};
use postrider_plugin::abi::{self, ErrorKind};
use postrider_plugin::wire::{
    Action, Answer, Config, DeviceCode, Empty, ErrorDetail, Event, Failure, FailureKind,
    HttpRequest, Octets as WireOctets, Op, OpenUrl, Prompt, SaslStart, Secret,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::error::Category;
use serde_json::{Map, Value};
use url::Url;
use zeroize::Zeroizing;

use crate::call::{self, CallError, Instance, Log, Octets, Returned};
use crate::clock::unix_ms;
use crate::credential::Environment;
use crate::error::{AuthError, AuthErrorKind};
use crate::http::refused;
use crate::keeper::{GrantPolicy, KnownExpiry};
use crate::load::LoadedPlugin;
use crate::load::describe::secret_names;
use crate::scrub::{MESSAGE_CHARS, Scrubber, one_line};
use crate::settings::{InstanceSettings, SecretSource};
use crate::tally::CallOutcome;
use hosts::AllowList;
use redirect::Listener;
pub use redirect::ReturnedBrowser;

/// Actions one flow may ask for. A device login may poll every second of its twenty minutes,
/// each time with a pause, two secrets and randomness for an assertion, and a request.
const ACTIONS: u32 = 6000;

/// Random octets for one action.
const RANDOM_OCTETS: u32 = 1024;

/// Length bound of a provider's own words, in characters: Entra ID's run to several lines.
const DESCRIPTION_CHARS: usize = 2000;

/// Tokens learnt from one response: more would crowd out the secrets that are in use.
const TOKENS_LEARNT: usize = 8;

/// What stays the same for all flows of one account.
pub(crate) struct Context {
    pub(crate) account: String,
    pub(crate) username: String,
    pub(crate) plugin: Arc<LoadedPlugin>,
    pub(crate) settings: Map<String, Value>,
    pub(crate) secrets: Arc<dyn SecretSource>,
    pub(crate) scrubber: Arc<Scrubber>,
    pub(crate) environment: Arc<Environment>,
    pub(crate) policy: GrantPolicy,
    pub(crate) expiries: Vec<KnownExpiry>,
    declared_secrets: BTreeSet<String>,
    allowed: AllowList,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("account", &self.account)
            .field("plugin", &self.plugin.name())
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(crate) fn new(
        plugin: Arc<LoadedPlugin>,
        settings: InstanceSettings,
        environment: Arc<Environment>,
    ) -> Result<Self, AuthError> {
        let description = plugin.description();
        let allowed = AllowList::new(
            &description.hosts,
            &settings.settings,
            &settings.allow_hosts,
        )
        .map_err(|reason| AuthError::new(&settings.account, AuthErrorKind::Config, reason))?;
        Ok(Self {
            declared_secrets: secret_names(description.config_schema.as_value()),
            allowed,
            account: settings.account,
            username: settings.username,
            settings: settings.settings,
            secrets: settings.secrets,
            policy: settings.policy,
            expiries: settings.expiries,
            scrubber: Arc::default(),
            plugin,
            environment,
        })
    }

    /// Makes the plugin's instance for this account.
    pub(crate) async fn instance(&self) -> Result<Arc<Instance>, AuthError> {
        let config = Config {
            account: self.account.clone(),
            username: self.username.clone(),
            settings: self.settings.clone(),
            secrets: self.secrets.names(),
            host_features: Action::FEATURES.map(str::to_owned).to_vec(),
        };
        let log = Log::new(
            self.plugin.name(),
            &self.account,
            Arc::clone(&self.scrubber),
        );
        let created = Instance::create(
            self.plugin.functions(),
            self.json(&config)?,
            log,
            self.plugin.deadline(),
        )
        .await
        .map_err(|error| self.call_failed(error))
        .and_then(|created| created.map_err(|returned| self.plugin_failed("create", returned)));
        self.tell(
            "create",
            match &created {
                Ok(_) => CallOutcome::Ok,
                Err(error) => CallOutcome::Failed(error.kind),
            },
        );
        created
    }

    /// Tells whoever counts how a call of the plugin ended.
    fn tell(&self, operation: &'static str, outcome: CallOutcome) {
        let tally = &self.environment.tally;
        tally.called(self.plugin.name(), operation, outcome);
    }

    /// The hosts it may reach, as one text: which provider it is.
    pub(crate) fn hosts(&self) -> String {
        self.allowed.to_string()
    }

    pub(crate) fn error(&self, kind: AuthErrorKind, message: impl Into<String>) -> AuthError {
        AuthError::new(&self.account, kind, message)
    }

    /// The plugin broke the contract while doing `what`.
    fn broken(&self, what: &str, how: impl fmt::Display) -> AuthError {
        self.error(
            AuthErrorKind::Internal,
            format!("plugin {:?} ({what}): {how}", self.plugin.name()),
        )
    }

    fn call_failed(&self, error: CallError) -> AuthError {
        let name = self.plugin.name();
        match error {
            CallError::Overdue(call) => self.error(
                AuthErrorKind::Unresponsive,
                format!(
                    "plugin {name:?} did not return from {call} within {} ms; this account cannot use it until postrider restarts",
                    self.plugin.deadline().as_millis()
                ),
            ),
            CallError::NoThread(error) => self.error(
                AuthErrorKind::Transient,
                format!("no thread to run plugin {name:?} on: {error}"),
            ),
            CallError::Stopping => {
                self.error(AuthErrorKind::Transient, "the host is shutting down")
            }
        }
    }

    /// The error a plugin reported by its code and what it wrote.
    fn plugin_failed(&self, what: &str, returned: Returned) -> AuthError {
        let Ok(output) = returned.output else {
            return self.broken(what, "it wrote more than 1 MiB");
        };
        if returned.code >= 0 {
            return self.broken(what, format_args!("it returned {}", returned.code));
        }
        let kind = ErrorKind::from_code(returned.code);
        let detail = if output.is_empty() {
            ErrorDetail::default()
        } else {
            match serde_json::from_slice(&output) {
                Ok(detail) => detail,
                Err(error) => return self.broken(what, wrong_json("its error detail", &error)),
            }
        };
        let clean = |text: &str, chars| self.scrubber.clean(text, chars);
        let message = match clean(&detail.message, MESSAGE_CHARS) {
            silent if silent.is_empty() => format!(
                "plugin {:?} ({what}) returned {} and no reason",
                self.plugin.name(),
                returned.code
            ),
            // What is the plugin's own doing is said of the plugin.
            message if kind == ErrorKind::Internal => format!(
                "plugin {:?} ({what}) failed with {}: {message}",
                self.plugin.name(),
                returned.code
            ),
            message => message,
        };
        AuthError {
            oauth_error: detail.oauth_error.map(|text| clean(&text, 100)),
            oauth_suberror: detail.oauth_suberror.map(|text| clean(&text, 100)),
            oauth_description: detail
                .oauth_description
                .map(|text| clean(&text, DESCRIPTION_CHARS)),
            retry_after: detail.retry_after_ms.map(Duration::from_millis),
            user_url: detail
                .user_url
                .filter(|url| may_open(url))
                .map(|url| clean(&url, DESCRIPTION_CHARS)),
            ..self.error(kind.into(), message)
        }
    }

    /// `value` as a plugin reads it.
    fn json(&self, value: &impl Serialize) -> Result<Octets, AuthError> {
        serde_json::to_vec(value)
            .map(Zeroizing::new)
            .map_err(|_| self.error(AuthErrorKind::Internal, "a message does not fit into json"))
    }
}

/// One flow, between two calls into the plugin.
pub(crate) struct Flow {
    context: Arc<Context>,
    op: Op,
    /// `None` once it has ended.
    entered: Option<call::Flow>,
    turn: Turn,
    actions: u32,
    listener: Option<Listener>,
    requested_at: SystemTime,
    /// Something was asked of the provider.
    asked: bool,
    /// What came of the last request is not known.
    unheard: bool,
    /// How it has ended, should it be dropped now.
    outcome: CallOutcome,
}

/// What the plugin said last.
enum Turn {
    Act(Box<Action>),
    Finished(Octets),
    /// Answered or failed: there is nothing to do.
    Spent,
}

/// Where a flow comes to rest.
pub(crate) enum Rest {
    /// It has its result.
    Finished(Octets),
    /// It wants `AUTH` sent.
    Start(SaslStart),
    /// It wants a response sent.
    Send(WireOctets),
}

impl Flow {
    /// Begins a flow of `op`.
    pub(crate) async fn begin(
        context: Arc<Context>,
        instance: &Arc<Instance>,
        op: Op,
        input: &impl Serialize,
    ) -> Result<Self, AuthError> {
        let octets = context.json(input)?;
        let mut this = Self {
            requested_at: context.environment.clock.now(),
            context,
            op,
            entered: None,
            turn: Turn::Spent,
            actions: 0,
            listener: None,
            asked: false,
            unheard: false,
            outcome: CallOutcome::Abandoned,
        };
        let (flow, returned) = match instance.begin(op, octets).await {
            Ok(begun) => begun,
            Err(error) => return Err(this.call_failed(error)),
        };
        this.requested_at = this.context.environment.clock.now();
        this.entered = flow;
        this.take(returned)?;
        Ok(this)
    }

    /// Performs actions until the flow finishes or comes to something only the SASL
    /// exchange can do.
    pub(crate) async fn run(&mut self) -> Result<Rest, AuthError> {
        loop {
            match std::mem::replace(&mut self.turn, Turn::Spent) {
                Turn::Finished(output) => return Ok(Rest::Finished(output)),
                Turn::Spent => return Err(self.broken("it has ended already")),
                Turn::Act(action) => match *action {
                    // A server that is content says nothing more, and the flow is dropped.
                    Action::SaslStart(start) if self.op == Op::Sasl => {
                        self.outcome = CallOutcome::Ok;
                        return Ok(Rest::Start(start));
                    }
                    Action::SaslSend(octets) if self.op == Op::Sasl => {
                        self.outcome = CallOutcome::Ok;
                        return Ok(Rest::Send(octets));
                    }
                    action => {
                        let answer = self.perform(action).await.unwrap_or_else(|failure| {
                            self.report(&failure);
                            Answer::Failed(failure)
                        });
                        self.answer(answer).await?;
                    }
                },
            }
        }
    }

    /// Hands the plugin the answer to its last action.
    pub(crate) async fn answer(&mut self, answer: Answer) -> Result<(), AuthError> {
        let Some(flow) = self.entered.take() else {
            return Err(self.broken("it has ended already"));
        };
        self.outcome = CallOutcome::Abandoned;
        let event = self.context.json(&Event {
            now_ms: unix_ms(self.context.environment.clock.now()),
            answer,
        })?;
        let (flow, returned) = match flow.step(event).await {
            Ok(stepped) => stepped,
            Err(error) => return Err(self.call_failed(error)),
        };
        self.entered = Some(flow);
        self.take(returned)
    }

    /// It failed with this, whatever the plugin thinks of it.
    pub(crate) fn failed(&mut self, error: AuthError) -> AuthError {
        self.outcome = CallOutcome::Failed(error.kind);
        error
    }

    fn call_failed(&mut self, error: CallError) -> AuthError {
        let error = self.context.call_failed(error);
        self.failed(error)
    }

    /// When the provider was last asked: what it granted counts from there.
    pub(crate) fn requested_at(&self) -> SystemTime {
        self.requested_at
    }

    /// Whether the provider may have done what it was asked without our hearing of it, now
    /// that the flow failed with `error`: it did not answer, or what it answered is neither a
    /// refusal nor a result that the plugin understood.
    pub(crate) fn is_unheard(&self, error: &AuthError) -> bool {
        let by_plugin = matches!(
            error.kind,
            AuthErrorKind::Internal | AuthErrorKind::Unresponsive
        );
        self.unheard || self.asked && by_plugin
    }

    /// Takes in what a call returned; the flow ends unless it yields.
    fn take(&mut self, returned: Returned) -> Result<(), AuthError> {
        let what = name_of(self.op);
        match returned {
            Returned {
                code: abi::YIELD,
                output: Ok(output),
            } if self.entered.is_some() => {
                self.actions += 1;
                let action = if self.actions > ACTIONS {
                    Err(self.broken(format_args!("it asked for more than {ACTIONS} actions")))
                } else {
                    serde_json::from_slice(&output)
                        .map_err(|error| self.broken(wrong_json("its action", &error)))
                };
                match action {
                    Ok(action) => {
                        self.turn = Turn::Act(action);
                        Ok(())
                    }
                    Err(error) => {
                        self.entered = None;
                        Err(self.failed(error))
                    }
                }
            }
            Returned {
                code: abi::DONE,
                output: Ok(output),
            } => {
                self.entered = None;
                self.turn = Turn::Finished(output);
                self.outcome = CallOutcome::Ok;
                Ok(())
            }
            failed => {
                self.entered = None;
                let error = self.context.plugin_failed(what, failed);
                Err(self.failed(error))
            }
        }
    }

    /// Says why an action was not performed: the plugin may keep it to itself.
    fn report(&self, failure: &Failure) {
        let context = &self.context;
        let message = context.scrubber.clean(&failure.message, MESSAGE_CHARS);
        tracing::info!(
            plugin = context.plugin.name(),
            account = context.account,
            op = name_of(self.op),
            kind = ?failure.kind,
            "action not performed: {message}"
        );
    }

    fn broken(&self, how: impl fmt::Display) -> AuthError {
        self.context.broken(name_of(self.op), how)
    }

    /// Does what the plugin asks for.
    async fn perform(&mut self, action: Action) -> Result<Answer, Failure> {
        match action {
            Action::Http(request) => self.http(request).await,
            Action::SleepMs(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(Answer::Slept(Empty {}))
            }
            Action::Random(octets) => random(octets),
            Action::Listen(listen) => {
                let listener = Listener::bind(&listen.redirect_uri)
                    .await
                    .map_err(refused)?;
                let uri = listener.redirect_uri().to_owned();
                self.listener = Some(listener);
                Ok(Answer::Listening(uri))
            }
            Action::OpenUrl(open) => self.open_url(open).await,
            Action::DeviceCode(code) => self.device_code(code),
            Action::Prompt(prompt) => self.prompt(prompt).await,
            Action::SecretGet(name) => self.secret(name).await,
            Action::SaslStart(_) | Action::SaslSend(_) => {
                Err(refused("only a sasl flow talks to the server"))
            }
        }
    }

    async fn http(&mut self, request: HttpRequest) -> Result<Answer, Failure> {
        let url = Url::parse(&request.url).map_err(|_| refused("the url is none"))?;
        let reach = self.context.allowed.check(&url).map_err(refused)?;
        let environment = &self.context.environment;
        self.requested_at = environment.clock.now();
        let asks = request.method == "POST";
        // Until it is known: this flow may be dropped meanwhile.
        self.asked |= asks;
        self.unheard = asks;
        let performed = environment.http.perform(&request, url, reach).await;
        self.unheard = asks
            && match &performed {
                Ok(response) => !(300..500).contains(&response.status),
                Err(unperformed) => unperformed.sent,
            };
        let response = performed.map_err(|unperformed| unperformed.failure)?;
        self.learn_tokens(&response.body.0);
        Ok(Answer::Http(response))
    }

    /// Learns the tokens in a response before the plugin can repeat them.
    fn learn_tokens(&self, body: &[u8]) {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return;
        };
        let is_token = |name: &str| name.ends_with("_token") || name == "device_code";
        let tokens = fields.into_iter().filter_map(|(name, value)| match value {
            Value::String(value) if is_token(&name) => Some(Zeroizing::new(value)),
            _ => None,
        });
        for token in tokens.take(TOKENS_LEARNT) {
            self.context.scrubber.learn(&token);
        }
    }

    async fn open_url(&mut self, open: OpenUrl) -> Result<Answer, Failure> {
        let Some(listener) = self.listener.take() else {
            return Err(refused("nobody listens for the redirect"));
        };
        if !may_open(&open.url) {
            return Err(refused("the url is none for a browser"));
        }
        let state = Url::parse(&open.url).ok().and_then(|url| {
            let mut query = url.query_pairs();
            query.find_map(|(name, value)| (name == "state").then(|| value.into_owned()))
        });
        let interaction = &self.context.environment.interaction;
        let shown = interaction.open_url(&self.context.account, &open.url);
        let redirected = Box::pin(listener.redirected(state.as_deref()));
        let url = match select(shown, redirected).await {
            Either::Left((brought, _)) => brought.ok_or_else(nobody)?,
            Either::Right(((url, browser), _)) => {
                interaction.returned(browser);
                url
            }
        };
        let scrubber = &self.context.scrubber;
        scrubber.learn(url.expose());
        if let Ok(parsed) = Url::parse(url.expose()) {
            for (name, value) in parsed.query_pairs() {
                if name == "code" {
                    scrubber.learn(&value);
                }
            }
        }
        Ok(Answer::Redirect(url))
    }

    fn device_code(&self, code: DeviceCode) -> Result<Answer, Failure> {
        let complete = code.verification_uri_complete.as_deref();
        if !may_open(&code.verification_uri) || !complete.is_none_or(may_open) {
            return Err(refused("the verification uri is none for a browser"));
        }
        let clean = |text: &str| self.context.scrubber.clean(text, MESSAGE_CHARS);
        let code = DeviceCode {
            user_code: one_line(&code.user_code, 64),
            message: code.message.as_deref().map(clean),
            ..code
        };
        let interaction = &self.context.environment.interaction;
        if interaction.device_code(&self.context.account, &code) {
            Ok(Answer::Shown(Empty {}))
        } else {
            Err(nobody())
        }
    }

    async fn prompt(&self, prompt: Prompt) -> Result<Answer, Failure> {
        let prompt = Prompt {
            label: self.context.scrubber.clean(&prompt.label, MESSAGE_CHARS),
            ..prompt
        };
        let interaction = &self.context.environment.interaction;
        let answer = interaction
            .prompt(&self.context.account, &prompt)
            .await
            .ok_or_else(nobody)?;
        if prompt.secret {
            self.context.scrubber.learn(answer.expose());
        }
        Ok(Answer::Text(answer))
    }

    async fn secret(&self, name: String) -> Result<Answer, Failure> {
        let missing = |message: String| Failure {
            kind: FailureKind::Missing,
            message,
        };
        if !self.context.declared_secrets.contains(&name) {
            return Err(missing(format!(
                "{:?} is no secret this plugin declares",
                one_line(&name, 64)
            )));
        }
        let source = Arc::clone(&self.context.secrets);
        let secret = tokio::task::spawn_blocking(move || source.secret(&name))
            .await
            .unwrap_or_else(|_| Err("it could not be fetched".into()))
            .map_err(missing)?;
        let secret = Secret::new(secret.expose_secret());
        self.context.scrubber.learn(secret.expose());
        Ok(Answer::Secret(secret))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.context.tell(name_of(self.op), self.outcome);
    }
}

fn random(octets: u32) -> Result<Answer, Failure> {
    if !(1..=RANDOM_OCTETS).contains(&octets) {
        return Err(refused("random octets come by 1 to 1024"));
    }
    let mut random = WireOctets(vec![0; octets as usize]);
    SystemRandom::new()
        .fill(&mut random.0)
        .map_err(|_| refused("the system has no randomness"))?;
    Ok(Answer::Random(random))
}

fn nobody() -> Failure {
    Failure {
        kind: FailureKind::NoUser,
        message: "nobody is there to answer".into(),
    }
}

/// Whether a person's browser may be sent there: no scheme that runs something, no control
/// character that a terminal would obey.
fn may_open(url: &str) -> bool {
    url.len() <= 16 << 10
        && url.bytes().all(|b| b.is_ascii_graphic())
        && Url::parse(url).is_ok_and(|url| url.scheme() == "https" || url.scheme() == "http")
}

/// Why JSON was not understood, without the JSON: it may hold secrets nobody has learnt.
pub(crate) fn wrong_json(what: &str, error: &serde_json::Error) -> String {
    let how = match error.classify() {
        Category::Data => "is not of the right shape",
        Category::Syntax | Category::Eof | Category::Io => "is not json",
    };
    format!("{what} {how} (column {})", error.column())
}

fn name_of(op: Op) -> &'static str {
    match op {
        Op::Login => "login",
        Op::Obtain => "obtain",
        Op::Sasl => "sasl",
        Op::Revoke => "revoke",
    }
}

#[cfg(test)]
mod tests;
