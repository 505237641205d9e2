//! An account: who sends, through which server, and how it authenticates.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lettre::{Address, message::Mailbox};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::check::{self, Context};
use crate::duration;
use crate::expiry;
use crate::presets::Presets;
use crate::problem::{Problem, Problems};
use crate::renewal::Renewal;
use crate::rotation::Rotation;
use crate::secret::SecretRef;
use crate::tree::Node;

/// One checked account.
///
/// `Debug` and `Serialize` show secrets as references only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// As the settings name it: letters, digits, `-` and `_`.
    pub name: String,
    /// The preset it is built on; `custom` when it uses none.
    pub provider: String,
    /// Who signs in (authcid). An address where the provider wants one.
    pub username: String,
    /// The `From` of its messages. Differs from `username` when it sends as someone else.
    #[serde(serialize_with = "as_text")]
    pub sender: Mailbox,
    /// Whether messages of another `From` than `username` name it as their `Sender`.
    pub on_behalf: bool,
    /// Where `account test` sends its message.
    #[serde(serialize_with = "as_optional_text")]
    pub test_recipient: Option<Mailbox>,
    /// The submission server.
    pub server: Server,
    /// How fast and how much.
    pub limits: Limits,
    /// How long to wait for the server.
    pub timeouts: Timeouts,
    /// How it authenticates.
    pub auth: Auth,
    /// What the provider does with refresh tokens.
    pub rotation: Rotation,
    /// When its application's secret is replaced; `None`: only when somebody asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// Trust anchors (PEM) in place of the platform's, for everything this account talks to:
    /// its server and its token endpoints.
    pub ca_file: Option<PathBuf>,
}

/// Where an account submits its messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Host name or IP address; the name its certificate must carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the session is secured.
    pub tls: TlsMode,
    /// Trust anchors (PEM) in place of the platform's for this server: its own, else the
    /// account's.
    pub ca_file: Option<PathBuf>,
    /// What to say in `EHLO`; `None` leaves it to the session.
    pub ehlo_name: Option<String>,
}

/// How a session is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// `STARTTLS`, required (RFC 3207).
    Starttls,
    /// TLS from the first octet (RFC 8314 §3.3).
    Implicit,
    /// No TLS: credentials and messages cross the network in clear.
    DangerPlaintext,
}

/// How fast and how much an account may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Sessions open at once.
    pub connections: u16,
    /// Messages in any minute; `None` sets no pace.
    pub messages_per_minute: Option<u32>,
    /// Recipients in any 24 hours; `None` sets no bound.
    pub recipients_per_day: Option<u32>,
    /// Recipients in one envelope.
    pub recipients_per_message: u32,
}

/// Waiting times that differ from the session's own; `None` keeps those (RFC 5321 §4.5.3.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// For the TCP connection.
    #[serde(serialize_with = "as_duration")]
    pub connect: Option<Duration>,
    /// For the TLS handshake.
    #[serde(serialize_with = "as_duration")]
    pub tls: Option<Duration>,
    /// For the greeting.
    #[serde(serialize_with = "as_duration")]
    pub greeting: Option<Duration>,
    /// For the reply to a command that has no limit of its own: `EHLO`, `AUTH`, `RSET`.
    #[serde(serialize_with = "as_duration")]
    pub command: Option<Duration>,
    /// For the reply to `MAIL`.
    #[serde(serialize_with = "as_duration")]
    pub mail: Option<Duration>,
    /// For the reply to `RCPT`.
    #[serde(serialize_with = "as_duration")]
    pub rcpt: Option<Duration>,
    /// For the 354 to `DATA`.
    #[serde(serialize_with = "as_duration")]
    pub data_start: Option<Duration>,
    /// For the server to take the next block of the message.
    #[serde(serialize_with = "as_duration")]
    pub data_block: Option<Duration>,
    /// For the reply after the message's end.
    #[serde(serialize_with = "as_duration")]
    pub data_end: Option<Duration>,
}

/// How an account authenticates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Auth {
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's settings, completed from the preset; no secret is in them.
    pub settings: Map<String, Value>,
    /// The plugin's secrets, by the name of their setting.
    pub secrets: BTreeMap<String, SecretRef>,
    /// When secrets stop being accepted, as the settings declare it, by the same names.
    #[serde(serialize_with = "expiry::serialize")]
    pub expires: BTreeMap<String, SystemTime>,
    /// Hosts the plugin may talk to besides those it declares.
    pub allow_hosts: Vec<String>,
}

impl Account {
    /// An account from a script's table, checked like one from a file.
    ///
    /// The table may repeat the account's name as `name`. Besides the references a file may
    /// use, a secret may be `{ inline = "…" }`: the script holds it already. Relative
    /// paths stay relative.
    ///
    /// # Errors
    /// Everything wrong with the table; no problem carries a location.
    pub fn from_value(name: &str, value: Value, presets: &Presets) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let mut value = value;
        if let Value::Object(entries) = &mut value {
            entries.shift_remove("name");
        }
        let context = Context {
            presets,
            base: Path::new(""),
            script: true,
        };
        let account = Node::from_json(value, name, &mut problems)
            .and_then(|node| check::account(name, None, &node, &context, &mut problems));
        match account {
            Some(account) if problems.is_empty() => Ok(account),
            _ => Err(problems.locate(None)),
        }
    }

    /// Who belongs into the `Sender` field of a message from `author` (RFC 5322 §3.6.2): nobody,
    /// unless the account sends on others' behalf.
    pub fn sender_field(&self, author: &Address) -> Option<&str> {
        let other = !self.username.eq_ignore_ascii_case(author.as_ref());
        (self.on_behalf && other).then_some(&*self.username)
    }

    /// Whether messages go out under another address than the one that signs in.
    ///
    /// The server then wants a Send As or Send on Behalf permission.
    pub fn sends_as_other(&self) -> bool {
        !self
            .username
            .eq_ignore_ascii_case(self.sender.email.as_ref())
    }
}

impl TlsMode {
    /// Its spelling in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Implicit => "implicit",
            Self::DangerPlaintext => "danger_plaintext",
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn as_text<S: Serializer>(mailbox: &Mailbox, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mailbox)
}

#[allow(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn as_optional_text<S: Serializer>(
    mailbox: &Option<Mailbox>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match mailbox {
        Some(mailbox) => serializer.collect_str(mailbox),
        None => serializer.serialize_none(),
    }
}

#[allow(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
pub(crate) fn as_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_str(&duration::format(*duration)),
        None => serializer.serialize_none(),
    }
}
