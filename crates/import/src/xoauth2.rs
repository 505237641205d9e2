//! sasl-xoauth2: `/etc/sasl-xoauth2.conf` and the token files that Postfix's `sasl_passwd` names
//! in place of passwords.
//!
//! What a token file says goes before what the configuration says.

use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::account::{ImportedAccount, ImportedTokens};
use crate::error::ImportError;
use crate::files::{self, Files};
use crate::hosts::Server;
use crate::left::{NotCarried, Place, shown};
use crate::msmtp::is_system_trust;
use crate::names::Names;
use crate::oauth::{Client, Flow};
use crate::postfix::{Credential, Next, credentials, rows};
use crate::{Imported, MAX_ACCOUNTS, Options};

/// Where the configuration is.
pub(crate) const CONFIG: &str = "/etc/sasl-xoauth2.conf";
/// What the plugin takes where nothing else is said.
const GOOGLE: &str = "https://accounts.google.com/o/oauth2/token";
/// Postfix's clients may have their root here.
const CHROOT: &str = "/var/spool/postfix";

/// Keys that concern the plugin alone.
const OF_THE_PLUGIN: [&str; 5] = [
    "always_log_to_syslog",
    "log_to_syslog_on_failure",
    "log_full_trace_on_failure",
    "log_full_trace_to_syslog",
    "refresh_window",
];

/// What the configuration at `path`, with the map of Postfix at `passwords`, comes to.
///
/// # Errors
/// A file cannot be read, or is broken.
pub fn sasl_xoauth2(
    path: &str,
    passwords: &str,
    files: &dyn Files,
    options: &Options,
) -> Result<Imported, ImportError> {
    let text = files::required(files, path)?;
    let config = object(path, &text)?;
    let mut plugin = Plugin {
        path: path.to_owned(),
        config,
    };
    let mut imported = Imported::default();
    plugin.say_what_is_left(&mut imported.not_carried);
    let text = files::required(files, passwords)?;
    let mut names = Names::new(&options.prefix);
    let mut found = credentials(rows(passwords, &text), &mut imported.not_carried);
    if found.len() > MAX_ACCOUNTS {
        found.truncate(MAX_ACCOUNTS);
        imported.not_carried.push(NotCarried::new(
            Place::file(passwords),
            "the other rows",
            format!("only the first {MAX_ACCOUNTS} were read"),
        ));
    }
    for credential in found {
        if !credential.secret.starts_with('/') {
            imported.not_carried.push(
                NotCarried::new(
                    credential.place,
                    &shown(&credential.user),
                    "what stands there is a password, not the path of a token file",
                )
                .instead("postrider import postfix takes passwords, too"),
            );
            continue;
        }
        let Some(server) = credential.next.server() else {
            imported.not_carried.push(
                NotCarried::new(
                    credential.place,
                    &shown(&credential.user),
                    "it is for a sender, and which server that has stands in main.cf",
                )
                .instead("postrider import postfix /etc/postfix/main.cf"),
            );
            continue;
        };
        let mut account =
            ImportedAccount::new(names.of_mailbox(&credential.user), credential.place.clone());
        if plugin.account(
            &mut account,
            &credential,
            &server,
            files,
            &mut imported.not_carried,
        ) {
            imported.accounts.push(account);
        }
    }
    Ok(imported.bounded())
}

/// The plugin's configuration.
pub(crate) struct Plugin {
    path: String,
    config: Map<String, Value>,
}

impl Plugin {
    /// The one of this machine, or why there is none.
    pub(crate) fn of_machine(files: &dyn Files) -> Result<Self, String> {
        let text = files::named(files, CONFIG)?;
        let config = object(CONFIG, &text).map_err(|error| error.message)?;
        Ok(Self {
            path: CONFIG.to_owned(),
            config,
        })
    }

    fn say_what_is_left(&mut self, left: &mut Vec<NotCarried>) {
        for key in OF_THE_PLUGIN {
            if self.config.shift_remove(key).is_some() {
                left.push(NotCarried::new(
                    Place::file(&self.path),
                    key,
                    "Postrider logs, and refreshes tokens, in its own way",
                ));
            }
        }
    }

