//! One of the 256 directories that records are spread over, with its ledger.
//!
//! A put writes both new files aside, so that a full disk is met before anything changes. Then
//! the record takes its place, durably, and the ledger after it: at any moment a record is as
//! new as its ledger says, or newer by one. A remove goes the other way, ledger first. Whatever
//! else is found is a fault, unless somebody is at work here: so a reader, who takes no lock,
//! looks again under the shard's lock before it says so.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crash;
use crate::error::{VaultError, VaultErrorKind};
use crate::file::{self, Trust};
use crate::ledger::{Known, Ledger};
use crate::manifest::Keys;
use crate::record::{Kind, MAX_NAME_OCTETS, MAX_VALUE_OCTETS, Problem};
use crate::seal::{self, DataKey, Fault, Id, Sealed};

/// A ledger's sort; records have the sort of their kind.
pub(crate) const LEDGER_FILE: &str = "ledger";
const LEDGER_SORT: u8 = 0;
const MOST_LEDGER_OCTETS: u64 = 1 << 28;
const MOST_RECORD_OCTETS: u64 = (MAX_VALUE_OCTETS + MAX_NAME_OCTETS + 1024) as u64;

/// Where records with ids of the same first octet are.
pub(crate) struct Shard {
    dir: PathBuf,
    octet: u8,
}

/// A record that was read and is whole. Whether it is the newest is for the ledger to say.
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) generation: u64,
    pub(crate) value: Zeroizing<Vec<u8>>,
}

/// What [`Shard::reseal`] did.
#[derive(Default)]
pub(crate) struct Resealed {
    pub(crate) records: u64,
    pub(crate) problems: Vec<Problem>,
    /// How many records are sealed as they were.
    pub(crate) left: u64,
}

impl Shard {
    pub(crate) fn of(records: &Path, id: Id) -> Shard {
        Shard::new(records, id.0[0])
    }

    pub(crate) fn new(records: &Path, octet: u8) -> Shard {
        Shard {
            dir: records.join(seal::hex(&[octet])),
            octet,
        }
    }

    /// Whether there is such a directory, private as it has to be.
    pub(crate) fn exists(&self) -> Result<bool, VaultError> {
        file::check_dir(&self.dir)
    }

    pub(crate) fn create(&self) -> Result<(), VaultError> {
        if file::make_dir(&self.dir)? {
            crash::step("shard", "made");
        }
        Ok(())
    }

    /// Waits for whoever writes here. Readers share it among themselves.
    pub(crate) fn lock(&self, shared: bool) -> Result<File, VaultError> {
        file::lock(&self.dir.join("lock"), shared)
    }

    pub(crate) fn path(&self, id: Id) -> PathBuf {
        self.dir.join(id.hex())
    }

    fn ledger_path(&self) -> PathBuf {
        self.dir.join(LEDGER_FILE)
    }

