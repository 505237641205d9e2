//! An account's secrets, resolved when its plugin asks and not before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use postrider_auth::SecretSource;
use postrider_config::{Account, SecretRef};
use secrecy::SecretString;

use super::vault::SharedVault;
use crate::failure::Failure;

/// Secret references by the name of their setting.
pub(super) struct References {
    by_setting: BTreeMap<String, SecretRef>,
    stand_ins: BTreeMap<String, SecretString>,
    base_dir: PathBuf,
    vault: SharedVault,
    /// The setting that could not be resolved last, and why: a plugin may not pass it on.
    unresolved: Mutex<Option<(String, Failure)>>,
}

impl References {
    /// `stand_ins` are looked up before the environment is; relative paths start at
    /// `base_dir`.
    pub(super) fn new(
        by_setting: BTreeMap<String, SecretRef>,
        stand_ins: BTreeMap<String, SecretString>,
        base_dir: PathBuf,
        vault: SharedVault,
    ) -> Self {
        Self {
            by_setting,
            stand_ins,
            base_dir,
            vault,
            unresolved: Mutex::default(),
        }
    }

    /// Why the last secret that `account` asked for could not be had; once.
    pub(super) fn take_unresolved(&self, account: &Account) -> Option<Failure> {
        let (setting, mut failure) = self
            .unresolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        failure.message = format!("{setting}: {}", failure.message);
        // A file of the vault that is at fault says more than the setting that leads to it.
        failure
            .at
            .get_or_insert_with(|| format!("account.{}.auth.{setting}", account.name));
        Some(failure.with_account(&account.name))
    }
}

impl SecretSource for References {
    fn secret(&self, name: &str) -> Result<SecretString, String> {
        let reference = self
            .by_setting
            .get(name)
            .ok_or_else(|| format!("the account has no {name}"))?;
        if let SecretRef::Env(variable) = reference
            && let Some(value) = self.stand_ins.get(variable)
        {
            return Ok(value.clone());
        }
        self.vault
            .resolve(reference, &self.base_dir)
            .map_err(|failure| {
                let text = failure.message.clone();
                *self
                    .unresolved
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some((name.to_owned(), failure));
                text
            })
    }

    fn identity(&self, name: &str) -> String {
        let reference = self.by_setting.get(name);
        reference.map_or_else(String::new, SecretRef::identity)
    }

    fn names(&self) -> Vec<String> {
        self.by_setting.keys().cloned().collect()
    }
}
