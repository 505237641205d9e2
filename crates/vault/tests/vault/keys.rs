//! Where the key comes from, and what is said when it is not the one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use postrider_vault::{
    KeyOptions, KeySource, Kind, NewKey, Passphrase, PassphraseRequest, Rekey, Vault, VaultError,
    VaultErrorKind,
};

use crate::support::{Place, now, value};

const KEY: &str = "6vQxkR8yXk0u4gq1o1kGm9tqvJf0i5lq2m1o7w==";
const OTHER_KEY: &str = "another key, and as long as keys have to be";

impl Place {
    fn with_keys(mut self, keys: KeyOptions) -> Place {
        self.options.keys = keys;
        self
    }

    /// A credentials directory as systemd makes it.
    fn credentials(&self, key: &str) -> PathBuf {
        fs::create_dir_all(self.path("credentials")).unwrap();
        self.key_file("credentials/postrider.kek", key);
        self.path("credentials")
    }

    fn refused(&mut self, keys: KeyOptions) -> VaultError {
        self.options.keys = keys;
        self.try_open().unwrap_err()
    }
}

fn key_file(path: PathBuf) -> KeyOptions {
    KeyOptions {
        key_file: Some(path),
        ..KeyOptions::default()
    }
}

fn credential(directory: PathBuf) -> KeyOptions {
    KeyOptions {
        credentials_directory: Some(directory),
        ..KeyOptions::default()
    }
}

/// A passphrase, and how often it was asked for.
fn passphrase(answer: Option<&'static str>) -> (KeyOptions, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let passphrase = Passphrase::new(move |_: PassphraseRequest| {
        count.fetch_add(1, Ordering::Relaxed);
        answer.map(Into::into)
    });
    let keys = KeyOptions {
        passphrase: Some(passphrase),
        ..KeyOptions::default()
    };
    (keys, asked)
}

#[test]
fn without_any_key_one_is_made_and_its_keeper_is_told_better() {
    let place = Place::new();
    let vault = place.open();
    assert_eq!(vault.key_source(), KeySource::GeneratedFile);
    assert!(
        vault
            .key_source()
            .advice()
            .unwrap()
            .contains("LoadCredentialEncrypted")
    );
    assert_eq!(KeySource::Credential.advice(), None);
    let key = fs::metadata(place.path("vault.key")).unwrap();
    assert_eq!(key.mode() & 0o777, 0o400);

    vault.put(Kind::Secret, "a", b"1").unwrap();
    assert_eq!(value(&place.open(), Kind::Secret, "a").unwrap(), b"1");
    fs::remove_file(place.path("vault.key")).unwrap();
    let error = place.try_open().unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::NoKey);
    assert!(
        error.message.contains("sealed with the generated key file"),
        "{error}"
    );
}

