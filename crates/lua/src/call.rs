//! What an API function is: its name, its checked arguments, its answer.
//!
//! Every function registered here has a descriptor in [`postrider_lua_api`]; the prelude raises its
//! faults as plain Lua errors.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};
use tokio::task::JoinHandle;

use crate::fault::{self, Fault};
use crate::json;
use crate::meter::{Counted, Meter, Tick};
use crate::{Failure, suggest};

/// Makes API functions for one state.
pub(crate) struct Registrar<'a> {
    pub(crate) lua: &'a Lua,
    pub(crate) meter: &'a Arc<Meter>,
    /// By name (`json.encode`, `account:send`): what answers at once.
    pub(crate) ready: Table,
    /// By name: what waits.
    pub(crate) waiting: Table,
}

/// Work on another thread, which is given up with this.
struct Elsewhere(JoinHandle<Result<Reply, Fault>>);

impl Future for Elsewhere {
    type Output = Result<Reply, Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|ended| {
            ended.unwrap_or_else(|_| {
                let message = "the operation broke off inside the host";
                Err(Fault::failed(Failure::new("internal", message)))
            })
        })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a function that waited answers.
pub(crate) enum Reply {
    /// JSON, whose nulls are absent fields.
    Json(serde_json::Value),
    /// The same, and why it is not all that was asked for: `value, err`.
    Partly(serde_json::Value, Box<Failure>),
    /// Anything else, made when Lua is at hand again.
    Made(Make),
}

/// Makes values once Lua is at hand.
type Make = Box<dyn FnOnce(&Lua) -> mlua::Result<MultiValue> + Send>;

impl Reply {
    /// These values.
    pub(crate) fn value(values: impl IntoLuaMulti + Send + 'static) -> Self {
        Self::made(|_| Ok(values))
    }

    /// What `make` makes.
    pub(crate) fn made<R: IntoLuaMulti>(
        make: impl FnOnce(&Lua) -> mlua::Result<R> + Send + 'static,
    ) -> Self {
        Self::Made(Box::new(move |lua| make(lua)?.into_lua_multi(lua)))
    }
}

/// Nothing.
impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::value(())
    }
}

impl From<serde_json::Value> for Reply {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(value)
    }
}

/// What a function that waits does, with nothing of the Lua state in it.
pub(crate) type Work = BoxFuture<'static, Result<Reply, Fault>>;

