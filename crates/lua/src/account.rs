//! `pr.account`, `pr.accounts`, and the handle they answer.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use mlua::{Function, MetaMethod, UserData, UserDataFields, UserDataMethods, Value};
use secrecy::ExposeSecret as _;

use crate::Failure;
use crate::backend::{AccountHandle, Backend, SecretRotation, SendRequest, Sent, Token};
use crate::call::{Fields, Registrar, Reply};
use crate::fault::Fault;
use crate::json::{self, Secrets};
use crate::message;
use crate::meter::Kind;
use crate::time;
use postrider_lua_api as api;

/// Where the prelude keeps what a handle's fields are.
pub(crate) const INDEX: &str = "postrider.index.account";

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

/// Registers `pr.account`, `pr.accounts` and the methods of a handle.
pub(crate) fn register(
    registrar: &Registrar<'_>,
    backend: &Arc<dyn Backend>,
    script: &str,
) -> mlua::Result<()> {
    let known = Arc::clone(backend);
    registrar.add("accounts", move |_, args| {
        args.end()?;
        let configured = |name| {
            let backend = Arc::clone(&known);
            Account(Arc::new(Configured { name, backend }))
        };
        let accounts: Vec<Account> = known.account_names().into_iter().map(configured).collect();
        Ok(accounts)
    })?;
    register_renewal(registrar, backend)?;
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
            let account: Result<Arc<dyn AccountHandle>, Failure> = match described {
                serde_json::Value::String(name) => {
                    let account = backend.account_from_config(&name).await;
                    account.map(|_| Arc::new(Configured { name, backend }) as _)
                }
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
    let meter = Arc::clone(registrar.meter);
    let script = script.to_owned();
    registrar.add_waiting("account:send", move |_, mut args| {
        let account: Account = args.this()?;
        let table = args.table("message")?;
        args.end()?;
        let mut message = message::parse(&table)?;
        message.script = Some(script.clone());
        if let Some(call) = meter.current() {
            message.from_hook = call.kind == Kind::Hook;
            message.chain = call.chain;
        }
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
    })?;
    registrar.add_waiting("account:status", |_, mut args| {
        let account: Account = args.this()?;
        args.end()?;
        Ok(Box::pin(async move {
            let status = account.0.status().await.map_err(Fault::failed)?;
            Ok(Reply::Json(status))
        }))
    })?;
    registrar.add_waiting("account:rotate", |_, mut args| {
        let account: Account = args.this()?;
        let options = args.options("options")?;
        args.end()?;
        let force = match &options {
            Some(options) => {
                Fields::new(options, "", &api::names(api::ROTATE_FIELDS))?.flag("force")?
            }
            None => false,
        };
        Ok(Box::pin(async move {
            let rotation = account.0.rotate(force).await.map_err(Fault::failed)?;
            Ok(Reply::Json(rotation))
        }))
    })?;
    registrar.add_waiting("account:token", |_, mut args| {
        let account: Account = args.this()?;
        args.end()?;
        Ok(Box::pin(async move {
            let token = account.0.token().await.map_err(Fault::failed)?;
            Ok(Reply::made(move |lua| {
                let secret = lua.create_string(token.secret.expose_secret())?;
                Ok((secret, json::to_lua(lua, &token.details)?))
            }))
        }))
    })
}

/// Registers the replacement of an account's own secret.
fn register_renewal(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let backend = Arc::clone(backend);
    registrar.add_waiting("account:rotate_client_secret", move |_, mut args| {
        let account: Account = args.this()?;
        let options = args.options("options")?;
        args.end()?;
        let rotation = match &options {
            Some(options) => {
                let known = api::names(api::ROTATE_CLIENT_SECRET_FIELDS);
                let fields = Fields::new(options, "", &known)?;
                SecretRotation {
                    lifetime: time::span(&fields, "lifetime")?,
                    overlap: time::span(&fields, "overlap")?,
                    finish: fields.flag("finish")?,
                }
            }
            None => SecretRotation::default(),
        };
        let backend = Arc::clone(&backend);
        Ok(Box::pin(async move {
            let name = account.0.name();
            let renewed = backend.rotate_client_secret(name, rotation).await;
            Ok(Reply::Json(renewed.map_err(Fault::failed)?))
        }))
    })
}

/// An account of the configuration file, set up when it is first used: what is wrong with one
/// of them is nothing to the others. It is looked up each time, for a renewal of its secret sets
/// it up anew.
struct Configured {
    name: String,
    backend: Arc<dyn Backend>,
}

impl Configured {
    async fn account(&self) -> Result<Arc<dyn AccountHandle>, Failure> {
        self.backend.account_from_config(&self.name).await
    }
}

impl AccountHandle for Configured {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: SendRequest) -> BoxFuture<'_, Result<Sent, Failure>> {
        async move { self.account().await?.send(message).await }.boxed()
    }

    fn check(&self) -> BoxFuture<'_, serde_json::Value> {
        self.backend.check(&self.name)
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Failure>> {
        async move { self.account().await?.token().await }.boxed()
    }

    fn rotate(&self, force: bool) -> BoxFuture<'_, Result<serde_json::Value, Failure>> {
        async move { self.account().await?.rotate(force).await }.boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<serde_json::Value, Failure>> {
        async move { self.account().await?.status().await }.boxed()
    }
}
