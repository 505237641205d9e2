//! All schedules of a process, and what can be asked of them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::draft::{Draft, Handle};
use crate::entry::{Entry, Told};
use crate::error::ScheduleError;
use crate::job::{Schedule, Sink};
use crate::plan::{Plan, SHORTEST};
use crate::row::{PastRun, Row};
use crate::standin::StandIn;
use crate::standing::Standing;
use crate::store::{MemoryStore, Store};

/// Schedules of one process. Thousands are served; ten thousand are a loop gone wrong.
const SCHEDULES: usize = 10_000;
/// Names are shown in lists and written in URLs.
const NAME: usize = 100;
/// The longest interval, wait and jitter that mean something.
const LONGEST: Duration = Duration::from_hours(24 * 3660);

/// What a scheduler works with.
pub struct SchedulerSettings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where schedules with a name are kept.
    pub store: Arc<dyn Store>,
    /// Who is told.
    pub sink: Arc<dyn Sink>,
}

/// All schedules of a process. Clones are the same.
#[derive(Clone)]
pub struct Scheduler(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<StandIn>,
    /// Those without a name are kept here, so that there is one way for all.
    pub(crate) own: Arc<MemoryStore>,
    pub(crate) sink: Arc<dyn Sink>,
    /// This process, among those that share the store.
    pub(crate) holder: String,
    state: Mutex<State>,
    /// A run has ended, or a schedule is gone.
    pub(crate) changed: Notify,
    /// Those with a name, and those without.
    pub(crate) lanes: [Lane; 2],
    /// Numbers what is seen of rows.
    pub(crate) stamps: AtomicU64,
}

/// Schedules that are driven one after the other.
#[derive(Default)]
pub(crate) struct Lane {
    /// Those with a name, or else those without.
    pub(crate) is_kept: bool,
    /// There may be something to do.
    pub(crate) wake: Notify,
    /// One at a time drives.
    pub(crate) driving: tokio::sync::Mutex<()>,
    settlers: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Lane {
    /// Hears when everything that is due now has been begun.
    pub(crate) fn settle(&self) -> oneshot::Receiver<()> {
        let (done, settled) = oneshot::channel();
        self.settlers().push(done);
        self.wake.notify_one();
        settled
    }

    /// Those who wait until everything due has begun.
    pub(crate) fn settlers(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.settlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Named(String),
    Unnamed(u64),
}

impl Key {
    /// Whether the store keeps it.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Self::Named(_))
    }

    /// What its row is called.
    pub(crate) fn row(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Unnamed(number) => format!("#{number}"),
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) live: BTreeMap<Key, Entry>,
    /// Sets that are not in force (yet).
    pub(crate) drafts: BTreeMap<u64, BTreeMap<Key, Entry>>,
    /// The set in force.
    pub(crate) set: u64,
    numbers: u64,
    pub(crate) under_way: Vec<UnderWay>,
    /// How many runs the store is being asked for.
    pub(crate) claims: usize,
    pub(crate) stopping: bool,
    /// When it was last looked for schedules that nobody has any more.
    pub(crate) pruned: Option<Timestamp>,
}

/// A run under way in this process.
pub(crate) struct UnderWay {
    pub(crate) key: Key,
    /// The generation whose run it is.
    pub(crate) set: u64,
    pub(crate) number: u64,
    /// Ends it early.
    pub(crate) stop: Option<oneshot::Sender<()>>,
}

impl State {
    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn running(&self, key: &Key) -> usize {
        self.under_way.iter().filter(|run| run.key == *key).count()
    }

    /// The schedule, in force or not.
    pub(crate) fn find(&mut self, set: u64, key: &Key) -> Option<&mut Entry> {
        match self.drafts.get_mut(&set) {
            Some(draft) => draft.get_mut(key),
            None => self.live.get_mut(key),
        }
    }
}

impl Scheduler {
    /// One without schedules. Nothing runs until [`Self::run`] does.
    pub fn new(settings: SchedulerSettings) -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let random = RandomState::new().hash_one(0);
        Self(Arc::new(Shared {
            clock: settings.clock,
            store: Arc::new(StandIn::new(settings.store, Arc::clone(&settings.sink))),
            own: Arc::new(MemoryStore::new()),
            sink: settings.sink,
            holder: format!("{}-{random:016x}", std::process::id()),
            state: Mutex::default(),
            changed: Notify::new(),
            lanes: [true, false].map(|is_kept| Lane {
                is_kept,
                ..Lane::default()
            }),
            stamps: AtomicU64::new(0),
        }))
    }

