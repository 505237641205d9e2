//! An account's secrets, resolved when its plugin asks and not before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use postrider_auth::SecretSource;
use postrider_config::{SecretError, SecretRef};
use secrecy::SecretString;

/// Secret references by the name of their setting.
pub(super) struct References {
    by_setting: BTreeMap<String, SecretRef>,
    stand_ins: BTreeMap<String, SecretString>,
    base_dir: PathBuf,
    /// The setting that could not be resolved last, and why: a plugin may not pass it on.
    unresolved: Mutex<Option<(String, SecretError)>>,
}

impl References {
    /// `stand_ins` are looked up before the environment is; relative paths start at
    /// `base_dir`.
    pub(super) fn new(
        by_setting: BTreeMap<String, SecretRef>,
        stand_ins: BTreeMap<String, SecretString>,
        base_dir: PathBuf,
    ) -> Self {
        Self {
            by_setting,
            stand_ins,
            base_dir,
            unresolved: Mutex::default(),
        }
    }

    /// Why the last secret that was asked for could not be had; once.
    pub(super) fn take_unresolved(&self) -> Option<(String, SecretError)> {
        self.unresolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
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
        reference.resolve(&self.base_dir).map_err(|error| {
            let text = error.to_string();
            *self
                .unresolved
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some((name.to_owned(), error));
            text
        })
    }

    fn names(&self) -> Vec<String> {
        self.by_setting.keys().cloned().collect()
    }
}
