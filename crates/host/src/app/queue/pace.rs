//! When a message may start that is not queued: in the same pace as those that are, in this
//! process and in all that share the state directory.

use std::time::Duration;

use jiff::Timestamp;
use postrider_config::Limits;
use postrider_spool::{HolderId, PaceLimit, SpoolError, Ticket, Turn};

use super::Desk;
use crate::failure::Failure;
use crate::lua::Activity;

/// Whoever waits for the server's answer waits no longer than this for the turn.
const PATIENCE: Duration = Duration::from_mins(1);

impl Desk {
    /// Waits for a message's turn, on behalf of a task that is at work. The ticket is kept until
    /// the server has answered; a turn once taken is used up, whatever comes of it.
    ///
    /// # Errors
    /// So many recipients were written to in 24 hours that the next turn is too far away.
    pub(in crate::app) async fn turn(
        &self,
        account: &str,
        limits: &Limits,
        recipients: usize,
        activity: &Activity,
    ) -> Result<Option<Ticket>, Failure> {
        let pace = super::ways::pace(limits);
        if pace.is_unlimited() {
            return Ok(None);
        }
        let queue = match self.queue().await {
            Ok(queue) => queue,
            Err(failure) => return Ok(unpaced(account, &failure.message)),
        };
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        loop {
            let now = self.clock.now();
            let store = &*queue.store;
            let ask = |holder: HolderId| store.turn(account, holder, pace, recipients, now);
            let (until, limit) = match self.as_holder(store, ask).await {
                Ok(Turn::Granted(ticket)) => return Ok(Some(ticket)),
                Ok(Turn::Wait(until, limit)) => (until, limit),
                Err(SpoolError { message, .. }) => return Ok(unpaced(account, &message)),
            };
            if until.duration_since(now).unsigned_abs() > PATIENCE {
                return match limit {
                    PaceLimit::RecipientsPerDay => Err(used_up(account, limits, until)),
                    // One message of somebody who wants to know is no burst.
                    _ => Ok(None),
                };
            }
            let wait = until.duration_since(now).as_secs();
            tracing::info!(account, limit = limit.name(), "waits {wait} s for its turn");
            let asleep = activity.sleep(until);
            self.clock.sleep_until(until).await;
            drop(asleep);
        }
    }
}

/// Mail that could go is worth more than its pace: the provider keeps that, too.
fn unpaced(account: &str, why: &str) -> Option<Ticket> {
    tracing::warn!(account, "the pace of other processes is not known: {why}");
    None
}

fn used_up(account: &str, limits: &Limits, until: Timestamp) -> Failure {
    let most = limits.recipients_per_day.unwrap_or_default();
    let message = format!("recipients_per_day ({most}) is used up until {until}");
    Failure::new("queue.recipients_per_day", message)
        .with_account(account)
        .with_remedy("queue the message (wait = \"queued\", send --queue): it goes when it may")
        .retryable()
}
