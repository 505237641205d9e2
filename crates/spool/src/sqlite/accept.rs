//! Taking a message in.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use super::pace;
use super::row::{dsn_text, facts_code, integer, notify_code, priority_code, span, stamp, time};
use super::schema::code;
use super::segment::{Placed, sum};
use super::writer::Transaction;
use crate::error::{SpoolError, SpoolErrorKind};
use crate::id::QueueId;
use crate::message::{Accepted, NewMessage, Recipient};
use crate::state::StateKind;

use std::sync::Arc;
use std::time::Duration;

/// Where a body is.
#[derive(Clone)]
pub(crate) enum Where {
    Inline(Arc<[u8]>),
    Segment(Arc<Placed>),
}

/// Each recipient once, in order.
pub(crate) fn distinct(recipients: &mut Vec<Recipient>) -> Result<(), SpoolError> {
    let mut seen = std::collections::HashSet::new();
    recipients.retain(|recipient| seen.insert(recipient.address.clone()));
    if recipients.is_empty() {
        let what = "a message without recipients cannot be queued";
        return Err(SpoolError::new(SpoolErrorKind::Io, what));
    }
    Ok(())
}

pub(crate) fn accept(
    transaction: &Transaction<'_>,
    message: &NewMessage,
    body: &Where,
    window: Duration,
    now: Timestamp,
) -> Result<Accepted, SpoolError> {
    let (account, _) = pace::account(transaction, &message.account, now)?;
    if let Some(key) = &message.idempotency_key
        && let Some(first) = receipt(transaction, account, key, window, now)?
    {
        return Ok(first);
    }
    let due_at = message.send_at.map_or(now, |at| at.max(now));
    let (octets, sum, segment, place) = match body {
        Where::Inline(bytes) => (
            integer(bytes.len()),
            sum(Sha256::new_with_prefix(bytes)),
            None,
            None,
        ),
        Where::Segment(placed) => (
            integer(placed.len),
            placed.sum,
            Some(placed.name()),
            Some(integer(placed.place)),
        ),
    };
    let dsn = dsn_text(&message.dsn, &message.recipients);
    transaction.execute(
        "INSERT INTO message (account, priority, due_at, waiting_since, accepted_at, send_at,
            expires_at, reverse_path, message_id, facts, dsn, origin, octets, sum, segment, place)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            account,
            priority_code(message.priority),
            stamp(due_at),
            stamp(due_at),
            stamp(now),
            message.send_at.map(stamp),
            message.expires_at.map(stamp),
            message.reverse_path,
            message.message_id,
            facts_code(message.facts),
            dsn,
            message.origin,
            octets,
            sum,
            segment,
            place,
        ],
    )?;
    let id = transaction.inserted();
    if let Where::Inline(bytes) = body {
        let sql = "INSERT INTO body (message, octets) VALUES (?, ?)";
        transaction.execute(sql, params![id, &**bytes])?;
    }
    let asked = dsn.is_some();
    let mut insert = transaction.sql(
        "INSERT INTO recipient
            (message, n, address, state, due_at, attempts, changed_at, notify, orcpt)
            VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)",
    )?;
    for (n, recipient) in message.recipients.iter().enumerate() {
        let queued = code(StateKind::Queued);
        insert.execute(params![
            id,
            integer(n),
            recipient.address,
            queued,
            stamp(due_at),
            stamp(now),
            asked.then(|| notify_code(recipient.notify)),
            recipient.orcpt,
        ])?;
    }
    if let Some(key) = &message.idempotency_key {
        transaction.execute(
            "INSERT OR REPLACE INTO receipt (account, key, message, message_id, accepted_at)
                VALUES (?, ?, ?, ?, ?)",
            params![account, key, id, message.message_id, stamp(now)],
        )?;
    }
    Ok(Accepted {
        id: QueueId::new(id),
        message_id: message.message_id.clone(),
        duplicate: false,
        accepted_at: now,
    })
}

/// What was accepted under this key, if the window is not over.
fn receipt(
    transaction: &Transaction<'_>,
    account: i64,
    key: &str,
    window: Duration,
    now: Timestamp,
) -> Result<Option<Accepted>, SpoolError> {
    let over = stamp(now).saturating_sub(span(window));
    let first = transaction
        .sql(
            "SELECT message, message_id, accepted_at FROM receipt
                WHERE account = ? AND key = ? AND accepted_at > ?",
        )?
        .query_row(params![account, key, over], |row| {
            Ok(Accepted {
                id: QueueId::new(row.get(0)?),
                message_id: row.get(1)?,
                duplicate: true,
                accepted_at: time(row, 2)?,
            })
        })
        .optional()?;
    Ok(first)
}
