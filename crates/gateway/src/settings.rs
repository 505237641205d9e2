//! What one gateway does, decided: no default is hidden here, and nothing of a file's syntax.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::Network;

/// One gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// When a connection is encrypted.
    pub tls: TlsMode,
    /// What it proves itself with.
    pub certificate: Certificate,
    /// Its name in the greeting and in `Received`.
    pub hostname: String,
    /// Who may connect.
    pub clients: Vec<Network>,
    /// What holds for a device without settings of its own.
    pub policy: Policy,
    /// Devices with settings of their own, by the name they sign in with.
    pub devices: BTreeMap<String, Policy>,
    /// `Received` does not name the client.
    pub hide_client: bool,
    /// What odd devices are forgiven.
    pub quirks: Quirks,
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub connections_per_client: usize,
    /// How long a client may say nothing.
    pub idle_timeout: Duration,
    /// How long a connection may last.
    pub session_timeout: Duration,
    /// Whether it enforces, or watches.
    pub mode: Mode,
    /// A rehearsal of the day Exchange stops to take passwords.
    pub rehearse: Option<Rehearse>,
}

impl Settings {
    /// What holds for this device.
    pub fn policy(&self, device: &str) -> &Policy {
        self.devices.get(device).unwrap_or(&self.policy)
    }

    /// The largest message that any device may send.
    pub fn max_message(&self) -> usize {
        let all = self.devices.values().chain([&self.policy]);
        all.map(|policy| policy.max_message).max().unwrap_or(0)
    }

    /// The most recipients that any device's message may have.
    pub fn max_recipients(&self) -> usize {
        let all = self.devices.values().chain([&self.policy]);
        all.map(|policy| policy.recipients_per_message)
            .max()
            .unwrap_or(0)
    }
}

/// What a device may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The account that its mail goes through.
    pub account: String,
    /// Whom it may send as; empty: the account's sender and user name.
    pub senders: Vec<Sender>,
    /// Whether it is made to send as the account's sender where it may not send as it wants to;
    /// else it is refused.
    pub rewrite_from: bool,
    /// From where; empty: from wherever the gateway takes connections.
    pub clients: Vec<Network>,
    /// The domains it may send to; empty: all.
    pub recipient_domains: Vec<String>,
    /// How many messages a minute.
    pub messages_per_minute: Option<u32>,
    /// How many messages in 24 hours.
    pub messages_per_day: Option<u32>,
    /// Octets of a message.
    pub max_message: usize,
    /// Recipients of a message.
    pub recipients_per_message: usize,
}

impl Policy {
    /// Whether the device may connect from there.
    pub fn allows_client(&self, address: IpAddr) -> bool {
        self.clients.is_empty() || self.clients.iter().any(|network| network.contains(address))
    }

    /// Whether it may send there. Case and a dot at the end make no difference.
    pub fn allows_recipient(&self, address: &str) -> bool {
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let domain = domain.trim_end_matches('.');
        self.recipient_domains.is_empty()
            || self
                .recipient_domains
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(domain))
    }
}

/// Whom a device may send as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// This address.
    Address(String),
    /// Any of this domain, without its `@`.
    Domain(String),
}

impl Sender {
    /// `a@b`, or `@b` for all of a domain.
    pub fn new(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(domain) => Self::Domain(domain.to_owned()),
            None => Self::Address(text.to_owned()),
        }
    }

    /// Whether this address is meant. Case makes no difference, as with every provider.
    pub fn matches(&self, address: &str) -> bool {
        match self {
            Self::Address(allowed) => allowed.eq_ignore_ascii_case(address),
            Self::Domain(allowed) => address
                .rsplit_once('@')
                .is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(allowed)),
        }
    }
}

impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

/// When a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// By `STARTTLS`, before anybody signs in.
    Starttls,
    /// By `STARTTLS`, but clients on the machine itself may do without.
    Offered,
    /// From the first octet.
    Implicit,
    /// Never.
    DangerPlaintext,
}

/// What a gateway proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// PEM files. Read again when they change.
    Files {
        /// The chain, the gateway's own certificate first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Made here, and kept in this file.
    SelfMade {
        /// A file of PEM with both; made, with its directory, if it is not there.
        file: PathBuf,
    },
}

/// What odd devices are forgiven; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a quirk of its own, on or off"
)]
pub struct Quirks {
    /// Lines may end in LF alone.
    pub bare_lf: bool,
    /// `MAIL FROM: <a@b>`.
    pub mail_from_space: bool,
    /// `MAIL FROM:a@b`.
    pub no_brackets: bool,
    /// The prompts of `AUTH LOGIN`, and its answers, end in NUL.
    pub login_nul: bool,
    /// `AUTH` after `HELO`.
    pub helo_only: bool,
    /// `Date` and `Message-ID` are added where they are missing.
    pub missing_headers: bool,
}

/// Whether a gateway enforces, or watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Mail goes through each device's account; what is not allowed is refused.
    Submit,
    /// Mail goes on as it did before, and what would be refused is told.
    Observe {
        /// The account with the password that the devices had.
        account: String,
    },
}

/// When devices hear what Exchange will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearse {
    /// From then on.
    pub from: Timestamp,
    /// Until then; else until it is taken out again.
    pub until: Option<Timestamp>,
    /// Those who hear it; empty: all.
    pub devices: Vec<String>,
}

impl Rehearse {
    /// Whether this device hears it now.
    pub fn concerns(&self, device: &str, now: Timestamp) -> bool {
        now >= self.from
            && self.until.is_none_or(|until| now < until)
            && (self.devices.is_empty() || self.devices.iter().any(|one| one == device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_an_address_or_all_of_a_domain() {
        let address = Sender::new("Scanner@Contoso.com");
        assert!(address.matches("scanner@contoso.com"));
        assert!(!address.matches("other@contoso.com"));
        let domain = Sender::new("@contoso.com");
        assert!(domain.matches("anybody@CONTOSO.COM"));
        for other in [
            "a@sub.contoso.com",
            "a@xcontoso.com",
            "contoso.com",
            "a@contoso.com@x.org",
            "",
        ] {
            assert!(!domain.matches(other), "{other}");
        }
        assert_eq!(domain.to_string(), "@contoso.com");
    }

    #[test]
    fn a_rehearsal_has_its_time_and_its_devices() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let rehearse = Rehearse {
            from: at(10),
            until: Some(at(20)),
            devices: vec!["printer-2".to_owned()],
        };
        assert!(!rehearse.concerns("printer-2", at(9)));
        assert!(rehearse.concerns("printer-2", at(10)));
        assert!(!rehearse.concerns("scanner", at(10)));
        assert!(!rehearse.concerns("printer-2", at(20)));
        let all = Rehearse {
            until: None,
            devices: Vec::new(),
            ..rehearse
        };
        assert!(all.concerns("scanner", at(1_000_000)));
    }
}
