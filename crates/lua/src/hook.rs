//! `message.before_send`: what scripts have to say about every message before it leaves.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use mlua::{Lua, MultiValue, Value};

use crate::Failure;
use crate::actor::{Call, Invoker, Lane};
use crate::backend::SendRequest;
use crate::event::{BEFORE_SEND, Handler, Handlers};
use crate::fault::Fault;
use crate::message;

/// How long a hook may take, with the time it waits for its turn: a sender waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at every message before it is sent.
pub trait MessageHook: Send + Sync {
    /// Whether it would look at a message at all.
    fn wants_messages(&self) -> bool {
        true
    }

    /// The message as it is to be sent through `account`, changed or not.
    ///
    /// # Errors
    /// It must not be sent: `hook.refused` by decision, `hook.failed` where none was made, which
    /// may pass by itself.
    fn before_send<'a>(
        &'a self,
        account: &'a str,
        message: SendRequest,
    ) -> BoxFuture<'a, Result<SendRequest, Failure>>;
}

/// All who look, one after the other: what a [`Backend`](crate::Backend) keeps its hooks in. It
/// holds none of them: who is dropped looks no more.
#[derive(Default)]
pub struct MessageHooks(Mutex<Vec<Weak<dyn MessageHook>>>);

impl MessageHooks {
    /// One more, after all others, for as long as somebody keeps it.
    pub fn add(&self, hook: &Arc<dyn MessageHook>) {
        let mut all = self.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(hook));
    }

    /// How many look.
    pub fn count(&self) -> usize {
        self.everybody().len()
    }

    fn everybody(&self) -> Vec<Arc<dyn MessageHook>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn MessageHook>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageHook for MessageHooks {
    /// Each sees what the one before made of the message. What a hook sends passes by all.
    fn before_send<'a>(
        &'a self,
        account: &'a str,
        mut message: SendRequest,
    ) -> BoxFuture<'a, Result<SendRequest, Failure>> {
        let hooks = self.everybody();
        async move {
            if message.from_hook {
                return Ok(message);
            }
            for hook in hooks {
                message = hook.before_send(account, message).await?;
            }
            Ok(message)
        }
        .boxed()
    }
}

impl MessageHooks {
    /// Whether any of them looks at messages at all.
    pub fn wants_messages(&self) -> bool {
        self.everybody().iter().any(|hook| hook.wants_messages())
    }
}

/// The hooks of one script.
pub(crate) struct Gate {
    handlers: Weak<Handlers>,
    invoker: Invoker,
}

impl Gate {
    pub(crate) fn new(handlers: &Arc<Handlers>, invoker: &Invoker) -> Self {
        Self {
            handlers: Arc::downgrade(handlers),
            invoker: invoker.clone(),
        }
    }

    /// What one of them makes of the message.
    async fn ask(
        &self,
        hook: &Arc<Handler>,
        account: &str,
        message: SendRequest,
    ) -> Result<SendRequest, Failure> {
        let patience = self.invoker.patience(PATIENCE);
        let call = Call {
            what: format!("the hook {BEFORE_SEND}"),
            function: hook.function.clone(),
            timeout: Some(patience),
            chain: message.chain,
            lane: Lane::Hooks,
            detached: false,
        };
        let given = (Arc::clone(hook), account.to_owned(), message.clone());
        let give = move |lua: &Lua| {
            let (hook, account, message) = given;
            if hook.is_off() {
                return Ok(None);
            }
            let table = message::to_lua(lua, &message)?;
            table.raw_set("account", account)?;
            Ok(Some(MultiValue::from_iter([Value::Table(table)])))
        };
        let asked =
            self.invoker
                .perform(call, Box::new(give), Box::new(|_, values| verdict(values)));
        let failure = match tokio::time::timeout(patience, asked).await {
            Ok(Ok(None | Some(Verdict::Unchanged))) => return Ok(message),
            Ok(Ok(Some(Verdict::Changed(mut changed)))) => {
                changed.chain = message.chain;
                changed.script = message.script;
                return Ok(*changed);
            }
            Ok(Ok(Some(Verdict::Refused(reason)))) => {
                let message = format!("a script refused the message: {reason}");
                let refused = Failure::new("hook.refused", message).with_account(account);
                return Err(placed(refused, hook.at.as_deref()));
            }
            Ok(Err(error)) => error.failure,
            Err(_) => {
                let message = format!("the hook {BEFORE_SEND} took longer than its {patience:?}");
                Failure::new("script.time_limit", message)
            }
        };
        hook.failed(&failure);
        let message = format!(
            "a hook failed, so the message is not sent: {}",
            failure.message
        );
        let mut failed = Failure::new("hook.failed", message)
            .with_account(account)
            .retryable();
        failed.remedy = failure.remedy;
        Err(placed(failed, failure.at.as_deref().or(hook.at.as_deref())))
    }
}

fn placed(failure: Failure, at: Option<&str>) -> Failure {
    match at {
        Some(at) => failure.at(at),
        None => failure,
    }
}

impl MessageHook for Gate {
    fn wants_messages(&self) -> bool {
        let handlers = self.handlers.upgrade();
        handlers.is_some_and(|all| !all.of(BEFORE_SEND).is_empty())
    }

    fn before_send<'a>(
        &'a self,
        account: &'a str,
        mut message: SendRequest,
    ) -> BoxFuture<'a, Result<SendRequest, Failure>> {
        let hooks = self.handlers.upgrade().map(|all| all.of(BEFORE_SEND));
        async move {
            for hook in hooks.unwrap_or_default() {
                message = self.ask(&hook, account, message).await?;
            }
            Ok(message)
        }
        .boxed()
    }
}

/// What a hook decided.
enum Verdict {
    Unchanged,
    Changed(Box<SendRequest>),
    Refused(String),
}

fn verdict(mut values: MultiValue) -> Result<Verdict, Fault> {
    let (first, second) = (
        values.pop_front().unwrap_or_default(),
        values.pop_front().unwrap_or_default(),
    );
    match (first, second) {
        (Value::Nil, _) => Ok(Verdict::Unchanged),
        (Value::Table(table), _) => {
            // It tells the hook through whom it is sent, and is none of its fields.
            table.raw_set("account", Value::Nil)?;
            Ok(Verdict::Changed(Box::new(message::parse(&table)?)))
        }
        (Value::Boolean(false), Value::String(reason)) => {
            Ok(Verdict::Refused(reason.to_string_lossy()))
        }
        (other, _) => {
            let kind = crate::call::kind(&other);
            Err(Fault::Misuse(format!(
                "a hook of {BEFORE_SEND} returns nothing, the message, or false and a reason, not a {kind}"
            )))
        }
    }
}
