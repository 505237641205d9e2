//! What happens to files, each said for what it is.

use std::fs;

use postrider_vault::{Kind, Vault, VaultErrorKind};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::{Place, new_data_key, value, write_private};

/// A vault with one record at generation 2, and that record's file at generation 1.
fn with_old_copy() -> (Place, Vault, Vec<u8>) {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Secret, "a", b"one").unwrap();
    let old = fs::read(place.record_file()).unwrap();
    vault.put(Kind::Secret, "a", b"two").unwrap();
    (place, vault, old)
}

#[track_caller]
fn assert_error(place: &Place, vault: &Vault, kind: VaultErrorKind, says: &str) {
    let error = vault.get(Kind::Secret, "a").unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(says), "{error}");
    assert!(error.path.starts_with(place.dir()), "{error}");

    let status = vault.status().unwrap();
    assert!(
        status
            .problems
            .iter()
            .any(|problem| problem.error.kind == kind),
        "{:?}",
        status.problems
    );
    let listed = vault.list(Kind::Secret).unwrap();
    let entry = listed.iter().find(|entry| entry.name == "a").unwrap();
    assert_eq!(entry.problem.as_ref().unwrap().kind, kind);
}

/// Storing a value again is a remedy for whatever happened to the record.
#[track_caller]
fn assert_mended_by_a_put(vault: &Vault) {
    assert!(vault.put(Kind::Secret, "a", b"three").unwrap() > 1);
    assert_eq!(value(vault, Kind::Secret, "a").unwrap(), b"three");
    assert!(vault.status().unwrap().problems.is_empty());
}

#[test]
fn a_record_put_back_from_before_is_rolled_back() {
    let (place, vault, old) = with_old_copy();
    fs::write(place.record_file(), old).unwrap();
    assert_error(
        &place,
        &vault,
        VaultErrorKind::RolledBack,
        "the secret \"a\" is an older copy (generation 1, and 2 was stored)",
    );
    assert_mended_by_a_put(&vault);
}

#[test]
fn a_record_from_before_a_rekey_is_rolled_back() {
    let (place, vault, old) = with_old_copy();
    assert_eq!(new_data_key(&vault).records, 1);
    fs::write(place.record_file(), old).unwrap();
    assert_error(
        &place,
        &vault,
        VaultErrorKind::RolledBack,
        "from before a rekey",
    );
    assert_mended_by_a_put(&vault);
}

#[test]
fn a_removed_record_put_back_stays_removed() {
    let (place, vault, old) = with_old_copy();
    let file = place.record_file();
    vault.remove(Kind::Secret, "a").unwrap();
    write_private(&file, &old);
    assert_eq!(value(&vault, Kind::Secret, "a"), None);
    assert!(vault.list(Kind::Secret).unwrap().is_empty());
    assert!(!vault.remove(Kind::Secret, "a").unwrap());
    assert!(!file.exists());
}

#[test]
fn a_ledger_put_back_from_before_is_rolled_back() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Secret, "a", b"one").unwrap();
    let old = fs::read(place.ledger_file()).unwrap();
    vault.put(Kind::Secret, "a", b"two").unwrap();
    vault.put(Kind::Secret, "a", b"three").unwrap();
    fs::write(place.ledger_file(), old).unwrap();
    assert_error(
        &place,
        &vault,
        VaultErrorKind::RolledBack,
        "the ledger is an older copy",
    );
    assert_mended_by_a_put(&vault);
}

#[test]
fn a_record_cut_short_is_truncated() {
    let (place, vault, old) = with_old_copy();
    for length in [0, 3, old.len() / 2, old.len() - 1] {
        fs::write(place.record_file(), &old[..length]).unwrap();
        assert_error(
            &place,
            &vault,
            VaultErrorKind::Truncated,
            "the secret \"a\" is cut short",
        );
    }
    assert_mended_by_a_put(&vault);
}

#[test]
fn a_record_that_is_gone_is_missing() {
    let (place, vault, _) = with_old_copy();
    fs::remove_file(place.record_file()).unwrap();
    assert_error(
        &place,
        &vault,
        VaultErrorKind::Missing,
        "was stored (generation 2), and its file is gone",
    );
    assert_mended_by_a_put(&vault);
    fs::remove_file(place.record_file()).unwrap();
    assert!(vault.remove(Kind::Secret, "a").unwrap());
    assert_eq!(value(&vault, Kind::Secret, "a"), None);
}

#[test]
fn a_record_in_the_place_of_another_is_swapped() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Secret, "a", b"one").unwrap();
    let file = place.record_file();
    vault.put(Kind::Grant, "b", b"other").unwrap();
    let other = place
        .record_files()
        .into_iter()
        .find(|path| *path != file)
        .unwrap();
    fs::copy(&other, &file).unwrap();
    assert_error(
        &place,
        &vault,
        VaultErrorKind::Swapped,
        "the secret \"a\" has the file of the grant \"b\"",
    );

    let elsewhere = Place::new();
    elsewhere.open().put(Kind::Secret, "a", b"one").unwrap();
    fs::copy(elsewhere.record_file(), &file).unwrap();
    assert_error(
        &place,
        &vault,
        VaultErrorKind::Swapped,
        "another vault's file",
    );
    assert_mended_by_a_put(&vault);
}

