//! Email OAuth 2.0 Proxy: `emailproxy.config`, and the tokens that it keeps there.
//!
//! A section `[SMTP-1587]` is a listener and its server, a section with an `@` a mailbox. Which
//! mailbox uses which server is not written down: any client may name any of them. Here it is
//! the server of the provider that its tokens come from.
//!
//! Tokens are encrypted with the password that mail programs have for the mailbox.

mod gateways;
mod sections;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde_json::json;

use crate::account::{ImportedAccount, ImportedTokens};
use crate::error::{ImportError, ImportErrorKind};
use crate::fernet::Key;
use crate::files::Files;
use crate::hosts::{Server, Tls};
use crate::ini::{Entry, Ini, Section, truth};
use crate::left::{NotCarried, Place, shown};
use crate::names::Names;
use crate::oauth::{self, Client, Flow};
use crate::{Imported, Options};
use sections::{is_mailbox, option, read};

/// Rounds of releases that wrote no number into the file (before October 2023), and of those
/// since 2025.
const ITERATIONS: [u32; 2] = [100_000, 1_200_000];
/// Rounds of a whole file, a minute or two: it must not keep a machine busy for an hour.
const MAX_ITERATIONS: u32 = 200_000_000;
/// The most listeners of a file.
const MAX_SERVERS: usize = 100;

/// Keys that hold what the proxy encrypted.
const ENCRYPTED: [&str; 3] = ["refresh_token", "access_token", "client_secret_encrypted"];

/// Keys of a mailbox that have no counterpart, and why.
const ACCOUNT_KEYS: [(&str, &str); 1] = [(
    "redirect_listen_address",
    "Postrider listens on the loopback interface, at the port of redirect_uri",
)];

/// What is known of the options of `[emailproxy]`.
const OPTIONS: [(&str, &str); 4] = [
    (
        "delete_account_token_on_password_error",
        "a wrong password deletes nothing: a device's password is its own, and no key",
    ),
    (
        "encrypt_client_secret_on_first_use",
        "secrets are always in the vault, encrypted",
    ),
    (
        "use_login_password_as_client_credentials_secret",
        "a client's password is never a client secret; set the secret with `postrider secret set`",
    ),
    (
        "allow_catch_all_accounts",
        "each mailbox that sends is an account or a sender of its own",
    ),
];

/// Whether the file at `path`, or the one at `cache`, holds anything that a password would open.
///
/// # Errors
/// The file cannot be read, or is broken.
pub fn needs_password(
    path: &str,
    cache: Option<&str>,
    files: &dyn Files,
) -> Result<bool, ImportError> {
    let ini = read(path, cache, files)?;
    Ok(ini
        .sections
        .iter()
        .filter(|section| is_mailbox(section))
        .any(|section| {
            ENCRYPTED
                .iter()
                .any(|key| ini.get(section, key).is_some_and(|it| !it.value.is_empty()))
        }))
}

/// What the file at `path` comes to, with the tokens at `cache` if the proxy keeps them there
/// (`--cache-store`). With `password`, tokens and secrets too, and clients keep that password.
///
/// # Errors
/// The file cannot be read or is broken, or `password` opens nothing of what is encrypted in it.
pub fn emailproxy(
    path: &str,
    cache: Option<&str>,
    files: &dyn Files,
    password: Option<&SecretString>,
    options: &Options,
) -> Result<Imported, ImportError> {
    let ini = read(path, cache, files)?;
    let mut import = Import {
        path,
        files,
        ini: &ini,
        password,
        names: Names::new(&options.prefix),
        servers: Vec::new(),
        rounds: MAX_ITERATIONS,
        opened: 0,
        shut: 0,
        imported: Imported::default(),
    };
    import.find_servers()?;
    if import.servers.len() > MAX_SERVERS {
        let message = format!("has more than {MAX_SERVERS} servers");
        return Err(ImportError::malformed(Place::file(path), message));
    }
    for section in ini.sections.iter().filter(|section| is_mailbox(section)) {
        import.mailbox(section);
    }
    import.gateways(options);
    import.options();
    if import.shut > 0 && import.opened == 0 && password.is_some() {
        return Err(ImportError {
            place: Place::file(path),
            kind: ImportErrorKind::Password,
            message: "the password opens none of the tokens in it".to_owned(),
        });
    }
    if import.imported.accounts.is_empty() && import.servers.is_empty() {
        return Err(ImportError::malformed(
            Place::file(path),
            "has neither an SMTP server such as [SMTP-1587] nor a mailbox such as [you@example.org]",
        ));
    }
    Ok(import.imported.bounded())
}

