//! Handing out what is due: picked by priority, counted against the pace, marked as `sending`.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use super::pace::{self, Allowance};
use super::row::{
    count, dsn, facts, integer, moment, notify, number, optional_time, priority, stamp, time,
};
use super::schema::code;
use super::segment::{Segments, sum};
use super::settle;
use super::stored::{DAMAGED, SegmentBody};
use super::writer::Transaction;
use crate::body::StoredBody;
use crate::claim::{AT_ONCE, Began, Begin, Claim, Lease, PaceLimit};
use crate::error::{SpoolError, SpoolErrorKind};
use crate::holder::HolderId;
use crate::id::QueueId;
use crate::message::{Dsn, Facts, Notify, Priority, Recipient};
use crate::state::{State, StateKind};

/// Of so many starts one is for what waits longest behind a higher priority.
const ONE_IN: i64 = 8;

/// Octets of bodies in memory that one answer has, or little more.
const INLINE_AT_ONCE: u64 = 4 * 1024 * 1024;

pub(crate) fn begin(
    transaction: &Transaction<'_>,
    segments: Option<&Arc<Segments>>,
    asked: &Begin,
) -> Result<Began, SpoolError> {
    check_holder(transaction, asked.holder)?;
    let mut began = Began {
        claims: Vec::new(),
        given_up: Vec::new(),
        next: None,
        held_back_by: None,
    };
    let (account, now) = pace::account(transaction, &asked.account, asked.now)?;
    let Some(next) = next_due(transaction.connection(), account)? else {
        return Ok(began);
    };
    if next > now {
        began.next = Some(next);
        return Ok(began);
    }
    if let Some(until) = backed_off(transaction, account, now)? {
        began.next = Some(until);
        began.held_back_by = Some(PaceLimit::BackOff);
        return Ok(began);
    }
    let mut allowance = pace::allowance(transaction, account, asked.pace, now)?;
    let mut due = Candidates::new(transaction, account, now, asked.at_most.min(AT_ONCE))?;
    let per_message = asked
        .recipients_per_message
        .map_or(i64::MAX, i64::from)
        .max(1);
    let paced = !asked.pace.is_unlimited();
    let mut inline: u64 = 0;
    while began.claims.len() < asked.at_most.min(AT_ONCE)
        && allowance.messages > 0
        && allowance.recipients > 0
        && inline < INLINE_AT_ONCE
        && began.given_up.len() < AT_ONCE
    {
        let Some(picked) = due.next() else { break };
        let message = load(transaction, picked.id)?;
        if let Some(why) = message.unfit(now) {
            began
                .given_up
                .push(settle::give_up(transaction, picked.id, &why, now)?);
            due.reload(transaction, now)?;
            continue;
        }
        let body = match message.body(transaction, segments, picked.id) {
            Ok(body) => body,
            Err(error) if error.kind == SpoolErrorKind::Corrupt => {
                let why = State::Held { why: error.message };
                began
                    .given_up
                    .push(settle::give_up(transaction, picked.id, &why, now)?);
                due.reload(transaction, now)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let most = per_message.min(integer(allowance.recipients));
        let lease = Taking {
            account,
            holder: asked.holder,
            message: picked.id,
            notify: message.notify,
            most,
            paced,
            now,
        };
        let taken = lease.take(transaction)?;
        settle::refresh(transaction, picked.id, now)?;
        if taken.more {
            due.reload(transaction, now)?;
        } else {
            due.done(&picked);
        }
        let Some(lease) = taken.lease else { continue };
        allowance.spend(taken.recipients.len());
        due.started += 1;
        inline += body.bytes().map_or(0, |bytes| crate::body::octets(bytes));
        began
            .claims
            .push(message.claim(lease, taken, body, picked.id));
    }
    due.note(transaction)?;
    began.next = next_due(transaction.connection(), account)?;
    if began.next.is_some_and(|next| next <= now) {
        (began.next, began.held_back_by) = held_back(transaction, account, asked, &allowance, now)?;
    }
    Ok(began)
}

/// Which messages that are due cannot be read. Not in a transaction that writes: SQLite writes
/// nothing after it met a damaged page.
pub(crate) fn damaged(
    connection: &Connection,
    segments: Option<&Arc<Segments>>,
    asked: &Begin,
) -> Result<Vec<i64>, SpoolError> {
    let due: Vec<(i64, Place)> = connection
        .prepare_cached(
            "SELECT octets, sum, segment, coalesce(place, 0), message.id FROM message
                JOIN account ON account.id = message.account
                WHERE account.name = ? AND due_at <= ? ORDER BY priority, due_at, message.id
                LIMIT ?",
        )?
        .query_map(
            params![asked.account, stamp(asked.now), integer(AT_ONCE)],
            |row| Ok((row.get(4)?, Place::of(row)?)),
        )?
        .collect::<rusqlite::Result<_>>()?;
    let mut damaged = Vec::new();
    for (id, place) in due {
        match place.body(connection, segments, id) {
            Err(error) if error.kind == SpoolErrorKind::Corrupt => damaged.push(id),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(damaged)
}

/// More is due: when it may start, and what it waits for.
fn held_back(
    transaction: &Transaction<'_>,
    account: i64,
    asked: &Begin,
    spent: &Allowance,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<PaceLimit>), SpoolError> {
    if spent.messages > 0 && spent.recipients > 0 {
        return Ok((Some(now), None));
    }
    let left = pace::allowance(transaction, account, asked.pace, now)?;
    Ok(match left.wait {
        Some((at, limit)) => (Some(at), Some(limit)),
        None => (Some(now), None),
    })
}

impl Allowance {
    fn spend(&mut self, recipients: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.recipients = self.recipients.saturating_sub(count(integer(recipients)));
    }
}

pub(crate) fn check_holder(
    transaction: &Transaction<'_>,
    holder: HolderId,
) -> Result<(), SpoolError> {
    let known: Option<i64> = transaction
        .sql("SELECT id FROM holder WHERE id = ? AND ended = 0")?
        .query_row([holder.0], |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Ok(());
    }
    let what = "others took this process for dead, and over what it held";
    Err(SpoolError::new(SpoolErrorKind::Fenced, what))
}

/// When the account's next is due.
pub(crate) fn next_due(
    connection: &Connection,
    account: i64,
) -> Result<Option<Timestamp>, SpoolError> {
    let mut first = connection.prepare_cached(
        "SELECT min(due_at) FROM message
            WHERE account = ? AND priority = ? AND due_at IS NOT NULL",
    )?;
    let mut next: Option<i64> = None;
    for priority in 0..integer(Priority::ALL.len()) {
        let found: Option<i64> = first.query_row(params![account, priority], |row| row.get(0))?;
        next = match (next, found) {
            (Some(next), Some(found)) => Some(next.min(found)),
            (next, found) => next.or(found),
        };
    }
    Ok(next.map(moment))
}

/// Until when the account is to be left alone, if it is.
pub(crate) fn backed_off(
    transaction: &Transaction<'_>,
    account: i64,
    now: Timestamp,
) -> Result<Option<Timestamp>, SpoolError> {
    let until: Option<i64> = transaction
        .sql("SELECT back_off_until FROM account WHERE id = ?")?
        .query_row([account], |row| row.get(0))?;
    Ok(until.map(moment).filter(|until| *until > now))
}

/// A message whose turn it is.
#[derive(Clone, Copy)]
struct Picked {
    id: i64,
    due_at: i64,
    priority: usize,
}

/// What is due, by priority.
struct Candidates {
    account: i64,
    most: usize,
    queues: [VecDeque<Picked>; 3],
    starts: i64,
    started: i64,
}

impl Candidates {
    fn new(
        transaction: &Transaction<'_>,
        account: i64,
        now: Timestamp,
        most: usize,
    ) -> Result<Self, SpoolError> {
        let starts = transaction
            .sql("SELECT starts FROM account WHERE id = ?")?
            .query_row([account], |row| row.get(0))?;
        let mut due = Self {
            account,
            most,
            queues: Default::default(),
            starts,
            started: 0,
        };
        due.reload(transaction, now)?;
        Ok(due)
    }

    /// Looks again: one was given up, or only some of its recipients were taken, and what is left
    /// of it may have become due later than others.
    fn reload(&mut self, transaction: &Transaction<'_>, now: Timestamp) -> Result<(), SpoolError> {
        let mut select = transaction.sql(
            "SELECT id, due_at FROM message WHERE account = ? AND priority = ? AND due_at <= ?
                ORDER BY due_at, id LIMIT ?",
        )?;
        for (priority, queue) in self.queues.iter_mut().enumerate() {
            let most = integer(self.most);
            let values = params![self.account, integer(priority), stamp(now), most];
            let found = select.query_map(values, |row| {
                Ok(Picked {
                    id: row.get(0)?,
                    due_at: row.get(1)?,
                    priority,
                })
            })?;
            *queue = found.collect::<rusqlite::Result<_>>()?;
        }
        Ok(())
    }

    /// The next to start.
    fn next(&self) -> Option<Picked> {
        let mut heads = self.queues.iter().filter_map(VecDeque::front);
        let highest = heads.next()?;
        let nth = self.starts.wrapping_add(self.started);
        if nth.rem_euclid(ONE_IN) != ONE_IN - 1 {
            return Some(*highest);
        }
        let lower = heads.min_by_key(|picked| (picked.due_at, picked.id));
        Some(*lower.unwrap_or(highest))
    }

    /// Nothing of it is due any more.
    fn done(&mut self, picked: &Picked) {
        if let Some(queue) = self.queues.get_mut(picked.priority) {
            queue.pop_front();
        }
    }

    /// Remembers how many have started.
    fn note(&self, transaction: &Transaction<'_>) -> Result<(), SpoolError> {
        if self.started > 0 {
            let starts = self.starts.wrapping_add(self.started).rem_euclid(ONE_IN);
            let sql = "UPDATE account SET starts = ? WHERE id = ?";
            transaction.execute(sql, params![starts, self.account])?;
        }
        Ok(())
    }
}

/// A message as its row has it.
struct Loaded {
    reverse_path: Option<String>,
    message_id: String,
    facts: Facts,
    dsn: Dsn,
    /// Of recipients that say nothing.
    notify: Option<Notify>,
    priority: Priority,
    accepted_at: Timestamp,
    waiting_since: Timestamp,
    expires_at: Option<Timestamp>,
    origin: String,
    place: Place,
}

/// Where a message's octets are, and what they must be.
pub(crate) struct Place {
    octets: u64,
    sum: i64,
    segment: Option<String>,
    offset: u64,
}

fn load(transaction: &Transaction<'_>, id: i64) -> Result<Loaded, SpoolError> {
    let loaded = transaction
        .sql(
            "SELECT octets, sum, segment, coalesce(place, 0), reverse_path, message_id, facts, dsn,
                priority, accepted_at, waiting_since, expires_at, origin
                FROM message WHERE id = ?",
        )?
        .query_row([id], |row| {
            let (dsn, notify) = dsn(row, 7)?;
            Ok(Loaded {
                place: Place::of(row)?,
                reverse_path: row.get(4)?,
                message_id: row.get(5)?,
                facts: facts(row, 6)?,
                dsn,
                notify,
                priority: priority(row, 8)?,
                accepted_at: time(row, 9)?,
                waiting_since: time(row, 10)?,
                expires_at: optional_time(row, 11)?,
                origin: row.get(12)?,
            })
        })?;
    Ok(loaded)
}

impl Loaded {
    /// Why it is not to be sent any more.
    fn unfit(&self, now: Timestamp) -> Option<State> {
        let expires_at = self.expires_at.filter(|at| *at <= now)?;
        Some(State::Failed {
            why: settle::expired(expires_at),
        })
    }

    fn body(
        &self,
        transaction: &Transaction<'_>,
        segments: Option<&Arc<Segments>>,
        id: i64,
    ) -> Result<StoredBody, SpoolError> {
        self.place.body(transaction.connection(), segments, id)
    }

    fn claim(self, lease: Lease, taken: Taken, body: StoredBody, id: i64) -> Claim {
        Claim {
            id: QueueId::new(id),
            lease,
            reverse_path: self.reverse_path,
            recipients: taken.recipients,
            message_id: self.message_id,
            body,
            facts: self.facts,
            dsn: self.dsn,
            attempts: taken.attempts,
            accepted_at: self.accepted_at,
            waiting_since: self.waiting_since,
            expires_at: self.expires_at,
            priority: self.priority,
            origin: self.origin,
        }
    }
}

impl Place {
    /// From a row that begins with `octets, sum, segment, place`.
    pub(crate) fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            octets: number(row, 0)?,
            sum: row.get(1)?,
            segment: row.get(2)?,
            offset: number(row, 3)?,
        })
    }

    /// The octets; those in a row are checked.
    pub(crate) fn body(
        &self,
        connection: &Connection,
        segments: Option<&Arc<Segments>>,
        id: i64,
    ) -> Result<StoredBody, SpoolError> {
        let damaged = || SpoolError::new(SpoolErrorKind::Corrupt, DAMAGED);
        if let (Some(segment), Some(segments)) = (&self.segment, segments) {
            let file = segments.reader(segment)?;
            let body = SegmentBody::new(file, self.offset, self.octets, self.sum)?;
            return Ok(StoredBody::elsewhere(Arc::new(body)));
        }
        let found = connection
            .prepare_cached("SELECT octets FROM body WHERE message = ?")?
            .query_row([id], |row| {
                let octets = row.get_ref(0)?.as_blob()?;
                Ok(Arc::<[u8]>::from(octets))
            });
        let bytes = match found {
            Ok(bytes) => bytes,
            Err(rusqlite::Error::QueryReturnedNoRows) => return Err(damaged()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                return Err(damaged());
            }
            Err(error) => return Err(error.into()),
        };
        if sum(Sha256::new_with_prefix(&*bytes)) == self.sum {
            Ok(StoredBody::inline(bytes))
        } else {
            Err(damaged())
        }
    }
}

/// Some recipients of a message to be marked as `sending`.
struct Taking {
    account: i64,
    holder: HolderId,
    message: i64,
    notify: Option<Notify>,
    most: i64,
    paced: bool,
    now: Timestamp,
}

struct Taken {
    /// None, if no recipient was due.
    lease: Option<Lease>,
    recipients: Vec<Recipient>,
    attempts: u32,
    /// More recipients are due.
    more: bool,
}

impl Taking {
    fn take(&self, transaction: &Transaction<'_>) -> Result<Taken, SpoolError> {
        let most = self.most.saturating_add(1);
        let mut due: Vec<(i64, Recipient, u32)> = transaction
            .sql(
                "SELECT n, address, attempts, notify, orcpt FROM recipient
                    WHERE message = ? AND due_at <= ? ORDER BY n LIMIT ?",
            )?
            .query_map(params![self.message, stamp(self.now), most], |row| {
                let recipient = Recipient {
                    address: row.get(1)?,
                    notify: notify(row, 3, self.notify)?,
                    orcpt: row.get(4)?,
                };
                Ok((row.get(0)?, recipient, number(row, 2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let more = integer(due.len()) > self.most;
        if more {
            due.pop();
        }
        let mut taken = Taken {
            lease: None,
            recipients: Vec::with_capacity(due.len()),
            attempts: 0,
            more,
        };
        if due.is_empty() {
            return Ok(taken);
        }
        let recipients = integer(due.len());
        transaction.execute(
            "INSERT INTO lease (message, account, holder, recipients, unsettled, gone, paced)
                VALUES (?1, ?2, ?3, ?4, ?4, 0, ?5)",
            params![
                self.message,
                self.account,
                self.holder.0,
                recipients,
                self.paced
            ],
        )?;
        let lease = Lease(transaction.inserted());
        taken.lease = Some(lease);
        let mut mark = transaction.sql(
            "UPDATE recipient SET state = ?, turn_at = due_at, due_at = NULL,
                attempts = attempts + 1, lease = ?, changed_at = ? WHERE message = ? AND n = ?",
        )?;
        for (n, recipient, attempts) in due {
            let sending = code(StateKind::Sending);
            mark.execute(params![sending, lease.0, stamp(self.now), self.message, n])?;
            taken.attempts = taken.attempts.max(attempts.saturating_add(1));
            taken.recipients.push(recipient);
        }
        Ok(taken)
    }
}
