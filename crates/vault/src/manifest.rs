//! `vault.json`: the vault's id and its keys, each sealed with the key-encryption key.
//!
//! The text is exactly what [`Keys::text`] writes: a checksum tells a damaged file from a wrong
//! key, and an authentication code under the key-encryption key tells a forged one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{VaultError, VaultErrorKind};
use crate::file::{self, Trust};
use crate::kek::{Kek, KeyNote};
use crate::record::Kind;
use crate::seal::{self, DataKey, Id, KeyOctets, hex};

/// Its name in the vault's directory.
pub(crate) const FILE: &str = "vault.json";

const FORMAT: &str = "postrider-vault";
const VERSION: u32 = 1;
const MOST_OCTETS: u64 = 1 << 20;
/// Ids of retired data keys are remembered so that an old record is known for one.
const MOST_RETIRED: usize = 64;

/// The open keys of a vault.
pub(crate) struct Keys {
    pub(crate) store: Id,
    /// What seals the rest.
    pub(crate) kek: Kek,
    /// The data keys; the first seals what is written now, and there is always one.
    pub(crate) sealing: Vec<DataKey>,
    pub(crate) retired: Vec<Id>,
    name_key: KeyOctets,
    names: hmac::Key,
}

/// Which file was there when it was looked at; another one has another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([i128; 4]);

impl Stamp {
    /// `None`: there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Stamp> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let changed = |seconds: i64, part: i64| i128::from(seconds) << 64 | i128::from(part);
        Some(Stamp([
            i128::from(metadata.ino()),
            i128::from(metadata.len()),
            changed(metadata.mtime(), metadata.mtime_nsec()),
            changed(metadata.ctime(), metadata.ctime_nsec()),
        ]))
    }
}

/// The file's content, in the order in which it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    version: u32,
    store: String,
    key: KeyNote,
    name_key: String,
    data_keys: Vec<WrappedKey>,
    retired: Vec<String>,
    authentication: String,
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrappedKey {
    id: String,
    created: u64,
    sealed: String,
}

impl Keys {
    /// Those of a new vault.
    pub(crate) fn new(store: Id, kek: Kek, now: u64) -> Keys {
        let name_key = Zeroizing::new(seal::random());
        Keys {
            store,
            kek,
            sealing: vec![new_data_key(now)],
            retired: Vec::new(),
            names: hmac::Key::new(hmac::HMAC_SHA256, name_key.as_slice()),
            name_key,
        }
    }

    /// The id under which a record is filed: nothing can be told from it without the name key.
    pub(crate) fn record_id(&self, kind: Kind, name: &str) -> Id {
        let mut context = hmac::Context::with_key(&self.names);
        context.update(&[kind.sort()]);
        context.update(name.as_bytes());
        let tag = context.sign();
        Id(tag.as_ref()[..16].try_into().expect("a tag has 32 octets"))
    }

    /// The key that seals what is written now.
    pub(crate) fn current(&self) -> &DataKey {
        &self.sealing[0]
    }

    pub(crate) fn data_key(&self, id: Id) -> Option<&DataKey> {
        self.sealing.iter().find(|key| key.id == id)
    }

    /// The same with another key-encryption key.
    pub(crate) fn sealed_with(&self, kek: Kek) -> Keys {
        Keys {
            store: self.store,
            kek,
            sealing: self.sealing.clone(),
            retired: self.retired.clone(),
            name_key: self.name_key.clone(),
            names: self.names.clone(),
        }
    }

    /// Puts a new data key before the others.
    pub(crate) fn add_data_key(&mut self, now: u64) {
        self.sealing.insert(0, new_data_key(now));
    }

    /// Forgets all data keys but the current one.
    pub(crate) fn retire_data_keys(&mut self) {
        let retired = self.sealing.drain(1..).map(|key| key.id);
        self.retired.extend(retired);
        let many = self.retired.len().saturating_sub(MOST_RETIRED);
        self.retired.drain(..many);
    }

    /// What stands in `vault.json`.
    pub(crate) fn text(&self) -> Vec<u8> {
        let wrapped = |bound: &[u8], key| BASE64.encode(seal::wrap(self.kek.key(), bound, key));
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            store: self.store.hex(),
            key: self.kek.note.clone(),
            name_key: wrapped(&name_key_bound(self.store), &self.name_key),
            data_keys: self
                .sealing
                .iter()
                .map(|key| WrappedKey {
                    id: key.id.hex(),
                    created: key.created,
                    sealed: wrapped(&data_key_bound(self.store, key.id, key.created), &key.key),
                })
                .collect(),
            retired: self.retired.iter().map(|id| id.hex()).collect(),
            authentication: String::new(),
            checksum: String::new(),
        };
        manifest.authentication = hex(self.kek.authenticate(&manifest.text()).as_ref());
        manifest.checksum = manifest.sum();
        manifest.text()
    }
}

