//! Sign-ins and tokens in the vault that no account of the configuration refers to.
//!
//! They stay when an account is removed, or when its settings change so that it is another one
//! to the provider.

use std::collections::BTreeSet;

use postrider_auth::{GrantKey, KeptGrant};
use postrider_vault::Kind;
use serde::Serialize;

use super::vault::failure;
use super::{App, Moment, failures};
use crate::failure::Failure;

/// A sign-in, or an application's tokens, that no account refers to.
#[derive(Clone, Debug, Serialize)]
pub struct Orphan {
    /// Its name in the vault.
    pub name: String,
    /// The account that it was kept for last, where that is known.
    pub account: Option<String>,
    /// Whose sign-in it is, where that is known.
    pub username: Option<String>,
    /// Whether it may still work, so that a person would have to sign in again to replace it.
    pub living: bool,
    /// When its tokens came.
    pub last_refreshed: Option<Moment>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    #[serde(skip)]
    key: GrantKey,
    #[serde(skip)]
    seen: Option<KeptGrant>,
}

impl App {
    /// What no account of the configuration refers to. Scripts may set up accounts of their
    /// own, of which nothing is known here.
    ///
    /// # Errors
    /// There is no configuration, or an account cannot be set up, so that what is its own cannot
    /// be told; or the vault does not open.
    pub async fn orphans(&self) -> Result<Vec<Orphan>, Failure> {
        let shared = self.vault().clone();
        let names = tokio::task::spawn_blocking(move || match shared.existing()? {
            Some(vault) => vault.names(Kind::Grant).map_err(|error| failure(&error)),
            None => Ok(Vec::new()),
        })
        .await
        .map_err(|_| Failure::new("internal", "the command was interrupted"))??;

        let mut used = BTreeSet::new();
        if !names.is_empty() {
            // Then everything would look like nobody's.
            if self.config_path().is_none() {
                return Err(Failure::new(
                    "config.no_file",
                    "no configuration file was found, so that nothing is known of accounts",
                )
                .with_remedy("name it with --config"));
            }
            for settings in self.accounts() {
                used.extend(self.account(&settings.name).await?.grant_key());
            }
        }
        let mut orphans = Vec::new();
        for name in names {
            if let Some(key) = GrantKey::from_hex(&name).filter(|key| !used.contains(key)) {
                orphans.extend(self.orphan(name, key).await);
            }
        }
        Ok(orphans)
    }

    async fn orphan(&self, name: String, key: GrantKey) -> Option<Orphan> {
        let (seen, unreadable) = match self.keeper().kept(key).await {
            Ok(None) => return None,
            Ok(seen) => (seen, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let kept = seen.as_ref();
        let signed_in = kept.and_then(|kept| kept.identity.as_ref()?.usernames.first().cloned());
        Some(Orphan {
            account: kept.and_then(|kept| kept.account.clone()),
            username: kept.and_then(|kept| kept.username.clone()).or(signed_in),
            // What cannot be read works for nobody.
            living: kept.is_some_and(|kept| kept.living),
            last_refreshed: kept.and_then(|kept| kept.last_refreshed).map(Moment),
            unreadable,
            name,
            key,
            seen,
        })
    }

    /// Removes `orphan`, unless somebody has used it since it was found; whether it did. The
    /// provider is not told.
    ///
    /// # Errors
    /// The vault does not do it.
    pub async fn discard(&self, orphan: &Orphan) -> Result<bool, Failure> {
        let discarded = self.keeper().discard(orphan.key, orphan.seen.as_ref());
        discarded.await.map_err(|error| failures::store(&error))
    }
}
