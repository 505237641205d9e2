//! `pr.test`: the cases of a test file, and the world that a case's `t` moves.
//!
//! A test file is a script like any other. It is run once to learn its cases, and then once for
//! each of them in a state of its own, so that no case sees what another has left behind.
//!
//! Not here: what the world is made of. [`Bench`] is all that is known of it.

mod submit;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, Table, Value};
use tokio::sync::Notify;

use crate::Failure;
use crate::activity::Activity;
use crate::call::{Args, Fields, Registrar, Reply, number, suggestion};
use crate::fault::{self, Fault};
use crate::json::{self, Secrets};
use crate::time;
use postrider_lua_api as api;

pub use submit::Submitted;

const SOURCE: &str = include_str!("test.lua");
/// Where the function is kept that runs a test file's chunk and then a case.
const MAIN: &str = "postrider.test.main";

/// The world of one case.
pub trait Bench: Send + Sync + 'static {
    /// What the clock says.
    fn now(&self) -> Timestamp;

    /// Moves the clock, from one wake to the next, each time until all is at rest. Back, it jumps.
    fn move_to(&self, to: Timestamp) -> BoxFuture<'_, Result<(), Failure>>;

    /// Loads a script as a daemon does, until it has ended or waits; then it is live.
    fn load(&self, script: String, args: Vec<String>) -> BoxFuture<'_, Result<(), Failure>>;

    /// The same as `postrider run` does it.
    fn run(&self, script: String, args: Vec<String>) -> BoxFuture<'_, Result<(), Failure>>;

    /// From now on this is the configuration file's text.
    fn configure(&self, toml: String) -> BoxFuture<'_, Result<(), Failure>>;

    /// From now on something outside answers so.
    fn script(&self, answer: Scripted) -> Result<(), Failure>;

    /// The messages that arrived.
    fn outbox(&self) -> serde_json::Value;

    /// The events that were raised.
    fn events(&self) -> serde_json::Value;

    /// What was logged and printed, a line each.
    fn log(&self) -> Vec<String>;

    /// The requests that scripts made.
    fn requests(&self) -> serde_json::Value;

    /// The programs that scripts ran.
    fn runs(&self) -> serde_json::Value;

    /// From now on `pr.env` and references to this variable find this.
    fn set_env(&self, name: String, value: String);

    /// From now on references to a secret of this name find this.
    fn set_secret(&self, name: String, value: String);

    /// A directory that scripts may read and write.
    fn directory(&self) -> PathBuf;

    /// How the schedule of that name stands.
    fn schedule(&self, name: &str) -> Result<serde_json::Value, Failure>;

    /// Has it run now, until all is at rest.
    fn run_schedule(&self, name: String) -> BoxFuture<'_, Result<(), Failure>>;

    /// Has a device submit a message, until all is at rest: what it is answered.
    fn submit(&self, submitted: Submitted) -> BoxFuture<'_, Result<serde_json::Value, Failure>>;

    /// Raises an event, until all is at rest.
    fn emit(&self, name: String, payload: serde_json::Value) -> BoxFuture<'_, Result<(), Failure>>;
}

/// An answer given in place of somebody outside.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// By the submission server.
    Smtp {
        /// At which point of the dialogue: `connect`, `auth`, `mail`, `rcpt` or `data`.
        at: &'static str,
        /// The reply, `432 4.3.2 try later`.
        reply: String,
        /// How many times; `None` is for ever.
        times: Option<u32>,
        /// Only for this recipient (at `rcpt`) or user.
        only_for: Option<String>,
    },
    /// None: the submission server takes a message, and the connection ends before its reply.
    Lost {
        /// How many times; `None` is for ever.
        times: Option<u32>,
        /// Only for this user.
        only_for: Option<String>,
    },
    /// By the token endpoint.
    Oauth {
        /// The status code.
        status: u16,
        /// The body: JSON, as RFC 6749 §5.2 has it.
        body: serde_json::Value,
        /// Seconds for `Retry-After`.
        retry_after: Option<u32>,
        /// How many times; `None` is for ever.
        times: Option<u32>,
    },
    /// To requests of scripts.
    Http {
        /// Which ones: a URL, or the beginning of one with `*` behind; `None` is all.
        url: Option<String>,
        /// Which method, in capitals; `None` is any.
        method: Option<String>,
        /// The status code.
        status: u16,
        /// Header fields.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
        /// In place of an answer: the code of the failure, such as `network.timeout`.
        fails: Option<String>,
        /// How many times; `None` is for ever.
        times: Option<u32>,
    },
    /// By a program.
    Process {
        /// Its path.
        program: String,
        /// Its exit status.
        status: i32,
        /// What it writes.
        stdout: Vec<u8>,
        /// What it complains of.
        stderr: Vec<u8>,
        /// How many times; `None` is for ever.
        times: Option<u32>,
    },
}

