//! msmtp: `~/.msmtprc` or `/etc/msmtprc`.
//!
//! Each line is a command with an argument. `defaults` and `account NAME : OTHER, …` say whose
//! settings the following lines are; an account begins with the defaults and takes from the
//! others what they have. No command of the file is run.

mod commands;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use secrecy::SecretString;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::account::ImportedAccount;
use crate::error::ImportError;
use crate::files::{self, Files};
use crate::hosts::{Server, Tls, warn_of_password};
use crate::left::{NotCarried, Place, shown};
use crate::names::Names;
use crate::{Imported, MAX_ACCOUNTS, Options};
use commands::{CARRIED, KEY_RINGS, NOT_CARRIED, TOKEN_PROGRAMS};

/// What characters mean something to a shell.
const SHELL: &[char] = &[
    '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '[', ']', '#', '~',
    '=', '%', '{', '}', '!', '\n',
];

/// What the file at `path` comes to.
///
/// # Errors
/// The file cannot be read, or is broken.
pub fn msmtp(path: &str, files: &dyn Files, options: &Options) -> Result<Imported, ImportError> {
    let text = files::required(files, path)?;
    let accounts = parse(path, &text)?;
    let mut import = Import {
        path,
        sender: options.sender.as_deref(),
        names: Names::new(&options.prefix),
        imported: Imported::default(),
        told: BTreeSet::new(),
    };
    for account in &accounts {
        import.account(account);
    }
    import.default_account(&accounts);
    if accounts.is_empty() {
        return Err(ImportError::malformed(
            Place::file(path),
            "has no account; is it a configuration of msmtp?",
        ));
    }
    Ok(import.imported.bounded())
}

#[derive(Clone)]
struct Argument {
    /// Shared by all who inherit it.
    text: Rc<Zeroizing<String>>,
    line: usize,
}

/// An account of the file, with all that it inherits.
struct Section {
    name: String,
    line: usize,
    parents: Vec<String>,
    /// Whether it has settings of its own.
    own: bool,
    settings: BTreeMap<&'static str, Argument>,
}

impl Section {
    fn get(&self, command: &str) -> Option<&Argument> {
        self.settings.get(command)
    }

    fn text(&self, command: &str) -> Option<&str> {
        let text = self.get(command)?.text.as_str();
        (!text.is_empty()).then_some(text)
    }

    /// A switch; an empty argument is on.
    fn is_on(&self, command: &str, otherwise: bool) -> bool {
        self.get(command)
            .map_or(otherwise, |argument| argument.text.as_str() != "off")
    }
}

/// The longest line, as in msmtp.
const MAX_LINE_OCTETS: usize = 500;

fn parse(path: &str, text: &str) -> Result<Vec<Section>, ImportError> {
    let mut defaults = BTreeMap::new();
    let mut accounts: Vec<Section> = Vec::new();
    let mut in_defaults = true;
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let failed = |message: &str| ImportError::malformed(Place::line(path, line), message);
        if raw.len() > MAX_LINE_OCTETS {
            return Err(failed("is longer than 500 octets, and no line for msmtp"));
        }
        let trimmed = raw.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (command, argument) = trimmed
            .split_once(char::is_whitespace)
            .map_or((trimmed, ""), |(command, rest)| (command, rest.trim()));
        let argument = argument
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(argument);
        let (command, argument) = match command {
            "tls_nostarttls" => ("tls_starttls", "off"),
            "tls_nocertcheck" => ("tls_certcheck", "off"),
            "connect_timeout" => ("timeout", argument),
            _ => (command, argument),
        };
        match command {
            "defaults" => in_defaults = true,
            "account" => {
                in_defaults = false;
                let (name, parents) = argument.split_once(':').unwrap_or((argument, ""));
                let name = name.trim();
                if name.is_empty() {
                    return Err(failed("an account needs a name"));
                }
                if accounts.iter().any(|account| account.name == name) {
                    return Err(failed("an account of this name is there already"));
                }
                if accounts.len() >= MAX_ACCOUNTS {
                    return Err(failed("there are more than 1000 accounts"));
                }
                let mut account = Section {
                    name: name.to_owned(),
                    line,
                    parents: Vec::new(),
                    own: false,
                    settings: defaults.clone(),
                };
                for parent in parents
                    .split(',')
                    .map(str::trim)
                    .filter(|it| !it.is_empty())
                {
                    let Some(other) = accounts.iter().find(|other| other.name == parent) else {
                        return Err(failed("inherits from an account that is not defined above"));
                    };
                    account.settings.extend(other.settings.clone());
                    account.parents.push(parent.to_owned());
                }
                accounts.push(account);
            }
            other => {
                let known = CARRIED
                    .into_iter()
                    .chain(NOT_CARRIED.iter().map(|(command, ..)| *command))
                    .find(|command| *command == other);
                // An unknown word is not repeated: it may be a secret that lost its command.
                let known =
                    known.ok_or_else(|| failed("does not begin with a command of msmtp"))?;
                let argument = Argument {
                    text: Rc::new(Zeroizing::new(argument.to_owned())),
                    line,
                };
                if in_defaults {
                    defaults.insert(known, argument);
                } else if let Some(account) = accounts.last_mut() {
                    account.own = true;
                    account.settings.insert(known, argument);
                }
            }
        }
    }
    Ok(accounts)
}

