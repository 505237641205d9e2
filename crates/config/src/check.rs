//! From a checked table to an [`Account`]: presets filled in, keys weighed against each other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lettre::message::Mailbox;
use serde_json::Map;

use crate::account::{Account, Auth, Limits, Server, Timeouts, TlsMode};
use crate::grammar::{self, Fault};
use crate::keys::{self, Kind};
use crate::oauth;
use crate::presets::{Preset, Presets, Provider};
use crate::problem::{Problems, quote};
use crate::secret;
use crate::section::{Section, report, show_key};
use crate::tree::{Node, NodeKind};

/// Sessions at once where no preset says: few, as most servers allow few.
const CONNECTIONS: u16 = 3;
/// Every server takes as many recipients (RFC 5321 §4.5.3.1.8).
const RECIPIENTS: u32 = 100;

/// What a check needs besides the table.
pub(crate) struct Context<'a> {
    pub(crate) presets: &'a Presets,
    /// What relative paths are relative to.
    pub(crate) base: &'a Path,
    /// Whether the table came from a script.
    pub(crate) script: bool,
}

/// Checks one account. `None`, or any problem reported, means it may not be used.
pub(crate) fn account(
    name: &str,
    span: Option<Range<usize>>,
    node: &Node,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Account> {
    let path = format!("account.{}", show_key(name));
    let span = span.or_else(|| node.span.clone());
    if let Err(fault) = grammar::name(name) {
        report(path.clone(), span.clone(), fault, problems);
    }
    let section = Section::open(node, path, span, &[keys::ACCOUNT], context, problems)?;

    let provider = context
        .presets
        .provider(section.text("provider").unwrap_or("custom"))?;
    let preset = provider.preset;
    let ca_file = section
        .path("ca_file", context.base)
        .or_else(|| provider.ca_file().map(Path::to_owned));
    let username = username(&section, preset, problems);
    let server = server(&section, &provider, ca_file.clone(), context, problems);
    let timeouts = timeouts(&section, context, problems);
    let auth = auth(&section, &provider, context, problems);
    let sender = sender(&section, username, problems);

    Some(Account {
        name: name.to_owned(),
        provider: preset.name.to_owned(),
        username: username?.to_owned(),
        sender: sender?,
        test_recipient: section.mailbox("test_recipient"),
        server: server?,
        limits: Limits {
            connections: section
                .number("connections")
                .or(preset.connections)
                .unwrap_or(CONNECTIONS),
            messages_per_minute: section
                .number("messages_per_minute")
                .or(preset.messages_per_minute),
            recipients_per_message: section
                .number("recipients_per_message")
                .or(preset.recipients_per_message)
                .unwrap_or(RECIPIENTS),
        },
        timeouts,
        auth: auth?,
        ca_file,
    })
}

fn username<'t>(
    section: &Section<'t>,
    preset: &Preset,
    problems: &mut Problems,
) -> Option<&'t str> {
    if !section.has("username") {
        let fault = Fault::with("`username` is missing", "say who signs in");
        report(
            section.path.clone(),
            section.span("username"),
            fault,
            problems,
        );
    }
    let username = section.text("username")?;
    if preset.username_is_address
        && let Err(fault) = grammar::address(username)
    {
        let fault = Fault::with(
            fault.message,
            format!("{} wants the mailbox's address here", preset.title),
        );
        section.fault("username", fault, problems);
    }
    Some(username)
}

/// The sender; the user name serves if it is an address.
fn sender(
    section: &Section<'_>,
    username: Option<&str>,
    problems: &mut Problems,
) -> Option<Mailbox> {
    if section.has("sender") {
        return section.mailbox("sender");
    }
    if let Ok(address) = grammar::address(username?) {
        return Some(Mailbox::new(None, address));
    }
    let fault = Fault::with(
        "`sender` is missing, and `username` is not an address to use instead",
        "say which address messages come from",
    );
    report(
        section.path.clone(),
        section.span("sender"),
        fault,
        problems,
    );
    None
}

