//! One Lua state for one script: what it may see, how much it may use, how it is run.
//!
//! Each task runs as `task(f, …)` of the prelude in a thread of its own, which is polled as a
//! future. Three things stop it: the hook, every few thousand instructions; the allocator;
//! and the clock of whoever polls.
//!
//! Known to remain: a `<close>` handler that never ends, of a frame which the hook must break
//! off inside C (a comparator of `table.sort`), since mlua closes that frame with hooks off.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mlua::chunk::ChunkMode;
use mlua::debug::Debug;
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::backend::Backend;
use super::call::{Args, Registrar, is_stopped, suggestion};
use super::event::{self, Handlers};
use super::fault::{self, Fault, OUT_OF_MEMORY, ScriptError};
use super::meter::{Counted, Limit, Meter, Stop, Tick};
use super::{account, config, http, json, log, secret, task, text, time};
use crate::Failure;
use postrider_lua_api as api;

/// How many instructions Lua runs between two looks at the clock: tens of microseconds.
const HOOK_EVERY: u32 = 4000;
/// How long the end of a script waits for what handlers are to hear: a webhook's patience.
const GRACE: Duration = Duration::from_secs(30);
/// What a script that used up its memory gets, so that it can be said where.
const RESERVE_OCTETS: usize = 1 << 20;

/// Where the prelude's `task` is kept.
const TASK: &str = "postrider.task";

const PRELUDE: &str = include_str!("prelude.lua");

/// Where a script's `print` goes.
pub(crate) type Output = Arc<Mutex<dyn Write + Send>>;

/// What surrounds a script.
pub(crate) struct World {
    /// Where `require` looks.
    pub(crate) directory: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) output: Output,
}

/// A state, ready to run a script.
pub(crate) struct Engine {
    lua: Lua,
    meter: Arc<Meter>,
    backend: Arc<dyn Backend>,
    handlers: Arc<Handlers>,
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

impl Engine {
    pub(crate) fn new(world: World, meter: Meter) -> mlua::Result<Self> {
        let lua = bare_state();
        let meter = Arc::new(meter);
        hook(&lua, &meter)?;

        let api = Registrar {
            lua: &lua,
            meter: &meter,
            ready: lua.create_table()?,
            waiting: lua.create_table()?,
        };
        let backend = Arc::clone(&world.backend);
        let handlers = Arc::<Handlers>::default();
        register(&api, &backend, &handlers)?;
        let fields = values(&lua, &world.args)?;
        let support = support(&lua, &meter, world)?;
        let (globals, task, indexes, error_metatable): (Table, Function, Table, Table) = lua
            .load(PRELUDE)
            .set_name("=[postrider]")
            .set_mode(ChunkMode::Text)
            .call((support, api.ready, api.waiting, fields))?;
        error_metatable.raw_set("__name", fault::ERROR_METATABLE)?;
        lua.set_named_registry_value(fault::ERROR_METATABLE, error_metatable)?;
        lua.set_named_registry_value(account::INDEX, indexes.raw_get::<Function>("account")?)?;
        lua.set_named_registry_value(event::INDEX, indexes.raw_get::<Function>("handler")?)?;
        lua.set_named_registry_value(TASK, task)?;
        lua.set_globals(globals)?;
        lua.set_memory_limit(meter.limits().memory_octets)?;
        Ok(Self {
            lua,
            meter,
            backend,
            handlers,
        })
    }

    /// Runs the chunk `source`, which messages call `name`, with the script's arguments.
    pub(crate) async fn run(
        &self,
        source: &[u8],
        name: &str,
        args: &[String],
    ) -> Result<(), ScriptError> {
        let chunk =
            compile(&self.lua, source, name).map_err(|error| ScriptError::syntax(&error, name))?;
        let running = args
            .iter()
            .map(|arg| Ok(Value::String(self.lua.create_string(arg)?)))
            .collect::<mlua::Result<MultiValue>>()
            .and_then(|args| start(&self.lua, &self.meter, chunk, args))
            .map_err(|error| self.lua_failed(&error))?;
        let playing = self.until_stopped(self.play(running));
        let ended = match self.meter.limits().wall {
            None => playing.await,
            Some(wall) => match tokio::time::timeout(wall, playing).await {
                Ok(ended) => ended,
                Err(_) => Err(self.meter.expire()),
            },
        };
        let ended = ended.map_err(|stop| self.stopped(stop))?;
        match ended {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(raised)) => match &raised.value {
                Value::String(text) if text.as_bytes().ends_with(OUT_OF_MEMORY.as_bytes()) => {
                    let mut error = self.out_of_memory();
                    let traced = raised.explained();
                    error.failure.at = traced.failure.at.or_else(|| self.meter.seen());
                    error.trace = traced.trace;
                    Err(error)
                }
                _ => Err(raised.explained()),
            },
            Err(error) => Err(self.lua_failed(&error)),
        }
    }

