//! What Postfix listens on, as gateways.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::main_cf::{Line, MainCf, list, logical_lines};
use crate::files::{self, Files};
use crate::gateway::ImportedGateway;
use crate::left::{NotCarried, Place, shown};
use crate::names::Names;
use crate::{Imported, Options};

/// The most listeners of a `master.cf`.
const MAX_SERVICES: usize = 100;

/// A `smtpd` of `master.cf`.
struct Service {
    name: String,
    /// The address it names itself.
    address: Option<String>,
    port: u16,
    /// `-o name=value`.
    overrides: Vec<(String, String)>,
    place: Place,
}

/// Adds the listeners to `imported`, whose first account they send through.
pub(super) fn listeners(
    path: &str,
    main: &MainCf,
    files: &dyn Files,
    names: &mut Names,
    options: &Options,
    imported: &mut Imported,
) {
    let interfaces = main
        .get("inet_interfaces")
        .unwrap_or_else(|| "all".to_owned());
    let place = main.place("inet_interfaces");
    let is_local = |address: &&str| {
        matches!(
            *address,
            "loopback-only" | "localhost" | "127.0.0.1" | "::1" | "[::1]"
        )
    };
    let addresses: Vec<&str> = list(&interfaces);
    if addresses.iter().all(is_local) {
        imported.not_carried.push(
            NotCarried::new(
                place,
                "port 25 on this machine",
                "programs here hand in mail without a password, by port 25 or by sendmail",
            )
            .instead("postrider sendmail takes the place of /usr/sbin/sendmail"),
        );
        return;
    }
    let Some(account) = imported
        .accounts
        .first()
        .map(|account| account.name.clone())
    else {
        imported.not_carried.push(NotCarried::new(
            place,
            "the listeners",
            "no account was imported that they could send through",
        ));
        return;
    };
    let clients = networks(main, options, &mut imported.not_carried);
    for service in services(path, files) {
        let is_here = service.address.as_deref().is_some_and(|it| is_local(&it));
        if is_here {
            imported.not_carried.push(NotCarried::new(
                service.place,
                &format!("the service {}", shown(&service.name)),
                "it listens on this machine alone, as filters want it",
            ));
            continue;
        }
        let on = |name: &str| {
            let over = service.overrides.iter().rev().find(|(it, _)| it == name);
            match over {
                Some((_, value)) => Some(main.expand(value)),
                None => main.get(name),
            }
        };
        let name = names.of(&format!("postfix-{}", service.name));
        let mut gateway = ImportedGateway::new(name, service.place.clone());
        let own = service.address.as_deref();
        let all = own.map_or_else(|| addresses.clone(), |one| vec![one]);
        listen(
            &mut gateway,
            &all,
            service.port,
            &clients,
            &mut imported.not_carried,
        );
        let implicit = on("smtpd_tls_wrappermode").as_deref() == Some("yes");
        gateway.set("tls", if implicit { "implicit" } else { "starttls" });
        certificate(&mut gateway, &on, files, &mut imported.not_carried);
        gateway.set("account", account.as_str());
        // Nought is none.
        let limit = main
            .get("message_size_limit")
            .and_then(|limit| limit.parse::<u64>().ok());
        if let Some(octets) = limit.filter(|octets| *octets > 0) {
            gateway.set("max_message", octets);
        }
        people(
            &service,
            &gateway.name,
            &on,
            main,
            &mut imported.not_carried,
        );
        imported.gateways.push(gateway);
    }
    if !imported.gateways.is_empty() {
        imported.not_carried.push(NotCarried::new(
            Place::file(path),
            "the ports",
            "two programs cannot listen on one: stop Postfix before `postrider serve` begins, or \
             set other ports",
        ));
    }
}

/// Where it listens, and for whom: beyond this machine only where the networks are known.
fn listen(
    gateway: &mut ImportedGateway,
    addresses: &[&str],
    port: u16,
    clients: &[String],
    left: &mut Vec<NotCarried>,
) {
    let place = gateway.place.clone();
    let mut found = Vec::new();
    for address in addresses.iter().filter(|_| !clients.is_empty()) {
        let ip = match *address {
            "all" | "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
            "localhost" | "loopback-only" => Some(Ipv4Addr::LOCALHOST.into()),
            other => other.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
        };
        match ip {
            Some(ip) => found.push(SocketAddr::new(ip, port).to_string()),
            None => left.push(
                NotCarried::new(
                    place.clone(),
                    &format!("inet_interfaces {}", shown(address)),
                    "a gateway listens on addresses, not on names",
                )
                .instead(format!("set gateway.{}.listen", gateway.name)),
            ),
        }
    }
    let open = !found.is_empty();
    if !open {
        found.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port).to_string());
        left.push(
            NotCarried::new(
                place,
                "inet_interfaces",
                "who may reach it from other machines is not in the file (mynetworks), so it \
                 listens on the loopback interface alone",
            )
            .instead("import with --client NETWORK, or set listen and clients"),
        );
    }
    match &found[..] {
        [one] => gateway.set("listen", one.as_str()),
        several => gateway.set("listen", several),
    }
    if open {
        gateway.set("clients", clients);
    }
}

