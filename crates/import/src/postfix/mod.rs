//! Postfix as a relay client: `main.cf` with the tables and the `master.cf` that belong to it.

mod listeners;
mod main_cf;
mod table;

use secrecy::SecretString;

use crate::account::ImportedAccount;
use crate::error::ImportError;
use crate::files::{self, Files};
use crate::hosts::{Server, Tls, warn_of_password};
use crate::left::{NotCarried, Place, shown};
use crate::msmtp::{is_system_trust, write_names};
use crate::names::Names;
use crate::xoauth2::Plugin;
use crate::{Imported, Options};

use main_cf::{MainCf, list};
pub(crate) use table::{Credential, Next, credentials};
use table::{Row, rows, sources};

/// Parameters that are read here.
const READ: [&str; 39] = [
    "relayhost",
    "smtp_sasl_auth_enable",
    "smtp_sasl_password_maps",
    "smtp_sasl_mechanism_filter",
    "smtp_sasl_security_options",
    "smtp_sasl_tls_security_options",
    "smtp_sasl_type",
    "smtp_sender_dependent_authentication",
    "sender_dependent_relayhost_maps",
    "smtp_tls_security_level",
    "smtp_use_tls",
    "smtp_enforce_tls",
    "smtp_tls_wrappermode",
    "smtp_tls_CAfile",
    "smtp_tls_CApath",
    "smtp_tls_note_starttls_offer",
    "smtp_tls_session_cache_database",
    "smtp_tls_loglevel",
    "smtp_helo_name",
    "inet_interfaces",
    "inet_protocols",
    "mynetworks",
    "message_size_limit",
    "myhostname",
    "mydomain",
    "smtpd_tls_cert_file",
    "smtpd_tls_key_file",
    "smtpd_tls_chain_files",
    "smtpd_tls_security_level",
    "smtpd_use_tls",
    "smtpd_tls_wrappermode",
    "smtpd_tls_auth_only",
    "smtpd_sasl_auth_enable",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_client_restrictions",
    "default_database_type",
    "compatibility_level",
    "config_directory",
];

/// Parameters without a counterpart, why, and what to do.
const NOT_CARRIED: [(&str, &str, &str); 27] = [
    (
        "mydestination",
        LOCAL,
        "set sendmail.local_to for mail to users of this machine",
    ),
    (
        "alias_maps",
        LOCAL,
        "set sendmail.local_to for mail to users of this machine",
    ),
    ("virtual_alias_maps", LOCAL, ""),
    ("virtual_alias_domains", LOCAL, ""),
    ("virtual_mailbox_domains", LOCAL, ""),
    ("home_mailbox", LOCAL, ""),
    ("relay_domains", LOCAL, ""),
    (
        "transport_maps",
        "an account has one server",
        "choose the account by the sender",
    ),
    ("default_transport", "an account has one server", ""),
    (
        "smtp_generic_maps",
        REWRITE,
        "sendmail.rewrite_from; a gateway's rewrite_from",
    ),
    (
        "canonical_maps",
        REWRITE,
        "sendmail.rewrite_from; a gateway's rewrite_from",
    ),
    (
        "sender_canonical_maps",
        REWRITE,
        "sendmail.rewrite_from; a gateway's rewrite_from",
    ),
    ("recipient_canonical_maps", REWRITE, ""),
    ("masquerade_domains", REWRITE, ""),
    (
        "header_checks",
        HOOK,
        "a script's gateway.message or message.before_send",
    ),
    (
        "smtp_header_checks",
        HOOK,
        "a script's gateway.message or message.before_send",
    ),
    (
        "body_checks",
        HOOK,
        "a script's gateway.message or message.before_send",
    ),
    ("content_filter", HOOK, "a script's gateway.message"),
    ("smtpd_milters", HOOK, "a script's gateway.message"),
    ("non_smtpd_milters", HOOK, "a script's message.before_send"),
    ("always_bcc", HOOK, "a script's message.before_send"),
    (
        "smtpd_sender_login_maps",
        "senders are a setting",
        "set senders of the gateway or device",
    ),
    (
        "smtpd_client_message_rate_limit",
        "limits are a setting",
        "set messages_per_minute of the gateway or device",
    ),
    (
        "smtpd_client_connection_count_limit",
        "limits are a setting",
        "set connections_per_client of the gateway",
    ),
    (
        "default_destination_rate_delay",
        "an account's limits pace it",
        "set messages_per_minute of the account",
    ),
    (
        "maximal_queue_lifetime",
        "the queue has its own setting",
        "set queue.max_age",
    ),
    ("smtp_bind_address", "the system chooses the address", ""),
];

