//! Codes that several functions share, in the groups that occur together.

use crate::item::{Error, error};

/// An account that cannot be set up.
pub(crate) const ACCOUNT: &[Error] = &[
    error("config.no_such_account", "no account has that name"),
    error("config.invalid", "its settings are wrong"),
    error("config.auth", "a setting of its plugin is wrong"),
    error(
        "plugin.not_loaded",
        "its plugin is missing, not trusted, or not a plugin",
    ),
    error("plugin.failed", "a fault in its plugin"),
];

/// A secret that cannot be had.
pub(crate) const SECRET: &[Error] = &[
    error("secret.missing", "there is no such secret"),
    error("secret.unsafe", "others could read or change it"),
    error("secret.malformed", "it is empty, too long, or not text"),
    error("secret.failed", "it cannot be read"),
    error("vault.*", "the vault cannot be read"),
];

/// A credential that cannot be had.
pub(crate) const CREDENTIAL: &[Error] = &[
    error("auth.sign_in_needed", "a person must sign in"),
    error("auth.revoked", "the sign-in lapsed or was revoked"),
    error("auth.unavailable", "no token could be had for now"),
    error(
        "auth.*",
        "the credential was refused: see [Error codes](codes.md)",
    ),
];

/// A machine that cannot be reached.
pub(crate) const NETWORK: &[Error] = &[
    error("network.dns", "the name does not resolve"),
    error("network.connect", "nobody answers there"),
    error("network.timeout", "no answer in time"),
    error("network.lost", "the connection broke off"),
    error("tls.failed", "the handshake, or the certificate"),
];

/// A dialogue with a submission server.
pub(crate) const SMTP: &[Error] = &[
    error("smtp.temporary", "the server refused for now (4xx)"),
    error("smtp.rejected", "the server refused for good (5xx)"),
    error(
        "smtp.*",
        "it refused for a reason that is known: see [Error codes](codes.md)",
    ),
    error("tls.not_offered", "the server offers no `STARTTLS`"),
];
