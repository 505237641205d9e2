//! Writes down what became of messages, so that no session waits for the disk.
//!
//! One task takes everything that waits, writes it with one request, and tells the sink. What
//! cannot be written is tried until it can; nothing further is begun meanwhile. A run that ends
//! before leaves `sending` behind, which the next one finds as unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use postrider_smtp::BodyChecker;
use postrider_spool::{
    Aged, Back, Body, Facts, NewMessage, QueueId, Select, Settled, Settlement, SpoolError, State,
    StateKind,
};
use tokio::sync::{mpsc, oneshot};

use crate::policy::{OnUnknown, Report};
use crate::report::{self, Failure, Told};
use crate::shared::Shared;
use crate::sink::Transition;

/// Entries written with one request.
const AT_ONCE: usize = 512;
/// Of a message's beginning, searched for the end of its header.
const HEADER_OCTETS: usize = 64 * 1024;

/// Something to be written down.
pub(crate) enum Entry {
    /// An account rests, or no longer; told when it is on the disk.
    BackOff(String, Option<Back>, Option<oneshot::Sender<()>>),
    /// What became of some recipients, and who of them is to be told of to the sender.
    Settle(Settlement, Vec<Failure>),
    /// Everything before it has been written.
    End,
}

/// Writes until [`Entry::End`].
pub(crate) async fn keep(shared: Arc<Shared>, mut entries: mpsc::UnboundedReceiver<Entry>) {
    let mut batch = Vec::new();
    let mut ended = false;
    while !ended {
        let count = entries.recv_many(&mut batch, AT_ONCE).await;
        let mut settlements = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                // Before the settlements that it is the cause of: what goes back to the queue
                // is not begun again at once.
                Entry::BackOff(account, back, done) => {
                    let ask = || {
                        let now = shared.now();
                        shared.store.back_off(&account, back.clone(), now)
                    };
                    shared.insist(ask).await;
                    if let Some(done) = done {
                        // Whoever asked may have lost interest.
                        let _ = done.send(());
                    }
                }
                Entry::Settle(settlement, failures) => {
                    let key = settlement.lease.number().to_string();
                    // First the report: it is about what the server has answered already.
                    tell_sender(&shared, settlement.id, &key, &failures).await;
                    settlements.push(settlement);
                }
                Entry::End => ended = true,
            }
        }
        if !settlements.is_empty() {
            settle(&shared, settlements).await;
            shared.nudge.notify_one();
        }
        shared.backlog.fetch_sub(count, Ordering::Relaxed);
        if count == 0 {
            return;
        }
    }
}

async fn settle(shared: &Shared, settlements: Vec<Settlement>) {
    let ask = || shared.store.settle(settlements.clone(), shared.now());
    for settled in shared.insist(ask).await.unwrap_or_default() {
        if !settled.fenced.is_empty() {
            tracing::warn!(id = %settled.id, "somebody else took the message over");
        }
        tell(shared, settled, StateKind::Sending);
    }
}

fn tell(shared: &Shared, settled: Settled, from: StateKind) {
    let at = shared.now();
    for changed in settled.transitions {
        shared.sink.transition(&Transition {
            at,
            id: settled.id,
            account: settled.account.clone(),
            message_id: settled.message_id.clone(),
            recipient: changed.recipient,
            from,
            to: changed.to,
            attempts: changed.attempts,
        });
    }
}

/// Finds what earlier runs left behind in the middle: nobody knows what became of it.
pub(crate) async fn recover(shared: &Shared) -> Result<(), SpoolError> {
    let recovered = shared.store.recover(shared.now()).await?;
    let ids: Vec<_> = recovered.iter().map(|message| message.id).collect();
    for message in recovered {
        let settled = Settled {
            id: message.id,
            account: message.account,
            message_id: message.message_id,
            transitions: message.transitions,
            fenced: Vec::new(),
            finished: false,
        };
        tell(shared, settled, StateKind::Sending);
    }
    if shared.policy.unknown == OnUnknown::Retry && !ids.is_empty() {
        retry_unknown(shared, ids).await?;
    }
    Ok(())
}

/// Queues what is unknown of these messages, and nothing else of them: of one that has failed or
/// held recipients, too, it stays unknown.
async fn retry_unknown(shared: &Shared, ids: Vec<QueueId>) -> Result<(), SpoolError> {
    let mut wholly = Vec::new();
    for id in ids {
        let Some(shown) = shared.store.show(id).await? else {
            continue;
        };
        let mut recipients = shown.recipients.iter().map(|one| one.state.kind());
        if !recipients.any(|kind| matches!(kind, StateKind::Failed | StateKind::Held)) {
            wholly.push(id);
        }
    }
    let now = shared.now();
    shared.store.retry(Select::Ids(wholly), now).await?;
    shared.nudge.notify_one();
    Ok(())
}

