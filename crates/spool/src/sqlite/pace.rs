//! How fast an account may send: starts in the last minute and recipients in the last day.
//!
//! What is under way counts as if it ended now; when it ends, it is added to a bucket whose time
//! is rounded up. So nothing counts shorter than it should. A clock that was set back takes the
//! buckets along, and what is due: nobody waits for the time to come again.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::row::{count, moment, span, stamp};
use super::writer::Transaction;
use crate::claim::{DAY, MINUTE, Pace, PaceLimit};
use crate::error::SpoolError;

/// Kinds of buckets: messages, and recipients.
const MESSAGES: i64 = 0;
const RECIPIENTS: i64 = 1;

/// The width of their buckets: few of them, and little waiting for nothing.
const MESSAGES_WIDTH: i64 = 100_000;
const RECIPIENTS_WIDTH: i64 = 60_000_000;

/// By how much the times of several processes may differ without a clock having been set back.
const APART: i64 = 5_000_000;

/// How far what is known of an account's time may lag behind.
const LAG: i64 = 500_000;

/// What may start now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) messages: u64,
    pub(crate) recipients: u64,
    /// When there is more, and which limit it is that there is not.
    pub(crate) wait: Option<(Timestamp, PaceLimit)>,
}

/// The account's number, which is made up where there is none, and the time now as this account
/// has it.
pub(crate) fn account(
    transaction: &Transaction<'_>,
    name: &str,
    now: Timestamp,
) -> Result<(i64, Timestamp), SpoolError> {
    let known = transaction
        .sql("SELECT id, seen FROM account WHERE name = ?")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((id, seen)) = known {
        return Ok((id, follow(transaction, id, seen, now)?));
    }
    transaction.execute(
        "INSERT INTO account (name, seen) VALUES (?, ?)",
        params![name, stamp(now)],
    )?;
    Ok((transaction.inserted(), now))
}

/// Follows the clock.
fn follow(
    transaction: &Transaction<'_>,
    account: i64,
    seen: i64,
    now: Timestamp,
) -> Result<Timestamp, SpoolError> {
    let at = stamp(now);
    if at < seen && seen.saturating_sub(at) <= APART {
        return Ok(moment(seen));
    }
    if at < seen {
        set_back(transaction, account, seen.saturating_sub(at), at)?;
    }
    if at < seen || at > seen.saturating_add(LAG) {
        note(transaction, account, now)?;
    }
    Ok(now)
}

/// Remembers the time.
pub(crate) fn note(
    transaction: &Transaction<'_>,
    account: i64,
    now: Timestamp,
) -> Result<(), SpoolError> {
    let sql = "UPDATE account SET seen = ?2 WHERE id = ?1 AND seen <> ?2";
    transaction.execute(sql, params![account, stamp(now)])?;
    Ok(())
}

/// The clock was set back by so much, to `now`.
fn set_back(
    transaction: &Transaction<'_>,
    account: i64,
    back: i64,
    now: i64,
) -> Result<(), SpoolError> {
    // By way of other kinds, since two rows must not have one time meanwhile.
    transaction.execute(
        "UPDATE pace SET kind = kind + 2, at = at - ?2 WHERE account = ?1",
        params![account, back],
    )?;
    transaction.execute(
        "UPDATE pace SET kind = kind - 2 WHERE account = ?",
        [account],
    )?;
    transaction.execute(
        "UPDATE account SET back_off_until = back_off_until - ?2
            WHERE id = ?1 AND back_off_until IS NOT NULL",
        params![account, back],
    )?;
    // What was told to wait until a time of day still does; the rest was due when it came, or
    // is to be tried again after a while.
    transaction.execute(
        "UPDATE recipient SET due_at = CASE state WHEN 0 THEN ?3 ELSE due_at - ?2 END
            WHERE due_at > ?3 AND message IN
                (SELECT id FROM message WHERE account = ?1 AND due_at IS NOT NULL)
            AND (state <> 0 OR attempts > 0 OR
                (SELECT send_at FROM message WHERE id = recipient.message) IS NULL)",
        params![account, back, now],
    )?;
    transaction.execute(
        "UPDATE message SET due_at = (SELECT min(due_at) FROM recipient WHERE message = message.id)
            WHERE account = ?1 AND due_at > ?2",
        params![account, now],
    )?;
    Ok(())
}

