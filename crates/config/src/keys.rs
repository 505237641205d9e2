//! Every setting there is: name, kind and what it does.
//!
//! The checker reads these tables and so does [`reference`], from which the documentation is
//! made: neither can know a key that the other does not.

mod gateway;
mod queue;
mod serving;

use crate::presets;
pub(crate) use gateway::{GATEWAY, OPEN_RELAY, PASSWORDS, POLICY, REHEARSE};
pub(crate) use queue::{QUEUE, SENDMAIL};
pub(crate) use serving::{FS, LIMITS, SCRIPTS, SERVE};

/// One setting.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) doc: &'static str,
}

/// What a setting's value looks like.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Mailbox,
    Host,
    EhloName,
    Port,
    Count {
        most: u32,
    },
    /// An amount of memory.
    Memory,
    /// An address and a port to listen on.
    Listen,
    /// One such, or several.
    Listens,
    Duration,
    /// A [`Self::Duration`] that may last years.
    Lifetime,
    /// The same, or `forever`.
    Grace,
    /// A day or a moment.
    Expiry,
    Path,
    Url,
    Authority,
    RedirectUri,
    Tenant,
    Provider,
    Flag,
    OneOf(&'static [&'static str]),
    SomeOf(&'static [&'static str]),
    /// The same, or none of them.
    Words(&'static [&'static str]),
    Scopes,
    Hosts,
    Paths,
    Command,
    /// Names of environment variables.
    Variables,
    /// Absolute paths of programs.
    Programs,
    /// Users or groups of this machine.
    Logins,
    /// Networks that clients connect from.
    Networks,
    /// Mail addresses, and domains behind an `@`.
    Senders,
    /// Domains of mail addresses.
    Domains,
    /// Devices by the user names they sign in with.
    DeviceNames,
    FileName,
    Name,
    /// What a secret is called in the vault.
    VaultName,
    Secret,
    /// A secret that a script holds itself.
    Inline,
    /// A secret that lies elsewhere than in the vault.
    Passphrase,
    Table(&'static [Field]),
    /// `scripts.limits_for.FILE`.
    LimitsFor,
    /// `account.NAME`.
    Accounts,
    /// `gateway.NAME`.
    Gateways,
    /// `gateway.NAME.device.DEVICE`.
    Devices,
    /// `plugins.pins.NAME`.
    Pins,
    /// The settings of the plugin that `plugin` names.
    Auth,
    /// A key that others know and that will never be one here: why not, and what instead.
    Refused((&'static str, &'static str)),
    /// What somebody takes for the place of a device's password.
    DevicePassword,
}

impl Kind {
    /// What is wanted, as the object of "expected".
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Self::Text | Self::FileName | Self::Name | Self::VaultName | Self::Inline => "a string",
            Self::Mailbox => "a mail address, with or without a display name",
            Self::Host => "a host name or an IP address",
            Self::EhloName => "a domain or an address literal",
            Self::Port => "a port from 1 to 65535",
            Self::Count { .. } => "a whole number",
            Self::Memory => "an amount like \"256MiB\" or a number of octets",
            Self::Listen => "an IP address and a port",
            Self::Listens => "an IP address and a port, or an array of them",
            Self::Duration => "a duration like \"30s\" or a number of seconds",
            Self::Lifetime => "a duration like \"90d\" or a number of seconds",
            Self::Grace => "\"forever\", a duration like \"30s\" or a number of seconds",
            Self::Expiry => "a day like \"2027-03-01\" or a time like \"2027-03-01T09:00:00Z\"",
            Self::Path => "a path",
            Self::Url => "an https URL",
            Self::Authority => "an https URL without a path",
            Self::RedirectUri => "an http://localhost or https URL",
            Self::Tenant => "a tenant's id or domain",
            Self::Provider => "the name of a provider",
            Self::Flag => "true or false",
            Self::OneOf(_) => "one of a few words",
            Self::SomeOf(_) | Self::Words(_) | Self::Scopes => "an array of strings",
            Self::Hosts => "an array of hosts",
            Self::Paths => "an array of paths",
            Self::Command => "an array: the program and its arguments",
            Self::Variables | Self::Logins | Self::DeviceNames => "an array of names",
            Self::Networks => "an array of networks",
            Self::Senders => "an array of mail addresses and of domains behind an @",
            Self::Domains => "an array of domains",
            Self::Programs => "an array of absolute paths",
            Self::Secret => "a reference to a secret",
            Self::Passphrase => "a reference to a secret outside the vault",
            Self::Table(_)
            | Self::LimitsFor
            | Self::Accounts
            | Self::Gateways
            | Self::Devices
            | Self::Pins
            | Self::Auth => "a table",
            Self::Refused(_) | Self::DevicePassword => "nothing",
        }
    }

    /// The words it chooses from, if it does.
    pub(crate) fn words(self) -> Vec<&'static str> {
        match self {
            Self::OneOf(words) | Self::SomeOf(words) | Self::Words(words) => words.to_vec(),
            Self::Provider => presets::names().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a key of this kind is there for nothing but to be refused.
    pub(crate) fn is_refused(self) -> bool {
        matches!(self, Self::Refused(_) | Self::DevicePassword)
    }
}

