//! `pr.on`: what happens in the host, told to a script's handlers.
//!
//! Each handler of an event runs as a task of its own, begun in the order they were given. An
//! event counts as heard if one of them ran to its end, so that a warning which nobody could
//! pass on is given again.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{self, BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use mlua::{
    Function, Lua, MetaMethod, MultiValue, UserData, UserDataFields, UserDataMethods, Value,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::Failure;
use crate::backend::{Backend, HostEvent, Listener};
use crate::call::{Args, Registrar, suggestion};
use crate::engine;
use crate::fault::{self, Fault};
use crate::json::{self, Nulls};
use crate::meter::Meter;
use postrider_lua_api as api;

/// Where the prelude keeps what a handle's fields are.
pub(crate) const INDEX: &str = "postrider.index.handler";

/// More handlers than this are a loop gone wrong.
const HANDLERS: usize = 1000;
/// Events dealt with at one time; further ones wait their turn.
const AT_ONCE: usize = 64;
/// How long a handler may take. While it runs no other process tells the same warning, so one
/// that hangs would keep it from everybody; sending a message takes less, even to a slow server.
const PATIENCE: Duration = Duration::from_mins(10);

/// The handlers of one script.
#[derive(Default)]
pub(crate) struct Handlers(Mutex<Vec<Arc<Handler>>>);

/// One function, and what it is for.
struct Handler {
    event: &'static str,
    function: Function,
    errors: AtomicU64,
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

/// Registers `pr.on` and the method of its handle.
pub(crate) fn register(
    registrar: &Registrar<'_>,
    handlers: &Arc<Handlers>,
    backend: &Arc<dyn Backend>,
) -> mlua::Result<()> {
    let (handlers, backend) = (Arc::clone(handlers), Arc::clone(backend));
    registrar.add("on", move |_, args| {
        let handle = on(&handlers, args)?;
        // What came to light before there was anybody to hear it.
        backend.remind();
        Ok(handle)
    })?;
    registrar.add("handler:off", |_, mut args| {
        let handle: Handle = args.this()?;
        args.end()?;
        handle.handlers.remove(&handle.handler);
        Ok(())
    })
}

fn on(handlers: &Arc<Handlers>, mut args: Args) -> Result<Handle, Fault> {
    let name = args.text("event")?;
    let function = match args.next() {
        Value::Function(function) => function,
        other => return Err(args.wrong("handler", "a function", &other)),
    };
    args.end()?;
    let known = || api::EVENTS.iter().map(|event| event.name);
    let Some(event) = known().find(|known| *known == name) else {
        let suggestion = suggestion(&name, known());
        return Err(Fault::Misuse(format!(
            "there is no event '{name:.60}'{suggestion}"
        )));
    };
    let handler = Arc::new(Handler {
        event,
        function,
        errors: AtomicU64::new(0),
    });
    handlers.add(&handler)?;
    Ok(Handle {
        handler,
        handlers: Arc::clone(handlers),
    })
}

impl Handlers {
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn add(&self, handler: &Arc<Handler>) -> Result<(), Fault> {
        let mut handlers = self.lock();
        if handlers.len() >= HANDLERS {
            return Err(Fault::Misuse(format!(
                "a script has at most {HANDLERS} handlers: is it called in a loop?"
            )));
        }
        handlers.push(Arc::clone(handler));
        Ok(())
    }

    fn remove(&self, handler: &Arc<Handler>) {
        self.lock().retain(|known| !Arc::ptr_eq(known, handler));
    }

    fn of(&self, event: &str) -> Vec<Arc<Handler>> {
        let handlers = self.lock();
        let of_event = handlers.iter().filter(|handler| handler.event == event);
        of_event.cloned().collect()
    }

