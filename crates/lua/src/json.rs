//! Lua values as JSON, and back: `pr.json`.
//!
//! A list is a table with the keys 1 to n, or one marked by `pr.json.array`; an empty table
//! without that mark is an object. Keys are sorted, so that equal tables give equal text.

mod decode;

use std::io;
use std::sync::Arc;

use mlua::{Lua, Table, Value};
use serde_json::{Map, Number};

use crate::Failure;
use crate::call::{Args, Registrar, kind};
use crate::fault::Fault;
use crate::meter::Meter;
use crate::secret::SecretRef;

/// How deep values may nest, either way; `serde_json` has the same limit.
const DEPTH: usize = 127;
/// What one value may become, so that tables which share parts cannot multiply without end.
const VALUES: usize = 1_000_000;
/// The longest JSON text read or written.
const OCTETS: usize = 64 << 20;

const NULL: &str = "postrider.json.null";
const ARRAY_METATABLE: &str = "postrider.json.array";

/// `pr.json.null`.
struct Null;

impl mlua::UserData for Null {
    fn add_fields<F: mlua::UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(mlua::MetaMethod::Type, "null");
    }

    fn add_methods<M: mlua::UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(mlua::MetaMethod::ToString, |_, _, ()| Ok("null"));
    }
}

/// What becomes of a `pr.secret`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// It is refused.
    Refused,
    /// It says only what it is.
    Redacted,
    /// It stands as in the configuration file: `{"env": "NAME"}`.
    Referenced,
}

/// Registers `pr.json`.
pub(crate) fn register(registrar: &Registrar<'_>) -> mlua::Result<()> {
    let lua = registrar.lua;
    lua.set_named_registry_value(NULL, lua.create_userdata(Null)?)?;
    let mark = lua.create_table()?;
    mark.raw_set("__name", ARRAY_METATABLE)?;
    mark.raw_set("__metatable", false)?;
    lua.set_named_registry_value(ARRAY_METATABLE, mark)?;

    registrar.add("json.encode", encode)?;
    registrar.add("json.array", array)?;
    let meter = Arc::clone(registrar.meter);
    registrar.add("json.decode", move |lua, args| decode(lua, &meter, args))
}

/// `pr.json.null` itself.
pub(crate) fn null(lua: &Lua) -> mlua::Result<Value> {
    lua.named_registry_value(NULL)
}

fn encode(lua: &Lua, mut args: Args) -> Result<mlua::LuaString, Fault> {
    let value = args.next();
    args.end()?;
    let value = from_lua(lua, &value, Secrets::Refused)?;
    let mut text = Text(Vec::new());
    serde_json::to_writer(&mut text, &value)
        .map_err(|_| Fault::Misuse(format!("the text would be longer than {OCTETS} octets")))?;
    Ok(lua.create_string(text.0)?)
}

/// A text that does not become longer than it may: a control character takes six octets.
struct Text(Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.0.len() + octets.len() > OCTETS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn array(lua: &Lua, mut args: Args) -> Result<Table, Fault> {
    let table = match args.next() {
        Value::Nil => lua.create_table()?,
        Value::Table(table) => table,
        other => return Err(args.wrong("list", "a table", &other)),
    };
    args.end()?;
    table.set_metatable(Some(lua.named_registry_value(ARRAY_METATABLE)?))?;
    Ok(table)
}

fn decode(lua: &Lua, meter: &Meter, mut args: Args) -> Result<Value, Fault> {
    let text = args.octets("text")?;
    args.end()?;
    let text = text.as_bytes();
    let invalid = |message| Fault::failed(Failure::new("json.invalid", message));
    if text.len() > OCTETS {
        return Err(invalid(format!(
            "the JSON text is longer than {OCTETS} octets"
        )));
    }
    let marks = (null(lua)?, lua.named_registry_value(ARRAY_METATABLE)?);
    decode::decode(lua, meter, &text, marks).map_err(|trouble| match trouble {
        decode::Trouble::Text(error) => invalid(format!("not JSON: {error}")),
        decode::Trouble::Lua(fault) => fault,
    })
}

/// A JSON value in Lua; its nulls are absent fields.
pub(crate) fn to_lua(lua: &Lua, value: &serde_json::Value) -> mlua::Result<Value> {
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::Boolean(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(items) => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for item in items {
                list.raw_push(to_lua(lua, item)?)?;
            }
            list.set_metatable(Some(lua.named_registry_value(ARRAY_METATABLE)?))?;
            Value::Table(list)
        }
        serde_json::Value::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (key, field) in fields {
                table.raw_set(key.as_str(), to_lua(lua, field)?)?;
            }
            Value::Table(table)
        }
    })
}

