//! What people do to queued messages: retry, hold, release, remove.

use jiff::Timestamp;
use rusqlite::params;

use super::row::stamp;
use super::schema::code;
use super::settle::refresh;
use super::writer::Transaction;
use crate::error::SpoolError;
use crate::state::StateKind;

/// A change to messages.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Retry(Timestamp),
    Hold(Timestamp, String),
    Release(Timestamp),
    Remove,
}

impl Change {
    /// Whether something is due because of it.
    pub(crate) fn wakes(&self) -> bool {
        matches!(self, Self::Retry(_) | Self::Release(_))
    }

    /// Does it to one message, of which `only` recipients in one state may be meant; whether that
    /// changed anything.
    pub(crate) fn apply(
        &self,
        transaction: &Transaction<'_>,
        message: i64,
        only: Option<StateKind>,
    ) -> Result<bool, SpoolError> {
        match self {
            Self::Retry(now) => retry(transaction, message, *now, only),
            Self::Hold(now, why) => hold(transaction, message, *now, why),
            Self::Release(now) => release(transaction, message, *now),
            Self::Remove => remove(transaction, message),
        }
    }
}

/// Of what was put off, nothing goes again that nobody knows of, unless that is meant, too.
fn retry(
    transaction: &Transaction<'_>,
    message: i64,
    now: Timestamp,
    only: Option<StateKind>,
) -> Result<bool, SpoolError> {
    let changed = transaction.execute(
        "UPDATE recipient SET state = ?3, due_at = ?2, lease = NULL, changed_at = ?2
            WHERE message = ?1 AND state IN (?4, ?5, ?6, ?7) AND state = coalesce(?8, state)",
        params![
            message,
            stamp(now),
            code(StateKind::Queued),
            code(StateKind::Deferred),
            code(StateKind::Held),
            code(StateKind::Failed),
            code(StateKind::Unknown),
            only.map(code),
        ],
    )?;
    renew(transaction, message, now, changed)
}

fn release(
    transaction: &Transaction<'_>,
    message: i64,
    now: Timestamp,
) -> Result<bool, SpoolError> {
    let changed = transaction.execute(
        "UPDATE recipient SET state = ?3, lease = NULL, changed_at = ?2, due_at = CASE
                WHEN attempts = 0 THEN
                    max(?2, coalesce((SELECT send_at FROM message WHERE id = ?1), ?2))
                ELSE ?2 END
            WHERE message = ?1 AND state = ?4",
        params![
            message,
            stamp(now),
            code(StateKind::Queued),
            code(StateKind::Held)
        ],
    )?;
    renew(transaction, message, now, changed)
}

/// A person wants it sent, however old it is.
fn renew(
    transaction: &Transaction<'_>,
    message: i64,
    now: Timestamp,
    changed: usize,
) -> Result<bool, SpoolError> {
    if changed == 0 {
        return Ok(false);
    }
    transaction.execute(
        "UPDATE message SET waiting_since = max(?2, coalesce(send_at, ?2)),
            expires_at = CASE WHEN expires_at > ?2 THEN expires_at END WHERE id = ?1",
        params![message, stamp(now)],
    )?;
    refresh(transaction, message, now)?;
    Ok(true)
}

fn hold(
    transaction: &Transaction<'_>,
    message: i64,
    now: Timestamp,
    why: &str,
) -> Result<bool, SpoolError> {
    let changed = transaction.execute(
        "UPDATE recipient SET state = ?3, due_at = NULL, changed_at = ?2, why = ?4
            WHERE message = ?1 AND due_at IS NOT NULL",
        params![message, stamp(now), code(StateKind::Held), why],
    )?;
    if changed > 0 {
        refresh(transaction, message, now)?;
    }
    Ok(changed > 0)
}

/// Forgets a message, unless some of it is being sent.
pub(crate) fn remove(transaction: &Transaction<'_>, message: i64) -> Result<bool, SpoolError> {
    let removed = transaction.execute(
        "DELETE FROM message WHERE id = ?1 AND NOT EXISTS
            (SELECT 1 FROM recipient WHERE message = ?1 AND state = ?2)",
        params![message, code(StateKind::Sending)],
    )?;
    if removed == 0 {
        return Ok(false);
    }
    transaction.execute("DELETE FROM recipient WHERE message = ?", [message])?;
    transaction.execute("DELETE FROM body WHERE message = ?", [message])?;
    Ok(true)
}
