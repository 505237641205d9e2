//! From a checked table to a [`Gateway`]: defaults filled in, keys weighed against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{
    CertificateFiles, DeviceSettings, Gateway, GatewayTls, Quirk, Rehearse, Senders, comparable,
};
use crate::account::Account;
use crate::check::{Context, no_account};
use crate::expiry;
use crate::grammar::{self, Fault};
use crate::keys;
use crate::network::{self, Network};
use crate::problem::Problems;
use crate::section::{Place, Section, report, show_key};
use crate::tree::{Entry, Node};

/// Not 25 or 587: those need rights, and may be somebody else's.
const LISTEN: &str = "127.0.0.1:2525";
/// Many times the devices of an office, and within the files that a process may open.
const CONNECTIONS: u32 = 1000;
/// A relay behind one address opens as many at once.
const CONNECTIONS_PER_CLIENT: u32 = 20;
/// RFC 5321 §4.5.3.2.7 asks for five minutes at least.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// The longest message over a slow line.
const SESSION_TIMEOUT: Duration = Duration::from_hours(1);

/// What a gateway is checked against.
pub(crate) struct Surroundings<'a> {
    /// The tables of accounts as they are written: broken ones are known, too.
    pub(crate) tables: &'a [Entry],
    /// Those that are right.
    pub(crate) accounts: &'a BTreeMap<String, Account>,
    /// The longest message that the queue takes.
    pub(crate) max_message_octets: usize,
}

/// Checks one gateway. `None`, or any problem reported, means it may not be used.
pub(crate) fn check(
    entry: &Entry,
    around: &Surroundings<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Gateway> {
    let name = &entry.key;
    let place = Place {
        path: format!("gateway.{}", show_key(name)),
        span: entry.key_span.clone().or_else(|| entry.node.span.clone()),
    };
    if let Err(fault) = grammar::name(name) {
        place.fault(fault, problems);
    }
    let known = &[
        keys::GATEWAY,
        keys::POLICY,
        keys::OPEN_RELAY,
        keys::PASSWORDS,
    ];
    let section = Section::open(&entry.node, place, known, context, problems)?;

    let listen = listen(&section)?;
    let tls = GatewayTls::from_word(section.text("tls").unwrap_or_default());
    let clients = clients(&section, &listen, problems);
    weigh_plaintext(&section, tls, &listen, problems);
    let certificate = certificate(&section, tls, context, problems);
    let observe = observe(&section, around, problems);
    let rehearse = rehearse(&section, context, problems);
    let defaults = defaults(&section, clients.clone(), around, problems);
    let mut devices = BTreeMap::new();
    let tables = section.node("device").and_then(Node::entries);
    for entry in tables.unwrap_or_default() {
        let place = Place {
            path: format!("{}.{}", section.key("device"), show_key(&entry.key)),
            span: entry.key_span.clone().or_else(|| entry.node.span.clone()),
        };
        if let Err(fault) = grammar::device(&entry.key) {
            place.fault(fault, problems);
        }
        let known = &[keys::POLICY, keys::OPEN_RELAY, keys::PASSWORDS];
        let own = Section::open(&entry.node, place, known, context, problems);
        let settings = own.zip(defaults.as_ref());
        if let Some((own, defaults)) = settings {
            let settings = device(&own, &section, defaults, around, problems);
            devices.insert(entry.key.clone(), settings);
        }
    }
    Some(Gateway {
        name: name.clone(),
        listen,
        tls,
        certificate,
        hostname: section.text("hostname").map(str::to_owned),
        clients,
        hide_client: section.flag("hide_client").unwrap_or(false),
        quirks: quirks(&section),
        connections: section.number("connections").unwrap_or(CONNECTIONS),
        connections_per_client: section
            .number("connections_per_client")
            .unwrap_or(CONNECTIONS_PER_CLIENT),
        idle_timeout: section.duration("idle_timeout").unwrap_or(IDLE_TIMEOUT),
        session_timeout: section
            .duration("session_timeout")
            .unwrap_or(SESSION_TIMEOUT),
        observe,
        rehearse,
        defaults: defaults?,
        devices,
    })
}

/// The addresses, and none where what is written is wrong.
fn listen(section: &Section<'_>) -> Option<Vec<SocketAddr>> {
    if !section.has("listen") {
        return Some(grammar::listen(LISTEN).ok().into_iter().collect());
    }
    let node = section.node("listen")?;
    let one = node.text().map(str::to_owned);
    let texts = one.into_iter().chain(section.texts("listen")?);
    Some(
        texts
            .filter_map(|text| grammar::listen(&text).ok())
            .collect(),
    )
}

/// The networks that `name` lists.
fn networks(section: &Section<'_>, name: &str) -> Option<Vec<Network>> {
    let texts = section.texts(name)?;
    Some(
        texts
            .iter()
            .filter_map(|text| network::parse(text).ok())
            .collect(),
    )
}

/// Who may connect: said by name as soon as others than this machine could.
fn clients(section: &Section<'_>, listen: &[SocketAddr], problems: &mut Problems) -> Vec<Network> {
    let open = listen
        .iter()
        .find(|address| !address.ip().to_canonical().is_loopback());
    if !section.has("clients")
        && let Some(open) = open
    {
        let fault = Fault::with(
            format!("{open} can be reached from elsewhere, and `clients` does not say by whom"),
            "add the networks of your devices: clients = [\"192.168.1.0/24\"]",
        );
        section.fault("listen", fault, problems);
    }
    let Some(clients) = networks(section, "clients") else {
        return Network::loopback();
    };
    if section.flag("danger_clients_anywhere") != Some(true) {
        for (network, node) in clients.iter().zip(items(section, "clients")) {
            if network.is_anywhere() {
                let fault = Fault::with(
                    format!("\"{network}\" lets the Internet try passwords here"),
                    "name the networks of your devices; if it must be, add danger_clients_anywhere = true",
                );
                report(section.key("clients"), node.span.clone(), fault, problems);
            }
        }
    }
    clients
}

/// The items of a sound list, with their places.
fn items<'t>(section: &Section<'t>, name: &str) -> &'t [Node] {
    section.node(name).and_then(Node::list).unwrap_or_default()
}

