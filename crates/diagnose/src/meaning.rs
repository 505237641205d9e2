//! What a refusal means: the answer that every look-up gives.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

/// What a refusal means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Stable dotted name, such as `smtp.send_as_denied`.
    pub code: String,
    /// Whether the catalogue knows this very refusal. If not, cause and remedy say no more than
    /// its class or status does.
    pub known: bool,
    /// Why it happened, one lower-case line.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// Who can do it.
    pub who: Who,
    /// What follows for the sender.
    pub verdict: Verdict,
    /// Whether a fresh token may do where the one that was presented did not.
    pub fresh_token: bool,
    /// Where this is known from: a fact's section, an RFC, a manual, a public thread.
    pub source: String,
    /// What else meets the same refusal.
    #[serde(skip)]
    pub scope: Scope,
    /// The least that makes sense to wait before the same account tries again.
    #[serde(skip)]
    pub pause: Option<Duration>,
}

impl Diagnosis {
    /// Whether doing the same again later may succeed.
    pub fn retryable(&self) -> bool {
        self.verdict == Verdict::Retry
    }
}

/// Who can apply a remedy; serialized in words, as every answer of Postrider has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Whoever runs Postrider.
    You,
    /// Whoever signs in as the mailbox.
    MailboxOwner,
    /// The Exchange administrator.
    ExchangeAdmin,
    /// The Entra administrator.
    EntraAdmin,
    /// Whoever runs the mail server that was asked.
    ServerAdmin,
    /// Whoever runs the network, its firewall, proxy and resolver.
    NetworkAdmin,
    /// The recipient, or whoever runs their mail server.
    Recipient,
    /// The provider: waiting, or asking its support, is all there is.
    Provider,
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::You => "you",
            Self::MailboxOwner => "the mailbox's owner",
            Self::ExchangeAdmin => "an Exchange administrator",
            Self::EntraAdmin => "an Entra administrator",
            Self::ServerAdmin => "the mail server's administrator",
            Self::NetworkAdmin => "whoever runs the network",
            Self::Recipient => "the recipient's side",
            Self::Provider => "the provider",
        })
    }
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Later may do.
    Retry,
    /// A person has to sign in.
    Reauthorize,
    /// A setting of the account, or of this machine, has to change.
    Reconfigure,
    /// The same message or request fails again.
    Permanent,
    /// Somebody with rights that the sender lacks has to act first.
    Admin,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "later may do",
            Self::Reauthorize => "somebody has to sign in",
            Self::Reconfigure => "a setting has to change",
            Self::Permanent => "the same again fails again",
            Self::Admin => "an administrator has to act first",
        })
    }
}

/// What a refusal concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This message or recipient.
    #[default]
    Message,
    /// Everything that the account sends now.
    Account,
}

/// What went wrong before a server could refuse anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The name has no address, or could not be looked up.
    Dns,
    /// No address took the connection.
    Connect,
    /// No answer in the time given.
    Timeout,
    /// The connection broke.
    Lost,
    /// No TLS: certificate, version, handshake.
    Tls,
    /// What answers does not speak the protocol, or lacks an extension that is needed.
    Protocol,
}

/// The names that a cause or remedy may mention.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The account's name.
    pub account: &'a str,
    /// Who signs in.
    pub username: &'a str,
    /// The address mail is sent from.
    pub sender: &'a str,
    /// The tenant, where there is one.
    pub tenant: &'a str,
    /// The OAuth client id, where there is one.
    pub client_id: &'a str,
    /// `host:port` of the server that was asked.
    pub server: &'a str,
}

impl Subject<'_> {
    /// `template` with each `{name}` filled in.
    pub(crate) fn fill(&self, template: &str) -> String {
        let named = [
            ("{account}", self.account, "(account)"),
            ("{username}", self.username, "(username)"),
            ("{sender}", self.sender, "(sender)"),
            ("{tenant}", self.tenant, "(tenant)"),
            ("{client_id}", self.client_id, "(client_id)"),
            ("{server}", self.server, "(server)"),
        ];
        named
            .iter()
            .fold(template.to_owned(), |text, (mark, name, unnamed)| {
                text.replace(mark, if name.is_empty() { unnamed } else { name })
            })
    }

    /// The port of `server`.
    pub(crate) fn port(&self) -> Option<u16> {
        let (_, port) = self.server.rsplit_once(':')?;
        port.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_in_words_and_read_by_its_id() {
        let told = serde_json::to_value(Who::ExchangeAdmin).unwrap();
        assert_eq!(told, "an Exchange administrator");
        let read: Who = serde_json::from_value("exchange_admin".into()).unwrap();
        assert_eq!(read, Who::ExchangeAdmin);
    }
}
