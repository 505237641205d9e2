//! What setting an account up has to know: the fields of a mail-server settings page, from
//! flags, from a file, or from a person.
//!
//! A file has the same names as the flags, with `_` for `-`. It never holds a secret: where one
//! is needed it says where it is, and what is fetched there goes into the vault.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use postrider_config::{Address, Presets, SecretRef, TlsMode};
use postrider_setup::{Cloud, Flow};
use serde::Deserialize;
use url::{Host, Url};

use super::administrator::AdminLogin;
use crate::failure::Failure;

/// How long a client secret or certificate is asked to last: what the portal offers as the
/// longest.
const LIFETIME: Duration = Duration::from_hours(24 * 730);

/// The fields.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Answers {
    /// microsoft365, gmail, fastmail, another preset, or custom
    #[arg(value_name = "PROVIDER")]
    pub(super) provider: Option<String>,
    /// The account's name in postrider.toml
    #[arg(long, value_name = "NAME")]
    pub(super) account: Option<String>,
    /// Who signs in: the mailbox
    #[arg(long, value_name = "USER")]
    pub(super) username: Option<String>,
    /// The From of its messages, where it is not the user
    #[arg(long, value_name = "ADDRESS")]
    pub(super) sender: Option<String>,
    /// The user has Send on Behalf on the sender, not Send As
    #[arg(long)]
    pub(super) on_behalf: bool,
    /// Who gets the test message
    #[arg(long, value_name = "ADDRESS")]
    pub(super) test_recipient: Option<String>,
    /// The submission server, where the provider is custom
    #[arg(long, value_name = "HOST")]
    pub(super) server: Option<String>,
    /// Its port [default: 587 with starttls, 465 with implicit]
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// How the connection is secured [default: starttls]
    #[arg(long, value_enum, value_name = "TLS")]
    pub(super) tls: Option<Tls>,
    /// PEM file with the authorities to trust, where the server's is not a public one
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// How it signs in [default: oauth at Microsoft or with --app-id, else basic]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) auth: Option<AuthKind>,
    /// Who acts [default: a person, in a browser]
    #[arg(long, value_enum, value_name = "FLOW")]
    pub(super) flow: Option<FlowName>,
    /// What the application proves itself with [default: none where a person signs in, else
    /// secret]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(super) credential: Option<Credential>,
    /// How long that lasts, such as 180d; the tenant may allow less [default: two years]
    #[arg(long, value_name = "TIME", value_parser = crate::cli::duration)]
    #[serde(deserialize_with = "lifetime")]
    pub(super) lifetime: Option<Duration>,
    /// Let the application renew its own secret or certificate
    #[arg(long)]
    pub(super) own_renewal: bool,
    /// Which of Microsoft's clouds [default: global]
    #[arg(long, value_enum, value_name = "CLOUD")]
    pub(super) cloud: Option<CloudName>,
    /// The tenant's id or one of its domains [default: the user's domain]
    #[arg(long, value_name = "TENANT")]
    pub(super) tenant: Option<String>,
    /// Client id of an application that is there already
    #[arg(long, value_name = "ID")]
    pub(super) app_id: Option<String>,
    /// URL of an OpenID Connect issuer, where the provider is custom
    #[arg(long, value_name = "URL")]
    pub(super) issuer: Option<String>,
    /// A scope to ask for, where the provider's own is not known; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(super) scopes: Vec<String>,
    /// Only write the settings: the application is set up by hand
    #[arg(long)]
    pub(super) no_graph: bool,
    /// Where the password is fetched from
    #[arg(skip)]
    pub(super) password: Option<toml::Value>,
    /// Where the client secret of an existing application is fetched from
    #[arg(skip)]
    pub(super) client_secret: Option<toml::Value>,
    /// How the administrator signs in
    #[arg(skip)]
    pub(super) admin_login: Option<AdminLogin>,
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tls {
    /// Secured after EHLO, port 587
    Starttls,
    /// TLS from the first octet, port 465
    Implicit,
}

