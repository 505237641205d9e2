//! Values as the tables have them.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;

use crate::message::{Dsn, Facts, Notify, Priority, Recipient, Return};
use crate::state::{State, StateKind};

use super::schema::code;

/// A moment as a number.
pub(crate) fn stamp(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A span as a number.
pub(crate) fn span(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// A number as a moment; the end of all time, where there is none such.
pub(crate) fn moment(at: i64) -> Timestamp {
    let clamped = at.clamp(
        Timestamp::MIN.as_microsecond(),
        Timestamp::MAX.as_microsecond(),
    );
    Timestamp::from_microsecond(clamped).unwrap_or(Timestamp::MAX)
}

/// As SQLite counts.
pub(crate) fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A count, which is never negative.
pub(crate) fn count(number: i64) -> u64 {
    number.max(0).unsigned_abs()
}

pub(crate) fn number<N: TryFrom<i64>>(row: &Row<'_>, column: usize) -> rusqlite::Result<N> {
    let found: i64 = row.get(column)?;
    N::try_from(found).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, found))
}

pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(moment)
}

pub(crate) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let found: Option<i64> = row.get(column)?;
    Ok(found.map(moment))
}

pub(crate) fn priority_code(priority: Priority) -> i64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

pub(crate) fn priority(row: &Row<'_>, column: usize) -> rusqlite::Result<Priority> {
    let found: usize = number(row, column)?;
    let known = Priority::ALL.get(found).copied();
    known.ok_or_else(|| wrong(column, "priority"))
}

pub(crate) fn facts_code(facts: Facts) -> i64 {
    i64::from(facts.eight_bit) | (i64::from(facts.smtputf8) << 1)
}

pub(crate) fn facts(row: &Row<'_>, column: usize) -> rusqlite::Result<Facts> {
    let found: i64 = row.get(column)?;
    Ok(Facts {
        eight_bit: found & 1 != 0,
        smtputf8: found & 2 != 0,
    })
}

/// `SFD`, each letter or `-`; then `F`, `H` or `-`; then the envelope's identifier after a space.
/// None, where nothing is asked for. The first three letters are the sum of what is wanted of the
/// recipients, for versions that know one answer for all.
pub(crate) fn dsn_text(dsn: &Dsn, recipients: &[Recipient]) -> Option<String> {
    let is_asked = |one: &Recipient| one.notify.is_some() || one.orcpt.is_some();
    if *dsn == Dsn::default() && !recipients.iter().any(is_asked) {
        return None;
    }
    // Who says nothing of a recipient hears of its failure.
    let failure = Notify {
        failure: true,
        ..Notify::default()
    };
    let wanted = recipients.iter().map(|one| one.notify.unwrap_or(failure));
    let wanted = wanted.fold(Notify::default(), |all, one| Notify {
        success: all.success || one.success,
        failure: all.failure || one.failure,
        delay: all.delay || one.delay,
    });
    let flag = |on, letter| if on { letter } else { '-' };
    let mut text = String::with_capacity(8);
    text.push(flag(wanted.success, 'S'));
    text.push(flag(wanted.failure, 'F'));
    text.push(flag(wanted.delay, 'D'));
    text.push(match dsn.ret {
        Some(Return::Full) => 'F',
        Some(Return::Headers) => 'H',
        None => '-',
    });
    if let Some(envid) = &dsn.envid {
        text.push(' ');
        text.push_str(envid);
    }
    Some(text)
}

/// A message's part of the notifications, and what a recipient of it has whose row says nothing.
pub(crate) fn dsn(row: &Row<'_>, column: usize) -> rusqlite::Result<(Dsn, Option<Notify>)> {
    let found: Option<String> = row.get(column)?;
    let Some(text) = found else {
        return Ok((Dsn::default(), None));
    };
    let (flags, envid) = match text.split_once(' ') {
        Some((flags, envid)) => (flags, Some(envid.to_owned())),
        None => (text.as_str(), None),
    };
    let &[success, failure, delay, ret] = flags.as_bytes() else {
        return Err(wrong(column, "dsn"));
    };
    let dsn = Dsn {
        ret: match ret {
            b'F' => Some(Return::Full),
            b'H' => Some(Return::Headers),
            _ => None,
        },
        envid,
    };
    let notify = Notify {
        success: success == b'S',
        failure: failure == b'F',
        delay: delay == b'D',
    };
    Ok((dsn, Some(notify)))
}

/// Nothing is said of a recipient, although something is of the message.
const UNSAID: i64 = 8;

pub(crate) fn notify_code(notify: Option<Notify>) -> i64 {
    notify.map_or(UNSAID, |notify| {
        i64::from(notify.success)
            | (i64::from(notify.failure) << 1)
            | (i64::from(notify.delay) << 2)
    })
}

/// When to notify of a recipient. Where its row says nothing it is of a time when the `message`
/// alone had an answer.
pub(crate) fn notify(
    row: &Row<'_>,
    column: usize,
    message: Option<Notify>,
) -> rusqlite::Result<Option<Notify>> {
    let found: Option<i64> = row.get(column)?;
    Ok(match found {
        None => message,
        Some(UNSAID) => None,
        Some(bits) => Some(Notify {
            success: bits & 1 != 0,
            failure: bits & 2 != 0,
            delay: bits & 4 != 0,
        }),
    })
}

pub(crate) fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<StateKind> {
    let found: i64 = row.get(column)?;
    let known = StateKind::ALL.into_iter().find(|kind| code(*kind) == found);
    known.ok_or_else(|| wrong(column, "state"))
}

/// A state from its kind, why and when it is due.
pub(crate) fn state(kind: StateKind, why: Option<String>, due_at: Option<Timestamp>) -> State {
    let why = why.unwrap_or_default();
    match kind {
        StateKind::Queued => State::Queued,
        StateKind::Sending => State::Sending,
        StateKind::Deferred => State::Deferred {
            until: due_at.unwrap_or(Timestamp::UNIX_EPOCH),
            why,
        },
        StateKind::Held => State::Held { why },
        StateKind::Delivered => State::Delivered { reply: why },
        StateKind::Failed => State::Failed { why },
        StateKind::Unknown => State::Unknown { why },
    }
}

fn wrong(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, what.to_owned(), Type::Integer)
}
