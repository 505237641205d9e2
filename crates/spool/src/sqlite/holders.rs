//! Processes at work, the slots they hold, and what becomes of what dead ones held.
//!
//! A holder has a file locked; a lock that can be taken is a dead holder's, whatever the clock
//! says. One that lives but does not beat is dead when two looks in a row, a minute after its
//! last beat was first seen, find it so: a clock that jumps kills nobody.

use std::any::Any;
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::row::stamp;
use super::segment::{locked_file, make_dir};
use super::settle;
use super::writer::{Transaction, lock};
use crate::error::{SpoolError, SpoolErrorKind};
use crate::holder::{HolderId, Recovered};
use crate::store::SILENCE;

/// The suffix of lock files.
const SUFFIX: &str = ".lock";

/// Looks in a row that find a holder silent before it counts as dead.
const LOOKS: u32 = 2;

/// What this process knows of holders.
pub(crate) struct Holders {
    /// Where lock files are; none in memory.
    dir: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Those of this process.
    own: HashMap<i64, Weak<dyn Any + Send + Sync>>,
    heard: HashMap<i64, Heard>,
}

/// When a holder's last beat was first seen, and how many looks found it silent since.
#[derive(Clone, Copy)]
struct Heard {
    beats: i64,
    at: Timestamp,
    silent: u32,
}

