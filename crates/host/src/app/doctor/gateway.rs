//! What stands between a device and a message in the queue: a gateway, in the order in which a
//! device's mail meets it, and the accounts behind it.
//!
//! Nothing is changed for it: no certificate is made, and nobody signs in.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use postrider_config::{Gateway, GatewayTls, Network};
use postrider_gateway::CertificateFacts;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;

use super::listener::{self, Listener};
use super::mail::{self, STATE};
use super::report::{DoctorReport, DoctorStage, Finding, StageResult, YOU, verdict};
use super::{devices, start};
use crate::app::gateway::{credential, devices as stored_devices, settings as gateway_settings};
use crate::app::{App, Moment, is_near};
use crate::control::{GatewayStatus, LastReload, Status, UNREACHABLE};
use crate::failure::{Failure, with_sources};
use crate::{state, when};

/// What was found of one gateway.
#[derive(Debug, Serialize)]
pub(crate) struct GatewayReport {
    /// Its name.
    pub(crate) gateway: String,
    /// Whether no stage failed.
    pub(crate) ok: bool,
    /// The cause, in one line; or that there is none.
    pub(crate) verdict: String,
    /// The stages, as a device's mail meets them; of some there are several, or none.
    pub(crate) stages: Vec<DoctorStage>,
}

impl GatewayReport {
    /// The first thing that is wrong: the cause.
    pub(crate) fn failure(&self) -> Option<&Finding> {
        let failed = |stage: &&DoctorStage| stage.result == StageResult::Failed;
        self.stages.iter().find(failed)?.failure.as_ref()
    }
}

/// The daemon, as far as it was asked.
#[derive(Debug)]
pub(crate) enum Daemon {
    /// How it stands.
    Runs(Box<Status>),
    /// None runs.
    Absent,
    /// There is one, and it does not say.
    Silent(String),
    /// It was not to be asked.
    NotAsked,
}

/// What is known around a gateway.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    pub(crate) daemon: &'a Daemon,
    /// The accounts that were looked at.
    pub(crate) accounts: &'a [DoctorReport],
    /// Only what needs no network.
    pub(crate) offline: bool,
}

/// The accounts that a gateway sends through, now or when it observes no more.
pub(crate) fn accounts_behind(gateway: &Gateway) -> BTreeSet<&str> {
    let devices = gateway.devices.values();
    let devices = devices.map(|device| device.account.as_str());
    let own = [gateway.defaults.account.as_str()];
    let all = own
        .into_iter()
        .chain(devices)
        .chain(gateway.observe.as_deref());
    all.collect()
}

impl App {
    /// Looks at a gateway.
    pub(crate) async fn doctor_gateway(
        &self,
        gateway: &Gateway,
        around: &Around<'_>,
    ) -> GatewayReport {
        let now = SystemTime::from(self.clock().now());
        let status = match around.daemon {
            Daemon::Runs(status) => {
                let mut gateways = status.gateways.iter();
                gateways.find(|status| status.name == gateway.name)
            }
            _ => None,
        };
        let mut stages = vec![
            DoctorStage::ok("config", Duration::ZERO, in_words(gateway)),
            self.state_stage(around.daemon),
        ];
        let (app, own) = (self.clone(), gateway.clone());
        let files = tokio::task::spawn_blocking(move || {
            (app.certificate_of(&own), app.credentials_stage(&own))
        });
        let interrupted = |_| {
            let failure = Failure::new("internal", "looking at its files was interrupted");
            let stage = DoctorStage::failed("credentials", Duration::ZERO, "", failure.clone());
            (Err(failure), stage)
        };
        let (certificate, credentials) = files.await.unwrap_or_else(interrupted);
        stages.push(certificate_stage(gateway, &certificate, status, now));
        let certificate = certificate.ok().flatten();
        let der = certificate.and_then(|facts| CertificateDer::from_pem_file(facts.file).ok());
        stages.extend(self.listeners(gateway, around, status, der.as_ref()).await);
        put_daemon(&mut stages, gateway, around.daemon, status, now);
        stages.push(clients_stage(gateway));
        stages.push(credentials);
        let rehearsed = status.map_or(0, |status| status.rehearsed);
        stages.push(rehearsal_stage(gateway, rehearsed, now));
        stages.extend(account_stages(gateway, around.accounts));
        stages.extend(mail::queue_stages(self, gateway).await);
        let failing = status.map_or(&[][..], |status| &status.failing);
        stages.extend(devices::stages(&gateway.name, failing, now));
        let (ok, verdict) = verdict(&stages);
        GatewayReport {
            gateway: gateway.name.clone(),
            ok,
            verdict,
            stages,
        }
    }