struct Import<'a> {
    path: &'a str,
    /// Whose an account's mail is where the file does not say it.
    sender: Option<&'a str>,
    names: Names,
    imported: Imported,
    /// Lines without a counterpart that were told of.
    told: BTreeSet<usize>,
}

impl Import<'_> {
    fn at(&self, line: usize) -> Place {
        Place::line(self.path, line)
    }

    fn account(&mut self, section: &Section) {
        if section.name == "default" && !section.own && section.parents.len() == 1 {
            return;
        }
        let title = format!("account {}", shown(&section.name));
        match self.try_account(section) {
            Ok(()) => self.rest(section),
            Err((why, instead)) => {
                let mut left = NotCarried::new(self.at(section.line), &title, why);
                if !instead.is_empty() {
                    left = left.instead(instead);
                }
                self.imported.not_carried.push(left);
            }
        }
    }

    /// The account, or why there is none and what to do.
    fn try_account(&mut self, section: &Section) -> Result<(), (String, String)> {
        let place = self.at(section.line);
        let none = |why: &str, instead: &str| Err((why.to_owned(), instead.to_owned()));
        if section.text("protocol").is_some_and(|it| it != "smtp") {
            return none("Postrider does not speak LMTP", "");
        }
        if section.text("socket").is_some() {
            return none("a Unix socket cannot be connected to", "");
        }
        let Some(host) = section.text("host") else {
            return none("it has no host", "");
        };
        let Some(server) = server(section, host) else {
            return none("its port is no port", "");
        };
        let user = section.text("user");
        let from = section
            .text("from")
            .filter(|from| !from.contains(['%', '*', '?', '[']));
        let method = match section.get("auth").map(|argument| argument.text.as_str()) {
            None | Some("off") => {
                return none(
                    "it sends without signing in, and Postrider always signs in",
                    "postrider setup, with a user of the server",
                );
            }
            Some(method) => method,
        };
        let Some(user) = user else {
            return none("it has no user", "postrider setup");
        };
        match method {
            "xoauth2" | "oauthbearer" => return Err(oauth(section, &server, user, from)),
            "external" | "gssapi" => {
                return none(
                    &format!("it signs in by {method}, which Postrider does not speak"),
                    "",
                );
            }
            _ => {}
        }
        let from = from.or_else(|| self.sender.filter(|_| !user.contains('@')));
        if from.is_none() && !user.contains('@') {
            return none(
                "it has neither a from with one address, nor a user that is one",
                "import with --sender ADDRESS",
            );
        }
        let name = self.names.of(&section.name);
        let mut account = ImportedAccount::new(name, place.clone());
        let mut left = Vec::new();
        let service = server.write(&mut account, &place, &mut left);
        write_names(&mut account, user, from);
        self.transport(section, &mut account, &mut left);
        account.set_auth("plugin", "basic");
        match method {
            "plain" => account.set_auth("mechanisms", json!(["PLAIN"])),
            "login" => account.set_auth("mechanisms", json!(["LOGIN"])),
            "cram-md5" => account.set_auth("mechanisms", json!(["CRAM-MD5"])),
            "on" | "" => {}
            // The method is not repeated: it may be a password in the wrong place.
            _ => left.push(NotCarried::new(
                self.line_of(section, "auth"),
                "auth",
                "Postrider signs in by PLAIN or LOGIN, inside TLS",
            )),
        }
        self.password(section, &mut account, host, user, &mut left);
        warn_of_password(&account, service, &place, &mut left);
        self.imported.not_carried.append(&mut left);
        self.imported.accounts.push(account);
        Ok(())
    }

    fn transport(
        &self,
        section: &Section,
        account: &mut ImportedAccount,
        left: &mut Vec<NotCarried>,
    ) {
        if let Some(file) = section.text("tls_trust_file")
            && !is_system_trust(file)
        {
            if let Some(rest) = file.strip_prefix("~/") {
                // The one who imports has the same home; what is written there is for a daemon too.
                left.push(
                    NotCarried::new(
                        self.line_of(section, "tls_trust_file"),
                        "tls_trust_file",
                        "an account names its authorities by a path without ~",
                    )
                    .instead(format!(
                        "set account.{}.ca_file to the path of {}",
                        account.name,
                        shown(rest)
                    )),
                );
            } else {
                account.set("ca_file", file);
            }
        }
        if !section.is_on("tls_certcheck", true) {
            left.push(
                NotCarried::new(
                    self.line_of(section, "tls_certcheck"),
                    "tls_certcheck off",
                    "the server's certificate is always checked",
                )
                .instead("if it is no public one, name its authority in ca_file"),
            );
        }
        if section.text("tls_fingerprint").is_some() {
            left.push(
                NotCarried::new(
                    self.line_of(section, "tls_fingerprint"),
                    "tls_fingerprint",
                    "a certificate is trusted by its authority, not by its digest",
                )
                .instead("name the authority, or the certificate itself, in ca_file"),
            );
        }
        if let Some(domain) = section.text("domain") {
            if domain.contains('%') || domain == "localhost" {
                left.push(NotCarried::new(
                    self.line_of(section, "domain"),
                    "domain",
                    "EHLO says this machine's name",
                ));
            } else {
                account.set("ehlo_name", domain);
            }
        }
        if let Some(from) = section
            .text("from")
            .filter(|it| it.contains(['%', '*', '?', '[']))
        {
            left.push(
                NotCarried::new(
                    self.line_of(section, "from"),
                    &format!("from {}", shown(from)),
                    "an account has one sender, not a pattern",
                )
                .instead(format!("set account.{}.sender", account.name)),
            );
        }
    }

    fn password(
        &self,
        section: &Section,
        account: &mut ImportedAccount,
        host: &str,
        user: &str,
        left: &mut Vec<NotCarried>,
    ) {
        let name = format!("{}/password", account.name);
        // msmtp asks a command before it looks at the password.
        if let Some(command) = section.text("passwordeval") {
            let program = command.split_ascii_whitespace().next().unwrap_or_default();
            if matches!(program, "echo" | "printf") {
                // It would be shown, and stand in the configuration.
                account.set_auth("password", json!({ "vault": name.as_str() }));
                left.push(
                    NotCarried::new(
                        self.line_of(section, "passwordeval"),
                        "passwordeval",
                        "the password itself stands in its command, which is not run here",
                    )
                    .instead(format!("postrider secret set {name}")),
                );
                return;
            }
            account.set_auth("password", json!({ "command": words(command) }));
            if KEY_RINGS
                .iter()
                .any(|it| program.rsplit('/').next() == Some(it))
            {
                left.push(
                    NotCarried::new(
                        self.line_of(section, "passwordeval"),
                        "passwordeval",
                        format!(
                            "{program} asks a key ring of this user, and a daemon has another user"
                        ),
                    )
                    .instead(format!(
                        "for postrider serve put the password into the vault: postrider secret \
                         set {name}, and account.{}.auth.password = {{ vault = \"{name}\" }}",
                        account.name
                    )),
                );
            }
            return;
        }
        if let Some(password) = section.text("password") {
            account.keep("password", SecretString::from(password));
            return;
        }
        account.set_auth("password", json!({ "vault": name.as_str() }));
        left.push(
            NotCarried::new(
                self.at(section.line),
                "the password",
                "it is not in the file: msmtp asks a key ring, ~/.netrc or the terminal for it",
            )
            .instead(format!(
                "postrider secret set {name}; from GNOME's key ring: secret-tool lookup host {} \
                 service smtp user {} | postrider secret set {name}",
                shown(host),
                shown(user)
            )),
        );
    }

    fn line_of(&self, section: &Section, command: &str) -> Place {
        self.at(section.get(command).map_or(section.line, |it| it.line))
    }

    /// What is left of a section, each line once.
    fn rest(&mut self, section: &Section) {
        for (command, why, instead) in NOT_CARRIED {
            let Some(argument) = section.get(command) else {
                continue;
            };
            if argument.text.is_empty() || !self.told.insert(argument.line) {
                continue;
            }
            let mut left = NotCarried::new(self.at(argument.line), command, why);
            if !instead.is_empty() {
                left = left.instead(instead);
            }
            self.imported.not_carried.push(left);
        }
    }

    /// `account default : NAME` is a choice, not an account.
    fn default_account(&mut self, accounts: &[Section]) {
        let Some(default) = accounts.iter().find(|it| it.name == "default" && !it.own) else {
            return;
        };
        let [parent] = &default.parents[..] else {
            return;
        };
        if self.imported.accounts.len() < 2 {
            return;
        }
        let left = NotCarried::new(
            self.at(default.line),
            "account default",
            format!(
                "which account mail of programs goes through is chosen by its sender, else by a \
                 setting; here it was {}",
                shown(parent)
            ),
        )
        .instead("set sendmail.account");
        self.imported.not_carried.push(left);
    }
}

