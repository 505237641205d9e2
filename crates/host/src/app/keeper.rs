//! The keeper of this process, with its grants in the vault.
//!
//! The vault is opened when the first grant is looked for, and made when the first is kept: an
//! account that uses no tokens needs none.

use std::sync::Arc;
use std::time::Duration;

use postrider_auth::{
    Clock, Credential, EventSink, GrantKey, GrantStore, Keeper, KeeperSettings, MemoryStore,
    Parameters, Shelf, StoreError, StoreLock, VaultStore,
};
use secrecy::zeroize::Zeroizing;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::vault::SharedVault;
use crate::failure::{Failure, exit};

/// Accounts are set up one after the other: so long is waited for more of them.
const GATHERING: Duration = Duration::from_secs(1);

/// A keeper whose grants outlive the process.
pub(super) fn lasting(
    vault: SharedVault,
    clock: Arc<dyn Clock>,
    events: Arc<dyn EventSink>,
) -> Keeper {
    keeper(Arc::new(InVault(vault)), clock, events)
}

/// A keeper whose grants end with the process.
pub(super) fn passing(clock: Arc<dyn Clock>, events: Arc<dyn EventSink>) -> Keeper {
    keeper(Arc::new(MemoryStore::default()), clock, events)
}

fn keeper(store: Arc<dyn GrantStore>, clock: Arc<dyn Clock>, events: Arc<dyn EventSink>) -> Keeper {
    Keeper::new(KeeperSettings {
        store,
        clock,
        events,
        parameters: Parameters::default(),
    })
}

/// Refreshes ahead of need, until it is dropped; a refresh that has begun goes on.
pub(super) struct Tending {
    credentials: watch::Sender<Vec<Credential>>,
    time_moved: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Tending {
    /// Begins with nobody.
    pub(super) fn begin(keeper: Keeper) -> Self {
        let (credentials, mut added) = watch::channel(Vec::new());
        let time_moved = Arc::<Notify>::default();
        let moved = Arc::clone(&time_moved);
        let task = tokio::spawn(async move {
            loop {
                let everybody: Vec<Credential> = added.borrow_and_update().clone();
                tokio::select! {
                    () = keeper.tend(everybody) => {}
                    Ok(()) = added.changed() => sleep(GATHERING).await,
                    () = moved.notified() => {}
                    else => return,
                }
            }
        });
        Self {
            credentials,
            time_moved,
            task,
        }
    }

    /// From now on this one too, in place of an earlier one of its account: a script may set
    /// the same account up again and again.
    pub(super) fn add(&self, credential: Credential) {
        self.credentials.send_modify(|all| {
            all.retain(|earlier| earlier.account() != credential.account());
            all.push(credential);
        });
    }

    /// From now on these, and nobody else.
    pub(super) fn replace(&self, everybody: Vec<Credential>) {
        self.credentials.send_replace(everybody);
    }

    /// Looks at the time again: a clock that is moved by hand tells nobody.
    pub(super) fn look_again(&self) {
        self.time_moved.notify_one();
    }

    /// All of them.
    pub(super) fn everybody(&self) -> Vec<Credential> {
        self.credentials.borrow().clone()
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct InVault(SharedVault);

impl InVault {
    /// The vault if there is one: nothing is made for want of something to read.
    fn existing(&self) -> Result<Option<VaultStore>, StoreError> {
        let vault = self.0.existing().map_err(|failure| told(&failure))?;
        Ok(vault.map(VaultStore::new))
    }

    fn open(&self) -> Result<VaultStore, StoreError> {
        let vault = self.0.open().map_err(|failure| told(&failure))?;
        Ok(VaultStore::new(vault))
    }
}

impl GrantStore for InVault {
    fn load(&self, on: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        match self.existing()? {
            Some(vault) => vault.load(on, key),
            None => Ok(None),
        }
    }

    fn save(&self, on: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError> {
        self.open()?.save(on, key, record)
    }

    fn remove(&self, on: Shelf, key: &GrantKey) -> Result<bool, StoreError> {
        match self.existing()? {
            Some(vault) => vault.remove(on, key),
            None => Ok(false),
        }
    }

    fn try_lock(&self, on: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError> {
        self.open()?.try_lock(on, key)
    }
}

/// Why the vault did not open, and where: whoever reads it is far from the vault.
fn told(failure: &Failure) -> StoreError {
    let mut message = failure.message.clone();
    if let Some(place) = &failure.at {
        message = format!("{message}; at {place}");
    }
    let lasting = failure.exit_code() != exit::TEMPFAIL;
    StoreError::new(message, lasting).caused_by(failure.clone())
}

#[cfg(test)]
mod tests {
    use super::super::failures;
    use super::*;

    #[test]
    fn why_the_vault_did_not_open_is_told_with_where_and_what_to_do() {
        let failure = Failure::new(
            "vault.unsafe_permissions",
            "vault: others can read the file",
        )
        .at("/var/lib/postrider/vault.key")
        .with_remedy("chmod 400 it");

        let error = told(&failure);

        assert_eq!(
            error.message,
            "vault: others can read the file; at /var/lib/postrider/vault.key"
        );
        let said = failures::store(&error);
        assert_eq!(said.code, "vault.unsafe_permissions");
        assert_eq!(said.remedy.as_deref(), Some("chmod 400 it"));
    }
}
