//! What became of recipients: told by who sent, concluded of who died, or decided by time.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::pace;
use super::row::{integer, kind, moment, number, stamp, state};
use super::schema::code;
use super::writer::Transaction;
use crate::claim::{Outcome, Settled, Settlement, Transition};
use crate::error::SpoolError;
use crate::id::QueueId;
use crate::query::Aged;
use crate::state::{State, StateKind};

/// What is kept of an outcome's text: a reply is bounded, whoever wrote it.
const WHY: usize = 2000;

pub(crate) fn settle(
    transaction: &Transaction<'_>,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<Settled, SpoolError> {
    let id = settlement.id.number();
    let mut held = held_by(transaction, id, settlement.lease.0)?;
    let mut settled = about(transaction, id)?;
    let mut unsettled = 0;
    let mut gone = 0;
    for (address, outcome) in &settlement.recipients {
        let Some(recipient) = held.remove(address) else {
            settled.fenced.push(address.clone());
            continue;
        };
        if recipient.sending {
            unsettled += 1;
            gone += i64::from(*outcome != Outcome::Returned);
        }
        let (to, attempts) = match outcome {
            Outcome::Returned => (State::Queued, recipient.attempts.saturating_sub(1)),
            other => (concluded(other), recipient.attempts),
        };
        let due_at = match &to {
            State::Queued => Some(recipient.turn_at),
            State::Deferred { until, .. } => Some(stamp(*until)),
            _ => None,
        };
        let at = Place {
            message: id,
            n: recipient.n,
            due_at,
            attempts,
        };
        settled
            .transitions
            .push(at.put(transaction, address, to, now)?);
    }
    if settled.transitions.is_empty() {
        return Ok(settled);
    }
    if unsettled > 0 {
        transaction.execute(
            "UPDATE lease SET unsettled = unsettled - ?2, gone = gone + ?3 WHERE id = ?1",
            params![settlement.lease.0, unsettled, gone],
        )?;
        pace::close(transaction, settlement.lease.0, Some(now))?;
    }
    settled.finished = refresh(transaction, id, now)?;
    Ok(settled)
}

/// An outcome as a state; what is returned is queued.
fn concluded(outcome: &Outcome) -> State {
    let text = |text: &str| text.chars().take(WHY).collect();
    match outcome {
        Outcome::Delivered { reply } => State::Delivered { reply: text(reply) },
        Outcome::Deferred { until, why } => State::Deferred {
            until: *until,
            why: text(why),
        },
        Outcome::Failed { why } => State::Failed { why: text(why) },
        Outcome::Held { why } => State::Held { why: text(why) },
        Outcome::Unknown { why } => State::Unknown { why: text(why) },
        Outcome::Returned => State::Queued,
    }
}

/// A recipient that a lease may settle.
struct Held {
    n: i64,
    sending: bool,
    attempts: u32,
    turn_at: i64,
}

