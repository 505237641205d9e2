//! Hooks: what scripts are asked before something goes on.
//!
//! Whoever asks waits for the answer, for so long at most. None in time, or one that makes no
//! sense, is a failure, and never a yes.

mod gateway;
mod header;
mod message;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mlua::{Lua, MultiValue, Table, Value};

use crate::Failure;
use crate::actor::{Call, Invoker, Lane};
use crate::event::{Handler, Handlers};
use crate::fault::Fault;

pub use gateway::{
    GatewayClient, GatewayHook, GatewayHooks, GatewayMail, GatewayMessage, GatewayPoint,
    GatewaySignIn,
};
pub use message::{MessageHook, MessageHooks};

/// The names under which hooks are registered.
pub(crate) mod name {
    pub(crate) const BEFORE_SEND: &str = "message.before_send";
    pub(crate) const AUTH: &str = "gateway.auth";
    pub(crate) const MAIL: &str = "gateway.mail";
    pub(crate) const MESSAGE: &str = "gateway.message";

    /// Whether a handler of this is asked, and not told.
    pub(crate) fn is_hook(event: &str) -> bool {
        [BEFORE_SEND, AUTH, MAIL, MESSAGE].contains(&event)
    }
}

/// The longest reason that is passed on, in characters: it has to fit a line of SMTP, with what
/// stands around it.
const REASON_CHARS: usize = 200;

/// Why a hook does not let something pass.
#[derive(Clone, Debug)]
pub enum Objection {
    /// It decided so.
    Refused {
        /// Why: one line, of bounded length.
        reason: String,
        /// The line of the script that registered it.
        at: Option<String>,
    },
    /// It failed, so that nothing is decided: the same may pass later. It is logged and counted.
    Failed(Box<Failure>),
}

/// Who is asked, one after the other. It holds none of them: who is dropped is asked no more.
struct Asked<H: ?Sized>(Mutex<Vec<Weak<H>>>);

impl<H: ?Sized> Default for Asked<H> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<H: ?Sized> Asked<H> {
    fn add(&self, hook: &Arc<H>) {
        let mut all = self.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(hook));
    }

    fn all(&self) -> Vec<Arc<H>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<H>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hooks of one script.
pub(crate) struct Gate {
    handlers: Weak<Handlers>,
    invoker: Invoker,
}

type Give = Box<dyn FnOnce(&Lua) -> mlua::Result<Table> + Send>;
type Read<T> = Box<dyn FnOnce(&Table) -> Result<T, Fault> + Send>;

/// What one hook is asked.
struct Question<T> {
    /// Under which name.
    event: &'static str,
    /// How long it may take, with the time it waits for its turn: somebody waits for it.
    patience: Duration,
    /// How many events of scripts led to it.
    chain: u32,
    /// What it may answer: `nothing, or false and a reason`.
    answers: &'static str,
    /// The table it gets.
    give: Give,
    /// What the table it answers makes of it; none where it may answer no table.
    read: Option<Read<T>>,
}

impl Gate {
    pub(crate) fn new(handlers: &Arc<Handlers>, invoker: &Invoker) -> Self {
        Self {
            handlers: Arc::downgrade(handlers),
            invoker: invoker.clone(),
        }
    }

    fn of(&self, event: &str) -> Vec<Arc<Handler>> {
        let handlers = self.handlers.upgrade();
        handlers.map_or_else(Vec::new, |all| all.of(event))
    }

    fn has(&self, event: &str) -> bool {
        let handlers = self.handlers.upgrade();
        handlers.is_some_and(|all| all.has(event))
    }

    /// What the hook makes of it; nothing where it leaves it as it is.
    async fn ask<T: Send + 'static>(
        &self,
        hook: &Arc<Handler>,
        question: Question<T>,
    ) -> Result<Option<T>, Objection> {
        let event = question.event;
        let patience = self.invoker.patience(question.patience);
        let call = Call {
            what: format!("the hook {event}"),
            function: hook.function.clone(),
            timeout: Some(patience),
            chain: question.chain,
            lane: Lane::Hooks,
            detached: false,
        };
        let (give, asked) = (question.give, Arc::clone(hook));
        let give = move |lua: &Lua| {
            if asked.is_off() {
                return Ok(None);
            }
            let table = give(lua)?;
            Ok(Some(MultiValue::from_iter([Value::Table(table)])))
        };
        let (read, answers) = (question.read, question.answers);
        let finish = move |_: &Lua, values| verdict(event, answers, read, values);
        let asked = self.invoker.perform(call, Box::new(give), Box::new(finish));
        let failure = match tokio::time::timeout(patience, asked).await {
            Ok(Ok(None | Some(Verdict::Unchanged))) => return Ok(None),
            Ok(Ok(Some(Verdict::Changed(changed)))) => return Ok(Some(changed)),
            Ok(Ok(Some(Verdict::Refused(reason)))) => {
                let at = hook.at.clone();
                return Err(Objection::Refused { reason, at });
            }
            Ok(Err(error)) => error.failure,
            Err(_) => {
                let message = format!("the hook {event} took longer than its {patience:?}");
                Failure::new("script.time_limit", message)
            }
        };
        hook.failed(&failure);
        let at = failure.at.clone().or_else(|| hook.at.clone());
        Err(Objection::Failed(Box::new(Failure { at, ..failure })))
    }
}

/// What a hook decided.
enum Verdict<T> {
    Unchanged,
    Changed(T),
    Refused(String),
}

fn verdict<T>(
    event: &str,
    answers: &str,
    read: Option<impl FnOnce(&Table) -> Result<T, Fault>>,
    mut values: MultiValue,
) -> Result<Verdict<T>, Fault> {
    let (first, second) = (
        values.pop_front().unwrap_or_default(),
        values.pop_front().unwrap_or_default(),
    );
    match (first, second, read) {
        (Value::Nil, _, _) => Ok(Verdict::Unchanged),
        (Value::Table(table), _, Some(read)) => read(&table).map(Verdict::Changed),
        (Value::Boolean(false), Value::String(reason), _) => {
            Ok(Verdict::Refused(one_line(&reason.to_string_lossy())))
        }
        (other, _, _) => {
            let kind = crate::call::kind(&other);
            Err(Fault::Misuse(format!(
                "a hook of {event} returns {answers}, not a {kind}"
            )))
        }
    }
}

/// The reason as it may stand in a log, an error and an SMTP reply.
fn one_line(reason: &str) -> String {
    let words: Vec<&str> = reason
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length_whatever_a_script_says() {
        assert_eq!(
            one_line("not\r\n250 ok\0 on\ta  Sunday "),
            "not 250 ok on a Sunday"
        );
        assert_eq!(one_line(&"é".repeat(500)).chars().count(), REASON_CHARS + 1);
        assert_eq!(one_line(" \r\n"), "");
    }
}