    /// Whether mail can be kept.
    fn state_stage(&self, daemon: &Daemon) -> DoctorStage {
        match state::directory(self.0.lasting.settings.state_dir.as_deref()) {
            // It is another user's, as a rule.
            Ok(_) if matches!(daemon, Daemon::Silent(_)) => {
                DoctorStage::skipped(STATE, "the daemon cannot be asked")
            }
            Ok(directory) => mail::state_stage(&directory),
            Err(failure) => DoctorStage::failed(STATE, Duration::ZERO, "", failure),
        }
    }

    /// What it proves itself with: none, if it is to make it yet, or uses no TLS.
    fn certificate_of(&self, gateway: &Gateway) -> Result<Option<CertificateFacts>, Failure> {
        let dir = state::directory(self.0.lasting.settings.state_dir.as_deref())?;
        let settings = gateway_settings(gateway, &dir);
        let is_made = match &settings.certificate {
            postrider_gateway::Certificate::SelfMade { file } => file.exists(),
            postrider_gateway::Certificate::Files { .. } => true,
        };
        if gateway.tls == GatewayTls::DangerPlaintext || !is_made {
            return Ok(None);
        }
        let facts = postrider_gateway::certificate(&settings, self.clock().now());
        facts.map(Some).map_err(|error| {
            Failure::new("config.certificate", with_sources(&error)).with_remedy(
                "see that the files are there, that the daemon's user may read them, that they \
                 are PEM, and that the key is the certificate's",
            )
        })
    }

    /// Whether any device can sign in.
    fn credentials_stage(&self, gateway: &Gateway) -> DoctorStage {
        const NAME: &str = "credentials";
        let failed = |finding: Finding| DoctorStage::failed(NAME, Duration::ZERO, "", finding);
        let devices = match self.devices_of(gateway) {
            Ok(devices) => devices,
            Err(failure) => return failed(failure.into()),
        };
        let name = &gateway.name;
        if devices.is_empty() {
            return failed(Finding::new(
                "config.no_credential",
                "no device has a password: nobody can sign in",
                format!("postrider gateway credential add DEVICE --gateway {name}"),
                YOU,
            ));
        }
        let evidence = match devices.len() {
            1 => format!("1 device has a password: {}", devices[0]),
            many => format!("{many} devices have a password"),
        };
        let mut missing = gateway.devices.keys();
        match missing.find(|device| !devices.contains(device)) {
            None => DoctorStage::ok(NAME, Duration::ZERO, evidence),
            Some(device) => {
                let finding = Finding::new(
                    "config.no_credential",
                    format!("{device} has settings and no password: it cannot sign in"),
                    format!("postrider gateway credential add {device} --gateway {name}"),
                    YOU,
                );
                DoctorStage::warning(NAME, Duration::ZERO, evidence, finding)
            }
        }
    }

    /// The devices with a password that can be read.
    fn devices_of(&self, gateway: &Gateway) -> Result<Vec<String>, Failure> {
        let Some(vault) = self.vault().existing()? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (at, device) in stored_devices(&vault)? {
            if at == gateway.name {
                credential(&vault, &at, &device)?;
                found.push(device);
            }
        }
        Ok(found)
    }

    /// Every listener that there should be, as a device meets it.
    async fn listeners(
        &self,
        gateway: &Gateway,
        around: &Around<'_>,
        status: Option<&GatewayStatus>,
        certificate: Option<&CertificateDer<'static>>,
    ) -> Vec<DoctorStage> {
        let skipped = |why: &str| vec![DoctorStage::skipped(listener::LISTENER, why)];
        let cannot_listen = |address: &SocketAddr| start::cannot_listen(&gateway.name, *address);
        let mut stages = Vec::new();
        let addresses: Vec<SocketAddr> = match (around.daemon, status) {
            (Daemon::Runs(daemon), Some(status)) => {
                if failed_reload(daemon).is_some() {
                    let wanted = gateway.listen.iter();
                    let new = wanted.filter(|wanted| !status.listen.contains(wanted));
                    stages.extend(
                        new.filter(|new| !is_own(new, daemon))
                            .find_map(cannot_listen),
                    );
                }
                status.listen.clone()
            }
            (Daemon::Runs(daemon), None) => {
                let mut wanted = gateway.listen.iter().filter(|new| !is_own(new, daemon));
                let cause = wanted.find_map(cannot_listen);
                let why = "the daemon does not have it";
                return cause.map_or_else(|| skipped(why), |stage| vec![stage]);
            }
            (Daemon::Absent, _) => {
                let cause = gateway.listen.iter().find_map(cannot_listen);
                return cause.map_or_else(|| skipped("no daemon runs"), |stage| vec![stage]);
            }
            (Daemon::Silent(_) | Daemon::NotAsked, _) => {
                let known = gateway.listen.iter().filter(|address| address.port() != 0);
                known.copied().collect()
            }
        };
        if around.offline {
            stages.extend(skipped("offline"));
            return stages;
        }
        let Ok(account) = self.settings_of(&gateway.defaults.account) else {
            stages.extend(skipped("it has no account"));
            return stages;
        };
        for address in addresses {
            let listener = Listener {
                gateway,
                address,
                certificate,
                sender: &account.sender.email,
            };
            stages.extend(listener.look().await);
        }
        stages
    }
}