    /// The ids that have a file.
    pub(crate) fn ids(&self) -> Result<Vec<Id>, VaultError> {
        let mut ids = Vec::new();
        for name in self.names()? {
            ids.extend(name.to_str().and_then(Id::from_hex));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn names(&self) -> Result<Vec<std::ffi::OsString>, VaultError> {
        let unreadable = |error| VaultError::io(&self.dir, "list the directory", &error);
        match fs::read_dir(&self.dir) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.file_name()).map_err(unreadable))
                .collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// The ledger. Before the first record there is none, and later there has to be one.
    pub(crate) fn ledger(&self, keys: &Keys) -> Result<Ledger, VaultError> {
        let path = self.ledger_path();
        let what = LEDGER;
        let Some(octets) = file::read(&path, MOST_LEDGER_OCTETS, Trust::Own)? else {
            if self.ids()?.is_empty() {
                return Ok(Ledger::default());
            }
            let message = format!("{what} is gone, and its records are not{LEDGER_REMEDY}");
            return Err(VaultError::new(VaultErrorKind::Missing, &path, message));
        };
        let sealed = seal::parse(&octets).map_err(|fault| said(fault, &path, what))?;
        let key = data_key(keys, &sealed, &path, what)?;
        let opened = sealed.open(keys.store, key);
        let text = opened.map_err(|fault| said(fault, &path, what))?;
        if (sealed.header.sort, sealed.header.id) != (LEDGER_SORT, self.ledger_id()) {
            let message = format!("{what} has another file in its place{LEDGER_REMEDY}");
            return Err(VaultError::new(VaultErrorKind::Swapped, &path, message));
        }
        Ledger::from_text(text).ok_or_else(|| said(Fault::Corrupt, &path, what))
    }

    fn ledger_id(&self) -> Id {
        Id([self.octet; 16])
    }

    /// The record of that id, whatever the ledger says; `expected` is what it has to be.
    pub(crate) fn record(
        &self,
        keys: &Keys,
        id: Id,
        expected: Option<(Kind, &str)>,
    ) -> Result<Option<Found>, VaultError> {
        let path = self.path(id);
        let what = described(expected);
        let Some(octets) = file::read(&path, MOST_RECORD_OCTETS, Trust::Own)? else {
            return Ok(None);
        };
        let sealed = seal::parse(&octets).map_err(|fault| said(fault, &path, &what))?;
        let stranger = sealed.header.id != id;
        let key = match data_key(keys, &sealed, &path, &what) {
            Err(error) if stranger && error.kind == VaultErrorKind::Corrupt => {
                return Err(swapped(&path, &what, "another vault's file"));
            }
            key => key?,
        };
        let opened = sealed.open(keys.store, key);
        let text = opened.map_err(|fault| said(fault, &path, &what))?;
        let found = Found::from_text(&sealed, &text);
        let found = found.ok_or_else(|| said(Fault::Corrupt, &path, &what))?;
        let is = (found.kind, found.name.as_str());
        if stranger || expected.is_some_and(|expected| expected != is) {
            let other = format!("the file of {}", described(Some(is)));
            return Err(swapped(&path, &what, &other));
        }
        Ok(Some(found))
    }

    /// The newest record of that id, as ledger and file agree on it.
    pub(crate) fn look(
        &self,
        keys: &Keys,
        id: Id,
        expected: Option<(Kind, &str)>,
    ) -> Result<Option<Found>, VaultError> {
        let ledger = self.ledger(keys)?;
        let known = ledger.find(id);
        let expected = expected.or(known.and_then(|known| known.name));
        let found = self.record(keys, id, expected)?;
        self.judge(id, known, expected, found)
    }

    /// What ledger and file together say.
    pub(crate) fn judge(
        &self,
        id: Id,
        known: Option<Known<'_>>,
        expected: Option<(Kind, &str)>,
        found: Option<Found>,
    ) -> Result<Option<Found>, VaultError> {
        let generation = known.map_or(0, |known| known.generation);
        let removed = known.is_none_or(|known| known.name.is_none());
        let what = described(expected);
        let error = |kind, path: &Path, message: String| Err(VaultError::new(kind, path, message));
        let Some(found) = found else {
            if removed {
                return Ok(None);
            }
            let message = format!(
                "{what} was stored (generation {generation}), and its file is gone{REMEDY}"
            );
            return error(VaultErrorKind::Missing, &self.path(id), message);
        };
        match found.generation.checked_sub(generation) {
            Some(0) | None if removed => Ok(None),
            // By one: stored, and the ledger not brought up to it, since a crash came between.
            Some(0 | 1) => Ok(Some(found)),
            None => {
                let message = format!(
                    "{what} is an older copy (generation {}, and {generation} was stored){REMEDY}",
                    found.generation
                );
                error(VaultErrorKind::RolledBack, &self.path(id), message)
            }
            Some(_) => {
                let message = format!(
                    "the ledger is an older copy: it knows generation {generation} of {what}, and \
                     {} is there; restore the ledger, or store the record again",
                    found.generation
                );
                error(VaultErrorKind::RolledBack, &self.ledger_path(), message)
            }
        }
    }

    /// Stores a record. The caller holds the lock alone.
    pub(crate) fn put(
        &self,
        keys: &Keys,
        id: Id,
        name: (Kind, &str),
        value: &[u8],
    ) -> Result<u64, VaultError> {
        let mut ledger = self.ledger_for_writing(keys)?;
        let known = ledger.find(id).map_or(0, |known| known.generation);
        let present = self.generation(keys, id, name);
        if present > known {
            // A crash left the record newer by one; by two it would look like an old ledger.
            ledger = ledger.with(live(id, present, name));
            self.write_ledger(keys, &ledger, "heal")?;
        }
        let generation = next(known.max(present));
        let ledger = ledger.with(live(id, generation, name));

        let (record_path, ledger_path) = (self.path(id), self.ledger_path());
        let text = text(name.1, value);
        let record = seal::seal(
            keys.store,
            keys.current(),
            name.0.sort(),
            id,
            generation,
            &text,
        );
        let record = file::stage(&record_path, &record, 0o600, "put.record")?;
        let ledger = self.sealed_ledger(keys, &ledger);
        let ledger = file::stage(&ledger_path, &ledger, 0o600, "put.ledger")?;
        record.place()?;
        file::sync_dir(&self.dir)?;
        crash::step("put.record", "durable");
        // Need not be durable: lost, the record is newer by one.
        ledger.place()?;
        Ok(generation)
    }

    /// Forgets a record; whether there was one. The caller holds the lock alone.
    pub(crate) fn remove(
        &self,
        keys: &Keys,
        id: Id,
        name: (Kind, &str),
    ) -> Result<bool, VaultError> {
        let ledger = self.ledger_for_writing(keys)?;
        let known = ledger.find(id);
        let path = self.path(id);
        // Whether it can be read is not asked: also what is damaged can be removed.
        let there = match self.record(keys, id, Some(name)) {
            Ok(found) => self
                .judge(id, known, Some(name), found)
                .map_or(true, |found| found.is_some()),
            Err(_) => true,
        };
        if there {
            let known = known.map_or(0, |known| known.generation);
            let generation = next(known.max(self.generation(keys, id, name)));
            let removed = Known {
                id,
                generation,
                name: None,
            };
            self.write_ledger(keys, &ledger.with(removed), "remove.ledger")?;
            file::sync_dir(&self.dir)?;
            crash::step("remove.ledger", "durable");
        }
        file::remove(&path)?;
        file::remove(&file::aside(&path))?;
        crash::step("remove.record", "gone");
        Ok(there)
    }

    /// Seals everything here with the current data key. The caller holds the lock alone.
    ///
    /// A ledger that is broken is made anew from the records, which each know their own
    /// generation. That gives up knowing whether one of them is an older copy, so it happens only
    /// here, where an operator asked for it and is told.
    pub(crate) fn reseal(&self, keys: &Keys) -> Result<Resealed, VaultError> {
        self.sweep()?;
        let mut resealed = Resealed::default();
        let ids = self.ids()?;
        let ledger = match self.ledger(keys) {
            Ok(ledger) => ledger,
            Err(error) if error.is_broken() => {
                resealed.problems.push(Problem {
                    record: None,
                    error,
                });
                self.rebuilt_ledger(keys, &ids)
            }
            Err(error) => return Err(error),
        };
        let index = ledger.index();
        for id in index.with_lost(&ids) {
            let known = index.find(id);
            let name = known.and_then(|known| known.name);
            let found = self.record(keys, id, name);
            match found.and_then(|found| self.judge(id, known, name, found)) {
                Ok(Some(found)) => resealed.records += self.reseal_record(keys, id, &found)?,
                Ok(None) => {
                    file::remove(&self.path(id))?;
                }
                Err(error) => {
                    let record = name.map(|(kind, name)| (kind, name.to_owned()));
                    resealed.problems.push(Problem { record, error });
                    resealed.left += 1;
                }
            }
        }
        if !ids.is_empty() || !ledger.text().is_empty() {
            self.write_ledger(keys, &ledger, "rekey.ledger")?;
            file::sync_dir(&self.dir)?;
            crash::step("rekey.shard", "durable");
        }
        Ok(resealed)
    }

    fn rebuilt_ledger(&self, keys: &Keys, ids: &[Id]) -> Ledger {
        let mut ledger = Ledger::default();
        for id in ids {
            if let Ok(Some(found)) = self.record(keys, *id, None) {
                ledger = ledger.with(live(*id, found.generation, (found.kind, &found.name)));
            }
        }
        ledger
    }

    /// How many were sealed anew: none if it is sealed with the current key already.
    fn reseal_record(&self, keys: &Keys, id: Id, found: &Found) -> Result<u64, VaultError> {
        let path = self.path(id);
        let octets = file::read(&path, MOST_RECORD_OCTETS, Trust::Own)?.unwrap_or_default();
        let current = keys.current();
        if seal::parse(&octets).is_ok_and(|sealed| sealed.header.data_key == current.id) {
            return Ok(0);
        }
        let text = text(&found.name, &found.value);
        let record = seal::seal(
            keys.store,
            current,
            found.kind.sort(),
            id,
            found.generation,
            &text,
        );
        file::stage(&path, &record, 0o600, "rekey.record")?.place()?;
        Ok(1)
    }

    /// Removes what writers that died left behind. The caller holds the lock alone.
    fn sweep(&self) -> Result<(), VaultError> {
        for name in self.names()? {
            let path = self.dir.join(name);
            if path.extension() == Some(OsStr::new("new")) {
                file::remove(&path)?;
            }
        }
        Ok(())
    }

    /// The ledger, which is written before the first record is: a record without one tells that
    /// it is gone.
    fn ledger_for_writing(&self, keys: &Keys) -> Result<Ledger, VaultError> {
        let ledger = self.ledger(keys)?;
        if ledger.text().is_empty() && !self.ledger_path().exists() {
            self.write_ledger(keys, &ledger, "shard.ledger")?;
        }
        Ok(ledger)
    }

    fn write_ledger(&self, keys: &Keys, ledger: &Ledger, step: &str) -> Result<(), VaultError> {
        let octets = self.sealed_ledger(keys, ledger);
        file::stage(&self.ledger_path(), &octets, 0o600, step)?.place()
    }

    fn sealed_ledger(&self, keys: &Keys, ledger: &Ledger) -> Vec<u8> {
        let id = self.ledger_id();
        seal::seal(
            keys.store,
            keys.current(),
            LEDGER_SORT,
            id,
            0,
            ledger.text(),
        )
    }

    /// The generation of the record that is there, and 0 if none can be read.
    fn generation(&self, keys: &Keys, id: Id, name: (Kind, &str)) -> u64 {
        let found = self.record(keys, id, Some(name));
        found.ok().flatten().map_or(0, |found| found.generation)
    }
}

impl Found {
    fn from_text(sealed: &Sealed<'_>, text: &[u8]) -> Option<Found> {
        let (length, rest) = text.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (name, value) = rest.split_at_checked(length)?;
        Some(Found {
            kind: Kind::from_sort(sealed.header.sort)?,
            name: str::from_utf8(name).ok()?.to_owned(),
            generation: sealed.header.generation,
            value: Zeroizing::new(value.to_vec()),
        })
    }
}

/// The key that a file is sealed with.
fn data_key<'k>(
    keys: &'k Keys,
    sealed: &Sealed<'_>,
    path: &Path,
    what: &str,
) -> Result<&'k DataKey, VaultError> {
    let id = sealed.header.data_key;
    keys.data_key(id).ok_or_else(|| {
        if keys.retired.contains(&id) {
            let message = format!("{what} is a copy from before a rekey{}", remedy(what));
            return VaultError::new(VaultErrorKind::RolledBack, path, message);
        }
        let message = format!(
            "{what} is sealed with a data key that vault.json does not have{}",
            remedy(what)
        );
        VaultError::new(VaultErrorKind::Corrupt, path, message)
    })
}