/// Passwords in clear stay within networks that are somebody's own.
fn weigh_plaintext(
    section: &Section<'_>,
    tls: GatewayTls,
    listen: &[SocketAddr],
    problems: &mut Problems,
) {
    if tls != GatewayTls::DangerPlaintext {
        return;
    }
    if !section.has("clients") {
        let fault = Fault::with(
            "takes passwords in clear, and `clients` does not say from whom",
            "add the network of the devices that need it: clients = [\"192.168.7.0/24\"]",
        );
        section.fault("tls", fault, problems);
    }
    for (network, node) in networks(section, "clients")
        .iter()
        .flatten()
        .zip(items(section, "clients"))
    {
        if !network.is_private() {
            let fault = Fault::with(
                format!(
                    "\"{network}\" is no private network: its passwords would cross the Internet in clear"
                ),
                "name networks within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fc00::/7; for others use tls = \"starttls\"",
            );
            report(section.key("clients"), node.span.clone(), fault, problems);
        }
    }
    if let Some(open) = listen
        .iter()
        .find(|address| address.ip().to_canonical().is_unspecified())
    {
        let fault = Fault::with(
            format!("{open} takes passwords in clear on every network of this machine"),
            "name this machine's address in the devices' own network, such as \"192.168.7.1:2525\"",
        );
        section.fault("listen", fault, problems);
    }
}

