//! What a gateway asks of the program it runs in: credentials, accounts, scripts, the queue.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use postrider_smtp::server::ServerReply;
use postrider_smtp::{Address, Dsn, Envelope};
use secrecy::SecretString;

use crate::{Event, Policy};

/// The program around a gateway.
pub trait Backend: Send + Sync + 'static {
    /// The stored hash (a PHC string) of a device's password; `None`: there is no such device.
    ///
    /// Asked at each sign-in, and before each message, so that nobody sends with a password that was
    /// taken away: the answer has to be that of now, and cheap while nothing has changed.
    ///
    /// # Errors
    /// It cannot be looked up now: the device is told so, and not that its password is wrong.
    fn credential<'a>(
        &'a self,
        gateway: &'a str,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<SecretString>, Refusal>>;

    /// As whom an account sends; `None`: there is no such account.
    fn sender(&self, account: &str) -> Option<AccountSender>;

    /// Takes a message for this account. Its octets come by [`Entry::write`].
    ///
    /// # Errors
    /// It cannot be taken, for good or now.
    fn entry<'a>(
        &'a self,
        account: &'a str,
        arrival: &'a Arrival,
    ) -> BoxFuture<'a, Result<Box<dyn Entry>, Refusal>>;

    /// A device whose password was right wants in. [`Decision::Refuse`] is heard as a wrong
    /// password.
    ///
    /// # Errors
    /// It could not be decided.
    fn on_auth<'a>(&'a self, arrival: &'a Arrival) -> BoxFuture<'a, Result<Decision, Refusal>> {
        let _ = arrival;
        Box::pin(std::future::ready(Ok(Decision::Continue)))
    }

    /// A device named its sender, and may send as that.
    ///
    /// # Errors
    /// It could not be decided.
    fn on_mail<'a>(&'a self, arrival: &'a Arrival) -> BoxFuture<'a, Result<Decision, Refusal>> {
        let _ = arrival;
        Box::pin(std::future::ready(Ok(Decision::Continue)))
    }

    /// The time.
    fn now(&self) -> Timestamp;

    /// Something happened. Must return at once.
    fn tell(&self, event: Event);
}

/// A message on its way into the queue. Dropped before [`finish`](Self::finish), nothing of it
/// stays.
pub trait Entry: Send {
    /// The next octets: header and body, lines ended by CRLF.
    ///
    /// # Errors
    /// They may not go on, are too many, or cannot be kept; nothing more is written then.
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Queues it. It is safe when this returns.
    ///
    /// # Errors
    /// It is not queued.
    fn finish(self: Box<Self>, finished: Finished) -> BoxFuture<'static, Result<Queued, Refusal>>;
}

/// What belongs to a message besides its octets.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Who it is from, and for, as it leaves.
    pub envelope: Envelope,
    /// Its `Message-ID`, with angle brackets.
    pub message_id: String,
    /// The notifications that were asked for (RFC 3461), as they were.
    pub dsn: Option<Dsn>,
    /// What the device may: whatever changes the message further has to keep to it, see
    /// [`Policy::allows_author`].
    pub policy: Arc<Policy>,
}

/// A message that is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// By what it is found.
    pub id: String,
}

/// As whom an account sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSender {
    /// The sender's address.
    pub address: Address,
    /// The name beside it.
    pub display_name: Option<String>,
    /// Who signs in at the server.
    pub username: String,
}

impl AccountSender {
    /// Whether the account sends as this address without further leave.
    pub fn is_own(&self, address: &str) -> bool {
        let sender: &str = self.address.as_ref();
        address.eq_ignore_ascii_case(sender) || address.eq_ignore_ascii_case(&self.username)
    }
}

/// Who speaks, and what was said so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The gateway.
    pub gateway: Arc<str>,
    /// Who signed in; `None` before that. Whoever is asked about an arrival is asked after it.
    pub device: Option<String>,
    /// The client's address.
    pub client: IpAddr,
    /// The name it gives itself.
    pub helo: String,
    /// How it signed in: `PLAIN` or `LOGIN`; empty before that.
    pub mechanism: &'static str,
    /// The protocol's version, such as `TLSv1.3`; `None` in clear.
    pub tls: Option<&'static str>,
    /// The reverse path as the device named it, empty for `<>`; `None` before that.
    pub sender: Option<String>,
    /// The forward paths that were taken.
    pub recipients: Vec<String>,
}

impl Arrival {
    /// Who signed in; empty before that.
    pub fn device(&self) -> &str {
        self.device.as_deref().unwrap_or_default()
    }
}

/// What a script thinks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    #[default]
    Continue,
    /// No, with the reason.
    Refuse(String),
    /// Otherwise than the device and the settings want; only of [`Backend::on_mail`].
    Change {
        /// The envelope's sender; empty for `<>`.
        sender: Option<String>,
        /// The account.
        account: Option<String>,
        /// Which line of which script wants it so; empty where that is not known.
        by: String,
    },
}

/// What a device hears instead of yes. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply's code: 4yz to come again, 5yz not to.
    pub code: u16,
    /// The enhanced status (RFC 3463).
    pub enhanced: &'static str,
    /// One line.
    pub text: String,
    /// The connection ends with it.
    pub closes: bool,
}

impl Refusal {
    /// A refusal; the session goes on.
    pub fn new(code: u16, enhanced: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced,
            text: text.into(),
            closes: false,
        }
    }

    /// The same, and the connection ends.
    #[must_use]
    pub fn closing(self) -> Self {
        Self {
            closes: true,
            ..self
        }
    }

    /// As it is sent.
    pub fn reply(&self) -> ServerReply {
        let reply = ServerReply::new(self.code, format!("{} {}", self.enhanced, self.text));
        if self.closes { reply.closing() } else { reply }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code, self.enhanced, self.text)
    }
}

impl std::error::Error for Refusal {}