impl Tls {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Implicit => "implicit",
        }
    }

    /// The port that goes with it (RFC 6409, RFC 8314).
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
        }
    }
}

/// How an account signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuthKind {
    /// OAuth 2.0
    Oauth,
    /// A password
    Basic,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(super) enum FlowName {
    /// A person, in a browser
    AuthorizationCode,
    /// A person, with a code on another device
    DeviceCode,
    /// The application itself
    ClientCredentials,
}

impl From<FlowName> for Flow {
    fn from(name: FlowName) -> Self {
        match name {
            FlowName::AuthorizationCode => Self::AuthorizationCode,
            FlowName::DeviceCode => Self::DeviceCode,
            FlowName::ClientCredentials => Self::ClientCredentials,
        }
    }
}

/// What an application proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Credential {
    /// Nothing: a public client
    None,
    /// A client secret
    Secret,
    /// A certificate whose key is made here and stays in the vault
    Certificate,
}

/// One of Microsoft's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum CloudName {
    /// Worldwide and GCC
    Global,
    /// GCC High
    #[value(name = "gcchigh")]
    #[serde(rename = "gcchigh")]
    GccHigh,
    /// US Department of Defense
    Dod,
    /// Operated by 21Vianet
    China,
}

impl From<CloudName> for Cloud {
    fn from(name: CloudName) -> Self {
        match name {
            CloudName::Global => Self::Global,
            CloudName::GccHigh => Self::GccHigh,
            CloudName::Dod => Self::Dod,
            CloudName::China => Self::China,
        }
    }
}

impl Answers {
    /// Those of a file.
    ///
    /// # Errors
    /// It cannot be read, has a key that is none, or a value that fits no field.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let place = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|problem| Failure::new("file.unreadable", problem.to_string()).at(&place))?;
        toml::from_str(&text).map_err(|error| {
            // Its words name the key; what it quotes of the file may be a secret.
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Failure::new("config.answers", error.message().to_owned())
                .at(format!("{place}:{line}"))
                .with_remedy("the fields are those of `postrider setup --help`, with _ for -")
        })
    }

    /// These, and what they leave open from `file`.
    pub(super) fn or(self, file: Self) -> Self {
        Self {
            provider: self.provider.or(file.provider),
            account: self.account.or(file.account),
            username: self.username.or(file.username),
            sender: self.sender.or(file.sender),
            on_behalf: self.on_behalf || file.on_behalf,
            test_recipient: self.test_recipient.or(file.test_recipient),
            server: self.server.or(file.server),
            port: self.port.or(file.port),
            tls: self.tls.or(file.tls),
            ca_file: self.ca_file.or(file.ca_file),
            auth: self.auth.or(file.auth),
            flow: self.flow.or(file.flow),
            credential: self.credential.or(file.credential),
            lifetime: self.lifetime.or(file.lifetime),
            own_renewal: self.own_renewal || file.own_renewal,
            cloud: self.cloud.or(file.cloud),
            tenant: self.tenant.or(file.tenant),
            app_id: self.app_id.or(file.app_id),
            issuer: self.issuer.or(file.issuer),
            scopes: if self.scopes.is_empty() {
                file.scopes
            } else {
                self.scopes
            },
            no_graph: self.no_graph || file.no_graph,
            password: self.password.or(file.password),
            client_secret: self.client_secret.or(file.client_secret),
            admin_login: self.admin_login.or(file.admin_login),
        }
    }

    /// The account's name.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn account(&self) -> Result<&str, Failure> {
        self.account
            .as_deref()
            .ok_or_else(|| missing("--account NAME", "the account's name in postrider.toml"))
    }

    /// Who signs in.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn username(&self) -> Result<&str, Failure> {
        self.username
            .as_deref()
            .ok_or_else(|| missing("--username USER", "who signs in"))
    }

    /// Whether Microsoft Graph sets the application up.
    pub(super) fn is_for_graph(&self) -> bool {
        let microsoft365 = self
            .provider
            .as_deref()
            .is_some_and(|name| name == "microsoft365" || name.starts_with("microsoft365-"));
        microsoft365
            && self.provider.as_deref() != Some("microsoft365-hve")
            && !self.no_graph
            && self.auth != Some(AuthKind::Basic)
    }

    /// The cloud, from `--cloud` or the provider's name.
    pub(super) fn cloud(&self) -> Cloud {
        match (self.cloud, self.provider.as_deref()) {
            (Some(name), _) => name.into(),
            (None, Some("microsoft365-gcchigh")) => Cloud::GccHigh,
            (None, Some("microsoft365-dod")) => Cloud::Dod,
            (None, Some("microsoft365-china")) => Cloud::China,
            _ => Cloud::Global,
        }
    }

    /// The file of authorities; absolute, for the settings may lie elsewhere.
    pub(super) fn ca_file(&self) -> Option<String> {
        let file = self.ca_file.as_ref()?;
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        Some(file.display().to_string())
    }

    /// How long a credential is to last.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime.unwrap_or(LIFETIME)
    }
}

