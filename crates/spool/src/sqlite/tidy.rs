//! Removing what nobody needs any more, and moving the rest together.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::change::remove;
use super::fail;
use super::row::{count, integer, number, span, stamp};
use super::segment::{Placed, Segments};
use super::stored::SegmentBody;
use super::writer::Transaction;
use crate::error::{SpoolError, SpoolErrorKind};
use crate::query::Tidied;

use std::time::Duration;

/// Messages, or keys, that one transaction removes.
const AT_ONCE: usize = 500;

/// Octets that are moved at once.
const MOVED_AT_ONCE: u64 = 32 * 1024 * 1024;

/// Files shorter than this are moved together, when there are [`MANY`].
const SHORT: u64 = 8 * 1024 * 1024;
const MANY: usize = 8;

/// Free pages that are worth giving back to the system.
const FREE_PAGES: i64 = 1024;

/// Removes messages and keys that are kept long enough.
pub(crate) fn expire(
    transaction: &Transaction<'_>,
    retention: Duration,
    window: Duration,
    now: Timestamp,
) -> Result<Tidied, SpoolError> {
    let mut tidied = Tidied::default();
    let over = stamp(now).saturating_sub(span(retention));
    let done: Vec<i64> = transaction
        .sql("SELECT id FROM message WHERE done_at <= ? ORDER BY done_at LIMIT ?")?
        .query_map(params![over, integer(AT_ONCE)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in &done {
        tidied.messages += u64::from(remove(transaction, *id)?);
    }
    let over = stamp(now).saturating_sub(span(window));
    let keys = transaction.execute(
        "DELETE FROM receipt WHERE (account, key) IN
            (SELECT account, key FROM receipt WHERE accepted_at <= ? ORDER BY accepted_at LIMIT ?)",
        params![over, integer(AT_ONCE)],
    )?;
    tidied.keys = count(integer(keys));
    tidied.more = done.len() == AT_ONCE || keys == AT_ONCE;
    Ok(tidied)
}

/// Gives free pages back to the system; whether there are more.
pub(crate) fn shrink(connection: &Connection) -> Result<bool, SpoolError> {
    let pragma = |name: &str| -> rusqlite::Result<i64> {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
    };
    let free = pragma("freelist_count")?;
    if free < FREE_PAGES || free < pragma("page_count")? / 4 {
        return Ok(false);
    }
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({FREE_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}

/// A body that is to move to another file.
pub(crate) struct Move {
    message: i64,
    segment: String,
    pub(crate) placed: Arc<Placed>,
}

/// Removes files that no message needs. What is to move out of files of which little is needed
/// is copied, and its messages are to be told by [`moved`].
pub(crate) fn segments(
    connection: &Connection,
    segments: &Arc<Segments>,
    tidied: &mut Tidied,
) -> Result<Vec<Move>, SpoolError> {
    segments.let_go();
    let needed: HashMap<String, u64> = connection
        .prepare("SELECT segment, sum(octets) FROM message WHERE segment IS NOT NULL GROUP BY 1")?
        .query_map([], |row| Ok((row.get(0)?, number(row, 1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let files = segments.files()?;
    let short = files.iter().filter(|(_, octets)| *octets < SHORT).count() >= MANY;
    let mut moves = Vec::new();
    for (name, octets) in files {
        let live = needed.get(&name).copied().unwrap_or(0);
        let wasted = octets.saturating_sub(live) > octets / 2;
        if live > 0 && !wasted && !(short && octets < SHORT) {
            continue;
        }
        let Some(unused) = segments.unused(&name)? else {
            continue;
        };
        // Nobody appends to it now: what no message names now none ever will.
        if !is_needed(connection, &name)? {
            fail::step();
            unused.remove()?;
            tidied.segments += 1;
        } else if tidied.moved < MOVED_AT_ONCE {
            copy(connection, segments, &name, &mut moves, tidied)?;
        } else {
            tidied.more = true;
        }
    }
    Ok(moves)
}

fn is_needed(connection: &Connection, segment: &str) -> Result<bool, SpoolError> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT 1 FROM message WHERE segment = ? LIMIT 1")?
        .query_row([segment], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Copies what is needed of a file to the end of another.
fn copy(
    connection: &Connection,
    segments: &Arc<Segments>,
    name: &str,
    moves: &mut Vec<Move>,
    tidied: &mut Tidied,
) -> Result<(), SpoolError> {
    let mut select = connection.prepare_cached(
        "SELECT id, place, octets, sum FROM message WHERE segment = ? ORDER BY place",
    )?;
    let mut rows = select.query([name])?;
    while let Some(row) = rows.next()? {
        if tidied.moved >= MOVED_AT_ONCE {
            tidied.more = true;
            return Ok(());
        }
        let octets: u64 = number(row, 2)?;
        let file = segments.reader(name)?;
        let copied =
            SegmentBody::new(file, number(row, 1)?, octets, row.get(3)?).and_then(|body| {
                let mut writing = segments.write()?;
                body.copy(&mut writing)?;
                writing.finish()
            });
        let placed = match copied {
            Ok(placed) => placed,
            // Damaged octets stay where they are, for a person to see.
            Err(error) if error.kind == SpoolErrorKind::Corrupt => continue,
            Err(error) => return Err(error),
        };
        fail::step();
        tidied.moved += octets;
        moves.push(Move {
            message: row.get(0)?,
            segment: name.to_owned(),
            placed: Arc::new(placed),
        });
    }
    Ok(())
}

/// Tells a message where its octets are now.
pub(crate) fn moved(transaction: &Transaction<'_>, moves: &Move) -> Result<bool, SpoolError> {
    let changed = transaction.execute(
        "UPDATE message SET segment = ?, place = ? WHERE id = ? AND segment = ?",
        params![
            moves.placed.name(),
            integer(moves.placed.place),
            moves.message,
            moves.segment,
        ],
    )?;
    Ok(changed > 0)
}