/// A case, as its file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Where it begins: `report_test.lua:3`.
    pub at: String,
}

/// Makes a script a test file: of its cases one is run, or none. Clones are the same.
#[derive(Clone)]
pub struct TestMode(Arc<Inner>);

struct Inner {
    bench: Arc<dyn Bench>,
    /// Which case to run, from 0.
    wanted: Option<usize>,
    cases: Mutex<Vec<Case>>,
    done: Notify,
}

impl TestMode {
    /// To learn the cases, or to run the one that is `wanted`.
    pub fn new(bench: Arc<dyn Bench>, wanted: Option<usize>) -> Self {
        Self(Arc::new(Inner {
            bench,
            wanted,
            cases: Mutex::default(),
            done: Notify::new(),
        }))
    }

    /// The cases that the file has named so far.
    pub fn cases(&self) -> Vec<Case> {
        self.lock().clone()
    }

    /// Waits until the file's chunk and the case have run to their end. One that raised an error
    /// ends with the script, and not here.
    pub async fn done(&self) {
        self.0.done.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Case>> {
        self.0.cases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `pr.test.case` is where no test runs.
pub(crate) fn register(registrar: &Registrar<'_>) -> mlua::Result<()> {
    registrar.add("test.case", |_, _| -> Result<(), Fault> {
        Err(Fault::misuse(
            "a case runs in a test only: name the file …_test.lua and run `postrider test FILE`",
        ))
    })
}

/// Puts the real `pr.test.case` in its place among what is registered.
pub(crate) fn install(
    api: &Registrar<'_>,
    mode: &TestMode,
    activity: &Activity,
) -> mlua::Result<()> {
    let lua = api.lua;
    let own = Registrar {
        lua,
        meter: api.meter,
        ready: lua.create_table()?,
        waiting: lua.create_table()?,
    };
    register_all(&own, mode, activity)?;
    let wanted = mode.0.wanted.map(|index| index + 1);
    let (case, main): (Function, Function) = lua
        .load(SOURCE)
        .set_name("=[postrider]")
        .set_mode(ChunkMode::Text)
        .call((own.ready, own.waiting, wanted))?;
    lua.set_named_registry_value(MAIN, main)?;
    api.ready.raw_set("test.case", case)
}

/// The chunk of a test file, with the case behind it.
pub(crate) fn with_case(lua: &Lua, chunk: &Function) -> mlua::Result<Function> {
    let main: Function = lua.named_registry_value(MAIN)?;
    main.call(chunk)
}

fn register_all(
    registrar: &Registrar<'_>,
    mode: &TestMode,
    activity: &Activity,
) -> mlua::Result<()> {
    let noted = mode.clone();
    registrar.add("test.case", move |lua, mut args| {
        let name = args.text("name")?;
        match args.next() {
            Value::Function(_) => {}
            other => return Err(args.wrong("case", "a function", &other)),
        }
        args.end()?;
        let at = fault::here(lua).unwrap_or_default();
        let mut cases = noted.lock();
        if let Some(earlier) = cases.iter().find(|case| case.name == name) {
            let message = format!("there is a case '{name:.80}' already, at {}", earlier.at);
            return Err(Fault::Misuse(message));
        }
        cases.push(Case { name, at });
        Ok(())
    })?;
    let ended = mode.clone();
    registrar.add("t.done", move |_, _| {
        ended.0.done.notify_one();
        Ok(())
    })?;
    registrar.add("t.fail", |_, args| -> Result<(), Fault> {
        Err(failed(args)?)
    })?;
    registrar.add("t.unknown", |_, mut args| -> Result<(), Fault> {
        let (object, key) = (args.text("object")?, args.text("key")?);
        let known: Vec<String> = args
            .table("known")?
            .sequence_values()
            .collect::<Result<_, _>>()?;
        let near = suggestion(&key, known.iter().map(String::as_str));
        Err(Fault::Misuse(format!(
            "there is no '{object}.{key:.60}'{near}"
        )))
    })?;
    time_and_scripts(&Mover {
        registrar,
        bench: &mode.0.bench,
        activity,
    })?;
    answers(registrar, &mode.0.bench)?;
    looks(registrar, &mode.0.bench)?;
    files(registrar, &mode.0.bench)
}

/// An assertion that did not hold.
fn failed(mut args: Args) -> Result<Fault, Fault> {
    let mut failure = Failure::new("test.failed", args.text("message")?);
    let mut shown = |what: &str| match args.next() {
        Value::Nil => Ok(None),
        Value::String(text) => Ok(Some(text.to_string_lossy())),
        other => Err(args.wrong(what, "a string", &other)),
    };
    if let (Some(expected), Some(got)) = (shown("expected")?, shown("got")?) {
        failure.details = serde_json::json!({ "expected": expected, "got": got });
    }
    Ok(Fault::Raised(Box::new(failure)))
}

fn raised(failure: Failure) -> Fault {
    Fault::Raised(Box::new(failure))
}

/// What waits for the world to come to rest, and what comes of it.
type Rest<'a, T = ()> = BoxFuture<'a, Result<T, Failure>>;

/// Adds functions that move the world.
struct Mover<'a> {
    registrar: &'a Registrar<'a>,
    bench: &'a Arc<dyn Bench>,
    activity: &'a Activity,
}

impl Mover<'_> {
    /// One that raises what goes wrong. The case that waits for it is not at work meanwhile.
    fn add<A: Send + 'static, T: Into<Reply>>(
        &self,
        name: &'static str,
        read: impl Fn(&Lua, &dyn Bench, Args) -> Result<A, Fault> + Send + Sync + 'static,
        begin: impl for<'a> Fn(&'a dyn Bench, A) -> Rest<'a, T> + Copy + Send + Sync + 'static,
    ) -> mlua::Result<()> {
        let (bench, activity) = (Arc::clone(self.bench), self.activity.clone());
        self.registrar.add_waiting(name, move |lua, args| {
            let wanted = read(lua, &*bench, args)?;
            let (bench, activity) = (Arc::clone(&bench), activity.clone());
            Ok(async move {
                let lent = activity.lend();
                let moved = begin(&*bench, wanted).await;
                drop(lent);
                moved.map(Into::into).map_err(raised)
            }
            .boxed())
        })
    }
}

