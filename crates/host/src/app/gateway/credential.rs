//! A device's password in the vault: a hash, under `GATEWAY/DEVICE`.

use jiff::Timestamp;
use postrider_gateway::credential::{self, CredentialError};
use postrider_vault::{Kind, Vault, VaultErrorKind};
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::app::vault;
use crate::failure::Failure;

/// A device's credential.
#[derive(Clone, Debug)]
pub(crate) struct StoredCredential {
    /// The password's hash: argon2id, a PHC string.
    pub(crate) hash: SecretString,
    /// When the device got its first password.
    pub(crate) created_at: Timestamp,
    /// What somebody wrote down about it.
    pub(crate) note: Option<String>,
    /// When it got the one it has now, if that is not the first.
    pub(crate) last_rotated_at: Option<Timestamp>,
}

/// The form in which it lies in its record.
#[derive(Serialize, Deserialize)]
struct Record {
    hash: String,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_rotated_at: Option<Timestamp>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.hash.zeroize();
    }
}

impl StoredCredential {
    /// A new device's, for this password. Hashing takes some hundredths of a second, and 19 MiB.
    ///
    /// # Errors
    /// The hash cannot be computed, or the system gives no salt.
    pub(crate) fn new(
        password: &SecretString,
        note: Option<String>,
        now: Timestamp,
    ) -> Result<Self, CredentialError> {
        Ok(Self {
            hash: credential::hash(password)?,
            created_at: now,
            note,
            last_rotated_at: None,
        })
    }

    /// The same device's, with another password.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub(crate) fn rotated(
        self,
        password: &SecretString,
        now: Timestamp,
    ) -> Result<Self, CredentialError> {
        Ok(Self {
            hash: credential::hash(password)?,
            last_rotated_at: Some(now),
            ..self
        })
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let record = Record {
            hash: self.hash.expose_secret().to_owned(),
            created_at: self.created_at,
            note: self.note.clone(),
            last_rotated_at: self.last_rotated_at,
        };
        let text = serde_json::to_vec(&record);
        text.map(Zeroizing::new)
            .map_err(|problem| Failure::new("internal", problem.to_string()))
    }

    fn decode(octets: &[u8]) -> Result<Self, Failure> {
        // What serde says may quote what it read.
        let mut record: Record = serde_json::from_slice(octets).map_err(|_| {
            Failure::new(
                "vault.malformed",
                "the record of a device's password is none of this version's",
            )
            .with_remedy(
                "give the device another one: postrider gateway credential add DEVICE --replace",
            )
        })?;
        Ok(Self {
            hash: SecretString::from(std::mem::take(&mut record.hash)),
            created_at: record.created_at,
            note: record.note.take(),
            last_rotated_at: record.last_rotated_at,
        })
    }
}

/// The credential's name in the vault. Neither name has a `/` that the other could be mistaken for:
/// a gateway's has none.
pub(crate) fn credential_name(gateway: &str, device: &str) -> String {
    format!("{gateway}/{device}")
}

/// A device's credential.
///
/// # Errors
/// The vault cannot be read, or the record is damaged.
pub(crate) fn credential(
    vault: &Vault,
    gateway: &str,
    device: &str,
) -> Result<Option<StoredCredential>, Failure> {
    match vault.get(Kind::Device, &credential_name(gateway, device)) {
        Ok(record) => record
            .map(|record| StoredCredential::decode(&record.value))
            .transpose(),
        // Nothing can be kept under such a name.
        Err(error) if error.kind == VaultErrorKind::Name => Ok(None),
        Err(error) => Err(vault::failure(&error)),
    }
}

/// Gateway and device of every credential that there is.
///
/// # Errors
/// The vault cannot be read.
pub(crate) fn devices(vault: &Vault) -> Result<Vec<(String, String)>, Failure> {
    let names = vault
        .names(Kind::Device)
        .map_err(|error| vault::failure(&error))?;
    let pairs = names.iter().filter_map(|name| name.split_once('/'));
    Ok(pairs
        .map(|(gateway, device)| (gateway.to_owned(), device.to_owned()))
        .collect())
}

/// Keeps it, in place of any other.
///
/// # Errors
/// The vault cannot be written.
pub(crate) fn keep_credential(
    vault: &Vault,
    gateway: &str,
    device: &str,
    credential: &StoredCredential,
) -> Result<(), Failure> {
    let name = credential_name(gateway, device);
    vault
        .put(Kind::Device, &name, &credential.encode()?)
        .map(drop)
        .map_err(|error| vault::failure(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_as_it_was_written_and_never_shown() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";
        let credential = StoredCredential {
            hash: SecretString::from(hash),
            created_at: at(1),
            note: Some("the one by the door".to_owned()),
            last_rotated_at: Some(at(2)),
        };
        let read = StoredCredential::decode(&credential.encode().unwrap()).unwrap();
        assert_eq!(read.hash.expose_secret(), hash);
        assert_eq!(
            (read.created_at, read.last_rotated_at),
            (at(1), Some(at(2)))
        );
        assert_eq!(read.note.as_deref(), Some("the one by the door"));
        assert!(!format!("{read:?}").contains("argon2id"));
    }

    #[test]
    fn a_record_of_something_else_is_refused_without_quoting_it() {
        for octets in [
            &b"hunter2"[..],
            b"{\"hash\":[\"hunter2\"]}",
            b"{\"hash\":\"hunter2\"}",
        ] {
            let failure = StoredCredential::decode(octets).unwrap_err();
            assert_eq!(failure.code, "vault.malformed");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
    }
}
