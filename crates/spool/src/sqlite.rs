//! The queue in a directory, by SQLite.
//!
//! `spool.db` has the messages, `segments/` the large bodies, `holders/` a locked file for each
//! process at work. Writing is told at [`writer`], the tables at [`schema`], what each call does
//! at [`serve`].

mod accept;
mod begin;
mod change;
mod fail;
mod freed;
mod holders;
mod look;
mod pace;
mod row;
mod schema;
mod segment;
mod serve;
mod settle;
mod stored;
mod tidy;
mod writer;

use std::fmt;
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::Semaphore;

use accept::Where;
use change::Change;
use freed::Freed;
use holders::Holders;
use segment::{Placed, Segments};
use stored::{DAMAGED, INLINE, blocking, check_len};
use writer::{Manner, Transaction, Writer, lock};

use crate::body::{Body, StoredBody};
use crate::claim::{Began, Begin, Pace, PaceLimit, Settled, Ticket, Turn};
use crate::error::{SpoolError, SpoolErrorKind};
use crate::holder::HolderId;
use crate::id::QueueId;
use crate::message::{Accepted, NewMessage};
use crate::query::{Aged, Select, Tidied};
use crate::state::State;

/// How a queue is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// How long a message is kept after its last recipient was delivered or failed.
    pub retention: Duration,
    /// How long an idempotency key is known.
    pub idempotency_window: Duration,
    /// The largest message taken.
    pub max_message: u64,
    /// Octets of the disk that new messages leave free, so that what is queued can still be
    /// sent and settled.
    pub reserve: u64,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(24 * 7),
            idempotency_window: Duration::from_hours(24),
            // Exchange Online's ceiling.
            max_message: 150 * 1024 * 1024,
            // Some thousand settlements.
            reserve: 4 * 1024 * 1024,
        }
    }
}

/// Messages that one transaction changes for a person.
const CHANGED_AT_ONCE: usize = 500;

/// Messages that one call gives up for their age.
const OVERDUE_AT_ONCE: usize = 250;

/// Reads at the same time.
const READERS: usize = 4;

/// A queue in a directory that processes share. A clone is the same queue.
#[derive(Clone)]
pub struct SqliteSpool(Arc<Inner>);

struct Inner {
    settings: SpoolSettings,
    writer: Arc<Writer>,
    holders: Arc<Holders>,
    /// None in memory.
    files: Option<Files>,
    data_version: Mutex<Option<i64>>,
}

struct Files {
    database: PathBuf,
    segments: Arc<Segments>,
    readers: Arc<Mutex<Vec<Connection>>>,
    reading: Semaphore,
}

/// What the disk was asked to do since the queue was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Transactions that were flushed, once each.
    pub commits: u64,
    /// Flushes of segments.
    pub segment_syncs: u64,
}

/// What SQLite wants to have beside a database before it reads it: an index of its log.
const FILES_TO_OPEN: u64 = 64 * 1024;

impl SqliteSpool {
    /// Opens the queue in `dir`, which is made if it is not there. Only its owner may look into
    /// it.
    pub fn open(dir: &Path, settings: SpoolSettings) -> Result<Self, SpoolError> {
        segment::make_dir(dir)?;
        private(dir, 0o700).map_err(|error| SpoolError::io(dir, &error))?;
        let segments = Segments::open(dir.join("segments"))?;
        let holders = Holders::open(Some(dir.join("holders")))?;
        let database = dir.join("spool.db");
        let connection = {
            // SQLite's locks are the process's: closing the file, as making it does, would
            // release those of another handle.
            static MAKING: Mutex<()> = Mutex::new(());
            let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
            make(&database).map_err(|error| SpoolError::io(&database, &error))?;
            schema::open_writer(&database).map_err(|error| unopened(dir, &database, &error))?
        };
        let measured = dir.to_owned();
        let room = Box::new(move || {
            let found = rustix::fs::statvfs(&measured).ok()?;
            Some(found.f_bavail.saturating_mul(found.f_frsize))
        });
        let files = Files {
            database,
            segments,
            readers: Arc::default(),
            reading: Semaphore::new(READERS),
        };
        Ok(Self(Arc::new(Inner {
            writer: Writer::new(connection, room, settings.reserve),
            settings,
            holders: Arc::new(holders),
            files: Some(files),
            data_version: Mutex::default(),
        })))
    }

