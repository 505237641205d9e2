//! The driver: does what is due, and waits for what is next.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::entry::{Action, Entry, Waiting};
use crate::job::{LeftOut, Schedule};
use crate::row::{Ask, Claim, Row, later};
use crate::scheduler::{Key, Lane, Scheduler, UnderWay, wanted};
use crate::store::StoreError;

/// When a store that another process held is asked again.
pub(crate) const STORE_AGAIN: Duration = Duration::from_secs(1);

/// How long a store may take to write what was under way when the host stopped.
const LAST_WORDS: Duration = Duration::from_secs(10);

impl Scheduler {
    /// Drives everything until the future is dropped. One task of a process does this.
    ///
    /// Schedules without a name do not wait for the store of the others.
    pub async fn run(&self) {
        let [kept, passing] = &self.0.lanes;
        tokio::join!(self.drive(kept), self.drive(passing));
    }

    async fn drive(&self, lane: &Lane) {
        loop {
            let woken = lane.wake.notified();
            // Those who come later may have seen a later time than this step does.
            let settlers = std::mem::take(&mut *lane.settlers());
            let wake = self.step(lane).await;
            for settler in settlers {
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
        let settled = self.0.lanes.each_ref().map(Lane::settle);
        for settled in settled {
            // An error says that nobody drives any more: then nothing will be begun either.
            let _ = settled.await;
        }
    }

    /// Waits until [`Self::run`], which must be at work, gives a sign of life. A store that gives
    /// no answer does not hold it up.
    pub async fn answers(&self) {
        let [_, passing] = &self.0.lanes;
        let _ = passing.settle().await;
    }

    /// Begins nothing more and waits for the runs under way. Those that take longer than
    /// `at_most` are ended and recorded as interrupted; says how many. A store that gives no
    /// answer for another ten seconds is not waited for.
    pub async fn drain(&self, at_most: Duration) -> usize {
        self.state().stopping = true;
        self.nudge();
        let late = self.0.clock.sleep(at_most);
        let mut ended = 0;
        let last_words = async {
            self.idle().await;
            // The last moment to write what only memory knows.
            self.recover(self.now()).await;
        };
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
            }
        }
        tokio::select! {
            () = last_words => {}
            () = self.0.clock.sleep(LAST_WORDS) => {}
        }
        ended
    }

