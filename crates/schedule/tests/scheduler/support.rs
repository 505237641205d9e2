//! Hosts that share a clock and a store, and a log of everything their schedules do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use postrider_schedule::{
    Clock, Cron, Handle, Job, JobError, LeftOut, ManualClock, MemoryStore, Missed, Options,
    Outcome, Overlap, PastRun, Plan, Reason, Row, Run, Schedule, ScheduleError, Scheduler,
    SchedulerSettings, Sink, Standing, Store, StoreError, StoreErrorKind, WhyLeftOut, time_zone,
};
use tokio::runtime::Runtime;

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

pub(crate) fn hours(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

pub(crate) fn cron(text: &str, zone: &str) -> Plan {
    Plan::Cron(Cron::parse(text).unwrap(), time_zone(zone).unwrap())
}

/// Where every test begins: a Monday.
pub(crate) const START: &str = "2026-03-02T00:00:00Z";

/// A clock and a store, and the hosts that share them.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<TestStore>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::keeping(Box::new(MemoryStore::new()))
    }

    pub(crate) fn keeping(store: Box<dyn Store>) -> Self {
        Self {
            clock: ManualClock::new(time(START)),
            store: Arc::new(TestStore {
                store,
                fails: Mutex::default(),
                tries: Mutex::default(),
            }),
        }
    }

    /// A process that starts.
    pub(crate) fn host(&self) -> Host {
        self.host_on(Arc::clone(&self.store) as Arc<dyn Store>)
    }

    /// A process that keeps its schedules in `store`.
    pub(crate) fn host_on(&self, store: Arc<dyn Store>) -> Host {
        let log = Arc::new(Log::default());
        let scheduler = Scheduler::new(SchedulerSettings {
            clock: Arc::new(self.clock.clone()),
            store,
            sink: Arc::clone(&log) as Arc<dyn Sink>,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let driven = scheduler.clone();
        runtime.spawn(async move { driven.run().await });
        Host {
            scheduler,
            log,
            clock: self.clock.clone(),
            runtime,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How schedules stand for those who only look.
    pub(crate) fn kept(&self) -> Vec<Standing> {
        let store: &dyn Store = self.store.as_ref();
        store.standings(self.now()).unwrap()
    }

    /// Moves the clock from wake to wake, as time passes for hosts that watch it.
    pub(crate) fn pass(&self, hosts: &[&Host], span: Duration) {
        self.pass_until(hosts, self.now() + span);
    }

    pub(crate) fn pass_until(&self, hosts: &[&Host], until: Timestamp) {
        let mut wakes = 0;
        loop {
            for host in hosts {
                host.settle();
            }
            match self.clock.next_wake() {
                Some(at) if at <= until => self.clock.set(at),
                _ => break,
            }
            wakes += 1;
            assert!(wakes < 200_000, "it spins");
        }
        self.jump(hosts, until);
    }

    /// Sets the clock, whatever was due in between.
    pub(crate) fn jump(&self, hosts: &[&Host], to: Timestamp) {
        self.clock.set(to);
        for host in hosts {
            host.settle();
        }
    }
}

/// A process with a scheduler. Dropping it is a crash: nothing of it comes to an end.
pub(crate) struct Host {
    pub(crate) scheduler: Scheduler,
    pub(crate) log: Arc<Log>,
    clock: ManualClock,
    runtime: Runtime,
}

impl Host {
    /// Lets it do all it can do now.
    pub(crate) fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..4 {
                self.scheduler.settle().await;
                breathe().await;
            }
        });
    }

    /// Lets it do a part of what it could.
    pub(crate) fn falter(&self, polls: u8) {
        self.runtime.block_on(async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets it do what it does unasked.
    pub(crate) fn breathe(&self) {
        self.runtime.block_on(breathe());
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(work)
    }

    pub(crate) fn add(&self, schedule: Schedule) -> Result<Handle, ScheduleError> {
        self.block_on(self.scheduler.add(schedule))
    }

    pub(crate) fn pause(&self, name: &str) -> Result<(), ScheduleError> {
        self.block_on(self.scheduler.pause(name))
    }

    pub(crate) fn resume(&self, name: &str) -> Result<(), ScheduleError> {
        self.block_on(self.scheduler.resume(name))
    }

    pub(crate) fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, ScheduleError> {
        self.block_on(self.scheduler.history(name, limit))
    }

    /// What runs at `plan`, taking no time and never failing unless changed.
    pub(crate) fn work(&self, name: Option<&str>, plan: Plan) -> Work {
        Work {
            plan,
            options: Options {
                name: name.map(str::to_owned),
                ..Options::default()
            },
            log: Arc::clone(&self.log),
            clock: self.clock.clone(),
            takes: Duration::ZERO,
            ends: Arc::new(|_| Ok(())),
        }
    }
}

async fn breathe() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// A schedule in the making.
pub(crate) struct Work {
    plan: Plan,
    pub(crate) options: Options,
    log: Arc<Log>,
    clock: ManualClock,
    takes: Duration,
    ends: Arc<Ends>,
}

type Ends = dyn Fn(&Run) -> Result<(), JobError> + Send + Sync;

impl Work {
    pub(crate) fn takes(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    pub(crate) fn ends(
        mut self,
        ends: impl Fn(&Run) -> Result<(), JobError> + Send + Sync + 'static,
    ) -> Self {
        self.ends = Arc::new(ends);
        self
    }

    pub(crate) fn missed(mut self, missed: Missed) -> Self {
        self.options.missed = missed;
        self
    }

    pub(crate) fn overlap(mut self, overlap: Overlap) -> Self {
        self.options.overlap = overlap;
        self
    }

    pub(crate) fn schedule(self) -> Schedule {
        Schedule {
            plan: self.plan,
            options: self.options,
            job: Arc::new(Recorder {
                log: self.log,
                clock: self.clock,
                takes: self.takes,
                ends: self.ends,
            }),
            script: "report.lua".to_owned(),
            at: "report.lua:1".to_owned(),
        }
    }
}

struct Recorder {
    log: Arc<Log>,
    clock: ManualClock,
    takes: Duration,
    ends: Arc<Ends>,
}

impl Job for Recorder {
    fn run(&self, run: Run) -> BoxFuture<'static, Result<(), JobError>> {
        let began = self.clock.now();
        self.log.began.lock().unwrap().push((began, run.clone()));
        let work = self.clock.sleep(self.takes);
        let ends = Arc::clone(&self.ends);
        async move {
            work.await;
            ends(&run)
        }
        .boxed()
    }
}

pub(crate) fn failure(code: &str) -> JobError {
    JobError {
        code: code.to_owned(),
        message: "it did not work".to_owned(),
        at: None,
    }
}

/// Everything that was run and told.
#[derive(Default)]
pub(crate) struct Log {
    began: Mutex<Vec<(Timestamp, Run)>>,
    ended: Mutex<Vec<Outcome>>,
    left_out: Mutex<Vec<LeftOut>>,
    trouble: Mutex<Vec<String>>,
}

impl Log {
    /// All runs in the order they began.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.began
            .lock()
            .unwrap()
            .iter()
            .map(|(_, run)| run.clone())
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.began.lock().unwrap().len()
    }

    /// When runs began, as seconds since the start of the test.
    pub(crate) fn began(&self) -> Vec<i64> {
        let start = time(START);
        let began = self.began.lock().unwrap();
        began
            .iter()
            .map(|(at, _)| at.duration_since(start).as_secs())
            .collect()
    }

    /// The slots of the runs, as seconds since the start of the test.
    pub(crate) fn slots(&self) -> Vec<i64> {
        let start = time(START);
        let slot = |run: Run| run.scheduled_at.duration_since(start).as_secs();
        self.runs().into_iter().map(slot).collect()
    }

    /// When runs began, as UTC, and why.
    pub(crate) fn times(&self) -> Vec<(String, Reason)> {
        let began = self.began.lock().unwrap();
        began
            .iter()
            .map(|(at, run)| (at.to_string(), run.reason))
            .collect()
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.ended.lock().unwrap().clone()
    }

    /// The codes of runs that failed, in the order they ended; `ok` for the others.
    pub(crate) fn codes(&self) -> Vec<String> {
        let code = |outcome: Outcome| match outcome.result {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.code,
        };
        self.outcomes().into_iter().map(code).collect()
    }

    /// What was left out: how many, and why.
    pub(crate) fn left_out(&self) -> Vec<(u32, WhyLeftOut)> {
        let left_out = self.left_out.lock().unwrap();
        left_out
            .iter()
            .map(|left_out| (left_out.count, left_out.why))
            .collect()
    }

    /// How many slots of `name` were left out.
    pub(crate) fn left_out_of(&self, name: &str) -> u32 {
        let left_out = self.left_out.lock().unwrap();
        let of_it = left_out
            .iter()
            .filter(|left_out| left_out.name.as_deref() == Some(name));
        of_it.map(|left_out| left_out.count).sum()
    }

    pub(crate) fn trouble(&self) -> Vec<String> {
        self.trouble.lock().unwrap().clone()
    }
}

impl Sink for Log {
    fn ended(&self, outcome: &Outcome) {
        self.ended.lock().unwrap().push(outcome.clone());
    }

    fn left_out(&self, left_out: &LeftOut) {
        self.left_out.lock().unwrap().push(left_out.clone());
    }

    fn trouble(&self, message: &str) {
        self.trouble.lock().unwrap().push(message.to_owned());
    }
}

/// A store that fails when it is told to, and answers at once.
pub(crate) struct TestStore {
    store: Box<dyn Store>,
    fails: Mutex<Option<StoreErrorKind>>,
    tries: Mutex<u32>,
}

impl TestStore {
    pub(crate) fn fail(&self, kind: Option<StoreErrorKind>) {
        *self.fails.lock().unwrap() = kind;
    }

    /// How often somebody tried it in vain.
    pub(crate) fn tries(&self) -> u32 {
        *self.tries.lock().unwrap()
    }

    fn check(&self) -> Result<(), StoreError> {
        match *self.fails.lock().unwrap() {
            Some(kind) => {
                *self.tries.lock().unwrap() += 1;
                let message = "schedules.db: it fails".to_owned();
                Err(StoreError { kind, message })
            }
            None => Ok(()),
        }
    }
}

impl Store for TestStore {
    fn load(&self, name: &str, now: Timestamp) -> Result<Option<Row>, StoreError> {
        self.check()?;
        self.store.load(name, now)
    }

    fn all(&self, now: Timestamp) -> Result<Vec<(String, Row)>, StoreError> {
        self.check()?;
        self.store.all(now)
    }

    fn change(
        &self,
        name: &str,
        now: Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        self.check()?;
        self.store.change(name, now, change)
    }

    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError> {
        self.check()?;
        self.store.history(name, limit)
    }

    fn is_quick(&self) -> bool {
        true
    }
}