/// What keeps a holder alive: the lock, where there is one.
struct Alive {
    locked: Option<(PathBuf, File)>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some((path, _file)) = &self.locked {
            // Before the lock is free, so that nobody finds it without an owner.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A lock that was taken for a holder to come.
pub(crate) struct Locked {
    pub(crate) name: Option<String>,
    pub(crate) alive: Arc<dyn Any + Send + Sync>,
}

impl Holders {
    pub(crate) fn open(dir: Option<PathBuf>) -> Result<Self, SpoolError> {
        if let Some(dir) = &dir {
            make_dir(dir)?;
        }
        Ok(Self {
            dir,
            known: Mutex::default(),
        })
    }

    /// Takes a lock that nobody else has.
    pub(crate) fn lock(&self) -> Result<Locked, SpoolError> {
        let Some(dir) = &self.dir else {
            return Ok(Locked {
                name: None,
                alive: Arc::new(Alive { locked: None }),
            });
        };
        let (name, path, file) = locked_file(dir, SUFFIX)?;
        let locked = Some((path, file));
        Ok(Locked {
            name: Some(name),
            alive: Arc::new(Alive { locked }),
        })
    }

    /// This process has it.
    pub(crate) fn own(&self, holder: HolderId, alive: &Arc<dyn Any + Send + Sync>) {
        lock(&self.known)
            .own
            .insert(holder.0, Arc::downgrade(alive));
    }

    /// Whether a holder is dead.
    fn is_dead(&self, row: &HolderRow, now: Timestamp) -> Result<bool, SpoolError> {
        let mut known = lock(&self.known);
        if row.ended {
            return Ok(true);
        }
        match known.own.get(&row.id) {
            Some(own) if own.strong_count() == 0 => return Ok(true),
            Some(_) => {}
            // Of memory nobody else is.
            None => {
                if let (Some(dir), Some(name)) = (&self.dir, &row.lock)
                    && is_free(&dir.join(name))?
                {
                    return Ok(true);
                }
            }
        }
        let new = Heard {
            beats: row.beats,
            at: now,
            silent: 0,
        };
        let heard = known.heard.entry(row.id).or_insert(new);
        // A clock that was set back begins anew.
        if heard.beats != row.beats || now < heard.at {
            *heard = new;
        }
        let silence = now.duration_since(heard.at).unsigned_abs();
        if silence >= SILENCE {
            heard.silent += 1;
        }
        Ok(heard.silent >= LOOKS)
    }

    /// A slot's number, if there is room. Where there is none, places of processes that are gone
    /// are given up first: nobody may be there to recover what else they held.
    pub(crate) fn slot(
        &self,
        transaction: &Transaction<'_>,
        account: i64,
        holder: HolderId,
        at_most: u32,
    ) -> Result<Option<i64>, SpoolError> {
        if let Some(slot) = slot(transaction, account, holder, at_most)? {
            return Ok(Some(slot));
        }
        let others: Vec<(i64, Option<String>, bool)> = transaction
            .sql(
                "SELECT DISTINCT holder.id, holder.lock, holder.ended
                 FROM slot JOIN holder ON holder.id = slot.holder WHERE slot.account = ?",
            )?
            .query_map([account], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (other, lock, ended) in others {
            let gone = match (&self.dir, &lock) {
                (Some(dir), Some(name)) => is_free(&dir.join(name))?,
                _ => false,
            };
            if ended || gone {
                transaction.execute("DELETE FROM slot WHERE holder = ?", [other])?;
            }
        }
        slot(transaction, account, holder, at_most)
    }

    fn forget(&self, holder: i64) {
        let mut known = lock(&self.known);
        known.own.remove(&holder);
        known.heard.remove(&holder);
    }

    /// Removes lock files of processes that died before they joined.
    pub(crate) fn tidy(&self) -> Result<(), SpoolError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let failed = |error: io::Error| SpoolError::io(dir, &error);
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|found| found == "lock") && is_free(&path)? {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Takes from dead holders what they held.
    pub(crate) fn recover(
        &self,
        transaction: &Transaction<'_>,
        now: Timestamp,
    ) -> Result<Vec<Recovered>, SpoolError> {
        let rows: Vec<HolderRow> = transaction
            .sql("SELECT id, name, lock, beats, ended FROM holder ORDER BY id")?
            .query_map([], |row| {
                Ok(HolderRow {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    lock: row.get(2)?,
                    beats: row.get(3)?,
                    ended: row.get(4)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        let mut recovered = Vec::new();
        for row in rows {
            if self.is_dead(&row, now)? {
                bury(transaction, &row, now, &mut recovered)?;
                self.forget(row.id);
            }
        }
        Ok(recovered)
    }
}

struct HolderRow {
    id: i64,
    name: String,
    lock: Option<String>,
    beats: i64,
    ended: bool,
}

/// Whether a lock is gone, or nobody has it.
fn is_free(path: &Path) -> Result<bool, SpoolError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(SpoolError::io(path, &error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(SpoolError::io(path, &error)),
    }
}

/// Ends a dead holder's leases and slots.
fn bury(
    transaction: &Transaction<'_>,
    row: &HolderRow,
    now: Timestamp,
    recovered: &mut Vec<Recovered>,
) -> Result<(), SpoolError> {
    let leases: Vec<(i64, Option<i64>)> = transaction
        .sql("SELECT id, message FROM lease WHERE holder = ? ORDER BY id")?
        .query_map([row.id], |lease| Ok((lease.get(0)?, lease.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (lease, message) in leases {
        let Some(message) = message else {
            super::freed::Freed::Ticket(lease, Some(now)).write(transaction)?;
            continue;
        };
        let lost = settle::lost(transaction, message, lease, now)?;
        if !lost.transitions.is_empty() {
            recovered.push(Recovered {
                id: lost.id,
                account: lost.account,
                message_id: lost.message_id,
                holder: row.name.clone(),
                transitions: lost.transitions,
            });
        }
    }
    transaction.execute("DELETE FROM slot WHERE holder = ?", [row.id])?;
    transaction.execute("DELETE FROM holder WHERE id = ?", [row.id])?;
    Ok(())
}

pub(crate) fn join(
    transaction: &Transaction<'_>,
    name: &str,
    lock: Option<&str>,
    now: Timestamp,
) -> Result<HolderId, SpoolError> {
    transaction.execute(
        "INSERT INTO holder (name, lock, beats, ended, joined_at) VALUES (?, ?, 0, 0, ?)",
        params![name, lock, stamp(now)],
    )?;
    Ok(HolderId(transaction.inserted()))
}

pub(crate) fn beat(transaction: &Transaction<'_>, holder: HolderId) -> Result<(), SpoolError> {
    let sql = "UPDATE holder SET beats = beats + 1 WHERE id = ? AND ended = 0";
    if transaction.execute(sql, [holder.0])? == 1 {
        return Ok(());
    }
    let what = "others took this process for dead, and over what it held";
    Err(SpoolError::new(SpoolErrorKind::Fenced, what))
}

/// Ends a holder. One that was sending something is kept until somebody has seen to that.
pub(crate) fn leave(transaction: &Transaction<'_>, holder: HolderId) -> Result<(), SpoolError> {
    let sending: bool = transaction
        .sql("SELECT EXISTS (SELECT 1 FROM lease WHERE holder = ?)")?
        .query_row([holder.0], |row| row.get(0))?;
    if sending {
        transaction.execute("UPDATE holder SET ended = 1 WHERE id = ?", [holder.0])?;
        return Ok(());
    }
    transaction.execute("DELETE FROM slot WHERE holder = ?", [holder.0])?;
    transaction.execute("DELETE FROM holder WHERE id = ?", [holder.0])?;
    Ok(())
}

/// A slot's number, if there is room.
fn slot(
    transaction: &Transaction<'_>,
    account: i64,
    holder: HolderId,
    at_most: u32,
) -> Result<Option<i64>, SpoolError> {
    let taken: i64 = transaction
        .sql("SELECT count(*) FROM slot WHERE account = ?")?
        .query_row([account], |row| row.get(0))?;
    if taken >= i64::from(at_most) {
        return Ok(None);
    }
    let sql = "INSERT INTO slot (account, holder) VALUES (?, ?)";
    transaction.execute(sql, params![account, holder.0])?;
    Ok(Some(transaction.inserted()))
}

/// The number of an account that is known.
pub(crate) fn account(
    connection: &rusqlite::Connection,
    name: &str,
) -> Result<Option<i64>, SpoolError> {
    let found = connection
        .prepare_cached("SELECT id FROM account WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(found)
}