impl Registrar<'_> {
    /// Adds a function that answers at once.
    pub(crate) fn add<F, R>(&self, name: &'static str, function: F) -> mlua::Result<()>
    where
        F: Fn(&Lua, Args) -> Result<R, Fault> + Send + 'static,
        R: IntoLuaMulti,
    {
        let meter = Arc::clone(self.meter);
        let function = self.lua.create_function(move |lua, values: MultiValue| {
            if is_stopped(lua, &meter) {
                return Ok(MultiValue::new());
            }
            let answer = function(lua, Args::new(name, values))
                .and_then(|answer| Ok(answer.into_lua_multi(lua)?));
            outcome(lua, name, answer, || fault::here(lua))
        })?;
        self.ready.raw_set(name, function)
    }

    /// Adds a function that waits. It reads its arguments at once and answers later. What it does
    /// is done on the host's threads: a script that holds its own holds up no connection or lock
    /// that others wait for. Where there is much in its arguments it first waits for room.
    pub(crate) fn add_waiting<F>(&self, name: &'static str, function: F) -> mlua::Result<()>
    where
        F: Fn(&Lua, Args) -> Result<Work, Fault> + Send + Sync + 'static,
    {
        let (meter, function) = (Arc::clone(self.meter), Arc::new(function));
        self.add_waiting_here(name, move |lua, args| {
            let room = meter.room().and_then(|room| room.take(args.values.iter()));
            let Some(room) = room else {
                return Ok(Elsewhere(tokio::spawn(function(lua, args)?)).boxed());
            };
            let (lua, function) = (lua.clone(), Arc::clone(&function));
            Ok(async move {
                let taken = room.await;
                let work = function(&lua, args)?;
                let work = async move {
                    let _taken = taken;
                    work.await
                };
                Elsewhere(tokio::spawn(work)).await
            }
            .boxed())
        })
    }

    /// The same for what runs Lua itself, or is not worth the way.
    pub(crate) fn add_waiting_here<F>(&self, name: &'static str, function: F) -> mlua::Result<()>
    where
        F: Fn(&Lua, Args) -> Result<Work, Fault> + Send + 'static,
    {
        let meter = Arc::clone(self.meter);
        let function = self
            .lua
            .create_async_function(move |lua, values: MultiValue| {
                let at = fault::here(&lua);
                let waited = match (meter.current(), function(&lua, Args::new(name, values))) {
                    (Some(budget), Ok(work)) => {
                        budget.saw(at.as_deref());
                        Counted::waiting(&meter, &budget, budget.wait(work)).boxed()
                    }
                    (None, _) => ready(Err(Fault::misuse("no call is under way"))).boxed(),
                    (_, Err(fault)) => ready(Err(fault)).boxed(),
                };
                waited.map(move |answer| Ok(Waited { name, at, answer }))
            })?;
        self.waiting.raw_set(name, function)
    }
}

/// Many short calls must not outrun the hook, which counts instructions.
pub(crate) fn is_stopped(lua: &Lua, meter: &Meter) -> bool {
    meter.tick(|| fault::here(lua)) == Tick::Stop
}

/// Refuses what is to be known before anything of the script is live.
pub(crate) fn only_while_loading(meter: &Meter, instead: &str) -> Result<(), Fault> {
    if meter.current().is_some_and(|budget| budget.is_main()) {
        return Ok(());
    }
    Err(Fault::Misuse(format!(
        "only while the script loads, from its own top level; {instead}"
    )))
}

/// The end of a wait; only now is Lua at hand to make values.
struct Waited {
    name: &'static str,
    at: Option<String>,
    answer: Result<Reply, Fault>,
}

impl IntoLuaMulti for Waited {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        let answer = self.answer.and_then(|reply| {
            let json = |value| json::to_lua(lua, value);
            Ok(match reply {
                Reply::Json(value) => MultiValue::from_iter([json(&value)?]),
                Reply::Partly(value, failure) => {
                    let error = fault::error_table(lua, &failure, self.at.as_deref())?;
                    MultiValue::from_iter([json(&value)?, Value::Table(error)])
                }
                Reply::Made(make) => make(lua)?,
            })
        });
        outcome(lua, self.name, answer, || self.at)
    }
}

/// `true, …` to return, or `false, error` to raise; nothing at all stops the script.
fn outcome(
    lua: &Lua,
    name: &str,
    answer: Result<MultiValue, Fault>,
    at: impl FnOnce() -> Option<String>,
) -> mlua::Result<MultiValue> {
    match answer {
        Ok(mut values) => {
            values.push_front(Value::Boolean(true));
            Ok(values)
        }
        Err(Fault::Misuse(message)) => {
            let text = match at() {
                Some(at) => format!("{at}: {name}: {message}"),
                None => format!("{name}: {message}"),
            };
            (false, text).into_lua_multi(lua)
        }
        Err(Fault::Failed(failure)) => {
            let table = fault::error_table(lua, &failure, at().as_deref())?;
            (true, Value::Nil, table).into_lua_multi(lua)
        }
        Err(Fault::Raised(failure)) => {
            let table = fault::error_table(lua, &failure, at().as_deref())?;
            (false, table).into_lua_multi(lua)
        }
        Err(Fault::Rethrown(value)) => (false, value).into_lua_multi(lua),
        Err(Fault::Lua(error)) => Err(error),
    }
}

/// The arguments of one call.
pub(crate) struct Args {
    name: &'static str,
    values: MultiValue,
    taken: usize,
}

impl Args {
    fn new(name: &'static str, values: MultiValue) -> Self {
        Self {
            name,
            values,
            taken: 0,
        }
    }

    /// The next argument, or nil.
    pub(crate) fn next(&mut self) -> Value {
        self.taken += 1;
        self.values.pop_front().unwrap_or_default()
    }

    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        self.values.len()
    }

    /// Refuses more arguments than were taken.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        if self.values.is_empty() {
            return Ok(());
        }
        let given = self.taken + self.values.len();
        Err(Fault::Misuse(format!(
            "takes {}, got {given}",
            counted(self.taken)
        )))
    }

    /// The next argument as text.
    pub(crate) fn text(&mut self, what: &str) -> Result<String, Fault> {
        let value = self.next();
        match &value {
            Value::String(text) => match text.to_str() {
                Ok(text) => Ok(text.to_owned()),
                Err(_) => Err(Fault::Misuse(format!("{what} is not UTF-8 text"))),
            },
            other => Err(self.wrong(what, "a string", other)),
        }
    }

    /// The next argument as octets.
    pub(crate) fn octets(&mut self, what: &str) -> Result<LuaString, Fault> {
        match self.next() {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(what, "a string", &other)),
        }
    }

    /// The next argument as a table.
    pub(crate) fn table(&mut self, what: &str) -> Result<Table, Fault> {
        match self.next() {
            Value::Table(table) => Ok(table),
            other => Err(self.wrong(what, "a table", &other)),
        }
    }

    /// The next argument as a table, which may be absent.
    pub(crate) fn options(&mut self, what: &str) -> Result<Option<Table>, Fault> {
        match self.next() {
            Value::Nil => Ok(None),
            Value::Table(table) => Ok(Some(table)),
            other => Err(self.wrong(what, "a table", &other)),
        }
    }

    /// The next argument as a number.
    pub(crate) fn number(&mut self, what: &str) -> Result<f64, Fault> {
        let value = self.next();
        number(&value).ok_or_else(|| self.wrong(what, "a number", &value))
    }

    /// The handle a method was called on.
    pub(crate) fn this<T: Clone + 'static>(&mut self) -> Result<T, Fault> {
        let value = self.next();
        if let Value::UserData(this) = &value
            && let Ok(this) = this.borrow::<T>()
        {
            return Ok(this.clone());
        }
        let (_, method) = self.name.split_once(':').unwrap_or(("", self.name));
        Err(Fault::Misuse(format!(
            "call it with a colon, as in `handle:{method}(…)`"
        )))
    }

    pub(crate) fn wrong(&self, what: &str, wanted: &str, got: &Value) -> Fault {
        Fault::Misuse(format!(
            "argument {} ({what}) must be {wanted}, got {}",
            self.taken,
            kind(got)
        ))
    }
}