#[test]
fn the_credential_goes_before_the_key_file_and_that_before_the_passphrase() {
    let place = Place::new();
    let (mut keys, asked) = passphrase(Some("x"));
    keys.credentials_directory = Some(place.credentials(KEY));
    keys.key_file = Some(place.key_file("kek", OTHER_KEY));
    let place = place.with_keys(keys.clone());
    assert_eq!(place.open().key_source(), KeySource::Credential);
    assert!(!place.path("vault.key").exists());

    keys.credentials_directory = Some(place.path("empty"));
    let other = Place::new();
    keys.key_file = Some(other.key_file("kek", KEY));
    assert_eq!(
        other.with_keys(keys).open().key_source(),
        KeySource::KeyFile
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn the_wrong_key_is_told_from_none() {
    let place = Place::new();
    let kek = place.key_file("kek", KEY);
    let mut place = place.with_keys(key_file(kek.clone()));
    place.open();

    let error = place.refused(KeyOptions::default());
    assert_eq!(error.kind, VaultErrorKind::NoKey);
    assert!(
        error
            .message
            .contains(&format!("sealed with the key file {}", kek.display())),
        "{error}"
    );

    let other = place.credentials(OTHER_KEY);
    let error = place.refused(credential(other));
    assert_eq!(error.kind, VaultErrorKind::NoKey);
    assert!(
        error.message.contains("postrider.kek") && error.message.contains("holds another key"),
        "{error}"
    );

    let other = place.key_file("other", OTHER_KEY);
    let error = place.refused(key_file(other));
    assert_eq!(error.kind, VaultErrorKind::WrongKey);

    let (asking, asked) = passphrase(Some("x"));
    assert_eq!(place.refused(asking).kind, VaultErrorKind::NoKey);
    assert_eq!(
        asked.load(Ordering::Relaxed),
        0,
        "asked for a passphrase that seals nothing"
    );
}

#[test]
fn the_same_key_may_move() {
    let place = Place::new();
    place.open();
    let generated = fs::read_to_string(place.path("vault.key")).unwrap();
    fs::remove_file(place.path("vault.key")).unwrap();

    let moved = place.credentials(&generated);
    let place = place.with_keys(credential(moved));
    assert_eq!(place.open().key_source(), KeySource::Credential);
}

#[test]
fn a_passphrase_is_asked_for_once_in_a_process() {
    let (keys, asked) = passphrase(Some("correct horse"));
    let mut place = Place::new().with_keys(keys);
    let vault = place.open();
    vault.put(Kind::Secret, "a", b"1").unwrap();
    assert_eq!(value(&place.open(), Kind::Secret, "a").unwrap(), b"1");
    vault.status().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(vault.key_source(), KeySource::Passphrase);
    assert!(!place.path("vault.key").exists());

    let (wrong, asked) = passphrase(Some("wrong horse"));
    assert_eq!(place.refused(wrong.clone()).kind, VaultErrorKind::WrongKey);
    assert_eq!(place.refused(wrong).kind, VaultErrorKind::WrongKey);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let (nobody, _) = passphrase(None);
    assert_eq!(place.refused(nobody).kind, VaultErrorKind::NoKey);
    assert_eq!(
        place.refused(KeyOptions::default()).kind,
        VaultErrorKind::NoKey
    );
}

#[test]
fn a_key_that_others_read_or_anybody_guesses_is_refused() {
    let mut place = Place::new();
    let kek = place.key_file("kek", KEY);
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o640)).unwrap();
    let error = place.refused(key_file(kek.clone()));
    assert_eq!((error.kind, &error.path), (VaultErrorKind::Unsafe, &kek));

    fs::set_permissions(&kek, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&kek, place.path("link")).unwrap();
    let link = key_file(place.path("link"));
    assert_eq!(place.refused(link).kind, VaultErrorKind::Unsafe);

    let short = key_file(place.key_file("short", "hunter2\n"));
    let error = place.refused(short);
    assert!(error.message.contains("holds 7 octets"), "{error}");
    assert!(!error.to_string().contains("hunter2"));

    let absent = key_file(place.path("absent"));
    assert_eq!(place.refused(absent).kind, VaultErrorKind::NoKey);
    assert!(!place.dir().join("vault.json").exists());
}

#[test]
fn a_vault_moves_from_any_key_to_any_other() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Secret, "a", b"1").unwrap();
    let kek = place.key_file("kek", KEY);
    let credentials = place.credentials(OTHER_KEY);
    let (asking, _) = passphrase(Some("correct horse"));
    let mut keys = KeyOptions::default();
    let mut place = place;

    for (new, next, source) in [
        (
            NewKey::KeyFile(kek.clone()),
            key_file(kek),
            KeySource::KeyFile,
        ),
        (
            NewKey::Passphrase("correct horse".into()),
            asking,
            KeySource::Passphrase,
        ),
        (
            NewKey::Credential,
            credential(credentials.clone()),
            KeySource::Credential,
        ),
        (
            NewKey::Generated,
            KeyOptions::default(),
            KeySource::GeneratedFile,
        ),
        (
            NewKey::Generated,
            KeyOptions::default(),
            KeySource::GeneratedFile,
        ),
    ] {
        keys.credentials_directory = Some(credentials.clone());
        place.options.keys = keys;
        let changing = place.open();
        let rekey = Rekey {
            key: Some(new),
            new_data_key: true,
            now: now(),
        };
        let done = changing.rekey(&rekey, &mut |_| {}).unwrap();
        assert!(done.finished && done.problems.is_empty() && done.records == 1);
        assert_eq!(changing.key_source(), source);

        place.options.keys = next.clone();
        let vault = place.open();
        assert_eq!(vault.key_source(), source);
        assert_eq!(value(&vault, Kind::Secret, "a").unwrap(), b"1");
        assert_eq!(
            place.path("vault.key").exists(),
            source == KeySource::GeneratedFile
        );
        keys = next;
    }
    // The process that has been there all along finds the last key by itself.
    assert_eq!(value(&vault, Kind::Secret, "a").unwrap(), b"1");
    vault.put(Kind::Secret, "a", b"2").unwrap();
}

