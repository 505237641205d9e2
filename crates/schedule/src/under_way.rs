//! One run, from its beginning to its end: its job, its lease, its time-out, and what is recorded.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::drive::STORE_AGAIN;
use crate::entry::{Told, Waiting};
use crate::job::{JobError, Outcome, Reason, Run, Schedule};
use crate::row::{LEASE, PastRun, RetryDue, Row, interrupted};
use crate::scheduler::{Key, Scheduler};
use crate::store::StoreErrorKind;

impl Scheduler {
    /// Begins a run that is ours; `told` hears how it ends.
    pub(crate) fn begin(
        &self,
        key: Key,
        schedule: Arc<Schedule>,
        waiting: Waiting,
        (number, stopped): (u64, oneshot::Receiver<()>),
        now: Timestamp,
        told: Option<Told>,
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
            scheduler.end(key, &schedule, past.clone()).await;
            if let Some(told) = told {
                // Whoever waited may have lost interest.
                let _ = told.send(Ok(past));
            }
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
                (Ok(row), Some(entry)) if entry.has_plan_of(schedule) => {
                    entry.refreshed(row, now);
                }
                (_, Some(_)) => {}
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
}

/// What is told of a run that has ended.
pub(crate) fn outcome(schedule: &Schedule, past: PastRun, retry: Option<RetryDue>) -> Outcome {
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