fn counted(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        more => format!("{more} arguments"),
    }
}

/// A number, of either kind.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        #[allow(clippy::cast_precision_loss, reason = "as Lua itself converts")]
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// What kind of value this is, in Lua's words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) | Value::Other(_) => {
            "userdata"
        }
        other => other.type_name(),
    }
}

/// `, did you mean "subject"?` where one of `known` is near.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggest::nearest(wrong, known)
        .map_or_else(String::new, |name| format!(" (did you mean '{name}'?)"))
}

/// A table with named fields, each of which must be known.
pub(crate) struct Fields<'a> {
    table: &'a Table,
    /// What a field is called in messages: `attach[2].`.
    prefix: String,
}

impl<'a> Fields<'a> {
    /// Checks every key of `table` against `known`.
    pub(crate) fn new(
        table: &'a Table,
        prefix: impl Into<String>,
        known: &[&'static str],
    ) -> Result<Self, Fault> {
        let prefix = prefix.into();
        for pair in table.pairs::<Value, Value>() {
            let (key, _) = pair?;
            let Value::String(key) = &key else {
                let kind = kind(&key);
                return Err(Fault::Misuse(format!(
                    "{prefix}{{…}} has named fields, got a {kind} key"
                )));
            };
            let key = key.to_string_lossy();
            if !known.contains(&key.as_str()) {
                let suggestion = suggestion(&key, known.iter().copied());
                return Err(Fault::Misuse(format!(
                    "unknown field '{prefix}{key}'{suggestion}"
                )));
            }
        }
        Ok(Self { table, prefix })
    }

    /// A table whose keys are somebody else's business.
    pub(crate) fn unchecked(table: &'a Table, prefix: impl Into<String>) -> Self {
        Self {
            table,
            prefix: prefix.into(),
        }
    }

    pub(crate) fn value(&self, key: &str) -> Result<Value, Fault> {
        Ok(self.table.raw_get(key)?)
    }

    pub(crate) fn wrong(&self, key: &str, wanted: &str, got: &Value) -> Fault {
        let kind = kind(got);
        Fault::Misuse(format!(
            "field '{}{key}' must be {wanted}, got a {kind}",
            self.prefix
        ))
    }

    /// Text, or nothing.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, Fault> {
        match self.value(key)? {
            Value::Nil => Ok(None),
            Value::String(text) => self.utf8(key, &text).map(Some),
            other => Err(self.wrong(key, "a string", &other)),
        }
    }

