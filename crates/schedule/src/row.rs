//! What is kept of one schedule, and the rules by which several processes share it.
//!
//! A [`Row`] is changed in one transaction of a [`Store`](crate::Store) at a time, so that of
//! two processes which find the same slot due one gets it. Nothing here does I/O.

use std::time::Duration;

use jiff::Timestamp;

use crate::job::{JobError, Reason};

/// How long a run counts as under way since its process last said so.
pub(crate) const LEASE: Duration = Duration::from_mins(1);

/// A clock set back by no more than this catches up: slots that were run are waited past. One
/// set back further was wrong before, and is believed now. Vixie's cron draws the line there.
pub(crate) const SET_BACK: Duration = Duration::from_hours(3);

/// A schedule that no script has had for so long is forgotten, and its history with it.
pub const KEPT: Duration = Duration::from_hours(90 * 24);

/// How often a process says that it has a schedule.
pub(crate) const SEEN_EVERY: Duration = Duration::from_hours(24);

/// One run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// Counts the runs of one schedule, whoever ran them; it fences off a process which was
    /// taken for dead.
    pub number: u64,
    /// The slot.
    pub scheduled_at: Timestamp,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended, or was found to have been interrupted.
    pub ended_at: Timestamp,
    /// Why it ran.
    pub reason: Reason,
    /// Counts from one.
    pub attempt: u32,
    /// The missed slots it stood for.
    pub missed: u32,
    /// What came of it.
    pub result: Result<(), JobError>,
}

impl PastRun {
    /// How long it took.
    pub fn took(&self) -> Duration {
        Duration::try_from(self.ended_at.duration_since(self.started_at)).unwrap_or_default()
    }
}

/// A retry that waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryDue {
    pub(crate) at: Timestamp,
    pub(crate) slot: Timestamp,
    /// Which attempt it will be.
    pub(crate) attempt: u32,
}

/// A run under way, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenRun {
    pub(crate) number: u64,
    pub(crate) holder: String,
    pub(crate) renewed_at: Timestamp,
    pub(crate) slot: Timestamp,
    pub(crate) started_at: Timestamp,
    pub(crate) reason: Reason,
    pub(crate) attempt: u32,
    pub(crate) missed: u32,
}

impl OpenRun {
    /// Whether its process lives, as far as `now` tells: a clock that was set back does not make
    /// a dead one live for ever.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now.duration_since(self.renewed_at).unsigned_abs() < LEASE
    }

    fn ended(self, at: Timestamp, result: Result<(), JobError>) -> PastRun {
        PastRun {
            number: self.number,
            scheduled_at: self.slot,
            started_at: self.started_at,
            ended_at: at,
            reason: self.reason,
            attempt: self.attempt,
            missed: self.missed,
            result,
        }
    }
}

/// What is kept of one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub(crate) script: String,
    pub(crate) plan: String,
    pub(crate) zone: Option<String>,
    /// When the plan was made: intervals count from here.
    pub(crate) anchor: Timestamp,
    /// The latest slot that was dealt with.
    pub(crate) cursor: Timestamp,
    /// The slot after it, for those who only look.
    pub(crate) next: Option<Timestamp>,
    pub(crate) paused: bool,
    /// The number of the latest run.
    pub(crate) fence: u64,
    pub(crate) retry: Option<RetryDue>,
    pub(crate) runs: u64,
    pub(crate) failures: u64,
    /// When somebody last had such a schedule.
    pub(crate) seen: Timestamp,
    pub(crate) open: Vec<OpenRun>,
    pub(crate) last: Option<PastRun>,
    /// Slots that were run though they lie ahead of the time now.
    pub(crate) ahead: Vec<Timestamp>,
    /// Runs that ended in this change, for the history.
    pub(crate) ended: Vec<PastRun>,
    /// Of what this process has seen of the row the latest has the greatest. Not kept.
    pub(crate) stamp: u64,
}

/// A slot that somebody wants to run.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) holder: String,
    pub(crate) now: Timestamp,
    pub(crate) slot: Timestamp,
    pub(crate) reason: Reason,
    pub(crate) attempt: u32,
    pub(crate) missed: u32,
    /// Not beside another run.
    pub(crate) alone: bool,
    /// The plan goes by the wall clock: one time is one slot.
    pub(crate) by_the_clock: bool,
}

/// Who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Whoever asked: this is the run's number.
    Mine(u64),
    /// It has been dealt with.
    Taken,
    /// Nobody: it is paused.
    Paused,
    /// Nobody yet: another process runs it, at least until then unless it says otherwise.
    Busy(Timestamp),
}