fn time_and_scripts(mover: &Mover<'_>) -> mlua::Result<()> {
    let clock = Arc::clone(mover.bench);
    mover.registrar.add("t.clock:now", move |_, args| {
        args.end()?;
        Ok(seconds(clock.now()))
    })?;
    mover.add("t.clock:advance", later, |bench, at| bench.move_to(at))?;
    let set = |_: &Lua, _: &dyn Bench, mut args: Args| {
        let at = moment(&mut args)?;
        args.end()?;
        Ok(at)
    };
    mover.add("t.clock:set", set, |bench, at| bench.move_to(at))?;
    mover.add("t:load", script, |bench, (script, args)| {
        bench.load(script, args)
    })?;
    mover.add("t:run", script, |bench, (script, args)| {
        bench.run(script, args)
    })?;
    mover.add("t:config", text, |bench, toml| bench.configure(toml))?;
    mover.add("t.run_schedule", text, |bench, name| {
        bench.run_schedule(name)
    })?;
    mover.add("t.gateway:submit", submitted, |bench, submitted| {
        bench.submit(submitted)
    })?;
    mover.add("t:emit", event, |bench, (name, payload)| {
        bench.emit(name, payload)
    })?;
    let scheduled = Arc::clone(mover.bench);
    mover.registrar.add("t.schedule", move |lua, mut args| {
        let name = args.text("name")?;
        args.end()?;
        let standing = scheduled.schedule(&name).map_err(raised)?;
        Ok(json::to_lua(lua, &standing)?)
    })
}