const fn field(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, doc }
}

pub(crate) static ROOT: &[Field] = &[
    field(
        "account",
        Kind::Accounts,
        "The accounts, each as `[account.NAME]`.",
    ),
    field(
        "gateway",
        Kind::Gateways,
        "Where devices and programs that only know a password submit their mail to `postrider serve`, each as `[gateway.NAME]`. A password per device is always required.",
    ),
    field(
        "plugins",
        Kind::Table(PLUGINS),
        "Where authentication plugins are found, and which are trusted.",
    ),
    field(
        "vault",
        Kind::Table(VAULT),
        "Where the key of the vault is. A systemd credential called `postrider.kek` goes before all of these; without any, the vault makes itself a key file.",
    ),
    field(
        "scripts",
        Kind::Table(SCRIPTS),
        "Which scripts `postrider serve` runs, and what every script may use and reach.",
    ),
    field(
        "serve",
        Kind::Table(SERVE),
        "How `postrider serve` is watched and controlled.",
    ),
    field(
        "queue",
        Kind::Table(QUEUE),
        "What becomes of mail that waits to be delivered.",
    ),
    field(
        "sendmail",
        Kind::Table(SENDMAIL),
        "What `postrider sendmail` does with mail of programs that know no accounts.",
    ),
];

pub(crate) static VAULT: &[Field] = &[
    field(
        "key_file",
        Kind::Path,
        "A file with the key (`openssl rand -base64 32`): this user's or root's, mode 0400.",
    ),
    field(
        "keyring",
        Kind::Flag,
        "Keep the key in the desktop's keyring; needs a build with the feature `keyring`. Default: false.",
    ),
    field(
        "passphrase",
        Kind::Passphrase,
        "Derive the key from a passphrase, which lies there. At a terminal it is asked for when this is not given.",
    ),
];

pub(crate) static PLUGINS: &[Field] = &[
    field(
        "dirs",
        Kind::Paths,
        "Directories to look for plugins in, besides those that ship.",
    ),
    field(
        "pins",
        Kind::Pins,
        "SHA-256 digests: `NAME = \"…\"`. A plugin that did not ship loads only with its pin.",
    ),
];