/// Why an account whose password is a token that some program prints is none, and what to do.
fn oauth(section: &Section, server: &Server, user: &str, from: Option<&str>) -> (String, String) {
    let program = section.text("passwordeval").unwrap_or_default();
    let helper = TOKEN_PROGRAMS.iter().find(|name| program.contains(**name));
    let provider = server.service().map_or("custom", |service| match service {
        microsoft if microsoft.is_microsoft() => "microsoft365",
        other => other.provider,
    });
    let why = match helper {
        Some(&"postrider") => {
            "its token comes from Postrider: the account that it names is there already".to_owned()
        }
        Some(helper) => format!(
            "its token comes from {helper}, which keeps the application and the sign-in; \
             Postrider fetches tokens itself"
        ),
        None => "its token comes from another program; Postrider fetches tokens itself".to_owned(),
    };
    let mut instead = format!(
        "postrider setup {provider} --account {} --username {}",
        shown(&section.name),
        shown(user)
    );
    if let Some(from) = from.filter(|from| *from != user) {
        instead.push_str(" --sender ");
        instead.push_str(&shown(from));
    }
    if helper == Some(&"postrider") {
        "let programs use `postrider sendmail` in place of msmtp".clone_into(&mut instead);
    } else if provider != "microsoft365" {
        instead.push_str(" --app-id ID");
    }
    (why, instead)
}