/// Its settings in a line.
fn in_words(gateway: &Gateway) -> String {
    let account = &gateway.defaults.account;
    let mode = match &gateway.observe {
        Some(observe) => format!("observes: sends through {observe}, later through {account}"),
        None => format!("sends through {account}"),
    };
    let listen = joined(&gateway.listen);
    format!("{listen}, tls {}, {mode}", gateway.tls)
}

/// Puts in how the daemon stands: first; but after what keeps it from starting or from listening,
/// which is the cause.
fn put_daemon(
    stages: &mut Vec<DoctorStage>,
    gateway: &Gateway,
    daemon: &Daemon,
    status: Option<&GatewayStatus>,
    now: SystemTime,
) {
    let may_be_kept = matches!(daemon, Daemon::Absent | Daemon::Runs(_));
    let keeps_it = |stage: &DoctorStage| {
        let failure = stage.failure.as_ref().filter(|_| may_be_kept);
        stage.result == StageResult::Failed
            && failure.is_some_and(|failure| match &*failure.code {
                "config.certificate" => matches!(daemon, Daemon::Absent),
                code => {
                    matches!(
                        code,
                        "config.gateway" | "config.state_dir" | "config.state_dir_unsafe"
                    )
                }
            })
    };
    stages[1..].sort_by_key(|stage| !keeps_it(stage));
    let causes = stages[1..]
        .iter()
        .take_while(|stage| keeps_it(stage))
        .count();
    let stage = daemon_stage(gateway, daemon, status, causes > 0, now);
    stages.insert(1 + causes, stage);
}

/// A reload that was refused, if it was the last.
fn failed_reload(daemon: &Status) -> Option<&LastReload> {
    daemon.last_reload.as_ref().filter(|last| !last.ok)
}

/// Whether the daemon itself listens there, for this gateway or another.
fn is_own(address: &SocketAddr, daemon: &Status) -> bool {
    let listened = daemon.gateways.iter().flat_map(|gateway| &gateway.listen);
    let mut ports = listened.map(SocketAddr::port);
    address.port() != 0 && ports.any(|port| port == address.port())
}

/// Whether the daemon runs, and runs this gateway as it is configured now. `kept`: the cause of
/// that is another stage's.
fn daemon_stage(
    gateway: &Gateway,
    daemon: &Daemon,
    status: Option<&GatewayStatus>,
    kept: bool,
    now: SystemTime,
) -> DoctorStage {
    const NAME: &str = "daemon";
    match daemon {
        Daemon::NotAsked => DoctorStage::skipped(NAME, "it was not to be asked (--no-daemon)"),
        Daemon::Absent => {
            let finding = Finding::new(
                "network.no_daemon",
                format!(
                    "no daemon runs with these settings, so nobody listens on {}",
                    joined(&gateway.listen)
                ),
                if kept {
                    "when that is put right, start it: systemctl start postrider, or postrider serve"
                } else {
                    "start it: systemctl start postrider, or postrider serve"
                },
                YOU,
            );
            DoctorStage::failed(NAME, Duration::ZERO, "absent", finding)
        }
        Daemon::Silent(why) => {
            let finding = Finding::new(
                "network.no_daemon",
                format!("the daemon cannot be asked how the gateway stands: {why}"),
                UNREACHABLE,
                YOU,
            );
            DoctorStage::warning(NAME, Duration::ZERO, why, finding)
        }
        Daemon::Runs(daemon) => {
            let lived = now.duration_since(daemon.started_at.0).unwrap_or_default();
            let mut evidence = format!("pid {}, for {}", daemon.pid, when::span(lived));
            let refused = failed_reload(daemon);
            let why = refused.and_then(|last| last.message.lines().next());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let not_in_force = |cause: String| {
                let first = refused.map(|last| {
                    let remedy = last.remedy.as_deref();
                    remedy.unwrap_or("put right what postrider check says")
                });
                let remedy = first.map_or_else(
                    || "postrider reload".to_owned(),
                    |first| format!("{first}; then: postrider reload"),
                );
                Finding::new("config.not_in_force", cause, remedy, YOU)
            };
            match status {
                None => {
                    let cause = format!("the daemon does not have this gateway yet{why}");
                    let finding = not_in_force(cause);
                    DoctorStage::failed(NAME, Duration::ZERO, evidence, finding)
                }
                Some(status) => {
                    let (taken, refusals) = (status.messages, status.refused);
                    evidence = format!("{evidence}; messages taken {taken}, refused {refusals}");
                    if refused.is_none() {
                        return DoctorStage::ok(NAME, Duration::ZERO, evidence);
                    }
                    let cause = format!("the daemon goes by older settings{why}");
                    DoctorStage::warning(NAME, Duration::ZERO, evidence, not_in_force(cause))
                }
            }
        }
    }
}

