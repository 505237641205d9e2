//! `string.find` and its kin, over the matcher that counts its steps.

use mlua::{IntoLua as _, Lua, LuaString, MultiValue, Value};

use crate::call::{Args, Registrar};
use crate::fault::Fault;
use crate::pattern::{self, Captured, Match, Progress, Search, Trouble};

/// Registers what the prelude builds the string functions of.
pub(crate) fn register(registrar: &Registrar<'_>) -> mlua::Result<()> {
    registrar.add("string.find", find)?;
    registrar.add("string.match", first_match)?;
    registrar.add("string.gmatch", |lua, args| scan(lua, args, true))?;
    registrar.add("string.gsub", |lua, args| scan(lua, args, false))
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        Self::Misuse(trouble.to_string())
    }
}

/// `string.find(s, pattern, init, plain)`.
fn find(lua: &Lua, mut args: Args) -> Result<MultiValue, Fault> {
    let (text, pattern) = (
        subject(lua, &mut args, "s")?,
        subject(lua, &mut args, "pattern")?,
    );
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let from = start(lua, &mut args, text.len())?;
    let plain = !matches!(args.next(), Value::Nil | Value::Boolean(false));
    if from > text.len() {
        return Ok(MultiValue::from_iter([Value::Nil]));
    }
    if plain || pattern::is_plain(&pattern) {
        return Ok(match pattern::find_plain(&text, &pattern, from)? {
            Progress::Found(at) => {
                MultiValue::from_iter([position(at), position_before(at + pattern.len())])
            }
            Progress::Nowhere => MultiValue::from_iter([Value::Nil]),
            Progress::Onward(at) => onward(at),
        });
    }
    let search = Search {
        from,
        ..Search::default()
    };
    let found = match pattern::search(&text, &pattern, search)? {
        Progress::Found(found) => found,
        Progress::Nowhere => return Ok(MultiValue::from_iter([Value::Nil])),
        Progress::Onward(at) => return Ok(onward(at)),
    };
    let mut values = MultiValue::from_iter([position(found.start), position_before(found.end)]);
    for capture in found.captures {
        values.push_back(captured(lua, &text, capture)?);
    }
    Ok(values)
}

/// `string.match(s, pattern, init)`.
fn first_match(lua: &Lua, mut args: Args) -> Result<MultiValue, Fault> {
    let (text, pattern) = (
        subject(lua, &mut args, "s")?,
        subject(lua, &mut args, "pattern")?,
    );
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let from = start(lua, &mut args, text.len())?;
    let search = Search {
        from,
        ..Search::default()
    };
    match pattern::search(&text, &pattern, search)? {
        Progress::Found(found) => captures(lua, &text, &found),
        Progress::Nowhere => Ok(MultiValue::from_iter([Value::Nil])),
        Progress::Onward(at) => Ok(onward(at)),
    }
}

/// One step of `gmatch` or `gsub`, as `(s, pattern, from, last)`: where the next match begins,
/// where the text after it begins, and its captures. `last` is where the text after the match
/// before it began.
fn scan(lua: &Lua, mut args: Args, literal_caret: bool) -> Result<MultiValue, Fault> {
    let (text, pattern) = (
        subject(lua, &mut args, "s")?,
        subject(lua, &mut args, "pattern")?,
    );
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let from = start(lua, &mut args, text.len())?;
    let last = lua
        .coerce_integer(args.next())?
        .and_then(|last| usize::try_from(last - 1).ok());
    let search = Search {
        from,
        not_ending_at: last,
        literal_caret,
    };
    let found = match pattern::search(&text, &pattern, search)? {
        Progress::Found(found) => found,
        Progress::Nowhere => return Ok(MultiValue::from_iter([Value::Nil])),
        Progress::Onward(at) => return Ok(onward(at)),
    };
    let mut values = captures(lua, &text, &found)?;
    values.push_front(position(found.end));
    values.push_front(position(found.start));
    Ok(values)
}

/// The prelude asks again from there.
fn onward(at: usize) -> MultiValue {
    MultiValue::from_iter([Value::LightUserData(Lua::poll_pending()), position(at)])
}

/// A string, or a number as one.
fn subject(lua: &Lua, args: &mut Args, what: &str) -> Result<LuaString, Fault> {
    match args.next() {
        Value::String(text) => Ok(text),
        value @ (Value::Integer(_) | Value::Number(_)) => lua
            .coerce_string(value)?
            .ok_or_else(|| Fault::misuse("a number has no text")),
        other => Err(args.wrong(what, "a string", &other)),
    }
}

/// The optional `init`: from 1, or from the end where negative.
fn start(lua: &Lua, args: &mut Args, length: usize) -> Result<usize, Fault> {
    let value = args.next();
    if value.is_nil() {
        return Ok(0);
    }
    let Some(init) = lua.coerce_integer(value.clone())? else {
        return Err(args.wrong("init", "an integer", &value));
    };
    let back = usize::try_from(init.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(match init {
        1.. => back - 1,
        0 => 0,
        _ => length.saturating_sub(back),
    })
}

fn captures(lua: &Lua, text: &[u8], found: &Match) -> Result<MultiValue, Fault> {
    if found.captures.is_empty() {
        let whole = Captured::Text(found.start, found.end);
        return Ok(MultiValue::from_iter([captured(lua, text, whole)?]));
    }
    let values = found
        .captures
        .iter()
        .map(|capture| captured(lua, text, *capture));
    Ok(values.collect::<mlua::Result<MultiValue>>()?)
}

fn captured(lua: &Lua, text: &[u8], capture: Captured) -> mlua::Result<Value> {
    match capture {
        Captured::Text(start, end) => lua.create_string(&text[start..end])?.into_lua(lua),
        Captured::Position(at) => Ok(position(at)),
    }
}

/// An offset as Lua counts, from 1.
fn position(at: usize) -> Value {
    Value::Integer(i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1))
}

/// The last position before an offset, as Lua counts.
fn position_before(at: usize) -> Value {
    Value::Integer(i64::try_from(at).unwrap_or(i64::MAX))
}
