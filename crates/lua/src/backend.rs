//! What Lua needs of the rest of the host: accounts, sending, settings, events, HTTP.
//!
//! The engine knows no more than these traits, so it is tested with a fake behind them.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, join_all, ready};
use jiff::Timestamp;
use postrider_config::{ScriptSettings, SecretRef};
use postrider_schedule::{Clock, Draft, SystemClock};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hook::{GatewayHook, MessageHook};
use crate::process::{Ended, Program};
use crate::request::{Request, Response};
use crate::{Activity, Failure};

/// The host, as a script sees it.
pub trait Backend: Send + Sync + 'static {
    /// The account which the configuration file calls `name`.
    fn account_from_config<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>>;

    /// An account as a script describes it, with the keys of `[account.NAME]` and a `name`.
    /// A secret stands as `{"env": "NAME"}`, as in the file, or as the text itself.
    fn account_from_table(
        &self,
        table: Value,
    ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>>;

    /// Goes through all of the account which the configuration file calls `name`, without
    /// sending: `{account, ok, verdict, stages = […]}`, also of one that cannot be set up.
    fn check<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Value>;

    /// Replaces the client secret or certificate of an account of the configuration file.
    fn rotate_client_secret<'a>(
        &'a self,
        account: &'a str,
        _rotation: SecretRotation,
    ) -> BoxFuture<'a, Result<Value, Failure>> {
        let failure = Failure::new("usage.not_renewable", "nothing here renews secrets");
        ready(Err(failure.with_account(account))).boxed()
    }

    /// Every refusal in `text` with what it means: `[{kind, original, code, …}]`.
    fn explain(&self, text: &str) -> Value;

    /// The names of the accounts in the configuration file, sorted.
    fn account_names(&self) -> Vec<String>;

    /// The setting `key` (`account.ops.sender`) of the configuration file; `None` if unset.
    fn config_get(&self, key: &str) -> Result<Option<Value>, Failure>;

    /// Changes the setting `key` of the configuration file, validated first.
    fn config_set<'a>(&'a self, key: &'a str, value: Value) -> BoxFuture<'a, Result<(), Failure>>;

    /// The secret that `reference` leads to, for a request of a script which never sees it.
    fn secret(&self, reference: SecretRef) -> BoxFuture<'_, Result<SecretString, Failure>>;

    /// Performs an HTTP request.
    fn http(&self, request: Request) -> BoxFuture<'_, Result<Response, Failure>>;

    /// From now on `listener` hears what happens, for as long as whoever subscribes it keeps it.
    fn subscribe(&self, listener: &Arc<dyn Listener>);

    /// Tells again what nobody heard so far.
    fn remind(&self);

    /// Waits until what is under way (refreshes of tokens) has ended and what it raised was
    /// heard. The caller bounds it.
    fn settle(&self) -> BoxFuture<'_, ()>;

    /// What tells scripts the time and lets them sleep.
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// Where it is counted what scripts are doing.
    fn activity(&self) -> Activity {
        Activity::default()
    }

    /// Tells every script of an event that one of them raised, and does not wait for it.
    fn emit(&self, _event: HostEvent) {}

    /// From now on `hook` sees every message before it is sent, after those added before, for
    /// as long as whoever adds it keeps it.
    fn add_hook(&self, _hook: &Arc<dyn MessageHook>) {}

    /// From now on `hook` is asked about what devices submit to a gateway, after those added
    /// before, for as long as whoever adds it keeps it.
    fn add_gateway_hook(&self, _hook: &Arc<dyn GatewayHook>) {}

    /// Where scripts put what they schedule: in force at once, or with their generation. None
    /// where nothing can be scheduled.
    fn draft(&self) -> Option<Draft> {
        None
    }

    /// What scripts may reach beyond their accounts.
    fn permissions(&self) -> Permissions {
        Permissions::default()
    }

    /// The variable `name` of the environment, which scripts may read; `None` if it is not set
    /// or no text.
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// Runs a program that scripts may start, to its end. Dropping the future kills it.
    fn run(&self, program: Program) -> BoxFuture<'_, Result<Ended, Failure>> {
        Box::pin(program.run())
    }
}

/// How a client secret or certificate is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecretRotation {
    /// How long the new one is to last, where it is said.
    pub lifetime: Option<Duration>,
    /// How long the old one is kept beside it, where it is said.
    pub overlap: Option<Duration>,
    /// Whether to remove the old one now.
    pub finish: bool,
}

/// What scripts may reach beyond their accounts: nothing, unless it is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Where `require` looks after the script's own directory.
    pub lib: Option<PathBuf>,
    /// The variables `pr.env` may read.
    pub env: Vec<String>,
    /// The programs `pr.run` may start: absolute paths.
    pub run: Vec<PathBuf>,
    /// Below what `pr.fs` may read.
    pub read: Vec<PathBuf>,
    /// Below what `pr.fs` may write.
    pub write: Vec<PathBuf>,
}

impl From<&ScriptSettings> for Permissions {
    fn from(settings: &ScriptSettings) -> Self {
        Self {
            lib: settings.lib.clone(),
            env: settings.env.clone(),
            run: settings.run.clone(),
            read: settings.read.clone(),
            write: settings.write.clone(),
        }
    }
}

/// One account, ready to use.
pub trait AccountHandle: Send + Sync {
    /// The name in the configuration or in the script's table.
    fn name(&self) -> &str;

    /// Sends one message; an error when nobody got it.
    fn send(&self, message: SendRequest) -> BoxFuture<'_, Result<Sent, Failure>>;

    /// Goes through all of it without sending: `{account, ok, verdict, stages = […]}`.
    fn check(&self) -> BoxFuture<'_, Value>;