/// What `vault.json` says, before there is a key for it.
pub(crate) struct Locked {
    manifest: Manifest,
    store: Id,
}

/// Reads the file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Locked>, VaultError> {
    let Some(octets) = file::read(path, MOST_OCTETS, Trust::Own)? else {
        return Ok(None);
    };
    Locked::from_text(&octets, path).map(Some)
}

impl Locked {
    fn from_text(octets: &[u8], path: &Path) -> Result<Locked, VaultError> {
        let corrupt = || {
            let message =
                "is damaged, and with it the keys of every record; restore it from a backup";
            VaultError::new(VaultErrorKind::Corrupt, path, message)
        };
        if !octets.ends_with(b"}\n") {
            let message =
                "is cut short, and with it the keys of every record; restore it from a backup";
            return Err(VaultError::new(VaultErrorKind::Truncated, path, message));
        }
        let mut manifest: Manifest = serde_json::from_slice(octets).map_err(|_| corrupt())?;
        let exact = manifest.text() == octets;
        let checksum = std::mem::take(&mut manifest.checksum);
        if !exact || checksum != manifest.sum() {
            return Err(corrupt());
        }
        if manifest.format != FORMAT || manifest.version != VERSION {
            let message = "was written by a newer Postrider";
            return Err(VaultError::new(VaultErrorKind::Unsupported, path, message));
        }
        let store = Id::from_hex(&manifest.store).ok_or_else(corrupt)?;
        Ok(Locked { manifest, store })
    }

    pub(crate) fn store(&self) -> Id {
        self.store
    }

    /// Which key it takes.
    pub(crate) fn key_note(&self) -> &KeyNote {
        &self.manifest.key
    }

    /// The keys, with the key that [`Locked::key_note`] asks for.
    pub(crate) fn unlock(mut self, kek: Kek, path: &Path) -> Result<Keys, VaultError> {
        let forged = || {
            let message = "was changed by somebody who has not its key; restore it from a backup";
            VaultError::new(VaultErrorKind::Corrupt, path, message)
        };
        let authentication = std::mem::take(&mut self.manifest.authentication);
        if !kek.authentic(&self.manifest.text(), &authentication) {
            return Err(forged());
        }
        let open = |bound: &[u8], sealed: &str| {
            let sealed = BASE64.decode(sealed).ok()?;
            seal::unwrap(kek.key(), bound, &sealed)
        };
        let name_key =
            open(&name_key_bound(self.store), &self.manifest.name_key).ok_or_else(forged)?;
        let sealing = self.manifest.data_keys.iter().map(|wrapped| {
            let id = Id::from_hex(&wrapped.id)?;
            let bound = data_key_bound(self.store, id, wrapped.created);
            Some(DataKey {
                id,
                created: wrapped.created,
                key: open(&bound, &wrapped.sealed)?,
            })
        });
        let sealing: Option<Vec<DataKey>> = sealing.collect();
        let sealing = sealing.filter(|keys| !keys.is_empty()).ok_or_else(forged)?;
        let retired = self.manifest.retired.iter().map(|id| Id::from_hex(id));
        Ok(Keys {
            store: self.store,
            kek,
            sealing,
            retired: retired.collect::<Option<_>>().ok_or_else(forged)?,
            names: hmac::Key::new(hmac::HMAC_SHA256, name_key.as_slice()),
            name_key,
        })
    }
}

impl Manifest {
    fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("strings and numbers only");
        text.push(b'\n');
        text
    }

    /// Of everything, the checksum itself being empty.
    fn sum(&self) -> String {
        hex(digest::digest(&digest::SHA256, &self.text()).as_ref())
    }
}

fn new_data_key(now: u64) -> DataKey {
    DataKey {
        id: Id::random(),
        created: now,
        key: Zeroizing::new(seal::random()),
    }
}

fn name_key_bound(store: Id) -> Vec<u8> {
    [b"postrider-vault name key\0".as_slice(), &store.0].concat()
}

fn data_key_bound(store: Id, id: Id, created: u64) -> Vec<u8> {
    let label = b"postrider-vault data key\0".as_slice();
    [label, &store.0, &id.0, &created.to_be_bytes()].concat()
}
