//! The vault as a renewal sees it: one secret, and the journal beside it.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use postrider_schedule::Clock;
use postrider_vault::{Kind, Lock};
use secrecy::SecretString;

use super::journal::Journal;
use super::machine::Keep;
use crate::app::vault::{SharedVault, VaultSecret, failure};
use crate::failure::Failure;

/// One secret of the vault.
pub(super) struct VaultKeep {
    pub(super) vault: SharedVault,
    /// Its name.
    pub(super) name: String,
    /// The name of the private key, where a certificate has it elsewhere.
    pub(super) private_key: Option<String>,
    pub(super) clock: Arc<dyn Clock>,
}

impl VaultKeep {
    /// The right to work on it: one process at a time.
    pub(super) fn lock(&self) -> Result<Option<Lock>, Failure> {
        self.vault
            .open()?
            .try_lock(Kind::Journal, &self.record())
            .map_err(|error| failure(&error))
    }

    fn record(&self) -> String {
        record(&self.name)
    }

    fn put(
        &self,
        name: &str,
        value: &SecretString,
        ends: Option<Timestamp>,
    ) -> Result<(), Failure> {
        let secret = VaultSecret {
            value: value.clone(),
            expires: ends.map(SystemTime::from),
            set_at: self.clock.now().into(),
        };
        self.vault.put_secret(name, &secret)
    }
}

/// The name of the journal beside a secret of this name.
pub(super) fn record(name: &str) -> String {
    format!("renewal/{name}")
}

/// Why nobody else may work on it now.
pub(super) fn busy() -> Failure {
    Failure::new(
        "secret.busy",
        "another process is renewing it at this moment",
    )
    .with_remedy("wait for it")
    .retryable()
}

impl Keep for VaultKeep {
    fn journal(&self) -> Result<Option<Journal>, Failure> {
        let Some(vault) = self.vault.existing()? else {
            return Ok(None);
        };
        let record = vault
            .get(Kind::Journal, &self.record())
            .map_err(|error| failure(&error))?;
        record
            .map(|record| Journal::decode(&record.value))
            .transpose()
    }

    fn write(&self, journal: &Journal) -> Result<(), Failure> {
        self.vault
            .open()?
            .put(Kind::Journal, &self.record(), &journal.encode()?)
            .map(|_| ())
            .map_err(|error| failure(&error))
    }

    fn in_use(&self) -> Result<Option<(SecretString, Option<Timestamp>)>, Failure> {
        let secret = self.vault.secret(&self.name)?;
        Ok(secret.map(|secret| {
            let ends = secret.expires.and_then(|at| Timestamp::try_from(at).ok());
            (secret.value, ends)
        }))
    }

    fn replace(&self, value: &SecretString, ends: Option<Timestamp>) -> Result<(), Failure> {
        self.put(&self.name, value, ends)
    }

    /// A key that lies beside the certificate goes before one that lies elsewhere; in the end
    /// both are the same, and the old key is gone.
    fn settle(&self, value: &SecretString, ends: Option<Timestamp>) -> Result<(), Failure> {
        match &self.private_key {
            Some(name) if *name != self.name => self.put(name, value, ends),
            _ => Ok(()),
        }
    }
}
