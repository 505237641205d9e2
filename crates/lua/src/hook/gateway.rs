//! `gateway.auth`, `gateway.mail`, `gateway.message`: what scripts have to say about those who
//! submit to a gateway.
//!
//! A hook is asked after the gateway itself has agreed, and lets nobody in whom it would not. Who
//! asks checks once more what it changed: as whom a device sends is not the hook's to say.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use mlua::{Lua, Table, Value};

use super::{Asked, Gate, Objection, Question, header, name};
use crate::backend::{SendRequest, Source};
use crate::call::Fields;
use crate::fault::Fault;
use crate::message;

/// How long a hook may take before anything of a message has come: devices give up after half a
/// minute, and wait for several answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one may take that sees the message: as one of `message.before_send`.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(30);

/// Who is at a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClient {
    /// The gateway's name.
    pub gateway: String,
    /// The name it signed in with.
    pub device: String,
    /// Where it connects from.
    pub address: IpAddr,
}

/// A device whose password was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySignIn {
    /// Who.
    pub by: GatewayClient,
    /// The version of TLS, `TLSv1.3`; none in clear.
    pub tls: Option<String>,
    /// The SASL mechanism, `PLAIN` or `LOGIN`.
    pub mechanism: String,
}

/// What a device announces, before the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayMail {
    /// Who.
    pub by: GatewayClient,
    /// The account it will go through.
    pub account: String,
    /// The envelope's sender; none for `<>`.
    pub sender: Option<String>,
    /// The envelope's recipients, where they are known; a hook cannot change them here.
    pub recipients: Vec<String>,
    /// The line of the script whose hook changed it last; none: it is as the device said.
    pub changed_by: Option<String>,
}

/// A device's message.
#[derive(Clone, Debug)]
pub struct GatewayMessage {
    /// Who.
    pub by: GatewayClient,
    /// The account it will go through; a hook cannot change it here.
    pub account: String,
    /// The message: `raw` in memory, and the envelope in `from` and `to`. A hook may answer a
    /// message of its own instead, without `raw`.
    pub message: SendRequest,
}

/// What a hook can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayPoint {
    /// A sign-in.
    Auth,
    /// An envelope.
    Mail,
    /// A message.
    Message,
}

impl GatewayPoint {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => name::AUTH,
            Self::Mail => name::MAIL,
            Self::Message => name::MESSAGE,
        }
    }
}

/// Looks at what devices submit.
pub trait GatewayHook: Send + Sync {
    /// Whether it would look at all.
    fn wants(&self, point: GatewayPoint) -> bool;

    /// Lets a device in whose password was right.
    ///
    /// # Errors
    /// It must not come in.
    fn auth(&self, sign_in: GatewaySignIn) -> BoxFuture<'_, Result<(), Objection>>;

    /// The envelope as it is to be, changed or not: its sender and its account.
    ///
    /// # Errors
    /// The message must not come.
    fn mail(&self, mail: GatewayMail) -> BoxFuture<'_, Result<GatewayMail, Objection>>;

    /// The message as it is to be queued, changed or not.
    ///
    /// # Errors
    /// It must not be queued.
    fn message(&self, message: GatewayMessage) -> BoxFuture<'_, Result<GatewayMessage, Objection>>;
}

/// All who look, one after the other: each sees what the one before made of it. It holds none of
/// them: who is dropped looks no more.
#[derive(Default)]
pub struct GatewayHooks(Asked<dyn GatewayHook>);

impl GatewayHooks {
    /// One more, after all others, for as long as somebody keeps it.
    pub fn add(&self, hook: &Arc<dyn GatewayHook>) {
        self.0.add(hook);
    }
}

impl GatewayHook for GatewayHooks {
    fn wants(&self, point: GatewayPoint) -> bool {
        self.0.all().iter().any(|hook| hook.wants(point))
    }

    fn auth(&self, sign_in: GatewaySignIn) -> BoxFuture<'_, Result<(), Objection>> {
        let hooks = self.0.all();
        async move {
            for hook in hooks {
                hook.auth(sign_in.clone()).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn mail(&self, mut mail: GatewayMail) -> BoxFuture<'_, Result<GatewayMail, Objection>> {
        let hooks = self.0.all();
        async move {
            for hook in hooks {
                mail = hook.mail(mail).await?;
            }
            Ok(mail)
        }
        .boxed()
    }

    fn message(
        &self,
        mut message: GatewayMessage,
    ) -> BoxFuture<'_, Result<GatewayMessage, Objection>> {
        let hooks = self.0.all();
        async move {
            for hook in hooks {
                message = hook.message(message).await?;
            }
            Ok(message)
        }
        .boxed()
    }
}

impl GatewayHook for Gate {
    fn wants(&self, point: GatewayPoint) -> bool {
        self.has(point.name())
    }

