//! What a run knows of one account.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use postrider_spool::{Back, Began, PaceLimit, Slot};
use tokio::sync::{Notify, oneshot};

use crate::judge::Consequence;
use crate::ledger::Entry;
use crate::shared::Shared;
use crate::throttle::{Pause, PauseKind, Throttle, later};

pub(crate) struct Account {
    pub(crate) name: String,
    /// There is more to send than the sessions there are can take.
    pub(crate) more: Notify,
    /// Sessions that run, or are about to.
    open: AtomicUsize,
    /// Messages begun so far.
    begun: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    throttle: Throttle,
    pause: Option<Pause>,
    /// When it was last parked no longer; mail does not grow old while it is.
    resumed_at: Option<Timestamp>,
    /// Recipients in an envelope that the server was last seen to bear.
    recipients: Option<u32>,
    /// Sessions that wait in the route's pool.
    lingering: Vec<(Slot, Timestamp)>,
    answer: Answer,
}

/// What the store said last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    /// When it is worth asking again.
    pub(crate) next: Option<Timestamp>,
    /// Whether asking earlier is in vain, whatever is queued meanwhile.
    pub(crate) firm: bool,
    /// The limit that says so.
    pub(crate) limit: Option<PaceLimit>,
}

/// How long a store that failed, or a place for a session, is not asked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Answer {
    /// There was no answer, or nothing could be made of it.
    pub(crate) fn failed(now: Timestamp) -> Self {
        Self {
            next: Some(later(now, LOOK_AGAIN)),
            firm: true,
            limit: None,
        }
    }
}

impl State {
    /// Keeps the end of a pause that has passed, where it matters for the age of mail.
    fn age(&mut self, now: Timestamp) {
        if let Some(pause) = self.pause.take_if(|pause| pause.until <= now)
            && pause.kind == PauseKind::Park
        {
            self.resumed_at = self.resumed_at.max(Some(pause.until));
        }
    }
}

