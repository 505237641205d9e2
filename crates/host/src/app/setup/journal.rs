//! What setting an account up wrote down: a record of the vault, beside the secrets it led to.
//!
//! Every word of the journal is on disk before the next step is taken, so a run that was killed
//! is understood by the next one. What a renewal has replaced since is known from the renewal's
//! own journal.

use std::time::SystemTime;

use postrider_setup::{Event, Known, NewSecret, Record, RecordError, SecretName};
use postrider_vault::{Kind, Lock, Vault};

use crate::app::renewal::{Renewals, hold};
use crate::app::vault::{SharedVault, VaultSecret, failure};
use crate::failure::Failure;

/// What is known of an account before it is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// What earlier runs wrote down, with the credential that is in use now.
    pub known: Known,
    /// Whether a renewal of the credential is under way.
    pub renewing: bool,
}

/// The journal of one account. While it lives no other process sets the same account up, and
/// none renews its credential.
pub struct Journal {
    account: String,
    remembered: Remembered,
    shared: SharedVault,
    vault: Vault,
    _locks: Vec<Lock>,
}

impl Journal {
    /// The journal of `account`, for this process alone; the vault is made if there is none.
    ///
    /// # Errors
    /// The vault does not open, another process has the journal or renews the credential, or
    /// what is written there is damaged.
    pub fn open(shared: &SharedVault, account: &str) -> Result<Self, Failure> {
        let vault = shared.open()?;
        let lock = vault
            .try_lock(Kind::Journal, &record(account))
            .map_err(|error| failure(&error))?
            .ok_or_else(|| {
                Failure::new("setup.busy", "another process is setting this account up")
                    .with_account(account)
                    .with_remedy("wait until it has ended")
                    .retryable()
            })?;
        let mut locks = hold(&vault, account)?;
        locks.push(lock);
        Ok(Self {
            account: account.to_owned(),
            remembered: Self::look(shared, account)?,
            shared: shared.clone(),
            vault,
            _locks: locks,
        })
    }

    /// What is known of `account`; nothing, and no vault is made, where it was not set up here.
    ///
    /// # Errors
    /// The vault does not open, or a journal is damaged.
    pub fn look(shared: &SharedVault, account: &str) -> Result<Remembered, Failure> {
        let Some(vault) = shared.existing()? else {
            return Ok(Remembered::default());
        };
        let mut known = read(&vault, account)?.unwrap_or_default();
        let renewals = Renewals::of(shared, account)?;
        let recorded = known.credential.as_ref().map(|recorded| recorded.kind);
        let mut in_use = renewals.in_use.into_iter();
        // Of a kind that setup has replaced by another since, the vault may still hold one.
        if let Some(renewed) = in_use.find(|one| recorded.is_none_or(|kind| kind == one.kind)) {
            known.credential = Some(renewed);
        }
        Ok(Remembered {
            known,
            renewing: renewals.under_way,
        })
    }

    /// What is known.
    pub fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// The vault's name for a secret of an account.
    pub fn secret_name(account: &str, secret: SecretName) -> String {
        format!("{account}/{}", secret.as_str())
    }
}

impl Record for Journal {
    fn note(&mut self, event: &Event) -> Result<(), RecordError> {
        let known = &mut self.remembered.known;
        known.note(event);
        let text = serde_json::to_vec(known)?;
        let put = self.vault.put(Kind::Journal, &record(&self.account), &text);
        put.map_err(|error| failure(&error))?;
        Ok(())
    }

    fn store_secret(&mut self, secret: &NewSecret) -> Result<(), RecordError> {
        let kept = VaultSecret {
            value: secret.value.clone(),
            expires: Some(secret.ends.into()),
            set_at: SystemTime::now(),
        };
        let name = Self::secret_name(&self.account, secret.name);
        self.shared.put_secret(&name, &kept)?;
        Ok(())
    }
}

/// Beside the journals of other things that are done to an account.
fn record(account: &str) -> String {
    format!("setup/{account}")
}

fn read(vault: &Vault, account: &str) -> Result<Option<Known>, Failure> {
    let found = vault.get(Kind::Journal, &record(account));
    let Some(found) = found.map_err(|error| failure(&error))? else {
        return Ok(None);
    };
    serde_json::from_slice(&found.value).map(Some).map_err(|_| {
        Failure::new(
            "vault.malformed",
            "what setting this account up wrote down is none of this version's",
        )
        .with_account(account)
    })
}
