//! Queues to try, and what is said to them over and over.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use postrider_spool::{
    Begin, Body, Claim, HolderId, Lease, NewMessage, Outcome, Pace, Priority, QueueId, Settled,
    Settlement, SpoolSettings, SqliteSpool, State, StateKind, Store,
};
use tempfile::TempDir;

/// Some day, and so many seconds.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A directory in memory, where there is such a file system: thousands of flushes are tried.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        TempDir::new_in(memory).unwrap()
    } else {
        TempDir::new().unwrap()
    }
}

pub(crate) fn settings() -> SpoolSettings {
    SpoolSettings {
        reserve: 0,
        ..SpoolSettings::default()
    }
}

pub(crate) fn open(dir: &TempDir) -> SqliteSpool {
    SqliteSpool::open(dir.path(), settings()).unwrap()
}

/// A message of the account "a" to these recipients.
pub(crate) fn message(recipients: &[&str]) -> NewMessage {
    let recipients = recipients.iter().map(|to| (*to).to_owned());
    let body = Body::from(&b"Subject: x\r\n\r\nbody\r\n"[..]);
    NewMessage::new("a", recipients, "<m@contoso.com>", body)
}

pub(crate) fn with_priority(priority: Priority) -> NewMessage {
    NewMessage {
        priority,
        ..message(&["x@example.org"])
    }
}

pub(crate) fn ask(holder: HolderId, now: Timestamp) -> Begin {
    Begin {
        holder,
        account: "a".to_owned(),
        at_most: 100,
        recipients_per_message: None,
        pace: Pace::default(),
        now,
    }
}

pub(crate) fn told(claim: &Claim, outcome: &Outcome) -> Settlement {
    told_of(claim.id, claim.lease, &addresses(claim), outcome)
}

pub(crate) fn told_of(
    id: QueueId,
    lease: Lease,
    recipients: &[String],
    outcome: &Outcome,
) -> Settlement {
    let recipients = recipients.iter().map(|to| (to.clone(), outcome.clone()));
    Settlement {
        id,
        lease,
        recipients: recipients.collect(),
    }
}

pub(crate) fn delivered() -> Outcome {
    Outcome::Delivered {
        reply: "250 2.0.0 OK".to_owned(),
    }
}

pub(crate) fn deferred(until: Timestamp) -> Outcome {
    Outcome::Deferred {
        until,
        why: "451 4.7.0".to_owned(),
    }
}

pub(crate) async fn settle(
    spool: &SqliteSpool,
    claim: &Claim,
    outcome: &Outcome,
    now: Timestamp,
) -> Settled {
    let settled = spool.settle(vec![told(claim, outcome)], now).await.unwrap();
    settled.into_iter().next().unwrap()
}

/// Where each recipient stands.
pub(crate) async fn states(spool: &SqliteSpool, id: QueueId) -> Vec<State> {
    let shown = spool.show(id).await.unwrap().unwrap();
    shown.recipients.into_iter().map(|to| to.state).collect()
}

pub(crate) async fn kinds(spool: &SqliteSpool, id: QueueId) -> Vec<StateKind> {
    let states = states(spool, id).await;
    states.iter().map(State::kind).collect()
}

pub(crate) fn names(claims: &[Claim]) -> Vec<QueueId> {
    claims.iter().map(|claim| claim.id).collect()
}

/// All octets of a claim's body.
pub(crate) async fn octets(body: &postrider_spool::StoredBody) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 100_000];
    loop {
        let offset = u64::try_from(all.len()).unwrap();
        let count = body.read_at(offset, &mut buffer).await?;
        if count == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&buffer[..count]);
    }
}

/// The database, with all that was in its log.
pub(crate) fn written_back(dir: &TempDir) -> std::path::PathBuf {
    let path = dir.path().join("spool.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(done.unwrap(), 0);
    path
}

/// To whom a claim is to be sent.
pub(crate) fn addresses(claim: &Claim) -> Vec<String> {
    let recipients = claim.recipients.iter();
    recipients.map(|to| to.address.clone()).collect()
}
