//! `pr.on` and `pr.emit`: what happens, told to a script's handlers.
//!
//! Each handler of an event runs as a call of its own, begun in the order they were given. An
//! event counts as heard if one of them ran to its end, so that a warning which nobody could
//! pass on is given again. Hooks are registered the same way; [`crate::hook`] calls them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{self, BoxFuture, FutureExt as _};
use mlua::{
    Function, Lua, MetaMethod, MultiValue, UserData, UserDataFields, UserDataMethods, Value,
};

use crate::Failure;
use crate::actor::{Call, Callback, Invoker, Lane};
use crate::backend::{Backend, HostEvent, Listener};
use crate::call::{Args, Registrar, only_while_loading, suggestion};
use crate::engine::World;
use crate::fault::{self, Fault, ScriptError};
use crate::hook::{self, Gate, GatewayHook, MessageHook};
use crate::json::{self, Secrets};
use crate::meter::Meter;
use postrider_lua_api as api;

/// Where the prelude keeps what a handle's fields are.
pub(crate) const INDEX: &str = "postrider.index.handler";

/// More handlers than this are a loop gone wrong.
const HANDLERS: usize = 1000;
/// How long a handler may take where the script has no limit. While it runs no other process
/// tells the same warning, so one that hangs would keep it from everybody; sending a message
/// takes less, even to a slow server.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long a chain of events may be, each raised by a handler of the one before: longer ones
/// go round in circles.
const CHAIN: u32 = 16;
/// The longest payload of a script's own event, as JSON.
const PAYLOAD_OCTETS: usize = 1 << 20;

/// The handlers and hooks of one script.
#[derive(Default)]
pub(crate) struct Handlers(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    list: Vec<Arc<Handler>>,
    /// Somebody tells them what happens.
    is_live: bool,
}

/// One function, and what it is for.
pub(crate) struct Handler {
    event: String,
    /// The line that registered it.
    pub(crate) at: Option<String>,
    pub(crate) function: Callback,
    is_off: AtomicBool,
    errors: AtomicU64,
}

impl Handler {
    pub(crate) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Says that it failed, and how often it has.
    pub(crate) fn failed(&self, failure: &Failure) {
        let errors = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(
            target: "postrider::script",
            at = failure.at,
            event = self.event,
            errors,
            code = failure.code,
            remedy = failure.remedy,
            "a handler failed: {}",
            failure.message
        );
    }
}

/// A handler in the script's hands.
#[derive(Clone)]
struct Handle {
    handler: Arc<Handler>,
    handlers: Arc<Handlers>,
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handler of {}", self.handler.event)
    }
}

impl UserData for Handle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "handler");
        fields.add_meta_field_with("__index", |lua| lua.named_registry_value::<Function>(INDEX));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.to_string()));
    }
}

/// Registers `pr.on`, `pr.emit` and the method of a handle.
pub(crate) fn register(registrar: &Registrar<'_>, world: &World) -> mlua::Result<()> {
    let (handlers, invoker) = (Arc::clone(&world.handlers), world.invoker.clone());
    let (backend, meter) = (Arc::clone(&world.backend), Arc::clone(registrar.meter));
    registrar.add("on", move |lua, args| {
        only_while_loading(&meter, "a handler stays for as long as the script is live")?;
        let handle = on(lua, &handlers, &invoker, args)?;
        // What came to light before there was anybody to hear it.
        if handlers.is_live() {
            backend.remind();
        }
        Ok(handle)
    })?;
    registrar.add("handler:off", |_, mut args| {
        let handle: Handle = args.this()?;
        args.end()?;
        handle.handlers.remove(&handle.handler);
        Ok(())
    })?;
    let (backend, meter) = (Arc::clone(&world.backend), Arc::clone(registrar.meter));
    registrar.add("emit", move |lua, args| {
        let event = event(lua, &backend, &meter, args)?;
        backend.emit(event);
        Ok(true)
    })
}

fn on(
    lua: &Lua,
    handlers: &Arc<Handlers>,
    invoker: &Invoker,
    mut args: Args,
) -> Result<Handle, Fault> {
    let name = args.text("event")?;
    let function = match args.next() {
        Value::Function(function) => function,
        other => return Err(args.wrong("handler", "a function", &other)),
    };
    args.end()?;
    let known = || api::EVENTS.iter().map(|event| event.name);
    if !is_own(&name) && !known().any(|known| known == name) {
        if name.starts_with("app.") {
            return Err(not_own(&name));
        }
        let suggestion = suggestion(&name, known());
        return Err(Fault::Misuse(format!(
            "there is no event '{name:.60}'{suggestion}"
        )));
    }
    let handler = Arc::new(Handler {
        event: name,
        at: fault::here(lua),
        function: invoker.callback(function),
        is_off: AtomicBool::new(false),
        errors: AtomicU64::new(0),
    });
    handlers.add(&handler)?;
    Ok(Handle {
        handler,
        handlers: Arc::clone(handlers),
    })
}

