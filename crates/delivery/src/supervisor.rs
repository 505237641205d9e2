//! Which accounts are driven now, and when the others will be.
//!
//! Nothing here polls but for other processes: a change is told, a time is slept for. An account
//! that the store holds back is not asked for again before the time that the store named, however
//! much mail comes in for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Aborted, BoxFuture, FutureExt as _, abortable, join, pending};
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use postrider_spool::{Aged, Changes, Filter, Select, SpoolError, SpoolErrorKind, StateKind};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use crate::account::Answer;
use crate::delivery::{DeliverySettings, Flush, Flushed};
use crate::drive::drive;
use crate::ledger::{self, Entry};
use crate::seat::Seat;
use crate::shared::{Shared, Stage};
use crate::sink::Sink;
use crate::tally::Tally;
use crate::throttle::{Pause, PauseKind, later};

/// Between looks for other processes' changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between signs of life. The store takes a holder for dead after three times as long.
const TICK: Duration = Duration::from_secs(20);
/// Ticks between looks for what dead processes left, and for what has expired.
const SWEEP_TICKS: u32 = 3;
/// Ticks between removals of what nobody needs any more: an hour.
const TIDY_TICKS: u32 = 180;
/// Changes that come closer together than this are looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// An account whose task broke down is left alone for this long.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// What a run is told.
pub(crate) enum Order {
    /// End this account's pause.
    Resume(String),
}

/// What a future that is waited for beside the work came to.
enum Woken {
    /// A token may be had again.
    Ready(String),
    /// The end of a pause is on the disk.
    Resumed(String),
    /// It is waited for otherwise.
    Replaced,
}

pub(crate) struct Supervisor {
    name: String,
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    stop: watch::Receiver<bool>,
    tally: Arc<Tally>,
    seats: HashMap<String, Seat>,
    drives: JoinSet<()>,
    names: HashMap<Id, String>,
    ledger: JoinSet<()>,
    waits: FuturesUnordered<BoxFuture<'static, Woken>>,
    changes: Changes,
    flush: Option<Flush>,
    /// A look at what is due, soon.
    gather: Option<BoxFuture<'static, ()>>,
    looked_at: Timestamp,
    ticks: u32,
}

