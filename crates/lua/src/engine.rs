//! One Lua state for one script: what it may see, how much it may use, how its calls are run.
//!
//! Each task runs as `task(f, …)` of the prelude in a thread of its own, which is polled as a
//! future. Three things stop it: the hook, every few thousand instructions; the allocator;
//! and the clock of whoever polls. What is stopped is left where it stands, for Lua to collect:
//! none of its `<close>` variables run.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mlua::chunk::ChunkMode;
use mlua::debug::Debug;
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use crate::actor::Invoker;
use crate::backend::Backend;
use crate::call::{Registrar, suggestion};
use crate::event::{self, Handlers};
use crate::fault::{self, Fault, OUT_OF_MEMORY, ScriptError};
use crate::meter::{Budget, Counted, Limit, Meter, Stop, Tick};
use crate::schedule::Schedules;
use crate::script::Files;
use crate::sources::Sources;
use crate::test::{self, TestMode};
use crate::{
    Failure, account, config, csv, env, explain, fs, http, json, log, module, process, schedule,
    secret, task, template, text, time,
};
use postrider_lua_api as api;

/// How many instructions Lua runs between two looks at the clock: tens of microseconds.
const HOOK_EVERY: u32 = 4000;
/// What a script that used up its memory gets, so that it can be said where.
const RESERVE_OCTETS: usize = 1 << 20;

/// How many small steps of a collection are made at a time, and how often: all of a large state.
const COLLECT_AT_ONCE: usize = 20;
const COLLECTING: usize = 10_000;
/// How often a task looks whether another has loaded a module.
const NAP: Duration = Duration::from_millis(2);

/// Where the prelude's `task` is kept.
const TASK: &str = "postrider.task";

const PRELUDE: &str = include_str!("prelude.lua");
const TABLES: &str = include_str!("tables.lua");

/// Where a script's `print` goes.
pub(crate) type Output = Arc<Mutex<dyn Write + Send>>;

/// What surrounds a script.
pub(crate) struct World {
    /// Where `require` looks.
    pub(crate) directory: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) output: Output,
    /// The way into the script, for what calls it later.
    pub(crate) invoker: Invoker,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) schedules: Arc<Schedules>,
    /// What the script consists of.
    pub(crate) files: Arc<Files>,
    /// Where it is a test file.
    pub(crate) test: Option<TestMode>,
}

/// A state, ready to run a script.
pub(crate) struct Core {
    pub(crate) lua: Lua,
    pub(crate) meter: Arc<Meter>,
}

/// What a task raised and did not catch.
pub(crate) struct Raised {
    pub(crate) value: Value,
    traceback: String,
}

impl Raised {
    /// The same for people, with the script's line.
    pub(crate) fn explained(&self) -> ScriptError {
        ScriptError::uncaught(&self.value, &self.traceback)
    }
}

/// How a task ended; the outer error is Lua's own.
type Ending = mlua::Result<Result<MultiValue, Raised>>;

impl Core {
    pub(crate) fn new(world: World, meter: &Arc<Meter>) -> mlua::Result<Self> {
        let lua = bare_state();
        hook(&lua, meter)?;

        let api = Registrar {
            lua: &lua,
            meter,
            ready: lua.create_table()?,
            waiting: lua.create_table()?,
        };
        let sources = Arc::new(Sources::new(
            world.directory.clone(),
            world.backend.permissions().lib,
            Arc::clone(&world.files),
        ));
        register(&api, &world, &sources)?;
        if let Some(mode) = &world.test {
            test::install(&api, mode, world.invoker.activity())?;
        }
        let fields = values(&lua, &world.args)?;
        let support = support(&lua, meter, world, &sources)?;
        let (globals, task, indexes, error_metatable): (Table, Function, Table, Table) = lua
            .load(PRELUDE)
            .set_name("=[postrider]")
            .set_mode(ChunkMode::Text)
            .call((support, api.ready, api.waiting, fields))?;
        error_metatable.raw_set("__name", fault::ERROR_METATABLE)?;
        lua.set_named_registry_value(fault::ERROR_METATABLE, error_metatable)?;
        lua.set_named_registry_value(account::INDEX, indexes.raw_get::<Function>("account")?)?;
        lua.set_named_registry_value(event::INDEX, indexes.raw_get::<Function>("handler")?)?;
        lua.set_named_registry_value(schedule::INDEX, indexes.raw_get::<Function>("schedule")?)?;
        lua.set_named_registry_value(TASK, task)?;
        lua.set_globals(globals)?;
        lua.set_memory_limit(meter.limits().memory_octets)?;
        Ok(Self {
            lua,
            meter: Arc::clone(meter),
        })
    }

