//! Queued mail in a test: delivered in the case's time, from its first queued message on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use jiff::Timestamp;
use postrider_schedule::Clock;
use tokio::task::AbortHandle;

use super::clock::TestClock;
use crate::app::App;

/// What delivery does every now and then it does in a test no more often than this: nobody else
/// has the queue, and a case that lets days pass is not to take long.
const NOW_AND_THEN: Duration = Duration::from_mins(5);

/// Delivers what is queued, until it is aborted.
pub(super) fn begin(app: &App, clock: &TestClock) -> AbortHandle {
    let (app, clock) = (app.clone(), Arc::new(Unhurried(clock.clone())));
    let delivering = async move {
        app.has_queued().await;
        // Attempts come when the waits say, no quarter earlier or later.
        let delivery = app.delivery_by(clock, Arc::new(|| 0.5)).await?;
        let ended = delivery.run().await;
        ended.map_err(|error| crate::app::queue::failure(&error))
    };
    let delivering = delivering.map(|ended| {
        if let Err(failure) = ended {
            tracing::error!("queued mail is not delivered: {failure}");
        }
    });
    tokio::spawn(delivering).abort_handle()
}

/// The case's clock, for somebody who looks around every now and then. Moments that are waited
/// for come when they come.
struct Unhurried(TestClock);

impl Clock for Unhurried {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.0.sleep_until(at)
    }

    /// Less than a second is there to gather what comes at once: where the clock stands, all has
    /// come that will.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        if span < Duration::from_secs(1) {
            return ready(()).boxed();
        }
        self.0.sleep(span.max(NOW_AND_THEN))
    }

    fn set_back(&self) -> BoxFuture<'static, ()> {
        self.0.set_back()
    }
}
