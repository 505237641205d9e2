//! What gateways tell, and who hears of it: the log, the counters, scripts, and whoever asks for the
//! status.
//!
//! It outlives reloads: what is counted is counted since the process began.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use postrider_gateway::ledger::{Ledger, Observation};
use postrider_gateway::{Accepted, Arrival, Event, Refusal, TurnedAway};
use postrider_schedule::Clock;
use serde_json::json;

use super::failing::{AGAIN, Failing, Who};
use crate::app::Moment;
use crate::app::events::Events;
use crate::control::{FailingDevice, LedgerStatus};
use crate::failure::Failure;
use crate::metrics::Metrics;

/// What is said of an address that may not connect.
pub(crate) const NO_CLIENT: &str = "it is in none of the networks under clients";

/// Everything that was told since the process began.
pub(in crate::app) struct Book {
    gateways: Mutex<BTreeMap<Arc<str>, Page>>,
    /// When each trouble of this side was told of last, by its code.
    troubles: Mutex<BTreeMap<String, Timestamp>>,
    /// Who sent what from where; there is one as soon as there is a gateway.
    ledger: OnceLock<Ledger>,
    /// Why it could not even be opened.
    no_ledger: Mutex<Option<String>>,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
    metrics: Metrics,
}

/// What was told of one gateway.
#[derive(Debug, Default)]
struct Page {
    messages: u64,
    refused: u64,
    rehearsed: u64,
    failing: Failing,
    certificate_problem: Option<String>,
}

/// How one gateway stands, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) messages: u64,
    pub(super) refused: u64,
    pub(super) rehearsed: u64,
    pub(super) failing: Vec<FailingDevice>,
    pub(super) certificate_problem: Option<String>,
}

impl Book {
    /// With nothing in it.
    pub(in crate::app) fn new(
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
        metrics: Metrics,
    ) -> Self {
        Self {
            gateways: Mutex::default(),
            troubles: Mutex::default(),
            ledger: OnceLock::new(),
            no_ledger: Mutex::default(),
            clock,
            events,
            metrics,
        }
    }

    /// How this gateway stands.
    pub(super) fn counted(&self, gateway: &str) -> Counted {
        let gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        gateways
            .get(gateway)
            .map_or_else(Counted::default, |page| Counted {
                messages: page.messages,
                refused: page.refused,
                rehearsed: page.rehearsed,
                failing: page.failing.list(),
                certificate_problem: page.certificate_problem.clone(),
            })
    }

    /// From now on all is written down in this file, too. What keeps it from being written is said
    /// there, and keeps no mail.
    pub(super) fn write_down(&self, path: &Path) {
        if self.ledger.get().is_some() {
            return;
        }
        match Ledger::open(path) {
            Ok(ledger) => drop(self.ledger.set(ledger)),
            Err(error) => {
                tracing::warn!("gateways keep no ledger: {error}");
                let mut why = self
                    .no_ledger
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *why = Some(error.to_string());
            }
        }
    }

    /// How the ledger stands; none before one was wanted.
    pub(super) fn ledger_status(&self) -> Option<LedgerStatus> {
        if let Some(ledger) = self.ledger.get() {
            let health = ledger.health();
            return Some(LedgerStatus {
                trouble: health.trouble,
                written_at: health.written_at.map(|at| Moment(at.into())),
                waiting: health.waiting,
                lost: health.lost,
            });
        }
        let why = self
            .no_ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        why.clone().map(|why| LedgerStatus {
            trouble: Some(why),
            written_at: None,
            waiting: 0,
            lost: 0,
        })
    }

    /// The time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes what waits. Blocks.
    pub(super) fn flush(&self) {
        if let Some(ledger) = self.ledger.get() {
            // What went wrong is in the log.
            let _ = ledger.flush();
        }
    }

