//! `pr.config`: the configuration file, read and edited.

use std::sync::Arc;

use mlua::Value;

use crate::backend::Backend;
use crate::call::{Registrar, Reply};
use crate::fault::Fault;
use crate::json::{self, Secrets};

/// Registers `pr.config`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let reader = Arc::clone(backend);
    registrar.add("config.get", move |lua, mut args| {
        let key = args.text("key")?;
        args.end()?;
        match reader.config_get(&key).map_err(Fault::failed)? {
            Some(value) => Ok(json::to_lua(lua, &value)?),
            None => Ok(Value::Nil),
        }
    })?;

    let writer = Arc::clone(backend);
    registrar.add_waiting("config.set", move |lua, mut args| {
        let key = args.text("key")?;
        let value = args.next();
        args.end()?;
        if value.is_nil() {
            return Err(args.wrong("value", "something other than nil", &value));
        }
        let value = json::from_lua(lua, &value, Secrets::Referenced)?;
        let backend = Arc::clone(&writer);
        Ok(Box::pin(async move {
            backend
                .config_set(&key, value)
                .await
                .map_err(Fault::failed)?;
            Ok(Reply::value(true))
        }))
    })
}