impl Supervisor {
    /// Joins the processes at work on the queue.
    pub(crate) async fn join(
        settings: &DeliverySettings,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, SpoolError> {
        let DeliverySettings {
            name,
            store,
            clock,
            routes,
            sink,
            policy,
            random,
        } = settings.clone();
        let changes = store.changes();
        let holder = store.join(&name, clock.now()).await?;
        let (stage, watched) = watch::channel(Stage::Work);
        let (entries, written) = mpsc::unbounded_channel();
        let tally = Arc::new(Tally::new(sink));
        let shared = Arc::new(Shared {
            store,
            clock,
            routes,
            sink: Arc::clone(&tally) as Arc<dyn Sink>,
            policy,
            random,
            stage: watched,
            holder: Mutex::new(holder),
            ledger: entries,
            backlog: AtomicUsize::new(0),
            stuck: AtomicBool::new(false),
            nudge: Notify::new(),
        });
        let mut ledger = JoinSet::new();
        ledger.spawn(ledger::keep(Arc::clone(&shared), written));
        Ok(Self {
            name,
            shared,
            stage,
            stop,
            tally,
            seats: HashMap::new(),
            drives: JoinSet::new(),
            names: HashMap::new(),
            ledger,
            waits: FuturesUnordered::new(),
            changes,
            flush: None,
            gather: None,
            looked_at: Timestamp::MIN,
            ticks: 0,
        })
    }

    /// Works until it is told to stop, or all that `flush` is about is done.
    pub(crate) async fn work(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        flush: Option<Flush>,
    ) -> Result<Flushed, SpoolError> {
        let (shared, tally) = (Arc::clone(&self.shared), Arc::clone(&self.tally));
        let clock = &shared.clock;
        self.flush = flush;
        let looked = match self.open().await {
            Ok(()) => self.look().await,
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            self.look_again(error)?;
        }
        let mut tick = clock.sleep(TICK);
        let mut foreign = clock.sleep(LOOK_EVERY);
        let mut set_back = clock.set_back();
        let mut stop = self.stop.clone();
        loop {
            self.start();
            if *stop.borrow() || self.is_flushed() {
                break;
            }
            let wake = self.wake();
            let wake = async {
                match wake {
                    Some(at) => clock.sleep_until(at).await,
                    None => pending().await,
                }
            };
            let gather = async {
                match &mut self.gather {
                    Some(gather) => gather.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // Whoever could stop it is gone: so is whoever waits for it.
                _ = stop.changed() => {}
                Some(ended) = self.drives.join_next_with_id() => self.ended(ended),
                () = self.changes.changed() => self.look_soon(),
                () = shared.nudge.notified() => self.look_soon(),
                () = gather => {
                    self.gather = None;
                    if let Err(error) = self.look().await {
                        self.look_again(error)?;
                    }
                }
                Some(woken) = self.waits.next() => self.woken(woken),
                Some(Order::Resume(name)) = orders.recv() => self.resume(&name).await,
                () = wake => {}
                () = &mut foreign => {
                    foreign = clock.sleep(LOOK_EVERY);
                    self.look_for_others().await;
                }
                () = &mut tick => {
                    tick = clock.sleep(TICK);
                    self.tick().await;
                }
                () = &mut set_back => {
                    set_back = clock.set_back();
                    self.set_back();
                }
            }
        }
        let waiting = self.waiting();
        self.finish().await;
        Ok(tally.flushed(waiting))
    }

    /// What earlier runs left, and what was asked for by name.
    async fn open(&mut self) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        ledger::recover(&shared).await?;
        ledger::expire(&shared, &[]).await?;
        let Some(Flush { account, now: true }) = &self.flush else {
            return Ok(());
        };
        let deferred = Filter {
            account: account.clone(),
            state: Some(StateKind::Deferred),
            ..Filter::default()
        };
        let now = shared.now();
        shared.store.retry(Select::Matching(deferred), now).await?;
        for due in shared.store.next_due(now).await? {
            if self.is_wanted(&due.account) {
                shared.store.back_off(&due.account, None, now).await?;
            }
        }
        Ok(())
    }

    fn is_wanted(&self, account: &str) -> bool {
        let flush = self.flush.as_ref();
        let only = flush.and_then(|flush| flush.account.as_deref());
        only.is_none_or(|only| only == account)
    }

    fn seat(&mut self, account: &str) -> &mut Seat {
        let seats = &mut self.seats;
        seats
            .entry(account.to_owned())
            .or_insert_with(|| Seat::new(account))
    }

    /// Asks what is due when.
    async fn look(&mut self) -> Result<(), SpoolError> {
        self.looked_at = self.shared.now();
        let dues = self.shared.store.next_due(self.looked_at).await?;
        for seat in self.seats.values_mut() {
            seat.due = None;
        }
        for due in dues {
            if !self.is_wanted(&due.account) {
                continue;
            }
            let known = self.seats.contains_key(&due.account);
            self.seat(&due.account).due = Some(due.at);
            if !known {
                // Until when it pauses, and since when its mail grows old.
                self.read_pause(&due.account).await;
                self.heed_pause(&due.account);
            }
        }
        Ok(())
    }

    /// Looks soon: at once, if the last look is some time ago.
    fn look_soon(&mut self) {
        if self.gather.is_some() {
            return;
        }
        let since = self.shared.now().duration_since(self.looked_at);
        // A clock that was set back is no reason to wait.
        let since = Duration::try_from(since).unwrap_or(GATHER);
        self.gather = Some(self.shared.clock.sleep(GATHER.saturating_sub(since)));
    }

    /// A look failed: the next one is due later, unless somebody waits for the answer.
    fn look_again(&mut self, error: SpoolError) -> Result<(), SpoolError> {
        if self.flush.is_some() {
            return Err(error);
        }
        self.shared.sink.trouble(&error);
        self.gather = Some(self.shared.clock.sleep(LOOK_EVERY));
        Ok(())
    }

    /// Starts the accounts whose time has come.
    fn start(&mut self) {
        let now = self.shared.now();
        if !self.shared.may_begin() {
            return;
        }
        for (name, seat) in &mut self.seats {
            if seat.time().is_some_and(|at| at <= now) {
                seat.running = true;
                seat.begun = seat.account.begun();
                let shared = Arc::clone(&self.shared);
                let drive = self.drives.spawn(drive(shared, Arc::clone(&seat.account)));
                self.names.insert(drive.id(), name.clone());
            }
        }
    }

    /// When the next account is to be started.
    fn wake(&self) -> Option<Timestamp> {
        if !self.shared.may_begin() {
            return None;
        }
        self.seats.values().filter_map(Seat::time).min()
    }

    /// An account's task has ended.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, broken) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let now = self.shared.now();
        let Some(name) = self.names.remove(&id) else {
            return;
        };
        let seat = self.seat(&name);
        seat.running = false;
        // What it was told to be due may have been done: the next look knows.
        seat.due = None;
        let answer = seat.account.answer();
        seat.not_before = answer.next.filter(|_| answer.firm);
        if seat.not_before.is_none() && seat.account.begun() == seat.begun {
            seat.not_before = Answer::failed(now).next;
        }
        self.heed_pause(&name);
        if let Some(error) = broken {
            tracing::error!(account = name, %error, "delivery of an account broke down");
            self.seat(&name).not_before = Some(later(now, AFTER_PANIC));
        }
        self.look_soon();
    }