/// A Lua value as JSON.
pub(crate) fn from_lua(
    lua: &Lua,
    value: &Value,
    secrets: Secrets,
) -> Result<serde_json::Value, Fault> {
    let array_mark: Table = lua.named_registry_value(ARRAY_METATABLE)?;
    let mut encoder = Encoder {
        secrets,
        array_mark,
        values_left: VALUES,
        octets_left: OCTETS,
        path: Vec::new(),
    };
    encoder.value(value)
}

struct Encoder {
    secrets: Secrets,
    array_mark: Table,
    values_left: usize,
    octets_left: usize,
    /// The keys that lead to the value at hand, for messages.
    path: Vec<String>,
}

impl Encoder {
    fn value(&mut self, value: &Value) -> Result<serde_json::Value, Fault> {
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or_else(|| self.refuse(&format!("has more than {VALUES} values")))?;
        Ok(match value {
            Value::Nil => serde_json::Value::Null,
            Value::Boolean(flag) => (*flag).into(),
            Value::Integer(number) => (*number).into(),
            Value::Number(number) => Number::from_f64(*number)
                .ok_or_else(|| self.refuse(&format!("is {number}, which JSON cannot say")))?
                .into(),
            Value::String(text) => self.text(text)?.into(),
            Value::Table(table) => self.table(table)?,
            Value::UserData(data) if data.is::<Null>() => serde_json::Value::Null,
            Value::UserData(data) if data.is::<SecretRef>() => {
                let secret = data.borrow::<SecretRef>()?;
                match self.secrets {
                    Secrets::Refused => return Err(self.refuse("is a secret")),
                    Secrets::Redacted => secret.to_string().into(),
                    Secrets::Referenced => secret.to_json(),
                }
            }
            other => return Err(self.refuse(&format!("is a {}", kind(other)))),
        })
    }

    fn text(&mut self, text: &mlua::LuaString) -> Result<String, Fault> {
        let text = text
            .to_str()
            .map_err(|_| self.refuse("is not UTF-8 text"))?;
        self.octets_left = self
            .octets_left
            .checked_sub(text.len())
            .ok_or_else(|| self.refuse(&format!("has more than {OCTETS} octets of text")))?;
        Ok(text.to_owned())
    }

    fn table(&mut self, table: &Table) -> Result<serde_json::Value, Fault> {
        if self.path.len() >= DEPTH {
            return Err(Fault::Misuse(format!(
                "the value nests deeper than {DEPTH}: does a table contain itself?"
            )));
        }
        let length = table.raw_len();
        let marked = table
            .metatable()
            .is_some_and(|mark| mark == self.array_mark);
        let mut names = Vec::new();
        let mut items = 0;
        for pair in table.pairs::<Value, Value>() {
            match pair? {
                (Value::Integer(_), _) => items += 1,
                (Value::String(key), value) if names.len() < self.values_left => {
                    names.push((self.text(&key)?, value));
                }
                (Value::String(_), _) => {
                    return Err(self.refuse(&format!("has more than {VALUES} values")));
                }
                (other, _) => {
                    let kind = kind(&other);
                    return Err(self.refuse(&format!("has a {kind} as a key")));
                }
            }
        }
        match (names.is_empty(), items) {
            (true, 0) if !marked => Ok(Map::new().into()),
            (true, items) if items == length => self.list(table, length),
            (true, _) => Err(self.refuse("is a list with holes")),
            (false, 0) if !marked => self.object(names),
            (false, _) => Err(self.refuse("has both a list and named fields")),
        }
    }

    fn list(&mut self, table: &Table, length: usize) -> Result<serde_json::Value, Fault> {
        let mut list = Vec::new();
        for index in 1..=length {
            self.path.push(format!("[{index}]"));
            list.push(self.value(&table.raw_get(index)?)?);
            self.path.pop();
        }
        Ok(list.into())
    }

    fn object(&mut self, mut names: Vec<(String, Value)>) -> Result<serde_json::Value, Fault> {
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let mut object = Map::new();
        for (name, value) in names {
            self.path.push(format!(".{name}"));
            object.insert(name, self.value(&value)?);
            self.path.pop();
        }
        Ok(object.into())
    }

    /// `value.a[3] is a function: …`
    fn refuse(&self, why: &str) -> Fault {
        Fault::Misuse(format!("value{} {why}", self.path.concat()))
    }
}
