//! Grants in the vault.

use postrider_vault::{Kind, Vault, VaultError, VaultErrorKind};
use zeroize::Zeroizing;

use super::store::{GrantKey, GrantStore, Shelf, StoreError, StoreLock};
use crate::scrub::one_line;

/// Keeps records in the vault, encrypted.
#[derive(Clone)]
pub struct VaultStore(Vault);

impl VaultStore {
    /// A store in `vault`.
    pub fn new(vault: Vault) -> Self {
        Self(vault)
    }
}

impl std::fmt::Debug for VaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultStore").finish_non_exhaustive()
    }
}

impl GrantStore for VaultStore {
    fn load(&self, kind: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let record = self.0.get(of(kind), &key.to_string());
        Ok(record
            .map_err(|error| told(&error))?
            .map(|record| record.value))
    }

    fn save(&self, kind: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError> {
        let put = self.0.put(of(kind), &key.to_string(), record);
        put.map(drop).map_err(|error| told(&error))
    }

    fn remove(&self, kind: Shelf, key: &GrantKey) -> Result<bool, StoreError> {
        let removed = self.0.remove(of(kind), &key.to_string());
        removed.map_err(|error| told(&error))
    }

    fn try_lock(&self, kind: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError> {
        let lock = self.0.try_lock(of(kind), &key.to_string());
        Ok(lock.map_err(|error| told(&error))?.map(StoreLock::new))
    }
}

fn of(kind: Shelf) -> Kind {
    match kind {
        Shelf::Grant => Kind::Grant,
        Shelf::Notice => Kind::Notice,
    }
}

fn told(error: &VaultError) -> StoreError {
    let lasting = !matches!(
        error.kind,
        VaultErrorKind::DiskFull | VaultErrorKind::ReadOnly | VaultErrorKind::Io
    );
    StoreError::new(one_line(&error.to_string(), 500), lasting).caused_by(error.clone())
}

#[cfg(test)]
mod tests {
    use postrider_vault::Options;

    use super::*;

    #[test]
    fn records_are_kept_in_the_vault_and_locked_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            dir: directory.path().join("vault"),
            keys: postrider_vault::KeyOptions::default(),
            now: std::time::SystemTime::now(),
        };
        let here = VaultStore::new(Vault::open(&options).unwrap());
        let there = VaultStore::new(Vault::open(&options).unwrap());
        let key = GrantKey([7; 32]);

        assert_eq!(here.load(Shelf::Grant, &key), Ok(None));
        here.save(Shelf::Grant, &key, b"tokens").unwrap();
        let kept = there.load(Shelf::Grant, &key).unwrap().unwrap();
        assert_eq!(*kept, b"tokens");
        assert_eq!(there.load(Shelf::Notice, &key), Ok(None), "another shelf");

        let lock = here.try_lock(Shelf::Grant, &key).unwrap().unwrap();
        assert!(there.try_lock(Shelf::Grant, &key).unwrap().is_none());
        drop(lock);
        assert!(there.try_lock(Shelf::Grant, &key).unwrap().is_some());

        assert_eq!(there.remove(Shelf::Grant, &key), Ok(true));
        assert_eq!(here.load(Shelf::Grant, &key), Ok(None));
    }
}