fn server(
    account: &Section<'_>,
    provider: &Provider<'_>,
    ca_file: Option<PathBuf>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Server> {
    let ehlo_name = account.text("ehlo_name").map(str::to_owned);
    let section = match account.node("server") {
        None if account.has("server") => return None,
        None => None,
        Some(node) => Some(Section::open(
            node,
            account.key("server"),
            None,
            &[keys::SERVER],
            context,
            problems,
        )?),
    };
    let Some(section) = section else {
        let Some((host, port, tls)) = provider.server() else {
            let fault = Fault::with(
                "`server` is missing",
                "write server = { host = \"smtp.example.org\" }, or name a `provider`",
            );
            report(
                account.path.clone(),
                account.span("server"),
                fault,
                problems,
            );
            return None;
        };
        return Some(Server {
            host: host.to_owned(),
            port,
            tls,
            ca_file,
            ehlo_name,
        });
    };

    let own_host = section.text("host").map(str::to_owned);
    // Port and TLS of a preset belong to its host.
    let preset_server = provider.server().filter(|_| !section.has("host"));
    if !section.has("host") && preset_server.is_none() {
        let fault = Fault::new("`host` is missing");
        report(section.path.clone(), section.span("host"), fault, problems);
    }
    let own_port: Option<u16> = section.number("port");
    let own_tls = section.text("tls").map(|text| match text {
        "implicit" => TlsMode::Implicit,
        "danger_plaintext" => TlsMode::DangerPlaintext,
        _ => TlsMode::Starttls,
    });
    let preset_tls = preset_server.map(|(_, _, tls)| tls);
    let preset_port = preset_server.map(|(_, port, _)| port);
    let tls = own_tls.unwrap_or_else(|| match own_port {
        Some(465) => TlsMode::Implicit,
        Some(_) => TlsMode::Starttls,
        None => preset_tls.unwrap_or(TlsMode::Starttls),
    });
    let port = own_port.unwrap_or_else(|| match preset_port {
        Some(port) if preset_tls == Some(tls) => port,
        _ if tls == TlsMode::Implicit => 465,
        _ => 587,
    });
    let host = own_host.or_else(|| preset_server.map(|(host, _, _)| host.to_owned()))?;
    let allowed = section.flag("danger_send_credentials_in_clear") == Some(true);
    if tls == TlsMode::DangerPlaintext && !grammar::is_loopback(&host) && !allowed {
        let fault = Fault::with(
            format!(
                "would send this account's credentials to {} in clear",
                quote(&host)
            ),
            "use \"starttls\" or \"implicit\"; if the network itself is trusted, add danger_send_credentials_in_clear = true",
        );
        section.fault("tls", fault, problems);
    }
    Some(Server {
        host,
        port,
        tls,
        ca_file: section.path("ca_file", context.base).or(ca_file),
        ehlo_name,
    })
}

fn timeouts(account: &Section<'_>, context: &Context<'_>, problems: &mut Problems) -> Timeouts {
    let section = account.node("timeouts").and_then(|node| {
        let path = account.key("timeouts");
        Section::open(node, path, None, &[keys::TIMEOUTS], context, problems)
    });
    let wait = |name| section.as_ref().and_then(|section| section.duration(name));
    Timeouts {
        connect: wait("connect"),
        tls: wait("tls"),
        greeting: wait("greeting"),
        command: wait("command"),
        mail: wait("mail"),
        rcpt: wait("rcpt"),
        data_start: wait("data_start"),
        data_block: wait("data_block"),
        data_end: wait("data_end"),
    }
}

fn auth(
    account: &Section<'_>,
    provider: &Provider<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Auth> {
    let Some(node) = account.node("auth") else {
        if !account.has("auth") {
            let fault = Fault::with(
                "`auth` is missing",
                "write [account.NAME.auth] with plugin = \"oauth\" or \"basic\"",
            );
            report(account.path.clone(), account.span("auth"), fault, problems);
        }
        return None;
    };
    let path = account.key("auth");
    let Some(plugin) = plugin_name(node, &path, problems) else {
        // Without the plugin its keys cannot be told from mistakes; the host's own can.
        return None;
    };
    match keys::plugin(plugin) {
        Some(fields) => shipped(plugin, fields, node, path, provider, context, problems),
        None => third_party(plugin, node, path, context, problems),
    }
}

fn plugin_name<'t>(node: &'t Node, path: &str, problems: &mut Problems) -> Option<&'t str> {
    let entry = node
        .entries()
        .and_then(|entries| entries.iter().find(|entry| entry.key == "plugin"));
    let Some(entry) = entry else {
        problems.suggest(
            path,
            node.span.clone(),
            "`plugin` is missing",
            "write plugin = \"oauth\" or plugin = \"basic\"",
        );
        return None;
    };
    let key = format!("{path}.plugin");
    let Some(name) = entry.node.text() else {
        let found = format!("expected a string, found {}", entry.node.type_name());
        problems.add(key, entry.node.span.clone(), found);
        return None;
    };
    if let Err(fault) = grammar::name(name) {
        report(key, entry.node.span.clone(), fault, problems);
        return None;
    }
    Some(name)
}

