//! `message.before_send`: what scripts have to say about every message before it leaves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use mlua::{Lua, Table, Value};

use super::{Asked, Gate, Objection, Question, name};
use crate::Failure;
use crate::backend::SendRequest;
use crate::message;

/// How long a hook may take: a sender waits for it.
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
pub struct MessageHooks(Asked<dyn MessageHook>);

impl MessageHooks {
    /// One more, after all others, for as long as somebody keeps it.
    pub fn add(&self, hook: &Arc<dyn MessageHook>) {
        self.0.add(hook);
    }

    /// How many look.
    pub fn count(&self) -> usize {
        self.0.all().len()
    }

    /// Whether any of them looks at messages at all.
    pub fn wants_messages(&self) -> bool {
        self.0.all().iter().any(|hook| hook.wants_messages())
    }
}

impl MessageHook for MessageHooks {
    /// Each sees what the one before made of the message. What a hook sends passes by all.
    fn before_send<'a>(
        &'a self,
        account: &'a str,
        mut message: SendRequest,
    ) -> BoxFuture<'a, Result<SendRequest, Failure>> {
        let hooks = self.0.all();
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

impl MessageHook for Gate {
    fn wants_messages(&self) -> bool {
        self.has(name::BEFORE_SEND)
    }

    fn before_send<'a>(
        &'a self,
        account: &'a str,
        mut message: SendRequest,
    ) -> BoxFuture<'a, Result<SendRequest, Failure>> {
        let hooks = self.of(name::BEFORE_SEND);
        async move {
            for hook in hooks {
                let (chain, script) = (message.chain, message.script.clone());
                let given = Arc::new(message);
                let asked = self.ask(&hook, question(account, &given)).await;
                message = match asked.map_err(|objection| failure(account, objection))? {
                    Some(changed) => SendRequest {
                        script,
                        chain,
                        changed_by: hook.at.clone(),
                        ..changed
                    },
                    None => Arc::unwrap_or_clone(given),
                };
            }
            Ok(message)
        }
        .boxed()
    }
}

fn question(account: &str, message: &Arc<SendRequest>) -> Question<SendRequest> {
    let (given, account) = (Arc::clone(message), account.to_owned());
    Question {
        event: name::BEFORE_SEND,
        patience: PATIENCE,
        chain: message.chain,
        answers: "nothing, the message, or false and a reason",
        give: Box::new(move |lua: &Lua| {
            let table = message::to_lua(lua, &given)?;
            table.raw_set("account", account)?;
            Ok(table)
        }),
        read: Some(Box::new(|table: &Table| {
            // It tells the hook through whom it is sent, and is none of its fields.
            table.raw_set("account", Value::Nil)?;
            message::parse(table)
        })),
    }
}

fn failure(account: &str, objection: Objection) -> Failure {
    match objection {
        Objection::Refused { reason, at } => {
            let message = format!("a script refused the message: {reason}");
            let refused = Failure::new("hook.refused", message).with_account(account);
            match at {
                Some(at) => refused.at(&at),
                None => refused,
            }
        }
        Objection::Failed(failure) => {
            let message = format!(
                "a hook failed, so the message is not sent: {}",
                failure.message
            );
            let mut failed = Failure::new("hook.failed", message)
                .with_account(account)
                .retryable();
            (failed.remedy, failed.at) = (failure.remedy, failure.at);
            failed
        }
    }
}