    /// Takes note, and passes it on.
    pub(super) fn note(&self, event: &Event) {
        if let Some(ledger) = self.ledger.get()
            && let Some(observation) = Observation::of(event, self.clock.now())
        {
            ledger.record(&observation);
        }
        match event {
            Event::Connected { gateway, .. } => self.metrics.gateway_session(gateway),
            Event::TurnedAway {
                gateway,
                client,
                why,
            } => self.turned_away(gateway, *client, *why),
            Event::NotEncrypted {
                gateway,
                client,
                problem,
            } => self.kept_out(gateway, *client, "encryption", problem),
            Event::SignedIn { arrival } => {
                self.metrics.gateway_auth(&arrival.gateway, "ok");
                tracing::debug!(
                    gateway = &*arrival.gateway,
                    device = arrival.device,
                    client = %arrival.client,
                    mechanism = arrival.mechanism,
                    tls = arrival.tls,
                    "a device signed in"
                );
            }
            Event::AuthFailed {
                arrival,
                refusal,
                why,
            } => self.auth_failed(arrival, refusal, why.as_deref()),
            Event::Accepted { arrival, accepted } => self.accepted(arrival, accepted),
            Event::Refused { arrival, refusal } => self.refused(arrival, refusal),
            Event::Rehearsed { arrival, refusal } => {
                self.metrics.gateway_refusal(&arrival.gateway, "rehearsed");
                self.on(&arrival.gateway, |page| page.rehearsed += 1);
                tracing::info!(
                    gateway = &*arrival.gateway,
                    device = arrival.device,
                    client = %arrival.client,
                    "refused for the rehearsal: {refusal}"
                );
            }
            Event::WouldRefuse { arrival, refusal } => tracing::info!(
                gateway = &*arrival.gateway,
                device = arrival.device,
                client = %arrival.client,
                sender = arrival.sender,
                "taken, as this gateway only observes; else: {refusal}"
            ),
            Event::RuleBroken {
                arrival,
                by,
                problem,
            } => {
                let by = Some(by.as_str()).filter(|by| !by.is_empty());
                rule_broken(&arrival.gateway, arrival.device(), by, problem);
            }
            Event::CertificateLoaded {
                gateway,
                fingerprint,
            } => {
                self.on(gateway, |page| page.certificate_problem = None);
                tracing::info!(gateway = &**gateway, fingerprint, "its certificate");
            }
            Event::CertificateFailed { gateway, problem } => {
                self.on(gateway, |page| {
                    page.certificate_problem = Some(problem.clone());
                });
                tracing::warn!(
                    gateway = &**gateway,
                    "its certificate files cannot be used, the one before stays in use: {problem}"
                );
            }
            Event::AcceptFailed { gateway, problem } => tracing::warn!(
                gateway = &**gateway,
                "no further connections for a moment: {problem}"
            ),
            // It is told of here when there is more to tell.
            _ => {}
        }
    }

    /// Something on this side kept a device's mail out, and the device is not told all of it: said
    /// once a minute for each reason.
    pub(super) fn trouble(&self, gateway: &str, failure: &Failure) {
        let is_the_devices = failure.code.starts_with("message.") || failure.code == "hook.refused";
        if is_the_devices {
            return;
        }
        let now = self.clock.now();
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let told = troubles.get(&failure.code);
        if told.is_some_and(|at| now.duration_since(*at) < AGAIN) {
            return;
        }
        troubles.insert(failure.code.clone(), now);
        tracing::error!(
            gateway,
            code = failure.code,
            account = failure.account,
            at = failure.at,
            remedy = failure.remedy,
            "a device's mail was not taken: {}",
            failure.message
        );
    }

    fn turned_away(&self, gateway: &Arc<str>, client: IpAddr, why: TurnedAway) {
        let (reason, words) = match why {
            TurnedAway::Network => ("network", NO_CLIENT),
            TurnedAway::Full => ("full", "the gateway has as many connections as it takes"),
            TurnedAway::FullForClient => (
                "full_for_client",
                "it has as many connections as one client may",
            ),
        };
        self.kept_out(gateway, client, reason, words);
    }