    fn auth(&self, sign_in: GatewaySignIn) -> BoxFuture<'_, Result<(), Objection>> {
        let hooks = self.of(name::AUTH);
        async move {
            for hook in hooks {
                self.ask(&hook, about_sign_in(sign_in.clone())).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn mail(&self, mut mail: GatewayMail) -> BoxFuture<'_, Result<GatewayMail, Objection>> {
        let hooks = self.of(name::MAIL);
        async move {
            for hook in hooks {
                if let Some(changed) = self.ask(&hook, about_mail(mail.clone())).await? {
                    let changed_by = hook.at.clone();
                    mail = GatewayMail {
                        changed_by,
                        ..changed
                    };
                }
            }
            Ok(mail)
        }
        .boxed()
    }

    fn message(
        &self,
        mut message: GatewayMessage,
    ) -> BoxFuture<'_, Result<GatewayMessage, Objection>> {
        let hooks = self.of(name::MESSAGE);
        async move {
            for hook in hooks {
                let given = Arc::new(message);
                message = match self.ask(&hook, about_message(&given)).await? {
                    Some(changed) => GatewayMessage {
                        by: given.by.clone(),
                        account: given.account.clone(),
                        message: SendRequest {
                            changed_by: hook.at.clone(),
                            ..changed
                        },
                    },
                    None => Arc::unwrap_or_clone(given),
                };
            }
            Ok(message)
        }
        .boxed()
    }
}

fn about_sign_in(sign_in: GatewaySignIn) -> Question<()> {
    Question {
        event: name::AUTH,
        patience: PATIENCE,
        chain: 0,
        answers: "nothing, or false and a reason",
        give: Box::new(move |lua: &Lua| {
            let table = lua.create_table()?;
            put_client(&table, &sign_in.by)?;
            table.raw_set("tls", sign_in.tls)?;
            table.raw_set("mechanism", sign_in.mechanism)?;
            Ok(table)
        }),
        read: None,
    }
}

fn about_mail(mail: GatewayMail) -> Question<GatewayMail> {
    let given = mail.clone();
    Question {
        event: name::MAIL,
        patience: PATIENCE,
        chain: 0,
        answers: "nothing, a table with what it changes, or false and a reason",
        give: Box::new(move |lua: &Lua| {
            let table = lua.create_table()?;
            put_client(&table, &given.by)?;
            table.raw_set("account", given.account)?;
            table.raw_set("sender", given.sender)?;
            if !given.recipients.is_empty() {
                table.raw_set("recipients", given.recipients)?;
            }
            Ok(table)
        }),
        read: Some(Box::new(move |table: &Table| {
            take_client(table)?;
            table.raw_set("recipients", Value::Nil)?;
            let fields = Fields::new(table, "", &["account", "sender"])?;
            Ok(GatewayMail {
                account: fields.text("account")?.unwrap_or(mail.account),
                sender: fields.text("sender")?.or(mail.sender),
                ..mail
            })
        })),
    }
}

fn about_message(given: &Arc<GatewayMessage>) -> Question<SendRequest> {
    let (message, shown) = (Arc::clone(given), Arc::clone(given));
    Question {
        event: name::MESSAGE,
        patience: MESSAGE_PATIENCE,
        chain: given.message.chain,
        answers: "nothing, the message, or false and a reason",
        give: Box::new(move |lua: &Lua| {
            let table = message::to_lua(lua, &message.message)?;
            put_client(&table, &message.by)?;
            table.raw_set("account", message.account.as_str())?;
            header::show(lua, &table, octets(&message.message))?;
            Ok(table)
        }),
        read: Some(Box::new(move |table: &Table| {
            take_client(table)?;
            table.raw_set("account", Value::Nil)?;
            let changes = header::take(table, octets(&shown.message))?;
            let mut message = message::parse(table)?;
            match &mut message.raw {
                Some(Source::Octets(raw)) => header::change(raw, &changes)?,
                Some(Source::Path(_)) if !changes.is_empty() => {
                    return Err(Fault::misuse(
                        "fields 'subject' and 'headers' cannot be changed with a message in 'raw_file'",
                    ));
                }
                _ => {}
            }
            message.chain = shown.message.chain;
            message.script.clone_from(&shown.message.script);
            // A gateway takes no message that it does not queue.
            message.queue.get_or_insert_default();
            Ok(message)
        })),
    }
}

/// The finished message, where there is one in memory.
fn octets(message: &SendRequest) -> &[u8] {
    match &message.raw {
        Some(Source::Octets(raw)) => raw,
        _ => &[],
    }
}

const CLIENT: [&str; 3] = ["gateway", "device", "client"];

fn put_client(table: &Table, by: &GatewayClient) -> mlua::Result<()> {
    let [gateway, device, client] = CLIENT;
    table.raw_set(gateway, by.gateway.as_str())?;
    table.raw_set(device, by.device.as_str())?;
    table.raw_set(client, by.address.to_string())
}

/// They tell the hook who it is about, and are nothing that it can change.
fn take_client(table: &Table) -> mlua::Result<()> {
    CLIENT
        .into_iter()
        .try_for_each(|key| table.raw_set(key, Value::Nil))
}