/// What may start now.
pub(crate) fn allowance(
    transaction: &Transaction<'_>,
    account: i64,
    pace: Pace,
    now: Timestamp,
) -> Result<Allowance, SpoolError> {
    let mut allowance = Allowance {
        messages: u64::MAX,
        recipients: u64::MAX,
        wait: None,
    };
    if pace.is_unlimited() {
        return Ok(allowance);
    }
    note(transaction, account, now)?;
    let (messages, recipients) = transaction
        .sql("SELECT count(*), coalesce(sum(recipients), 0) FROM lease WHERE account = ?")?
        .query_row([account], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let Some(limit) = pace.per_minute {
        let window = span(MINUTE);
        let (free, more) = free(transaction, account, MESSAGES, window, limit, messages, now)?;
        allowance.messages = free;
        if free == 0 {
            allowance.wait = Some((more, PaceLimit::PerMinute));
        }
    }
    if let Some(limit) = pace.recipients_per_day {
        let window = span(DAY);
        let (free, more) = free(
            transaction,
            account,
            RECIPIENTS,
            window,
            limit,
            recipients,
            now,
        )?;
        allowance.recipients = free;
        if free == 0 {
            allowance.messages = 0;
            allowance.wait = Some((more, PaceLimit::RecipientsPerDay));
        }
    }
    Ok(allowance)
}

/// When recipients are next free, if a day's limit has any.
pub(crate) fn first_free(
    transaction: &Transaction<'_>,
    account: i64,
    pace: Pace,
    now: Timestamp,
) -> Result<Option<Timestamp>, SpoolError> {
    let Some(limit) = pace.recipients_per_day else {
        return Ok(None);
    };
    let (_, more) = free(transaction, account, RECIPIENTS, span(DAY), limit, 0, now)?;
    Ok(Some(more))
}

/// How many are free of a limit, and when there are more.
fn free(
    transaction: &Transaction<'_>,
    account: i64,
    kind: i64,
    window: i64,
    limit: u32,
    under_way: i64,
    now: Timestamp,
) -> Result<(u64, Timestamp), SpoolError> {
    let over = stamp(now).saturating_sub(window);
    transaction.execute(
        "DELETE FROM pace WHERE account = ? AND kind = ? AND at <= ?",
        params![account, kind, over],
    )?;
    let (used, oldest): (i64, Option<i64>) = transaction
        .sql("SELECT coalesce(sum(used), 0), min(at) FROM pace WHERE account = ? AND kind = ?")?
        .query_row(params![account, kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let free = count(i64::from(limit).saturating_sub(used.saturating_add(under_way)));
    // What is under way ends now at the earliest.
    let more = oldest.unwrap_or(stamp(now)).saturating_add(window);
    Ok((free, moment(more)))
}

/// Ends a lease of which nothing is unsettled any more: what left of it counts from now on.
pub(crate) fn close(
    transaction: &Transaction<'_>,
    lease: i64,
    now: Option<Timestamp>,
) -> Result<(), SpoolError> {
    let ended = transaction
        .sql("DELETE FROM lease WHERE id = ? AND unsettled <= 0 RETURNING account, gone, paced")?
        .query_row([lease], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, bool>(2)?,
            ))
        })
        .optional()?;
    let Some((account, gone, paced)) = ended else {
        return Ok(());
    };
    if !paced || gone == 0 {
        return Ok(());
    }
    let seen: i64 = transaction
        .sql("SELECT seen FROM account WHERE id = ?")?
        .query_row([account], |row| row.get(0))?;
    // A clock that was set back takes this along, too, once `follow` sees it.
    let now = now.map_or(seen, |now| stamp(now).max(seen));
    add(transaction, account, MESSAGES, MESSAGES_WIDTH, 1, now)?;
    add(
        transaction,
        account,
        RECIPIENTS,
        RECIPIENTS_WIDTH,
        gone,
        now,
    )
}

fn add(
    transaction: &Transaction<'_>,
    account: i64,
    kind: i64,
    width: i64,
    used: i64,
    now: i64,
) -> Result<(), SpoolError> {
    let at = now.saturating_add(width - 1).div_euclid(width) * width;
    transaction.execute(
        "INSERT INTO pace (account, kind, at, used) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET used = used + excluded.used",
        params![account, kind, at, used],
    )?;
    Ok(())
}

/// What counts for the minute and for the day, without what is under way.
pub(crate) fn used(
    connection: &rusqlite::Connection,
    account: i64,
    now: Timestamp,
) -> Result<(u64, u64), SpoolError> {
    let sum = |kind: i64, window: i64| -> rusqlite::Result<i64> {
        let over = stamp(now).saturating_sub(window);
        connection
            .prepare_cached(
                "SELECT coalesce(sum(used), 0) FROM pace
                    WHERE account = ? AND kind = ? AND at > ?",
            )?
            .query_row(params![account, kind, over], |row| row.get(0))
    };
    let messages = sum(MESSAGES, span(MINUTE))?;
    let recipients = sum(RECIPIENTS, span(DAY))?;
    Ok((count(messages), count(recipients)))
}
