//! From a checked table to an [`Account`]: presets filled in, keys weighed against each other.

use std::ops::Range;
use std::path::{Path, PathBuf};

use lettre::message::Mailbox;

use crate::account::{Account, Limits, Server, Timeouts, TlsMode};
use crate::auth;
use crate::grammar::{self, Fault};
use crate::keys;
use crate::presets::{Preset, Presets, Provider};
use crate::problem::{Problems, quote};
use crate::renewal;
use crate::rotation;
use crate::section::{Place, Section, nearest, show_key};
use crate::tree::Node;

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
    let place = Place {
        path: format!("account.{}", show_key(name)),
        span: span.or_else(|| node.span.clone()),
    };
    if let Err(fault) = grammar::name(name) {
        place.fault(fault, problems);
    }
    let section = Section::open(node, place, &[keys::ACCOUNT], context, problems)?;

    let provider = if section.has("provider") {
        section.meant("provider")?
    } else {
        "custom"
    };
    let provider = context.presets.provider(provider)?;
    let preset = provider.preset;
    let ca_file = section
        .path("ca_file", context.base)
        .or_else(|| provider.ca_file().map(Path::to_owned));
    let username = username(&section, preset, problems);
    let server = server(&section, &provider, ca_file.clone(), context, problems);
    let timeouts = timeouts(&section, context, problems);
    let auth = auth::check(&section, &provider, context, problems);
    let rotation = rotation::check(&section, &provider, auth.as_ref(), context, problems);
    let renewal = renewal::check(&section, auth.as_ref(), context, problems);
    let sender = sender(&section, username, problems);
    let on_behalf = on_behalf(&section, username, problems);

    Some(Account {
        name: name.to_owned(),
        provider: preset.name.to_owned(),
        username: username?.to_owned(),
        sender: sender?,
        on_behalf,
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
            recipients_per_day: section
                .number("recipients_per_day")
                .or(preset.recipients_per_day),
            recipients_per_message: section
                .number("recipients_per_message")
                .or(preset.recipients_per_message)
                .unwrap_or(RECIPIENTS),
        },
        timeouts,
        auth: auth?,
        rotation,
        renewal,
        ca_file,
    })
}

/// That there is no such account, and which may be meant.
pub(crate) fn no_account<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Fault {
    let message = format!("there is no account {}", show_key(name));
    match nearest(name, names) {
        Some(near) => Fault::with(message, format!("did you mean {}?", quote(near))),
        None => Fault::new(message),
    }
}

fn username<'t>(
    section: &Section<'t>,
    preset: &Preset,
    problems: &mut Problems,
) -> Option<&'t str> {
    if !section.has("username") {
        let fault = Fault::with("`username` is missing", "say who signs in");
        section.missing(fault, problems);
    }
    let username = section.text("username")?;
    if preset.username_is_address
        && let Err(fault) = grammar::address(username)
    {
        let fault = Fault::with(
            fault.message,
            format!("{} signs in by the mailbox's address", preset.name),
        );
        section.fault("username", fault, problems);
    }
    Some(username)
}

/// Whether `Sender` names the user, who then has to be an address.
fn on_behalf(section: &Section<'_>, username: Option<&str>, problems: &mut Problems) -> bool {
    let on_behalf = section.flag("on_behalf").unwrap_or(false);
    if on_behalf && username.is_some_and(|name| grammar::address(name).is_err()) {
        let fault = Fault::with(
            "needs a `username` that is a mail address: it stands in the `Sender` field",
            "remove it",
        );
        section.fault("on_behalf", fault, problems);
    }
    on_behalf
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
    section.missing(fault, problems);
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
        Some(node) => {
            let place = account.place("server");
            Some(Section::open(
                node,
                place,
                &[keys::SERVER],
                context,
                problems,
            )?)
        }
    };
    let Some(section) = section else {
        let Some((host, port, tls)) = provider.server() else {
            let fault = Fault::with(
                "`server` is missing",
                "write server = { host = \"smtp.example.org\" }, or name a `provider`",
            );
            account.missing(fault, problems);
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
        section.missing(fault, problems);
    }
    if let Some((host, port, tls)) = preset_server.filter(|_| provider.is_sandboxed()) {
        // The port and TLS written are those of the real server.
        return Some(Server {
            host: host.to_owned(),
            port,
            tls,
            ca_file: section.path("ca_file", context.base).or(ca_file),
            ehlo_name,
        });
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
        let place = account.place("timeouts");
        Section::open(node, place, &[keys::TIMEOUTS], context, problems)
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