/// The event that `pr.emit` is to raise.
fn event(
    lua: &Lua,
    backend: &Arc<dyn Backend>,
    meter: &Meter,
    mut args: Args,
) -> Result<HostEvent, Fault> {
    let name = args.text("event")?;
    let payload = args.options("payload")?;
    args.end()?;
    if !is_own(&name) {
        return Err(not_own(&name));
    }
    let mut payload = match payload {
        Some(table) => json::from_lua(lua, &Value::Table(table), Secrets::Refused)?,
        None => serde_json::json!({}),
    };
    let Some(fields) = payload.as_object_mut() else {
        return Err(Fault::misuse("the payload has named fields, it is no list"));
    };
    if !fields.contains_key("at") {
        let now = backend.clock().now();
        fields.insert("at".to_owned(), crate::time::seconds(now).into());
    }
    let length = payload.to_string().len();
    if length > PAYLOAD_OCTETS {
        return Err(Fault::Misuse(format!(
            "the payload is {length} octets long as JSON, and may be {PAYLOAD_OCTETS}"
        )));
    }
    let chain = meter.current().map_or(0, |budget| budget.chain) + 1;
    if chain > CHAIN {
        let message = format!(
            "the event {name} is the {chain}th of a chain, each raised by a handler of the one before: it is dropped"
        );
        tracing::error!(target: "postrider::script", at = fault::here(lua), event = name, "{message}");
        let failure = Failure::new("event.chain_limit", message)
            .with_remedy("look for two handlers that raise each other's events");
        return Err(Fault::failed(failure));
    }
    Ok(HostEvent {
        name: name.into(),
        payload,
        chain,
    })
}

/// Whether it is a name for a script's own events: `app.` and words with dots between them.
fn is_own(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    name.len() <= 100
        && name
            .strip_prefix("app.")
            .is_some_and(|words| words.split('.').all(is_word))
}

fn not_own(name: &str) -> Fault {
    Fault::Misuse(format!(
        "'{name:.60}' is no name for an event of a script: write \"app.\" and lower-case words with dots between them, as in \"app.order.shipped\""
    ))
}

impl Handlers {
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().list.is_empty()
    }

    /// Those of `event`, in the order they were given.
    pub(crate) fn of(&self, event: &str) -> Vec<Arc<Handler>> {
        let handlers = self.lock();
        let of_event = handlers
            .list
            .iter()
            .filter(|handler| handler.event == event);
        of_event.cloned().collect()
    }

    /// Whether there is one of `event`.
    pub(crate) fn has(&self, event: &str) -> bool {
        let handlers = self.lock();
        handlers.list.iter().any(|handler| handler.event == event)
    }

    /// From now on the handlers hear what happens in `backend` and its messages pass by the
    /// hooks, for as long as somebody keeps what this answers.
    pub(crate) fn listen(
        self: &Arc<Self>,
        backend: &Arc<dyn Backend>,
        invoker: &Invoker,
    ) -> Hearing {
        self.lock().is_live = true;
        let ear: Arc<dyn Listener> = Arc::new(Ear {
            handlers: Arc::downgrade(self),
            invoker: invoker.clone(),
        });
        let gate = Arc::new(Gate::new(self, invoker));
        backend.subscribe(&ear);
        backend.add_hook(&(Arc::clone(&gate) as Arc<dyn MessageHook>));
        backend.add_gateway_hook(&(Arc::clone(&gate) as Arc<dyn GatewayHook>));
        Hearing {
            handlers: Arc::clone(self),
            _ear: ear,
            _gate: gate,
        }
    }

    fn is_live(&self) -> bool {
        self.lock().is_live
    }

    fn add(&self, handler: &Arc<Handler>) -> Result<(), Fault> {
        let handlers = &mut self.lock().list;
        if handlers.len() >= HANDLERS {
            return Err(Fault::Misuse(format!(
                "a script has at most {HANDLERS} handlers: is it called in a loop?"
            )));
        }
        handlers.push(Arc::clone(handler));
        Ok(())
    }

    fn remove(&self, handler: &Arc<Handler>) {
        handler.is_off.store(true, Ordering::Relaxed);
        self.lock()
            .list
            .retain(|known| !Arc::ptr_eq(known, handler));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A script's ear and its place among the hooks; the host holds neither.
pub(crate) struct Hearing {
    handlers: Arc<Handlers>,
    _ear: Arc<dyn Listener>,
    _gate: Arc<Gate>,
}

impl Hearing {
    /// From now on nothing is heard; what is under way goes on.
    pub(crate) fn stop(&self) {
        let mut handlers = self.handlers.lock();
        handlers.is_live = false;
        handlers.list.clear();
    }
}

/// The functions go with the script.
impl Drop for Hearing {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The script as the host knows it.
struct Ear {
    handlers: Weak<Handlers>,
    invoker: Invoker,
}

impl Listener for Ear {
    fn hear(&self, event: HostEvent) -> BoxFuture<'_, bool> {
        let handlers = match self.handlers.upgrade() {
            Some(handlers) if !hook::name::is_hook(&event.name) => handlers.of(&event.name),
            _ => Vec::new(),
        };
        // However many hear it, and however long they wait for their turn.
        let event = Arc::new(event);
        let tasks: Vec<_> = handlers
            .into_iter()
            .map(|handler| tell(self.invoker.clone(), handler, Arc::clone(&event)))
            .collect();
        async move { future::join_all(tasks).await.contains(&true) }.boxed()
    }
}

/// Calls one handler with a payload of its own: true if it ran to its end.
async fn tell(invoker: Invoker, handler: Arc<Handler>, event: Arc<HostEvent>) -> bool {
    let call = Call {
        what: format!("the handler of {}", handler.event),
        function: handler.function.clone(),
        timeout: Some(invoker.patience(PATIENCE)),
        chain: event.chain,
        lane: Lane::Calls,
        detached: true,
    };
    let listener = Arc::clone(&handler);
    let give = move |lua: &Lua| {
        if listener.is_off() {
            return Ok(None);
        }
        let payload = json::to_lua(lua, &event.payload)?;
        Ok(Some(MultiValue::from_iter([payload])))
    };
    let told = invoker.perform(call, Box::new(give), Box::new(|_, _| Ok(())));
    match told.await {
        Ok(told) => told.is_some(),
        Err(ScriptError { failure, .. }) => {
            // Not its own doing.
            if failure.code != "script.ended" {
                handler.failed(&failure);
            }
            false
        }
    }
}