const LOCAL: &str = "Postrider delivers nothing on this machine: it sends through accounts";
const REWRITE: &str = "addresses are rewritten to the account's sender or not at all";
const HOOK: &str = "messages are changed by scripts";

/// What the `main.cf` at `path` comes to.
///
/// # Errors
/// The file cannot be read, or is broken.
pub fn postfix(path: &str, files: &dyn Files, options: &Options) -> Result<Imported, ImportError> {
    let text = files::required(files, path)?;
    let main = MainCf::parse(path, &text)?;
    let mut import = Import {
        main: &main,
        files,
        names: Names::new(&options.prefix),
        imported: Imported::default(),
        plugin: None,
    };
    import.accounts();
    let Import {
        mut names,
        mut imported,
        ..
    } = import;
    listeners::listeners(path, &main, files, &mut names, options, &mut imported);
    rest(path, &main, &mut imported.not_carried);
    Ok(imported)
}

/// A port by number or by name.
pub(crate) fn port(text: &str) -> Option<u16> {
    match text {
        "smtp" => Some(25),
        "submission" => Some(587),
        "smtps" | "submissions" => Some(465),
        number => number.parse().ok().filter(|port| *port > 0),
    }
}

struct Import<'a> {
    main: &'a MainCf,
    files: &'a dyn Files,
    names: Names,
    imported: Imported,
    /// sasl-xoauth2, once a line of `sasl_passwd` needs it.
    plugin: Option<Result<Plugin, String>>,
}