fn later(_: &Lua, bench: &dyn Bench, mut args: Args) -> Result<Timestamp, Fault> {
    let span = time::duration(&args.next()).map_err(Fault::Misuse)?;
    args.end()?;
    let span = jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX);
    let later = bench.now().checked_add(span);
    later.map_err(|_| Fault::misuse("that is more time than there is"))
}

fn script(_: &Lua, _: &dyn Bench, mut args: Args) -> Result<(String, Vec<String>), Fault> {
    let script = args.text("script")?;
    let list = args.options("arguments")?;
    args.end()?;
    let list = list.map(|list| list.sequence_values().collect::<mlua::Result<_>>());
    Ok((script, list.transpose()?.unwrap_or_default()))
}

fn text(_: &Lua, _: &dyn Bench, mut args: Args) -> Result<String, Fault> {
    let text = args.text("text")?;
    args.end()?;
    Ok(text)
}

fn submitted(_: &Lua, _: &dyn Bench, mut args: Args) -> Result<Submitted, Fault> {
    let message = args.table("message")?;
    args.end()?;
    submit::read(&message)
}

fn event(lua: &Lua, _: &dyn Bench, mut args: Args) -> Result<(String, serde_json::Value), Fault> {
    let name = args.text("event")?;
    let known = || api::EVENTS.iter().map(|event| event.name);
    if !name.starts_with("app.") && !known().any(|known| known == name) {
        let near = suggestion(&name, known());
        return Err(Fault::Misuse(format!(
            "there is no event '{name:.60}'{near}"
        )));
    }
    let payload = args.options("payload")?;
    args.end()?;
    let payload = match payload {
        Some(table) => json::from_lua(lua, &Value::Table(table), Secrets::Refused)?,
        None => serde_json::json!({}),
    };
    Ok((name, payload))
}

/// Seconds since 1970, or RFC 3339; a date with a time and no offset is UTC.
fn moment(args: &mut Args) -> Result<Timestamp, Fault> {
    let value = args.next();
    if let Some(seconds) = number(&value) {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a cast saturates, and is checked"
        )]
        let milliseconds = (seconds * 1000.0).round() as i64;
        return Timestamp::from_millisecond(milliseconds)
            .map_err(|_| Fault::misuse("the time is out of range"));
    }
    let Value::String(text) = &value else {
        return Err(args.wrong("time", "text such as \"2026-03-02T08:00:00+01:00\"", &value));
    };
    let text = text.to_string_lossy();
    text.parse::<Timestamp>()
        .or_else(|_| format!("{text}Z").parse())
        .or_else(|_| text.parse::<jiff::Zoned>().map(|zoned| zoned.timestamp()))
        .map_err(|_| {
            Fault::Misuse(format!(
                "'{text:.60}' is no time: write \"2026-03-02T08:00:00+01:00\""
            ))
        })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds of any date fit 53 bits"
)]
fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

/// How often an answer is given: once unless it says otherwise, `times = "always"` for ever.
fn times(fields: &Fields<'_>) -> Result<Option<u32>, Fault> {
    match fields.value("times")? {
        Value::Nil => Ok(Some(1)),
        Value::Integer(count @ 1..=1_000_000) => Ok(u32::try_from(count).ok()),
        Value::String(word) if word.as_bytes() == b"always".as_slice() => Ok(None),
        other => Err(fields.wrong("times", "a number from 1, or \"always\"", &other)),
    }
}

fn whole<T: TryFrom<i64>>(fields: &Fields<'_>, key: &str) -> Result<Option<T>, Fault> {
    match fields.value(key)? {
        Value::Nil => Ok(None),
        Value::Integer(number) => match T::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Fault::Misuse(format!(
                "field '{key}': {number} is out of range"
            ))),
        },
        other => Err(fields.wrong(key, "a whole number", &other)),
    }
}

