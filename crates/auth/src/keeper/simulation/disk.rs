//! A store that several processes share, each with its own hold on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use super::history::{Life, Seen, What, serial};
use super::life::Body;
use crate::keeper::record::Record;
use crate::keeper::store::{GrantKey, GrantStore, Shelf, StoreError, StoreLock};

type Name = (Shelf, GrantKey);

/// What survives a crash, and the locks, which do not.
#[derive(Default)]
pub(super) struct Disk {
    records: Mutex<HashMap<Name, Vec<u8>>>,
    locks: Mutex<HashMap<Name, Life>>,
    full: AtomicBool,
}

impl Disk {
    /// Whether writing fails.
    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// The generation of what is kept of a grant; 0 where nothing is.
    pub(super) fn generation(&self, grant: usize) -> u64 {
        let records = self.records.lock().unwrap();
        let record = records.get(&(Shelf::Grant, key(grant)));
        record.map_or(0, |octets| Record::decode(octets).unwrap().generation)
    }

    /// The operating system frees what a dead process had locked.
    pub(super) fn bury(&self, life: Life) {
        self.locks.lock().unwrap().retain(|_, owner| *owner != life);
    }
}

/// The key of a grant.
pub(super) fn key(grant: usize) -> GrantKey {
    let number = u8::try_from(grant).expect("few grants");
    GrantKey([number; 32])
}

/// The grant of a key.
pub(super) fn grant(key: &GrantKey) -> usize {
    key.0[0].into()
}

/// One process's hold on the disk.
pub(super) struct Hold {
    pub(super) disk: Arc<Disk>,
    pub(super) body: Arc<Body>,
}

impl Hold {
    pub(super) fn new(disk: Arc<Disk>, body: Arc<Body>) -> Self {
        Self { disk, body }
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.body.is_dead() {
            return Err(error("the process is dead"));
        }
        Ok(())
    }
}

fn error(message: &str) -> StoreError {
    StoreError::new(message, false)
}

impl GrantStore for Hold {
    fn load(&self, kind: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.alive()?;
        let records = self.disk.records.lock().unwrap();
        let record = records.get(&(kind, *key)).cloned().map(Zeroizing::new);
        drop(records);
        self.body.stepped();
        Ok(record)
    }

    fn save(&self, kind: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError> {
        self.alive()?;
        let (by, grant) = (self.body.life, grant(key));
        if self.disk.full.load(Ordering::Relaxed) {
            if kind == Shelf::Grant {
                self.body.history.add(What::NotSaved { by, grant });
            }
            return Err(error("the disk is full"));
        }
        let mut records = self.disk.records.lock().unwrap();
        records.insert((kind, *key), record.to_vec());
        drop(records);
        if kind == Shelf::Grant {
            let record = seen(&Record::decode(record)?);
            self.body.history.add(What::Saved { by, grant, record });
        }
        self.body.stepped();
        Ok(())
    }

    fn remove(&self, kind: Shelf, key: &GrantKey) -> Result<bool, StoreError> {
        self.alive()?;
        let mut records = self.disk.records.lock().unwrap();
        Ok(records.remove(&(kind, *key)).is_some())
    }

    fn try_lock(&self, kind: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError> {
        self.alive()?;
        let name = (kind, *key);
        let mut locks = self.disk.locks.lock().unwrap();
        if locks.contains_key(&name) {
            return Ok(None);
        }
        locks.insert(name, self.body.life);
        drop(locks);
        self.body.stepped();
        Ok(Some(StoreLock::new(Unlock {
            disk: Arc::clone(&self.disk),
            life: self.body.life,
            name,
        })))
    }

    fn blocks(&self) -> bool {
        false
    }
}

fn seen(record: &Record) -> Seen {
    Seen {
        generation: record.generation,
        access: record
            .access
            .as_ref()
            .map(|access| serial(access.token.expose())),
        refresh: record
            .refresh
            .as_ref()
            .map(|refresh| serial(refresh.token.expose())),
        intent: record.intent.is_some(),
        retired: record.retired.is_some(),
    }
}

struct Unlock {
    disk: Arc<Disk>,
    life: Life,
    name: Name,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        let mut locks = self.disk.locks.lock().unwrap();
        if locks.get(&self.name) == Some(&self.life) {
            locks.remove(&self.name);
        }
    }
}
