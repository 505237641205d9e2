//! A gateway's listener as a device meets it: connection, greeting, encryption. Nobody signs in,
//! and nothing is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use postrider_config::{Gateway, GatewayTls, Network};
use postrider_smtp::{
    Address, EhloName, Pool, PoolLimits, SendError, SendErrorKind, ServerSettings, Stage,
    StageDetail, Timeouts, TlsMode, tls,
};
use rustls::pki_types::CertificateDer;

use super::inspect::{Looking, Nobody};
use super::report::{DoctorStage, Finding, YOU};
use crate::app::account::IDLE;
use crate::app::failures::reply_line;
use crate::app::gateway::own_address;

/// The stages here; each listener has its own.
pub(super) const LISTENER: &str = "listener";
pub(super) const TLS: &str = "tls";

/// What is looked at.
pub(super) struct Listener<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) address: SocketAddr,
    /// What it is to prove itself with, where that is known.
    pub(super) certificate: Option<&'a CertificateDer<'static>>,
    /// Whose mail it is; nothing is sent.
    pub(super) sender: &'a Address,
}

impl Listener<'_> {
    /// Connects, and goes as far as one can without a password.
    pub(super) async fn look(&self) -> Vec<DoctorStage> {
        let listener = self.address;
        let Some(address) = way_in(listener, self.gateway) else {
            let why = format!(
                "{listener}: this machine is none of `clients`, and would be turned away like a \
                 stranger"
            );
            return vec![DoctorStage::skipped(LISTENER, why)];
        };
        // One that breaks TLS off is counted as a device that fails.
        if self.certificate.is_none() && self.gateway.tls == GatewayTls::Implicit {
            return vec![self.unknown_certificate(LISTENER)];
        }
        let looking = Arc::new(Looking::for_only(self.certificate.cloned()));
        let Some(config) = looking.config() else {
            return vec![DoctorStage::skipped(
                LISTENER,
                "there is no TLS to look with",
            )];
        };
        let server = ServerSettings {
            host: address.ip().to_string(),
            port: address.port(),
            tls: match self.gateway.tls {
                _ if self.certificate.is_none() => TlsMode::DangerPlaintext,
                GatewayTls::Starttls | GatewayTls::Offered => TlsMode::Starttls,
                GatewayTls::Implicit => TlsMode::Implicit,
                GatewayTls::DangerPlaintext => TlsMode::DangerPlaintext,
            },
            tls_config: Arc::new(config),
            ehlo_name: EhloName::default(),
            timeouts: Timeouts::default(),
        };
        let limits = PoolLimits {
            connections: 1,
            idle: IDLE,
        };
        let pool = Pool::new(server, Arc::new(Nobody), limits);
        let mut met = Met::default();
        for report in pool.check(self.sender).await {
            met.elapsed += report.elapsed;
            match report.outcome {
                Ok(StageDetail::Said(reply)) if report.stage == Stage::Greeting => {
                    met.greeting = Some((reply_line(&reply), met.elapsed));
                }
                Ok(StageDetail::Secured(session)) => {
                    met.secured = Some((secured(&session), met.elapsed));
                }
                Ok(_) => {}
                Err(error) => met.error = Some(error),
            }
        }
        pool.close().await;
        self.stages(met, &looking)
    }

    fn stages(&self, met: Met, looking: &Looking) -> Vec<DoctorStage> {
        let listener = self.address;
        let at = |what: &str| format!("{listener}: {what}");
        // In implicit TLS the greeting comes second.
        let mut stages = Vec::new();
        if let Some((greeting, elapsed)) = &met.greeting {
            stages.push(DoctorStage::ok(LISTENER, *elapsed, at(greeting)));
        }
        if let Some((secured, elapsed)) = &met.secured {
            stages.push(DoctorStage::ok(TLS, *elapsed, at(secured)));
        }
        if self.certificate.is_none() && self.gateway.tls != GatewayTls::DangerPlaintext {
            stages.push(self.unknown_certificate(TLS));
        }
        match met.error {
            // As far as one can without a password.
            Some(error) if error.stage != Stage::Auth => {
                stages.push(self.failed(&error, met.elapsed, looking));
            }
            _ => {}
        }
        stages
    }

    fn unknown_certificate(&self, stage: &'static str) -> DoctorStage {
        let why = format!("{}: its certificate cannot be read here", self.address);
        DoctorStage::skipped(stage, why)
    }

    fn failed(&self, error: &SendError, elapsed: Duration, looking: &Looking) -> DoctorStage {
        let listener = self.address;
        let name = &self.gateway.name;
        let at = |what: &str| format!("{listener}: {what}");
        if matches!(error.stage, Stage::StartTls | Stage::Tls) {
            let Some(presented) = looking.take() else {
                let finding = Finding::new(
                    "tls.failed",
                    format!("{listener} does not encrypt: {}", error.kind),
                    "postrider reload says what is wrong with its certificate",
                    YOU,
                );
                return DoctorStage::failed(TLS, elapsed, at(&error.kind.to_string()), finding);
            };
            let evidence = at(&presented.to_string());
            let finding = Finding::new(
                "tls.other_certificate",
                format!("{listener} shows another certificate than the one that is configured"),
                "postrider reload; then postrider status says whether it can be used",
                YOU,
            );
            return DoctorStage::warning(TLS, elapsed, evidence, finding);
        }
        let (cause, remedy) = match (&*error.kind, error.reply()) {
            (SendErrorKind::Timeout(_), None) if error.stage != Stage::Connect => (
                format!("{listener} takes connections and says nothing"),
                "the daemon is stopped, or hangs: systemctl restart postrider; its log may say why"
                    .to_owned(),
            ),
            (SendErrorKind::Connect(_), None) if listener.ip().is_loopback() => (
                format!("nobody answers at {listener}: {}", error.kind),
                "see the daemon's log, and who listens there: ss -ltnp".to_owned(),
            ),
            (SendErrorKind::Connect(_) | SendErrorKind::Timeout(_), None) => (
                format!("nobody answers at {listener}: {}", error.kind),
                "see whether this machine's firewall lets connections to that port in".to_owned(),
            ),
            (_, Some(reply)) if reply.code == 421 => (
                format!("{listener} takes no more connections"),
                format!(
                    "see who is connected, or raise connections or connections_per_client of \
                     [gateway.{name}]"
                ),
            ),
            _ => (
                format!(
                    "{listener} does not speak as a gateway does: {}",
                    error.kind
                ),
                "see who listens there: ss -ltnp; the daemon's log has more".to_owned(),
            ),
        };
        let evidence = error
            .reply()
            .map_or_else(|| error.kind.to_string(), reply_line);
        let finding = Finding::new("network.connect", cause, remedy, YOU).passing();
        DoctorStage::failed(LISTENER, elapsed, at(&evidence), finding)
    }
}

