//! `pr.secret`: where a secret is kept, never the secret.

use std::fmt;

use mlua::Value;
use serde_json::json;

use crate::call::{Args, Fields, Registrar};
use crate::fault::Fault;

/// A place a secret is read from, when an account needs it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum SecretRef {
    Env(String),
    File(String),
    Command(Vec<String>),
    Credential(String),
    Vault(String),
}

impl SecretRef {
    /// As the configuration file writes it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Env(name) => json!({ "env": name }),
            Self::File(path) => json!({ "file": path }),
            Self::Command(command) => json!({ "command": command }),
            Self::Credential(name) => json!({ "credential": name }),
            Self::Vault(name) => json!({ "vault": name }),
        }
    }
}

impl From<SecretRef> for postrider_config::SecretRef {
    fn from(reference: SecretRef) -> Self {
        match reference {
            SecretRef::Env(name) => Self::Env(name),
            SecretRef::File(path) => Self::File(path.into()),
            SecretRef::Command(command) => Self::Command(command),
            SecretRef::Credential(name) => Self::Credential(name),
            SecretRef::Vault(name) => Self::Vault(name),
        }
    }
}

/// Says where it is kept; of a command only the program, since its arguments may be telling.
impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "secret (env {name})"),
            Self::File(path) => write!(f, "secret (file {path})"),
            Self::Command(command) => {
                write!(
                    f,
                    "secret (command {})",
                    command.first().map_or("", String::as_str)
                )
            }
            Self::Credential(name) => write!(f, "secret (credential {name})"),
            Self::Vault(name) => write!(f, "secret (vault {name})"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl mlua::UserData for SecretRef {
    fn add_fields<F: mlua::UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(mlua::MetaMethod::Type, "secret");
    }

    fn add_methods<M: mlua::UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(mlua::MetaMethod::ToString, |_, this, ()| {
            Ok(this.to_string())
        });
    }
}

/// Registers `pr.secret`.
pub(crate) fn register(registrar: &Registrar<'_>) -> mlua::Result<()> {
    registrar.add("secret.env", |_, args| {
        named(args, "name").map(SecretRef::Env)
    })?;
    registrar.add("secret.file", |_, args| {
        named(args, "path").map(SecretRef::File)
    })?;
    registrar.add("secret.credential", |_, args| {
        named(args, "name").map(SecretRef::Credential)
    })?;
    registrar.add("secret.vault", |_, args| {
        named(args, "name").map(SecretRef::Vault)
    })?;
    registrar.add("secret.command", |_, args| {
        command(args).map(SecretRef::Command)
    })
}

fn named(mut args: Args, what: &str) -> Result<String, Fault> {
    let name = args.text(what)?;
    args.end()?;
    if name.is_empty() {
        return Err(Fault::Misuse(format!("the {what} is empty")));
    }
    Ok(name)
}

/// A program and its arguments, as a list: no shell takes them apart.
fn command(mut args: Args) -> Result<Vec<String>, Fault> {
    let list = match args.next() {
        Value::Table(list) => list,
        other => return Err(args.wrong("command", "a list such as {\"pass\", \"mail\"}", &other)),
    };
    args.end()?;
    let fields = Fields::unchecked(&list, "");
    let words = fields.list("command", &list, |at, value| match value {
        Value::String(word) => Ok(word.to_string_lossy()),
        other => Err(fields.wrong(at, "a string", &other)),
    })?;
    if words.is_empty() {
        return Err(Fault::misuse("the command is empty"));
    }
    Ok(words)
}
