//! Looking into the queue: pages, one message, sums.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::begin::next_due;
use super::holders;
use super::pace;
use super::row::{
    count, dsn, facts, integer, kind, moment, notify, number, optional_time, priority, stamp, time,
};
use super::schema::code;
use super::settle::standing;
use crate::claim::Back;
use crate::error::SpoolError;
use crate::id::QueueId;
use crate::query::{AccountState, Due, Filter, Listed, Shown, ShownRecipient, Stats};
use crate::state::StateKind;

const LISTED: &str = "SELECT m.id, a.name, m.reverse_path, m.message_id, m.due_at, m.priority,
    m.accepted_at, m.expires_at, m.octets, m.origin, m.send_at, m.facts, m.dsn
    FROM message m JOIN account a ON a.id = m.account";

/// The conditions of a filter, and their values.
fn conditions(filter: &Filter) -> (String, Vec<Value>) {
    let mut sql = String::from(" WHERE m.id > ?");
    let after = filter.after.map_or(0, QueueId::number);
    let mut values = vec![Value::Integer(after)];
    let mut and = |condition: &str, value: Value| {
        // Writing to a string does not fail.
        let _ = write!(sql, " AND {condition}");
        values.push(value);
    };
    if let Some(account) = &filter.account {
        and("a.name = ?", Value::Text(account.clone()));
    }
    if let Some(state) = filter.state {
        let sql = "EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.id AND r.state = ?)";
        and(sql, Value::Integer(code(state)));
    }
    if let Some(recipient) = &filter.recipient {
        let sql = "EXISTS (SELECT 1 FROM recipient r
            WHERE r.message = m.id AND instr(lower(r.address), lower(?)) > 0)";
        and(sql, Value::Text(recipient.clone()));
    }
    if let Some(older_than) = filter.older_than {
        and("m.accepted_at < ?", Value::Integer(stamp(older_than)));
    }
    if let Some(key) = &filter.key {
        let sql = "m.id IN (SELECT message FROM receipt WHERE key = ?)";
        and(sql, Value::Text(key.clone()));
    }
    if let Some(message_id) = &filter.message_id {
        and("m.message_id = ?", Value::Text(message_id.clone()));
    }
    (sql, values)
}

fn limit(filter: &Filter) -> i64 {
    integer(filter.limit.unwrap_or(Filter::PAGE).min(Filter::PAGE))
}

/// The names on a page.
pub(crate) fn ids(connection: &Connection, filter: &Filter) -> Result<Vec<QueueId>, SpoolError> {
    let (conditions, mut values) = conditions(filter);
    values.push(Value::Integer(limit(filter)));
    let sql = format!(
        "SELECT m.id FROM message m JOIN account a ON a.id = m.account{conditions}
            ORDER BY m.id LIMIT ?"
    );
    let mut select = connection.prepare(&sql)?;
    let found = select.query_map(params_from_iter(values), |row| row.get(0).map(QueueId::new))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn list(connection: &Connection, filter: &Filter) -> Result<Vec<Listed>, SpoolError> {
    let (conditions, mut values) = conditions(filter);
    values.push(Value::Integer(limit(filter)));
    let sql = format!("{LISTED}{conditions} ORDER BY m.id LIMIT ?");
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(listed(connection, row)?);
    }
    Ok(page)
}

/// A message from a row of [`LISTED`].
fn listed(connection: &Connection, row: &Row<'_>) -> Result<Listed, SpoolError> {
    let id: i64 = row.get(0)?;
    let states: BTreeMap<StateKind, u64> = connection
        .prepare_cached("SELECT state, count(*) FROM recipient WHERE message = ? GROUP BY state")?
        .query_map([id], |row| Ok((kind(row, 0)?, count(row.get(1)?))))?
        .collect::<rusqlite::Result<_>>()?;
    // The first that is not done, or the first.
    let (recipient, why, attempts) = connection
        .prepare_cached(
            "SELECT address, why, attempts FROM recipient WHERE message = ?
                ORDER BY state IN (?, ?), n LIMIT 1",
        )?
        .query_row(
            params![id, code(StateKind::Delivered), code(StateKind::Failed)],
            |row| Ok((row.get(0)?, row.get(1)?, number(row, 2)?)),
        )?;
    Ok(Listed {
        id: QueueId::new(id),
        account: row.get(1)?,
        reverse_path: row.get(2)?,
        message_id: row.get(3)?,
        states,
        recipient,
        why,
        attempts,
        due_at: optional_time(row, 4)?,
        priority: priority(row, 5)?,
        accepted_at: time(row, 6)?,
        expires_at: optional_time(row, 7)?,
        octets: number(row, 8)?,
        origin: row.get(9)?,
    })
}

