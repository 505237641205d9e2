//! What wants attention next, soonest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::time::SystemTime;

use tokio::sync::Notify;

use super::lock;

/// Times of day with what is to be done then. One thing may be in it several times: whoever
/// takes it out finds out whether there still is something to do.
#[derive(Default)]
pub(crate) struct Agenda {
    entries: Mutex<BinaryHeap<Reverse<(SystemTime, usize)>>>,
    changed: Notify,
}

impl Agenda {
    /// `item` wants attention at this time.
    pub(crate) fn add(&self, at: SystemTime, item: usize) {
        let mut entries = lock(&self.entries);
        let first = entries.peek().is_none_or(|Reverse((first, _))| at < *first);
        entries.push(Reverse((at, item)));
        drop(entries);
        if first {
            self.changed.notify_one();
        }
    }

    /// Takes out the first item whose time has come; else says when the next one's comes.
    pub(crate) fn take(&self, now: SystemTime) -> Result<(SystemTime, usize), Option<SystemTime>> {
        let mut entries = lock(&self.entries);
        match entries.peek() {
            Some(Reverse(entry)) if entry.0 <= now => {
                let entry = *entry;
                entries.pop();
                Ok(entry)
            }
            later => Err(later.map(|Reverse((at, _))| *at)),
        }
    }

    /// When the first item's time comes.
    pub(crate) fn first(&self) -> Option<SystemTime> {
        lock(&self.entries).peek().map(|Reverse((at, _))| *at)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.entries).len()
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        lock(&self.entries).clear();
    }

    /// Waits until something sooner than all else was added.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_soonest_comes_first_and_nothing_comes_early() {
        let agenda = Agenda::default();
        assert_eq!(agenda.take(at(100)), Err(None));
        for (when, item) in [(30, 3), (10, 1), (20, 2)] {
            agenda.add(at(when), item);
        }

        assert_eq!(agenda.first(), Some(at(10)));
        assert_eq!(agenda.take(at(9)), Err(Some(at(10))));
        assert_eq!(agenda.take(at(25)), Ok((at(10), 1)));
        assert_eq!(agenda.take(at(25)), Ok((at(20), 2)));
        assert_eq!(agenda.take(at(25)), Err(Some(at(30))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sleeps_is_woken_for_what_is_sooner() {
        let agenda = Agenda::default();
        agenda.add(at(10), 0);
        agenda.changed().await;
        agenda.add(at(20), 1);
        let nothing = tokio::time::timeout(Duration::from_secs(1), agenda.changed()).await;
        assert!(nothing.is_err());
        agenda.add(at(5), 2);
        agenda.changed().await;
    }
}
