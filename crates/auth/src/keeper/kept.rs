//! What is kept of a grant, for whoever clears up after accounts that are no more.

use std::time::SystemTime;

use postrider_plugin::wire::Identity;

use super::Keeper;
use super::record::{Record, Refresh};
use super::store::{GrantKey, Shelf, StoreError};

/// A grant that is kept, whether or not any account refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptGrant {
    /// The account that it was kept for last, where that is known.
    pub account: Option<String>,
    /// The account's user name; none where it is an application's.
    pub username: Option<String>,
    /// Who signed in, as far as the provider said.
    pub identity: Option<Identity>,
    /// Whether there is a refresh token that may still work: a person would have to sign in
    /// again to replace it.
    pub living: bool,
    /// When its tokens came.
    pub last_refreshed: Option<SystemTime>,
    generation: u64,
}

impl Keeper {
    /// What is kept under `key`; none where that is nothing.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn kept(&self, key: GrantKey) -> Result<Option<KeptGrant>, StoreError> {
        let Some(octets) = self.shared.load(Shelf::Grant, key).await? else {
            return Ok(None);
        };
        let record = Record::decode(&octets)?;
        let now = self.shared.now();
        let works = |refresh: &Refresh| refresh.lapses_at.is_none_or(|at| now < at);
        let living = record.retired.is_none() && record.refresh.as_ref().is_some_and(works);
        let (account, username) = match record.owner {
            Some(owner) => (Some(owner.account), owner.username),
            None => (None, None),
        };
        Ok(Some(KeptGrant {
            account,
            username,
            identity: record.identity,
            living,
            last_refreshed: record.refreshed_at,
            generation: record.generation,
        }))
    }

    /// Removes what is kept under `key`, if it still is what was `seen` there (`None`: a record
    /// that cannot be read) and nobody is at work on it; whether it did. The provider is not
    /// told.
    ///
    /// # Errors
    /// The store does not do it.
    pub async fn discard(
        &self,
        key: GrantKey,
        seen: Option<&KeptGrant>,
    ) -> Result<bool, StoreError> {
        let Some(_lock) = self.shared.try_lock(Shelf::Grant, key).await? else {
            return Ok(false);
        };
        let same = match self.kept(key).await {
            Ok(now) => seen.is_some_and(|seen| now.as_ref() == Some(seen)),
            Err(error) => seen.is_none() && error.lasting,
        };
        if !same {
            return Ok(false);
        }
        self.shared.remove(Shelf::Grant, key).await
    }
}