pub(crate) static ACCOUNT: &[Field] = &[
    field(
        "provider",
        Kind::Provider,
        "Preset for server, port, TLS, endpoints, scopes and pacing. Default: `custom`, which presets nothing.",
    ),
    field(
        "username",
        Kind::Text,
        "Who signs in. Most providers want the mailbox's address.",
    ),
    field(
        "sender",
        Kind::Mailbox,
        "The `From` of messages. Default: `username`. Another address needs Send As or Send on Behalf there.",
    ),
    field(
        "on_behalf",
        Kind::Flag,
        "`true` names `username` in the `Sender` field beside another `From`: Send on Behalf (RFC 5322 §3.6.2). Default: `false`, Send As: only `From` is seen.",
    ),
    field(
        "test_recipient",
        Kind::Mailbox,
        "Where `postrider account test` sends its message.",
    ),
    field(
        "server",
        Kind::Table(SERVER),
        "The submission server; with a preset, what differs from it.",
    ),
    field(
        "ca_file",
        Kind::Path,
        "Trust anchors (PEM) in place of the platform's, for the server and for token endpoints.",
    ),
    field(
        "ehlo_name",
        Kind::EhloName,
        "What `EHLO` says. Default: this machine's name or address.",
    ),
    field(
        "connections",
        Kind::Count { most: 100 },
        "Sessions open at once. Default: the preset's, else 3.",
    ),
    field(
        "messages_per_minute",
        Kind::Count { most: 1_000_000 },
        "The most messages that are started in any minute, by all processes that share the state directory; further ones wait. Default: the preset's, else no limit.",
    ),
    field(
        "recipients_per_day",
        Kind::Count { most: 100_000_000 },
        "The most recipients in any 24 hours, counted like `messages_per_minute`; what would go over it waits. Default: the preset's, else no limit.",
    ),
    field(
        "recipients_per_message",
        Kind::Count { most: 100_000 },
        "The most recipients in one envelope. Default: the preset's, else 100.",
    ),
    field(
        "timeouts",
        Kind::Table(TIMEOUTS),
        "How long to wait for the server, by phase (RFC 5321 §4.5.3.2).",
    ),
    field(
        "rotation",
        Kind::Table(ROTATION),
        "What the provider does with refresh tokens. The Microsoft presets know it.",
    ),
    field(
        "renewal",
        Kind::Table(RENEWAL),
        "When `postrider serve` replaces the application's client secret or certificate at Entra ID before it ends. Without this section it only warns.",
    ),
    field(
        "auth",
        Kind::Auth,
        "How the account authenticates: a plugin and its settings.",
    ),
];

pub(crate) static SERVER: &[Field] = &[
    field(
        "host",
        Kind::Host,
        "Host name; its certificate must carry it.",
    ),
    field(
        "port",
        Kind::Port,
        "TCP port. Default: 465 with implicit TLS, else 587.",
    ),
    field(
        "tls",
        Kind::OneOf(TLS_MODES),
        "`starttls` (required, never optional), `implicit`, or `danger_plaintext`. Default: `implicit` on port 465, else `starttls`.",
    ),
    field(
        "ca_file",
        Kind::Path,
        "Trust anchors (PEM) in place of the platform's, for this server only: a private server beside public token endpoints. Default: the account's `ca_file`.",
    ),
    field(
        "danger_send_credentials_in_clear",
        Kind::Flag,
        "Needed for `danger_plaintext` with a server that is not this machine: who can read the network can read the credentials.",
    ),
];

pub(crate) static TLS_MODES: &[&str] = &["starttls", "implicit", "danger_plaintext"];

pub(crate) static TIMEOUTS: &[Field] = &[
    field(
        "connect",
        Kind::Duration,
        "For the TCP connection. Default: 30s.",
    ),
    field(
        "tls",
        Kind::Duration,
        "For the TLS handshake. Default: 30s.",
    ),
    field(
        "greeting",
        Kind::Duration,
        "For the server's greeting. Default: 5m.",
    ),
    field(
        "command",
        Kind::Duration,
        "For the reply to EHLO, STARTTLS, AUTH, RSET. Default: 5m.",
    ),
    field(
        "mail",
        Kind::Duration,
        "For the reply to MAIL. Default: 5m.",
    ),
    field(
        "rcpt",
        Kind::Duration,
        "For the reply to each RCPT. Default: 5m.",
    ),
    field(
        "data_start",
        Kind::Duration,
        "For the 354 to DATA. Default: 2m.",
    ),
    field(
        "data_block",
        Kind::Duration,
        "For the server to take the next block of a message. Default: 3m.",
    ),
    field(
        "data_end",
        Kind::Duration,
        "For the reply after a message's end. Default: 10m.",
    ),
];

pub(crate) static ROTATION: &[Field] = &[
    field(
        "refresh_token_lifetime",
        Kind::Lifetime,
        "How long a refresh token lasts that is not used; half of it unused, it is refreshed to keep it. Default: the preset's (Microsoft: 90d), else what the provider says, else not known.",
    ),
    field(
        "reuse_grace",
        Kind::Grace,
        "How long a refresh token works once more after it was replaced: `forever`, a duration, or `0s` where using it again revokes the grant. Default: the preset's (Microsoft: `forever`), else `0s`.",
    ),
];