    /// The script's own task to its end and handlers beside it; then what they are still to
    /// hear, however the script ended.
    async fn play(&self, script: BoxFuture<'static, Ending>) -> Ending {
        let mut hearing = self.handlers.listen(&self.lua, &self.meter, &self.backend);
        let ended = hearing.meanwhile(script).await;
        let heard = async {
            // Without a handler nobody hears what is still to come.
            if !self.handlers.is_empty() {
                hearing.meanwhile(self.backend.settle()).await;
            }
            hearing.finish().await;
        };
        if tokio::time::timeout(GRACE, heard).await.is_err() {
            tracing::warn!(
                target: "postrider::script",
                "the script ended before its handlers did: what they were told counts as not heard"
            );
        }
        ended
    }

    /// How a task ended, unless a limit stopped it.
    async fn until_stopped(&self, task: impl Future<Output = Ending>) -> Result<Ending, Stop> {
        let mut task = std::pin::pin!(task);
        std::future::poll_fn(
            |context| match (task.poll_unpin(context), self.meter.stopped()) {
                (_, Some(stop)) => Poll::Ready(Err(stop)),
                (Poll::Ready(ended), None) => Poll::Ready(Ok(ended)),
                (Poll::Pending, None) => Poll::Pending,
            },
        )
        .await
    }

    fn lua_failed(&self, error: &mlua::Error) -> ScriptError {
        let text = fault::plain(error);
        let mut error = if text.starts_with(OUT_OF_MEMORY) {
            self.out_of_memory()
        } else {
            ScriptError::new(Failure::new(
                "script.internal",
                format!("lua failed: {text}"),
            ))
        };
        error.failure.at = self.meter.seen();
        error
    }

    fn out_of_memory(&self) -> ScriptError {
        let limit = octets(self.meter.limits().memory_octets);
        let message = format!("the script needs more than its {limit} of memory");
        let remedy =
            "look for a table or string that grows without end; files are better attached by path";
        ScriptError::new(Failure::new("script.memory_limit", message).with_remedy(remedy))
    }

    fn stopped(&self, stop: Stop) -> ScriptError {
        let limits = self.meter.limits();
        let mut failure = match stop.limit {
            Limit::Cpu => Failure::new(
                "script.cpu_limit",
                format!("the script ran Lua for more than its {:?}", limits.cpu),
            )
            .with_remedy("look for a loop that does not end; time spent waiting does not count"),
            Limit::Wall => Failure::new(
                "script.time_limit",
                format!(
                    "the script took longer than its {:?}",
                    limits.wall.unwrap_or_default()
                ),
            ),
        };
        failure.at = stop.at;
        ScriptError::new(failure)
    }
}

/// Looks at the clock every few thousand instructions.
fn hook(lua: &Lua, meter: &Arc<Meter>) -> mlua::Result<()> {
    let meter = Arc::clone(meter);
    let triggers = HookTriggers::new().every_nth_instruction(HOOK_EVERY);
    lua.set_global_hook(triggers, move |lua, frame| {
        let was_stopped = meter.is_stopped();
        match meter.tick(|| fault::here(lua)) {
            // Between a future that is pending and the yield that says so, a pause would use
            // up the wake-up of that future.
            Tick::Pause if !is_ours(frame) => Ok(VmState::Yield),
            Tick::Go | Tick::Pause => Ok(VmState::Continue),
            // A stopped script is left where it stands: an error from a hook runs the frame's
            // `<close>` variables, with no hook to end them. Still running means that it could
            // not yield, inside C.
            Tick::Stop if was_stopped => Err(mlua::Error::runtime("stopped")),
            Tick::Stop => Ok(VmState::Yield),
        }
    })
}