/// What is sealed in a record's file.
fn text(name: &str, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u16::try_from(name.len()).expect("names are at most 1024 octets");
    let mut text = Zeroizing::new(Vec::with_capacity(2 + name.len() + value.len()));
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(value);
    text
}

fn live(id: Id, generation: u64, name: (Kind, &str)) -> Known<'_> {
    Known {
        id,
        generation,
        name: Some(name),
    }
}

/// Saturating: nobody gets there by counting.
fn next(generation: u64) -> u64 {
    generation.saturating_add(1)
}

const LEDGER: &str = "the ledger of a part of the vault";
const LEDGER_REMEDY: &str =
    "; restore it from a backup, or let `postrider vault rekey` make it anew from the records";
const REMEDY: &str = "; restore it from a backup, store it again, or remove it";

fn described(record: Option<(Kind, &str)>) -> String {
    match record {
        Some((kind, name)) => format!("the {} \"{name}\"", kind.name()),
        None => "a record".to_owned(),
    }
}

fn swapped(path: &Path, what: &str, other: &str) -> VaultError {
    let message = format!("{what} has {other} in its place{REMEDY}");
    VaultError::new(VaultErrorKind::Swapped, path, message)
}

fn said(fault: Fault, path: &Path, what: &str) -> VaultError {
    let (kind, how) = match fault {
        Fault::Truncated => (VaultErrorKind::Truncated, "is cut short"),
        Fault::Corrupt => (VaultErrorKind::Corrupt, "is damaged"),
        Fault::Unsupported => {
            let message = format!("{what} was written by a newer Postrider, or is damaged");
            return VaultError::new(VaultErrorKind::Unsupported, path, message);
        }
    };
    VaultError::new(kind, path, format!("{what} {how}{}", remedy(what)))
}

fn remedy(what: &str) -> &'static str {
    if what == LEDGER {
        LEDGER_REMEDY
    } else {
        REMEDY
    }
}
