//! One schedule at work: which of its slots are due, and what is to be done about them.
//!
//! Nothing here waits or does I/O: [`Entry::decide`] names one [`Action`] at a time, which the
//! driver performs and tells the outcome of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::error::ScheduleError;
use crate::job::{LeftOut, Reason, Schedule, WhyLeftOut};
use crate::options::{Missed, Overlap};
use crate::plan::Plan;
use crate::row::{Claim, PastRun, RetryDue, Row, SEEN_EVERY, SET_BACK, later};

/// A slot is missed when nobody watched for so long after it fell due. Longer than a clock that
/// is set goes unnoticed.
const GRACE: Duration = Duration::from_mins(1);
/// Missed slots that are made up for, or counted.
const MADE_UP: usize = 1000;
/// Slots that wait for a run to end.
const QUEUED: usize = 100;
/// Runs of one schedule at the same time, where they may overlap.
const AT_ONCE: usize = 64;
/// How long to wait for a run of another process, before one asks again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// One schedule at work.
pub(crate) struct Entry {
    /// The generation it is of.
    pub(crate) set: u64,
    pub(crate) schedule: Arc<Schedule>,
    /// What the store keeps of it, as far as is known.
    pub(crate) row: Row,
    /// Whether the store knows of the plan.
    pub(crate) attached: bool,
    /// Slots up to here are run, left out, or in the queue.
    considered: Timestamp,
    queue: VecDeque<Waiting>,
    manual: VecDeque<(Waiting, Option<Told>)>,
    /// Another process runs it, or the store was busy: not before this.
    not_before: Option<Timestamp>,
    /// The next slot and when it begins; forgotten whenever it may be another.
    pending: Pending,
}

/// The next slot and when it begins.
#[derive(Clone, Copy)]
enum Pending {
    Unknown,
    Known(Option<(Timestamp, Timestamp)>),
}

/// Who asked for a run, and waits for its end.
pub(crate) type Told = oneshot::Sender<Result<PastRun, ScheduleError>>;

/// Something that is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) slot: Timestamp,
    pub(crate) reason: Reason,
    pub(crate) attempt: u32,
    pub(crate) missed: u32,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The store is to know of the plan, and now and then that there still is one.
    Attach,
    /// The clock was set back: slots and intervals count from now.
    StartAnew,
    /// Everything up to there is dealt with.
    Pass(Timestamp),
    /// This is to run, if nobody else runs it.
    Claim(Waiting),
}

impl Entry {
    /// One of generation `set`, of which the store keeps `row`.
    pub(crate) fn new(set: u64, schedule: Arc<Schedule>, row: Row, now: Timestamp) -> Self {
        Self {
            set,
            considered: row.dealt_with(now),
            schedule,
            row,
            attached: false,
            queue: VecDeque::new(),
            manual: VecDeque::new(),
            not_before: None,
            pending: Pending::Unknown,
        }
    }

    /// Goes on where `old`, of the same name, was.
    pub(crate) fn take_over(&mut self, old: Self, wanted: &Row, now: Timestamp) {
        self.row = old.row;
        self.manual = old.manual;
        if self.row.plan == wanted.plan && self.row.zone == wanted.zone {
            self.considered = old.considered;
            self.queue = old.queue;
            self.not_before = old.not_before;
            self.attached = old.attached && self.row.is_attached(wanted);
        } else {
            self.row.attach(wanted);
            self.considered = self.row.dealt_with(now);
            self.attached = false;
        }
        self.pending = Pending::Unknown;
    }

