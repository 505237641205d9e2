//! Counts what a run comes to, on its way to the sink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use postrider_spool::{SpoolError, StateKind};

use crate::delivery::Flushed;
use crate::sink::{Sink, Transition};
use crate::throttle::Pause;

pub(crate) struct Tally {
    sink: Arc<dyn Sink>,
    counts: [AtomicU64; StateKind::ALL.len()],
}

impl Tally {
    pub(crate) fn new(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            counts: Default::default(),
        }
    }

    /// What it came to.
    pub(crate) fn flushed(&self, waiting: BTreeMap<String, (Timestamp, String)>) -> Flushed {
        let count = |wanted| {
            let kinds = StateKind::ALL.iter().zip(&self.counts);
            let mut counts = kinds.filter(|(kind, _)| **kind == wanted);
            counts
                .next()
                .map_or(0, |(_, count)| count.load(Ordering::Relaxed))
        };
        Flushed {
            delivered: count(StateKind::Delivered),
            failed: count(StateKind::Failed),
            deferred: count(StateKind::Deferred),
            held: count(StateKind::Held),
            unknown: count(StateKind::Unknown),
            waiting,
        }
    }
}

impl Sink for Tally {
    fn transition(&self, transition: &Transition) {
        let kind = transition.to.kind();
        let position = StateKind::ALL.iter().position(|known| *known == kind);
        if let Some(count) = position.and_then(|position| self.counts.get(position)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sink.transition(transition);
    }

    fn paused(&self, account: &str, pause: &Pause) {
        self.sink.paused(account, pause);
    }

    fn resumed(&self, account: &str) {
        self.sink.resumed(account);
    }

    fn trouble(&self, error: &SpoolError) {
        self.sink.trouble(error);
    }
}