fn server(section: &Section, host: &str) -> Option<Server> {
    let tls = match (
        section.is_on("tls", false),
        section.is_on("tls_starttls", true),
    ) {
        (false, _) => Tls::Clear,
        (true, true) => Tls::Start,
        (true, false) => Tls::Implicit,
    };
    let port = match section.text("port") {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0)?,
        None if tls == Tls::Implicit => 465,
        None => 25,
    };
    Some(Server {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        tls,
    })
}

/// `username`, and `sender` where it is another.
pub(crate) fn write_names(account: &mut ImportedAccount, user: &str, from: Option<&str>) {
    account.set("username", user);
    if let Some(from) = from.filter(|from| *from != user) {
        account.set("sender", from);
    }
}

/// Whether a file of authorities is the system's own.
pub(crate) fn is_system_trust(file: &str) -> bool {
    file == "system"
        || file.starts_with("/etc/ssl/certs/")
        || file.starts_with("/etc/pki/")
        || file.starts_with("/usr/share/ca-certificates")
        || file.starts_with("/nix/store/") && file.contains("-cacert-")
        || file.contains("/etc/ca-certificates/")
        || file.contains("/etc/openssl")
        || matches!(
            file,
            "/etc/ssl/cert.pem" | "/etc/ssl/ca-bundle.pem" | "/usr/local/etc/ssl/cert.pem"
        )
}

/// A shell's command as a program with arguments; where it needs the shell, by the shell.
fn words(command: &str) -> Vec<Value> {
    if command.contains(SHELL) {
        return vec!["/bin/sh".into(), "-c".into(), command.into()];
    }
    command.split_ascii_whitespace().map(Value::from).collect()
}
