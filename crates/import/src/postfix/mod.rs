//! Postfix as a relay client: `main.cf` with the tables and the `master.cf` that belong to it.

mod listeners;
mod main_cf;
mod parameters;
mod pattern;
mod rewrite;
mod table;

use secrecy::SecretString;

use crate::account::ImportedAccount;
use crate::error::ImportError;
use crate::files::{self, Files};
use crate::hosts::{Server, Service, Tls, warn_of_password};
use crate::left::{NotCarried, Place, shown};
use crate::msmtp::{is_system_trust, write_names};
use crate::names::Names;
use crate::xoauth2::Plugin;
use crate::{Imported, MAX_ACCOUNTS, Options};

use main_cf::{MainCf, list};
use rewrite::{Rewrite, rewrite};
pub(crate) use table::{Credential, Next, credentials, rows};
use table::{Row, tables};

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
        rewrite: rewrite(&main, files),
        sender: options.sender.as_deref(),
    };
    import.accounts();
    let Import {
        mut names,
        mut imported,
        rewrite,
        ..
    } = import;
    listeners::listeners(path, &main, files, &mut names, options, &mut imported);
    if rewrite.sender.is_some() {
        for gateway in &mut imported.gateways {
            gateway.set("rewrite_from", true);
        }
    }
    parameters::rest(path, &main, &rewrite.carried, &mut imported.not_carried);
    Ok(imported.bounded())
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
    rewrite: Rewrite,
    /// Whose an account's mail is where the files do not say it.
    sender: Option<&'a str>,
}