/// Fails what is too old, for its sender or for the accounts that say since when.
pub(crate) async fn expire(shared: &Shared, aged: &[Aged]) -> Result<(), SpoolError> {
    for round in 0_u32.. {
        let expired = shared.store.expire(aged.to_vec(), shared.now()).await?;
        if expired.is_empty() {
            break;
        }
        for settled in expired {
            let failures: Vec<_> = settled.transitions.iter().filter_map(timed_out).collect();
            let id = settled.id;
            tell(shared, settled, StateKind::Queued);
            let key = format!("{}-{round}", shared.now().as_millisecond());
            tell_sender(shared, id, &key, &failures).await;
        }
    }
    Ok(())
}

fn timed_out(changed: &postrider_spool::Transition) -> Option<Failure> {
    let State::Failed { why } = &changed.to else {
        return None;
    };
    Some(Failure {
        recipient: changed.recipient.clone(),
        // RFC 3463 §3.5: delivery time expired.
        status: "4.4.7".to_owned(),
        reply: None,
        why: why.clone(),
    })
}

/// Queues a report to the message's sender. The store keeps a second one for the same failure
/// out by `key`; one that cannot be queued is trouble, and not tried again: its failure has been
/// told to the sink.
async fn tell_sender(shared: &Shared, id: QueueId, key: &str, failures: &[Failure]) {
    if failures.is_empty() || shared.policy.report == Report::None {
        return;
    }
    if let Err(error) = try_to_tell_sender(shared, id, key, failures).await {
        shared.sink.trouble(&error);
    }
}

async fn try_to_tell_sender(
    shared: &Shared,
    id: QueueId,
    key: &str,
    failures: &[Failure],
) -> Result<(), SpoolError> {
    let Some(shown) = shared.store.show(id).await? else {
        return Ok(());
    };
    // A report has no reverse-path either, so there is none on a report.
    let Some(sender) = shown.listed.reverse_path.as_deref() else {
        return Ok(());
    };
    let known = shown.recipients.iter();
    let known: HashMap<_, _> = known.map(|one| (one.address.as_str(), one)).collect();
    // Each sender's wish for each recipient (RFC 3461 §4.1).
    let failures: Vec<_> = failures
        .iter()
        .filter_map(|failure| {
            let recipient = known.get(failure.recipient.as_str());
            let notify = recipient.and_then(|one| one.notify);
            let original = recipient.and_then(|one| one.orcpt.as_deref());
            notify
                .is_none_or(|notify| notify.failure)
                .then_some(Told { failure, original })
        })
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    let account = &shown.listed.account;
    let header = first_octets(shared, id).await?;
    let reporter = shared
        .routes
        .route(account)
        .and_then(|route| route.reporter());
    let postmaster = || format!("postmaster@{}", report::domain(sender));
    let reporter = reporter.unwrap_or_else(postmaster);
    let name = format!("{id}.{key}");
    let built = report::build(&report::Account {
        reporter: &reporter,
        sender,
        name: &name,
        message_id: &shown.listed.message_id,
        arrived: shown.listed.accepted_at,
        envelope_id: shown.dsn.envid.as_deref(),
        header: report::header(&header),
        failures: &failures,
        now: shared.now(),
    });
    let mut checker = BodyChecker::default();
    let Ok(facts) = checker.push(&built).and_then(|()| checker.finish()) else {
        // Made here of checked parts, so this is for the day when that is no longer true.
        tracing::error!(%id, "the failure report may not go on the wire");
        return Ok(());
    };
    let message_id = report::message_id(&name, &reporter);
    let recipients = vec![sender.to_owned()];
    let mut message = NewMessage::new(account, recipients, &message_id, Body::from(built));
    message.facts = Facts {
        eight_bit: facts.eight_bit,
        smtputf8: facts.non_ascii_header,
    };
    message.idempotency_key = Some(format!("report {name}"));
    message.origin = format!("failure report on {id}");
    shared.store.accept(message, shared.now()).await?;
    Ok(())
}

async fn first_octets(shared: &Shared, id: QueueId) -> Result<Vec<u8>, SpoolError> {
    let body = shared.store.stored(id).await?;
    let mut octets = vec![0; HEADER_OCTETS.min(usize::try_from(body.len()).unwrap_or(usize::MAX))];
    let mut filled = 0;
    while filled < octets.len() {
        let offset = u64::try_from(filled).unwrap_or(u64::MAX);
        match body.read_at(offset, &mut octets[filled..]).await {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    // A body that cannot be read is reported without its header.
    octets.truncate(filled);
    Ok(octets)
}