fn answers(registrar: &Registrar<'_>, bench: &Arc<dyn Bench>) -> mlua::Result<()> {
    let smtp = Arc::clone(bench);
    registrar.add("t.smtp:reply", move |lua, args| {
        smtp.script(smtp_reply(lua, args)?).map_err(raised)
    })?;
    let lost = Arc::clone(bench);
    registrar.add("t.smtp:lose", move |lua, mut args| {
        let options = args.options("options")?;
        args.end()?;
        let options = match options {
            Some(table) => table,
            None => lua.create_table()?,
        };
        let fields = Fields::new(&options, "", &["times", "only_for"])?;
        let scripted = Scripted::Lost {
            times: times(&fields)?,
            only_for: fields.text("only_for")?,
        };
        lost.script(scripted).map_err(raised)
    })?;
    let oauth = Arc::clone(bench);
    registrar.add("t.oauth:reply", move |_, mut args| {
        let table = args.table("answer")?;
        args.end()?;
        oauth.script(oauth_reply(&table)?).map_err(raised)
    })?;
    let http = Arc::clone(bench);
    registrar.add("t.http:reply", move |lua, mut args| {
        let table = args.table("answer")?;
        args.end()?;
        http.script(http_reply(lua, &table)?).map_err(raised)
    })?;
    let process = Arc::clone(bench);
    registrar.add("t.process:reply", move |_, mut args| {
        let table = args.table("answer")?;
        args.end()?;
        process.script(process_reply(&table)?).map_err(raised)
    })?;
    let env = Arc::clone(bench);
    registrar.add("t:env", move |_, mut args| {
        let table = args.table("variables")?;
        args.end()?;
        for pair in table.pairs::<String, String>() {
            let (name, value) = pair?;
            env.set_env(name, value);
        }
        Ok(())
    })?;
    let secret = Arc::clone(bench);
    registrar.add("t:secret", move |_, mut args| {
        let (name, value) = (args.text("name")?, args.text("value")?);
        args.end()?;
        secret.set_secret(name, value);
        Ok(())
    })
}

fn smtp_reply(lua: &Lua, mut args: Args) -> Result<Scripted, Fault> {
    let code = match args.next() {
        Value::Integer(code @ 200..=599) => code,
        other => return Err(args.wrong("code", "a reply code from 200 to 599", &other)),
    };
    // An enhanced status may be left out, and so may the text.
    let mut words = vec![code.to_string()];
    let mut options = None;
    while args.left() > 0 {
        match args.next() {
            Value::String(text) if words.len() < 3 => words.push(text.to_string_lossy()),
            Value::Table(table) if args.left() == 0 => options = Some(table),
            Value::Nil => {}
            other => return Err(args.wrong("reply", "text, or a table at the end", &other)),
        }
    }
    let options = match options {
        Some(table) => table,
        None => lua.create_table()?,
    };
    let fields = Fields::new(&options, "", &["at", "times", "only_for"])?;
    let at = match fields.text("at")?.as_deref() {
        Some("connect") => "connect",
        Some("auth") => "auth",
        Some("mail") => "mail",
        Some("rcpt") => "rcpt",
        Some("data") => "data",
        Some(other) => {
            let near = suggestion(other, ["connect", "auth", "mail", "rcpt", "data"]);
            return Err(Fault::Misuse(format!(
                "field 'at' is one of connect, auth, mail, rcpt, data{near}"
            )));
        }
        // RFC 4954 §6: these answer AUTH.
        None if matches!(code, 432 | 454 | 534 | 535 | 538)
            && words
                .get(1)
                .is_some_and(|status| status.starts_with("5.7") || status.starts_with("4.7")) =>
        {
            "auth"
        }
        None => "data",
    };
    Ok(Scripted::Smtp {
        at,
        reply: words.join(" "),
        times: times(&fields)?,
        only_for: fields.text("only_for")?,
    })
}

fn oauth_reply(table: &Table) -> Result<Scripted, Fault> {
    let known = ["error", "description", "status", "retry_after", "times"];
    let fields = Fields::new(table, "", &known)?;
    let error = fields.text("error")?;
    let usual = if error.is_some() { 400 } else { 503 };
    let mut body = serde_json::Map::new();
    body.extend(error.map(|error| ("error".to_owned(), error.into())));
    let description = fields.text("description")?;
    body.extend(description.map(|text| ("error_description".to_owned(), text.into())));
    Ok(Scripted::Oauth {
        status: whole(&fields, "status")?.unwrap_or(usual),
        body: body.into(),
        retry_after: whole(&fields, "retry_after")?,
        times: times(&fields)?,
    })
}