fn missing(flag: &str, what: &str) -> Failure {
    Failure::new("usage.missing", format!("{what} is not given"))
        .with_remedy(format!("say {flag}, or run `postrider setup` to be asked"))
}

/// A reference to a secret, as the configuration writes it.
///
/// # Errors
/// It is none; what stands there instead is not repeated.
pub(super) fn reference(field: &str, value: &toml::Value) -> Result<SecretRef, Failure> {
    let table = value.as_table().filter(|table| table.len() == 1);
    let entry = table.and_then(|table| table.iter().next());
    let text = |value: &toml::Value| value.as_str().map(str::to_owned);
    let found = entry.and_then(|(kind, value)| {
        Some(match kind.as_str() {
            "env" => SecretRef::Env(text(value)?),
            "file" => SecretRef::File(text(value)?.into()),
            "credential" => SecretRef::Credential(text(value)?),
            "vault" => SecretRef::Vault(text(value)?),
            "command" => {
                let words = value.as_array()?.iter().map(text);
                SecretRef::Command(words.collect::<Option<Vec<_>>>()?)
            }
            _ => return None,
        })
    });
    found.ok_or_else(|| {
        Failure::new(
            "config.answers",
            format!(
                "{field} is no reference to a secret, and the secret itself does not belong there"
            ),
        )
        .with_remedy(format!(
            "write {field} = {{ env = \"NAME\" }}, or file, credential or command"
        ))
    })
}

/// As in the configuration: `180d`.
fn lifetime<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::cli::duration(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// Whether `typed` is an account's name.
pub(super) fn check_account(typed: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if typed.is_empty() || typed.len() > 64 || !typed.chars().all(plain) {
        return Err("letters, digits, - and _".to_owned());
    }
    Ok(())
}

/// Whether `typed` is a mail address.
pub(super) fn check_address(typed: &str) -> Result<(), String> {
    typed
        .parse::<Address>()
        .map(|_| ())
        .map_err(|_| "an address like user@example.org".to_owned())
}

/// Whether `typed` names a server.
pub(super) fn check_host(typed: &str) -> Result<(), String> {
    match Host::parse(typed) {
        Ok(_) if !typed.contains(char::is_whitespace) => Ok(()),
        _ => Err("a host name like smtp.example.org, or an address".to_owned()),
    }
}

/// Whether `typed` is a file.
pub(super) fn check_file(typed: &str) -> Result<(), String> {
    if Path::new(typed).is_file() {
        return Ok(());
    }
    Err("a file that is there".to_owned())
}

/// Whether `typed` is a port.
pub(super) fn check_port(typed: &str) -> Result<(), String> {
    match typed.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => Err("1 to 65535".to_owned()),
    }
}