/// Both files or neither, and none where there is no TLS.
fn certificate(
    section: &Section<'_>,
    tls: GatewayTls,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<CertificateFiles> {
    let written = [("certificate", "key"), ("key", "certificate")];
    for (name, other) in written {
        if !section.has(name) {
            continue;
        }
        if tls == GatewayTls::DangerPlaintext {
            let fault = Fault::with(
                "is of no use with tls = \"danger_plaintext\"",
                "remove it, or use tls = \"starttls\" or \"implicit\"",
            );
            section.fault(name, fault, problems);
        } else if !section.has(other) {
            let fault = Fault::with(
                format!("needs `{other}` beside it"),
                "write both, or neither for a certificate that the gateway makes itself",
            );
            section.fault(name, fault, problems);
        }
    }
    Some(CertificateFiles {
        certificate: section.path("certificate", context.base)?,
        key: section.path("key", context.base)?,
    })
}

fn quirks(section: &Section<'_>) -> BTreeSet<Quirk> {
    let words = section.texts("quirks").unwrap_or_default();
    let named = |quirk: &Quirk| words.iter().any(|word| word == quirk.as_str());
    Quirk::ALL.into_iter().filter(named).collect()
}

/// The account that is observed through, in that mode: one that has a password.
fn observe(
    section: &Section<'_>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<String> {
    let observes = section.text("mode") == Some("observe");
    if !section.has("observe_account") {
        if observes {
            let fault = Fault::with(
                "needs `observe_account`: the account whose password still works",
                "name an account with auth = { plugin = \"basic\", … }",
            );
            section.fault("mode", fault, problems);
        }
        return None;
    }
    let name = named_account(section, "observe_account", around, problems)?;
    let plugin = around
        .accounts
        .get(name)
        .map(|account| account.auth.plugin.as_str());
    if plugin == Some("oauth") {
        let fault = Fault::with(
            format!(
                "account {} has no password to go on with: it uses OAuth already",
                show_key(name)
            ),
            "name the account that devices used so far, with plugin = \"basic\"; or use mode = \"submit\"",
        );
        section.fault("observe_account", fault, problems);
    }
    observes.then(|| name.to_owned())
}

fn rehearse(
    section: &Section<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Rehearse> {
    let node = section.node("rehearse")?;
    let place = section.place("rehearse");
    let section = Section::open(node, place, &[keys::REHEARSE], context, problems)?;
    if !section.has("from") {
        let fault = Fault::with(
            "`from` is missing",
            "say when it begins: from = \"2026-12-01T09:00:00+01:00\"",
        );
        section.missing(fault, problems);
    }
    let moment = |name| {
        section
            .node(name)
            .and_then(|node| expiry::from_node(node).ok())
    };
    let (from, until) = (moment("from")?, moment("until"));
    if until.is_some_and(|until| until <= from) {
        let fault = Fault::with(
            "is not later than `from`: nothing would be rehearsed",
            "end it later, or remove the section",
        );
        section.fault("until", fault, problems);
    }
    let devices = section.texts("devices");
    Some(Rehearse {
        from,
        until,
        devices: devices.map(BTreeSet::from_iter),
    })
}

/// What holds for devices without a table.
fn defaults(
    section: &Section<'_>,
    clients: Vec<Network>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<DeviceSettings> {
    let account = if section.has("account") {
        named_account(section, "account", around, problems)?
    } else if let [only] = around.tables {
        &only.key
    } else {
        let suggestion = match around.tables {
            [] => "make one: postrider setup",
            _ => "write account = \"NAME\"; postrider account list shows them",
        };
        let fault = Fault::with(
            "`account` is missing: mail has to go through one",
            suggestion,
        );
        section.missing(fault, problems);
        return None;
    };
    let of_account = around.accounts.get(account)?;
    Some(DeviceSettings {
        account: account.to_owned(),
        senders: senders(section).unwrap_or_else(|| senders_of(of_account)),
        rewrite_from: section.flag("rewrite_from").unwrap_or(false),
        clients,
        recipient_domains: domains(section),
        messages_per_minute: section.number("messages_per_minute"),
        messages_per_day: section.number("messages_per_day"),
        max_message_octets: max_message(section, around, problems)
            .unwrap_or(around.max_message_octets),
        recipients_per_message: section
            .number("recipients_per_message")
            .unwrap_or(of_account.limits.recipients_per_message),
    })
}

/// The gateway's settings with a device's own in their place.
fn device(
    own: &Section<'_>,
    gateway: &Section<'_>,
    defaults: &DeviceSettings,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> DeviceSettings {
    let mut settings = defaults.clone();
    if let Some(account) = named_account(own, "account", around, problems)
        && let Some(of_account) = around.accounts.get(account)
    {
        account.clone_into(&mut settings.account);
        // What the gateway leaves to its account is this account's to say.
        if !gateway.has("senders") {
            settings.senders = senders_of(of_account);
        }
        if !gateway.has("recipients_per_message") {
            settings.recipients_per_message = of_account.limits.recipients_per_message;
        }
    }
    if let Some(senders) = senders(own) {
        settings.senders = senders;
    }
    if let Some(rewrite_from) = own.flag("rewrite_from") {
        settings.rewrite_from = rewrite_from;
    }
    if let Some(clients) = networks(own, "clients") {
        for (network, node) in clients.iter().zip(items(own, "clients")) {
            if !defaults.clients.iter().any(|wider| wider.holds(network)) {
                let fault = Fault::with(
                    format!(
                        "the gateway's `clients` do not hold \"{network}\": nobody from there can connect"
                    ),
                    "add it to the gateway's `clients`, too",
                );
                report(own.key("clients"), node.span.clone(), fault, problems);
            }
        }
        settings.clients = clients;
    }
    if let Some(domains) = domains(own) {
        settings.recipient_domains = Some(domains);
    }
    if let Some(most) = own.number("messages_per_minute") {
        settings.messages_per_minute = Some(most);
    }
    if let Some(most) = own.number("messages_per_day") {
        settings.messages_per_day = Some(most);
    }
    if let Some(octets) = max_message(own, around, problems) {
        settings.max_message_octets = octets;
    }
    if let Some(most) = own.number("recipients_per_message") {
        settings.recipients_per_message = most;
    }
    settings
}

/// The account that `key` names, if there is one of that name.
fn named_account<'t>(
    section: &Section<'t>,
    key: &str,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<&'t str> {
    let name = section.text(key)?;
    if around.tables.iter().any(|entry| entry.key == name) {
        return Some(name);
    }
    let names = around.tables.iter().map(|entry| entry.key.as_str());
    section.fault(key, no_account(name, names), problems);
    None
}

fn senders(section: &Section<'_>) -> Option<Senders> {
    let mut senders = Senders::default();
    for text in section.texts("senders")? {
        match text.strip_prefix('@') {
            Some(domain) => senders.domains.insert(domain.to_lowercase()),
            None => senders.addresses.insert(comparable(&text)),
        };
    }
    Some(senders)
}

/// Those that an account sends as.
fn senders_of(account: &Account) -> Senders {
    let user = grammar::address(&account.username).ok();
    let addresses = user.iter().chain([&account.sender.email]);
    Senders {
        addresses: addresses
            .map(|address| comparable(address.as_ref()))
            .collect(),
        domains: BTreeSet::new(),
    }
}

fn domains(section: &Section<'_>) -> Option<BTreeSet<String>> {
    let texts = section.texts("recipient_domains")?;
    Some(texts.iter().map(|text| text.to_lowercase()).collect())
}

/// The longest message: none that the queue would refuse afterwards.
fn max_message(
    section: &Section<'_>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<usize> {
    let octets = section.memory("max_message")?;
    if octets > around.max_message_octets {
        let fault = Fault::with(
            "is more than the queue takes",
            format!(
                "write at most {}, or raise `max_message` of [queue]",
                around.max_message_octets
            ),
        );
        section.fault("max_message", fault, problems);
    }
    Some(octets)
}
