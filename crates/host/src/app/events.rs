//! What the keeper tells, in the words that a script hears.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use postrider_auth::{AuthError, AuthErrorKind, Event, EventSink};
use postrider_config::Account as Settings;
use postrider_lua_api::EVENTS;
use postrider_schedule::Clock;
use serde_json::{Value, json};

use super::failures;
use super::queue::Ways;
use crate::failure::Failure;
use crate::lua::{HostEvent, Listener, Listeners};
use crate::metrics::Metrics;

/// Passes what happens on to the scripts that listen.
pub(super) struct Events {
    listeners: Listeners,
    /// Held for reading while an event is handed over: those of one generation hear it, never
    /// some of each.
    swap: Arc<RwLock<()>>,
    /// Mail that waits for a token goes on when one was fetched.
    ways: Arc<Ways>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Accounts that are set up: a remedy names their settings.
    accounts: Mutex<HashMap<String, Settings>>,
}

impl Events {
    /// With nobody who listens.
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        swap: Arc<RwLock<()>>,
        ways: Arc<Ways>,
    ) -> Self {
        Self {
            listeners: Listeners::default(),
            swap,
            ways,
            clock,
            metrics,
            accounts: Mutex::default(),
        }
    }

    /// Tells of something and does not wait until it is dealt with. Whoever listens has it when
    /// this returns.
    pub(super) fn tell(self: &Arc<Self>, name: &'static str, payload: Value) {
        self.pass_on(self.dated(name, payload));
    }

    /// The same with an event as it is.
    pub(super) fn pass_on(self: &Arc<Self>, event: HostEvent) {
        let events = Arc::clone(self);
        let mut telling = async move { events.hand_over(event).await }.boxed();
        if (&mut telling).now_or_never().is_none() {
            tokio::spawn(telling);
        }
    }

    /// True if somebody heard it; every listener has it once this was polled.
    async fn hand_over(&self, event: HostEvent) -> bool {
        let (told, telling) = {
            let _whole = self.swap.read();
            let mut telling = self.listeners.hear(event);
            ((&mut telling).now_or_never(), telling)
        };
        match told {
            Some(heard) => heard,
            None => telling.await,
        }
    }

    /// An event of now.
    fn dated(&self, name: &'static str, mut payload: Value) -> HostEvent {
        payload["at"] = seconds(self.clock.now().into()).into();
        debug_assert_eq!(undescribed(name, &payload), None, "{name}");
        HostEvent::new(name, without_nulls(payload))
    }

    /// From now on `listener` hears of everything.
    pub(super) fn subscribe(&self, listener: &Arc<dyn Listener>) {
        self.listeners.add(listener);
    }

    /// Takes note of an account that events may be about.
    pub(super) fn know(&self, settings: &Settings) {
        self.lock().insert(settings.name.clone(), settings.clone());
    }

    fn failure(&self, account: &str, error: &AuthError) -> Failure {
        match self.lock().get(account) {
            Some(settings) => failures::auth(settings, error),
            None => failures::by_kind(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Settings>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Events {
    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, bool> {
        if matches!(event, Event::TokenRefreshed { .. }) {
            self.ways.try_again();
        }
        match in_words(event, |account, error| self.failure(account, error)) {
            Some((name, payload)) => self.hand_over(self.dated(name, payload)).boxed(),
            None => ready(false).boxed(),
        }
    }

    fn attempted(&self, outcome: Result<(), AuthErrorKind>) {
        self.metrics
            .refresh(outcome.map_or_else(AuthErrorKind::name, |()| "ok"));
    }
}

/// The event's name and payload, if scripts know of its kind.
fn in_words(
    event: &Event,
    failure: impl Fn(&str, &AuthError) -> Failure,
) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::TokenRefreshed {
            account,
            generation,
            expires_at,
            next_refresh,
        } => (
            "token.refreshed",
            json!({
                "account": account,
                "generation": generation,
                "expires_at": seconds(*expires_at),
                "next_refresh": seconds(*next_refresh),
            }),
        ),
        Event::TokenRefreshFailed {
            account,
            error,
            retry_at,
            usable_until,
        } => {
            let failure = failure(account, error);
            (
                "token.refresh_failed",
                json!({
                    "account": account,
                    "code": failure.code,
                    "message": failure.message,
                    "remedy": failure.remedy,
                    "retry_at": retry_at.map(seconds),
                    "usable_until": usable_until.map(seconds),
                }),
            )
        }
        Event::ReauthorizationRequired {
            account,
            reason,
            message,
            since,
        } => (
            "token.reauthorization_required",
            json!({
                "account": account,
                "reason": reason.name(),
                "message": message,
                "since": seconds(*since),
                "remedy": format!("postrider login {account}"),
            }),
        ),
        Event::SecretExpiring {
            account,
            secret,
            expires_at,
            days,
        } => (
            "secret.expiring",
            json!({
                "account": account,
                "secret": secret,
                "expires_at": seconds(*expires_at),
                "days": days,
            }),
        ),
        _ => return None,
    })
}

/// A field of the payload that the reference does not know.
fn undescribed<'a>(name: &str, payload: &'a Value) -> Option<&'a str> {
    let event = EVENTS.iter().find(|event| event.name == name);
    let known =
        |key: &str| event.is_some_and(|event| event.payload.iter().any(|field| field.name == key));
    let mut fields = payload.as_object()?.keys();
    fields.find(|key| !known(key)).map(String::as_str)
}

/// A key that is absent is `nil` to a script.
fn without_nulls(mut payload: Value) -> Value {
    if let Some(fields) = payload.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    payload
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
