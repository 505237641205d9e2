//! Devices' credentials as the vault had them, for as long as it has them still: whoever sends is
//! asked for before each message, and the vault is read when something changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_vault::{Kind, Mark, Vault};
use secrecy::SecretString;

use super::{credential, credential_name};
use crate::failure::Failure;

/// What was found so far, by its name in the vault: no more than there are credentials.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<String, Arc<Found>>>);

struct Found {
    mark: Mark,
    hash: SecretString,
}

impl Remembered {
    /// The hash of this device's password, if it was looked up before and its record is the same.
    pub(super) fn hash(&self, gateway: &str, device: &str) -> Option<SecretString> {
        let found = self.lock().get(&credential_name(gateway, device)).cloned();
        found
            .filter(|found| found.mark.stands())
            .map(|found| found.hash.clone())
    }

    /// The hash as the vault has it. Blocks.
    ///
    /// # Errors
    /// The vault cannot be read, or the record is damaged.
    pub(super) fn look_up(
        &self,
        vault: &Vault,
        gateway: &str,
        device: &str,
    ) -> Result<Option<SecretString>, Failure> {
        let name = credential_name(gateway, device);
        // Before it is read: what changes in between is looked up again.
        let mark = vault.mark(Kind::Device, &name);
        let hash = credential(vault, gateway, device)?.map(|credential| credential.hash);
        match (mark, &hash) {
            (Ok(mark), Some(hash)) => {
                let hash = hash.clone();
                self.lock().insert(name, Arc::new(Found { mark, hash }));
            }
            _ => drop(self.lock().remove(&name)),
        }
        Ok(hash)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Found>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use jiff::Timestamp;
    use postrider_vault::{KeyOptions, Options};
    use secrecy::ExposeSecret as _;

    use super::super::{StoredCredential, keep_credential};
    use super::*;

    fn vault(dir: &Path) -> Vault {
        let options = Options {
            dir: dir.join("vault"),
            keys: KeyOptions::default(),
            now: SystemTime::UNIX_EPOCH,
        };
        Vault::open(&options).unwrap()
    }

    fn keep(vault: &Vault, hash: &str) {
        let credential = StoredCredential {
            hash: SecretString::from(hash),
            created_at: Timestamp::UNIX_EPOCH,
            note: None,
            last_rotated_at: None,
        };
        keep_credential(vault, "office", "printer-2", &credential).unwrap();
    }

    #[test]
    fn what_is_remembered_is_what_the_vault_has_now() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let remembered = Remembered::default();
        let known = || {
            let hash = remembered.hash("office", "printer-2");
            hash.map(|hash| hash.expose_secret().to_owned())
        };
        let looked_up = || {
            let hash = remembered.look_up(&vault, "office", "printer-2").unwrap();
            hash.map(|hash| hash.expose_secret().to_owned())
        };

        assert_eq!((looked_up(), known()), (None, None));
        keep(&vault, "one");
        assert_eq!(known(), None);
        assert_eq!(looked_up().as_deref(), Some("one"));
        assert_eq!(known().as_deref(), Some("one"));
        assert!(remembered.hash("office", "scanner").is_none());

        keep(&vault, "two");
        assert_eq!(known(), None);
        assert_eq!(looked_up().as_deref(), Some("two"));
        assert_eq!(known().as_deref(), Some("two"));

        let name = credential_name("office", "printer-2");
        assert!(vault.remove(Kind::Device, &name).unwrap());
        assert_eq!((known(), looked_up(), known()), (None, None, None));
        assert!(remembered.lock().is_empty());
    }

    #[test]
    fn a_name_that_nothing_can_be_kept_under_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(2000);
        let found = Remembered::default().look_up(&vault(dir.path()), "office", &long);
        assert!(found.unwrap().is_none());
    }
}