/// Who may sign in, and who could send without.
fn people(
    service: &Service,
    gateway: &str,
    on: &dyn Fn(&str) -> Option<String>,
    main: &MainCf,
    left: &mut Vec<NotCarried>,
) {
    let add = format!("postrider gateway credential add DEVICE --gateway {gateway}");
    if on("smtpd_sasl_auth_enable").as_deref() == Some("yes") {
        left.push(
            NotCarried::new(
                service.place.clone(),
                "smtpd_sasl_auth_enable",
                "who may sign in is known to Dovecot or Cyrus SASL, not to Postfix",
            )
            .instead(format!("for each: {add}")),
        );
    }
    let restrictions = [
        "smtpd_relay_restrictions",
        "smtpd_recipient_restrictions",
        "smtpd_client_restrictions",
    ];
    let by_network = restrictions
        .iter()
        .filter_map(|name| on(name))
        .any(|value| value.contains("permit_mynetworks"));
    // It is in the default of smtpd_relay_restrictions.
    let by_default = main.get("smtpd_relay_restrictions").is_none();
    if by_network || by_default {
        left.push(
            NotCarried::new(
                main.place("mynetworks"),
                "permit_mynetworks",
                format!(
                    "clients of mynetworks could send without a password; gateway \"{gateway}\" \
                     always wants one"
                ),
            )
            .instead(format!("for each device: {add}, and enter it there")),
        );
    }
}

/// The networks that a gateway may take: those of the command line, else `mynetworks`.
fn networks(main: &MainCf, options: &Options, left: &mut Vec<NotCarried>) -> Vec<String> {
    if !options.clients.is_empty() {
        return options.clients.clone();
    }
    let mut found = Vec::new();
    let mut beyond = false;
    for item in list(&main.get("mynetworks").unwrap_or_default()) {
        match network(item) {
            Some((network, loopback)) => {
                beyond |= !loopback;
                found.push(network);
            }
            None => left.push(NotCarried::new(
                main.place("mynetworks"),
                &format!("mynetworks {}", shown(item)),
                "only addresses and networks are taken, none as wide as everything",
            )),
        }
    }
    if beyond { found } else { Vec::new() }
}

/// `192.0.2.0/24` or `[2001:db8::]/32`, and whether it is of this machine.
fn network(text: &str) -> Option<(String, bool)> {
    let (address, bits) = match text.rsplit_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits > 0 && bits <= most).then(|| (format!("{address}/{bits}"), address.is_loopback()))
}

fn certificate(
    gateway: &mut ImportedGateway,
    on: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
    left: &mut Vec<NotCarried>,
) {
    let chain = on("smtpd_tls_chain_files");
    let chain: Vec<&str> = chain.as_deref().map(list).unwrap_or_default();
    let (certificate, key) = match &chain[..] {
        [both] => ((*both).to_owned(), (*both).to_owned()),
        [key, certificate, ..] => ((*certificate).to_owned(), (*key).to_owned()),
        [] => {
            let Some(certificate) = on("smtpd_tls_cert_file") else {
                return;
            };
            let key = on("smtpd_tls_key_file").unwrap_or_else(|| certificate.clone());
            (certificate, key)
        }
    };
    let place = gateway.place.clone();
    gateway.certificate(&certificate, &key, &place, files, left);
}

/// The `smtpd`s of the `master.cf` beside `main`; one on port 25 where there is none.
fn services(main: &str, files: &dyn Files) -> Vec<Service> {
    let path = match main.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/master.cf"),
        None => "master.cf".to_owned(),
    };
    let Ok(text) = files::named(files, &path) else {
        return vec![Service {
            name: "smtp".to_owned(),
            address: None,
            port: 25,
            overrides: Vec::new(),
            place: Place::file(main),
        }];
    };
    let lines = logical_lines(&text).into_iter();
    let services = lines.filter_map(|line| service(&path, &line));
    services.take(MAX_SERVICES).collect()
}

/// `service type private unpriv chroot wakeup maxproc command arguments`.
fn service(path: &str, line: &Line) -> Option<Service> {
    let mut words = line.text.split_ascii_whitespace();
    let name = words.next()?;
    if words.next()? != "inet" || words.nth(5)? != "smtpd" {
        return None;
    }
    let (address, port) = match name.rsplit_once(':') {
        Some((address, port)) => (Some(address.trim_matches(['[', ']']).to_owned()), port),
        None => (None, name),
    };
    let arguments: Vec<&str> = list(line.text.get(line.text.find(" smtpd")? + 6..)?);
    let mut overrides = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let given = match *word {
            "-o" => rest.next().copied(),
            other => other.strip_prefix("-o"),
        };
        let given = given.map(|text| text.trim_matches(['{', '}']).trim());
        if let Some((name, value)) = given.and_then(|text| text.split_once('=')) {
            overrides.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    Some(Service {
        name: port.to_owned(),
        address,
        port: super::port(port)?,
        overrides,
        place: Place::line(path, line.line),
    })
}
