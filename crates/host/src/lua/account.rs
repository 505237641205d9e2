//! `pr.account` and the handle it answers.

use std::sync::Arc;

use mlua::{Function, MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

use super::backend::{AccountHandle, Backend};
use super::call::{Registrar, Reply};
use super::fault::Fault;
use super::json::{self, Secrets};
use super::message;

/// Where the prelude keeps what a handle's fields are.
pub(crate) const INDEX: &str = "postrider.account.index";

/// An account in a script's hands.
#[derive(Clone)]
struct Account(Arc<dyn AccountHandle>);

impl UserData for Account {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "account");
        fields.add_meta_field_with("__index", |lua| lua.named_registry_value::<Function>(INDEX));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            Ok(format!("account \"{}\"", this.0.name()))
        });
    }
}

/// Registers `pr.account` and the methods of a handle.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let backend = Arc::clone(backend);
    registrar.add_waiting("account", move |lua, mut args| {
        let backend = Arc::clone(&backend);
        let described = match args.next() {
            Value::String(name) => serde_json::Value::String(name.to_string_lossy()),
            table @ Value::Table(_) => json::from_lua(lua, &table, Secrets::Referenced)?,
            other => return Err(args.wrong("account", "a name or a table", &other)),
        };
        args.end()?;
        Ok(Box::pin(async move {
            let account = match described {
                serde_json::Value::String(name) => backend.account_from_config(&name).await,
                table => backend.account_from_table(table).await,
            };
            let account = account.map_err(|failure| Fault::Raised(Box::new(failure)))?;
            Ok(Reply::value(Account(account)))
        }))
    })?;

    registrar.add("account.name", |_, mut args| {
        let account: Account = args.this()?;
        Ok(account.0.name().to_owned())
    })?;
    registrar.add_waiting("account:send", |_, mut args| {
        let account: Account = args.this()?;
        let table = args.table("message")?;
        args.end()?;
        let message = message::parse(&table)?;
        Ok(Box::pin(async move {
            let sent = account.0.send(message).await.map_err(Fault::failed)?;
            Ok(match sent.refused {
                None => Reply::Json(sent.receipt),
                Some(refused) => Reply::Partly(sent.receipt, Box::new(refused)),
            })
        }))
    })?;
    registrar.add_waiting("account:check", |_, mut args| {
        let account: Account = args.this()?;
        args.end()?;
        Ok(Box::pin(
            async move { Ok(Reply::Json(account.0.check().await)) },
        ))
    })
}