/// One session of an account.
pub(crate) struct Open(Arc<Account>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            more: Notify::new(),
            open: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Counts a session until it is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// Whether another session runs beside the one that asks.
    pub(crate) fn has_others_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 1
    }

    /// Messages begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held cannot have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing of it is sent now.
    pub(crate) fn paused(&self, now: Timestamp) -> Option<Pause> {
        let pause = self.state().pause.clone();
        pause.filter(|pause| pause.until > now)
    }

    /// How many sessions it may have now.
    pub(crate) fn sessions(&self, limit: u32) -> usize {
        usize::try_from(self.state().throttle.sessions(limit)).unwrap_or(usize::MAX)
    }

    /// The server took a message.
    pub(crate) fn accepted(&self, limit: u32) {
        self.state().throttle.accepted(limit);
    }

    /// What the account makes of a failure; until when it pauses.
    pub(crate) fn failed(
        &self,
        shared: &Shared,
        consequence: Consequence,
        limit: u32,
        why: &str,
    ) -> Option<Timestamp> {
        let now = shared.now();
        let chance = (&shared.policy, shared.random());
        let mut state = self.state();
        if let Some(pause) = state.throttle.failed(consequence, limit, why, now, chance) {
            state.pause = Some(pause.clone());
            drop(state);
            let back = Back {
                until: pause.until,
                why: format!("{}: {}", pause.kind.name(), pause.why),
            };
            shared.write(Entry::BackOff(self.name.clone(), Some(back), None));
            shared.sink.paused(&self.name, &pause);
            return Some(pause.until);
        }
        state.pause.as_ref().map(|pause| pause.until)
    }

    /// Takes over what the store says holds the account back: it is from an earlier run, or from
    /// another process.
    pub(crate) fn take_over(&self, back: Option<&Back>, now: Timestamp) {
        let mut state = self.state();
        state.age(now);
        let holds = back.is_some_and(|back| back.until > now);
        if !holds && state.pause.take().is_some() {
            state.throttle.resumed();
        }
        let Some(back) = back else { return };
        let (kind, why) = PauseKind::read(&back.why);
        if holds {
            state.pause = Some(Pause {
                kind,
                until: back.until,
                why: why.to_owned(),
            });
        } else if kind == PauseKind::Park {
            state.resumed_at = state.resumed_at.max(Some(back.until));
        }
    }

    /// Ends a pause before its time, because a token came or because somebody said so; resolves
    /// when the store knows. `None`, if there is none.
    pub(crate) fn resume(&self, shared: &Shared, token: bool) -> Option<oneshot::Receiver<()>> {
        let now = shared.now();
        let mut state = self.state();
        state.age(now);
        let pause = state.pause.take().filter(|pause| pause.until > now)?;
        if token {
            state.throttle.trusted();
        } else {
            state.throttle.resumed();
        }
        // When it was parked is remembered by the end of the pause, also after a restart.
        let back = (pause.kind == PauseKind::Park).then(|| {
            state.resumed_at = Some(now);
            Back {
                until: now,
                why: format!("{}: {}", pause.kind.name(), pause.why),
            }
        });
        drop(state);
        let (done, written) = oneshot::channel();
        shared.write(Entry::BackOff(self.name.clone(), back, Some(done)));
        shared.sink.resumed(&self.name);
        Some(written)
    }

    /// How long a token that is there at once is doubted.
    pub(crate) fn doubt(&self, shared: &Shared) -> Duration {
        self.state().throttle.doubt(&shared.policy)
    }

    /// Mail accepted before this time is too old; `None`: none is, for it was parked.
    pub(crate) fn too_old(&self, shared: &Shared) -> Option<Timestamp> {
        let now = shared.now();
        let bound = now.checked_sub(shared.policy.max_age).ok()?;
        let mut state = self.state();
        state.age(now);
        let parked = |pause: &Pause| pause.kind == PauseKind::Park && pause.until > now;
        let resumed = state.resumed_at.is_none_or(|resumed| resumed <= bound);
        (resumed && !state.pause.as_ref().is_some_and(parked)).then_some(bound)
    }

    /// How many recipients one envelope may have.
    pub(crate) fn recipients(&self, limit: u32) -> u32 {
        let bearable = self.state().recipients.unwrap_or(limit);
        bearable.clamp(1, limit.max(1))
    }

    /// An envelope of this size was too large.
    pub(crate) fn split(&self, recipients: usize) {
        let half = u32::try_from(recipients / 2).unwrap_or(u32::MAX).max(1);
        let mut state = self.state();
        state.recipients = Some(state.recipients.map_or(half, |known| known.min(half)));
    }

    /// The place of a session that waits in the pool, or none.
    pub(crate) fn take_lingering(&self, now: Timestamp) -> Option<Slot> {
        let mut state = self.state();
        state.lingering.retain(|(_, until)| *until > now);
        state.lingering.pop().map(|(slot, _)| slot)
    }

    /// Keeps the place of a session that its route keeps open.
    pub(crate) fn linger(&self, slot: Slot, until: Timestamp) {
        self.state().lingering.push((slot, until));
    }

    /// Frees the places of sessions that have been closed by now; when the next will be.
    pub(crate) fn let_go(&self, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.state();
        state.lingering.retain(|(_, until)| *until > now);
        state.lingering.iter().map(|(_, until)| *until).min()
    }

    /// What the store said, and how many messages it handed out.
    pub(crate) fn began(&self, began: &Began) {
        let count = u64::try_from(began.claims.len()).unwrap_or(u64::MAX);
        self.begun.fetch_add(count, Ordering::Relaxed);
        self.answered(Answer {
            next: began.next,
            firm: began.held_back_by.is_some(),
            limit: began.held_back_by,
        });
    }

    pub(crate) fn answered(&self, answer: Answer) {
        self.state().answer = answer;
    }

    pub(crate) fn answer(&self) -> Answer {
        self.state().answer
    }
}
