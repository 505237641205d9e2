//! An account's secrets, resolved when its plugin asks and not before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use postrider_auth::SecretSource;
use postrider_config::{Account, SecretRef};
use secrecy::{ExposeSecret as _, SecretString};

use super::vault::SharedVault;
use crate::failure::Failure;

const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private_key";
/// How the section of a key ends in a PEM file (RFC 7468 §10).
const KEY_SECTION: &str = "PRIVATE KEY-----";

/// Secret references by the name of their setting.
pub(super) struct References {
    by_setting: BTreeMap<String, SecretRef>,
    stand_ins: BTreeMap<String, SecretString>,
    /// By setting: values that are tried in place of those that the references lead to.
    replaced: BTreeMap<String, SecretString>,
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
            replaced: BTreeMap::new(),
            base_dir,
            vault,
            unresolved: Mutex::default(),
        }
    }

    /// The same with these values in place of others. They are known by the names of those that
    /// they replace.
    pub(super) fn replacing(&self, replaced: BTreeMap<String, SecretString>) -> Self {
        let mut other = Self::new(
            self.by_setting.clone(),
            self.stand_ins.clone(),
            self.base_dir.clone(),
            self.vault.clone(),
        );
        other.replaced = replaced;
        other
    }

    /// The key that lies in the vault's record of the certificate, if one does: so both are
    /// renewed in one step. It goes before one that lies elsewhere.
    fn key_beside_certificate(&self) -> Option<SecretString> {
        let value = match self.replaced.get(CERTIFICATE) {
            Some(value) => value.clone(),
            None => match self.by_setting.get(CERTIFICATE)? {
                reference @ SecretRef::Vault(_) => {
                    self.vault.resolve(reference, &self.base_dir).ok()?
                }
                _ => return None,
            },
        };
        let holds_key = value.expose_secret().contains(KEY_SECTION);
        holds_key.then_some(value)
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
        if let Some(value) = self.replaced.get(name) {
            return Ok(value.clone());
        }
        if name == PRIVATE_KEY
            && let Some(key) = self.key_beside_certificate()
        {
            return Ok(key);
        }
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