    /// Calls `function` within `budget` and answers what it returned. Whoever drops this leaves
    /// the call where it stands, as a limit does.
    pub(crate) async fn run(
        &self,
        budget: &Arc<Budget>,
        function: Function,
        args: MultiValue,
    ) -> Result<MultiValue, ScriptError> {
        let _end = End(budget);
        let task = start(&self.lua, &self.meter, budget, function, args)
            .map_err(|error| self.lua_failed(budget, &error))?;
        let task = until_stopped(budget, task);
        let ended = match budget.deadline() {
            None => task.await,
            Some(deadline) => match tokio::time::timeout_at(deadline, task).await {
                Ok(ended) => ended,
                Err(_) => Err(budget.expire()),
            },
        };
        let error = match ended.map_err(|stop| Self::stopped(budget, stop))? {
            Ok(Ok(values)) => return Ok(values),
            Ok(Err(raised)) => self.raised(budget, &raised),
            Err(error) => self.lua_failed(budget, &error),
        };
        // What it got beyond its limit, to tell where it was.
        let _ = self.lua.set_memory_limit(self.meter.limits().memory_octets);
        if error.failure.code == "script.memory_limit" {
            self.collect().await;
        }
        Err(error)
    }

    /// Collects garbage a little at a time. So near to its limit Lua fails where it may not
    /// collect itself, and so would whatever call comes next.
    async fn collect(&self) {
        // What is under way may keep it from ever coming to an end.
        for _ in 0..COLLECTING {
            for _ in 0..COLLECT_AT_ONCE {
                if !matches!(self.lua.gc_step(), Ok(false)) {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn raised(&self, budget: &Budget, raised: &Raised) -> ScriptError {
        match &raised.value {
            Value::String(text) if text.as_bytes().ends_with(OUT_OF_MEMORY.as_bytes()) => {
                let mut error = self.out_of_memory(budget);
                let traced = raised.explained();
                error.failure.at = traced.failure.at.or_else(|| budget.seen());
                error.trace = traced.trace;
                error
            }
            _ => raised.explained(),
        }
    }

    /// Lua failed, and not the script.
    pub(crate) fn lua_failed(&self, budget: &Budget, error: &mlua::Error) -> ScriptError {
        let text = fault::plain(error);
        let mut error = if text.starts_with(OUT_OF_MEMORY) {
            self.out_of_memory(budget)
        } else {
            ScriptError::new(Failure::new(
                "script.internal",
                format!("lua failed: {text}"),
            ))
        };
        error.failure.at = budget.seen();
        error
    }

    /// What the script returned is not what was asked for.
    pub(crate) fn faulted(&self, budget: &Budget, fault: Fault) -> ScriptError {
        match fault {
            Fault::Misuse(message) => ScriptError::new(Failure::new("script.raised", message)),
            Fault::Failed(failure) | Fault::Raised(failure) => ScriptError::new(*failure),
            Fault::Rethrown(value) => ScriptError::uncaught(&value, ""),
            Fault::Lua(error) => self.lua_failed(budget, &error),
        }
    }

    fn out_of_memory(&self, budget: &Budget) -> ScriptError {
        let limit = octets(self.meter.limits().memory_octets);
        let message = if budget.is_main() {
            format!("the script needs more than its {limit} of memory")
        } else {
            let what = &budget.what;
            format!("{what} needs more than the script's {limit} of memory")
        };
        let remedy =
            "look for a table or string that grows without end; files are better attached by path";
        ScriptError::new(Failure::new("script.memory_limit", message).with_remedy(remedy))
    }

    fn stopped(budget: &Budget, stop: Stop) -> ScriptError {
        let what = &budget.what;
        let mut failure = match stop.limit {
            Limit::Cpu(limit) => Failure::new(
                "script.cpu_limit",
                format!("{what} ran Lua for more than its {limit:?}"),
            )
            .with_remedy("look for a loop that does not end; time spent waiting does not count"),
            Limit::Wall(limit) => Failure::new(
                "script.time_limit",
                format!("{what} took longer than its {limit:?}"),
            )
            .with_remedy("give what it waits for a timeout"),
        };
        failure.at = stop.at;
        ScriptError::new(failure)
    }
}

/// Ends a call, however that comes about.
struct End<'a>(&'a Arc<Budget>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How a task ended, unless a limit stopped it.
async fn until_stopped(
    budget: &Budget,
    mut task: BoxFuture<'static, Ending>,
) -> Result<Ending, Stop> {
    std::future::poll_fn(
        |context| match (task.poll_unpin(context), budget.stopped()) {
            (_, Some(stop)) => Poll::Ready(Err(stop)),
            (Poll::Ready(ended), None) => Poll::Ready(Ok(ended)),
            (Poll::Pending, None) => Poll::Pending,
        },
    )
    .await
}

/// Looks at the clock every few thousand instructions.
fn hook(lua: &Lua, meter: &Arc<Meter>) -> mlua::Result<()> {
    let meter = Arc::clone(meter);
    let disarm: Function = lua
        .load(DISARM)
        .set_name("=[postrider]")
        .set_mode(ChunkMode::Text)
        .eval()?;
    let triggers = HookTriggers::new().every_nth_instruction(HOOK_EVERY);
    lua.set_global_hook(triggers, move |lua, frame| {
        let was_stopped = meter.is_stopped();
        match meter.tick(|| fault::here(lua)) {
            // Between a future that is pending and the yield that says so, a pause would use
            // up the wake-up of that future.
            Tick::Pause if !is_ours(frame) => {
                if meter.pause() {
                    return Ok(VmState::Yield);
                }
                let _ = disarm.call::<()>(());
                Err(mlua::Error::runtime(UNPAUSABLE))
            }
            Tick::Go | Tick::Pause => Ok(VmState::Continue),
            // A stopped call is left where it stands. Still running means that it could not
            // yield, inside C; only an error ends that.
            Tick::Stop if was_stopped => {
                let _ = disarm.call::<()>(());
                Err(mlua::Error::runtime("stopped"))
            }
            Tick::Stop => Ok(VmState::Yield),
        }
    })
}

/// What Lua gets that is called by C and does not come to an end.
const UNPAUSABLE: &str =
    "too much work where Lua cannot be paused, such as in the handler of xpcall";

/// mlua closes a frame's `<close>` variables before it raises a hook's error there, with hooks
/// off: a `__close` that does not end would never end. So they get another one.
const DISARM: &str = r#"
    local getlocal, setlocal, metatable_of = debug.getlocal, debug.setlocal, debug.getmetatable
    local rawget, type = rawget, type
    local harmless = setmetatable({}, { __close = function() end })
    return function()
      local i = 1
      repeat
        local name, value = getlocal(2, i)
        local metatable = metatable_of(value)
        if type(metatable) == "table" and rawget(metatable, "__close") ~= nil then
          setlocal(2, i, harmless)
        end
        i = i + 1
      until not name
    end
"#;

/// Whether a frame belongs to the prelude or to mlua's polling, and not to the script.
fn is_ours(frame: &Debug<'_>) -> bool {
    matches!(
        frame.source().source.as_deref(),
        Some("=[postrider]" | "=__mlua_async_poll")
    )
}

/// All functions of the API; [`postrider_lua_api`] describes them.
fn register(api: &Registrar<'_>, world: &World, sources: &Arc<Sources>) -> mlua::Result<()> {
    let backend = &world.backend;
    account::register(api, backend, world.invoker.script())?;
    config::register(api, backend)?;
    csv::register(api, backend)?;
    env::register(api, backend)?;
    event::register(api, world)?;
    explain::register(api, backend)?;
    fs::register(api, backend)?;
    http::register(api, backend)?;
    json::register(api)?;
    log::register(api)?;
    process::register(api, backend)?;
    schedule::register(api, world)?;
    test::register(api)?;
    secret::register(api)?;
    task::register(api, world)?;
    template::register(api, sources)?;
    time::register(api, backend)
}

/// What of the API is no function.
fn values(lua: &Lua, args: &[String]) -> mlua::Result<Table> {
    let values = lua.create_table()?;
    values.raw_set("version", env!("CARGO_PKG_VERSION"))?;
    values.raw_set("args", args)?;
    values.raw_set("json.null", json::null(lua)?)?;
    Ok(values)
}

/// Starts `function` as a task of the call that `budget` is for.
pub(crate) fn start(
    lua: &Lua,
    meter: &Arc<Meter>,
    budget: &Arc<Budget>,
    function: Function,
    mut args: MultiValue,
) -> mlua::Result<BoxFuture<'static, Ending>> {
    let task: Function = lua.named_registry_value(TASK)?;
    let thread = lua.create_thread(task)?;
    args.push_front(Value::Function(function));
    let running = Counted::running(meter, budget, thread.into_async::<MultiValue>(args)?);
    Ok(async move {
        let mut values = running.await?;
        if values.pop_front() == Some(Value::Boolean(true)) {
            return Ok(Ok(values));
        }
        let value = values.pop_front().unwrap_or_default();
        let traceback = match values.pop_front() {
            Some(Value::String(text)) => text.to_string_lossy(),
            _ => String::new(),
        };
        Ok(Err(Raised { value, traceback }))
    }
    .boxed())
}

/// A call, for the prelude to ask whether it is under way.
struct UnderWay(Arc<Budget>);

impl mlua::UserData for UnderWay {}

/// A state with the libraries the prelude picks from.
#[allow(
    unsafe_code,
    reason = "mlua calls the debug library unsafe; the prelude keeps it"
)]
fn bare_state() -> Lua {
    let libraries = StdLib::COROUTINE
        | StdLib::DEBUG
        | StdLib::MATH
        | StdLib::OS
        | StdLib::STRING
        | StdLib::TABLE
        | StdLib::UTF8;
    // SAFETY: of the debug library only `traceback` and `getinfo` are used, by the prelude,
    // and neither can break the state; a script gets tables that lack all the rest. The
    // `package` library, which could load C modules, is not opened.
    unsafe { Lua::unsafe_new_with(libraries, LuaOptions::default()) }
}

/// Lua text as a function, whose messages name `name`.
pub(crate) fn compile(lua: &Lua, source: &[u8], name: &str) -> mlua::Result<Function> {
    let source = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    // `#!/usr/bin/env -S postrider run` is for the system; as a comment it keeps its line.
    let text = match source.strip_prefix(b"#") {
        Some(rest) => [b"--", rest].concat(),
        None => source.to_vec(),
    };
    lua.load(text)
        .set_name(format!("@{name}"))
        .set_mode(ChunkMode::Text)
        .into_function()
}

/// What the prelude needs of Rust.
fn support(
    lua: &Lua,
    meter: &Arc<Meter>,
    world: World,
    sources: &Arc<Sources>,
) -> mlua::Result<Table> {
    let support = Registrar {
        lua,
        meter,
        ready: lua.create_table()?,
        waiting: lua.create_table()?,
    };
    text::register(&support)?;
    module::register(&support, sources)?;

    let table = support.ready;
    let library = lua.create_table()?;
    for (name, members) in api::STANDARD {
        library.raw_set(*name, *members)?;
    }
    table.raw_set("library", library)?;
    table.raw_set("pending", Lua::poll_pending())?;
    table.raw_set("out_of_memory", OUT_OF_MEMORY)?;
    table.raw_set("unpausable", UNPAUSABLE)?;
    let metered = Arc::clone(meter);
    let tick = lua.create_function(move |lua, ()| {
        Ok(match metered.tick(|| fault::here(lua)) {
            Tick::Go => None,
            Tick::Pause => Some(false),
            Tick::Stop => Some(true),
        })
    })?;
    table.raw_set("tick", tick)?;
    let tables = lua
        .load(TABLES)
        // Not `is_ours`: there is nothing in it that a pause would disturb.
        .set_name("=[postrider.tables]")
        .set_mode(ChunkMode::Text)
        .into_function()?;
    table.raw_set("tables", tables)?;
    let metered = Arc::clone(meter);
    let call = lua.create_function(move |_, ()| Ok(metered.current().map(UnderWay)))?;
    table.raw_set("call", call)?;
    let is_under_way =
        lua.create_function(|_, call: mlua::UserDataRef<UnderWay>| Ok(!call.0.is_over()))?;
    table.raw_set("is_under_way", is_under_way)?;
    let reserve = meter.limits().memory_octets.saturating_add(RESERVE_OCTETS);
    let relax = lua.create_function(move |lua, ()| lua.set_memory_limit(reserve).map(drop))?;
    table.raw_set("relax", relax)?;
    table.raw_set("here", lua.create_function(|lua, ()| Ok(fault::here(lua)))?)?;
    let plain = lua.create_function(|_, error: Value| match error {
        Value::Error(error) => Ok(Some(fault::plain(&error))),
        _ => Ok(None),
    })?;
    table.raw_set("plain", plain)?;
    let suggest = lua.create_function(|_, (wrong, known): (String, Vec<String>)| {
        Ok(suggestion(&wrong, known.iter().map(String::as_str)))
    })?;
    table.raw_set("suggest", suggest)?;
    let output = world.output;
    let write = lua.create_function(move |_, octets: mlua::LuaString| {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(output.write_all(&octets.as_bytes()).is_ok())
    })?;
    table.raw_set("write", write)?;
    let pause = lua.create_async_function(|_, ()| async {
        tokio::task::yield_now().await;
        Ok(())
    })?;
    table.raw_set("pause", pause)?;
    let nap = lua.create_async_function(|_, ()| async {
        tokio::time::sleep(NAP).await;
        Ok(())
    })?;
    table.raw_set("nap", nap)?;
    Ok(table)
}

/// `256 MiB`.
fn octets(count: usize) -> String {
    if count >= 1 << 20 && count.is_multiple_of(1 << 20) {
        format!("{} MiB", count >> 20)
    } else {
        format!("{count} octets")
    }
}

#[cfg(test)]
mod tests;