pub(crate) fn show(connection: &Connection, id: QueueId) -> Result<Option<Shown>, SpoolError> {
    let mut select = connection.prepare_cached(&format!("{LISTED} WHERE m.id = ?"))?;
    let mut rows = select.query([id.number()])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let (dsn, for_all) = dsn(row, 12)?;
    let recipients = connection
        .prepare_cached(
            "SELECT address, state, why, due_at, attempts, changed_at, notify, orcpt FROM recipient
                WHERE message = ? ORDER BY n",
        )?
        .query_map([id.number()], |row| {
            Ok(ShownRecipient {
                address: row.get(0)?,
                state: standing(row, 1)?,
                attempts: number(row, 4)?,
                changed_at: time(row, 5)?,
                notify: notify(row, 6, for_all)?,
                orcpt: row.get(7)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let idempotency_key = connection
        .prepare_cached("SELECT key FROM receipt WHERE message = ?")?
        .query_row([id.number()], |row| row.get(0))
        .optional()?;
    Ok(Some(Shown {
        listed: listed(connection, row)?,
        send_at: optional_time(row, 10)?,
        facts: facts(row, 11)?,
        dsn,
        idempotency_key,
        recipients,
    }))
}

pub(crate) fn stats(connection: &Connection) -> Result<Stats, SpoolError> {
    let mut stats = Stats::default();
    (stats.messages, stats.octets) = connection
        .prepare_cached("SELECT count(*), coalesce(sum(octets), 0) FROM message")?
        .query_row([], |row| Ok((count(row.get(0)?), count(row.get(1)?))))?;
    let mut select = connection.prepare_cached(
        "SELECT a.name, r.state, count(*), min(m.accepted_at) FROM recipient r
            JOIN message m ON m.id = r.message JOIN account a ON a.id = m.account
            GROUP BY a.name, r.state",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let account = stats.accounts.entry(row.get(0)?).or_default();
        let kind = kind(row, 1)?;
        account.states.insert(kind, count(row.get(2)?));
        let waits = matches!(
            kind,
            StateKind::Queued | StateKind::Sending | StateKind::Deferred
        );
        if waits {
            let oldest = time(row, 3)?;
            account.oldest = Some(account.oldest.map_or(oldest, |known| known.min(oldest)));
        }
    }
    Ok(stats)
}

/// How much an account's clock may have been ahead without anything waiting for it.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(5);

pub(crate) fn due(connection: &Connection, now: Timestamp) -> Result<Vec<Due>, SpoolError> {
    let accounts: Vec<(i64, String, i64)> = connection
        .prepare_cached("SELECT id, name, seen FROM account ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut due = Vec::new();
    for (id, account, seen) in accounts {
        if let Some(at) = next_due(connection, id)? {
            // After a clock was set back the next start finds out what is due.
            let seen = moment(seen);
            let set_back = seen > now && seen.duration_since(now).unsigned_abs() > AHEAD;
            let at = if set_back { at.min(now) } else { at };
            due.push(Due { account, at });
        }
    }
    Ok(due)
}

pub(crate) fn account_state(
    connection: &Connection,
    name: &str,
    now: Timestamp,
) -> Result<AccountState, SpoolError> {
    let Some(account) = holders::account(connection, name)? else {
        return Ok(AccountState::default());
    };
    let back_off = connection
        .prepare_cached("SELECT back_off_until, back_off_why FROM account WHERE id = ?")?
        .query_row([account], |row| {
            Ok(optional_time(row, 0)?.zip(row.get::<_, Option<String>>(1)?))
        })?;
    let (under_way, recipients): (i64, i64) = connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(recipients), 0) FROM lease WHERE account = ?",
        )?
        .query_row([account], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sessions = connection
        .prepare_cached("SELECT count(*) FROM slot WHERE account = ?")?
        .query_row([account], |row| row.get(0))?;
    let (in_minute, in_day) = pace::used(connection, account, now)?;
    Ok(AccountState {
        back_off: back_off.map(|(until, why)| Back { until, why }),
        in_minute: in_minute + count(under_way),
        recipients_in_day: in_day + count(recipients),
        under_way: count(under_way),
        sessions: count(sessions),
    })
}