fn http_reply(lua: &Lua, table: &Table) -> Result<Scripted, Fault> {
    let known = [
        "url", "method", "status", "headers", "json", "body", "fails", "times",
    ];
    let fields = Fields::new(table, "", &known)?;
    let mut headers = Vec::new();
    match fields.value("headers")? {
        Value::Nil => {}
        Value::Table(table) => {
            for pair in table.pairs::<String, String>() {
                let (name, value) = pair?;
                headers.push((name.to_ascii_lowercase(), value));
            }
        }
        other => return Err(fields.wrong("headers", "a table", &other)),
    }
    let json = fields.value("json")?;
    let body = if json.is_nil() {
        fields.octets("body")?.unwrap_or_default()
    } else {
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        json::from_lua(lua, &json, Secrets::Refused)?
            .to_string()
            .into_bytes()
    };
    let times = match fields.value("times")? {
        // A webhook takes as many as come.
        Value::Nil => None,
        _ => times(&fields)?,
    };
    Ok(Scripted::Http {
        url: fields.text("url")?,
        method: fields
            .text("method")?
            .map(|method| method.to_ascii_uppercase()),
        status: whole(&fields, "status")?.unwrap_or(200),
        headers,
        body,
        fails: fields.text("fails")?,
        times,
    })
}

fn process_reply(table: &Table) -> Result<Scripted, Fault> {
    let fields = Fields::new(
        table,
        "",
        &["program", "status", "stdout", "stderr", "times"],
    )?;
    let Some(program) = fields.text("program")? else {
        return Err(Fault::misuse(
            "field 'program' is missing: the path that pr.run is given",
        ));
    };
    let times = match fields.value("times")? {
        Value::Nil => None,
        _ => times(&fields)?,
    };
    Ok(Scripted::Process {
        program,
        status: whole(&fields, "status")?.unwrap_or(0),
        stdout: fields.octets("stdout")?.unwrap_or_default(),
        stderr: fields.octets("stderr")?.unwrap_or_default(),
        times,
    })
}

fn looks(registrar: &Registrar<'_>, bench: &Arc<dyn Bench>) -> mlua::Result<()> {
    type Look = fn(&dyn Bench) -> serde_json::Value;
    let looks: [(&'static str, Look); 4] = [
        ("t.outbox", |bench| bench.outbox()),
        ("t.events", |bench| bench.events()),
        ("t.http.requests", |bench| bench.requests()),
        ("t.process.runs", |bench| bench.runs()),
    ];
    for (name, look) in looks {
        let bench = Arc::clone(bench);
        registrar.add(name, move |lua, _| Ok(json::to_lua(lua, &look(&*bench))?))?;
    }
    let log = Arc::clone(bench);
    registrar.add("t.log", move |_, _| Ok(log.log()))
}

fn files(registrar: &Registrar<'_>, bench: &Arc<dyn Bench>) -> mlua::Result<()> {
    let dir = Arc::clone(bench);
    registrar.add("t.fs.dir", move |_, _| {
        Ok(dir.directory().display().to_string())
    })?;
    let writer = Arc::clone(bench);
    registrar.add("t.fs:write", move |_, mut args| {
        let path = inside(&*writer, &mut args)?;
        let content = args.octets("content")?;
        args.end()?;
        let written = std::fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| std::fs::write(&path, &*content.as_bytes()));
        written.map_err(|error| io(&path, &error))?;
        Ok(path.display().to_string())
    })?;
    let reader = Arc::clone(bench);
    registrar.add("t.fs:read", move |lua, mut args| {
        let path = inside(&*reader, &mut args)?;
        args.end()?;
        let octets = std::fs::read(&path).map_err(|error| io(&path, &error))?;
        Ok(lua.create_string(octets)?)
    })
}

/// A file of the test's directory.
fn inside(bench: &dyn Bench, args: &mut Args) -> Result<PathBuf, Fault> {
    let name = args.text("name")?;
    let plain = |part| matches!(part, std::path::Component::Normal(_));
    if name.is_empty() || !PathBuf::from(&name).components().all(plain) {
        return Err(Fault::misuse(
            "the name is relative to t.fs.dir, without '..'",
        ));
    }
    Ok(bench.directory().join(name))
}

fn io(path: &std::path::Path, error: &std::io::Error) -> Fault {
    raised(Failure::new(
        "file.failed",
        format!("{}: {error}", path.display()),
    ))
}
