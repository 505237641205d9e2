//! `pr.log`: a script's lines in the host's log.

use mlua::Value;

use crate::call::{Args, Registrar};
use crate::fault::{self, Fault};
use crate::json::{self, Secrets};

/// Registers `pr.log`.
pub(crate) fn register(registrar: &Registrar<'_>) -> mlua::Result<()> {
    // Each level is a static of its own in `tracing`, so the macro is written four times.
    registrar.add("log.debug", |lua, args| {
        let (at, message, fields) = entry(lua, args)?;
        tracing::debug!(target: "postrider::script", at, fields, "{message}");
        Ok(())
    })?;
    registrar.add("log.info", |lua, args| {
        let (at, message, fields) = entry(lua, args)?;
        tracing::info!(target: "postrider::script", at, fields, "{message}");
        Ok(())
    })?;
    registrar.add("log.warn", |lua, args| {
        let (at, message, fields) = entry(lua, args)?;
        tracing::warn!(target: "postrider::script", at, fields, "{message}");
        Ok(())
    })?;
    registrar.add("log.error", |lua, args| {
        let (at, message, fields) = entry(lua, args)?;
        tracing::error!(target: "postrider::script", at, fields, "{message}");
        Ok(())
    })
}

fn entry(
    lua: &mlua::Lua,
    mut args: Args,
) -> Result<(Option<String>, String, Option<String>), Fault> {
    let message = args.text("message")?;
    let fields = match args.next() {
        Value::Nil => None,
        table @ Value::Table(_) => {
            Some(json::from_lua(lua, &table, Secrets::Redacted)?.to_string())
        }
        other => return Err(args.wrong("fields", "a table", &other)),
    };
    args.end()?;
    Ok((fault::here(lua), message, fields))
}