    /// A new set beside the one in force; nothing of it runs yet.
    pub fn generation(&self) -> Draft {
        let mut state = self.state();
        let set = state.number();
        state.drafts.insert(set, BTreeMap::new());
        Draft::new(self.clone(), set)
    }

    /// Puts `draft` in force in place of the set before, all at once.
    ///
    /// Schedules with a name go on where the one of that name was; others of the old set end.
    /// Runs under way go on. Does nothing if it was done before.
    pub fn install(&self, draft: &Draft) {
        let now = self.now();
        let mut state = self.state();
        let Some(new) = state.drafts.remove(&draft.set()) else {
            return;
        };
        let mut old = std::mem::replace(&mut state.live, new);
        state.set = draft.set();
        for (key, entry) in &mut state.live {
            if let Some(old) = old.remove(key) {
                let wanted = wanted(&entry.schedule, now);
                entry.take_over(old, &wanted, now);
            }
        }
        for key in old.keys() {
            self.forget(&state, key);
        }
        drop(state);
        self.nudge();
    }

    /// Adds a schedule to the set in force.
    pub async fn add(&self, schedule: Schedule) -> Result<Handle, ScheduleError> {
        check(&schedule)?;
        let kept = match &schedule.options.name {
            Some(name) => self.kept(Some(name)).await.ok(),
            None => None,
        };
        let set = self.state().set;
        self.add_to(set, schedule, kept.as_ref())
    }

    /// Adds it to `set`. Of `kept` nothing is known if the store could not be read.
    pub(crate) fn add_to(
        &self,
        set: u64,
        schedule: Schedule,
        kept: Option<&BTreeMap<String, Row>>,
    ) -> Result<Handle, ScheduleError> {
        check(&schedule)?;
        let now = self.now();
        let wanted = wanted(&schedule, now);
        let name = schedule.options.name.as_ref();
        // What was not read is dealt with when it is to be written.
        let may_have_run = name.is_some() && kept.is_none();
        let kept = name.and_then(|name| kept?.get(name)).cloned();
        if let Plan::At(at) = schedule.plan
            && at <= now
            && !may_have_run
            && kept.as_ref().is_none_or(|row| row.plan != wanted.plan)
        {
            return Err(ScheduleError::Past(at));
        }
        let mut row = kept.unwrap_or_else(|| wanted.clone());
        row.attach(&wanted);
        let mut state = self.state();
        let key = match &schedule.options.name {
            Some(name) => Key::Named(name.clone()),
            None => Key::Unnamed(state.number()),
        };
        let in_force = state.set == set;
        let entries = match state.drafts.get_mut(&set) {
            Some(draft) => draft,
            None if in_force => &mut state.live,
            None => return Err(ScheduleError::Superseded),
        };
        if entries.len() >= SCHEDULES {
            return Err(ScheduleError::TooMany(SCHEDULES));
        }
        if let Key::Named(name) = &key
            && let Some(first) = entries.get(&key)
        {
            return Err(ScheduleError::Duplicate {
                name: name.clone(),
                first: first.schedule.at.clone(),
                second: schedule.at,
            });
        }
        let entry = Entry::new(set, Arc::new(schedule), row, now);
        entries.insert(key.clone(), entry);
        drop(state);
        self.nudge();
        Ok(Handle::new(self, set, key))
    }

    /// Ends all schedules in force but `name`; false if there is none of that name.
    pub fn keep_only(&self, name: &str) -> bool {
        let key = Key::Named(name.to_owned());
        let mut state = self.state();
        state.live.retain(|other, _| *other == key);
        let is_there = !state.live.is_empty();
        drop(state);
        self.nudge();
        is_there
    }

    /// All schedules in force, those with a name first.
    pub fn list(&self) -> Vec<Standing> {
        let now = self.now();
        let mut state = self.state();
        let state = &mut *state;
        let mut list = Vec::with_capacity(state.live.len());
        for (key, entry) in &mut state.live {
            let here = state.under_way.iter().filter(|run| run.key == *key).count();
            let running = here + entry.elsewhere(&self.0.holder, now);
            list.push(Standing {
                name: entry.schedule.options.name.clone(),
                script: entry.schedule.script.clone(),
                at: Some(entry.schedule.at.clone()),
                plan: entry.schedule.plan.to_string(),
                zone: entry.schedule.plan.zone(),
                last: entry.row.last.clone(),
                next: entry.next(now),
                paused: entry.row.paused,
                running: u32::try_from(running).unwrap_or(u32::MAX),
                runs: entry.row.runs,
                failures: entry.row.failures,
            });
        }
        list
    }

