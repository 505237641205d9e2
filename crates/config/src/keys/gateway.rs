//! `[gateway.NAME]` and `[gateway.NAME.device.DEVICE]`.

use super::{Field, Kind, field};

/// What belongs to a gateway as a whole.
pub(crate) static GATEWAY: &[Field] = &[
    field(
        "listen",
        Kind::Listens,
        "Where devices connect: an address and a port, or several. Another address than this machine's own needs `clients`. Default: `127.0.0.1:2525`.",
    ),
    field(
        "tls",
        Kind::OneOf(TLS),
        "`starttls`: required before a password is taken. `offered`: clients on this machine may do without, all others must. `implicit`: from the first octet (port 465). `danger_plaintext`: none, for devices that cannot; passwords and messages cross the network in clear, so `clients` must be private networks. Default: `starttls`.",
    ),
    field(
        "certificate",
        Kind::Path,
        "The certificate and its chain (PEM), read again when the file changes; with `key`. Default: one that the gateway makes itself, which devices that check certificates do not trust.",
    ),
    field("key", Kind::Path, "The private key (PEM) of `certificate`."),
    field(
        "hostname",
        Kind::EhloName,
        "What the gateway calls itself, in its greeting, in `Received` fields and in a certificate of its own. Default: this machine's name.",
    ),
    field(
        "danger_clients_anywhere",
        Kind::Flag,
        "Lets `clients` be networks as wide as the Internet: whoever finds the port may try passwords.",
    ),
    field(
        "hide_client",
        Kind::Flag,
        "Leave the device's address out of the `Received` field. Default: false.",
    ),
    field(
        "quirks",
        Kind::Words(QUIRKS),
        "What old devices do wrong and this gateway takes nevertheless. Default: none.",
    ),
    field(
        "connections",
        Kind::Count { most: 100_000 },
        "Connections open at once. Default: 1000.",
    ),
    field(
        "connections_per_client",
        Kind::Count { most: 100_000 },
        "Connections open at once from one address. Default: 20.",
    ),
    field(
        "idle_timeout",
        Kind::Duration,
        "How long a client may say nothing. Default: 5m (RFC 5321 §4.5.3.2.7).",
    ),
    field(
        "session_timeout",
        Kind::Duration,
        "How long a connection may last in all. Default: 1h.",
    ),
    field(
        "mode",
        Kind::OneOf(MODES),
        "`submit` sends through `account`. `observe` sends through `observe_account`, for the time until that account's password ends; `postrider gateway report` tells in both who sends what, and who is ready. Default: `submit`.",
    ),
    field(
        "observe_account",
        Kind::Name,
        "The account with the password that `mode = \"observe\"` sends through.",
    ),
    field(
        "rehearse",
        Kind::Table(REHEARSE),
        "From a moment on, answer as Exchange Online will to passwords (`550 5.7.30`), and list who would have broken.",
    ),
    field(
        "device",
        Kind::Devices,
        "What is different for one device; `DEVICE` is the user name it signs in with. A device without such a table has the gateway's settings.",
    ),
];

/// What a device may do: the gateway's, and each device's own where it differs.
pub(crate) static POLICY: &[Field] = &[
    field(
        "account",
        Kind::Name,
        "The account that mail is sent through. Default: the gateway's; there, the only account there is.",
    ),
    field(
        "senders",
        Kind::Senders,
        "Whom messages may come from, in the envelope and in `From`: addresses, or `@contoso.com` for all of a domain. Default: the account's `sender` and `username`.",
    ),
    field(
        "rewrite_from",
        Kind::Flag,
        "Send what comes from others than `senders` as the account's sender, with the old `From` as `Reply-To`, rather than refuse it. Default: false.",
    ),
    field(
        "clients",
        Kind::Networks,
        "Networks that may connect, such as `192.168.1.0/24`. For a device: a part of the gateway's. Default: this machine alone.",
    ),
    field(
        "recipient_domains",
        Kind::Domains,
        "Domains that mail may go to; subdomains are named, too. Default: any.",
    ),
    field(
        "messages_per_minute",
        Kind::Count { most: 1_000_000 },
        "The most messages of one device in any minute; further ones are put off with 450. Default: no limit but the account's pace.",
    ),
    field(
        "messages_per_day",
        Kind::Count { most: 100_000_000 },
        "The most messages of one device in any 24 hours. Default: no limit.",
    ),
    field(
        "max_message",
        Kind::Memory,
        "The longest message. Default, and the most: `max_message` of `[queue]`.",
    ),
    field(
        "recipients_per_message",
        Kind::Count { most: 100_000 },
        "The most recipients of one message. Default: the account's.",
    ),
];

/// What other servers call it when mail is taken without a password.
pub(crate) static OPEN_RELAY: &[Field] = &[
    field("auth", Kind::Refused(NO_OPEN_RELAY), ""),
    field("authentication", Kind::Refused(NO_OPEN_RELAY), ""),
    field("require_auth", Kind::Refused(NO_OPEN_RELAY), ""),
    field("no_auth", Kind::Refused(NO_OPEN_RELAY), ""),
    field("allow_anonymous", Kind::Refused(NO_OPEN_RELAY), ""),
    field("anonymous", Kind::Refused(NO_OPEN_RELAY), ""),
    field("mynetworks", Kind::Refused(NO_OPEN_RELAY), ""),
    field("relay_networks", Kind::Refused(NO_OPEN_RELAY), ""),
    field("relay_clients", Kind::Refused(NO_OPEN_RELAY), ""),
    field("relay", Kind::Refused(NO_OPEN_RELAY), ""),
    field("open_relay", Kind::Refused(NO_OPEN_RELAY), ""),
    field("trusted_networks", Kind::Refused(NO_OPEN_RELAY), ""),
];

/// Where other servers keep their users' passwords.
pub(crate) static PASSWORDS: &[Field] = &[
    field("password", Kind::DevicePassword, ""),
    field("passwords", Kind::DevicePassword, ""),
    field("passwd", Kind::DevicePassword, ""),
    field("credential", Kind::DevicePassword, ""),
    field("credentials", Kind::DevicePassword, ""),
    field("secret", Kind::DevicePassword, ""),
];

pub(crate) static REHEARSE: &[Field] = &[
    field(
        "from",
        Kind::Expiry,
        "When it begins: a time with its offset, or a day, which begins at midnight UTC.",
    ),
    field("until", Kind::Expiry, "When it ends. Default: never."),
    field(
        "devices",
        Kind::DeviceNames,
        "Which devices are refused. Default: all.",
    ),
];

pub(crate) static TLS: &[&str] = &["starttls", "offered", "implicit", "danger_plaintext"];
pub(crate) static MODES: &[&str] = &["submit", "observe"];
pub(crate) static QUIRKS: &[&str] = &[
    "bare_lf",
    "mail_from_space",
    "no_brackets",
    "login_nul",
    "helo_only",
    "missing_headers",
];

const NO_OPEN_RELAY: (&str, &str) = (
    "a gateway never takes mail without a password: whoever reached it could send as you",
    "remove this key; give each device a password (postrider gateway credential add DEVICE) and say in `clients` which networks may connect",
);