    /// A client that did not get as far as a name.
    fn kept_out(&self, gateway: &Arc<str>, client: IpAddr, reason: &'static str, why: &str) {
        self.metrics.gateway_refusal(gateway, reason);
        let who = Who {
            device: None,
            client,
        };
        if let Some(count) = self.failed(gateway, &who, why) {
            tracing::warn!(
                gateway = &**gateway,
                %client,
                count,
                "a client was turned away: {why}"
            );
        }
    }

    fn auth_failed(&self, arrival: &Arrival, refusal: &Refusal, why: Option<&str>) {
        let gateway = &arrival.gateway;
        self.metrics.gateway_auth(gateway, "failed");
        let Some(count) = self.failed(gateway, &who(arrival), &refusal.to_string()) else {
            return;
        };
        tracing::warn!(
            gateway = &**gateway,
            device = arrival.device,
            client = %arrival.client,
            mechanism = arrival.mechanism,
            count,
            why,
            "a sign-in failed: {refusal}"
        );
        let payload = json!({
            "gateway": &**gateway,
            "device": arrival.device,
            "client": arrival.client.to_string(),
            "count": count,
        });
        self.events.tell("gateway.auth_failed", payload);
    }

    fn accepted(&self, arrival: &Arrival, accepted: &Accepted) {
        let gateway = &arrival.gateway;
        self.metrics.gateway_message(gateway);
        self.on(gateway, |page| {
            page.messages += 1;
            page.failing.mended(arrival.device(), arrival.client);
        });
        let Accepted {
            id,
            message_id,
            account,
            sender,
            octets,
        } = accepted;
        let recipients = arrival.recipients.len();
        tracing::info!(
            gateway = &**gateway,
            device = arrival.device,
            client = %arrival.client,
            sender,
            recipients,
            account,
            id,
            octets,
            "accepted from a device"
        );
        let payload = json!({
            "gateway": &**gateway,
            "device": arrival.device,
            "client": arrival.client.to_string(),
            "account": account,
            "id": id,
            "message_id": message_id,
            "sender": sender,
            "recipients": recipients,
        });
        self.events.tell("gateway.accepted", payload);
    }

    fn refused(&self, arrival: &Arrival, refusal: &Refusal) {
        let gateway = &arrival.gateway;
        self.metrics.gateway_refusal(gateway, refusal.enhanced);
        let said = refusal.to_string();
        let Some(count) = self.failed(gateway, &who(arrival), &said) else {
            return;
        };
        tracing::warn!(
            gateway = &**gateway,
            device = arrival.device,
            client = %arrival.client,
            sender = arrival.sender,
            count,
            "refused: {said}"
        );
        let payload = json!({
            "gateway": &**gateway,
            "device": arrival.device,
            "client": arrival.client.to_string(),
            "code": refusal.code,
            "message": said,
            "sender": arrival.sender,
            "count": count,
        });
        self.events.tell("gateway.refused", payload);
    }

    /// Counts a failure; if it is to be told of now, how many there were since the last time.
    fn failed(&self, gateway: &Arc<str>, who: &Who, why: &str) -> Option<u64> {
        let now = self.clock.now();
        self.on(gateway, |page| {
            page.refused += 1;
            page.failing.note(who, why, now)
        })
    }

    fn on<T>(&self, gateway: &Arc<str>, change: impl FnOnce(&mut Page) -> T) -> T {
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        change(gateways.entry(Arc::clone(gateway)).or_default())
    }
}

/// A script wants what must not be: its mistake, and not the device's.
pub(super) fn rule_broken(gateway: &str, device: &str, by: Option<&str>, problem: &str) {
    tracing::error!(
        target: "postrider::script",
        gateway,
        device,
        at = by,
        "a hook made of a device's mail what may not be sent: {problem}"
    );
}

fn who(arrival: &Arrival) -> Who {
    Who {
        device: arrival.device.clone(),
        client: arrival.client,
    }
}