/// A listener with its server.
struct LocalServer<'a> {
    section: &'a Section,
    port: u16,
    server: Server,
    /// Positions among the accounts.
    accounts: Vec<usize>,
    passwords: Vec<Option<SecretString>>,
}

struct Import<'a> {
    path: &'a str,
    files: &'a dyn Files,
    ini: &'a Ini,
    password: Option<&'a SecretString>,
    names: Names,
    servers: Vec<LocalServer<'a>>,
    /// How many rounds may still be made.
    rounds: u32,
    /// How many mailboxes the password was the right one for, and how many not.
    opened: usize,
    shut: usize,
    imported: Imported,
}

/// What the password made of a mailbox's secrets.
#[derive(Default)]
struct Opened {
    refresh_token: Option<SecretString>,
    client_secret: Option<SecretString>,
    /// The password is known to be the one that clients use, or nothing says that it is not.
    is_right: bool,
}

impl<'a> Import<'a> {
    /// A path in the file; the proxy runs where its file is, as a rule.
    fn beside(&self, entry: &Entry) -> String {
        let path = entry.value.as_str();
        match self.path.rsplit_once('/') {
            Some((directory, _)) if !path.starts_with('/') => format!("{directory}/{path}"),
            _ => path.to_owned(),
        }
    }

    fn leave(&mut self, left: NotCarried) {
        self.imported.not_carried.push(left);
    }