/// Whether `typed` is an issuer's URL.
pub(super) fn check_issuer(typed: &str) -> Result<(), String> {
    match Url::parse(typed) {
        Ok(url) if url.scheme() == "https" && url.host().is_some() => Ok(()),
        _ => Err("a URL that begins with https://".to_owned()),
    }
}

/// Whether something was typed.
pub(super) fn check_some(typed: &str) -> Result<(), String> {
    if typed.is_empty() || typed.contains(char::is_whitespace) {
        return Err("one word".to_owned());
    }
    Ok(())
}

/// The preset of that name.
///
/// # Errors
/// There is none, with the nearest.
pub(super) fn preset(name: &str) -> Result<&'static postrider_config::Preset, Failure> {
    let all = Presets::all();
    all.iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| {
            let names = all.iter().map(|preset| preset.name);
            let failure = Failure::new("usage.provider", "there is no such provider");
            match crate::suggest::nearest(name, names.clone()) {
                Some(nearest) => failure.with_remedy(format!("did you mean {nearest}?")),
                None => {
                    failure.with_remedy(format!("one of: {}", names.collect::<Vec<_>>().join(", ")))
                }
            }
        })
}

/// How the preset's server is secured, in a word.
pub(super) fn word(tls: TlsMode) -> &'static str {
    match tls {
        TlsMode::Implicit => "implicit",
        _ => "starttls",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Answers, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answers.toml");
        fs::write(&path, text).unwrap();
        Answers::read(&path)
    }

    #[test]
    fn a_file_has_the_fields_of_the_flags_and_no_others() {
        let answers = file(
            "provider = \"microsoft365\"\naccount = \"alerts\"\nusername = \"a@contoso.com\"\n\
             flow = \"client_credentials\"\ncredential = \"certificate\"\nlifetime = \"180d\"\n\
             cloud = \"gcchigh\"\nadmin_login = \"device_code\"\n",
        )
        .unwrap();
        assert_eq!(answers.account().unwrap(), "alerts");
        assert_eq!(answers.lifetime(), Duration::from_hours(24 * 180));
        assert_eq!(answers.cloud(), Cloud::GccHigh);
        assert!(answers.is_for_graph());

        let failure = file("account = \"a\"\nusrname = \"hunter2\"\n").unwrap_err();
        assert!(failure.message.contains("usrname"), "{failure}");
        assert!(failure.at.unwrap().ends_with("answers.toml:2"));
        assert!(!failure.message.contains("hunter2"));
    }

    #[test]
    fn a_secret_itself_is_refused_and_not_repeated() {
        let answers = file("password = \"hunter2\"\n").unwrap();
        let failure = reference("password", answers.password.as_ref().unwrap()).unwrap_err();
        assert!(!failure.to_string().contains("hunter2"), "{failure}");

        let answers = file("password = { env = \"SMTP_PASSWORD\" }\n").unwrap();
        let found = reference("password", answers.password.as_ref().unwrap()).unwrap();
        assert!(matches!(found, SecretRef::Env(name) if name == "SMTP_PASSWORD"));
    }

    #[test]
    fn flags_win_over_the_file() {
        let file =
            file("account = \"a\"\nusername = \"a@contoso.com\"\nscopes = [\"x\"]\n").unwrap();
        let flags = Answers {
            account: Some("b".to_owned()),
            ..Answers::default()
        };
        let both = flags.or(file);
        assert_eq!(both.account().unwrap(), "b");
        assert_eq!(both.username().unwrap(), "a@contoso.com");
        assert_eq!(both.scopes, ["x"]);
    }

    #[test]
    fn fields_are_checked_as_they_are_typed() {
        assert!(check_account("alerts-1").is_ok() && check_account("a.b").is_err());
        assert!(check_address("a@contoso.com").is_ok() && check_address("contoso").is_err());
        assert!(check_host("smtp.example.org").is_ok() && check_host("a b").is_err());
        assert!(check_port("587").is_ok() && check_port("0").is_err());
        assert!(check_issuer("https://id.example.org").is_ok());
        assert!(check_issuer("http://id.example.org").is_err());
    }
}
