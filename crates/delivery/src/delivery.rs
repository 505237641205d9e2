//! Delivery as its owner sees it: run it, flush with it, stop it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use postrider_schedule::Clock;
use postrider_spool::{SpoolError, Store};
use tokio::sync::{mpsc, watch};

use crate::policy::{Policy, Random};
use crate::route::Routes;
use crate::sink::Sink;
use crate::supervisor::{Order, Supervisor};

/// What delivery works with.
#[derive(Clone)]
pub struct DeliverySettings {
    /// Who this process is, for people: `serve 4711`.
    pub name: String,
    /// The queue.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The ways out.
    pub routes: Arc<dyn Routes>,
    /// Who hears of what happens.
    pub sink: Arc<dyn Sink>,
    /// What the operator decided.
    pub policy: Policy,
    /// What spreads attempts: [`random`](crate::random()).
    pub random: Random,
}

/// Delivers queued mail. Cheap to clone; the clones are the same.
#[derive(Clone)]
pub struct Delivery {
    settings: Arc<DeliverySettings>,
    stop: Arc<watch::Sender<bool>>,
    orders: Arc<watch::Sender<Option<mpsc::UnboundedSender<Order>>>>,
}

/// What a flush is about.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    /// Mail of this account only.
    pub account: Option<String>,
    /// Also what was put off, and accounts that pause.
    pub now: bool,
}

/// What a flush came to, in recipients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Taken by a server.
    pub delivered: u64,
    /// Refused for good, or too old.
    pub failed: u64,
    /// Put off.
    pub deferred: u64,
    /// Left for a person.
    pub held: u64,
    /// Sent, with nobody to say whether they arrived.
    pub unknown: u64,
    /// Accounts with mail that is due and cannot go now: until when, and why.
    pub waiting: BTreeMap<String, (Timestamp, String)>,
}

impl Delivery {
    /// Delivery that has not begun.
    pub fn new(settings: DeliverySettings) -> Self {
        Self {
            settings: Arc::new(settings),
            stop: Arc::new(watch::Sender::new(false)),
            orders: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Delivers until [`Delivery::stop`]. Dropped before that, it leaves what was in flight
    /// unknown.
    ///
    /// # Errors
    ///
    /// The queue cannot be joined. Trouble after that is told to the [`Sink`], and outlived.
    pub async fn run(&self) -> Result<(), SpoolError> {
        let (orders, taken) = mpsc::unbounded_channel();
        self.orders.send_replace(Some(orders));
        let supervisor = Supervisor::join(&self.settings, self.stop.subscribe()).await?;
        supervisor.work(taken, None).await.map(drop)
    }

    /// Delivers what is due, then ends. Waits for turns within the minute's pace, not for pauses
    /// or a new day; safe beside a [`Delivery::run`] of another process.
    ///
    /// # Errors
    ///
    /// The queue cannot be joined or asked.
    pub async fn flush(&self, flush: Flush) -> Result<Flushed, SpoolError> {
        let (_orders, taken) = mpsc::unbounded_channel();
        let supervisor = Supervisor::join(&self.settings, self.stop.subscribe()).await?;
        supervisor.work(taken, Some(flush)).await
    }

    /// Begins nothing new. What is in flight may end within
    /// [`Policy::stop_within`]; then [`Delivery::run`] returns, for good.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends the pause of an account, if it has one: somebody signed in, or its configuration
    /// changed.
    pub fn resume(&self, account: &str) {
        if let Some(orders) = &*self.orders.borrow() {
            // A run that has ended resumes nothing.
            let _ = orders.send(Order::Resume(account.to_owned()));
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({})", self.settings.name)
    }
}