    /// A fresh access token; an error where the account uses none.
    fn token(&self) -> BoxFuture<'_, Result<Token, Failure>>;

    /// Refreshes what is due, or with `force` also what is not: `{outcome, generation,
    /// expires_at, next_refresh}`. Here and in [`Self::status`] times are numbers: seconds
    /// since 1970.
    fn rotate(&self, force: bool) -> BoxFuture<'_, Result<Value, Failure>>;

    /// How the credential stands, as far as is known without asking anybody: `{state, …}`.
    fn status(&self) -> BoxFuture<'_, Result<Value, Failure>>;
}

/// An access token for a script that asked for its octets.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub secret: SecretString,
    /// What belongs to it: `{expires_at, scope, token_type}`.
    pub details: Value,
}

/// Something that happened in the host.
#[derive(Clone, Debug)]
pub struct HostEvent {
    /// One of the names in the Lua reference, such as `token.refreshed`, or `app.…`.
    pub name: Cow<'static, str>,
    /// What the handler gets, as the reference says; times are seconds since 1970.
    pub payload: Value,
    /// How many events of scripts led to it, each raised by a handler of the one before.
    pub chain: u32,
}

impl HostEvent {
    /// Something that happened of itself.
    pub fn new(name: impl Into<Cow<'static, str>>, payload: Value) -> Self {
        Self {
            name: name.into(),
            payload,
            chain: 0,
        }
    }
}

/// Somebody to tell.
pub trait Listener: Send + Sync {
    /// Tells of `event` and waits until it is dealt with: true if at least one handler ran to
    /// its end without an error, false if nobody listens (any more).
    fn hear(&self, event: HostEvent) -> BoxFuture<'_, bool>;
}

/// All who listen: what a [`Backend`] keeps its subscribers in. It holds none of them: who is
/// dropped listens no more.
#[derive(Default)]
pub struct Listeners(Mutex<Vec<Weak<dyn Listener>>>);

impl Listeners {
    /// One more, for as long as somebody keeps it.
    pub fn add(&self, listener: &Arc<dyn Listener>) {
        let mut all = self.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(listener));
    }

    /// How many listen.
    pub fn count(&self) -> usize {
        self.everybody().len()
    }

    fn everybody(&self) -> Vec<Arc<dyn Listener>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn Listener>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Listeners {
    /// True if any of them heard it.
    fn hear(&self, event: HostEvent) -> BoxFuture<'_, bool> {
        let everybody = self.everybody();
        Box::pin(async move {
            let told = everybody
                .iter()
                .map(|listener| listener.hear(event.clone()));
            join_all(told).await.contains(&true)
        })
    }
}

/// A message that the server took for somebody.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What the script gets.
    pub receipt: Value,
    /// Why it was not taken for everybody; the script gets it beside the receipt.
    pub refused: Option<Failure>,
}

/// A message as the script described it: shapes are checked, contents are not.
///
/// Addresses are text (`Name <local@domain>` or bare); whoever builds the message parses them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SendRequest {
    /// The author, in place of the account's sender.
    pub from: Option<String>,
    /// Who sends on the author's behalf.
    pub sender: Option<String>,
    /// Where answers go.
    pub reply_to: Vec<String>,
    /// First recipients.
    pub to: Vec<String>,
    /// Recipients of copies.
    pub cc: Vec<String>,
    /// Recipients whom no header names.
    pub bcc: Vec<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The body as plain text.
    pub text: Option<String>,
    /// The body as HTML.
    pub html: Option<String>,
    /// Attached files and inline parts, in order.
    pub attach: Vec<Attachment>,
    /// Further header fields: by name, and in order for one name.
    pub headers: Vec<(String, String)>,
    /// The Message-ID this answers.
    pub in_reply_to: Option<String>,
    /// The Message-IDs of the thread.
    pub references: Vec<String>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// The Message-ID, in place of a generated one.
    pub message_id: Option<String>,
    /// A finished RFC 5322 message, in place of all the content above.
    pub raw: Option<Source>,
    /// Its place in the queue; without one it is sent at once.
    pub queue: Option<Queueing>,
    /// The script that sends it, as messages name it.
    pub script: Option<String>,
    /// A hook sends it: it passes by the hooks.
    pub from_hook: bool,
    /// How many events of scripts led to it, as for an event.
    pub chain: u32,
    /// The line of the script whose hook changed it last; none: it is as it was given.
    pub changed_by: Option<String>,
}

/// What a message that waits in the queue has besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queueing {
    /// The same key again is answered with the receipt of the first message.
    pub idempotency_key: Option<String>,
    /// Not before this time.
    pub send_at: Option<Timestamp>,
    /// Not after it.
    pub expires_at: Option<Timestamp>,
}

/// Says who is written to, never what.
impl fmt::Debug for SendRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRequest")
            .field("to", &self.to)
            .field("cc", &self.cc)
            .field("bcc", &self.bcc.len())
            .field("attach", &self.attach.len())
            .finish_non_exhaustive()
    }
}

/// Something attached to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Where the octets come from.
    pub source: Source,
    /// The file name shown; a path's own name where absent.
    pub name: Option<String>,
    /// The MIME type; guessed from the name where absent.
    pub mime_type: Option<String>,
    /// The Content-ID of a part which the HTML shows in its place.
    pub inline: Option<String>,
}

/// Where octets come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, relative to the working directory.
    Path(PathBuf),
    /// The octets themselves.
    Octets(Vec<u8>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Octets(octets) => write!(f, "Octets({})", octets.len()),
        }
    }
}

/// How urgent a message is (`Importance`, RFC 2156).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before others.
    High,
    /// As usual.
    Normal,
    /// When there is time.
    Low,
}
