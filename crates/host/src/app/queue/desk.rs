//! Where a process gets at the queue.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Once, PoisonError};

use jiff::Timestamp;
use postrider_config::{self as config, QueueSettings};
use postrider_schedule::Clock;
use postrider_spool::{Holder, NewMessage, SpoolSettings, SqliteSpool, Store};
use serde_json::json;
use tokio::sync::{Mutex, OnceCell, watch};

use super::counted::Counted;
use super::{DIRECTORY, Queue, Queued, Ways, failure};
use crate::app::Moment;
use crate::app::events::Events;
use crate::failure::Failure;
use crate::lua::Activity;
use crate::state;

/// Where a queue is kept.
#[derive(Clone)]
pub(in crate::app) enum Place {
    /// In the state directory: `--state-dir`, or the platform's.
    StateDirectory(Option<PathBuf>),
    /// In memory: a sandbox leaves nothing behind. What is asked of it counts as work.
    Memory(Activity),
}

/// Where a process gets at the queue: it is opened when it is first needed, and outlives a reload.
pub(in crate::app) struct Desk {
    pub(super) opened: OnceCell<Queue>,
    /// This process among those that send in the queue's pace, from its first message on.
    pub(super) holder: Mutex<Option<Holder>>,
    /// Whether it gives signs of life.
    pub(super) beating: Once,
    /// When mail of each account was last delivered here.
    delivered: std::sync::Mutex<HashMap<String, Timestamp>>,
    /// Messages that were queued here.
    pub(super) queued: watch::Sender<u64>,
    settings: QueueSettings,
    place: Place,
    pub(super) clock: Arc<dyn Clock>,
    events: Arc<Events>,
    pub(super) ways: Arc<Ways>,
}

impl Desk {
    /// A queue in the state directory, or in memory.
    pub(in crate::app) fn new(
        settings: QueueSettings,
        place: Place,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
        ways: Arc<Ways>,
    ) -> Self {
        Self {
            opened: OnceCell::new(),
            holder: Mutex::default(),
            beating: Once::new(),
            delivered: std::sync::Mutex::default(),
            queued: watch::Sender::new(0),
            settings,
            place,
            clock,
            events,
            ways,
        }
    }

    /// The queue.
    pub(in crate::app) async fn queue(&self) -> Result<&Queue, Failure> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    /// Whether whoever delivers will know the account.
    pub(super) fn check(&self, settings: &config::Account) -> Result<(), Failure> {
        if matches!(self.place, Place::Memory(_)) || self.ways.is_configured(settings) {
            return Ok(());
        }
        let message = "only a script knows this account, and whoever delivers later has to know it";
        Err(Failure::new("queue.account", message)
            .with_remedy("put the account into postrider.toml, or send without wait = \"queued\""))
    }

    /// Mail of this account was delivered.
    pub(super) fn note_delivery(&self, account: &str, at: Timestamp) {
        let mut delivered = self
            .delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        delivered.insert(account.to_owned(), at);
    }

    pub(super) fn last_delivered(&self, account: &str) -> Option<Moment> {
        let delivered = self
            .delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        delivered.get(account).map(|at| Moment((*at).into()))
    }

    /// Keeps a message; it is safe when this returns.
    pub(in crate::app) async fn accept(&self, message: NewMessage) -> Result<Queued, Failure> {
        let account = message.account.clone();
        let about = |failure: Failure| failure.with_account(&account);
        let queue = self.queue().await.map_err(about)?;
        let (recipients, origin) = (message.recipients.len(), message.origin.clone());
        let accepted = queue.store.accept(message, self.clock.now()).await;
        let accepted = accepted.map_err(|error| about(failure(&error)))?;
        let queued = Queued {
            id: accepted.id.to_string(),
            message_id: accepted.message_id,
            account: account.clone(),
            duplicate: accepted.duplicate,
            queued_at: Moment(accepted.accepted_at.into()),
        };
        if !queued.duplicate {
            self.queued.send_modify(|count| *count += 1);
            let Queued { id, message_id, .. } = &queued;
            tracing::info!(account, id, message_id, recipients, origin, "queued");
            let payload = json!({
                "account": account,
                "id": id,
                "message_id": message_id,
                "recipients": recipients,
                "origin": origin,
            });
            self.events.tell("queue.accepted", payload);
        }
        Ok(queued)
    }

    async fn open(&self) -> Result<Queue, Failure> {
        let settings = SpoolSettings {
            retention: self.settings.retention,
            idempotency_window: self.settings.idempotency_window,
            max_message: u64::try_from(self.settings.max_message_octets).unwrap_or(u64::MAX),
            ..SpoolSettings::default()
        };
        let place = self.place.clone();
        let opening = tokio::task::spawn_blocking(move || -> Result<Arc<dyn Store>, Failure> {
            let given = match place {
                Place::StateDirectory(given) => given,
                Place::Memory(activity) => {
                    let spool = SqliteSpool::in_memory(settings);
                    let spool = Arc::new(spool.map_err(|error| failure(&error))?);
                    return Ok(Arc::new(Counted::new(spool, activity)));
                }
            };
            let directory = state::directory(given.as_deref())?;
            state::prepare(&directory)?;
            let spool = SqliteSpool::open(&directory.join(DIRECTORY), settings);
            Ok(Arc::new(spool.map_err(|error| failure(&error))?))
        });
        let store = opening
            .await
            .map_err(|_| Failure::new("internal", "opening the queue was interrupted"))??;
        Ok(Queue { store })
    }
}