impl Row {
    /// A schedule that nobody has seen before.
    pub(crate) fn new(script: &str, plan: &str, zone: Option<String>, now: Timestamp) -> Self {
        Self {
            script: script.to_owned(),
            plan: plan.to_owned(),
            zone,
            anchor: now,
            cursor: now,
            next: None,
            paused: false,
            fence: 0,
            retry: None,
            runs: 0,
            failures: 0,
            seen: now,
            open: Vec::new(),
            last: None,
            ahead: Vec::new(),
            ended: Vec::new(),
            stamp: 0,
        }
    }

    /// It is wanted as `wanted`. Nothing was missed of a plan that did not exist: with another
    /// plan it starts anew.
    pub(crate) fn attach(&mut self, wanted: &Self) {
        if self.plan != wanted.plan || self.zone != wanted.zone {
            self.plan.clone_from(&wanted.plan);
            self.zone.clone_from(&wanted.zone);
            self.start_anew(wanted.seen);
            self.retry = None;
        }
        self.script.clone_from(&wanted.script);
        self.seen = wanted.seen;
    }

    /// Whether it is of the same slots.
    pub(crate) fn has_plan_of(&self, other: &Self) -> bool {
        self.plan == other.plan && self.zone == other.zone
    }

    /// Whether [`Self::attach`] would change something worth writing.
    pub(crate) fn is_attached(&self, wanted: &Self) -> bool {
        self.plan == wanted.plan
            && self.zone == wanted.zone
            && self.script == wanted.script
            && !self.is_stale(wanted.seen)
    }