    /// One that is forgotten with its last clone.
    pub fn in_memory(settings: SpoolSettings) -> Result<Self, SpoolError> {
        let connection = schema::open_in_memory()?;
        Ok(Self(Arc::new(Inner {
            writer: Writer::new(connection, Box::new(|| None), settings.reserve),
            settings,
            holders: Arc::new(Holders::open(None)?),
            files: None,
            data_version: Mutex::default(),
        })))
    }

    /// What the disk was asked to do since the queue was opened.
    pub fn counters(&self) -> Counters {
        let segments = self.0.files.as_ref().map(|files| &files.segments);
        Counters {
            commits: self.0.writer.commits.load(Ordering::Relaxed),
            segment_syncs: segments.map_or(0, |files| files.syncs.load(Ordering::Relaxed)),
        }
    }

    fn segments(&self) -> Option<Arc<Segments>> {
        let files = self.0.files.as_ref()?;
        Some(Arc::clone(&files.segments))
    }

    /// Has something done by the writer.
    async fn write<T: Send + 'static>(
        &self,
        manner: Manner,
        work: impl FnMut(&Transaction<'_>) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        self.0.writer.write(manner, work).await
    }

    /// Looks, on a connection of its own. What `work` reads is not of one moment.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let Some(files) = &self.0.files else {
            let writer = Arc::clone(&self.0.writer);
            return blocking(move || writer.with(work)).await;
        };
        let _permit = files.reading.acquire().await;
        let readers = Arc::clone(&files.readers);
        let database = files.database.clone();
        blocking(move || {
            let idle = lock(&readers).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => schema::open_reader(&database)?,
            };
            let done = work(&connection);
            lock(&readers).push(connection);
            done
        })
        .await
    }

    /// Looks at one moment.
    async fn snapshot<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        self.read(move |connection| {
            let transaction = connection.unchecked_transaction()?;
            work(&transaction)
        })
        .await
    }

    async fn take(&self, mut message: NewMessage, now: Timestamp) -> Result<Accepted, SpoolError> {
        accept::distinct(&mut message.recipients)?;
        check_len(message.body.len(), self.0.settings.max_message)?;
        let body = match (&message.body, self.segments()) {
            (Body::Bytes(bytes), Some(segments)) if bytes.len() > INLINE => {
                let placed = stored::place(segments, Arc::clone(bytes)).await?;
                Where::Segment(Arc::new(placed))
            }
            (Body::Bytes(bytes), _) => Where::Inline(Arc::clone(bytes)),
            (Body::Staged(staged), _) => Where::Segment(staged.placed()?),
        };
        let placed = match &body {
            Where::Segment(placed) => Some(Arc::clone(placed)),
            Where::Inline(_) => None,
        };
        let manner = Manner {
            grows: true,
            tells: true,
            segment: placed.as_ref().map(|placed| Arc::clone(placed.segment())),
            ..Manner::default()
        };
        if let Some(placed) = &placed {
            placed.need();
        }
        let window = self.0.settings.idempotency_window;
        let accepted = self
            .write(manner, move |transaction| {
                accept::accept(transaction, &message, &body, window, now)
            })
            .await;
        if let Some(placed) = &placed {
            // Of an I/O error while it was written nobody knows whether it was.
            let needed = match &accepted {
                Ok(accepted) => !accepted.duplicate,
                Err(error) => error.kind == SpoolErrorKind::Io,
            };
            if !needed {
                placed.release();
            }
        }
        accepted
    }

    async fn begun(&self, ask: Begin) -> Result<Began, SpoolError> {
        let began = self.try_begin(&ask).await;
        if began.as_ref().err().map(|error| error.kind) != Some(SpoolErrorKind::Corrupt) {
            return began;
        }
        // A damaged page costs what is on it: a person sees to that, and the rest goes on.
        let (segments, asked) = (self.segments(), ask.clone());
        let damaged = self
            .read(move |connection| begin::damaged(connection, segments.as_ref(), &asked))
            .await?;
        if damaged.is_empty() {
            return began;
        }
        let now = ask.now;
        let mut given_up = self
            .write(Manner::default(), move |transaction| {
                let why = State::Held {
                    why: DAMAGED.to_owned(),
                };
                let ids = damaged.iter();
                ids.map(|id| settle::give_up(transaction, *id, &why, now))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        // What was held is told even if the rest cannot be begun now.
        let mut began = self.try_begin(&ask).await.unwrap_or_else(|_| Began {
            claims: Vec::new(),
            given_up: Vec::new(),
            next: Some(now),
            held_back_by: None,
        });
        given_up.append(&mut began.given_up);
        began.given_up = given_up;
        Ok(began)
    }

    async fn try_begin(&self, ask: &Begin) -> Result<Began, SpoolError> {
        let (segments, ask) = (self.segments(), ask.clone());
        self.write(Manner::default(), move |transaction| {
            begin::begin(transaction, segments.as_ref(), &ask)
        })
        .await
    }

    /// Makes a change to all that are selected, some at a time.
    async fn change(&self, select: Select, change: Change) -> Result<u64, SpoolError> {
        let mut changed = 0;
        let only = match &select {
            Select::Ids(_) => None,
            Select::Matching(filter) => filter.state,
        };
        let (mut filter, mut ids, mut left) = match select {
            Select::Ids(ids) => (None, ids, usize::MAX),
            Select::Matching(filter) => {
                let left = filter.limit.unwrap_or(usize::MAX);
                (Some(filter), Vec::new(), left)
            }
        };
        loop {
            if let Some(filter) = &mut filter {
                filter.limit = Some(left.min(CHANGED_AT_ONCE));
                let asked = filter.clone();
                ids = self.snapshot(move |found| look::ids(found, &asked)).await?;
                filter.after = ids.last().copied().or(filter.after);
                left -= ids.len();
            }
            let later = ids.split_off(ids.len().min(CHANGED_AT_ONCE));
            if ids.is_empty() {
                return Ok(changed);
            }
            let now = std::mem::replace(&mut ids, later);
            let change = change.clone();
            let manner = Manner {
                tells: change.wakes(),
                ..Manner::default()
            };
            changed += self
                .write(manner, move |transaction| {
                    let mut changed = 0;
                    for id in &now {
                        changed += u64::from(change.apply(transaction, id.number(), only)?);
                    }
                    Ok(changed)
                })
                .await?;
        }
    }

    async fn tidied(&self, now: Timestamp) -> Result<Tidied, SpoolError> {
        let (retention, window) = {
            let settings = &self.0.settings;
            (settings.retention, settings.idempotency_window)
        };
        let mut tidied = self
            .write(Manner::default(), move |transaction| {
                tidy::expire(transaction, retention, window, now)
            })
            .await?;
        let Some(segments) = self.segments() else {
            return Ok(tidied);
        };
        let (found, moves) = self
            .read(move |connection| {
                let mut tidied = Tidied::default();
                let moves = tidy::segments(connection, &segments, &mut tidied)?;
                Ok((tidied, moves))
            })
            .await?;
        tidied.segments = found.segments;
        tidied.moved = found.moved;
        tidied.more |= found.more;
        for moved in moves {
            let placed = Arc::clone(&moved.placed);
            placed.need();
            let manner = Manner {
                segment: Some(Arc::clone(placed.segment())),
                ..Manner::default()
            };
            let done = self
                .write(manner, move |transaction| tidy::moved(transaction, &moved))
                .await;
            if matches!(done, Ok(false)) {
                placed.release();
            }
            done?;
            // The file that they were in goes at the next call.
            tidied.more = true;
        }
        let holders = Arc::clone(&self.0.holders);
        let writer = Arc::clone(&self.0.writer);
        tidied.more |= blocking(move || {
            holders.tidy()?;
            writer.with(tidy::shrink)
        })
        .await?;
        Ok(tidied)
    }

    async fn stored_body(&self, id: QueueId) -> Result<StoredBody, SpoolError> {
        let segments = self.segments();
        let found = self
            .snapshot(move |connection| {
                let place = connection
                    .prepare_cached(
                        "SELECT octets, sum, segment, coalesce(place, 0) FROM message
                            WHERE id = ?",
                    )?
                    .query_row([id.number()], begin::Place::of)
                    .optional()?;
                let Some(place) = place else { return Ok(None) };
                let body = place.body(connection, segments.as_ref(), id.number())?;
                Ok(Some(body))
            })
            .await?;
        found.ok_or_else(|| {
            SpoolError::new(
                SpoolErrorKind::NotFound,
                &format!("there is no {id} in the queue"),
            )
        })
    }

    async fn granted(
        &self,
        account: String,
        holder: HolderId,
        pace: Pace,
        recipients: u32,
        now: Timestamp,
    ) -> Result<Turn, SpoolError> {
        let turn = self
            .write(Manner::default(), move |transaction| {
                begin::check_holder(transaction, holder)?;
                let (account, now) = pace::account(transaction, &account, now)?;
                if let Some(until) = begin::backed_off(transaction, account, now)? {
                    return Ok(Err((until, PaceLimit::BackOff)));
                }
                let allowance = pace::allowance(transaction, account, pace, now)?;
                if let Some(wait) = allowance.wait {
                    return Ok(Err(wait));
                }
                if allowance.recipients < u64::from(recipients)
                    && let Some(more) = pace::first_free(transaction, account, pace, now)?
                {
                    return Ok(Err((more, PaceLimit::RecipientsPerDay)));
                }
                let paced = !pace.is_unlimited();
                transaction.execute(
                    "INSERT INTO lease
                        (message, account, holder, recipients, unsettled, gone, paced)
                        VALUES (NULL, ?1, ?2, ?3, ?3, 0, ?4)",
                    params![account, holder.number(), recipients, paced],
                )?;
                Ok(Ok(transaction.inserted()))
            })
            .await?;
        Ok(match turn {
            Ok(lease) => {
                let writer = Arc::clone(&self.0.writer);
                Turn::Granted(Ticket::new(move |now| {
                    writer.free(Freed::Ticket(lease, now));
                }))
            }
            Err((at, limit)) => Turn::Wait(at, limit),
        })
    }

    async fn overdue(&self, aged: Vec<Aged>, now: Timestamp) -> Result<Vec<Settled>, SpoolError> {
        let found = self
            .snapshot(move |connection| settle::overdue(connection, &aged, now, OVERDUE_AT_ONCE))
            .await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        self.write(Manner::default(), move |transaction| {
            let mut settled = Vec::new();
            for (id, why) in &found {
                let why = State::Failed { why: why.clone() };
                let given_up = settle::give_up(transaction, *id, &why, now)?;
                if !given_up.transitions.is_empty() {
                    settled.push(given_up);
                }
            }
            Ok(settled)
        })
        .await
    }
}

impl crate::body::Staged {
    /// Where it is, if this kind of store wrote it.
    fn placed(&self) -> Result<Arc<Placed>, SpoolError> {
        let placed = self.shared_place().downcast::<Placed>();
        placed.map_err(|_| {
            let what = "the body was written for another queue";
            SpoolError::new(SpoolErrorKind::NotFound, what)
        })
    }
}

impl fmt::Debug for SqliteSpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.files {
            Some(files) => write!(f, "SqliteSpool({})", files.database.display()),
            None => f.write_str("SqliteSpool(in memory)"),
        }
    }
}

/// Makes the file if there is none, and keeps others from it.
fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    private(path, 0o600)
}

/// Takes from others what access they have.
fn private(path: &Path, mode: u32) -> io::Result<()> {
    if path.metadata()?.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// What the database takes on the disk, with its log.
fn on_disk(database: &Path) -> u64 {
    let octets = |path: &Path| path.metadata().map_or(0, |found| found.len());
    octets(database) + octets(&log_of(database))
}

fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Why the database was not opened: SQLite keeps to itself what the system told it.
fn unopened(dir: &Path, database: &Path, error: &SpoolError) -> SpoolError {
    let room = rustix::fs::statvfs(dir).ok();
    let room = room.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let kind = match error.kind {
        SpoolErrorKind::Io if rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_err() => {
            SpoolErrorKind::ReadOnly
        }
        SpoolErrorKind::Io if room.is_some_and(|room| room < FILES_TO_OPEN) => SpoolErrorKind::Full,
        kind => kind,
    };
    let what = error.message.trim_start_matches("the queue (spool.db): ");
    SpoolError::at(kind, database, what)
}
