//! The driver: does what is due, waits for what is next, and sees each run to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::entry::{Action, Entry, Waiting};
use crate::job::{JobError, LeftOut, Outcome, Reason, Run, Schedule};
use crate::row::{Ask, Claim, LEASE, PastRun, RetryDue, Row, interrupted, later};
use crate::scheduler::{Key, Scheduler, UnderWay, wanted};
use crate::store::{Store, StoreError, StoreErrorKind};

/// When a store that another process held is asked again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Drives everything until the future is dropped. One task of a process does this.
    pub async fn run(&self) {
        loop {
            let woken = self.0.wake.notified();
            let wake = self.step().await;
            for settler in std::mem::take(&mut self.state().settlers) {
                // Whoever waited may have lost interest.
                let _ = settler.send(());
            }
            let clock = &self.0.clock;
            let due = async {
                match wake {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { () = woken => {}, () = due => {}, () = clock.set_back() => {} }
        }
    }

    /// Waits until everything that is due now has been begun. [`Self::run`] must be at work.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        self.state().settlers.push(done);
        self.0.wake.notify_one();
        // An error says that nobody drives any more: then nothing will be begun either.
        let _ = settled.await;
    }

    /// Begins nothing more and waits for the runs under way. Those that take longer than
    /// `at_most` are ended and recorded as interrupted; says how many.
    pub async fn drain(&self, at_most: Duration) -> usize {
        self.state().stopping = true;
        let late = self.0.clock.sleep(at_most);
        let mut ended = 0;
        tokio::select! {
            () = self.idle() => {}
            () = late => {
                for run in &mut self.state().under_way {
                    if let Some(stop) = run.stop.take() {
                        ended += 1;
                        // It may just have ended.
                        let _ = stop.send(());
                    }
                }
                self.idle().await;
            }
        }
        // The last moment to write what only memory knows.
        self.recover(self.now()).await;
        ended
    }

    /// Waits until no run is under way.
    async fn idle(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().under_way.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Does everything that is due and says when there may be more.
    pub(crate) async fn step(&self) -> Option<Timestamp> {
        let _one_at_a_time = self.0.driving.lock().await;
        loop {
            let now = self.now();
            if self.0.store.again(now).is_some_and(|at| at <= now) {
                self.recover(now).await;
            }
            let mut left_out = Vec::new();
            let actions = self.decide(now, &mut left_out);
            self.tell(&left_out);
            if actions.is_empty() {
                break;
            }
            for (key, schedule, action) in actions {
                self.perform(key, schedule, action, now).await;
            }
        }
        let now = self.now();
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        let state = &mut *state;
        let mut wake = self.0.store.again(now);
        for (key, entry) in &mut state.live {
            let running = state.under_way.iter().filter(|run| run.key == *key).count();
            wake = [wake, entry.wake(now, running)].into_iter().flatten().min();
        }
        wake
    }

    fn decide(
        &self,
        now: Timestamp,
        left_out: &mut Vec<LeftOut>,
    ) -> Vec<(Key, Arc<Schedule>, Action)> {
        let mut state = self.state();
        if state.stopping {
            return Vec::new();
        }
        let state = &mut *state;
        let mut actions = Vec::new();
        let mut over = Vec::new();
        for (key, entry) in &mut state.live {
            let running = state.under_way.iter().filter(|run| run.key == *key).count();
            if let Some(action) = entry.decide(now, running, left_out) {
                actions.push((key.clone(), Arc::clone(&entry.schedule), action));
            } else if running == 0 && matches!(key, Key::Unnamed(_)) && entry.is_done(now) {
                over.push(key.clone());
            }
        }
        for key in over {
            state.live.remove(&key);
            self.0.own.forget(&key.row());
            self.0.changed.notify_waiters();
        }
        actions
    }

    async fn perform(&self, key: Key, schedule: Arc<Schedule>, action: Action, now: Timestamp) {
        match action {
            Action::Claim(waiting) => self.claim(key, schedule, waiting, now).await,
            Action::Attach => {
                let wanted = wanted(&schedule, now);
                let changed = self
                    .change(&key, &schedule, now, move |row| row.attach(&wanted))
                    .await;
                self.refresh(&key, changed, now, Entry::caught_up);
            }
            Action::Pass(slot) => {
                let changed = self
                    .change(&key, &schedule, now, move |row| row.pass(slot, now))
                    .await;
                self.refresh(&key, changed, now, Entry::refreshed);
            }
            Action::StartAnew => {
                let changed = self
                    .change(&key, &schedule, now, move |row| row.start_anew(now))
                    .await;
                self.refresh(&key, changed, now, Entry::started_anew);
            }
        }
    }

    fn refresh(
        &self,
        key: &Key,
        changed: Result<Row, StoreError>,
        now: Timestamp,
        refresh: fn(&mut Entry, Row, Timestamp),
    ) {
        let mut state = self.state();
        let Some(entry) = state.live.get_mut(key) else {
            return;
        };
        match changed {
            Ok(row) => refresh(entry, row, now),
            Err(_) => entry.put_off(later(now, STORE_AGAIN)),
        }
    }

    async fn claim(&self, key: Key, schedule: Arc<Schedule>, waiting: Waiting, now: Timestamp) {
        let (alone, by_the_clock, set) = match self.state().live.get(&key) {
            Some(entry) => (entry.is_alone(), entry.goes_by_the_clock(), entry.set),
            None => return,
        };
        let ask = Ask {
            holder: self.0.holder.clone(),
            now,
            slot: waiting.slot,
            reason: waiting.reason,
            attempt: waiting.attempt,
            missed: waiting.missed,
            alone,
            by_the_clock,
        };
        let answer = Arc::new(std::sync::Mutex::new(Claim::Taken));
        let told = Arc::clone(&answer);
        let changed = self
            .change(&key, &schedule, now, move |row| {
                *told
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = row.claim(&ask);
            })
            .await;
        let claim = *answer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut left_out = Vec::new();
        let begun = {
            let mut state = self.state();
            let entry = state.live.get_mut(&key);
            match (changed, entry) {
                (Err(_), Some(entry)) => {
                    entry.put_off(later(now, STORE_AGAIN));
                    None
                }
                (Err(_), None) => None,
                (Ok(row), Some(entry)) => {
                    entry.claimed(waiting, claim, row, now, &mut left_out);
                    // A new generation may have come meanwhile.
                    Some((Arc::clone(&entry.schedule), entry.set))
                }
                // It was withdrawn while the store was asked: this is its last run.
                (Ok(_), None) => Some((schedule, set)),
            }
            .and_then(|(schedule, set)| match claim {
                // In the same breath: its generation is not over while the run is under way.
                Claim::Mine(number) => {
                    let (stop, stopped) = oneshot::channel();
                    state.under_way.push(UnderWay {
                        key: key.clone(),
                        set,
                        number,
                        stop: Some(stop),
                    });
                    Some((schedule, number, stopped))
                }
                _ => None,
            })
        };
        self.tell(&left_out);
        if let Some((schedule, number, stopped)) = begun {
            self.begin(key, schedule, waiting, (number, stopped), now);
        }
    }

    fn begin(
        &self,
        key: Key,
        schedule: Arc<Schedule>,
        waiting: Waiting,
        (number, stopped): (u64, oneshot::Receiver<()>),
        now: Timestamp,
    ) {
        let run = Run {
            name: schedule.options.name.clone(),
            scheduled_at: waiting.slot,
            reason: waiting.reason,
            attempt: waiting.attempt,
            missed: waiting.missed,
        };
        let scheduler = self.clone();
        tokio::spawn(async move {
            let result = scheduler
                .see_through(&key, &schedule, run, number, stopped)
                .await;
            let result = result.map_err(bounded);
            let past = PastRun {
                number,
                scheduled_at: waiting.slot,
                started_at: now,
                ended_at: scheduler.now(),
                reason: waiting.reason,
                attempt: waiting.attempt,
                missed: waiting.missed,
                result,
            };
            scheduler.end(key, &schedule, past).await;
        });
    }

    /// Runs the job, and says that it runs, until it ends by itself or its time is over.
    async fn see_through(
        &self,
        key: &Key,
        schedule: &Arc<Schedule>,
        run: Run,
        number: u64,
        stopped: oneshot::Receiver<()>,
    ) -> Result<(), JobError> {
        let clock = &self.0.clock;
        let work = async { schedule.job.run(run).await };
        let work = AssertUnwindSafe(work).catch_unwind();
        let late = async {
            match schedule.options.timeout {
                Some(span) => clock.sleep(span).await,
                None => std::future::pending().await,
            }
        };
        let renew = async {
            loop {
                clock.sleep(LEASE / 3).await;
                let now = self.now();
                // Tried again in a while; a run goes on in any case.
                let _ = self
                    .change(key, schedule, now, move |row| row.renew(number, now))
                    .await;
            }
        };
        tokio::select! {
            biased;
            ended = work => ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
            () = late => Err(JobError {
                code: "schedule.timeout".to_owned(),
                message: format!(
                    "the run took longer than {} s",
                    schedule.options.timeout.unwrap_or_default().as_secs_f64()
                ),
                at: Some(schedule.at.clone()),
            }),
            Ok(()) = stopped => Err(interrupted("the host stops")),
            () = renew => Err(interrupted("its lease was not renewed")),
        }
    }

    async fn end(&self, key: Key, schedule: &Arc<Schedule>, past: PastRun) {
        let now = past.ended_at;
        let retry = self.retry_of(&key, &past);
        let changed = loop {
            let recorded = past.clone();
            let finish = move |row: &mut Row| row.finish(recorded.clone(), retry);
            match self.change(&key, schedule, now, finish).await {
                // Who stops has no time: then it is for the next process to find it open.
                Err(error) if error.kind == StoreErrorKind::Busy && !self.state().stopping => {
                    self.0.clock.sleep(STORE_AGAIN).await;
                }
                changed => break changed,
            }
        };
        {
            let mut state = self.state();
            state
                .under_way
                .retain(|run| run.key != key || run.number != past.number);
            match (changed, state.live.get_mut(&key)) {
                (Ok(row), Some(entry)) => entry.refreshed(row, now),
                (Err(_), Some(_)) => {}
                (_, None) => self.forget(&state, &key),
            }
        }
        self.0.sink.ended(&outcome(schedule, past, retry));
        self.nudge();
    }

    fn retry_of(&self, key: &Key, past: &PastRun) -> Option<RetryDue> {
        let error = past.result.as_ref().err()?;
        if error.code == "schedule.interrupted" || past.reason == Reason::Manual {
            return None;
        }
        let state = self.state();
        let entry = state.live.get(key)?;
        entry.retry(past.scheduled_at, past.attempt, past.ended_at)
    }

    /// Changes the row of `key` and says what it is then; runs of dead processes are told of.
    async fn change(
        &self,
        key: &Key,
        schedule: &Arc<Schedule>,
        now: Timestamp,
        change: impl Fn(&mut Row) + Send + 'static,
    ) -> Result<Row, StoreError> {
        let store = self.store_of(key);
        let name = key.row();
        let known = self.state().live.get(key).map(|entry| entry.row.clone());
        let known = known.unwrap_or_else(|| wanted(schedule, now));
        let mine: Vec<u64> = {
            let state = self.state();
            let runs = state.under_way.iter().filter(|run| run.key == *key);
            runs.map(|run| run.number).collect()
        };
        let holder = self.0.holder.clone();
        let plan = schedule.plan.clone();
        let work = move |store: &dyn Store| {
            let mut kept = None;
            store.change(&name, now, &mut |row| {
                let row = row.get_or_insert_with(|| known.clone());
                row.sweep(now, |run| {
                    run.holder == holder && mine.contains(&run.number)
                });
                let swept = row.ended.clone();
                change(row);
                row.next = plan.next(row.dealt_with(now), row.anchor);
                kept = Some((row.clone(), swept));
            })?;
            Ok(kept)
        };
        let done = if store.is_quick() {
            work(store.as_ref())
        } else {
            match tokio::task::spawn_blocking(move || work(store.as_ref())).await {
                Ok(done) => done,
                Err(_) => Err(StoreError {
                    kind: StoreErrorKind::Io,
                    message: "the store of schedules gave no answer".to_owned(),
                }),
            }
        };
        let (row, swept) = done?.unwrap_or_else(|| (wanted(schedule, now), Vec::new()));
        for past in swept {
            self.0.sink.ended(&outcome(schedule, past, None));
        }
        Ok(row)
    }

    /// Tries a store that failed again.
    async fn recover(&self, now: Timestamp) {
        let store = Arc::clone(&self.0.store);
        let written = if store.is_quick() {
            store.recover(now)
        } else {
            let recover = move || store.recover(now);
            tokio::task::spawn_blocking(recover)
                .await
                .unwrap_or_default()
        };
        let mut state = self.state();
        for (name, row) in written {
            if let Some(entry) = state.live.get_mut(&Key::Named(name)) {
                entry.caught_up(row, now);
            }
        }
    }

    fn tell(&self, left_out: &[LeftOut]) {
        for left_out in left_out {
            self.0.sink.left_out(left_out);
        }
    }
}

fn outcome(schedule: &Schedule, past: PastRun, retry: Option<RetryDue>) -> Outcome {
    Outcome {
        name: schedule.options.name.clone(),
        script: schedule.script.clone(),
        plan: schedule.plan.to_string(),
        scheduled_at: past.scheduled_at,
        started_at: past.started_at,
        ended_at: past.ended_at,
        reason: past.reason,
        attempt: past.attempt,
        missed: past.missed,
        result: past.result,
        retry_at: retry.map(|due| due.at),
    }
}

/// Histories are kept: what a job says at length is for its log.
fn bounded(mut error: JobError) -> JobError {
    let cut = |text: &mut String, most: usize| {
        if let Some((end, _)) = text.char_indices().nth(most) {
            text.truncate(end);
            text.push('…');
        }
    };
    cut(&mut error.code, 100);
    cut(&mut error.message, 1000);
    if let Some(at) = &mut error.at {
        cut(at, 300);
    }
    error
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> JobError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    JobError {
        code: "schedule.panicked".to_owned(),
        message: format!("the run panicked: {}", text.unwrap_or("no message")),
        at: None,
    }
}