/// What is sending under this lease, or unknown since.
fn held_by(
    transaction: &Transaction<'_>,
    message: i64,
    lease: i64,
) -> Result<HashMap<String, Held>, SpoolError> {
    let mut select = transaction.sql(
        "SELECT address, n, state, attempts, coalesce(turn_at, changed_at) FROM recipient
            WHERE message = ? AND lease = ? AND state IN (?, ?)",
    )?;
    let sending = code(StateKind::Sending);
    let values = params![message, lease, sending, code(StateKind::Unknown)];
    let found = select.query_map(values, |row| {
        Ok((
            row.get(0)?,
            Held {
                n: row.get(1)?,
                sending: row.get::<_, i64>(2)? == sending,
                attempts: number(row, 3)?,
                turn_at: row.get(4)?,
            },
        ))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// A recipient's row.
struct Place {
    message: i64,
    n: i64,
    due_at: Option<i64>,
    attempts: u32,
}

impl Place {
    fn put(
        &self,
        transaction: &Transaction<'_>,
        address: &str,
        to: State,
        now: Timestamp,
    ) -> Result<Transition, SpoolError> {
        transaction.execute(
            "UPDATE recipient SET state = ?, due_at = ?, attempts = ?, changed_at = ?,
                why = coalesce(?, why) WHERE message = ? AND n = ?",
            params![
                code(to.kind()),
                self.due_at,
                self.attempts,
                stamp(now),
                to.why(),
                self.message,
                self.n,
            ],
        )?;
        Ok(Transition {
            recipient: address.to_owned(),
            to,
            attempts: self.attempts,
        })
    }
}

/// What a message is called; a settlement of one that is gone has no account.
fn about(transaction: &Transaction<'_>, id: i64) -> Result<Settled, SpoolError> {
    let found = transaction
        .sql(
            "SELECT account.name, message.message_id FROM message
                JOIN account ON account.id = message.account WHERE message.id = ?",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (account, message_id) = found.unwrap_or_default();
    Ok(Settled {
        id: QueueId::new(id),
        account,
        message_id,
        transitions: Vec::new(),
        fenced: Vec::new(),
        finished: false,
    })
}

/// Brings a message in line with its recipients; whether nothing is left to do.
pub(crate) fn refresh(
    transaction: &Transaction<'_>,
    message: i64,
    now: Timestamp,
) -> Result<bool, SpoolError> {
    let (due_at, open): (Option<i64>, bool) = transaction
        .sql("SELECT min(due_at), max(state NOT IN (?, ?)) FROM recipient WHERE message = ?")?
        .query_row(
            params![code(StateKind::Delivered), code(StateKind::Failed), message],
            |row| Ok((row.get(0)?, row.get::<_, Option<bool>>(1)?.unwrap_or(false))),
        )?;
    let done_at = (!open).then(|| stamp(now));
    transaction.execute(
        "UPDATE message SET due_at = ?, done_at = ? WHERE id = ?",
        params![due_at, done_at, message],
    )?;
    Ok(!open)
}

/// Puts all recipients that wait into another state.
pub(crate) fn give_up(
    transaction: &Transaction<'_>,
    message: i64,
    to: &State,
    now: Timestamp,
) -> Result<Settled, SpoolError> {
    let waiting: Vec<(i64, String, u32, Option<String>)> = transaction
        .sql(
            "SELECT n, address, attempts, why FROM recipient
                WHERE message = ? AND due_at IS NOT NULL",
        )?
        .query_map([message], |row| {
            Ok((row.get(0)?, row.get(1)?, number(row, 2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut settled = about(transaction, message)?;
    for (n, address, attempts, why) in waiting {
        let at = Place {
            message,
            n,
            due_at: None,
            attempts,
        };
        let to = match (to, why) {
            // What the server said last is what a person wants to know.
            (State::Failed { why: now }, Some(before)) => State::Failed {
                why: format!("{now}: {before}").chars().take(WHY).collect(),
            },
            (to, _) => to.clone(),
        };
        settled
            .transitions
            .push(at.put(transaction, &address, to, now)?);
    }
    settled.finished = refresh(transaction, message, now)?;
    Ok(settled)
}

/// What a lease of a holder that died was sending is unknown.
pub(crate) fn lost(
    transaction: &Transaction<'_>,
    message: i64,
    lease: i64,
    now: Timestamp,
) -> Result<Settled, SpoolError> {
    let why = "the process that was sending it ended before the server answered";
    let mut held = held_by(transaction, message, lease)?
        .into_iter()
        .filter(|(_, held)| held.sending)
        .collect::<Vec<_>>();
    held.sort_by_key(|(_, held)| held.n);
    let mut settled = about(transaction, message)?;
    for (address, held) in held {
        let at = Place {
            message,
            n: held.n,
            due_at: None,
            attempts: held.attempts,
        };
        let to = State::Unknown {
            why: why.to_owned(),
        };
        settled
            .transitions
            .push(at.put(transaction, &address, to, now)?);
    }
    let left = integer(settled.transitions.len());
    transaction.execute(
        "UPDATE lease SET unsettled = 0, gone = gone + ?2 WHERE id = ?1",
        params![lease, left],
    )?;
    pace::close(transaction, lease, Some(now))?;
    settled.finished = refresh(transaction, message, now)?;
    Ok(settled)
}

/// The messages that are past their expiry or over age, and still wait; each with why it fails.
pub(crate) fn overdue(
    connection: &Connection,
    aged: &[Aged],
    now: Timestamp,
    most: usize,
) -> Result<Vec<(i64, String)>, SpoolError> {
    let mut found: Vec<(i64, String)> = connection
        .prepare_cached(
            "SELECT id, expires_at FROM message
                WHERE expires_at <= ? AND due_at IS NOT NULL LIMIT ?",
        )?
        .query_map(params![stamp(now), integer(most)], |row| {
            Ok((row.get(0)?, expired(moment(row.get(1)?))))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut older = connection.prepare_cached(
        "SELECT message.id FROM message JOIN account ON account.id = message.account
            WHERE account.name = ? AND waiting_since < ? AND due_at IS NOT NULL LIMIT ?",
    )?;
    for aged in aged {
        let left = integer(most.saturating_sub(found.len()));
        let values = params![aged.account, stamp(aged.accepted_before), left];
        let ids = older
            .query_map(values, |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        found.extend(ids.into_iter().map(|id| (id, aged.why.clone())));
    }
    Ok(found)
}

/// Why a message fails that waited too long by its own measure.
pub(crate) fn expired(at: Timestamp) -> String {
    format!("not sent before it expired at {at}")
}

/// Where a recipient stands, from a row that has `state, why, due_at` from this column on.
pub(crate) fn standing(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<State> {
    let kind = kind(row, column)?;
    let why = row.get(column + 1)?;
    let due_at: Option<i64> = row.get(column + 2)?;
    Ok(state(kind, why, due_at.map(moment)))
}