#[test]
fn who_cannot_get_at_the_new_key_is_told() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Secret, "a", b"1").unwrap();
    let rekey = Rekey {
        key: Some(NewKey::KeyFile(place.key_file("kek", KEY))),
        new_data_key: true,
        now: now(),
    };
    let other = Vault::open(&place.options).unwrap();
    other.rekey(&rekey, &mut |_| {}).unwrap();
    for error in [
        vault.get(Kind::Secret, "a").unwrap_err(),
        vault.put(Kind::Secret, "a", b"2").unwrap_err(),
    ] {
        assert_eq!(error.kind, VaultErrorKind::NoKey, "{error}");
    }
    assert_eq!(value(&other, Kind::Secret, "a").unwrap(), b"1");
}

#[test]
fn a_place_whose_name_is_no_text_keeps_a_vault_and_its_key() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let mut place = Place::new();
    place.options.dir = place.root.path().join(OsStr::from_bytes(b"v\xffault"));
    let vault = place.open();
    vault.put(Kind::Secret, "a", b"1").unwrap();
    assert_eq!(value(&place.open(), Kind::Secret, "a").unwrap(), b"1");

    let rekey = Rekey {
        key: Some(NewKey::Generated),
        new_data_key: true,
        now: now(),
    };
    let done = vault.rekey(&rekey, &mut |_| {}).unwrap();
    assert!(done.finished && done.problems.is_empty(), "{done:?}");
    assert_eq!(value(&place.open(), Kind::Secret, "a").unwrap(), b"1");
}

#[cfg(not(feature = "keyring"))]
#[test]
fn without_the_feature_the_keyring_is_an_error() {
    let mut place = Place::new();
    let error = place.refused(KeyOptions {
        keyring: true,
        ..KeyOptions::default()
    });
    assert_eq!(error.kind, VaultErrorKind::NoKey);
    assert!(error.message.contains("cargo feature `keyring`"), "{error}");
}

#[cfg(feature = "keyring")]
#[test]
fn the_desktops_keyring_keeps_the_key() {
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
        return crate::support::skip("there is no session bus, and so no secret service");
    }
    let keys = KeyOptions {
        keyring: true,
        ..KeyOptions::default()
    };
    let mut place = Place::new().with_keys(keys.clone());
    let vault = place.open();
    assert_eq!(vault.key_source(), KeySource::Keyring);
    vault.put(Kind::Secret, "a", b"1").unwrap();
    let before = fs::read(place.dir().join("vault.json")).unwrap();

    for (key, source) in [
        (NewKey::Keyring, KeySource::Keyring),
        (NewKey::Generated, KeySource::GeneratedFile),
    ] {
        let rekey = Rekey {
            key: Some(key),
            new_data_key: true,
            now: now(),
        };
        let done = place.open().rekey(&rekey, &mut |_| {}).unwrap();
        assert!(done.finished && done.problems.is_empty(), "{done:?}");
        assert_eq!(place.open().key_source(), source);
        assert_eq!(value(&place.open(), Kind::Secret, "a").unwrap(), b"1");
    }
    // The first key is not in the keyring any more.
    crate::support::write_private(&place.dir().join("vault.json"), &before);
    let error = place.refused(keys);
    assert_eq!(error.kind, VaultErrorKind::NoKey);
    assert!(error.message.contains("the desktop's keyring"), "{error}");
}
