//! The vault as its users see it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::error::{VaultError, VaultErrorKind};
use crate::keys::{KeyOptions, KeySource, NewKey};
use crate::transfer::{Import, Imported, Sealing, Selection};

/// The most octets a record's name may have.
pub const MAX_NAME_OCTETS: usize = 1024;
/// The most octets a record's value may have.
pub const MAX_VALUE_OCTETS: usize = 1 << 20;

/// An open vault. Clones are the same vault; every call may block on files.
#[derive(Debug, Clone)]
pub struct Vault {
    _private: (),
}

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

/// What sort of thing a record is; each sort has its own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A value that somebody put there to be used by name.
    Secret,
    /// Tokens.
    Grant,
    /// Something somebody was told, or has yet to be told.
    Notice,
}

impl Kind {
    /// The kind's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Grant => "grant",
            Kind::Notice => "notice",
        }
    }
}

/// A record's value. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The octets that were put.
    pub value: Zeroizing<Vec<u8>>,
    /// Grows with each `put` and `remove` of this name.
    pub generation: u64,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A record as [`Vault::list`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its generation, as far as it is known.
    pub generation: u64,
    /// Why it cannot be read, if it cannot.
    pub problem: Option<VaultError>,
}

/// The right to work on one name, until dropped or until this process ends.
#[derive(Debug)]
pub struct Lock {
    _private: (),
}

/// What to change in [`Vault::rekey`].
#[derive(Debug, Clone)]
pub struct Rekey {
    /// The key to seal the vault with from now on; `None` keeps the present one.
    pub key: Option<NewKey>,
    /// Whether to make a new data key and re-encrypt every record with it.
    pub new_data_key: bool,
    /// The time now, remembered as when the new data key was made.
    pub now: SystemTime,
}

/// What [`Vault::rekey`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// How many records were encrypted anew.
    pub records: u64,
    /// What could not be: the old data keys stay until these are mended or removed and rekey runs
    /// again.
    pub problems: Vec<Problem>,
}

/// A record, or something else in the vault, that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which record, where that is known.
    pub record: Option<(Kind, String)>,
    /// What is wrong with it.
    pub error: VaultError,
}

/// What [`Vault::status`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The vault's random id, in hexadecimal.
    pub store: String,
    /// Where its key came from.
    pub key_source: KeySource,
    /// How many records of each kind can be read.
    pub counts: BTreeMap<Kind, u64>,
    /// The data keys; more than one while a rekey is under way or was interrupted.
    pub data_keys: Vec<DataKey>,
    /// What is wrong, after every record was read and verified.
    pub problems: Vec<Problem>,
}

/// A data key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// Its random id, in hexadecimal.
    pub id: String,
    /// When it was made.
    pub created: SystemTime,
    /// Whether it seals what is written now.
    pub current: bool,
}

impl Vault {
    /// Opens the vault, and creates it on first use.
    pub fn open(options: &Options) -> Result<Vault, VaultError> {
        Err(unfinished(options))
    }

    /// Opens the vault if there is one, and creates nothing.
    pub fn open_existing(options: &Options) -> Result<Option<Vault>, VaultError> {
        Err(unfinished(options))
    }

    /// The record of that name.
    pub fn get(&self, _kind: Kind, _name: &str) -> Result<Option<Record>, VaultError> {
        Err(unfinished(self))
    }

    /// Stores a value under a name and answers its generation. It is durable then.
    pub fn put(&self, _kind: Kind, _name: &str, _value: &[u8]) -> Result<u64, VaultError> {
        Err(unfinished(self))
    }

    /// Forgets a name; whether there was such a record.
    pub fn remove(&self, _kind: Kind, _name: &str) -> Result<bool, VaultError> {
        Err(unfinished(self))
    }

    /// The names of a kind, in order, from the ledgers alone: much quicker than [`Vault::list`].
    pub fn names(&self, _kind: Kind) -> Result<Vec<String>, VaultError> {
        Err(unfinished(self))
    }

    /// The records of a kind in the order of their names, each read and verified.
    pub fn list(&self, _kind: Kind) -> Result<Vec<Entry>, VaultError> {
        Err(unfinished(self))
    }

    /// The lock of a name, if nobody holds it.
    pub fn try_lock(&self, _kind: Kind, _name: &str) -> Result<Option<Lock>, VaultError> {
        Err(unfinished(self))
    }

    /// Where the key came from.
    pub fn key_source(&self) -> KeySource {
        KeySource::GeneratedFile
    }

    /// Reads and verifies everything.
    pub fn status(&self) -> Result<Status, VaultError> {
        Err(unfinished(self))
    }

    /// Seals the vault with another key, or its records with a new data key, or both.
    pub fn rekey(&self, _rekey: &Rekey) -> Result<Rekeyed, VaultError> {
        Err(unfinished(self))
    }

    /// Writes records, sealed for somebody, and answers which.
    pub fn export(
        &self,
        _selection: &Selection,
        _sealing: &Sealing,
        _armored: bool,
        _to: impl Write,
    ) -> Result<Vec<(Kind, String)>, VaultError> {
        Err(unfinished(self))
    }

    /// Takes the records of an export into this vault. Armor is recognised.
    pub fn import(&self, _import: &Import, _from: impl Read) -> Result<Imported, VaultError> {
        Err(unfinished(self))
    }
}

fn unfinished<T>(_: T) -> VaultError {
    VaultError::new(VaultErrorKind::Io, "vault".as_ref(), "not written yet")
}