    /// Runs the schedule `name` at once, beside its plan.
    pub fn run_now(&self, name: &str) -> Result<(), ScheduleError> {
        let set = self.state().set;
        self.run_key(set, &Key::Named(name.to_owned()))
    }

    /// The same, to its end: how it went. [`ScheduleError::Unknown`] if the schedule was
    /// withdrawn before it began.
    pub async fn run_to_its_end(&self, name: &str) -> Result<PastRun, ScheduleError> {
        let (told, ended) = oneshot::channel();
        let set = self.state().set;
        self.ask_for(set, &Key::Named(name.to_owned()), Some(told))?;
        match ended.await {
            Ok(ended) => ended,
            Err(_) if self.state().stopping => Err(ScheduleError::Stopping),
            Err(_) => Err(ScheduleError::Unknown(name.to_owned())),
        }
    }

    pub(crate) fn run_key(&self, set: u64, key: &Key) -> Result<(), ScheduleError> {
        self.ask_for(set, key, None)
    }

    fn ask_for(&self, set: u64, key: &Key, told: Option<Told>) -> Result<(), ScheduleError> {
        let now = self.now();
        let name = key.row();
        let mut state = self.state();
        let running = state.running(key);
        if state.stopping {
            return Err(ScheduleError::Stopping);
        }
        let Some(entry) = state.find(set, key) else {
            return Err(ScheduleError::Unknown(name));
        };
        if running > 0 && entry.schedule.options.overlap == crate::Overlap::Skip {
            return Err(ScheduleError::Running(name));
        }
        if !entry.run_now(now, told) {
            return Err(ScheduleError::Running(name));
        }
        drop(state);
        self.nudge();
        Ok(())
    }

    /// Runs nothing of the schedule `name` until [`Self::resume`]; what falls due meanwhile is
    /// left out.
    pub async fn pause(&self, name: &str) -> Result<(), ScheduleError> {
        self.switch(name, |row, _| row.pause()).await
    }

    /// Lets the schedule `name` go on.
    pub async fn resume(&self, name: &str) -> Result<(), ScheduleError> {
        self.switch(name, Row::resume).await
    }

    async fn switch(&self, name: &str, to: fn(&mut Row, Timestamp)) -> Result<(), ScheduleError> {
        let now = self.now();
        let key = Key::Named(name.to_owned());
        let schedule = match self.state().live.get(&key) {
            Some(entry) => Arc::clone(&entry.schedule),
            None => return Err(ScheduleError::Unknown(name.to_owned())),
        };
        let changed = self.change(&key, &schedule, now, move |row| to(row, now));
        let row = changed.await?;
        if let Some(entry) = self.state().live.get_mut(&key) {
            if entry.has_plan_of(&schedule) {
                entry.refreshed(row, now);
            } else {
                // A new generation with another plan came meanwhile: it learns the rest itself.
                entry.row.paused = row.paused;
            }
        }
        self.nudge();
        Ok(())
    }

    /// Whether nothing will ever run any more, and nothing runs.
    pub fn is_empty(&self) -> bool {
        let now = self.now();
        let mut state = self.state();
        state.under_way.is_empty() && state.live.values_mut().all(|entry| entry.is_done(now))
    }

    /// Waits until [`Self::is_empty`].
    pub async fn finished(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Keeps nothing of a schedule without a name that is not in force any more, when its last
    /// run has ended.
    pub(crate) fn forget(&self, state: &State, key: &Key) {
        if let Key::Unnamed(_) = key
            && state.running(key) == 0
        {
            self.0.own.forget(&key.row());
        }
    }

    /// The time, as precise as it is kept.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.0.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn nudge(&self) {
        for lane in &self.0.lanes {
            lane.wake.notify_one();
        }
        self.0.changed.notify_waiters();
    }