pub(crate) static RENEWAL: &[Field] = &[
    field(
        "before",
        Kind::Lifetime,
        "So long before its end it is replaced. Default: 30d.",
    ),
    field(
        "overlap",
        Kind::Lifetime,
        "So long the old one is kept beside the new one, at Entra ID and in the vault. Default: 1d.",
    ),
    field(
        "lifetime",
        Kind::Lifetime,
        "So long the new one is to last; a policy of the tenant may shorten it. Longer than `before` and `overlap` together. Default: 180d.",
    ),
];

/// `auth` keys that are the host's, whatever the plugin.
pub(crate) static AUTH: &[Field] = &[
    field(
        "plugin",
        Kind::Name,
        "The plugin's name: `oauth`, `basic`, or one of yours.",
    ),
    field(
        "allow_hosts",
        Kind::Hosts,
        "Hosts the plugin may send requests to besides those it declares: `host`, `host:port`, or `http://host:port` for requests without TLS.",
    ),
];

/// What a plugin that ships takes: `None` for others, whose own schema decides.
pub(crate) fn plugin(name: &str) -> Option<&'static [Field]> {
    match name {
        "oauth" => Some(OAUTH),
        "basic" => Some(BASIC),
        _ => None,
    }
}

/// The plugins that ship.
pub(crate) static SHIPPED: &[&str] = &["oauth", "basic"];

static OAUTH: &[Field] = &[
    field(
        "flow",
        Kind::OneOf(FLOWS),
        "The grant: `client_credentials` (the application itself), `authorization_code` (a browser, once) or `device_code` (a code typed elsewhere, once).",
    ),
    field(
        "tenant",
        Kind::Tenant,
        "Microsoft: the tenant's id or one of its domains.",
    ),
    field(
        "authority",
        Kind::Authority,
        "Microsoft: the sign-in service's base URL. The presets know it.",
    ),
    field(
        "issuer",
        Kind::Url,
        "Other providers: the issuer, to find the endpoints by discovery.",
    ),
    field(
        "authorization_endpoint",
        Kind::Url,
        "Other providers: where the browser is sent.",
    ),
    field(
        "token_endpoint",
        Kind::Url,
        "Other providers: where tokens are issued.",
    ),
    field(
        "device_authorization_endpoint",
        Kind::Url,
        "Other providers: where device codes are issued (RFC 8628).",
    ),
    field(
        "revocation_endpoint",
        Kind::Url,
        "Other providers: where tokens are revoked (RFC 7009).",
    ),
    field(
        "userinfo_endpoint",
        Kind::Url,
        "Other providers: where it is said who signed in (OpenID Connect Core §5.3).",
    ),
    field(
        "client_id",
        Kind::Text,
        "The application's id at the provider.",
    ),
    field(
        "scopes",
        Kind::Scopes,
        "What to ask for. The presets know it where it is documented.",
    ),
    field(
        "client_auth",
        Kind::OneOf(CLIENT_AUTH),
        "How the application proves itself: secret in the body (`post`) or the header (`basic`), a signed assertion (`private_key_jwt`), or not at all (`none`). Default: what the secrets given allow.",
    ),
    field("client_secret", Kind::Secret, "The application's secret."),
    field(
        "certificate",
        Kind::Secret,
        "The application's certificate (PEM text), for a signed assertion.",
    ),
    field(
        "private_key",
        Kind::Secret,
        "The certificate's private key (PEM text).",
    ),
    field(
        "assertion",
        Kind::Secret,
        "A federated assertion (JWT) from another issuer, in place of a key.",
    ),
    field(
        "assertion_alg",
        Kind::OneOf(ASSERTION_ALG),
        "How the assertion is signed. Default: `PS256`.",
    ),
    field(
        "assertion_audience",
        Kind::Text,
        "The assertion's audience. Default: the token endpoint.",
    ),
    field(
        "redirect_uri",
        Kind::RedirectUri,
        "Where the browser returns to. Default: `http://localhost`.",
    ),
    field(
        "login_hint",
        Kind::Text,
        "Whom the sign-in page should propose.",
    ),
    field(
        "mechanisms",
        Kind::SomeOf(OAUTH_MECHANISMS),
        "SASL mechanisms to use, best first. Default: both.",
    ),
];