    /// Whether the store is to be told again that there is such a schedule.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.seen).unsigned_abs() >= SEEN_EVERY
    }

    /// Whether no script has had such a schedule for so long that it is kept no longer.
    pub(crate) fn is_forgotten(&self, now: Timestamp) -> bool {
        let unseen = Duration::try_from(now.duration_since(self.seen)).unwrap_or_default();
        unseen >= KEPT && !self.open.iter().any(|run| run.is_live(now))
    }

    /// Whether it was seen by a clock that was ahead: that would be kept too long.
    pub(crate) fn is_seen_ahead(&self, now: Timestamp) -> bool {
        self.seen > later(now, SEEN_EVERY)
    }

    /// From now on, as if the plan had just been made.
    pub(crate) fn start_anew(&mut self, now: Timestamp) {
        self.anchor = now;
        self.cursor = now;
        // Its time may be days away now, and it has waited.
        if let Some(due) = &mut self.retry {
            due.at = due.at.min(now);
        }
    }

    /// The slots after this one are still to come.
    pub(crate) fn dealt_with(&self, now: Timestamp) -> Timestamp {
        if self.cursor > later(now, SET_BACK) {
            now
        } else {
            self.cursor
        }
    }

    /// Runs whose process is gone are over; `alive` knows those of one's own.
    pub(crate) fn sweep(&mut self, now: Timestamp, alive: impl Fn(&OpenRun) -> bool) {
        let (open, over) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|run| run.is_live(now) || alive(run));
        self.open = open;
        for run in over {
            let error = interrupted("the process that ran it is gone");
            self.record(run.ended(now, Err(error)));
        }
    }

    /// Asks for a slot.
    pub(crate) fn claim(&mut self, ask: &Ask) -> Claim {
        match ask.reason {
            Reason::Tick | Reason::Missed => {
                if self.paused {
                    return Claim::Paused;
                }
                let is_open = self.open.iter().any(|run| run.slot == ask.slot);
                let again = ask.by_the_clock && (is_open || self.ahead.contains(&ask.slot));
                if again || ask.slot <= self.dealt_with(ask.now) {
                    return Claim::Taken;
                }
            }
            Reason::Retry => {
                let wanted = (ask.slot, ask.attempt);
                if self.retry.map(|due| (due.slot, due.attempt)) != Some(wanted) {
                    return Claim::Taken;
                }
                if self.paused {
                    return Claim::Paused;
                }
            }
            Reason::Manual => {}
        }
        let others = self.open.iter().filter(|run| run.holder != ask.holder);
        if ask.alone
            && let Some(latest) = others.map(|run| run.renewed_at).max()
        {
            return Claim::Busy(later(latest, LEASE));
        }
        match ask.reason {
            Reason::Tick | Reason::Missed => {
                self.cursor = ask.slot;
                // It gives way to the next slot.
                self.retry = None;
            }
            Reason::Retry => self.retry = None,
            Reason::Manual => {}
        }
        self.fence += 1;
        self.open.push(OpenRun {
            number: self.fence,
            holder: ask.holder.clone(),
            renewed_at: ask.now,
            slot: ask.slot,
            started_at: ask.now,
            reason: ask.reason,
            attempt: ask.attempt,
            missed: ask.missed,
        });
        Claim::Mine(self.fence)
    }

    /// The run `number` of `slot`, which was claimed, was never begun: `cursor` and `retry` are
    /// again what they were before, unless somebody went on meanwhile.
    pub(crate) fn give_back(
        &mut self,
        number: u64,
        slot: Timestamp,
        cursor: Timestamp,
        retry: Option<RetryDue>,
    ) {
        let claimed = self.open.len();
        self.open.retain(|run| run.number != number);
        if self.open.len() == claimed {
            return;
        }
        if self.cursor == slot {
            self.cursor = cursor;
        }
        if !self.paused {
            self.retry = self.retry.or(retry);
        }
    }

    /// Everything up to `slot` is dealt with, run or not.
    pub(crate) fn pass(&mut self, slot: Timestamp, now: Timestamp) {
        if slot > self.dealt_with(now) {
            self.cursor = slot;
        }
    }

    /// The run is still under way.
    pub(crate) fn renew(&mut self, number: u64, now: Timestamp) {
        if let Some(run) = self.open.iter_mut().find(|run| run.number == number) {
            run.renewed_at = now;
        }
    }

    /// A run has ended. One that was taken for interrupted meanwhile ended after all.
    pub(crate) fn finish(&mut self, past: PastRun, retry: Option<RetryDue>) {
        let was_open = self.open.iter().any(|run| run.number == past.number);
        self.open.retain(|run| run.number != past.number);
        if retry.is_some() {
            self.retry = retry;
        }
        if was_open {
            self.record(past);
            return;
        }
        if past.result.is_ok() {
            self.failures = self.failures.saturating_sub(1);
        }
        self.ended.push(past.clone());
        self.last = Some(past);
    }

    fn record(&mut self, past: PastRun) {
        self.runs += 1;
        self.failures += u64::from(past.result.is_err());
        self.ended.push(past.clone());
        self.last = Some(past);
    }

    /// Not until somebody says so; what falls due meanwhile is left out.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.retry = None;
    }

    /// From now on again.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        if self.paused {
            self.paused = false;
            self.pass(now, now);
        }
    }

    /// While the store failed `base` became `memory`, and `since` ended, the latest last: that is
    /// so now, beside what others did meanwhile. Nothing is known of how it was before if there
    /// is no base.
    pub(crate) fn merge(&mut self, memory: &Self, base: Option<&Self>, since: &[PastRun]) {
        let new = Self {
            cursor: memory.anchor,
            ..Self::new(&memory.script, &memory.plan, None, memory.anchor)
        };
        let base = base.unwrap_or(&new);
        let is_new_plan = self.plan != memory.plan || self.zone != memory.zone;
        if is_new_plan || memory.anchor != base.anchor {
            self.plan.clone_from(&memory.plan);
            self.zone.clone_from(&memory.zone);
            self.anchor = memory.anchor;
            self.cursor = memory.cursor;
        } else if memory.cursor != base.cursor {
            self.cursor = self.cursor.max(memory.cursor);
        }
        if is_new_plan || memory.retry != base.retry {
            self.retry = memory.retry;
        }
        if memory.paused != base.paused {
            self.paused = memory.paused;
        }
        self.script.clone_from(&memory.script);
        self.next = memory.next;
        self.seen = memory.seen;
        self.runs += memory.runs.saturating_sub(base.runs);
        self.failures = (self.failures + memory.failures).saturating_sub(base.failures);
        for run in &memory.open {
            match self
                .open
                .iter_mut()
                .find(|known| known.number == run.number)
            {
                Some(known) => known.renewed_at = known.renewed_at.max(run.renewed_at),
                None if run.number > base.fence => self.open.push(run.clone()),
                None => {}
            }
        }
        self.fence = self.fence.max(memory.fence);
        for past in since {
            self.open.retain(|run| run.number != past.number);
            self.ended.push(past.clone());
            self.last = Some(past.clone());
        }
    }
}

/// The failure of a run that did not come to its end.
pub(crate) fn interrupted(why: &str) -> JobError {
    JobError {
        code: "schedule.interrupted".to_owned(),
        message: format!("the run was interrupted: {why}"),
        at: None,
    }
}

/// `span` after `time`, up to a whole microsecond, as all times are here; or the end of time.
pub(crate) fn later(time: Timestamp, span: Duration) -> Timestamp {
    let exact = time.checked_add(span).unwrap_or(Timestamp::MAX);
    let whole = Timestamp::from_microsecond(exact.as_microsecond()).unwrap_or(exact);
    if whole >= exact {
        return whole;
    }
    whole.checked_add(Duration::from_micros(1)).unwrap_or(exact)
}
