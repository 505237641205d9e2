//! What the parts of one run have in common.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use postrider_schedule::Clock;
use postrider_spool::{Claim, Holder, HolderId, SpoolError, State, StateKind, Store};
use tokio::sync::{Notify, mpsc, watch};

use crate::ledger::Entry;
use crate::policy::{Policy, Random};
use crate::route::Routes;
use crate::sink::{Sink, Transition};

/// Verdicts that may wait to be written before no further message is begun.
const BACKLOG: usize = 4096;
/// Between attempts at a store that fails.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How far a run has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// At work.
    Work,
    /// Nothing new is begun; what is in flight goes on.
    Drain,
    /// What is in flight is cut off.
    Abort,
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) routes: Arc<dyn Routes>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) policy: Policy,
    pub(crate) random: Random,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) holder: Mutex<Holder>,
    pub(crate) ledger: mpsc::UnboundedSender<Entry>,
    /// Entries of the ledger that are not on the disk yet.
    pub(crate) backlog: AtomicUsize,
    /// The store fails.
    pub(crate) stuck: AtomicBool,
    /// Something may be due at another time than before.
    pub(crate) nudge: Notify,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn random(&self) -> f64 {
        (self.random)()
    }

    pub(crate) fn holder(&self) -> HolderId {
        let holder = self.holder.lock();
        holder.unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Whether anything may be begun at all.
    pub(crate) fn may_begin(&self) -> bool {
        *self.stage.borrow() == Stage::Work
            && !self.stuck.load(Ordering::Relaxed)
            && self.backlog.load(Ordering::Relaxed) < BACKLOG
    }

    /// Resolves when the run has come as far as `stage`.
    pub(crate) fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<> {
        let mut watched = self.stage.clone();
        async move {
            // Whoever tells the stage is gone: so is the run.
            let _ = watched.wait_for(|now| *now >= stage).await;
        }
    }

    /// Leaves it to the ledger, which never waits for whoever asks.
    pub(crate) fn write(&self, entry: Entry) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        if self.ledger.send(entry).is_err() {
            self.backlog.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Tells of a message that a session has now.
    pub(crate) fn began(&self, account: &str, claim: &Claim) {
        for recipient in &claim.recipients {
            self.sink.transition(&Transition {
                at: self.now(),
                id: claim.id,
                account: account.to_owned(),
                message_id: claim.message_id.clone(),
                recipient: recipient.address.clone(),
                from: StateKind::Queued,
                to: State::Sending,
                attempts: claim.attempts,
            });
        }
    }

    /// Asks the store until it does it; gives up only when the run is cut off.
    pub(crate) async fn insist<T, A>(&self, mut ask: impl FnMut() -> A) -> Option<T>
    where
        A: Future<Output = Result<T, SpoolError>>,
    {
        let mut wait = FIRST_WAIT;
        loop {
            match ask().await {
                Ok(answer) => {
                    if self.stuck.swap(false, Ordering::Relaxed) {
                        self.nudge.notify_one();
                    }
                    return Some(answer);
                }
                Err(error) => self.sink.trouble(&error),
            }
            self.stuck.store(true, Ordering::Relaxed);
            if *self.stage.borrow() == Stage::Abort {
                return None;
            }
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = self.reached(Stage::Abort) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}
