//! What there is to know about a vault without knowing its secrets.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::VaultError;
use crate::keys::KeySource;
use crate::record::{Kind, Problem};
use crate::vault::Vault;

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
    /// Reads and verifies everything.
    pub fn status(&self) -> Result<Status, VaultError> {
        let open = self.reloaded()?;
        let keys = &open.keys;
        let mut status = Status {
            store: keys.store.hex(),
            key_source: keys.kek.source(),
            counts: BTreeMap::new(),
            data_keys: Vec::new(),
            problems: Vec::new(),
        };
        for key in &keys.sealing {
            status.data_keys.push(DataKey {
                id: key.id.hex(),
                created: UNIX_EPOCH
                    .checked_add(Duration::from_secs(key.created))
                    .unwrap_or(UNIX_EPOCH),
                current: key.id == keys.current().id,
            });
        }
        self.scan(&mut |seen| match (seen.result, seen.record) {
            (Ok(_), Some((kind, _))) => *status.counts.entry(kind).or_default() += 1,
            (Ok(_), None) => {}
            (Err(error), record) => status.problems.push(Problem { record, error }),
        })?;
        Ok(status)
    }
}