    /// Leaves an account alone while it pauses.
    fn heed_pause(&mut self, name: &str) {
        let now = self.shared.now();
        let seat = self.seat(name);
        if let Some(pause) = seat.account.paused(now) {
            seat.not_before = seat.not_before.max(Some(pause.until));
            self.watch(name, &pause);
        }
    }

    /// Waits for a token beside the pause that the lack of one made.
    fn watch(&mut self, name: &str, pause: &Pause) {
        if pause.kind != PauseKind::Park || self.flush.is_some() {
            return;
        }
        let Some(route) = self.shared.routes.route(name) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let account = name.to_owned();
        let doubt = self.seat(name).account.doubt(&shared);
        // A token that comes while it is doubted is not missed.
        let ready = join(shared.clock.sleep(doubt), route.ready());
        let (ready, handle) = abortable(ready);
        let old = self.seat(name).watch.replace(handle);
        if let Some(old) = old {
            old.abort();
        }
        let ready = ready.map(|ready| match ready {
            Ok(_) => Woken::Ready(account),
            Err(Aborted) => Woken::Replaced,
        });
        self.waits.push(ready.boxed());
    }

    fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Ready(name) => {
                self.seat(&name).watch = None;
                self.end_pause(&name, true);
            }
            Woken::Resumed(name) => {
                self.seat(&name).not_before = None;
                self.look_soon();
            }
            Woken::Replaced => {}
        }
    }

    /// Ends a pause: in memory, in the store, then the account goes on.
    fn end_pause(&mut self, name: &str, token: bool) {
        let shared = Arc::clone(&self.shared);
        if let Some(written) = self.seat(name).account.resume(&shared, token) {
            let name = name.to_owned();
            // The ledger ends after whoever waits for it.
            let resumed = written.map(|_| Woken::Resumed(name));
            self.waits.push(resumed.boxed());
        }
    }

    /// Somebody says that an account's pause is over.
    async fn resume(&mut self, name: &str) {
        self.read_pause(name).await;
        self.end_pause(name, false);
    }

    /// Reads what holds an account back, unless it is still to be written.
    async fn read_pause(&mut self, name: &str) {
        let now = self.shared.now();
        match self.shared.store.account_state(name, now).await {
            Ok(_) if self.shared.backlog.load(Ordering::Relaxed) > 0 => {}
            Ok(state) => self
                .seat(name)
                .account
                .take_over(state.back_off.as_ref(), now),
            Err(error) => self.shared.sink.trouble(&error),
        }
    }

    /// Looks for changes that other processes made; of these the store tells as of its own. An
    /// account that somebody let go on does so.
    async fn look_for_others(&mut self) {
        match self.shared.store.look().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.shared.sink.trouble(&error),
        }
        let now = self.shared.now();
        let held = self.seats.iter().filter(|(_, seat)| seat.is_held_back(now));
        let held: Vec<_> = held.map(|(name, _)| name.clone()).collect();
        for name in held {
            self.read_pause(&name).await;
            let seat = self.seat(&name);
            if seat.account.paused(now).is_none() {
                seat.not_before = None;
            }
        }
    }

    /// What is to be done now and then.
    async fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        for seat in self.seats.values() {
            seat.account.let_go(now);
        }
        if let Err(error) = self.show_life().await {
            shared.sink.trouble(&error);
        }
        if self.ticks.is_multiple_of(SWEEP_TICKS)
            && let Err(error) = self.sweep().await
        {
            shared.sink.trouble(&error);
        }
        if self.ticks % TIDY_TICKS == 1 && self.flush.is_none() {
            match shared.store.tidy(now).await {
                // The rest at the next tick.
                Ok(tidied) if tidied.more => self.ticks = self.ticks.wrapping_sub(1),
                Ok(_) => {}
                Err(error) => shared.sink.trouble(&error),
            }
        }
    }

    /// What nobody else tells of.
    async fn sweep(&mut self) -> Result<(), SpoolError> {
        ledger::recover(&self.shared).await?;
        let waits = |seat: &Seat| seat.running || seat.due.is_some();
        if self.seats.values().any(waits) {
            ledger::expire(&self.shared, &self.aged()).await?;
        }
        Ok(())
    }

    /// Says that this process lives; joins anew if others took it for dead.
    async fn show_life(&mut self) -> Result<(), SpoolError> {
        let shared = &self.shared;
        let Err(error) = shared.store.heartbeat(shared.holder(), shared.now()).await else {
            return Ok(());
        };
        if error.kind == SpoolErrorKind::Fenced {
            let holder = shared.store.join(&self.name, shared.now()).await?;
            *shared.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
        }
        Err(error)
    }

    /// What is too old, of the accounts that have something waiting.
    fn aged(&self) -> Vec<Aged> {
        let hours = self.shared.policy.max_age.as_secs().div_ceil(3600);
        let (count, unit) = if hours.is_multiple_of(24) {
            (hours / 24, "d")
        } else {
            (hours, "h")
        };
        let aged = |(name, seat): (&String, &Seat)| {
            Some(Aged {
                account: name.clone(),
                accepted_before: seat.account.too_old(&self.shared)?,
                why: format!("not delivered within {count} {unit}"),
            })
        };
        let waiting = |(_, seat): &(_, &Seat)| seat.due.is_some();
        self.seats.iter().filter(waiting).filter_map(aged).collect()
    }

    /// The clock was set back: times that were named by the old one mean nothing, and each account
    /// is tried anew.
    fn set_back(&mut self) {
        let names: Vec<_> = self.seats.keys().cloned().collect();
        for name in names {
            self.seat(&name).not_before = None;
            self.end_pause(&name, false);
        }
        self.gather = None;
        self.look_soon();
    }

    /// Whether all that a flush is about has been done.
    fn is_flushed(&self) -> bool {
        let now = self.shared.now();
        self.flush.is_some()
            && self.gather.is_none()
            && self.shared.backlog.load(Ordering::Relaxed) == 0
            && !self
                .seats
                .values()
                .any(|seat| seat.running || seat.is_worth_waiting_for(now))
    }

    /// The accounts whose mail is due and waits, and for what.
    fn waiting(&self) -> BTreeMap<String, (Timestamp, String)> {
        let now = self.shared.now();
        let waits = |(name, seat): (&String, &Seat)| Some((name.clone(), seat.waits(now)?));
        self.seats.iter().filter_map(waits).collect()
    }

    /// Lets what is in flight end, cuts off what takes too long, and leaves.
    async fn finish(mut self) {
        let _ = self.stage.send(Stage::Drain);
        let shared = &self.shared;
        let mut grace = shared.clock.sleep(shared.policy.stop_within);
        loop {
            tokio::select! {
                ended = self.drives.join_next() => match ended {
                    Some(_) => {}
                    None => break,
                },
                () = &mut grace => {
                    let _ = self.stage.send(Stage::Abort);
                    grace = pending().boxed();
                }
            }
        }
        shared.write(Entry::End);
        loop {
            tokio::select! {
                ended = self.ledger.join_next() => if ended.is_none() { break },
                () = &mut grace => {
                    let _ = self.stage.send(Stage::Abort);
                    grace = pending().boxed();
                }
            }
        }
        let holder = shared.holder();
        if let Err(error) = shared.store.leave(holder).await {
            shared.sink.trouble(&error);
        }
    }
}
