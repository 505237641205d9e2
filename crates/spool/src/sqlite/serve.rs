//! The queue by SQLite as a [`Store`]: what each call has done, and how.

use std::io;
use std::sync::Arc;

use futures_util::future::FutureExt as _;
use jiff::Timestamp;
use rusqlite::params;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::change::Change;
use super::freed::Freed;
use super::stored::{SqliteBody, blocking};
use super::writer::{Manner, Transaction, lock};
use super::{SqliteSpool, begin, holders, log_of, look, on_disk, pace, row, schema, settle};
use crate::body::{BodyWriter, StoredBody};
use crate::claim::{Back, Began, Begin, Pace, Settled, Settlement, Turn};
use crate::error::{SpoolError, SpoolErrorKind};
use crate::holder::{Changes, Holder, HolderId, Recovered, Slot};
use crate::id::QueueId;
use crate::message::{Accepted, NewMessage};
use crate::query::{AccountState, Aged, Due, Filter, Listed, Select, Shown, Stats, Tidied};
use crate::store::{Answer, Store};

impl Store for SqliteSpool {
    fn accept(&self, message: NewMessage, now: Timestamp) -> Answer<'_, Accepted> {
        self.take(message, now).boxed()
    }

    fn body(&self) -> Box<dyn BodyWriter> {
        let most = self.0.settings.max_message;
        Box::new(SqliteBody::new(self.segments(), most))
    }

    fn begin(&self, begin: Begin) -> Answer<'_, Began> {
        self.begun(begin).boxed()
    }

    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> Answer<'_, Vec<Settled>> {
        let manner = Manner {
            lazy: true,
            tells: true,
            ..Manner::default()
        };
        self.write(manner, move |transaction| {
            settlements
                .iter()
                .map(|settlement| settle::settle(transaction, settlement, now))
                .collect()
        })
        .boxed()
    }

    fn slot(
        &self,
        account: &str,
        holder: HolderId,
        at_most: u32,
        now: Timestamp,
    ) -> Answer<'_, Option<Slot>> {
        let account = account.to_owned();
        let holders = Arc::clone(&self.0.holders);
        async move {
            let slot = self
                .write(fleeting(), move |transaction| {
                    begin::check_holder(transaction, holder)?;
                    let (account, _) = pace::account(transaction, &account, now)?;
                    holders.slot(transaction, account, holder, at_most)
                })
                .await?;
            let writer = Arc::clone(&self.0.writer);
            Ok(slot.map(|slot| Slot::new(move || writer.free(Freed::Slot(slot)))))
        }
        .boxed()
    }

    fn turn(
        &self,
        account: &str,
        holder: HolderId,
        pace: Pace,
        recipients: u32,
        now: Timestamp,
    ) -> Answer<'_, Turn> {
        self.granted(account.to_owned(), holder, pace, recipients, now)
            .boxed()
    }

    fn join(&self, name: &str, now: Timestamp) -> Answer<'_, Holder> {
        let name = name.to_owned();
        async move {
            let holders = Arc::clone(&self.0.holders);
            let locked = blocking(move || holders.lock()).await?;
            let file = locked.name.clone();
            let id = self
                .write(fleeting(), move |transaction| {
                    holders::join(transaction, &name, file.as_deref(), now)
                })
                .await?;
            self.0.holders.own(id, &locked.alive);
            Ok(Holder::new(id, locked.alive))
        }
        .boxed()
    }

    fn heartbeat(&self, holder: HolderId, _now: Timestamp) -> Answer<'_, ()> {
        self.write(fleeting(), move |transaction| {
            holders::beat(transaction, holder)
        })
        .boxed()
    }

    fn leave(&self, holder: HolderId) -> Answer<'_, ()> {
        async move {
            let leave = move |transaction: &Transaction<'_>| holders::leave(transaction, holder);
            self.write(fleeting(), leave).await?;
            let Some(files) = &self.0.files else {
                return Ok(());
            };
            let (writer, log) = (Arc::clone(&self.0.writer), log_of(&files.database));
            // Of use to others only: they find what there is as it is.
            let _ = blocking(move || writer.with(|found| schema::shorten(found, &log))).await;
            Ok(())
        }
        .boxed()
    }

    fn recover(&self, now: Timestamp) -> Answer<'_, Vec<Recovered>> {
        let holders = Arc::clone(&self.0.holders);
        let manner = Manner {
            tells: true,
            ..Manner::default()
        };
        self.write(manner, move |transaction| holders.recover(transaction, now))
            .boxed()
    }

    fn back_off(&self, account: &str, back: Option<Back>, now: Timestamp) -> Answer<'_, ()> {
        let account = account.to_owned();
        let manner = Manner {
            tells: true,
            ..Manner::default()
        };
        self.write(manner, move |transaction| {
            let (account, now) = pace::account(transaction, &account, now)?;
            pace::note(transaction, account, now)?;
            transaction.execute(
                "UPDATE account SET back_off_until = ?, back_off_why = ? WHERE id = ?",
                params![
                    back.as_ref().map(|back| row::stamp(back.until)),
                    back.as_ref().map(|back| &back.why),
                    account,
                ],
            )?;
            Ok(())
        })
        .boxed()
    }

    fn account_state(&self, account: &str, now: Timestamp) -> Answer<'_, AccountState> {
        let account = account.to_owned();
        self.snapshot(move |connection| look::account_state(connection, &account, now))
            .boxed()
    }

    fn next_due(&self, now: Timestamp) -> Answer<'_, Vec<Due>> {
        self.snapshot(move |connection| look::due(connection, now))
            .boxed()
    }

    fn expire(&self, aged: Vec<Aged>, now: Timestamp) -> Answer<'_, Vec<Settled>> {
        self.overdue(aged, now).boxed()
    }

    fn list(&self, filter: Filter) -> Answer<'_, Vec<Listed>> {
        self.snapshot(move |connection| look::list(connection, &filter))
            .boxed()
    }

    fn show(&self, id: QueueId) -> Answer<'_, Option<Shown>> {
        self.snapshot(move |connection| look::show(connection, id))
            .boxed()
    }

    fn stats(&self) -> Answer<'_, Stats> {
        let files = self.0.files.as_ref();
        let files = files.map(|files| (files.database.clone(), Arc::clone(&files.segments)));
        self.snapshot(move |connection| {
            let mut stats = look::stats(connection)?;
            if let Some((database, segments)) = files {
                let bodies = segments.files()?.into_iter().map(|(_, octets)| octets);
                stats.on_disk = bodies.sum::<u64>() + on_disk(&database);
            }
            Ok(stats)
        })
        .boxed()
    }

    fn stored(&self, id: QueueId) -> Answer<'_, StoredBody> {
        self.stored_body(id).boxed()
    }

    fn export<'a>(
        &'a self,
        id: QueueId,
        into: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> Answer<'a, u64> {
        async move {
            let failed = |error: io::Error| {
                let kind = match error.kind() {
                    io::ErrorKind::InvalidData => SpoolErrorKind::Corrupt,
                    _ => SpoolErrorKind::Io,
                };
                SpoolError::new(kind, &format!("{id}: {error}"))
            };
            let body = self.stored_body(id).await?;
            let mut buffer = vec![0; 64 * 1024];
            let mut at = 0;
            loop {
                let count = body.read_at(at, &mut buffer).await.map_err(failed)?;
                if count == 0 {
                    into.flush().await.map_err(failed)?;
                    return Ok(at);
                }
                into.write_all(&buffer[..count]).await.map_err(failed)?;
                at += u64::try_from(count).unwrap_or(u64::MAX);
            }
        }
        .boxed()
    }

    fn retry(&self, select: Select, now: Timestamp) -> Answer<'_, u64> {
        self.change(select, Change::Retry(now)).boxed()
    }

    fn hold(&self, select: Select, why: &str, now: Timestamp) -> Answer<'_, u64> {
        self.change(select, Change::Hold(now, why.to_owned()))
            .boxed()
    }

    fn release(&self, select: Select, now: Timestamp) -> Answer<'_, u64> {
        self.change(select, Change::Release(now)).boxed()
    }

    fn remove(&self, select: Select) -> Answer<'_, u64> {
        self.change(select, Change::Remove).boxed()
    }

    fn tidy(&self, now: Timestamp) -> Answer<'_, Tidied> {
        self.tidied(now).boxed()
    }

    fn look(&self) -> Answer<'_, bool> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let version = inner.writer.with(|connection| {
                let sql = "PRAGMA data_version";
                Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?)
            })?;
            let before = lock(&inner.data_version).replace(version);
            let changed = before.is_some_and(|before| before != version);
            if changed {
                inner.writer.tell();
            }
            Ok(changed)
        })
        .boxed()
    }

    fn changes(&self) -> Changes {
        Changes::new(self.0.writer.changes())
    }
}

/// Of processes and their places: none of them is left when the machine has gone down.
fn fleeting() -> Manner {
    Manner {
        fleeting: true,
        ..Manner::default()
    }
}
