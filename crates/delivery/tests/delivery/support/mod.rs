//! A queue, its servers and a clock that a test moves: nothing waits for real time.

mod server;
mod watched;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use postrider_delivery::{
    Delivery, DeliverySettings, Pause, Policy, Report, Route, Routes, Sink, Transition,
};
use postrider_schedule::{Clock as _, ManualClock};
use postrider_spool::{
    Body, Filter, NewMessage, QueueId, SpoolError, SpoolSettings, SqliteSpool, StateKind,
    Store as _,
};
use tokio::task::JoinHandle;

pub(crate) use server::{Arrival, Closed, Say, Server};
pub(crate) use watched::Watched;

/// When all tests begin.
pub(crate) fn start() -> Timestamp {
    "2026-11-23T06:00:00Z".parse().unwrap()
}

pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<Watched>,
    pub(crate) servers: Arc<Servers>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) policy: Policy,
    /// The clock is moved by this much at least: time in which nothing is expected to happen.
    pub(crate) stride: Duration,
    running: Option<(Delivery, JoinHandle<Result<(), SpoolError>>)>,
}

#[derive(Default)]
pub(crate) struct Servers(Mutex<BTreeMap<String, Arc<Server>>>);

impl Routes for Servers {
    fn route(&self, account: &str) -> Option<Arc<dyn Route>> {
        let servers = self.0.lock().unwrap();
        servers
            .get(account)
            .map(|server| Arc::clone(server) as Arc<dyn Route>)
    }
}

/// All that the sink was told.
#[derive(Default)]
pub(crate) struct Heard {
    transitions: Mutex<Vec<Transition>>,
    /// `paused alerts slow 432…`, `resumed alerts`, `trouble …`.
    notes: Mutex<Vec<String>>,
}

impl Sink for Heard {
    fn transition(&self, transition: &Transition) {
        self.transitions.lock().unwrap().push(transition.clone());
    }

    fn paused(&self, account: &str, pause: &Pause) {
        let note = format!("paused {account} {} {}", pause.kind.name(), pause.why);
        self.notes.lock().unwrap().push(note);
    }

    fn resumed(&self, account: &str) {
        self.notes
            .lock()
            .unwrap()
            .push(format!("resumed {account}"));
    }

    fn trouble(&self, error: &SpoolError) {
        self.notes.lock().unwrap().push(format!("trouble {error}"));
    }
}

impl Heard {
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }

    pub(crate) fn transitions(&self) -> Vec<Transition> {
        self.transitions.lock().unwrap().clone()
    }

    /// Those into this state.
    pub(crate) fn moved_to(&self, kind: StateKind) -> Vec<Transition> {
        let mut transitions = self.transitions();
        transitions.retain(|transition| transition.to.kind() == kind);
        transitions
    }
}

impl World {
    /// One with a queue in memory.
    pub(crate) fn new() -> Self {
        Self::with(SqliteSpool::in_memory(SpoolSettings::default()).unwrap())
    }

    /// One with a queue on the disk.
    pub(crate) fn on_disk(dir: &Path) -> Self {
        Self::with(SqliteSpool::open(dir, SpoolSettings::default()).unwrap())
    }

    fn with(spool: SqliteSpool) -> Self {
        let policy = Policy {
            report: Report::None,
            ..Policy::default()
        };
        Self {
            clock: ManualClock::new(start()),
            store: Watched::new(spool),
            servers: Arc::default(),
            heard: Arc::default(),
            policy,
            stride: Duration::ZERO,
            running: None,
        }
    }