#[test]
fn a_ledger_that_is_gone_or_broken_is_said_and_made_anew_by_rekey() {
    for break_it in [
        |path: &std::path::Path| fs::remove_file(path).unwrap(),
        |path: &std::path::Path| fs::write(path, b"").unwrap(),
        |path: &std::path::Path| fs::write(path, b"x".repeat(200)).unwrap(),
    ] {
        let (place, vault, _) = with_old_copy();
        break_it(&place.ledger_file());
        let kind = vault.get(Kind::Secret, "a").unwrap_err().kind;
        assert_error(&place, &vault, kind, "`postrider vault rekey`");
        assert_eq!(vault.put(Kind::Secret, "a", b"x").unwrap_err().kind, kind);

        let done = new_data_key(&vault);
        assert_eq!((done.finished, done.problems.len()), (true, 1));
        assert_eq!(value(&vault, Kind::Secret, "a").unwrap(), b"two");
        assert_mended_by_a_put(&vault);
    }
}

#[test]
fn a_file_larger_than_any_is_broken_and_can_be_mended() {
    let grow = |path: &std::path::Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(1 << 29).unwrap();
    };
    let (place, vault, _) = with_old_copy();
    grow(&place.record_file());
    assert_error(&place, &vault, VaultErrorKind::TooLarge, "is larger than");
    assert_mended_by_a_put(&vault);

    grow(&place.ledger_file());
    let error = vault.get(Kind::Secret, "a").unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::TooLarge, "{error}");
    let done = new_data_key(&vault);
    assert_eq!((done.finished, done.problems.len()), (true, 1));
    assert_eq!(value(&vault, Kind::Secret, "a").unwrap(), b"three");
    assert!(vault.status().unwrap().problems.is_empty());
}

#[test]
fn keys_that_are_gone_are_not_made_anew() {
    let (place, vault, _) = with_old_copy();
    fs::remove_file(place.dir().join("vault.json")).unwrap();
    for error in [
        place.try_open().unwrap_err(),
        vault.put(Kind::Secret, "a", b"").unwrap_err(),
    ] {
        assert_eq!(error.kind, VaultErrorKind::Missing, "{error}");
    }
    assert_eq!(value(&vault, Kind::Secret, "a").unwrap(), b"two");
}

#[test]
fn records_that_are_all_gone_are_not_an_empty_vault() {
    let place = Place::new();
    place.open().put(Kind::Secret, "a", b"one").unwrap();
    fs::remove_dir_all(place.dir().join("records")).unwrap();

    let error = Vault::open(&place.options).unwrap_err();

    assert_eq!(error.kind, VaultErrorKind::Missing, "{error}");
    assert_eq!(error.path, place.dir().join("records"));
}

#[test]
fn a_rekey_keeps_the_old_key_while_a_record_cannot_be_read() {
    let (place, vault, old) = with_old_copy();
    let whole = fs::read(place.record_file()).unwrap();
    vault.put(Kind::Secret, "b", b"fine").unwrap();
    let file = place
        .record_files()
        .into_iter()
        .find(|path| fs::read(path).unwrap() == whole)
        .unwrap();
    fs::write(&file, old).unwrap();

    let done = new_data_key(&vault);
    assert_eq!(
        (done.finished, done.records, done.problems.len()),
        (false, 1, 1)
    );
    assert_eq!(vault.status().unwrap().data_keys.len(), 2);

    fs::write(&file, whole).unwrap();
    assert_eq!(value(&vault, Kind::Secret, "a").unwrap(), b"two");
    assert!(new_data_key(&vault).finished);
    assert_eq!(vault.status().unwrap().data_keys.len(), 1);
    assert_eq!(value(&place.open(), Kind::Secret, "a").unwrap(), b"two");
}

#[test]
fn any_changed_bit_in_any_file_is_an_error() {
    let (place, vault, _) = with_old_copy();
    let files = [
        place.record_file(),
        place.ledger_file(),
        place.dir().join("vault.json"),
    ];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let which = (0..files.len(), any::<prop::sample::Index>(), 0..8_u32);
    runner
        .run(&which, |(file, at, bit)| {
            let whole = fs::read(&files[file]).unwrap();
            let mut changed = whole.clone();
            let at = at.index(whole.len());
            changed[at] ^= 1 << bit;
            fs::write(&files[file], &changed).unwrap();

            let opened = place
                .try_open()
                .and_then(|vault| vault.get(Kind::Secret, "a"));
            let status = vault.status();
            fs::write(&files[file], &whole).unwrap();
            prop_assert!(
                opened.is_err(),
                "{}, octet {at}, bit {bit}",
                files[file].display()
            );
            prop_assert!(status.is_err() || !status.unwrap().problems.is_empty());
            Ok(())
        })
        .unwrap();
    assert_eq!(value(&vault, Kind::Secret, "a").unwrap(), b"two");
}

#[test]
fn files_of_any_content_are_an_error_and_not_a_panic() {
    let (place, _, _) = with_old_copy();
    let files = [
        place.record_file(),
        place.ledger_file(),
        place.dir().join("vault.json"),
    ];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&(0..files.len(), any::<Vec<u8>>()), |(file, content)| {
            let whole = fs::read(&files[file]).unwrap();
            fs::write(&files[file], &content).unwrap();
            let opened = place
                .try_open()
                .and_then(|vault| vault.get(Kind::Secret, "a"));
            fs::write(&files[file], &whole).unwrap();
            prop_assert!(opened.is_err());
            Ok(())
        })
        .unwrap();
}