    pub(crate) fn store_of(&self, key: &Key) -> Arc<dyn Store> {
        match key {
            Key::Named(_) => Arc::clone(&self.0.store) as Arc<dyn Store>,
            Key::Unnamed(_) => Arc::clone(&self.0.own) as Arc<dyn Store>,
        }
    }
}

/// What the store is to know of `schedule`.
pub(crate) fn wanted(schedule: &Schedule, now: Timestamp) -> Row {
    let plan = &schedule.plan;
    Row::new(&schedule.script, &plan.to_string(), plan.zone(), now)
}

fn check(schedule: &Schedule) -> Result<(), ScheduleError> {
    let refuse = |what: String| Err(ScheduleError::Invalid(what));
    let options = &schedule.options;
    if let Some(name) = &options.name {
        let printable = !name.is_empty() && !name.chars().any(char::is_control);
        if !printable || name.trim() != name || name.chars().count() > NAME {
            return refuse(format!(
                "a name has 1 to {NAME} printable characters and no space at its ends"
            ));
        }
    }
    match schedule.plan {
        Plan::Every(span) if span < SHORTEST => {
            return refuse("an interval is one second or more".to_owned());
        }
        Plan::Every(span) | Plan::After(span) if span > LONGEST => {
            return refuse("ten years are the longest to wait".to_owned());
        }
        _ => {}
    }
    if options.jitter > LONGEST {
        return refuse("jitter is ten years at most".to_owned());
    }
    if options.timeout.is_some_and(|span| span.is_zero()) {
        return refuse("a time-out of nothing lets nothing run".to_owned());
    }
    if options.retry.attempts > 100 {
        return refuse("a run is tried again a hundred times at most".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::clock::ManualClock;
    use crate::job::{Job, JobError, LeftOut, Outcome, Run};
    use crate::options::Options;
    use crate::row::later;

    struct Nobody;

    impl Sink for Nobody {
        fn ended(&self, _: &Outcome) {}
        fn left_out(&self, _: &LeftOut) {}
        fn trouble(&self, _: &str) {}
    }

    struct Wait(ManualClock);

    impl Job for Wait {
        fn run(&self, _: Run) -> BoxFuture<'static, Result<(), JobError>> {
            self.0.sleep(Duration::from_secs(5)).map(Ok).boxed()
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_of_schedules_without_a_name_that_are_gone() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let scheduler = Scheduler::new(SchedulerSettings {
            clock: Arc::new(clock.clone()),
            store: Arc::new(MemoryStore::new()),
            sink: Arc::new(Nobody),
        });
        let clone = scheduler.clone();
        let driver = tokio::spawn(async move { clone.run().await });
        let schedule = |plan| Schedule {
            plan,
            options: Options::default(),
            job: Arc::new(Wait(clock.clone())),
            script: "a.lua".to_owned(),
            at: "a.lua:1".to_owned(),
        };
        let kept = || scheduler.0.own.all(clock.now()).map(|rows| rows.len());
        let pass = async |seconds: u64| {
            clock.set(later(clock.now(), Duration::from_secs(seconds)));
            for _ in 0..3 {
                scheduler.settle().await;
                tokio::task::yield_now().await;
            }
        };

        // Cancelled at rest, cancelled during its run, ended, and replaced at rest and in a run.
        let every = || schedule(Plan::Every(Duration::from_secs(10)));
        let at_rest = scheduler.add(every()).await.unwrap();
        pass(1).await;
        assert_eq!(kept(), Ok(1));
        assert!(at_rest.cancel());
        assert_eq!(kept(), Ok(0));

        let running = scheduler.add(every()).await.unwrap();
        pass(11).await;
        assert!(running.cancel());
        assert_eq!(kept(), Ok(1));
        pass(10).await;
        assert_eq!(kept(), Ok(0));

        scheduler
            .add(schedule(Plan::After(Duration::from_secs(1))))
            .await
            .unwrap();
        pass(2).await;
        assert_eq!(kept(), Ok(1));
        pass(10).await;
        assert_eq!(kept(), Ok(0));

        scheduler.add(every()).await.unwrap();
        pass(11).await;
        scheduler.add(every()).await.unwrap();
        pass(1).await;
        assert_eq!(kept(), Ok(2));
        scheduler.install(&scheduler.generation());
        assert_eq!(kept(), Ok(1));
        pass(10).await;
        assert_eq!(kept(), Ok(0));
        assert!(scheduler.state().under_way.is_empty());
        driver.abort();
    }
}
