//! The desktop's secret service, which keeps a vault's key with the user's other passwords.

#[cfg(feature = "keyring")]
pub(crate) use service::{get, remove, set};
#[cfg(not(feature = "keyring"))]
pub(crate) use without::{get, remove, set};

#[cfg(feature = "keyring")]
mod service {
    use keyring_core::api::CredentialStoreApi;
    use keyring_core::{Entry, Error};
    use zbus_secret_service_keyring_store::Store;
    use zeroize::Zeroizing;

    use crate::seal::Id;

    /// The key of that id.
    pub(crate) fn get(store: Id, key: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        match entry(store, key)?.get_secret() {
            Ok(secret) => Ok(Some(Zeroizing::new(secret))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(said(&error)),
        }
    }

    pub(crate) fn set(store: Id, key: &str, secret: &[u8]) -> Result<(), String> {
        entry(store, key)?
            .set_secret(secret)
            .map_err(|error| said(&error))
    }

    pub(crate) fn remove(store: Id, key: &str) -> Result<(), String> {
        match entry(store, key)?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(said(&error)),
        }
    }

    /// Each key has its own entry, so that there are two while one replaces the other.
    fn entry(store: Id, key: &str) -> Result<Entry, String> {
        let user = format!("vault {} key {key}", store.hex());
        Store::new()
            .and_then(|service| service.build("postrider", &user, None))
            .map_err(|error| said(&error))
    }

    /// Two of its errors carry the secret.
    fn said(error: &Error) -> String {
        match error {
            Error::BadEncoding(_) | Error::BadDataFormat(..) => "the entry is not a key".to_owned(),
            other => other.to_string(),
        }
    }
}

#[cfg(not(feature = "keyring"))]
mod without {
    use zeroize::Zeroizing;

    use crate::seal::Id;

    const WHY: &str = "this Postrider was built without support for it (cargo feature `keyring`)";

    pub(crate) fn get(_: Id, _: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        Err(WHY.to_owned())
    }

    pub(crate) fn set(_: Id, _: &str, _: &[u8]) -> Result<(), String> {
        Err(WHY.to_owned())
    }

    pub(crate) fn remove(_: Id, _: &str) -> Result<(), String> {
        Err(WHY.to_owned())
    }
}