    /// Waits until no run is under way, or about to be.
    async fn idle(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_idle = {
                let state = self.state();
                state.under_way.is_empty() && state.claims == 0
            };
            if is_idle {
                return;
            }
            changed.await;
        }
    }

    /// Does everything that is due and says when there may be more.
    async fn step(&self, lane: &Lane) -> Option<Timestamp> {
        let _one_at_a_time = lane.driving.lock().await;
        loop {
            let now = self.now();
            if lane.is_kept && self.0.store.again(now).is_some_and(|at| at <= now) {
                self.recover(now).await;
            }
            let mut left_out = Vec::new();
            let actions = self.decide(lane, now, &mut left_out);
            self.tell(&left_out);
            if actions.is_empty() {
                break;
            }
            for (key, schedule, action) in actions {
                self.perform(key, schedule, action).await;
            }
        }
        if lane.is_kept {
            self.prune().await;
        }
        let now = self.now();
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        let state = &mut *state;
        let mut wake = if lane.is_kept {
            self.0.store.again(now)
        } else {
            None
        };
        for (key, entry) in &mut state.live {
            if key.is_kept() == lane.is_kept {
                let running = state.under_way.iter().filter(|run| run.key == *key).count();
                wake = [wake, entry.wake(now, running)].into_iter().flatten().min();
            }
        }
        wake
    }

    fn decide(
        &self,
        lane: &Lane,
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
            if key.is_kept() != lane.is_kept {
                continue;
            }
            let running = state.under_way.iter().filter(|run| run.key == *key).count();
            if let Some(action) = entry.decide(now, running, left_out) {
                actions.push((key.clone(), Arc::clone(&entry.schedule), action));
            } else if running == 0 && !key.is_kept() && entry.is_done(now) {
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

    async fn perform(&self, key: Key, schedule: Arc<Schedule>, action: Action) {
        // Those before it may have taken long.
        let now = self.now();
        match action {
            Action::Claim(waiting) => self.claim(key, schedule, waiting, now).await,
            Action::Attach => {
                let is_attached = self.state().live.get(&key).is_some_and(|one| one.attached);
                let wanted = wanted(&schedule, now);
                let changed = self
                    .change(&key, &schedule, now, move |row| row.attach(&wanted))
                    .await;
                let refresh = if is_attached {
                    Entry::refreshed
                } else {
                    Entry::caught_up
                };
                self.refresh(&key, &schedule, changed, refresh);
            }
            Action::Pass(slot) => {
                let changed = self
                    .change(&key, &schedule, now, move |row| row.pass(slot, now))
                    .await;
                self.refresh(&key, &schedule, changed, Entry::refreshed);
            }
            Action::StartAnew => {
                let changed = self
                    .change(&key, &schedule, now, move |row| row.start_anew(now))
                    .await;
                self.refresh(&key, &schedule, changed, Entry::started_anew);
            }
        }
    }

    fn refresh(
        &self,
        key: &Key,
        schedule: &Schedule,
        changed: Result<Row, StoreError>,
        refresh: fn(&mut Entry, Row, Timestamp),
    ) {
        let now = self.now();
        let mut state = self.state();
        let Some(entry) = state.live.get_mut(key) else {
            return;
        };
        match changed {
            Ok(row) if entry.has_plan_of(schedule) => refresh(entry, row, now),
            // A new generation with another plan came meanwhile; it attaches itself.
            Ok(_) => {}
            Err(_) => entry.put_off(later(now, STORE_AGAIN)),
        }
    }

    async fn claim(&self, key: Key, schedule: Arc<Schedule>, waiting: Waiting, now: Timestamp) {
        let ask = {
            let mut state = self.state();
            let Some(entry) = state.live.get(&key).filter(|_| !state.stopping) else {
                return;
            };
            let ask = Ask {
                holder: self.0.holder.clone(),
                now,
                slot: waiting.slot,
                reason: waiting.reason,
                attempt: waiting.attempt,
                missed: waiting.missed,
                alone: entry.is_alone(),
                by_the_clock: entry.goes_by_the_clock(),
            };
            state.claims += 1;
            ask
        };
        let asked = Asked(self);
        let answer = Arc::new(std::sync::Mutex::new((Claim::Taken, now, None)));
        let told = Arc::clone(&answer);
        let changed = self
            .change(&key, &schedule, now, move |row| {
                let before = (row.cursor, row.retry);
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                *told = (row.claim(&ask), before.0, before.1);
            })
            .await;
        let (claim, cursor, retry) = *answer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = Vec::new();
        let begun = {
            let mut state = self.state();
            let stopping = state.stopping;
            match (changed, state.live.get_mut(&key)) {
                (Err(_), entry) => {
                    if let Some(entry) = entry {
                        entry.put_off(later(self.now(), STORE_AGAIN));
                    }
                    return;
                }
                (Ok(row), Some(entry)) if entry.has_plan_of(&schedule) && !stopping => {
                    let told = entry.claimed(waiting, claim, row, now, &mut left_out);
                    let Claim::Mine(number) = claim else {
                        drop(state);
                        self.tell(&left_out);
                        return;
                    };
                    // A new generation may have come meanwhile: then it is its run.
                    let begun = (Arc::clone(&entry.schedule), entry.set, told, number);
                    let (stop, stopped) = oneshot::channel();
                    // In the same breath: its generation is not over while the run is under way.
                    state.under_way.push(UnderWay {
                        key: key.clone(),
                        set: begun.1,
                        number,
                        stop: Some(stop),
                    });
                    Some((begun, stopped))
                }
                _ => None,
            }
        };
        self.tell(&left_out);
        if let Some(((schedule, _, told, number), stopped)) = begun {
            self.begin(key, schedule, waiting, (number, stopped), now, told);
        } else if let Claim::Mine(number) = claim {
            // It was withdrawn while the store was asked. Nothing was begun: if there is such a
            // schedule again, the slot is one that nobody watched.
            let now = self.now();
            let back = move |row: &mut Row| row.give_back(number, waiting.slot, cursor, retry);
            // What the store does not hear, it takes for interrupted.
            let _ = self.change(&key, &schedule, now, back).await;
        }
        drop(asked);
    }

    fn tell(&self, left_out: &[LeftOut]) {
        for left_out in left_out {
            self.0.sink.left_out(left_out);
        }
    }
}

/// The store is being asked for a run.
struct Asked<'s>(&'s Scheduler);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.state().claims -= 1;
        self.0.0.changed.notify_waiters();
    }
}
