//! One life of a process: its steps, and its death at one of them.
//!
//! A dead process does nothing more that anybody could see: what it awaits never comes, and
//! what it calls has no effect.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::chance::below;
use super::disk::grant;
use super::history::{History, Life, What};
use crate::keeper::step::{GateKeeper, Step};
use crate::keeper::store::{GrantKey, Shelf};

/// The longest that the disk takes for anything.
const DISK_MS: u64 = 12;

/// Who has taken so many steps in one run goes round in circles.
const BUSY: u64 = 30_000;

/// A process while it lives.
pub(super) struct Body {
    pub(super) life: Life,
    pub(super) history: Arc<History>,
    seed: u64,
    /// The step at which it dies, and whether what it does there still happens.
    end: Option<(u64, bool)>,
    steps: AtomicU64,
    /// Steps for each grant, so that chance depends on nothing else.
    numbers: Mutex<BTreeMap<GrantKey, u64>>,
    dead: AtomicBool,
    immortal: AtomicBool,
    pub(super) died: Notify,
}

impl Body {
    pub(super) fn new(
        life: Life,
        history: Arc<History>,
        seed: u64,
        end: Option<(u64, bool)>,
    ) -> Self {
        history.add(What::Started(life));
        Self {
            life,
            history,
            seed,
            end,
            steps: AtomicU64::new(0),
            numbers: Mutex::default(),
            dead: AtomicBool::new(false),
            immortal: AtomicBool::new(false),
            died: Notify::new(),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// `kill -9`.
    pub(super) fn kill(&self) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            self.history.add(What::Died(self.life));
            self.died.notify_one();
        }
    }

    /// A chance of this life, about one thing.
    pub(super) fn below(&self, limit: u64, about: &[u64]) -> u64 {
        let life = [self.life.process as u64, u64::from(self.life.number)];
        below(limit, self.seed, &[&life, about].concat())
    }

    /// From now on it lives.
    pub(super) fn spare(&self) {
        self.immortal.store(true, Ordering::Relaxed);
    }

    fn ends_at(&self, step: u64, done: bool) -> bool {
        self.end == Some((step, done)) && !self.immortal.load(Ordering::Relaxed)
    }

    /// Comes before whatever a process does to the world outside, and takes so long at most.
    /// Does not return to the dead.
    pub(super) async fn step(&self, key: GrantKey, most_ms: u64) {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if self.ends_at(step, false) {
            self.kill();
        }
        if step == BUSY {
            self.history.add(What::Ends {
                grant: grant(&key),
                process: self.life.process,
                state: "busy",
            });
        }
        if step >= BUSY {
            pending::<()>().await;
        }
        if !self.is_dead() && most_ms > 0 {
            let number = {
                let mut numbers = self.numbers.lock().unwrap();
                let number = numbers.entry(key).or_default();
                *number += 1;
                *number
            };
            let ms = self.below(most_ms + 1, &[grant(&key) as u64, number]);
            sleep(Duration::from_millis(ms)).await;
        }
        if self.is_dead() {
            pending::<()>().await;
        }
    }

    /// Comes when a step is done.
    pub(super) fn stepped(&self) {
        let last = self.steps.load(Ordering::Relaxed).saturating_sub(1);
        if self.ends_at(last, true) {
            self.kill();
        }
    }
}

impl GateKeeper for Body {
    fn pass(&self, step: Step, key: GrantKey) -> BoxFuture<'_, ()> {
        let most_ms = match step {
            Step::Store(_, Shelf::Grant) => DISK_MS,
            _ => 0,
        };
        self.step(key, most_ms).boxed()
    }
}
