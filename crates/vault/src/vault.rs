//! The vault: opening it, and the records in it.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::crash;
use crate::error::{VaultError, VaultErrorKind};
use crate::file;
use crate::kek::Kek;
use crate::keys::{KeyOptions, KeySource};
use crate::ledger::Ledger;
use crate::manifest::{self, Keys, Stamp};
use crate::record::{Entry, Kind, Record, check_name, check_value};
use crate::seal::Id;
use crate::shard::{Found, Shard};
use crate::sources::Sources;

/// Which vault, and what opens it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The vault's directory. A generated key goes beside it: `vault` → `vault.key`.
    pub dir: PathBuf,
    /// Where the key may come from.
    pub keys: KeyOptions,
    /// The time now, remembered as when the first data key was made if the vault is new.
    pub now: SystemTime,
}

/// An open vault. Clones are the same vault; every call may block on files.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    options: KeyOptions,
    open: RwLock<Arc<Open>>,
}

/// The keys as of one `vault.json`.
pub(crate) struct Open {
    pub(crate) keys: Keys,
    pub(crate) stamp: Option<Stamp>,
}

/// The right to work on one name, until dropped or until this process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// One record, or one thing in the place of a record, as [`Vault::scan`] comes by it.
pub(crate) struct Seen {
    pub(crate) record: Option<(Kind, String)>,
    pub(crate) generation: u64,
    pub(crate) result: Result<Record, VaultError>,
}

impl Vault {
    /// Opens the vault, and creates it on first use.
    pub fn open(options: &Options) -> Result<Vault, VaultError> {
        match Vault::open_existing(options)? {
            Some(vault) => Ok(vault),
            None => Vault::create(options),
        }
    }

    /// Opens the vault if there is one, and creates nothing.
    pub fn open_existing(options: &Options) -> Result<Option<Vault>, VaultError> {
        if !file::check_dir(&options.dir)? {
            return Ok(None);
        }
        let Some(open) = load(&options.dir, &options.keys, None)? else {
            let records = fs::read_dir(options.dir.join(RECORDS));
            if records.is_ok_and(|mut records| records.next().is_some()) {
                let message = "is gone, and with it the keys of the records that are there; \
                               restore it from a backup, or move the directory away";
                let path = options.dir.join(manifest::FILE);
                return Err(VaultError::new(VaultErrorKind::Missing, &path, message));
            }
            return Ok(None);
        };
        let records = options.dir.join(RECORDS);
        if !file::check_dir(&records)? {
            let message = "is gone, and every record with it; restore it from a backup, or move \
                           the vault away";
            return Err(VaultError::new(VaultErrorKind::Missing, &records, message));
        }
        Ok(Some(Vault::new(options, open)))
    }

    fn create(options: &Options) -> Result<Vault, VaultError> {
        let dir = &options.dir;
        file::make_parents(dir)?;
        file::make_dir(dir)?;
        crash::step("create", "made");
        // Of several who create it at once, the first does and the rest find it.
        let _lock = file::lock(&dir.join(LOCK), false)?;
        if let Some(vault) = Vault::open_existing(options)? {
            return Ok(vault);
        }
        file::make_dir(&dir.join(LOCKS))?;
        file::make_dir(&dir.join(RECORDS))?;
        let store = Id::random();
        let sources = Sources {
            options: &options.keys,
            dir,
        };
        let keys = Keys::new(store, sources.choose(store)?, seconds(options.now));
        crash::step("create", "keys");
        let path = dir.join(manifest::FILE);
        file::stage(&path, &keys.text(), 0o600, "create.manifest")?.place()?;
        file::sync_dir(dir)?;
        crash::step("create", "durable");
        let stamp = Stamp::of(&path);
        Ok(Vault::new(options, Open { keys, stamp }))
    }

    fn new(options: &Options, open: Open) -> Vault {
        Vault {
            inner: Arc::new(Inner {
                dir: options.dir.clone(),
                options: options.keys.clone(),
                open: RwLock::new(Arc::new(open)),
            }),
        }
    }

    /// The record of that name.
    pub fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, VaultError> {
        check_name(name)?;
        let open = self.keys();
        let id = open.keys.record_id(kind, name);
        let shard = Shard::of(&self.records(), id);
        let expected = Some((kind, name));
        let found = match shard.look(&open.keys, id, expected) {
            Ok(found) => found,
            Err(_) => self.look_again(&shard, id, expected)?,
        };
        Ok(found.map(Record::from))
    }

    /// Stores a value under a name and answers its generation. It is durable then.
    pub fn put(&self, kind: Kind, name: &str, value: &[u8]) -> Result<u64, VaultError> {
        check_name(name)?;
        check_value(value)?;
        let id = self.keys().keys.record_id(kind, name);
        let shard = Shard::of(&self.records(), id);
        shard.create()?;
        let _lock = shard.lock(false)?;
        shard.put(&self.refreshed()?.keys, id, (kind, name), value)
    }