    /// What is to be done now, with so many runs under way in this process.
    pub(crate) fn decide(
        &mut self,
        now: Timestamp,
        running: usize,
        left_out: &mut Vec<LeftOut>,
    ) -> Option<Action> {
        if self.not_before.is_some_and(|time| time > now) {
            self.collect(now, running, left_out);
            return None;
        }
        if !self.attached || (self.is_kept() && self.row.is_stale(now)) {
            return Some(Action::Attach);
        }
        if self.is_set_back(now) {
            return Some(Action::StartAnew);
        }
        self.collect(now, running, left_out);
        let is_idle = self.queue.is_empty() && !self.row.paused;
        if is_idle && self.considered > self.row.dealt_with(now) {
            return Some(Action::Pass(self.considered));
        }
        if !self.is_free(running) {
            return None;
        }
        if let Some((waiting, _)) = self.manual.front() {
            return Some(Action::Claim(*waiting));
        }
        let retry = self.row.retry.filter(|_| !self.row.paused);
        let retry_first = self.schedule.options.overlap == Overlap::Queue;
        match (self.queue.front(), retry) {
            (Some(waiting), None) => Some(Action::Claim(*waiting)),
            (Some(waiting), Some(_)) if !retry_first => Some(Action::Claim(*waiting)),
            (_, Some(due)) if due.at <= now => Some(Action::Claim(Waiting {
                slot: due.slot,
                reason: Reason::Retry,
                attempt: due.attempt,
                missed: 0,
            })),
            _ => None,
        }
    }