/// The settings of a plugin whose keys are known.
fn shipped(
    plugin: &str,
    fields: &'static [keys::Field],
    node: &Node,
    path: String,
    provider: &Provider<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Auth> {
    let section = Section::open(node, path, None, &[keys::AUTH, fields], context, problems)?;
    let mut auth = Auth {
        plugin: plugin.to_owned(),
        settings: Map::new(),
        secrets: BTreeMap::new(),
        allow_hosts: section.texts("allow_hosts").unwrap_or_default(),
    };
    for (field, node) in section.sound() {
        let key = section.key(field.name);
        match field.kind {
            _ if keys::AUTH.iter().any(|own| own.name == field.name) => {}
            Kind::Secret => {
                // Its problems, if any, were reported when the section was opened.
                let secret = secret::from_node(&key, node, context, &mut Problems::default());
                auth.secrets
                    .extend(secret.map(|secret| (field.name.to_owned(), secret)));
            }
            _ => {
                auth.settings.insert(field.name.to_owned(), node.to_json());
            }
        }
    }
    match plugin {
        "oauth" => oauth::complete(&section, provider, &mut auth.settings, problems),
        _ => {
            if !section.has("password") {
                let fault = Fault::with(
                    "`password` is missing",
                    format!("write password = {}", keys::REFERENCE_FORMS),
                );
                report(
                    section.path.clone(),
                    section.span("password"),
                    fault,
                    problems,
                );
            }
        }
    }
    Some(auth)
}

/// The settings of a plugin whose own schema will judge them: references become secrets,
/// the rest is handed on.
fn third_party(
    plugin: &str,
    node: &Node,
    path: String,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Auth> {
    let section = Section::open_among_others(node, path, None, &[keys::AUTH], context, problems)?;
    let mut auth = Auth {
        plugin: plugin.to_owned(),
        settings: Map::new(),
        secrets: BTreeMap::new(),
        allow_hosts: section.texts("allow_hosts").unwrap_or_default(),
    };
    for entry in node.entries()? {
        if section.has(&entry.key) {
            continue;
        }
        let key = section.key(&show_key(&entry.key));
        if let Err(fault) = grammar::line(&entry.key, 64) {
            report(key, entry.key_span.clone(), fault, problems);
        } else if keys::looks_secret(&entry.key) || secret::is_reference(&entry.node) {
            let secret = secret::from_node(&key, &entry.node, context, problems);
            auth.secrets
                .extend(secret.map(|secret| (entry.key.clone(), secret)));
        } else if plain(&key, &entry.node, problems) {
            auth.settings
                .insert(entry.key.clone(), entry.node.to_json());
        }
    }
    Some(auth)
}

/// Whether all text below `node` may be handed to a plugin.
fn plain(key: &str, node: &Node, problems: &mut Problems) -> bool {
    let fault = match &node.kind {
        NodeKind::List(nodes) => {
            let mut sound = true;
            for node in nodes {
                sound &= plain(key, node, problems);
            }
            return sound;
        }
        NodeKind::Table(entries) => {
            let mut sound = true;
            for entry in entries {
                let key = format!("{key}.{}", show_key(&entry.key));
                sound &= plain(&key, &entry.node, problems);
            }
            return sound;
        }
        NodeKind::Text(text) if !text.is_empty() => grammar::line(text, grammar::TEXT_OCTETS).err(),
        NodeKind::Float(number) if !number.is_finite() => Some(Fault::new("is not a number")),
        _ => None,
    };
    let sound = fault.is_none();
    if let Some(fault) = fault {
        report(key.to_owned(), node.span.clone(), fault, problems);
    }
    sound
}
