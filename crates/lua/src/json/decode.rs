//! JSON text straight into Lua values: nothing stands between the two, so that the limit on
//! the script's memory holds for whatever a text unfolds to.

use std::cell::{Cell, RefCell};
use std::fmt;

use mlua::{Lua, Table, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::call::is_stopped;
use crate::fault::Fault;
use crate::meter::Meter;

/// How many values are made between two looks at the clock: a fraction of a millisecond.
const VALUES_AT_ONCE: u32 = 1000;

/// Why there is no value.
pub(super) enum Trouble {
    /// The text is no JSON.
    Text(serde_json::Error),
    /// Lua would not, or the call is stopped.
    Lua(Fault),
}

/// What `text` stands for; its nulls are `null`, its lists have the metatable `mark`.
pub(super) fn decode(
    lua: &Lua,
    meter: &Meter,
    text: &[u8],
    (null, mark): (Value, Table),
) -> Result<Value, Trouble> {
    let decoder = Decoder {
        lua,
        meter,
        null,
        mark,
        values: Cell::new(0),
        fault: RefCell::new(None),
    };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let outcome = decoder
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match (decoder.fault.take(), outcome) {
        (Some(fault), _) => Err(Trouble::Lua(fault)),
        (None, outcome) => outcome.map_err(Trouble::Text),
    }
}

struct Decoder<'a> {
    lua: &'a Lua,
    meter: &'a Meter,
    null: Value,
    mark: Table,
    values: Cell<u32>,
    /// What serde could not say.
    fault: RefCell<Option<Fault>>,
}

impl Decoder<'_> {
    fn made<T, E: Error>(&self, made: mlua::Result<T>) -> Result<T, E> {
        made.map_err(|error| self.broken(error.into()))
    }

    fn broken<E: Error>(&self, fault: Fault) -> E {
        self.fault.replace(Some(fault));
        E::custom("it was given up")
    }

    /// Ends a call that used up its time.
    fn count<E: Error>(&self) -> Result<(), E> {
        let values = self.values.get() + 1;
        self.values.set(values % VALUES_AT_ONCE);
        if values == VALUES_AT_ONCE && is_stopped(self.lua, self.meter) {
            return Err(self.broken(Fault::misuse("stopped")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &Decoder<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.count()?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Decoder<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(self.null.clone())
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Boolean(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    #[allow(clippy::cast_precision_loss, reason = "as Lua itself converts")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        let integer = i64::try_from(number).map(Value::Integer);
        Ok(integer.unwrap_or(Value::Number(number as f64)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.made(self.lua.create_string(text).map(Value::String))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let list = self.made(self.lua.create_table())?;
        while let Some(item) = items.next_element_seed(self)? {
            self.made(list.raw_push(item))?;
        }
        self.made(list.set_metatable(Some(self.mark.clone())))?;
        Ok(Value::Table(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let table = self.made(self.lua.create_table())?;
        while let Some(key) = fields.next_key_seed(self)? {
            let field = fields.next_value_seed(self)?;
            self.made(table.raw_set(key, field))?;
        }
        Ok(Value::Table(table))
    }
}
