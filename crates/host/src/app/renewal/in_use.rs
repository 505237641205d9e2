//! What renewals have left an account with: for whoever sets it up again.
//!
//! A renewal replaces what setup made and recorded. Its journal knows the id of the one that is
//! in use since, as long as the vault holds the value that it is about.

use jiff::Timestamp;
use postrider_setup::{KnownCredential, SecretName};
use postrider_vault::{Kind, Lock, Vault};
use secrecy::{ExposeSecret as _, SecretString};

use super::journal::{Journal, Phase, Renewable};
use super::keep;
use crate::app::setup::Journal as SetupJournal;
use crate::app::vault::{SharedVault, VaultSecret, failure};
use crate::failure::Failure;

const EACH: [Renewable; 2] = [Renewable::ClientSecret, Renewable::Certificate];

/// What is known of the credentials that setup gave an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Renewals {
    /// Whether a renewal is under way.
    pub(crate) under_way: bool,
    /// The credentials in use, at most one of a kind: those whose ids are known.
    pub(crate) in_use: Vec<KnownCredential>,
}

impl Renewals {
    /// Those of `account`.
    ///
    /// # Errors
    /// The vault cannot be read, or a journal is damaged.
    pub(crate) fn of(shared: &SharedVault, account: &str) -> Result<Self, Failure> {
        let mut renewals = Self::default();
        let Some(vault) = shared.existing()? else {
            return Ok(renewals);
        };
        for what in EACH {
            let name = secret_name(account, what);
            let record = vault.get(Kind::Journal, &keep::record(&name));
            let Some(record) = record.map_err(|error| failure(&error))? else {
                continue;
            };
            let journal = Journal::decode(&record.value)?;
            renewals.under_way |= journal.phase != Phase::Rest;
            if let Some(kept) = shared.secret(&name)? {
                renewals.in_use.extend(credential(&journal, &kept));
            }
        }
        Ok(renewals)
    }
}

/// Keeps every renewal of `account` from going on while the locks live.
///
/// # Errors
/// Another process is at one.
pub(crate) fn hold(vault: &Vault, account: &str) -> Result<Vec<Lock>, Failure> {
    let lock = |what| {
        let record = keep::record(&secret_name(account, what));
        let lock = vault.try_lock(Kind::Journal, &record);
        let lock = lock.map_err(|error| failure(&error))?;
        lock.ok_or_else(|| keep::busy().with_account(account))
    };
    EACH.into_iter().map(lock).collect()
}

/// Where setup puts it.
fn secret_name(account: &str, what: Renewable) -> String {
    let secret = match what {
        Renewable::ClientSecret => SecretName::ClientSecret,
        Renewable::Certificate => SecretName::Certificate,
    };
    SetupJournal::secret_name(account, secret)
}

/// The one that is kept, if the journal knows its id.
fn credential(journal: &Journal, kept: &VaultSecret) -> Option<KnownCredential> {
    let is = |value: &SecretString| value.expose_secret() == kept.value.expose_secret();
    let new = journal.new.as_ref().filter(|new| is(&new.value));
    let old = journal.old.as_ref().filter(|old| is(&old.value));
    let settled = || journal.settled.as_ref()?.key_id_of(&kept.value);
    let key_id = match (new, old) {
        (Some(new), _) => new.key_id.as_deref(),
        (None, Some(old)) => old.key_id.as_deref(),
        (None, None) => settled(),
    }?;
    Some(KnownCredential {
        key_id: key_id.to_owned(),
        kind: match journal.what {
            Renewable::ClientSecret => SecretName::ClientSecret,
            Renewable::Certificate => SecretName::PrivateKey,
        },
        ends: Timestamp::try_from(kept.expires?).ok()?,
    })
}