/// Whether there is a certificate that devices can take, and for how long.
fn certificate_stage(
    gateway: &Gateway,
    found: &Result<Option<CertificateFacts>, Failure>,
    status: Option<&GatewayStatus>,
    now: SystemTime,
) -> DoctorStage {
    const NAME: &str = "certificate";
    let facts = match found {
        Ok(Some(facts)) => facts,
        Ok(None) if gateway.tls == GatewayTls::DangerPlaintext => {
            return DoctorStage::skipped(NAME, "no TLS: passwords cross the network in clear");
        }
        Ok(None) => return DoctorStage::skipped(NAME, "the gateway makes one when it starts"),
        Err(failure) => {
            return DoctorStage::failed(NAME, Duration::ZERO, "", failure.clone());
        }
    };
    let file = facts.file.display();
    let ends = Moment(facts.expires_at.into());
    let made = if facts.self_made { "self-made, " } else { "" };
    let evidence = format!("{made}{file}, ends {}", when::day(ends));
    let remedy = "put another in its place: it is read again without a restart";
    if ends.0 <= now {
        let cause = format!("{file} ended on {}: devices refuse it", when::day(ends));
        let finding = Finding::new("tls.expired", cause, remedy, YOU);
        return DoctorStage::failed(NAME, Duration::ZERO, evidence, finding);
    }
    if let Some(problem) = status.and_then(|status| status.certificate_problem.as_ref()) {
        let cause = format!("its files changed and cannot be used: {problem}");
        let remedy = "put them right; until then the certificate from before stays in use";
        let finding = Finding::new("config.certificate", cause, remedy, YOU);
        return DoctorStage::warning(NAME, Duration::ZERO, evidence, finding);
    }
    if is_near(ends.0, now) {
        let cause = format!("{file} ends {}", when::end(ends, now));
        let finding = Finding::new("tls.expires_soon", cause, remedy, YOU);
        return DoctorStage::warning(NAME, Duration::ZERO, evidence, finding);
    }
    DoctorStage::ok(NAME, Duration::ZERO, evidence)
}

/// Whether those who may connect can come where it listens.
fn clients_stage(gateway: &Gateway) -> DoctorStage {
    const NAME: &str = "clients";
    let reach = |network: &&Network| gateway.listen.iter().any(|at| reaches(network, at.ip()));
    let (reached, out): (Vec<&Network>, Vec<&Network>) = gateway.clients.iter().partition(reach);
    let evidence = joined(&gateway.clients);
    // This machine comes in by whichever family there is.
    let out: Vec<_> = out
        .into_iter()
        .filter(|network| reached.is_empty() || !network.address().is_loopback())
        .collect();
    if out.is_empty() {
        return DoctorStage::ok(NAME, Duration::ZERO, evidence);
    }
    let finding = Finding::new(
        "config.clients",
        format!(
            "nobody in {} can reach {}",
            joined(out),
            joined(&gateway.listen)
        ),
        format!(
            "set gateway.{}.listen to this machine's address in that network, with the port",
            gateway.name
        ),
        YOU,
    );
    if reached.is_empty() {
        DoctorStage::failed(NAME, Duration::ZERO, evidence, finding)
    } else {
        DoctorStage::warning(NAME, Duration::ZERO, evidence, finding)
    }
}

/// Whether anybody in the network can come to a listener at that address, whatever lies between.
fn reaches(network: &Network, listener: IpAddr) -> bool {
    let (client, listener) = (network.address(), listener.to_canonical());
    if listener.is_unspecified() {
        listener.is_ipv6() || client.is_ipv4()
    } else {
        let same_side = client.is_loopback() == listener.is_loopback();
        network.contains(listener) || same_side && client.is_ipv4() == listener.is_ipv4()
    }
}

