//! `[gateway.NAME]`: where devices that only know a password submit their mail, and what each
//! of them may do.
//!
//! Whatever is written, a device signs in before it sends: there is no setting without.
//! Effective settings are worked out here, once: [`Gateway::device`] tells those of any device.

mod check;
mod listens;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

pub(crate) use check::{Surroundings, check};
pub(crate) use listens::check as check_listens;

use crate::grammar;
use crate::network::Network;

/// A gateway: its listeners, and its devices' settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// As the settings name it: letters, digits, `-` and `_`.
    pub name: String,
    /// Where it listens; never empty. Port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// How sessions are secured.
    pub tls: GatewayTls,
    /// Its certificate; `None`: one of its own making.
    pub certificate: Option<CertificateFiles>,
    /// What it calls itself: a domain, or an address literal in brackets; `None`: this
    /// machine's name.
    pub hostname: Option<String>,
    /// Networks that may connect; never empty.
    pub clients: Vec<Network>,
    /// Whether the `Received` field leaves out the client's address.
    pub hide_client: bool,
    /// What it takes although it is wrong.
    pub quirks: BTreeSet<Quirk>,
    /// Connections open at once.
    pub connections: u32,
    /// Connections open at once from one address.
    pub connections_per_client: u32,
    /// How long a client may say nothing.
    pub idle_timeout: Duration,
    /// How long a connection may last.
    pub session_timeout: Duration,
    /// The account with a password that mail goes through for now; `None` in mode `submit`.
    pub observe: Option<String>,
    /// When devices are refused, to see who would break.
    pub rehearse: Option<Rehearse>,
    /// The settings of a device that has no table of its own.
    pub defaults: DeviceSettings,
    /// The effective settings of each device that has a table, by its user name.
    pub devices: BTreeMap<String, DeviceSettings>,
}

/// What one device may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceSettings {
    /// The account that its mail goes through, in mode `submit`.
    pub account: String,
    /// Whom its messages may come from.
    pub senders: Senders,
    /// Whether messages of others are sent as the account's sender rather than refused.
    pub rewrite_from: bool,
    /// Networks that it may connect from; never empty.
    pub clients: Vec<Network>,
    /// Domains that it may send to, in small letters; `None`: any.
    pub recipient_domains: Option<BTreeSet<String>>,
    /// Messages in any minute.
    pub messages_per_minute: Option<u32>,
    /// Messages in any 24 hours.
    pub messages_per_day: Option<u32>,
    /// The longest message.
    pub max_message_octets: usize,
    /// Recipients in one envelope.
    pub recipients_per_message: u32,
}

/// Addresses that messages may come from; never everybody's.
///
/// Small and capital letters are alike, in the local part too: no provider tells them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Senders {
    /// Whole addresses, in small letters, their domains in ASCII.
    pub addresses: BTreeSet<String>,
    /// Domains of which any address will do, in small letters, in ASCII.
    pub domains: BTreeSet<String>,
}

/// A certificate with its chain, and its private key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those that lead to its issuer.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How sessions with a gateway are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayTls {
    /// `STARTTLS`, required before `AUTH` (RFC 3207).
    Starttls,
    /// The same, but clients on this machine may do without.
    Offered,
    /// TLS from the first octet (RFC 8314 §3.3).
    Implicit,
    /// No TLS: passwords and messages cross the network in clear.
    DangerPlaintext,
}

/// Something that old devices do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// Lines end in LF alone.
    BareLf,
    /// A space follows the colon of `MAIL FROM:` and `RCPT TO:`.
    MailFromSpace,
    /// No angle brackets stand around the addresses of `MAIL FROM:` and `RCPT TO:`.
    NoBrackets,
    /// The answers of `AUTH LOGIN` end in NUL.
    LoginNul,
    /// `HELO` where `AUTH` needs `EHLO`.
    HeloOnly,
    /// Messages lack `Date` or `Message-ID`.
    MissingHeaders,
}

/// When devices are answered as Exchange Online will answer passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearse {
    /// The first moment.
    pub from: SystemTime,
    /// The first moment after it.
    pub until: Option<SystemTime>,
    /// Which devices; `None`: all.
    pub devices: Option<BTreeSet<String>>,
}

impl Gateway {
    /// The effective settings of a device, by its user name.
    pub fn device(&self, name: &str) -> &DeviceSettings {
        self.devices.get(name).unwrap_or(&self.defaults)
    }
}

/// An address in the form in which it is compared: small letters, and a domain in its ASCII
/// form where it has one.
fn comparable(address: &str) -> String {
    let Some((local_part, domain)) = address.rsplit_once('@') else {
        return address.to_lowercase();
    };
    let domain = match url::Host::parse(domain) {
        Ok(url::Host::Domain(ascii)) => ascii,
        _ => domain.to_lowercase(),
    };
    format!("{}@{domain}", local_part.to_lowercase())
}

impl GatewayTls {
    /// Its spelling in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Offered => "offered",
            Self::Implicit => "implicit",
            Self::DangerPlaintext => "danger_plaintext",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "offered" => Self::Offered,
            "implicit" => Self::Implicit,
            "danger_plaintext" => Self::DangerPlaintext,
            _ => Self::Starttls,
        }
    }
}

impl fmt::Display for GatewayTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Quirk {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::BareLf,
        Self::MailFromSpace,
        Self::NoBrackets,
        Self::LoginNul,
        Self::HeloOnly,
        Self::MissingHeaders,
    ];

    /// Its spelling in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::MailFromSpace => "mail_from_space",
            Self::NoBrackets => "no_brackets",
            Self::LoginNul => "login_nul",
            Self::HeloOnly => "helo_only",
            Self::MissingHeaders => "missing_headers",
        }
    }
}

/// Why a text cannot be a device's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDevice(String);

impl fmt::Display for InvalidDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidDevice {}

/// Whether `text` may name a device: its user name, and a part of its password's name in the
/// vault. A mail address may, since many settings pages take nothing else.
pub fn check_device_name(text: &str) -> Result<(), InvalidDevice> {
    grammar::device(text).map_err(|fault| InvalidDevice(fault.message))
}