impl Import<'_> {
    fn leave(&mut self, left: NotCarried) {
        self.imported.not_carried.push(left);
    }

    fn rows_of(&mut self, name: &str) -> Vec<Row> {
        let Some(value) = self.main.get(name) else {
            return Vec::new();
        };
        let place = self.main.place(name);
        let left = &mut self.imported.not_carried;
        let texts = sources(self.files, (name, &value), &place, left);
        texts
            .iter()
            .flat_map(|(path, text)| rows(path, text))
            .collect()
    }

    fn accounts(&mut self) {
        let relay = self.main.get("relayhost").map(|text| text.replace(' ', ""));
        let relays = self.rows_of("sender_dependent_relayhost_maps");
        let mut found = Vec::new();
        if let Some(value) = self.main.get("smtp_sasl_password_maps") {
            let place = self.main.place("smtp_sasl_password_maps");
            let left = &mut self.imported.not_carried;
            for (path, text) in sources(
                self.files,
                ("smtp_sasl_password_maps", &value),
                &place,
                left,
            ) {
                found.extend(credentials(&path, &text));
            }
        }
        if found.is_empty() || !self.main.is_on("smtp_sasl_auth_enable") {
            let what = relay.as_deref().map_or_else(
                || "no relayhost".to_owned(),
                |relay| format!("relayhost {}", shown(relay)),
            );
            self.leave(
                NotCarried::new(
                    self.main.place("relayhost"),
                    &what,
                    "Postfix signs in nowhere (smtp_sasl_auth_enable, smtp_sasl_password_maps), \
                     and Postrider always signs in",
                )
                .instead("postrider setup makes an account"),
            );
            return;
        }
        // What everything goes through comes first: it is the gateways' account.
        let default = relay.as_deref().map(Next::parse);
        found.sort_by_key(|credential| Some(&credential.next) != default.as_ref());
        for credential in &found {
            self.account(credential, default.as_ref(), &relays);
        }
    }

    fn account(&mut self, credential: &Credential, default: Option<&Next>, relays: &[Row]) {
        let relay_of = |sender: &str| {
            let domain = sender.rsplit('@').next().map(|domain| format!("@{domain}"));
            let row = relays
                .iter()
                .find(|row| row.key == sender)
                .or_else(|| relays.iter().find(|row| Some(&row.key) == domain.as_ref()));
            row.map(|row| Next::parse(&row.value))
        };
        let title = shown(&credential.user);
        let (next, sender) = match &credential.next {
            Next::Sender(sender) => (
                relay_of(sender).or_else(|| default.cloned()),
                Some(sender.clone()),
            ),
            server @ Next::Server { .. } => {
                let mut senders = relays
                    .iter()
                    .filter(|row| Next::parse(&row.value) == *server)
                    .map(|row| row.key.clone());
                let first = senders.next();
                for other in senders {
                    self.imported.not_carried.push(
                        NotCarried::new(
                            credential.place.clone(),
                            &format!("the sender {}", shown(&other)),
                            "an account has one sender of its own",
                        )
                        .instead("let messages say it (From), with an account for each, or a gateway's senders"),
                    );
                }
                (Some(server.clone()), first)
            }
        };
        let Some(Next::Server { host, port }) = next else {
            self.leave(NotCarried::new(
                credential.place.clone(),
                &title,
                "no relayhost goes with this sender",
            ));
            return;
        };
        let sender = sender.filter(|sender| !sender.starts_with('@'));
        let mailbox = if credential.user.contains('@') {
            credential.user.as_str()
        } else if let Some(sender) = &sender {
            sender.as_str()
        } else {
            // A user that is no mailbox needs a sender, and the file names none.
            self.leave(
                NotCarried::new(
                    credential.place.clone(),
                    &title,
                    "the user is no mail address, and no sender goes with it",
                )
                .instead("postrider setup, with --username and --sender"),
            );
            return;
        };
        let server = self.server(host, port);
        let place = credential.place.clone();
        let mut account = ImportedAccount::new(self.names.of_mailbox(mailbox), place.clone());
        let xoauth2 = self
            .main
            .get("smtp_sasl_mechanism_filter")
            .is_some_and(|filter| {
                let mut mechanisms = list(&filter).into_iter();
                mechanisms
                    .any(|it| matches!(it.to_ascii_lowercase().as_str(), "xoauth2" | "oauthbearer"))
            });
        if xoauth2 && credential.secret.starts_with('/') {
            self.oauth(account, credential, &server);
            return;
        }
        let mut left = Vec::new();
        let service = server.write(&mut account, &place, &mut left);
        write_names(&mut account, &credential.user, sender.as_deref());
        self.transport(&mut account);
        account.set_auth("plugin", "basic");
        account.keep("password", SecretString::from(credential.secret.as_str()));
        warn_of_password(&account, service, &place, &mut left);
        self.imported.not_carried.append(&mut left);
        self.imported.accounts.push(account);
    }

    fn oauth(&mut self, mut account: ImportedAccount, credential: &Credential, server: &Server) {
        let files = self.files;
        let plugin = self.plugin.get_or_insert_with(|| Plugin::of_machine(files));
        let left = &mut self.imported.not_carried;
        match plugin {
            Ok(plugin) => {
                if plugin.account(&mut account, credential, server, files, left) {
                    self.transport(&mut account);
                    self.imported.accounts.push(account);
                }
            }
            Err(why) => left.push(
                NotCarried::new(
                    credential.place.clone(),
                    &shown(&credential.user),
                    format!("its token file needs {}: {why}", crate::xoauth2::CONFIG),
                )
                .instead("postrider import sasl-xoauth2 FILE --sasl-passwd FILE"),
            ),
        }
    }

    fn server(&mut self, host: String, port: Option<u16>) -> Server {
        let level = self.main.get("smtp_tls_security_level");
        let level = level.as_deref().unwrap_or_else(|| {
            let on = |name: &str| self.main.is_on(name);
            match (on("smtp_enforce_tls"), on("smtp_use_tls")) {
                (true, _) => "encrypt",
                (false, true) => "may",
                (false, false) => "none",
            }
        });
        let port = port.unwrap_or(25);
        let mut server = Server {
            host,
            port,
            tls: if self.main.is_on("smtp_tls_wrappermode") {
                Tls::Implicit
            } else if matches!(level, "none" | "may") {
                Tls::Clear
            } else {
                Tls::Start
            },
        };
        if server.tls == Tls::Clear && server.service().is_some() {
            // These servers offer it, and take no password without.
            server.tls = Tls::Start;
        }
        server
    }

    fn transport(&mut self, account: &mut ImportedAccount) {
        if let Some(file) = self.main.get("smtp_tls_CAfile")
            && !is_system_trust(&file)
        {
            account.set("ca_file", file);
        }
        if let Some(name) = self
            .main
            .get("smtp_helo_name")
            .filter(|name| name.contains('.'))
        {
            account.set("ehlo_name", name);
        }
    }
}

/// What nobody asked for until here.
fn rest(path: &str, main: &MainCf, left: &mut Vec<NotCarried>) {
    let mut others = Vec::new();
    for (name, place) in main.names() {
        if READ.contains(&name) || main.get(name).is_none() {
            continue;
        }
        match NOT_CARRIED.iter().find(|(known, ..)| *known == name) {
            Some((_, why, instead)) => {
                let mut one = NotCarried::new(place, name, *why);
                if !instead.is_empty() {
                    one = one.instead(*instead);
                }
                left.push(one);
            }
            None => others.push(shown(name)),
        }
    }
    if !others.is_empty() {
        others.truncate(100);
        left.push(NotCarried::new(
            Place::file(path),
            "the other parameters",
            format!("they concern Postfix alone: {}", others.join(", ")),
        ));
    }
}