/// Whether devices are refused on purpose.
fn rehearsal_stage(gateway: &Gateway, refused: u64, now: SystemTime) -> DoctorStage {
    const NAME: &str = "rehearsal";
    let Some(rehearse) = &gateway.rehearse else {
        return DoctorStage::skipped(NAME, "none is configured");
    };
    let at = |moment: SystemTime| when::relative(Moment(moment), now);
    let who = match &rehearse.devices {
        Some(devices) => joined(devices),
        None => "every device".to_owned(),
    };
    let name = &gateway.name;
    match rehearse.until {
        _ if now < rehearse.from => {
            let evidence = format!("begins {}, for {who}", at(rehearse.from));
            DoctorStage::ok(NAME, Duration::ZERO, evidence)
        }
        Some(until) if until <= now => {
            let evidence = format!("over since {}: its setting can go", at(until));
            DoctorStage::ok(NAME, Duration::ZERO, evidence)
        }
        until => {
            let end = until.map_or_else(
                || "without an end".to_owned(),
                |end| format!("ends {}", at(end)),
            );
            let evidence = format!("{end}; {refused} refused so far");
            let finding = Finding::new(
                "gateway.rehearses",
                format!("a rehearsal refuses {who} with 550 5.7.30, as Exchange will"),
                format!("to end it now, take rehearse out of [gateway.{name}]"),
                YOU,
            );
            DoctorStage::warning(NAME, Duration::ZERO, evidence, finding)
        }
    }
}

/// How the accounts behind it fared; the one that takes over later keeps no mail now.
fn account_stages(gateway: &Gateway, reports: &[DoctorReport]) -> Vec<DoctorStage> {
    const NAME: &str = "account";
    let stage = |name: &str| {
        let Some(report) = reports.iter().find(|report| report.account == name) else {
            return DoctorStage::skipped(NAME, format!("{name} was not looked at"));
        };
        let evidence = format!("{name}: {}", report.verdict);
        let Some(failure) = report.failure() else {
            return DoctorStage::ok(NAME, Duration::ZERO, evidence);
        };
        let mut finding = failure.clone();
        finding.cause = format!("{name}: {}", finding.cause);
        if gateway.observe.as_deref().is_some_and(|now| now != name) {
            return DoctorStage::warning(NAME, Duration::ZERO, evidence, finding);
        }
        DoctorStage::failed(NAME, Duration::ZERO, evidence, finding)
    };
    accounts_behind(gateway).into_iter().map(stage).collect()
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use postrider_config::{Config, Presets};

    use super::*;

    fn gateway(listen: &str, clients: &str) -> Gateway {
        let text = format!(
            "[account.a]\nusername = \"a@contoso.com\"\nserver = {{ host = \"smtp.contoso.com\" }}\n\
             auth = {{ plugin = \"basic\", password = {{ env = \"P\" }} }}\n\
             [gateway.office]\nlisten = {listen}\nclients = {clients}\n"
        );
        let mut config = Config::parse(&text, None, &Presets::builtin()).unwrap();
        config.gateways.remove("office").unwrap()
    }

    #[test]
    fn whoever_cannot_come_to_any_listener_is_named() {
        use StageResult::{Failed, Ok, Warning};
        let printers = r#"["192.168.1.0/24"]"#;
        for (listen, clients, result) in [
            (r#""127.0.0.1:25""#, r#"["127.0.0.0/8", "::1"]"#, Ok),
            (
                r#""127.0.0.1:25""#,
                r#"["10.0.0.0/8", "127.0.0.1"]"#,
                Warning,
            ),
            (r#""127.0.0.1:25""#, printers, Failed),
            (r#"["127.0.0.1:25", "192.168.1.5:25"]"#, printers, Ok),
            // Through a router.
            (r#""192.168.2.5:25""#, printers, Ok),
            (r#""192.168.1.5:25""#, r#"["127.0.0.0/8"]"#, Failed),
            (r#""[fd00::5]:25""#, printers, Failed),
            (
                r#""[fd00::5]:25""#,
                r#"["fd00::/64", "192.168.1.0/24"]"#,
                Warning,
            ),
            (r#""0.0.0.0:25""#, printers, Ok),
            (r#""0.0.0.0:25""#, r#"["fd00::/64"]"#, Failed),
            (r#""[::]:25""#, r#"["fd00::/64", "192.168.1.0/24"]"#, Ok),
        ] {
            let stage = clients_stage(&gateway(listen, clients));
            assert_eq!(stage.result, result, "{listen} {clients}: {stage:?}");
        }
    }
}