    /// When there may be something to do, if nothing happens before.
    pub(crate) fn wake(&mut self, now: Timestamp, running: usize) -> Option<Timestamp> {
        let slot = self.pending(now).map(|(_, fires)| fires);
        let waits = !self.attached || !self.queue.is_empty() || !self.manual.is_empty();
        let again = self.not_before.filter(|_| waits);
        let retry = self.row.retry.filter(|_| self.is_free(running));
        let retry = retry.map(|due| self.not_before.map_or(due.at, |time| time.max(due.at)));
        let still_there = self.is_kept().then(|| later(self.row.seen, SEEN_EVERY));
        let still_there = still_there.map(|at| self.not_before.map_or(at, |time| time.max(at)));
        [slot, again, retry, still_there]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether it will never run again by itself.
    pub(crate) fn is_done(&mut self, now: Timestamp) -> bool {
        self.queue.is_empty()
            && self.manual.is_empty()
            && self.row.retry.is_none()
            && self.pending(now).is_none()
    }

    /// When it runs next.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.row.paused {
            return None;
        }
        let retry = self.row.retry.map(|due| due.at);
        let waiting = self.queue.front().map(|waiting| waiting.slot);
        let pending = self.pending(now).map(|(slot, _)| slot);
        waiting.or([retry, pending].into_iter().flatten().min())
    }

    /// Somebody wants it to run at once, and may wait for its end; false if too many want that.
    pub(crate) fn run_now(&mut self, now: Timestamp, told: Option<Told>) -> bool {
        if self.manual.len() >= QUEUED {
            return false;
        }
        let waiting = Waiting {
            slot: now,
            reason: Reason::Manual,
            attempt: 1,
            missed: 0,
        };
        self.manual.push_back((waiting, told));
        true
    }

    /// Whether it has a name, and so a place in the store.
    fn is_kept(&self) -> bool {
        self.schedule.options.name.is_some()
    }

    /// Whether `schedule` means the same slots: what was done for another plan says nothing here.
    pub(crate) fn has_plan_of(&self, schedule: &Schedule) -> bool {
        let of = |schedule: &Schedule| (schedule.plan.to_string(), schedule.plan.zone());
        std::ptr::eq(self.schedule.as_ref(), schedule) || of(&self.schedule) == of(schedule)
    }

    /// Runs under way in other processes.
    pub(crate) fn elsewhere(&self, holder: &str, now: Timestamp) -> usize {
        let runs = self.row.open.iter();
        runs.filter(|run| run.holder != holder && run.is_live(now))
            .count()
    }

    /// Whether it may run beside itself.
    pub(crate) fn is_alone(&self) -> bool {
        self.schedule.options.overlap != Overlap::Allow
    }

    fn is_free(&self, running: usize) -> bool {
        running < if self.is_alone() { 1 } else { AT_ONCE }
    }

    /// What `claim` of `waiting` came to, and who is to hear how it ends. `row` is what the store
    /// keeps now.
    pub(crate) fn claimed(
        &mut self,
        waiting: Waiting,
        claim: Claim,
        row: Row,
        now: Timestamp,
        left_out: &mut Vec<LeftOut>,
    ) -> Option<Told> {
        self.refreshed(row, now);
        let drop_it = match claim {
            Claim::Mine(_) | Claim::Taken => true,
            Claim::Paused => {
                self.queue.clear();
                false
            }
            Claim::Busy(until) => {
                let made_up =
                    self.schedule.options.missed == Missed::All && waiting.reason == Reason::Missed;
                let skips = self.schedule.options.overlap == Overlap::Skip;
                let misses = matches!(waiting.reason, Reason::Tick | Reason::Missed) && !made_up;
                if skips && misses {
                    left_out.push(self.left_out(1, WhyLeftOut::Overlap, waiting.slot));
                    true
                } else if skips
                    && waiting.reason == Reason::Manual
                    && let Some(told) = self.manual.front_mut().and_then(|asked| asked.1.take())
                {
                    let name = self.schedule.options.name.clone().unwrap_or_default();
                    // Whoever waited may have lost interest.
                    let _ = told.send(Err(ScheduleError::Running(name)));
                    true
                } else {
                    self.not_before = Some(until.min(later(now, ASK_AGAIN)));
                    false
                }
            }
        };
        if !drop_it {
            return None;
        }
        match waiting.reason {
            Reason::Manual => self.manual.pop_front().and_then(|(_, told)| told),
            Reason::Retry => None,
            Reason::Tick | Reason::Missed => {
                self.queue.retain(|other| other.slot != waiting.slot);
                None
            }
        }
    }

    /// The store keeps `row` now.
    pub(crate) fn refreshed(&mut self, row: Row, now: Timestamp) {
        let seen = self.row.stamp;
        if row.stamp != 0 && row.stamp < seen {
            // Of two changes the first one's answer came last.
            return;
        }
        self.row = row;
        self.row.stamp = self.row.stamp.max(seen);
        self.row.ended.clear();
        self.attached = true;
        self.not_before = None;
        let dealt_with = self.row.dealt_with(now);
        self.considered = self.considered.max(dealt_with);
        self.queue.retain(|waiting| waiting.slot > dealt_with);
        self.pending = Pending::Unknown;
    }

    /// The store keeps `row` now, and slots begin anew with it.
    pub(crate) fn started_anew(&mut self, row: Row, now: Timestamp) {
        self.considered = row.dealt_with(now);
        self.queue.clear();
        self.refreshed(row, now);
    }

    /// The store keeps `row` now, which may be older than was thought: it knew of the schedule
    /// before this process did, or it failed meanwhile.
    pub(crate) fn caught_up(&mut self, row: Row, now: Timestamp) {
        self.refreshed(row, now);
        if self.queue.is_empty() {
            self.considered = self.row.dealt_with(now);
        }
    }

    /// The store could not be asked: later.
    pub(crate) fn put_off(&mut self, until: Timestamp) {
        self.not_before = Some(until);
    }

    /// Whether the clock was set back, so that slots begin anew: it was far ahead before, or an
    /// interval has become longer than itself.
    fn is_set_back(&mut self, now: Timestamp) -> bool {
        if self.row.cursor > later(now, SET_BACK) {
            return true;
        }
        let (Plan::Every(span) | Plan::After(span)) = self.schedule.plan else {
            return false;
        };
        self.pending(now)
            .is_some_and(|(slot, _)| slot > later(later(now, span), GRACE))
    }

    /// The next slot and when it begins.
    fn pending(&mut self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        if self.considered > later(now, SET_BACK) {
            self.considered = self.row.dealt_with(now).min(now);
            self.pending = Pending::Unknown;
        }
        if let Pending::Known(pending) = self.pending {
            return pending;
        }
        let pending = self.slot_after(self.considered);
        self.pending = Pending::Known(pending);
        pending
    }

    fn slot_after(&self, mut time: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let plan = &self.schedule.plan;
        loop {
            time = plan.next(time, self.row.anchor)?;
            if !self.goes_by_the_clock() || !self.row.ahead.contains(&time) {
                return Some((time, self.fires_at(time)));
            }
        }
    }

    /// Whether one time is one slot, also when the clock is set.
    pub(crate) fn goes_by_the_clock(&self) -> bool {
        matches!(self.schedule.plan, Plan::Cron(..) | Plan::At(_))
    }

    /// When the run of `slot` begins: jitter never carries it past the next slot.
    fn fires_at(&self, slot: Timestamp) -> Timestamp {
        let jitter = self.schedule.options.jitter;
        if jitter.is_zero() {
            return slot;
        }
        let next = self.schedule.plan.next(slot, self.row.anchor);
        let gap = next.and_then(|next| Duration::try_from(next.duration_since(slot)).ok());
        let span = gap.map_or(jitter, |gap| gap.min(jitter));
        later(slot, span.mul_f64(self.spread(slot, 0)))
    }

    /// Takes the slots that have come due into the queue, or leaves them out.
    fn collect(&mut self, now: Timestamp, running: usize, left_out: &mut Vec<LeftOut>) {
        let Some((first, fires)) = self.pending(now) else {
            return;
        };
        if fires > now {
            return;
        }
        let (mut due, too_many) = self.due(first, now);
        let Some(latest) = due.back().copied() else {
            return;
        };
        self.considered = latest;
        self.pending = Pending::Unknown;
        if self.row.paused {
            // The store has the last word on that.
            self.queue.clear();
        }
        let on_time = now.duration_since(self.fires_at(latest)).unsigned_abs() <= GRACE;
        let tick = if on_time { due.pop_back() } else { None };
        // Nobody misses what was not to run.
        let missed = if self.row.paused {
            0
        } else {
            self.miss(&due, too_many, left_out)
        };
        if let Some(slot) = tick {
            self.tick(slot, missed, running, left_out);
        }
    }

    /// The slots from `first` on that are due by `now`: the latest thousand, and whether there
    /// were more.
    fn due(&self, first: Timestamp, now: Timestamp) -> (VecDeque<Timestamp>, bool) {
        let from = |mut slot: Timestamp, most: usize| {
            let mut due = VecDeque::from([slot]);
            while let Some((next, fires)) = self.slot_after(slot)
                && fires <= now
            {
                due.push_back(next);
                if due.len() > most {
                    return (due, true);
                }
                slot = next;
            }
            (due, false)
        };
        let (due, too_many) = from(first, MADE_UP);
        if !too_many {
            return (due, false);
        }
        // Months may have passed: look from ever further back instead of through all of it.
        let mut window = Duration::from_hours(1);
        loop {
            let start = now.checked_sub(window).unwrap_or(first).max(first);
            let (mut due, _) = match self.slot_after(start) {
                Some((slot, fires)) if fires <= now => from(slot, usize::MAX),
                _ => (VecDeque::new(), false),
            };
            if due.len() >= MADE_UP || start == first {
                due.drain(..due.len().saturating_sub(MADE_UP));
                return (due, true);
            }
            window *= 4;
        }
    }

    /// Deals with slots that nobody watched; says how many a run that is due now stands for.
    fn miss(
        &mut self,
        missed: &VecDeque<Timestamp>,
        too_many: bool,
        left_out: &mut Vec<LeftOut>,
    ) -> u32 {
        let Some(latest) = missed.back().copied() else {
            return 0;
        };
        let policy = self.schedule.options.missed;
        let count = u32::try_from(missed.len()).unwrap_or(u32::MAX);
        let waiting = |slot, missed| Waiting {
            slot,
            reason: Reason::Missed,
            attempt: 1,
            missed,
        };
        if policy != Missed::All || too_many {
            left_out.push(self.left_out(count, WhyLeftOut::Missed(policy), latest));
        }
        match policy {
            Missed::Skip => 0,
            Missed::Once => {
                // A slot that is due just now comes next in the queue and takes its place.
                self.queue.push_back(waiting(latest, count));
                count
            }
            Missed::All => {
                self.queue
                    .extend(missed.iter().map(|slot| waiting(*slot, 1)));
                while self.queue.len() > MADE_UP {
                    self.queue.pop_front();
                }
                0
            }
        }
    }

    /// Deals with the slot that is due just now; it stands for `missed` others.
    fn tick(&mut self, slot: Timestamp, missed: u32, running: usize, left_out: &mut Vec<LeftOut>) {
        if missed > 0 {
            self.queue.pop_back();
        }
        let overlap = self.schedule.options.overlap;
        if overlap == Overlap::Skip && running > 0 {
            left_out.push(self.left_out(1, WhyLeftOut::Overlap, slot));
            return;
        }
        self.queue.push_back(Waiting {
            slot,
            reason: Reason::Tick,
            attempt: 1,
            missed,
        });
        let ticks = self
            .queue
            .iter()
            .filter(|other| other.reason == Reason::Tick);
        if ticks.count() > QUEUED
            && let Some(oldest) = self
                .queue
                .iter()
                .position(|other| other.reason == Reason::Tick)
            && let Some(gone) = self.queue.remove(oldest)
        {
            left_out.push(self.left_out(1, WhyLeftOut::Overlap, gone.slot));
        }
    }

    fn left_out(&self, count: u32, why: WhyLeftOut, latest: Timestamp) -> LeftOut {
        LeftOut {
            name: self.schedule.options.name.clone(),
            script: self.schedule.script.clone(),
            count,
            why,
            latest,
        }
    }

    /// When attempt `attempt` of `slot`, which failed at `now`, is tried again.
    pub(crate) fn retry(&self, slot: Timestamp, attempt: u32, now: Timestamp) -> Option<RetryDue> {
        let retry = self.schedule.options.retry;
        if attempt > retry.attempts {
            return None;
        }
        let wait = retry.wait(attempt, self.spread(slot, attempt));
        Some(RetryDue {
            at: later(now, wait),
            slot,
            attempt: attempt + 1,
        })
    }

    /// A number within 0..1 that is the same whenever the same is asked, and another for every
    /// schedule and slot.
    fn spread(&self, slot: Timestamp, attempt: u32) -> f64 {
        let who = match &self.schedule.options.name {
            Some(name) => name,
            None => &self.schedule.at,
        };
        let slot = slot.as_microsecond().to_le_bytes();
        let octets = who.bytes().chain(slot).chain(attempt.to_le_bytes());
        // FNV-1a, and the last steps of MurmurHash3 to mix what it leaves in the high bits.
        let mut hash = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, ready};

    use super::*;
    use crate::job::{Job, JobError, Run};
    use crate::options::Options;

    struct Nothing;

    impl Job for Nothing {
        fn run(&self, _: Run) -> BoxFuture<'static, Result<(), JobError>> {
            ready(Ok(())).boxed()
        }
    }

    #[test]
    fn of_two_answers_of_the_store_the_later_one_holds() {
        let now = Timestamp::UNIX_EPOCH;
        let schedule = Arc::new(Schedule {
            plan: Plan::Every(Duration::from_mins(1)),
            options: Options::default(),
            job: Arc::new(Nothing),
            script: "a.lua".to_owned(),
            at: "a.lua:1".to_owned(),
        });
        let row = Row::new("a.lua", "every 1m", None, now);
        let stamped = |stamp, paused| Row {
            paused,
            stamp,
            ..row.clone()
        };
        let mut entry = Entry::new(1, schedule, row.clone(), now);

        entry.refreshed(stamped(2, true), now);
        entry.refreshed(stamped(1, false), now);
        assert!(entry.row.paused);
        entry.refreshed(stamped(3, false), now);
        assert!(!entry.row.paused);
    }
}
