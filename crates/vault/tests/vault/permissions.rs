//! Files and directories are private, or not used.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use postrider_vault::{Kind, VaultErrorKind};

use crate::support::{self, Place, value};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn everything_is_made_private() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();
    let _lock = vault.try_lock(Kind::Grant, "a").unwrap().unwrap();

    let mut directories = vec![place.dir().to_owned()];
    for file in support::files(place.dir()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        directories.push(file.parent().unwrap().to_owned());
    }
    for directory in directories {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
    }
}

#[test]
fn a_file_that_others_can_read_is_refused_and_left_alone() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();

    for file in [place.record_file(), place.ledger_file()] {
        chmod(&file, 0o644);
        let error = vault.get(Kind::Grant, "a").unwrap_err();
        assert_eq!((error.kind, &error.path), (VaultErrorKind::Unsafe, &file));
        assert!(error.message.contains("chmod 600"), "{error}");
        assert_eq!(mode(&file), 0o644);
        assert_eq!(
            vault.status().unwrap().problems[0].error.kind,
            VaultErrorKind::Unsafe
        );
        chmod(&file, 0o600);
    }
    let manifest = place.dir().join("vault.json");
    chmod(&manifest, 0o620);
    assert_eq!(place.try_open().unwrap_err().kind, VaultErrorKind::Unsafe);
    chmod(&manifest, 0o600);
    let key = place.path("vault.key");
    chmod(&key, 0o404);
    assert_eq!(place.try_open().unwrap_err().kind, VaultErrorKind::Unsafe);
    chmod(&key, 0o400);
    assert_eq!(value(&place.open(), Kind::Grant, "a").unwrap(), b"1");
}

#[test]
fn a_directory_others_could_look_into_is_closed_and_one_they_could_write_in_refused() {
    let place = Place::new();
    place.open();
    chmod(place.dir(), 0o755);
    place.open();
    assert_eq!(mode(place.dir()), 0o700);

    chmod(place.dir(), 0o770);
    let error = place.try_open().unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Unsafe);
    assert!(error.message.contains("chmod 700"), "{error}");
    assert_eq!(mode(place.dir()), 0o770);
}

#[test]
fn a_link_is_not_followed() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();
    let (file, aside) = (place.record_file(), place.path("aside"));
    fs::rename(&file, &aside).unwrap();
    symlink(&aside, &file).unwrap();
    assert_eq!(
        vault.get(Kind::Grant, "a").unwrap_err().kind,
        VaultErrorKind::Unsafe
    );

    fs::rename(place.dir(), place.path("elsewhere")).unwrap();
    symlink(place.path("elsewhere"), place.dir()).unwrap();
    assert_eq!(place.try_open().unwrap_err().kind, VaultErrorKind::Unsafe);
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();
    let own = fs::metadata(place.dir()).unwrap().uid();
    if chown(place.record_file(), Some(own + 1), None).is_err() {
        return support::skip("only root can give a file away");
    }
    let error = vault.get(Kind::Grant, "a").unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Unsafe);
    assert!(
        error
            .message
            .contains(&format!("run it as user {}", own + 1)),
        "{error}"
    );

    chown(place.dir(), Some(own + 1), None).unwrap();
    assert_eq!(place.try_open().unwrap_err().kind, VaultErrorKind::Unsafe);
}