    /// Forgets a name; whether there was such a record.
    pub fn remove(&self, kind: Kind, name: &str) -> Result<bool, VaultError> {
        check_name(name)?;
        let id = self.keys().keys.record_id(kind, name);
        let shard = Shard::of(&self.records(), id);
        if !shard.exists()? {
            return Ok(false);
        }
        let _lock = shard.lock(false)?;
        shard.remove(&self.refreshed()?.keys, id, (kind, name))
    }

    /// The records of a kind in the order of their names, each read and verified. What has lost
    /// even its name is not here, but in [`Vault::status`].
    pub fn list(&self, kind: Kind) -> Result<Vec<Entry>, VaultError> {
        let mut entries = Vec::new();
        self.scan(&mut |seen| {
            if let Some((of, name)) = seen.record
                && of == kind
            {
                entries.push(Entry {
                    name,
                    generation: seen.generation,
                    problem: seen.result.err(),
                });
            }
        })?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The names of a kind in order, without reading the records: what is broken shows when it is
    /// got. Much quicker than [`Vault::list`].
    pub fn names(&self, kind: Kind) -> Result<Vec<String>, VaultError> {
        let mut names = Vec::new();
        for octet in self.shards()? {
            let shard = Shard::new(&self.records(), octet);
            shard.exists()?;
            let open = self.keys();
            let ledger = shard.ledger(&open.keys);
            let ledger = ledger.or_else(|_| self.ledger_again(&shard))?;
            let index = ledger.index();
            for id in index.with_lost(&shard.ids()?) {
                let known = index.find(id).and_then(|known| known.name);
                let name = match known {
                    Some((of, name)) => (of == kind).then(|| name.to_owned()),
                    // A crash may have kept it out of the ledger.
                    None => match self.look_again(&shard, id, None) {
                        Ok(Some(found)) if found.kind == kind => Some(found.name),
                        _ => None,
                    },
                };
                names.extend(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The lock of a name, if nobody holds it.
    pub fn try_lock(&self, kind: Kind, name: &str) -> Result<Option<Lock>, VaultError> {
        let path = self.lock_path(kind, name)?;
        let file = file::lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(VaultError::io(&path, "lock the file", &error)),
        }
    }

    /// The lock of a name, once nobody else holds it.
    pub(crate) fn lock(&self, kind: Kind, name: &str) -> Result<Lock, VaultError> {
        let file = file::lock(&self.lock_path(kind, name)?, false)?;
        Ok(Lock { _file: file })
    }

    fn lock_path(&self, kind: Kind, name: &str) -> Result<PathBuf, VaultError> {
        check_name(name)?;
        let id = self.keys().keys.record_id(kind, name);
        Ok(self.inner.dir.join(LOCKS).join(id.hex()))
    }

    /// Where the key came from.
    pub fn key_source(&self) -> KeySource {
        self.keys().keys.kek.source()
    }

    /// Goes through all records. `each` is told of every one, and of what stands in the place of
    /// one; what cannot be read under no lock is looked at again under the shard's.
    pub(crate) fn scan(&self, each: &mut dyn FnMut(Seen)) -> Result<(), VaultError> {
        for octet in self.shards()? {
            let shard = Shard::new(&self.records(), octet);
            if let Err(error) = self.scan_shard(&shard, each) {
                each(Seen {
                    record: None,
                    generation: 0,
                    result: Err(error),
                });
            }
        }
        Ok(())
    }

    fn scan_shard(&self, shard: &Shard, each: &mut dyn FnMut(Seen)) -> Result<(), VaultError> {
        shard.exists()?;
        let open = self.keys();
        let keys = &open.keys;
        let Ok(ledger) = shard.ledger(keys).or_else(|_| self.ledger_again(shard)) else {
            return self.scan_without_ledger(shard, each);
        };
        let ids = shard.ids()?;
        let index = ledger.index();
        for id in index.with_lost(&ids) {
            let known = index.find(id);
            let expected = known.and_then(|known| known.name);
            let found = shard.record(keys, id, expected);
            let found = found
                .and_then(|found| shard.judge(id, known, expected, found))
                .or_else(|_| self.look_again(shard, id, expected));
            let generation = known.map_or(0, |known| known.generation);
            match found {
                Ok(Some(found)) => each(found.into()),
                Ok(None) => {}
                Err(error) => each(Seen {
                    record: expected.map(|(kind, name)| (kind, name.to_owned())),
                    generation,
                    result: Err(error),
                }),
            }
        }
        Ok(())
    }

    /// Every record still says what it is, and none can be trusted to be the newest.
    fn scan_without_ledger(
        &self,
        shard: &Shard,
        each: &mut dyn FnMut(Seen),
    ) -> Result<(), VaultError> {
        let Err(error) = self.ledger_again(shard) else {
            return self.scan_shard(shard, each);
        };
        let open = self.keys();
        for id in shard.ids()? {
            if let Ok(Some(found)) = shard.record(&open.keys, id, None) {
                each(Seen {
                    result: Err(error.clone()),
                    ..found.into()
                });
            }
        }
        Err(error)
    }

    /// The octets of the shards there are.
    pub(crate) fn shards(&self) -> Result<Vec<u8>, VaultError> {
        let records = self.records();
        file::check_dir(&records)?;
        let unreadable = |error| VaultError::io(&records, "list the directory", &error);
        let mut shards = Vec::new();
        for entry in fs::read_dir(&records).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            shards.extend(name.to_str().and_then(octet));
        }
        shards.sort_unstable();
        Ok(shards)
    }

    /// Looks while nobody can be at work on it, with the keys as they are now.
    fn look_again(
        &self,
        shard: &Shard,
        id: Id,
        expected: Option<(Kind, &str)>,
    ) -> Result<Option<Found>, VaultError> {
        let _lock = shard.lock(true)?;
        shard.look(&self.refreshed()?.keys, id, expected)
    }

    fn ledger_again(&self, shard: &Shard) -> Result<Ledger, VaultError> {
        let _lock = shard.lock(true)?;
        shard.ledger(&self.refreshed()?.keys)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.inner.dir
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.inner.dir.join(RECORDS)
    }

    pub(crate) fn manifest_path(&self) -> PathBuf {
        self.inner.dir.join(manifest::FILE)
    }

    /// Waits for whoever changes `vault.json`.
    pub(crate) fn lock_manifest(&self) -> Result<File, VaultError> {
        file::lock(&self.inner.dir.join(LOCK), false)
    }

    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            options: &self.inner.options,
            dir: &self.inner.dir,
        }
    }

    /// The keys as this process knows them.
    pub(crate) fn keys(&self) -> Arc<Open> {
        let open = self.inner.open.read();
        open.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys as they are now: somebody else may have changed them.
    pub(crate) fn refreshed(&self) -> Result<Arc<Open>, VaultError> {
        let open = self.keys();
        let stamp = Stamp::of(&self.manifest_path());
        if stamp.is_some() && stamp == open.stamp {
            return Ok(open);
        }
        self.reloaded()
    }

    /// The keys, read anew.
    pub(crate) fn reloaded(&self) -> Result<Arc<Open>, VaultError> {
        let known = self.keys();
        let loaded = load(self.dir(), &self.inner.options, Some(&known.keys.kek))?;
        let loaded = loaded.ok_or_else(|| {
            let message = "is gone while the vault is in use; restore it from a backup";
            VaultError::new(VaultErrorKind::Missing, &self.manifest_path(), message)
        })?;
        if loaded.keys.store != known.keys.store {
            let message = "belongs to another vault now; start this process again";
            return Err(VaultError::new(
                VaultErrorKind::Swapped,
                &self.manifest_path(),
                message,
            ));
        }
        Ok(self.use_from_now(loaded))
    }

    pub(crate) fn use_from_now(&self, open: Open) -> Arc<Open> {
        let open = Arc::new(open);
        let mut current = self
            .inner
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = open.clone();
        open
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("dir", &self.inner.dir)
            .finish_non_exhaustive()
    }
}

impl From<Found> for Record {
    fn from(found: Found) -> Record {
        Record {
            value: found.value,
            generation: found.generation,
        }
    }
}

impl From<Found> for Seen {
    fn from(mut found: Found) -> Seen {
        Seen {
            record: Some((found.kind, std::mem::take(&mut found.name))),
            generation: found.generation,
            result: Ok(found.into()),
        }
    }
}

const RECORDS: &str = "records";
const LOCKS: &str = "locks";
const LOCK: &str = "lock";

/// Reads `vault.json` and opens it; `None` if there is none.
fn load(dir: &Path, options: &KeyOptions, kek: Option<&Kek>) -> Result<Option<Open>, VaultError> {
    let path = dir.join(manifest::FILE);
    loop {
        let stamp = Stamp::of(&path);
        let Some(locked) = manifest::read(&path)? else {
            return Ok(None);
        };
        let found = match kek.filter(|kek| kek.is(locked.key_note())) {
            Some(kek) => Ok(kek.clone()),
            None => Sources { options, dir }.find(locked.store(), locked.key_note()),
        };
        match found {
            Ok(kek) => {
                let keys = locked.unlock(kek, &path)?;
                return Ok(Some(Open { keys, stamp }));
            }
            // Another process gave the vault another key between the two looks.
            Err(_) if Stamp::of(&path) != stamp => {}
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A shard's directory is named by two hexadecimal digits.
fn octet(name: &str) -> Option<u8> {
    let octet = u8::from_str_radix(name, 16).ok()?;
    (crate::seal::hex(&[octet]) == name).then_some(octet)
}