    /// Yes or no; no where it is absent.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Fault> {
        self.flag_or(key, false)
    }

    /// Yes or no; `absent` where it is absent.
    pub(crate) fn flag_or(&self, key: &str, absent: bool) -> Result<bool, Fault> {
        match self.value(key)? {
            Value::Nil => Ok(absent),
            Value::Boolean(flag) => Ok(flag),
            other => Err(self.wrong(key, "true or false", &other)),
        }
    }

    /// A number up to `most`, or nothing.
    pub(crate) fn count(&self, key: &str, most: usize) -> Result<Option<usize>, Fault> {
        let value = self.value(key)?;
        if value.is_nil() {
            return Ok(None);
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "checked to be in range, far below 53 bits"
        )]
        match number(&value) {
            Some(count) if (0.0..=most as f64).contains(&count) => Ok(Some(count as usize)),
            _ => Err(Fault::Misuse(format!(
                "field '{}{key}' must be a number up to {most}",
                self.prefix
            ))),
        }
    }

    /// The named values of `table`, which `key` holds, sorted by name.
    pub(crate) fn named(&self, key: &str, table: &Table) -> Result<Vec<(String, Value)>, Fault> {
        let mut values = Vec::new();
        for pair in table.pairs::<Value, Value>() {
            let (name, value) = pair?;
            let Value::String(name) = name else {
                return Err(Fault::Misuse(format!("field '{key}' maps names to values")));
            };
            values.push((self.utf8(&format!("{key}.(name)"), &name)?, value));
        }
        values.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(values)
    }

    /// Octets, or nothing.
    pub(crate) fn octets(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        match self.value(key)? {
            Value::Nil => Ok(None),
            Value::String(text) => Ok(Some(text.as_bytes().to_vec())),
            other => Err(self.wrong(key, "a string", &other)),
        }
    }

    /// A string, or a list of them.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, Fault> {
        match self.value(key)? {
            Value::Nil => Ok(Vec::new()),
            Value::String(text) => Ok(vec![self.utf8(key, &text)?]),
            Value::Table(list) => self.list(key, &list, |at, value| match value {
                Value::String(text) => self.utf8(at, &text),
                other => Err(self.wrong(at, "a string", &other)),
            }),
            other => Err(self.wrong(key, "a string or a list of strings", &other)),
        }
    }

    /// The items of a list, each with its name in messages.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        list: &Table,
        item: impl Fn(&str, Value) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let length = list.raw_len();
        let mut count = 0;
        for pair in list.pairs::<Value, Value>() {
            pair?;
            count += 1;
        }
        if count != length {
            return Err(Fault::Misuse(format!(
                "field '{}{key}' must be a list without holes or named fields",
                self.prefix
            )));
        }
        (1..=length)
            .map(|index| item(&format!("{key}[{index}]"), list.raw_get(index)?))
            .collect()
    }

    /// `text`, which `key` holds, as UTF-8.
    pub(crate) fn utf8(&self, key: &str, text: &LuaString) -> Result<String, Fault> {
        match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Fault::Misuse(format!(
                "field '{}{key}' is not UTF-8 text",
                self.prefix
            ))),
        }
    }
}