static BASIC: &[Field] = &[
    field("password", Kind::Secret, "The password."),
    field(
        "mechanisms",
        Kind::SomeOf(BASIC_MECHANISMS),
        "SASL mechanisms to use, best first. Default: `PLAIN`, `LOGIN`; `CRAM-MD5` only if listed.",
    ),
];

pub(crate) static FLOWS: &[&str] = &["client_credentials", "authorization_code", "device_code"];
static CLIENT_AUTH: &[&str] = &["post", "basic", "private_key_jwt", "none"];
static ASSERTION_ALG: &[&str] = &["PS256", "RS256"];
static OAUTH_MECHANISMS: &[&str] = &["XOAUTH2", "OAUTHBEARER"];
static BASIC_MECHANISMS: &[&str] = &["PLAIN", "LOGIN", "CRAM-MD5"];

/// What a secret reference in a file may hold: one of the forms, and what stands beside it.
pub(crate) static REFERENCE: [&[Field]; 2] = [FORMS, BESIDE_REFERENCE];

static FORMS: &[Field] = &[
    field("env", Kind::Text, "The name of an environment variable."),
    field(
        "file",
        Kind::Path,
        "A file that belongs to this user or to root, that nobody else can change, and that nobody else can read; one of root's may be readable by its group (mode 0640).",
    ),
    field(
        "credential",
        Kind::FileName,
        "The name of a systemd credential (`LoadCredential=`).",
    ),
    field(
        "command",
        Kind::Command,
        "A program that prints it; run without a shell.",
    ),
    field(
        "vault",
        Kind::VaultName,
        "A secret's name in Postrider's vault; `postrider secret set NAME` puts it there.",
    ),
];

/// What may stand beside a reference's form.
pub(crate) static BESIDE_REFERENCE: &[Field] = &[field(
    "expires",
    Kind::Expiry,
    "The day, or the moment, from which the provider refuses the secret; a day begins at midnight UTC. Postrider warns 30, 14, 7, 3 and 1 days before.",
)];

/// A script may hold a secret itself.
pub(crate) static INLINE: &[Field] = &[field(
    "inline",
    Kind::Inline,
    "The secret, from a script that holds it.",
)];

/// How to write a secret, for whoever wrote it some other way.
pub(crate) const REFERENCE_FORMS: &str = "{ vault = \"name\" }, { env = \"NAME\" }, { file = \"/path\" }, { credential = \"name\" } or { command = [\"program\"] }";

/// One setting, for documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReference {
    /// Dotted; `NAME` stands for a name of the user's choice.
    pub key: String,
    /// The plugin it belongs to, for keys under `auth` that only one plugin takes.
    pub plugin: Option<&'static str>,
    /// What its value looks like.
    pub value: &'static str,
    /// The words it chooses from, if it does.
    pub words: Vec<&'static str>,
    /// What it does: Markdown, one paragraph.
    pub doc: &'static str,
}

/// All settings, in the order in which they are best read.
pub fn reference() -> Vec<KeyReference> {
    let mut keys = Vec::new();
    list("", None, ROOT, &mut keys);
    keys
}

fn list(
    prefix: &str,
    plugin_name: Option<&'static str>,
    fields: &'static [Field],
    keys: &mut Vec<KeyReference>,
) {
    for field in fields {
        let key = format!("{prefix}{}", field.name);
        let entry = |key: String| KeyReference {
            key,
            plugin: plugin_name,
            value: field.kind.wanted(),
            words: field.kind.words(),
            doc: field.doc,
        };
        match field.kind {
            Kind::Accounts => {
                keys.push(entry(format!("{key}.NAME")));
                list(&format!("{key}.NAME."), None, ACCOUNT, keys);
            }
            Kind::Gateways => {
                keys.push(entry(format!("{key}.NAME")));
                for fields in [GATEWAY, POLICY] {
                    list(&format!("{key}.NAME."), None, fields, keys);
                }
            }
            Kind::Devices => {
                keys.push(entry(format!("{key}.DEVICE")));
                list(&format!("{key}.DEVICE."), None, POLICY, keys);
            }
            kind if kind.is_refused() => {}
            Kind::Pins => keys.push(KeyReference {
                value: "a SHA-256 digest in hexadecimal",
                ..entry(format!("{key}.NAME"))
            }),
            Kind::Table(inner) => {
                keys.push(entry(key.clone()));
                list(&format!("{key}."), plugin_name, inner, keys);
            }
            Kind::LimitsFor => {
                keys.push(entry(format!("{key}.FILE")));
                list(&format!("{key}.FILE."), None, LIMITS, keys);
            }
            Kind::Auth => {
                keys.push(entry(key.clone()));
                let prefix = format!("{key}.");
                list(&prefix, None, AUTH, keys);
                for name in SHIPPED {
                    list(&prefix, Some(name), plugin(name).unwrap_or_default(), keys);
                }
            }
            Kind::Secret => {
                keys.push(entry(key.clone()));
                let prefix = format!("{key}.");
                for fields in REFERENCE {
                    list(&prefix, plugin_name, fields, keys);
                }
            }
            _ => keys.push(entry(key)),
        }
    }
}

