//! Delivery in this process: what it works with, and who hears of what it does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postrider_config::{QueueSettings, Unknown};
use postrider_delivery::{
    Delivery, DeliverySettings, OnUnknown, Pause, PauseKind, Policy, Random, Report, Sink,
    Transition, random,
};
use postrider_schedule::Clock;
use postrider_spool::{SpoolError, State, StateKind};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use super::failure;
use crate::app::App;
use crate::app::events::Events;
use crate::app::world::Lasting;
use crate::failure::Failure;
use crate::http::{self, Method};
use crate::metrics::Metrics;

/// How often a failure is posted that the webhook does not take.
const POSTS: u32 = 3;
/// Between one attempt and the next.
const POST_AGAIN: Duration = Duration::from_secs(10);

impl App {
    /// Delivery of what is queued; nothing is delivered before it runs.
    ///
    /// # Errors
    /// The queue cannot be opened.
    pub async fn delivery(&self) -> Result<Delivery, Failure> {
        self.delivery_by(Arc::clone(self.clock()), random()).await
    }

    /// The same by another clock, and with other numbers that spread attempts.
    pub(crate) async fn delivery_by(
        &self,
        clock: Arc<dyn Clock>,
        random: Random,
    ) -> Result<Delivery, Failure> {
        let lasting = &self.0.lasting;
        let queue = self.queue().await?;
        let settings = &self.0.config.queue;
        Ok(Delivery::new(DeliverySettings {
            name: format!("pid {}", std::process::id()),
            store: Arc::clone(&queue.store),
            clock,
            routes: Arc::clone(&lasting.ways) as Arc<_>,
            sink: Arc::new(Herald {
                events: Arc::clone(&lasting.events),
                metrics: lasting.metrics.clone(),
                webhook: settings.report_webhook.clone(),
                lasting: Arc::downgrade(lasting),
            }),
            policy: policy(settings),
            random,
        }))
    }
}

fn policy(settings: &QueueSettings) -> Policy {
    Policy {
        unknown: match settings.unknown {
            Unknown::Hold => OnUnknown::Hold,
            Unknown::Retry => OnUnknown::Retry,
        },
        max_age: settings.max_age,
        report: if settings.report_to_sender {
            Report::Sender
        } else {
            Report::None
        },
        ..Policy::default()
    }
}

/// Tells scripts, metrics, the log and a webhook.
struct Herald {
    events: Arc<Events>,
    metrics: Metrics,
    webhook: Option<Url>,
    lasting: std::sync::Weak<Lasting>,
}

impl Sink for Herald {
    fn transition(&self, transition: &Transition) {
        let kind = transition.to.kind();
        self.metrics.queued(&transition.account, kind.name());
        let Some((event, payload)) = in_words(transition) else {
            return;
        };
        let Transition {
            account,
            message_id,
            recipient,
            attempts,
            ..
        } = transition;
        let id = transition.id.to_string();
        let why = transition.why();
        match kind {
            StateKind::Delivered => {
                tracing::info!(account, id, message_id, recipient, reply = why, "delivered");
            }
            StateKind::Deferred => {
                let next = transition.next().map(|next| next.to_string());
                tracing::info!(
                    account, id, message_id, recipient, attempts, next, why, "deferred"
                );
            }
            _ => {
                let state = kind.name();
                tracing::warn!(account, id, message_id, recipient, attempts, why, "{state}");
            }
        }
        if kind == StateKind::Delivered
            && let Some(lasting) = self.lasting.upgrade()
        {
            lasting.queue.note_delivery(account, transition.at);
        }
        if kind == StateKind::Failed {
            self.post(event, &payload);
        }
        self.events.tell(event, payload);
    }

    fn paused(&self, account: &str, pause: &Pause) {
        let kind = match pause.kind {
            PauseKind::SlowDown => "slow",
            PauseKind::Away => "away",
            PauseKind::Park => "parked",
        };
        let until = pause.until.to_string();
        tracing::warn!(
            account,
            kind,
            until,
            why = pause.why,
            "nothing is sent for a while"
        );
        let payload = json!({
            "account": account,
            "kind": kind,
            "until": seconds(pause.until),
            "why": pause.why,
        });
        self.events.tell("queue.paused", payload);
    }

    fn resumed(&self, account: &str) {
        tracing::info!(account, "mail goes on");
        let payload = json!({ "account": account });
        self.events.tell("queue.resumed", payload);
    }

    fn trouble(&self, error: &SpoolError) {
        let failure = failure(error);
        tracing::error!(
            code = failure.code,
            remedy = failure.remedy,
            "{}",
            failure.message
        );
    }
}

impl Herald {
    fn post(&self, event: &str, payload: &Value) {
        let (Some(webhook), Some(lasting)) = (&self.webhook, self.lasting.upgrade()) else {
            return;
        };
        let mut body = payload.clone();
        body["event"] = event.into();
        let request = http::Request {
            method: Method::Post,
            url: SecretString::from(webhook.to_string()),
            headers: vec![(
                "content-type".to_owned(),
                SecretString::from("application/json"),
            )],
            body: body.to_string().into_bytes(),
            timeout: http::TIMEOUT,
            max_octets: http::RESPONSE_OCTETS,
            ca_file: None,
            danger_plaintext: false,
        };
        // Whoever ends this process waits a moment for what holds this.
        let leaving = Arc::clone(&lasting.leaving).try_read_owned();
        tokio::spawn(async move {
            post(lasting, request).await;
            drop(leaving);
        });
    }
}

async fn post(lasting: Arc<Lasting>, request: http::Request) {
    for attempt in 1..=POSTS {
        let why = match lasting.http.send(request.clone()).await {
            Ok(response) if response.status < 300 => return,
            Ok(response) => format!("status {}", response.status),
            Err(failure) => failure.message,
        };
        tracing::warn!(
            attempt,
            "the failure report was not taken by the webhook: {why}"
        );
        if attempt < POSTS {
            tokio::time::sleep(POST_AGAIN).await;
        }
    }
}

/// The event and its payload, where scripts hear of it.
fn in_words(transition: &Transition) -> Option<(&'static str, Value)> {
    let mut payload = json!({
        "account": transition.account,
        "id": transition.id.to_string(),
        "message_id": transition.message_id,
        "recipient": transition.recipient,
    });
    let event = match &transition.to {
        State::Queued | State::Sending => return None,
        State::Delivered { reply } => {
            payload["reply"] = reply.as_str().into();
            "queue.delivered"
        }
        State::Deferred { until, why } => {
            payload["why"] = why.as_str().into();
            payload["next"] = seconds(*until).into();
            "queue.deferred"
        }
        State::Held { why } => {
            payload["why"] = why.as_str().into();
            return Some(("queue.held", payload));
        }
        State::Failed { why } => {
            payload["why"] = why.as_str().into();
            "queue.failed"
        }
        State::Unknown { why } => {
            payload["why"] = why.as_str().into();
            "queue.unknown"
        }
    };
    payload["attempts"] = transition.attempts.into();
    Some((event, payload))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}
