//! What is put is what is got.

use postrider_vault::{Kind, MAX_NAME_OCTETS, MAX_VALUE_OCTETS, Vault, VaultErrorKind};
use proptest::prelude::*;

use crate::support::{Place, files, value};

#[test]
fn what_is_put_is_got_by_this_and_the_next_process() {
    let place = Place::new();
    let vault = place.open();

    assert_eq!(
        vault
            .put(Kind::Secret, "alerts/client_secret", b"one")
            .unwrap(),
        1
    );
    assert_eq!(
        vault
            .put(Kind::Secret, "alerts/client_secret", b"two")
            .unwrap(),
        2
    );
    assert_eq!(
        vault
            .put(Kind::Grant, "alerts/client_secret", b"other")
            .unwrap(),
        1
    );

    for vault in [vault.clone(), place.open()] {
        let record = vault
            .get(Kind::Secret, "alerts/client_secret")
            .unwrap()
            .unwrap();
        assert_eq!((&**record.value, record.generation), (b"two".as_slice(), 2));
        assert_eq!(
            value(&vault, Kind::Grant, "alerts/client_secret").unwrap(),
            b"other"
        );
        assert_eq!(value(&vault, Kind::Secret, "absent"), None);
    }
}

#[test]
fn a_removed_record_is_gone_and_its_generation_goes_on() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "a", b"1").unwrap();

    assert!(vault.remove(Kind::Grant, "a").unwrap());
    assert!(!vault.remove(Kind::Grant, "a").unwrap());
    assert!(!vault.remove(Kind::Grant, "never").unwrap());
    assert_eq!(value(&vault, Kind::Grant, "a"), None);
    assert!(place.record_files().is_empty());

    assert_eq!(vault.put(Kind::Grant, "a", b"2").unwrap(), 3);
    assert_eq!(value(&place.open(), Kind::Grant, "a").unwrap(), b"2");
}

#[test]
fn a_mark_stands_until_its_record_is_put_or_removed() {
    let place = Place::new();
    let vault = place.open();
    let mark = || vault.mark(Kind::Device, "a").unwrap();
    assert!(!mark().stands());

    let other_process = place.open();
    other_process.put(Kind::Device, "a", b"1").unwrap();
    let first = mark();
    other_process.put(Kind::Device, "b", b"1").unwrap();
    other_process.put(Kind::Secret, "a", b"1").unwrap();
    assert!(first.stands() && first.clone().stands());

    // Of the same length, and within the same moment.
    other_process.put(Kind::Device, "a", b"2").unwrap();
    assert!(!first.stands());
    let second = mark();
    assert!(second.stands());
    assert!(other_process.remove(Kind::Device, "a").unwrap());
    assert!(!second.stands() && !mark().stands());
}

#[test]
fn a_list_is_in_order_and_of_one_kind() {
    let place = Place::new();
    let vault = place.open();
    for name in ["b", "ä", "a"] {
        vault.put(Kind::Secret, name, b"").unwrap();
    }
    vault.put(Kind::Secret, "b", b"").unwrap();
    vault.put(Kind::Notice, "c", b"").unwrap();

    let listed: Vec<_> = vault.list(Kind::Secret).unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|entry| (entry.name.as_str(), entry.generation))
        .collect();
    assert_eq!(listed, [("a", 1), ("b", 2), ("ä", 1)]);
    assert_eq!(vault.list(Kind::Notice).unwrap().len(), 1);
    assert!(vault.list(Kind::Grant).unwrap().is_empty());

    let status = vault.status().unwrap();
    assert_eq!(
        status.counts.into_iter().collect::<Vec<_>>(),
        [(Kind::Secret, 3), (Kind::Notice, 1)]
    );
    assert!(status.problems.is_empty());
    assert_eq!(status.data_keys.len(), 1);
    assert_eq!(status.data_keys[0].created, crate::support::now());
}

#[test]
fn names_and_values_are_bounded() {
    let place = Place::new();
    let vault = place.open();
    let kind = |result: Result<u64, postrider_vault::VaultError>| result.unwrap_err().kind;

    assert_eq!(kind(vault.put(Kind::Secret, "", b"")), VaultErrorKind::Name);
    assert_eq!(
        kind(vault.put(Kind::Secret, "a\nb", b"")),
        VaultErrorKind::Name
    );
    let long = "x".repeat(MAX_NAME_OCTETS);
    assert_eq!(
        kind(vault.put(Kind::Secret, &format!("{long}x"), b"")),
        VaultErrorKind::Name
    );
    let large = vec![0; MAX_VALUE_OCTETS + 1];
    assert_eq!(
        kind(vault.put(Kind::Secret, "large", &large)),
        VaultErrorKind::TooLarge
    );

    vault.put(Kind::Secret, &long, &large[1..]).unwrap();
    assert_eq!(value(&vault, Kind::Secret, &long).unwrap(), large[1..]);
}

#[test]
fn a_name_is_locked_for_one() {
    let place = Place::new();
    let (one, other) = (place.open(), place.open());

    let lock = one.try_lock(Kind::Grant, "a").unwrap().unwrap();
    assert!(other.try_lock(Kind::Grant, "a").unwrap().is_none());
    assert!(one.try_lock(Kind::Grant, "a").unwrap().is_none());
    assert!(other.try_lock(Kind::Grant, "b").unwrap().is_some());
    drop(lock);
    assert!(other.try_lock(Kind::Grant, "a").unwrap().is_some());
}

#[test]
fn looking_for_a_vault_makes_none() {
    let place = Place::new();
    assert!(Vault::open_existing(&place.options).unwrap().is_none());
    assert!(files(place.root.path()).is_empty());
    place.open();
    assert!(Vault::open_existing(&place.options).unwrap().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn a_vault_is_a_map(
        steps in prop::collection::vec((0..3_u8, "[a-cé/ \u{10ffff}]{1,3}", prop::option::of(any::<Vec<u8>>())), 1..12)
    ) {
        let place = Place::new();
        let vault = place.open();
        let mut model = std::collections::BTreeMap::new();
        for (kind, name, value) in steps {
            let kind = [Kind::Secret, Kind::Grant, Kind::Notice][usize::from(kind)];
            if let Some(value) = value {
                vault.put(kind, &name, &value).unwrap();
                model.insert((kind, name), value);
            } else {
                let was = model.remove(&(kind, name.clone())).is_some();
                prop_assert_eq!(vault.remove(kind, &name).unwrap(), was);
            }
        }

        let vault = place.open();
        for ((kind, name), held) in &model {
            prop_assert_eq!(&value(&vault, *kind, name).unwrap(), held);
        }
        for kind in [Kind::Secret, Kind::Grant, Kind::Notice] {
            let listed: Vec<_> = vault.list(kind).unwrap().into_iter().map(|entry| entry.name).collect();
            prop_assert_eq!(&vault.names(kind).unwrap(), &listed);
            let held: Vec<_> = model.keys().filter(|(of, _)| *of == kind).map(|(_, name)| name.clone()).collect();
            prop_assert_eq!(listed, held);
        }
    }
}