    fn find_servers(&mut self) -> Result<(), ImportError> {
        for section in &self.ini.sections {
            let Some((kind, port)) = section.name.split_once('-') else {
                continue;
            };
            if !matches!(kind, "SMTP" | "IMAP" | "POP") {
                continue;
            }
            let place = section.place.clone();
            if kind != "SMTP" {
                self.leave(NotCarried::new(
                    place,
                    &format!("[{}]", section.name),
                    format!("Postrider sends mail; it does not read {kind} mailboxes"),
                ));
                continue;
            }
            let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
                return Err(ImportError::malformed(
                    place,
                    "a section like this is named SMTP and a port, such as [SMTP-1587]",
                ));
            };
            let get = |key: &str| self.ini.get(section, key);
            let host = get("server_address").map_or("", |entry| entry.value.as_str());
            let remote = get("server_port").map_or(Some(0), |entry| entry.value.parse().ok());
            let (Some(remote), false) = (remote, host.is_empty()) else {
                return Err(ImportError::malformed(
                    place,
                    "server_address or server_port is missing or no host and port",
                ));
            };
            // `starttls` is the older name of `server_starttls`.
            let starttls = get("server_starttls").or_else(|| get("starttls"));
            let tls = if starttls.is_some_and(|entry| truth(&entry.value)) {
                Tls::Start
            } else {
                Tls::Implicit
            };
            self.servers.push(LocalServer {
                section,
                port,
                server: Server {
                    host: host.to_owned(),
                    port: if remote == 0 { 587 } else { remote },
                    tls,
                },
                accounts: Vec::new(),
                passwords: Vec::new(),
            });
        }
        Ok(())
    }

    fn option(&self, section: &'a Section, key: &str) -> Option<&'a Entry> {
        option(self.ini, section, key)
    }

    fn mailbox(&mut self, section: &'a Section) {
        let place = section.place.clone();
        let title = format!("[{}]", section.name);
        if section.name.starts_with('@') {
            self.leave(
                NotCarried::new(
                    place,
                    &title,
                    "it stands for any mailbox; an account of Postrider signs in to one",
                )
                .instead("add an account for each mailbox that sends: postrider setup"),
            );
            return;
        }
        let ini = self.ini;
        let text = |key: &str| option(ini, section, key).map(|entry| entry.value.as_str());
        let (Some(token_url), Some(client_id)) = (text("token_url"), text("client_id")) else {
            self.leave(NotCarried::new(
                place,
                &title,
                "token_url or client_id is missing: it never worked",
            ));
            return;
        };
        let Some(at) = self.server_of(token_url) else {
            let why = if self.servers.is_empty() {
                "there is no SMTP server in the file: it only read mail"
            } else {
                "no SMTP server in the file is its provider's"
            };
            self.leave(
                NotCarried::new(place, &title, why)
                    .instead("postrider setup makes an account that sends"),
            );
            return;
        };
        let Some(flow) = self.flow(section, &title) else {
            return;
        };
        let mut account = ImportedAccount::new(self.names.of_mailbox(&section.name), place.clone());
        let mut left = Vec::new();
        let service = self.servers[at]
            .server
            .write(&mut account, &place, &mut left);
        account.set("username", section.name.as_str());
        Client {
            flow,
            token_url,
            permission_url: text("permission_url"),
            redirect_uri: text("redirect_uri"),
            scopes: text("oauth2_scope").unwrap_or_default(),
            id: client_id,
        }
        .write(&mut account, service, &place, &mut left);
        for (key, why) in ACCOUNT_KEYS {
            if let Some(entry) = self.option(section, key) {
                left.push(NotCarried::new(entry.place.clone(), key, why));
            }
        }
        if client_id.contains("*** your") {
            left.push(
                NotCarried::new(place.clone(), "client_id", "it is the sample file's text")
                    .instead("register an application: postrider setup"),
            );
        }
        let opened = self.open(section, &account.name, &mut left);
        self.proof(section, &mut account, opened.client_secret, flow, &mut left);
        account.tokens = opened.refresh_token.map(|refresh_token| ImportedTokens {
            refresh_token,
            access_expires_at: text("access_token_expiry")
                .and_then(|text| text.parse().ok())
                .and_then(|seconds| {
                    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
                }),
        });
        let server = &mut self.servers[at];
        server.accounts.push(self.imported.accounts.len());
        let keeps = opened.is_right.then(|| self.password.cloned()).flatten();
        server.passwords.push(keeps);
        self.imported.not_carried.append(&mut left);
        self.imported.accounts.push(account);
    }

    /// The server that goes with tokens from there: the only one, or the provider's.
    fn server_of(&self, token_url: &str) -> Option<usize> {
        if self.servers.len() == 1 {
            return Some(0);
        }
        let host = oauth::host(token_url)?;
        let is_providers = |at: &LocalServer<'_>| {
            let service = at.server.service();
            service.is_some_and(|service| service.signs_in_at(host))
        };
        // Of Microsoft's servers, one is for people's own mailboxes.
        let is_personal = token_url.contains("/consumers/");
        let is_nearest = |at: &LocalServer<'_>| {
            let service = at.server.service();
            let is_outlook = service.is_some_and(|service| service.provider == "outlook");
            is_providers(at) && is_outlook == is_personal
        };
        let by_provider = self.servers.iter().position(is_nearest);
        let by_provider = by_provider.or_else(|| self.servers.iter().position(is_providers));
        by_provider.or_else(|| {
            let domain = organisation(host);
            self.servers
                .iter()
                .position(|at| organisation(&at.server.host) == domain)
        })
    }

    fn flow(&mut self, section: &'a Section, title: &str) -> Option<Flow> {
        let entry = self.option(section, "oauth2_flow");
        let person = self.option(section, "permission_url").is_some();
        match entry.map(|entry| entry.value.as_str()) {
            // Without a page to sign in at, the proxy takes no code.
            Some("device") => Some(Flow::DeviceCode),
            Some("client_credentials") if !person => Some(Flow::ClientCredentials),
            Some("service_account") if !person => {
                self.leave(
                    NotCarried::new(
                        section.place.clone(),
                        title,
                        "Google service accounts are not known to Postrider",
                    )
                    .instead("have the mailbox sign in: postrider setup gmail"),
                );
                None
            }
            Some("password") if !person => {
                self.leave(
                    NotCarried::new(
                        section.place.clone(),
                        "oauth2_flow = password",
                        "Postrider does not hand a person's password to the provider; the account \
                         was imported with a sign-in in the browser",
                    )
                    .instead("postrider login, once; or flow = \"client_credentials\""),
                );
                Some(Flow::AuthorizationCode)
            }
            _ => Some(Flow::AuthorizationCode),
        }
    }

    /// Opens what is encrypted, if there is a password.
    fn open(&mut self, section: &'a Section, name: &str, left: &mut Vec<NotCarried>) -> Opened {
        let sealed: Vec<&Entry> = ENCRYPTED
            .iter()
            .filter_map(|key| self.option(section, key))
            .collect();
        let (Some(first), Some(salt)) = (sealed.first(), self.option(section, "token_salt")) else {
            return Opened {
                is_right: true,
                ..Opened::default()
            };
        };
        let place = first.place.clone();
        let again = format!("sign in: postrider login {name}");
        let Some(password) = self.password else {
            left.push(
                NotCarried::new(
                    place,
                    "the tokens",
                    "they are encrypted with the password that mail programs use, and none was given",
                )
                .instead(format!("give it (--password-stdin), or {again}")),
            );
            return Opened::default();
        };
        let salt = STANDARD.decode(salt.value.as_bytes()).unwrap_or_default();
        let mut rounds: Vec<u32> = self
            .option(section, "token_iterations")
            .and_then(|entry| entry.value.parse().ok())
            .into_iter()
            .collect();
        for usual in ITERATIONS {
            if !rounds.contains(&usual) {
                rounds.push(usual);
            }
        }
        let mut tried_all = true;
        let key = rounds
            .into_iter()
            .filter_map(|rounds| {
                let rest = self.rounds.checked_sub(rounds);
                tried_all &= rest.is_some();
                self.rounds = rest?;
                Key::derive(password, &salt, rounds)
            })
            .find(|key| key.open(&first.value).is_some());
        let Some(key) = key else {
            self.shut += 1;
            let why = if tried_all {
                format!("the password is not the one of {}", shown(&section.name))
            } else {
                "opening them takes longer than one import may".to_owned()
            };
            left.push(NotCarried::new(place, "the tokens", why).instead(format!(
                "import it on its own with its password, or {again}"
            )));
            return Opened::default();
        };
        self.opened += 1;
        let open = |name: &str| {
            self.option(section, name)
                .and_then(|it| key.open(&it.value))
        };
        Opened {
            refresh_token: open("refresh_token"),
            client_secret: open("client_secret_encrypted"),
            is_right: true,
        }
    }

    /// What the application proves itself with. As in the proxy, a secret in clear comes first,
    /// then an encrypted one, then a certificate.
    fn proof(
        &self,
        section: &'a Section,
        account: &mut ImportedAccount,
        opened: Option<SecretString>,
        flow: Flow,
        left: &mut Vec<NotCarried>,
    ) {
        let clear = self.option(section, "client_secret");
        if let Some(entry) = clear.filter(|entry| entry.value.contains("*** your")) {
            left.push(
                NotCarried::new(
                    entry.place.clone(),
                    "client_secret",
                    "it is the sample file's text",
                )
                .instead("postrider secret set, if the application has a secret"),
            );
            return;
        }
        let secret = clear.map(|entry| SecretString::from(entry.value.as_str()));
        if let Some(secret) = secret.or(opened) {
            account.keep("client_secret", secret);
            return;
        }
        let certificate = self.option(section, "jwt_certificate_path");
        let key = self.option(section, "jwt_key_path");
        if let (Some(certificate), Some(key)) = (certificate, key) {
            account.set_auth("certificate", json!({ "file": self.beside(certificate) }));
            account.set_auth("private_key", json!({ "file": self.beside(key) }));
        } else if flow == Flow::ClientCredentials
            || self.option(section, "client_secret_encrypted").is_some()
        {
            // The account is complete but for this: it stands in the file as it is to be.
            let name = format!("{}/client_secret", account.name);
            account.set_auth("client_secret", json!({ "vault": name.as_str() }));
            left.push(
                NotCarried::new(
                    section.place.clone(),
                    "client_secret",
                    "it is not in the file, or could not be decrypted",
                )
                .instead(format!("postrider secret set {name}")),
            );
        }
    }

    fn options(&mut self) {
        let Some(section) = self.ini.section("emailproxy") else {
            return;
        };
        for entry in &section.entries {
            let known = OPTIONS.iter().find(|(key, _)| *key == entry.key);
            // An unknown one is not repeated: it may be the next line of a broken token.
            let (what, why) = known.unwrap_or(&("an option", "Postrider has no such option"));
            let left = NotCarried::new(entry.place.clone(), what, *why);
            self.imported.not_carried.push(left);
        }
    }
}

/// The last two labels of a host.
fn organisation(host: &str) -> String {
    let host = host.split(':').next().unwrap_or_default();
    let labels: Vec<&str> = host.rsplit('.').take(2).collect();
    labels.join(".").to_ascii_lowercase()
}
