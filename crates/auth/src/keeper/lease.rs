//! The right to change a grant, which one process has at a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::grant::Grant;
use super::parameters::Parameters;
use super::store::{Shelf, StoreLock};
use crate::error::{AuthError, AuthErrorKind};

impl Grant {
    /// Takes the grant's lock; waits for it as long as another process is believed to work.
    pub(super) async fn acquire(&self) -> Result<StoreLock, AuthError> {
        let mut wait = Wait::new(&self.shared.parameters);
        loop {
            if let Some(lock) = self.try_acquire(&mut wait).await? {
                return Ok(lock);
            }
        }
    }

    /// Takes the grant's lock, or else waits a little.
    pub(super) async fn try_acquire(
        &self,
        wait: &mut Wait,
    ) -> Result<Option<StoreLock>, AuthError> {
        let locked = self.shared.try_lock(Shelf::Grant, self.key).await;
        let locked = locked.map_err(|error| self.store_failed(&error))?;
        if locked.is_none() && !wait.again().await {
            let message = "another process has been refreshing for too long";
            return Err(self.error(AuthErrorKind::Transient, message));
        }
        Ok(locked)
    }
}

/// Waiting for a lock that another process has.
pub(super) struct Wait {
    pause: Duration,
    longest: Duration,
    deadline: Instant,
}

impl Wait {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let (pause, longest) = parameters.lock_poll;
        Self {
            pause,
            longest,
            deadline: Instant::now() + parameters.lease,
        }
    }

    /// Waits a little; false once it has been long enough.
    async fn again(&mut self) -> bool {
        if Instant::now() >= self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause + self.pause / 2).min(self.longest);
        true
    }
}