/// A row of `sender_dependent_relayhost_maps`.
struct Relay {
    /// An address or `@domain`; none: everybody.
    sender: Option<String>,
    next: Next,
    place: Place,
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
        tables(self.files, (name, &value), &place, left)
    }

    fn relays(&mut self) -> Vec<Relay> {
        let rows = self.rows_of("sender_dependent_relayhost_maps").into_iter();
        // `DUNNO` is the relayhost.
        rows.filter(|row| !row.value.eq_ignore_ascii_case("DUNNO"))
            .map(|row| Relay {
                next: Next::parse(&row.value),
                sender: row.key,
                place: row.place,
            })
            .collect()
    }

    /// The server of `relayhost`.
    fn relayhost(&mut self) -> Option<Next> {
        let value = self.main.get("relayhost")?;
        let place = self.main.place("relayhost");
        let mut items = list(&value).into_iter();
        let first = items.next()?;
        let next = Next::parse(first);
        for other in items {
            self.leave(NotCarried::new(
                place.clone(),
                &format!("relayhost {}", shown(other)),
                "an account has one server: the first",
            ));
        }
        Some(next)
    }

    fn accounts(&mut self) {
        let default = self.relayhost();
        let relays = self.relays();
        let before = self.imported.not_carried.len();
        let rows = self.rows_of("smtp_sasl_password_maps");
        let mut found = credentials(rows, &mut self.imported.not_carried);
        let is_on = self.main.is_on("smtp_sasl_auth_enable");
        if is_on && found.is_empty() && self.imported.not_carried.len() > before {
            // Which tables could not be read, stands there now.
            return;
        }
        if found.is_empty() || !is_on {
            let what = self.main.get("relayhost").map_or_else(
                || "no relayhost".to_owned(),
                |relay| format!("relayhost {}", shown(&relay)),
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
        let is_default = |it: &Credential| default.as_ref().is_some_and(|to| it.next.is_for(to));
        found.sort_by_key(|credential| !is_default(credential));
        if found.len() > MAX_ACCOUNTS {
            found.truncate(MAX_ACCOUNTS);
            self.leave(NotCarried::new(
                self.main.place("smtp_sasl_password_maps"),
                "smtp_sasl_password_maps",
                format!("only its first {MAX_ACCOUNTS} rows were read"),
            ));
        }
        for credential in &found {
            self.account(credential, default.as_ref(), &relays);
        }
        self.without_password(&found, default.as_ref(), &relays);
        self.say_mx(default.as_ref());
    }

    /// Says that Postfix may connect to another server than the one that is named.
    fn say_mx(&mut self, default: Option<&Next>) {
        let named = self.main.get("relayhost").unwrap_or_default();
        if let Some(Next::Server { host, .. }) = default
            && !named.starts_with('[')
            && Service::of(host).is_none()
            && !self.imported.accounts.is_empty()
        {
            self.leave(
                NotCarried::new(
                    self.main.place("relayhost"),
                    &format!("relayhost {}", shown(host)),
                    "without brackets Postfix connects to the MX of this name; an account connects \
                     to the name itself",
                )
                .instead("if it has an MX, set server.host of the account to that"),
            );
        }
    }

    /// Says which servers no password is for: Postfix sends there without signing in.
    fn without_password(&mut self, found: &[Credential], default: Option<&Next>, relays: &[Relay]) {
        const WHY: &str = "no password goes with it: Postfix sends there without signing in, and \
                           Postrider always signs in";
        let has_own = |sender: &str| {
            let own = Next::Sender(sender.to_owned());
            found.iter().any(|it| it.next == own)
        };
        let is_known = |next: &Next| found.iter().any(|it| it.next.is_for(next));
        let senders_only = found.iter().all(|it| matches!(it.next, Next::Sender(_)));
        if let Some(next) = default
            && !is_known(next)
            && !senders_only
        {
            self.imported.not_carried.push(
                NotCarried::new(self.main.place("relayhost"), "relayhost", WHY).instead(
                    "postrider setup makes an account; name it as account of the gateways",
                ),
            );
        }
        for relay in relays {
            let sender = relay.sender.as_deref().unwrap_or("every sender");
            if !is_known(&relay.next) && !has_own(sender) {
                self.imported.not_carried.push(
                    NotCarried::new(
                        relay.place.clone(),
                        &format!("the relay of {}", shown(sender)),
                        WHY,
                    )
                    .instead("postrider setup makes an account"),
                );
            }
        }
    }

    /// The server and the sender that a row of passwords is for; none where Postfix has no server
    /// for that sender.
    fn target(
        &mut self,
        credential: &Credential,
        default: Option<&Next>,
        relays: &[Relay],
    ) -> Option<(Server, Option<String>)> {
        let relay_of = |sender: &str| {
            let domain = sender
                .rsplit_once('@')
                .map(|(_, domain)| format!("@{domain}"));
            let is_domain = |relay: &&Relay| relay.sender.is_some() && relay.sender == domain;
            let mut of = relays.iter();
            let row = of.find(|relay| relay.sender.as_deref() == Some(sender));
            let row = row.or_else(|| relays.iter().find(is_domain));
            let row = row.or_else(|| relays.iter().find(|relay| relay.sender.is_none()));
            row.map(|relay| &relay.next)
        };
        let (next, sender) = match &credential.next {
            Next::Sender(sender) => (relay_of(sender).or(default), Some(sender.clone())),
            Next::Any => {
                for relay in relays.iter().filter(|relay| Some(&relay.next) != default) {
                    let sender = relay.sender.as_deref().unwrap_or("every sender");
                    self.imported.not_carried.push(
                        NotCarried::new(
                            relay.place.clone(),
                            &format!("the relay of {}", shown(sender)),
                            "the password is for it, too, but an account has one server",
                        )
                        .instead("postrider setup makes an account for it"),
                    );
                }
                (default, None)
            }
            server @ Next::Server { .. } => {
                let mut senders = relays
                    .iter()
                    .filter(|relay| server.is_for(&relay.next))
                    .filter_map(|relay| relay.sender.clone());
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
                // A key that is a host alone is for the port that Postfix connects to.
                let connected = default.into_iter().chain(relays.iter().map(|it| &it.next));
                let mut connected = connected.filter(|to| server.is_for(to));
                (Some(connected.next().unwrap_or(server)), first)
            }
        };
        let Some(Next::Server { host, port }) = next else {
            return None;
        };
        let sender = sender.filter(|sender| !sender.starts_with('@'));
        Some((self.server(host, *port), sender))
    }

    fn account(&mut self, credential: &Credential, default: Option<&Next>, relays: &[Relay]) {
        let title = shown(&credential.user);
        let place = credential.place.clone();
        let Some((server, sender)) = self.target(credential, default, relays) else {
            self.leave(NotCarried::new(
                place,
                &title,
                "no relayhost goes with this row",
            ));
            return;
        };
        let mechanisms = self.main.get("smtp_sasl_mechanism_filter");
        let mechanisms = mechanisms.map(|filter| filter.to_ascii_lowercase());
        let mechanisms = mechanisms.as_deref().map(list).unwrap_or_default();
        let is_oauth = |it: &&str| matches!(*it, "xoauth2" | "oauthbearer");
        let is_other = |it: &&str| matches!(*it, "gssapi" | "external" | "ntlm");
        if !mechanisms.is_empty() && mechanisms.iter().all(is_other) {
            self.leave(NotCarried::new(
                place,
                &title,
                "it signs in by a mechanism (smtp_sasl_mechanism_filter) that Postrider does not \
                 speak",
            ));
            return;
        }
        let sender = sender.or_else(|| self.rewrite.sender.clone());
        let sender = sender.or_else(|| {
            let given = self.sender.filter(|_| !credential.user.contains('@'));
            given.map(str::to_owned)
        });
        let mailbox = if credential.user.contains('@') {
            credential.user.as_str()
        } else if let Some(sender) = &sender {
            sender.as_str()
        } else {
            self.leave(
                NotCarried::new(
                    place,
                    &title,
                    "the user is no mail address, and no sender goes with it",
                )
                .instead("import with --sender ADDRESS"),
            );
            return;
        };
        let account = ImportedAccount::new(self.names.of_mailbox(mailbox), place.clone());
        if mechanisms.iter().any(is_oauth) {
            if credential.secret.starts_with('/') {
                self.oauth(account, credential, &server, sender);
                return;
            }
            if mechanisms.iter().all(is_oauth) {
                self.leave(
                    NotCarried::new(
                        place,
                        &title,
                        "it signs in by OAuth, so what stands there is an access token and no \
                         password; Postrider fetches its own",
                    )
                    .instead(format!("postrider setup --username {title}")),
                );
                return;
            }
        }
        self.password(account, credential, &server, sender.as_deref());
    }

    fn password(
        &mut self,
        mut account: ImportedAccount,
        credential: &Credential,
        server: &Server,
        sender: Option<&str>,
    ) {
        let place = &credential.place;
        let left = &mut self.imported.not_carried;
        let service = server.write(&mut account, place, left);
        write_names(&mut account, &credential.user, sender);
        account.set_auth("plugin", "basic");
        account.keep("password", SecretString::from(credential.secret.as_str()));
        warn_of_password(&account, service, place, left);
        self.transport(&mut account);
        self.imported.accounts.push(account);
    }

    fn oauth(
        &mut self,
        mut account: ImportedAccount,
        credential: &Credential,
        server: &Server,
        sender: Option<String>,
    ) {
        let files = self.files;
        let plugin = self.plugin.get_or_insert_with(|| Plugin::of_machine(files));
        let left = &mut self.imported.not_carried;
        match plugin {
            Ok(plugin) => {
                if plugin.account(&mut account, credential, server, files, left) {
                    if let Some(sender) = sender.filter(|it| it != account.username()) {
                        account.set("sender", sender);
                    }
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

    fn server(&self, host: &str, port: Option<u16>) -> Server {
        let level = self.main.get("smtp_tls_security_level");
        let level = level.as_deref().unwrap_or_else(|| {
            let on = |name: &str| self.main.is_on(name);
            match (on("smtp_enforce_tls"), on("smtp_use_tls")) {
                (true, _) => "encrypt",
                (false, true) => "may",
                (false, false) => "none",
            }
        });
        let mut server = Server {
            host: host.to_owned(),
            port: port.unwrap_or(25),
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