    /// From now on the handlers hear what happens in `backend`, for as long as somebody polls
    /// what this answers.
    pub(crate) fn listen(
        self: &Arc<Self>,
        lua: &Lua,
        meter: &Arc<Meter>,
        backend: &Arc<dyn Backend>,
    ) -> Hearing {
        let (raised, incoming) = mpsc::unbounded_channel();
        backend.subscribe(Arc::new(Ear {
            handlers: Arc::clone(self),
            raised,
        }));
        Hearing {
            lua: lua.clone(),
            meter: Arc::clone(meter),
            handlers: Arc::clone(self),
            incoming,
            under_way: FuturesUnordered::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Handler>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event on its way to the script, and where its answer goes.
struct Raised {
    event: HostEvent,
    heard: oneshot::Sender<bool>,
}

/// The script as the host knows it; outlives it.
struct Ear {
    handlers: Arc<Handlers>,
    raised: mpsc::UnboundedSender<Raised>,
}

impl Listener for Ear {
    fn hear(&self, event: HostEvent) -> BoxFuture<'_, bool> {
        if self.handlers.of(event.name).is_empty() {
            return future::ready(false).boxed();
        }
        let (heard, answer) = oneshot::channel();
        let is_told = self.raised.send(Raised { event, heard }).is_ok();
        async move { is_told && answer.await.unwrap_or(false) }.boxed()
    }
}

/// The handlers at work.
pub(crate) struct Hearing {
    lua: Lua,
    meter: Arc<Meter>,
    handlers: Arc<Handlers>,
    incoming: mpsc::UnboundedReceiver<Raised>,
    under_way: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Hearing {
    /// Waits for `task` and lets handlers run meanwhile.
    pub(crate) async fn meanwhile<T>(&mut self, task: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            ended = task => ended,
            never = self.serve() => match never {},
        }
    }

    /// Waits until everything raised so far is dealt with.
    pub(crate) async fn finish(&mut self) {
        loop {
            while self.under_way.len() < AT_ONCE
                && let Ok(raised) = self.incoming.try_recv()
            {
                self.begin(raised);
            }
            if self.under_way.next().await.is_none() {
                return;
            }
        }
    }

    async fn serve(&mut self) -> Infallible {
        loop {
            tokio::select! {
                Some(()) = self.under_way.next() => {}
                Some(raised) = self.incoming.recv(), if self.under_way.len() < AT_ONCE => {
                    self.begin(raised);
                }
                else => future::pending().await,
            }
        }
    }

    fn begin(&mut self, raised: Raised) {
        let Raised { event, heard } = raised;
        let tasks: Vec<_> = self
            .handlers
            .of(event.name)
            .into_iter()
            .map(|handler| self.run(handler, &event))
            .collect();
        let told = async move {
            let ended = future::join_all(tasks).await;
            // Whoever raised it may have lost interest.
            let _ = heard.send(ended.contains(&true));
        };
        self.under_way.push(told.boxed());
    }

    /// One handler with a payload of its own: true if it ran to its end.
    fn run(&self, handler: Arc<Handler>, event: &HostEvent) -> BoxFuture<'static, bool> {
        let started = json::to_lua(&self.lua, &event.payload, Nulls::Absent).and_then(|payload| {
            let args = MultiValue::from_iter([payload]);
            engine::start(&self.lua, &self.meter, handler.function.clone(), args)
        });
        async move {
            let ended = match started {
                Ok(task) => timeout(PATIENCE, task).await,
                Err(error) => Ok(Err(error)),
            };
            let failure = match ended {
                Ok(Ok(Ok(_))) => return true,
                Ok(Ok(Err(raised))) => raised.explained().failure,
                Ok(Err(error)) => Failure::new("script.internal", fault::plain(&error)),
                Err(_) => Failure::new(
                    "script.time_limit",
                    format!("it took longer than its {PATIENCE:?}"),
                )
                .with_remedy("give what it waits for a timeout"),
            };
            let errors = handler.errors.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::error!(
                target: "postrider::script",
                at = failure.at,
                event = handler.event,
                errors,
                code = failure.code,
                remedy = failure.remedy,
                "a handler failed: {}",
                failure.message
            );
            false
        }
        .boxed()
    }
}

/// The host may keep the ear: the functions go with the script.
impl Drop for Hearing {
    fn drop(&mut self) {
        self.handlers.lock().clear();
    }
}
