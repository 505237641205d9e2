//! Knowing that nothing is left to run: a runtime of one thread says so before it goes to sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Told by a runtime with one thread each time that it has nothing to run. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Parking(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asked: AtomicBool,
    parked: Notify,
}

impl Parking {
    /// For `Builder::on_thread_park`.
    pub(super) fn about_to_park(&self) {
        // Who asked is woken, and so the thread does not sleep.
        if self.0.asked.swap(false, Ordering::AcqRel) {
            self.0.parked.notify_one();
        }
    }

    /// Waits until every other task of the runtime waits for something.
    pub(super) async fn parked(&self) {
        self.0.asked.store(true, Ordering::Release);
        self.0.parked.notified().await;
    }
}
