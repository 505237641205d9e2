//! An account's secrets, resolved when its plugin asks and not before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use postrider_auth::SecretSource;
use postrider_config::SecretRef;
use secrecy::SecretString;

/// Secret references by the name of their setting.
pub(super) struct References {
    by_setting: BTreeMap<String, SecretRef>,
    stand_ins: BTreeMap<String, SecretString>,
    base_dir: PathBuf,
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
        }
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
        reference
            .resolve(&self.base_dir)
            .map_err(|error| error.to_string())
    }

    fn names(&self) -> Vec<String> {
        self.by_setting.keys().cloned().collect()
    }
}
