//! `[gateway.NAME]` in the words of the gateway itself.

use std::net::Ipv4Addr;
use std::path::Path;

use jiff::Timestamp;
use postrider_config as config;
use postrider_gateway::{
    Certificate, Mode, Network, Policy, Quirks, Rehearse, Sender, Settings, TlsMode,
};

/// Where gateways keep what is their own, under the state directory.
const DIRECTORY: &str = "gateway";

/// The settings of one gateway.
pub(crate) fn settings(gateway: &config::Gateway, state_dir: &Path) -> Settings {
    let quirk = |quirk| gateway.quirks.contains(&quirk);
    let devices = gateway.devices.iter();
    let devices = devices.map(|(name, device)| (name.clone(), policy(device)));
    Settings {
        name: gateway.name.clone(),
        listen: gateway.listen.clone(),
        tls: match gateway.tls {
            config::GatewayTls::Starttls => TlsMode::Starttls,
            config::GatewayTls::Offered => TlsMode::Offered,
            config::GatewayTls::Implicit => TlsMode::Implicit,
            config::GatewayTls::DangerPlaintext => TlsMode::DangerPlaintext,
        },
        certificate: match &gateway.certificate {
            Some(files) => Certificate::Files {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            },
            None => Certificate::SelfMade {
                file: state_dir
                    .join(DIRECTORY)
                    .join(format!("{}.pem", gateway.name)),
            },
        },
        hostname: gateway.hostname.clone().unwrap_or_else(machine),
        clients: networks(&gateway.clients),
        policy: policy(&gateway.defaults),
        devices: devices.collect(),
        hide_client: gateway.hide_client,
        quirks: Quirks {
            bare_lf: quirk(config::Quirk::BareLf),
            mail_from_space: quirk(config::Quirk::MailFromSpace),
            no_brackets: quirk(config::Quirk::NoBrackets),
            login_nul: quirk(config::Quirk::LoginNul),
            helo_only: quirk(config::Quirk::HeloOnly),
            missing_headers: quirk(config::Quirk::MissingHeaders),
        },
        connections: whole(gateway.connections),
        connections_per_client: whole(gateway.connections_per_client),
        idle_timeout: gateway.idle_timeout,
        session_timeout: gateway.session_timeout,
        mode: match &gateway.observe {
            Some(account) => Mode::Observe {
                account: account.clone(),
            },
            None => Mode::Submit,
        },
        rehearse: gateway.rehearse.as_ref().map(|rehearse| Rehearse {
            from: Timestamp::try_from(rehearse.from).unwrap_or(Timestamp::MAX),
            until: rehearse
                .until
                .map(|until| Timestamp::try_from(until).unwrap_or(Timestamp::MAX)),
            devices: rehearse.devices.iter().flatten().cloned().collect(),
        }),
    }
}

fn policy(device: &config::DeviceSettings) -> Policy {
    let addresses = device
        .senders
        .addresses
        .iter()
        .cloned()
        .map(Sender::Address);
    let domains = device.senders.domains.iter().cloned().map(Sender::Domain);
    Policy {
        account: device.account.clone(),
        senders: addresses.chain(domains).collect(),
        rewrite_from: device.rewrite_from,
        clients: networks(&device.clients),
        recipient_domains: device.recipient_domains.iter().flatten().cloned().collect(),
        messages_per_minute: device.messages_per_minute,
        messages_per_day: device.messages_per_day,
        max_message: device.max_message_octets,
        recipients_per_message: whole(device.recipients_per_message),
    }
}

/// Both know the same networks. One that the gateway did not know must not be left out, for no
/// network at all stands for every client: it becomes one that nobody is in.
fn networks(networks: &[config::Network]) -> Vec<Network> {
    let nobody = || Network::new(Ipv4Addr::BROADCAST.into(), 32);
    let known = |network: &config::Network| network.to_string().parse().or_else(|_| nobody());
    let networks: Result<_, _> = networks.iter().map(known).collect();
    networks.expect("an IPv4 address has 32 bits")
}

fn whole(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The machine's name, as SMTP can say it.
fn machine() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !name.is_empty() && name.chars().all(fits) {
        name.into_owned()
    } else {
        "localhost".to_owned()
    }
}
