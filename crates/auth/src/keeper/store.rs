//! Where grants are kept between processes, and who may change one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::error::Cause;

/// What tells one grant from others: a digest of all that the provider could tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantKey(pub(crate) [u8; 32]);

impl GrantKey {
    /// The key that [`Display`](fmt::Display) wrote as `text`.
    pub fn from_hex(text: &str) -> Option<Self> {
        let octets: Vec<u8> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| {
                let digits = std::str::from_utf8(pair).ok()?;
                let octet = u8::from_str_radix(digits, 16).ok()?;
                (format!("{octet:02x}") == digits).then_some(octet)
            })
            .collect::<Option<_>>()?;
        octets.try_into().ok().map(Self)
    }
}

impl fmt::Display for GrantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantKey({self})")
    }
}

/// What is kept under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// A grant's tokens.
    Grant,
    /// What was told of a secret's expiry.
    Notice,
}

/// Keeps records. Its calls may block; none needs a runtime.
pub trait GrantStore: Send + Sync {
    /// The record under `key`.
    fn load(&self, kind: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;

    /// Puts `record` in the place of what is there, all or nothing; it is durable when this
    /// returns.
    fn save(&self, kind: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError>;

    /// Removes what is there; whether there was anything.
    fn remove(&self, kind: Shelf, key: &GrantKey) -> Result<bool, StoreError>;

    /// The right to change the record under `key`, unless another holder, here or in another
    /// process, has it. It ends with the [`StoreLock`], or with the process.
    fn try_lock(&self, kind: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError>;

    /// Whether calls may take long enough to want a thread of their own.
    fn blocks(&self) -> bool {
        true
    }
}

/// The right to change one record, until it is dropped.
pub struct StoreLock {
    _held: Box<dyn Send>,
}

impl StoreLock {
    /// A lock that dropping `held` gives back.
    pub fn new(held: impl Send + 'static) -> Self {
        Self {
            _held: Box::new(held),
        }
    }
}

impl fmt::Debug for StoreLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreLock").finish_non_exhaustive()
    }
}

/// Why a record was not read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What happened, one lower-case line.
    pub message: String,
    /// Whether only an operator can help: a wrong key, a damaged file.
    pub lasting: bool,
    /// What the store itself says, for those who know it.
    pub cause: Option<Cause>,
}

impl StoreError {
    /// An error of which there is no more to say.
    pub fn new(message: impl Into<String>, lasting: bool) -> Self {
        Self {
            message: message.into(),
            lasting,
            cause: None,
        }
    }

    /// The same, with what the store itself says.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Cause::new(cause));
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

/// Keeps records for as long as the process lives. Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<HashMap<Name, Zeroizing<Vec<u8>>>>>,
    locked: Arc<Mutex<HashSet<Name>>>,
}

type Name = (Shelf, GrantKey);

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl GrantStore for MemoryStore {
    fn load(&self, kind: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(&(kind, *key)).cloned())
    }

    fn save(&self, kind: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert((kind, *key), Zeroizing::new(record.to_vec()));
        Ok(())
    }

    fn remove(&self, kind: Shelf, key: &GrantKey) -> Result<bool, StoreError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.remove(&(kind, *key)).is_some())
    }

    fn try_lock(&self, kind: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError> {
        let name = (kind, *key);
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        let free = locked.insert(name);
        let lock = || {
            StoreLock::new(Unlock {
                locked: Arc::clone(&self.locked),
                name,
            })
        };
        Ok(free.then(lock))
    }

    fn blocks(&self) -> bool {
        false
    }
}

struct Unlock {
    locked: Arc<Mutex<HashSet<Name>>>,
    name: Name,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked.remove(&self.name);
    }
}
