//! How much is asked of one provider at a time.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::lock;
use super::mutation::mutated;
use super::parameters::Parameters;

/// What one provider is asked, by this process.
pub(crate) struct Issuer {
    inflight: Semaphore,
    spacing: Duration,
    /// Before then no further request starts.
    next: Mutex<Instant>,
}

impl Issuer {
    pub(crate) fn new(parameters: &Parameters) -> Self {
        Self {
            inflight: Semaphore::new(parameters.issuer_inflight.max(1)),
            spacing: Duration::from_secs(1) / parameters.issuer_rate.max(1),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Whether a new one would do as well.
    pub(crate) fn is_idle(&self) -> bool {
        *lock(&self.next) <= Instant::now()
    }

    /// Waits for a turn; the request is over when the permit is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        let permit = self.inflight.acquire().await.ok()?;
        self.moment().await;
        Some(permit)
    }

    /// Waits for the moment when whoever has a turn may make a request.
    pub(crate) async fn moment(&self) {
        let moment = {
            let mut next = lock(&self.next);
            let moment = Instant::now().max(*next);
            *next = moment + self.spacing;
            moment
        };
        if !mutated!(TakesNoTurns) {
            sleep_until(moment).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_sees_no_more_requests_than_it_may() {
        let issuer = Issuer::new(&Parameters::default());
        let begun = Instant::now();
        let turns = (0..100).map(|_| async {
            let permit = issuer.turn().await.unwrap();
            drop(permit);
            begun.elapsed()
        });
        let starts = join_all(turns).await;

        for second in 0..10 {
            let in_it = starts.iter().filter(|start| start.as_secs() == second);
            assert_eq!(in_it.count(), 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_are_under_way_than_may_be() {
        let issuer = Issuer::new(&Parameters::default());
        let held = join_all((0..16).map(|_| issuer.turn())).await;
        let wait = Duration::from_hours(1);
        assert!(tokio::time::timeout(wait, issuer.turn()).await.is_err());

        drop(held);
        assert!(tokio::time::timeout(wait, issuer.turn()).await.is_ok());
    }
}