/// Whether a frame belongs to the prelude or to mlua's polling, and not to the script.
fn is_ours(frame: &Debug<'_>) -> bool {
    matches!(
        frame.source().source.as_deref(),
        Some("=[postrider]" | "=__mlua_async_poll")
    )
}

/// All functions of the API; [`postrider_lua_api`] describes them.
fn register(
    api: &Registrar<'_>,
    backend: &Arc<dyn Backend>,
    handlers: &Arc<Handlers>,
) -> mlua::Result<()> {
    account::register(api, backend)?;
    config::register(api, backend)?;
    event::register(api, handlers, backend)?;
    http::register(api, backend)?;
    json::register(api)?;
    log::register(api)?;
    secret::register(api)?;
    task::register(api)?;
    time::register(api)
}

/// What of the API is no function.
fn values(lua: &Lua, args: &[String]) -> mlua::Result<Table> {
    let values = lua.create_table()?;
    values.raw_set("version", env!("CARGO_PKG_VERSION"))?;
    values.raw_set("args", args)?;
    values.raw_set("json.null", json::null(lua)?)?;
    Ok(values)
}

/// Starts `function` as a task.
pub(crate) fn start(
    lua: &Lua,
    meter: &Arc<Meter>,
    function: Function,
    mut args: MultiValue,
) -> mlua::Result<BoxFuture<'static, Ending>> {
    let task: Function = lua.named_registry_value(TASK)?;
    let thread = lua.create_thread(task)?;
    args.push_front(Value::Function(function));
    let running = Counted::running(meter, thread.into_async::<MultiValue>(args)?);
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
fn support(lua: &Lua, meter: &Arc<Meter>, world: World) -> mlua::Result<Table> {
    let support = Registrar {
        lua,
        meter,
        ready: lua.create_table()?,
        waiting: lua.create_table()?,
    };
    text::register(&support)?;
    let directory = world.directory;
    support.add("require", move |lua, args| {
        load_module(lua, &directory, args)
    })?;

    let table = support.ready;
    let library = lua.create_table()?;
    for (name, members) in api::STANDARD {
        library.raw_set(*name, *members)?;
    }
    table.raw_set("library", library)?;
    table.raw_set("pending", Lua::poll_pending())?;
    table.raw_set("out_of_memory", OUT_OF_MEMORY)?;
    let metered = Arc::clone(meter);
    let stopped = lua.create_function(move |lua, ()| Ok(is_stopped(lua, &metered)))?;
    table.raw_set("stopped", stopped)?;
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
    Ok(table)
}