/// What came of a connection.
#[derive(Default)]
struct Met {
    elapsed: Duration,
    greeting: Option<(String, Duration)>,
    secured: Option<(String, Duration)>,
    error: Option<SendError>,
}

fn secured(session: &tls::Session) -> String {
    let day = session
        .expires
        .and_then(|at| jiff::Timestamp::try_from(at).ok())
        .map_or_else(String::new, |at| format!(", expires {}", at.strftime("%F")));
    let tls::Session {
        version,
        cipher,
        subject,
        ..
    } = session;
    format!("{version}, {cipher}, certificate {subject}{day}")
}

/// Where this machine can connect as one of the gateway's clients: who is none of them is turned
/// away, and counted as a device that fails.
fn way_in(listener: SocketAddr, gateway: &Gateway) -> Option<SocketAddr> {
    let places = if listener.ip().is_unspecified() {
        let here = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let networks = gateway.clients.iter().map(Network::address);
        let near = networks.filter_map(own_address);
        let takes = |ip: &IpAddr| listener.is_ipv6() || ip.is_ipv4();
        here.into_iter().chain(near).filter(takes).collect()
    } else {
        vec![listener.ip()]
    };
    let lets_in = |ip: &IpAddr| {
        let from = own_address(*ip);
        from.is_some_and(|from| gateway.clients.iter().any(|network| network.contains(from)))
    };
    let ip = places.into_iter().find(lets_in)?;
    Some(SocketAddr::new(ip, listener.port()))
}
