//! New data keys, seen from processes that hold the old ones.

use std::fs;

use postrider_vault::{Kind, NewKey, Progress, Rekey};

use crate::support::{Place, new_data_key, now, value};

#[test]
fn who_holds_the_old_data_key_notices_the_new_one() {
    let place = Place::new();
    let (vault, reader, writer) = (place.open(), place.open(), place.open());
    for name in ["a", "b"] {
        vault.put(Kind::Grant, name, name.as_bytes()).unwrap();
    }
    let before = vault.status().unwrap().data_keys;

    let done = new_data_key(&vault);
    assert_eq!((done.records, done.finished), (2, true));

    assert_eq!(value(&reader, Kind::Grant, "a").unwrap(), b"a");
    writer.put(Kind::Grant, "b", b"later").unwrap();
    assert_eq!(value(&place.open(), Kind::Grant, "b").unwrap(), b"later");
    let status = place.open().status().unwrap();
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    assert_eq!(status.data_keys.len(), 1);
    assert_ne!(status.data_keys[0].id, before[0].id);
}

#[test]
fn a_list_made_with_old_keys_has_no_false_alarm() {
    let place = Place::new();
    let (vault, reader) = (place.open(), place.open());
    for name in ["a", "b", "c"] {
        vault.put(Kind::Grant, name, b"").unwrap();
    }
    new_data_key(&vault);
    let listed = reader.list(Kind::Grant).unwrap();
    assert_eq!(listed.len(), 3);
    assert!(
        listed.iter().all(|entry| entry.problem.is_none()),
        "{listed:?}"
    );
}

#[test]
fn generations_outlive_a_rekey() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();
    vault.put(Kind::Grant, "a", b"2").unwrap();
    vault.put(Kind::Grant, "b", b"1").unwrap();
    vault.remove(Kind::Grant, "b").unwrap();
    new_data_key(&vault);
    assert_eq!(vault.get(Kind::Grant, "a").unwrap().unwrap().generation, 2);
    assert_eq!(vault.put(Kind::Grant, "a", b"3").unwrap(), 3);
    assert_eq!(vault.put(Kind::Grant, "b", b"2").unwrap(), 3);
}

#[test]
fn nothing_asked_nothing_changed() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();
    let record = fs::read(place.record_file()).unwrap();
    let rekey = Rekey {
        key: None,
        new_data_key: false,
        now: now(),
    };
    let done = vault.rekey(&rekey, &mut |_| {}).unwrap();
    assert_eq!((done.records, done.finished), (0, true));
    assert_eq!(fs::read(place.record_file()).unwrap(), record);
}

#[test]
fn another_key_alone_leaves_every_record_and_ledger_as_it_is() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();
    fs::write(place.record_file(), b"damaged").unwrap();
    let ledger = fs::read(place.ledger_file()).unwrap();
    let rekey = Rekey {
        key: Some(NewKey::Generated),
        new_data_key: false,
        now: now(),
    };

    let done = vault.rekey(&rekey, &mut |_| {}).unwrap();

    assert_eq!(fs::read(place.ledger_file()).unwrap(), ledger);
    assert!(done.finished && done.problems.is_empty(), "{done:?}");
    assert_eq!(vault.status().unwrap().data_keys.len(), 1);
}

#[test]
fn who_waits_for_a_rekey_sees_it_come_to_its_end() {
    let place = Place::new();
    let vault = place.open();
    for number in 0..20 {
        vault.put(Kind::Grant, &number.to_string(), b"").unwrap();
    }
    let parts = fs::read_dir(place.dir().join("records")).unwrap().count();
    let rekey = Rekey {
        key: None,
        new_data_key: true,
        now: now(),
    };
    let mut heard = Vec::new();

    vault
        .rekey(&rekey, &mut |progress| heard.push(progress))
        .unwrap();

    let expected: Vec<_> = (1..=parts).map(|done| Progress { done, parts }).collect();
    assert_eq!(heard, expected);
}