    /// Another process on the same queue, with the same servers.
    pub(crate) fn reopened(self, dir: &Path) -> Self {
        let Self {
            clock,
            store,
            servers,
            heard,
            policy,
            running,
            ..
        } = self;
        drop((store, running));
        let spool = SqliteSpool::open(dir, SpoolSettings::default()).unwrap();
        Self {
            clock,
            store: Watched::new(spool),
            servers,
            heard,
            policy,
            stride: Duration::ZERO,
            running: None,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn server(&self, account: &str) -> Arc<Server> {
        let mut servers = self.servers.0.lock().unwrap();
        let server = servers
            .entry(account.to_owned())
            .or_insert_with(|| Server::new(&self.clock));
        Arc::clone(server)
    }

    pub(crate) fn delivery(&self) -> Delivery {
        self.delivery_by(Arc::clone(&self.servers) as _)
    }

    fn delivery_by(&self, routes: Arc<dyn Routes>) -> Delivery {
        Delivery::new(DeliverySettings {
            name: "test".to_owned(),
            store: Arc::clone(&self.store) as _,
            clock: Arc::new(self.clock.clone()),
            routes,
            sink: Arc::clone(&self.heard) as _,
            policy: self.policy.clone(),
            random: Arc::new(|| 0.5),
        })
    }

    /// Begins to deliver.
    pub(crate) fn run(&mut self) {
        self.run_by(Arc::clone(&self.servers) as _);
    }

    /// The same over other ways out than its servers.
    pub(crate) fn run_by(&mut self, routes: Arc<dyn Routes>) {
        let delivery = self.delivery_by(routes);
        let run = {
            let delivery = delivery.clone();
            tokio::spawn(async move { delivery.run().await })
        };
        self.running = Some((delivery, run));
    }

    pub(crate) fn running(&self) -> &Delivery {
        &self.running.as_ref().unwrap().0
    }

    /// As if the process died.
    pub(crate) async fn kill(&mut self) {
        let (_, run) = self.running.take().unwrap();
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
        self.store.is_quiet().await;
    }

    /// Stops, and moves the clock as far as that takes.
    pub(crate) async fn stop(&mut self) {
        let (delivery, mut run) = self.running.take().unwrap();
        delivery.stop();
        let deadline = self.clock.now() + Duration::from_mins(5);
        loop {
            self.store.is_quiet().await;
            if run.is_finished() {
                break;
            }
            assert!(self.step(deadline).await, "it does not stop");
        }
        (&mut run).await.unwrap().unwrap();
    }

    /// Moves the clock to the next moment that somebody waits for, if it comes before `end`.
    async fn step(&self, end: Timestamp) -> bool {
        self.store.is_quiet().await;
        match self.clock.next_wake() {
            Some(next) if next <= end => {
                let stride = self.clock.now() + self.stride;
                self.clock.set(next.max(stride).min(end));
                self.store.is_quiet().await;
                true
            }
            _ => false,
        }
    }

    /// Lets so much time pass.
    pub(crate) async fn pass(&self, span: Duration) {
        let end = self.clock.now() + span;
        while self.step(end).await {}
        self.clock.set(end);
        self.store.is_quiet().await;
    }

    /// Lets time pass until nothing is queued, deferred or being sent; how long it took.
    pub(crate) async fn until_done(&self, at_most: Duration) -> Duration {
        let began = self.clock.now();
        loop {
            self.store.is_quiet().await;
            if self.waiting().await == 0 {
                return Duration::try_from(self.clock.now().duration_since(began)).unwrap();
            }
            let stepped = self.step(began + at_most).await;
            assert!(stepped, "not done in time: {:?}", self.states().await);
        }
    }

    /// Lets time pass until `until` holds.
    pub(crate) async fn until(&self, at_most: Duration, until: impl Fn(&Self) -> bool) {
        let end = self.clock.now() + at_most;
        self.store.is_quiet().await;
        while !until(self) {
            assert!(
                self.step(end).await,
                "not in time: {:?}",
                self.states().await
            );
        }
    }

    async fn waiting(&self) -> u64 {
        let states = self.states().await;
        let waits = [StateKind::Queued, StateKind::Deferred, StateKind::Sending];
        waits.iter().filter_map(|kind| states.get(kind)).sum()
    }

    /// Recipients in each state.
    pub(crate) async fn states(&self) -> BTreeMap<StateKind, u64> {
        let mut states = BTreeMap::new();
        for stats in self.store.stats().await.unwrap().accounts.into_values() {
            for (kind, count) in stats.states {
                *states.entry(kind).or_default() += count;
            }
        }
        states.retain(|_, count| *count > 0);
        states
    }

    /// Queues a message to one recipient.
    pub(crate) async fn queue(&self, account: &str, name: &str) -> QueueId {
        self.queue_message(message(account, name)).await
    }

    pub(crate) async fn queue_message(&self, message: NewMessage) -> QueueId {
        let accepted = self.store.accept(message, self.clock.now()).await.unwrap();
        accepted.id
    }

    /// What a message's recipients came to, and why.
    pub(crate) async fn ends(&self, id: QueueId) -> Vec<(StateKind, String)> {
        let shown = self.store.show(id).await.unwrap().unwrap();
        let recipients = shown.recipients.into_iter();
        recipients
            .map(|one| {
                (
                    one.state.kind(),
                    one.state.why().unwrap_or_default().to_owned(),
                )
            })
            .collect()
    }

    /// The queue's messages, by origin.
    pub(crate) async fn listed(&self) -> Vec<postrider_spool::Listed> {
        self.store.list(Filter::default()).await.unwrap()
    }
}

pub(crate) fn message(account: &str, name: &str) -> NewMessage {
    let recipients = vec![format!("{name}@example.net")];
    let id = format!("<{name}@contoso.com>");
    let octets = format!("Subject: {name}\r\nMessage-ID: {id}\r\n\r\nbody of {name}\r\n");
    let body = Body::from(octets.into_bytes());
    let mut message = NewMessage::new(account, recipients, &id, body);
    message.reverse_path = Some("mail@contoso.com".to_owned());
    message
}