    /// Makes `account` of a token file; whether there is one to be made.
    pub(crate) fn account(
        &self,
        account: &mut ImportedAccount,
        credential: &Credential,
        server: &Server,
        files: &dyn Files,
        left: &mut Vec<NotCarried>,
    ) -> bool {
        let path = credential.secret.as_str();
        let token = match read_token(files, path) {
            Ok(token) => token,
            Err(why) => {
                left.push(
                    NotCarried::new(
                        credential.place.clone(),
                        &format!("the token file {}", shown(path)),
                        why,
                    )
                    .instead(format!(
                        "run the command as a user who can read it, or: postrider setup --username {}",
                        shown(&credential.user)
                    )),
                );
                return false;
            }
        };
        let place = Place::file(path);
        let text = |key: &str| {
            let found = token.get(key).or_else(|| self.config.get(key));
            found
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let Some(client_id) = text("client_id") else {
            left.push(NotCarried::new(
                place,
                "client_id",
                "neither the token file nor the configuration has one",
            ));
            return false;
        };
        let is_on = |key: &str| match token.get(key).or_else(|| self.config.get(key)) {
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => crate::ini::truth(text),
            _ => false,
        };
        if is_on("manage_token_externally") {
            left.push(
                NotCarried::new(
                    place.clone(),
                    "manage_token_externally",
                    "its tokens come from another program; Postrider fetches them itself",
                )
                .instead(format!(
                    "if the application and the sign-in are the account's own: postrider login {}",
                    account.name
                )),
            );
        }
        let app_only = is_on("use_client_credentials");
        let service = server.write(account, &place, left);
        account.set("username", text("user").unwrap_or(&credential.user));
        Client {
            flow: if app_only {
                Flow::ClientCredentials
            } else {
                Flow::AuthorizationCode
            },
            token_url: text("token_endpoint").unwrap_or(GOOGLE),
            permission_url: None,
            redirect_uri: None,
            scopes: text("scope").unwrap_or_default(),
            id: client_id,
        }
        .write(account, service, &place, left);
        if let Some(secret) = text("client_secret") {
            account.keep("client_secret", SecretString::from(secret));
        }
        if let Some(file) = text("ca_bundle_file").filter(|file| !is_system_trust(file)) {
            account.set("ca_file", file);
        }
        for key in ["proxy", "ca_certs_dir"] {
            if text(key).is_some() {
                let instead = match key {
                    "proxy" => "set HTTPS_PROXY in the daemon's environment",
                    _ => "name a file with the authorities in ca_file",
                };
                left.push(
                    NotCarried::new(place.clone(), key, "an account has no such setting")
                        .instead(instead),
                );
            }
        }
        if !app_only {
            account.tokens = text("refresh_token").map(|refresh_token| ImportedTokens {
                refresh_token: SecretString::from(refresh_token),
                access_expires_at: expiry(&token),
            });
            if account.tokens.is_none() {
                left.push(
                    NotCarried::new(place, "refresh_token", "there is none")
                        .instead(format!("postrider login {}", account.name)),
                );
            }
        }
        true
    }
}

/// The token file at `path`, or where it is seen from outside Postfix's root.
fn read_token(files: &dyn Files, path: &str) -> Result<Map<String, Value>, String> {
    let outside = format!("{CHROOT}{path}");
    let text = files::named(files, path).or_else(|why| {
        let from_outside = files::named(files, &outside);
        from_outside.map_err(|_| why)
    })?;
    object(path, &text).map_err(|error| error.message)
}

/// Seconds since the epoch, as a number or as text.
fn expiry(token: &Map<String, Value>) -> Option<SystemTime> {
    let value = token.get("expiry")?;
    let seconds = value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// A JSON object. The parser's own words may quote the file, so only the line is told.
fn object(path: &str, text: &str) -> Result<Map<String, Value>, ImportError> {
    serde_json::from_str(text).map_err(|error| {
        ImportError::malformed(
            Place::line(path, error.line().max(1)),
            "is not a JSON object, as sasl-xoauth2 has it",
        )
    })
}

impl Next {
    /// The server, where it names one; a submission server's STARTTLS port where it names none.
    fn server(&self) -> Option<Server> {
        match self {
            Self::Server { host, port } => Some(Server {
                host: host.clone(),
                port: port.unwrap_or(587),
                tls: if *port == Some(465) {
                    crate::hosts::Tls::Implicit
                } else {
                    crate::hosts::Tls::Start
                },
            }),
            Self::Sender(_) | Self::Any => None,
        }
    }
}