/// What the names of secrets end with.
const SECRET_ENDINGS: [&str; 11] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "private_key",
    "api_key",
    "token",
    "assertion",
    "credentials",
];

/// Whether a gateway, one of its devices or a rehearsal has a key of this name.
pub(crate) fn is_of_gateway(key: &str) -> bool {
    let mut fields = [GATEWAY, POLICY, REHEARSE].into_iter().flatten();
    fields.any(|field| field.name == key)
}

/// Whether a dotted key leads to a setting of a gateway's own. None of them holds a secret:
/// `certificate`, which is one of the oauth plugin's, is a file here.
pub(crate) fn is_setting_of_gateway(path: &[&str]) -> bool {
    matches!(path, ["gateway", _, key] if is_of_gateway(key))
}

/// Whether the last word of `NAME_OF_VARIABLE` says that it holds a secret.
pub(crate) fn names_secret(variable: &str) -> bool {
    let name = format!("_{}", variable.to_ascii_lowercase());
    let mut endings = SECRET_ENDINGS.iter();
    endings.any(|ending| {
        name.strip_suffix(ending)
            .is_some_and(|rest| rest.ends_with('_'))
    })
}

/// Whether what `key` holds may be a secret, by its name; a slip of the pen included.
pub(crate) fn looks_secret(key: &str) -> bool {
    const SIMILAR: f64 = 0.88;
    let shipped = || OAUTH.iter().chain(BASIC);
    let key = key.to_ascii_lowercase().replace('-', "_");
    if let Some(field) = shipped().find(|field| field.name == key) {
        return matches!(field.kind, Kind::Secret);
    }
    SECRET_ENDINGS.iter().any(|ending| key.ends_with(ending))
        || shipped()
            .filter(|field| matches!(field.kind, Kind::Secret))
            .any(|field| strsim::jaro_winkler(field.name, &key) > SIMILAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_names_are_known_with_their_misspellings() {
        for secret in [
            "client_secret",
            "password",
            "pasword",
            "client_secrt",
            "Password",
            "api-key",
            "smtp_password",
            "private_key",
            "refresh_token",
            "certificat",
        ] {
            assert!(looks_secret(secret), "{secret}");
        }
        for other in [
            "token_endpoint",
            "client_id",
            "client_auth",
            "assertion_alg",
            "assertion_audience",
            "username",
            "scopes",
            "plugin",
            "provider",
        ] {
            assert!(!looks_secret(other), "{other}");
        }
    }

    #[test]
    fn the_reference_lists_each_key_once() {
        let keys = reference();
        let mut seen = std::collections::BTreeSet::new();
        for key in &keys {
            assert!(seen.insert((&key.key, key.plugin)), "{} twice", key.key);
            assert!(key.doc.ends_with('.'), "{}: {}", key.key, key.doc);
        }
        for wanted in [
            "account.NAME.server.port",
            "account.NAME.auth.flow",
            "plugins.pins.NAME",
            "account.NAME.timeouts.connect",
            "account.NAME.auth.password.env",
            "account.NAME.auth.password.expires",
            "account.NAME.rotation.reuse_grace",
            "vault.passphrase",
            "gateway.NAME.listen",
            "gateway.NAME.senders",
            "gateway.NAME.rehearse.from",
            "gateway.NAME.device.DEVICE.senders",
            "scripts.limits_for.FILE.memory",
            "serve.metrics",
        ] {
            assert!(
                keys.iter().any(|key| key.key == wanted),
                "{wanted} is missing"
            );
        }
    }
}
