//! Delivery beside a script in the sandbox, where the queue is in memory and nobody else has it.

use std::pin::pin;

use jiff::Timestamp;
use postrider_delivery::{Flush, Flushed};
use postrider_spool::{Filter, ShownRecipient, SpoolError, State, StateKind};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::{App, queue};
use crate::failure::Failure;

/// Delivery in a sandbox, from the first queued message on, until this is dropped.
pub(super) struct Delivering {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Failure>>,
}

impl Delivering {
    pub(super) fn begin(app: &App) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let app = app.clone();
        let ended = tokio::spawn(async move {
            tokio::select! {
                () = app.has_queued() => {}
                _ = &mut stopped => return Ok(()),
            }
            let delivery = app.delivery().await?;
            let mut running = pin!(delivery.run());
            let ended = tokio::select! {
                ended = &mut running => ended,
                _ = stopped => {
                    delivery.stop();
                    running.await
                }
            };
            ended.map_err(|error| queue::failure(&error))
        });
        Self { stop, ended }
    }

    /// Delivers what is due; answers what is not delivered.
    pub(super) async fn end(self, app: &App) -> Result<Vec<String>, Failure> {
        // It may have ended of itself.
        let _ = self.stop.send(());
        let ended = self.ended.await;
        ended.map_err(|_| Failure::new("internal", "delivery broke down"))??;
        if app.queued_here() == 0 {
            return Ok(Vec::new());
        }
        let flushed = app.delivery().await?.flush(Flush::default()).await;
        let flushed = flushed.map_err(|error| queue::failure(&error))?;
        let left = undelivered(app, &flushed).await;
        left.map_err(|error| queue::failure(&error))
    }
}

/// A line for each recipient that is not delivered.
async fn undelivered(app: &App, flushed: &Flushed) -> Result<Vec<String>, SpoolError> {
    let Ok(queue) = app.queue().await else {
        return Ok(Vec::new());
    };
    let mut lines = Vec::new();
    let mut filter = Filter::default();
    loop {
        let page = queue.store.list(filter.clone()).await?;
        let Some(last) = page.last() else {
            return Ok(lines);
        };
        filter.after = Some(last.id);
        for listed in &page {
            let Some(shown) = queue.store.show(listed.id).await? else {
                continue;
            };
            let account = flushed.waiting.get(&listed.account);
            let due = listed.due_at.filter(|due| *due > app.clock().now());
            let left = shown.recipients.iter();
            let left = left.filter(|one| one.state.kind() != StateKind::Delivered);
            lines.extend(left.map(|one| format!("{}  {}", listed.id, standing(one, due, account))));
        }
    }
}

/// How a recipient stands: what it, or its account, waits for.
fn standing(
    recipient: &ShownRecipient,
    due: Option<Timestamp>,
    account: Option<&(Timestamp, String)>,
) -> String {
    let ShownRecipient { address, state, .. } = recipient;
    let why = match state {
        State::Deferred { until, why } => format!(" until {until}: {why}"),
        State::Queued => match (due, account) {
            (Some(due), _) => format!(", not due before {due}"),
            (None, Some((until, why))) => format!(": the account waits until {until}: {why}"),
            (None, None) => String::new(),
        },
        _ => state
            .why()
            .map_or_else(String::new, |why| format!(": {why}")),
    };
    format!("{address} {}{why}", state.kind().name())
}
