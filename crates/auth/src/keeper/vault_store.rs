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
    fn load(&self, shelf: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let record = self.0.get(kind(shelf), &key.to_string());
        Ok(record
            .map_err(|error| told(&error))?
            .map(|record| record.value))
    }

    fn save(&self, shelf: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError> {
        let put = self.0.put(kind(shelf), &key.to_string(), record);
        put.map(drop).map_err(|error| told(&error))
    }

    fn remove(&self, shelf: Shelf, key: &GrantKey) -> Result<bool, StoreError> {
        let removed = self.0.remove(kind(shelf), &key.to_string());
        removed.map_err(|error| told(&error))
    }

    fn try_lock(&self, shelf: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError> {
        let lock = self.0.try_lock(kind(shelf), &key.to_string());
        Ok(lock.map_err(|error| told(&error))?.map(StoreLock::new))
    }
}

fn kind(shelf: Shelf) -> Kind {
    match shelf {
        Shelf::Grant => Kind::Grant,
        Shelf::Notice => Kind::Notice,
    }
}

fn told(error: &VaultError) -> StoreError {
    StoreError {
        message: one_line(&error.to_string(), 500),
        lasting: !matches!(
            error.kind,
            VaultErrorKind::DiskFull | VaultErrorKind::ReadOnly | VaultErrorKind::Io
        ),
    }
}
