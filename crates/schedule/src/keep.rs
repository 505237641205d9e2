//! How a scheduler changes what its store keeps: never on a thread that others wait for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::ScheduleError;
use crate::job::Schedule;
use crate::row::{PastRun, Row};
use crate::scheduler::{Key, Scheduler, wanted};
use crate::standin::StandIn;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::under_way::outcome;

/// How often it is looked for schedules that nobody has any more.
const PRUNED_EVERY: Duration = Duration::from_hours(12);

impl Scheduler {
    /// Changes the row of `key` and says what it is then; runs of dead processes are told of.
    pub(crate) async fn change(
        &self,
        key: &Key,
        schedule: &Arc<Schedule>,
        now: Timestamp,
        change: impl Fn(&mut Row) + Send + 'static,
    ) -> Result<Row, StoreError> {
        let store = self.store_of(key);
        let name = key.row();
        let (shared, is_quick) = (Arc::clone(&self.0), store.is_quick());
        let known = self.state().live.get(key).map(|entry| entry.row.clone());
        let known = known.unwrap_or_else(|| wanted(schedule, now));
        let mine: Vec<u64> = {
            let state = self.state();
            let runs = state.under_way.iter().filter(|run| run.key == *key);
            runs.map(|run| run.number).collect()
        };
        let holder = self.0.holder.clone();
        let (plan, said) = (schedule.plan.clone(), schedule.plan.to_string());
        let work = move || {
            let mut kept = None;
            store.change(&name, now, &mut |row| {
                let row = row.get_or_insert_with(|| known.clone());
                row.sweep(now, |run| {
                    run.holder == holder && mine.contains(&run.number)
                });
                let swept = row.ended.clone();
                change(row);
                if row.plan == said {
                    row.next = plan.next(row.dealt_with(now), row.anchor);
                }
                let mut seen = row.clone();
                // While nobody else changes it: in this order it was.
                seen.stamp = shared.stamps.fetch_add(1, Ordering::Relaxed) + 1;
                kept = Some((seen, swept));
            })?;
            Ok(kept)
        };
        let done = aside(is_quick, work).await;
        let (row, swept) = done?.unwrap_or_else(|| (wanted(schedule, now), Vec::new()));
        for past in swept {
            self.0.sink.ended(&outcome(schedule, past, None));
        }
        Ok(row)
    }

    /// Tries a store that failed again.
    pub(crate) async fn recover(&self, now: Timestamp) {
        let written = self.ask(move |store| Ok(store.recover(now))).await;
        let mut state = self.state();
        for (name, row) in written.unwrap_or_default() {
            if let Some(entry) = state.live.get_mut(&Key::Named(name))
                && entry.row.has_plan_of(&row)
            {
                entry.caught_up(row, now);
            }
        }
    }

    /// Forgets, now and then, what no script has had for long.
    pub(crate) async fn prune(&self) {
        let now = self.now();
        {
            let mut state = self.state();
            let recently = |at: Timestamp| now.duration_since(at).unsigned_abs() < PRUNED_EVERY;
            let mut live = state.live.iter();
            // A process that has nothing there does not make the store, or judge what is in it.
            let is_kept = live.any(|(key, entry)| key.is_kept() && entry.attached);
            if !is_kept || state.stopping || state.pruned.is_some_and(recently) {
                return;
            }
            state.pruned = Some(now);
        }
        // Whatever is the matter, who needs the store is told of it.
        let _ = self.ask(move |store| prune(store, now)).await;
    }

    /// The latest runs of the schedule `name`, the latest first.
    pub async fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, ScheduleError> {
        let name = name.to_owned();
        Ok(self.ask(move |store| store.history(&name, limit)).await?)
    }

    /// What is kept of all schedules, or of one.
    pub(crate) async fn kept(
        &self,
        name: Option<&str>,
    ) -> Result<BTreeMap<String, Row>, StoreError> {
        let (name, now) = (name.map(str::to_owned), self.now());
        self.ask(move |store| match name {
            None => Ok(store.all(now)?.into_iter().collect()),
            Some(name) => {
                let row = store.load(&name, now)?;
                Ok(row.map(|row| (name, row)).into_iter().collect())
            }
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StandIn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.0.store);
        aside(store.is_quick(), move || work(&store)).await
    }
}

fn prune(store: &StandIn, now: Timestamp) -> Result<(), StoreError> {
    for (name, row) in store.all(now)? {
        if !row.is_forgotten(now) && !row.is_seen_ahead(now) {
            continue;
        }
        store.change(&name, now, &mut |row| match row {
            Some(kept) if kept.is_forgotten(now) => *row = None,
            Some(kept) if kept.is_seen_ahead(now) => kept.seen = now,
            _ => {}
        })?;
    }
    Ok(())
}

/// Does `work` where it may take its time: another process may hold the file for seconds.
async fn aside<T: Send + 'static>(
    is_quick: bool,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    if is_quick {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(StoreError {
            kind: StoreErrorKind::Io,
            message: "the store of schedules gave no answer".to_owned(),
        })
    })
}