/// The chunk of the module `a.b`: `a/b.lua` or `a/b/init.lua` beside the script.
fn load_module(lua: &Lua, directory: &Path, mut args: Args) -> Result<(Function, String), Fault> {
    let name = args.text("module")?;
    args.end()?;
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if !name.split('.').all(is_word) {
        return Err(Fault::Misuse(format!(
            "'{name:.60}' is no module name: write letters, digits, '_' and '-', with dots between folders"
        )));
    }
    let stem: PathBuf = directory.join(name.split('.').collect::<PathBuf>());
    let candidates = [stem.with_extension("lua"), stem.join("init.lua")];
    for path in &candidates {
        let source = match std::fs::read(path) {
            Ok(source) => source,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Fault::Misuse(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        };
        let path = path.display().to_string();
        return match compile(lua, &source, &path) {
            Ok(chunk) => Ok((chunk, path)),
            Err(error @ mlua::Error::SyntaxError { .. }) => {
                let text = lua.create_string(fault::plain(&error))?;
                Err(Fault::Rethrown(Value::String(text)))
            }
            Err(error) => Err(error.into()),
        };
    }
    let [file, folder] = candidates.map(|path| path.display().to_string());
    Err(Fault::Misuse(format!(
        "there is no module '{name}': neither {file} nor {folder} exists"
    )))
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
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{AccountHandle, Limits};
    use postrider_lua_api::reference;
    use postrider_lua_api::{Kind, STANDARD, items};

    /// A host with nothing in it.
    struct Empty;

    impl Backend for Empty {
        fn account_from_config<'a>(
            &'a self,
            name: &'a str,
        ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>> {
            Box::pin(async move { Err(Failure::new("config.unknown_account", name)) })
        }

        fn account_from_table(
            &self,
            _: serde_json::Value,
        ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>> {
            Box::pin(async { Err(Failure::new("config.invalid", "no account")) })
        }

        fn account_names(&self) -> Vec<String> {
            Vec::new()
        }

        fn config_get(&self, _: &str) -> Result<Option<serde_json::Value>, Failure> {
            Ok(None)
        }

        fn config_set<'a>(
            &'a self,
            _: &'a str,
            _: serde_json::Value,
        ) -> BoxFuture<'a, Result<(), Failure>> {
            Box::pin(async { Ok(()) })
        }

        fn secret(
            &self,
            _: postrider_config::SecretRef,
        ) -> BoxFuture<'_, Result<secrecy::SecretString, Failure>> {
            Box::pin(async { Err(Failure::new("secret.missing", "no secret")) })
        }

        fn http(
            &self,
            _: crate::request::Request,
        ) -> BoxFuture<'_, Result<crate::request::Response, Failure>> {
            Box::pin(async { Err(Failure::new("network.connect", "no network")) })
        }

        fn subscribe(&self, _: Arc<dyn crate::Listener>) {}

        fn remind(&self) {}

        fn settle(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    fn engine() -> Engine {
        let world = World {
            directory: PathBuf::new(),
            args: Vec::new(),
            backend: Arc::new(Empty),
            output: Arc::new(Mutex::new(std::io::sink())),
        };
        Engine::new(world, Meter::new(Limits::default())).unwrap()
    }

    fn keys(table: &Table) -> BTreeSet<String> {
        table
            .pairs::<String, Value>()
            .map(|pair| pair.unwrap().0)
            .collect()
    }

    #[test]
    fn everything_registered_is_described_and_nothing_else() {
        let lua = bare_state();
        let meter = Arc::new(Meter::new(Limits::default()));
        let api = Registrar {
            lua: &lua,
            meter: &meter,
            ready: lua.create_table().unwrap(),
            waiting: lua.create_table().unwrap(),
        };
        let backend: Arc<dyn Backend> = Arc::new(Empty);
        register(&api, &backend, &Arc::default()).unwrap();
        let described = |wanted: &dyn Fn(&Kind) -> bool| -> BTreeSet<String> {
            let items = items().filter(|item| wanted(&item.kind));
            items.map(|item| item.name.to_owned()).collect()
        };

        let waiting = described(&|kind| matches!(kind, Kind::Function { waits: true, .. }));
        assert_eq!(keys(&api.waiting), waiting);
        let mut ready = keys(&api.ready);
        // A property is a value to the script, and a function to us.
        assert!(ready.remove("account.name"));
        assert_eq!(
            ready,
            described(&|kind| matches!(kind, Kind::Function { waits: false, .. }))
        );
        let mut values = keys(&values(&lua, &[]).unwrap());
        values.insert("account.name".to_owned());
        assert_eq!(values, described(&|kind| matches!(kind, Kind::Value(_))));
    }

    #[test]
    fn a_script_has_the_described_library_and_nothing_else() {
        let engine = engine();
        let globals = engine.lua.globals();
        let mut libraries = BTreeSet::new();
        for (library, names) in STANDARD {
            let table = match *library {
                "_G" => globals.clone(),
                library => {
                    libraries.insert(library.to_owned());
                    globals.get::<Table>(library).unwrap()
                }
            };
            let mut present = keys(&table);
            if *library == "_G" {
                for (library, _) in &STANDARD[1..] {
                    assert!(present.remove(*library), "{library}");
                }
            }
            let described: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(present, described, "{library}");
        }
        assert_eq!(libraries.len(), STANDARD.len() - 1);
    }

    #[test]
    fn every_example_in_the_reference_is_lua() {
        let engine = engine();
        let page = reference();
        let mut examples = 0;
        for block in page.split("```lua\n").skip(1) {
            let example = block.split("```").next().unwrap();
            compile(&engine.lua, example.as_bytes(), "example.lua").unwrap();
            examples += 1;
        }
        assert_eq!(examples, items().count() + 1);
    }
}
