//! What is exported here is imported there, by those it is sealed for.

use std::process::Command;

use age::x25519::Identity;
use postrider_vault::{
    Import, Imported, Kind, Opener, Sealing, Selection, Vault, VaultError, VaultErrorKind,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::{Place, skip, value};

fn filled() -> (Place, Vault) {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Secret, "a \"b\" ü", b"\0\xff").unwrap();
    vault.put(Kind::Grant, "g", &[7; 5000]).unwrap();
    vault.put(Kind::Notice, "n", b"").unwrap();
    (place, vault)
}

fn recipient(identity: &Identity) -> String {
    identity.to_public().to_string()
}

fn identities(identity: &Identity) -> Opener {
    use age::secrecy::ExposeSecret;
    let key = identity.to_string();
    Opener::Identities(format!("# made for a test\n\n{}\n", key.expose_secret()).into())
}

fn sealed(vault: &Vault, to: &[&Identity], armored: bool) -> Vec<u8> {
    let sealing = Sealing::Recipients(to.iter().map(|identity| recipient(identity)).collect());
    let mut export = Vec::new();
    let names = vault
        .export(&Selection::All, &sealing, armored, &mut export)
        .unwrap();
    assert_eq!(names.len(), 3);
    export
}

fn import(vault: &Vault, opener: Opener, export: &[u8]) -> Result<Imported, VaultError> {
    vault.import(
        &Import {
            opener,
            overwrite: false,
        },
        export,
    )
}

#[track_caller]
fn assert_refused(result: Result<Imported, VaultError>, says: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Transfer, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn each_recipient_can_open_an_export() {
    let (_place, vault) = filled();
    let (one, other) = (Identity::generate(), Identity::generate());
    for (opener, armored) in [(&one, true), (&other, false)] {
        let export = sealed(&vault, &[&one, &other], armored);
        assert_eq!(
            export.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----"),
            armored
        );

        let place = Place::new();
        let target = place.open();
        let imported = import(&target, identities(opener), &export).unwrap();
        assert_eq!(imported.added.len(), 3);
        assert_eq!(
            value(&target, Kind::Secret, "a \"b\" ü").unwrap(),
            b"\0\xff"
        );
        assert_eq!(value(&target, Kind::Grant, "g").unwrap(), [7; 5000]);
        assert_eq!(value(&target, Kind::Notice, "n").unwrap(), b"");
        assert_eq!(
            import(&target, identities(opener), &export)
                .unwrap()
                .same
                .len(),
            3
        );
    }
    let export = sealed(&vault, &[&one], true);
    assert_refused(
        import(&vault, identities(&other), &export),
        "not sealed for any of these",
    );
    assert_refused(
        import(&vault, Opener::Passphrase("x".into()), &export),
        "not with a passphrase",
    );
}

#[test]
fn a_passphrase_opens_what_it_sealed() {
    let (_place, vault) = filled();
    let selection = Selection::Only(vec![(Kind::Grant, "g".to_owned())]);
    let sealing = Sealing::Passphrase("correct horse".into());
    let mut export = Vec::new();
    vault
        .export(&selection, &sealing, true, &mut export)
        .unwrap();

    let place = Place::new();
    let target = place.open();
    let imported = import(&target, Opener::Passphrase("correct horse".into()), &export).unwrap();
    assert_eq!(imported.added, [(Kind::Grant, "g".to_owned())]);
    assert_eq!(value(&target, Kind::Grant, "g").unwrap(), [7; 5000]);
    assert_refused(
        import(&target, Opener::Passphrase("wrong".into()), &export),
        "passphrase is wrong",
    );
    assert_refused(
        import(&target, identities(&Identity::generate()), &export),
        "sealed with a passphrase",
    );
}

#[test]
fn what_exists_with_another_value_is_replaced_only_when_asked() {
    let (_place, vault) = filled();
    let identity = Identity::generate();
    let export = sealed(&vault, &[&identity], false);
    vault.put(Kind::Grant, "g", b"newer").unwrap();

    let imported = import(&vault, identities(&identity), &export).unwrap();
    assert_eq!((imported.kept.len(), imported.same.len()), (1, 2));
    assert_eq!(value(&vault, Kind::Grant, "g").unwrap(), b"newer");
    let overwrite = Import {
        opener: identities(&identity),
        overwrite: true,
    };
    let imported = vault.import(&overwrite, export.as_slice()).unwrap();
    assert_eq!(imported.replaced, [(Kind::Grant, "g".to_owned())]);
    assert_eq!(value(&vault, Kind::Grant, "g").unwrap(), [7; 5000]);
}

#[test]
fn an_import_waits_for_whoever_works_on_a_record() {
    let (source, target) = (Place::new(), Place::in_memory());
    let from = source.open();
    let names = ["first", "second"].map(|name| (Kind::Grant, name.to_owned()));
    for (kind, name) in &names {
        from.put(*kind, name, b"exported").unwrap();
    }
    let identity = Identity::generate();
    let sealing = Sealing::Recipients(vec![recipient(&identity)]);
    let mut export = Vec::new();
    from.export(
        &Selection::Only(names.to_vec()),
        &sealing,
        false,
        &mut export,
    )
    .unwrap();

    let (vault, importing) = (target.open(), target.open());
    let lock = vault.try_lock(Kind::Grant, "second").unwrap().unwrap();
    let imported = std::thread::scope(|scope| {
        let import = scope.spawn(|| import(&importing, identities(&identity), &export).unwrap());
        while value(&vault, Kind::Grant, "first").is_none() {
            std::thread::yield_now();
        }
        // Time enough to go on, for who does not wait.
        for _ in 0..1000 {
            assert_eq!(value(&vault, Kind::Grant, "second"), None);
        }
        vault.put(Kind::Grant, "second", b"refreshed").unwrap();
        drop(lock);
        import.join().unwrap()
    });

    assert_eq!(imported.added, names[..1]);
    assert_eq!(imported.kept, names[1..]);
    assert_eq!(value(&vault, Kind::Grant, "second").unwrap(), b"refreshed");
}

#[test]
fn a_broken_record_is_mended_by_an_import_and_ends_an_export() {
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Grant, "g", b"1").unwrap();
    let identity = Identity::generate();
    let sealing = Sealing::Recipients(vec![recipient(&identity)]);
    let mut export = Vec::new();
    vault
        .export(&Selection::All, &sealing, true, &mut export)
        .unwrap();
    std::fs::write(place.record_file(), b"").unwrap();

    let error = vault
        .export(&Selection::All, &sealing, true, &mut Vec::new())
        .unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Truncated);
    let imported = import(&vault, identities(&identity), &export).unwrap();
    assert_eq!(imported.replaced.len(), 1);
    assert_eq!(value(&vault, Kind::Grant, "g").unwrap(), b"1");

    let absent = Selection::Only(vec![(Kind::Grant, "absent".to_owned())]);
    let error = vault
        .export(&absent, &sealing, true, &mut Vec::new())
        .unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Missing);
}

#[test]
fn of_a_damaged_export_nothing_is_taken() {
    let (_place, vault) = filled();
    let identity = Identity::generate();
    let export = sealed(&vault, &[&identity], false);
    let place = Place::new();
    let target = place.open();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(
            &(any::<prop::sample::Index>(), prop::option::of(0..8_u32)),
            |(at, bit)| {
                let mut export = export.clone();
                let at = at.index(export.len());
                match bit {
                    Some(bit) => export[at] ^= 1 << bit,
                    None => export.truncate(at),
                }
                prop_assert_eq!(
                    import(&target, identities(&identity), &export)
                        .unwrap_err()
                        .kind,
                    VaultErrorKind::Transfer
                );
                Ok(())
            },
        )
        .unwrap();
    assert!(target.status().unwrap().counts.is_empty());
}

#[test]
fn an_import_of_anything_else_is_refused_within_bounds() {
    let place = Place::new();
    let vault = place.open();
    let opener = || Opener::Passphrase("x".into());
    assert_refused(import(&vault, opener(), b"{}"), "no age file");
    assert_refused(import(&vault, opener(), b""), "no age file");
    let endless = std::io::repeat(b'\n');
    assert!(
        vault
            .import(
                &Import {
                    opener: opener(),
                    overwrite: false
                },
                endless
            )
            .is_err()
    );
    let header = b"age-encryption.org/v1\n-> X25519 ";
    let endless = std::io::Read::chain(header.as_slice(), std::io::repeat(b'a'));
    assert!(
        vault
            .import(
                &Import {
                    opener: opener(),
                    overwrite: false
                },
                endless
            )
            .is_err()
    );

    let costly = format!(
        "age-encryption.org/v1\n-> scrypt {} 21\n{}\n--- {}\n0123456789abcdef",
        "A".repeat(22),
        "A".repeat(43),
        "A".repeat(43)
    );
    assert_refused(import(&vault, opener(), costly.as_bytes()), "2^21");
    let none = Opener::Identities("# none\n".into());
    let wrong = Opener::Identities("age1something\n".into());
    let export = sealed(&filled().1, &[&Identity::generate()], true);
    assert_refused(import(&vault, none, &export), "not sealed for any");
    assert_refused(import(&vault, wrong, &export), "line 1 of the identities");
}

#[test]
fn an_export_for_nobody_is_refused() {
    let (_place, vault) = filled();
    for sealing in [
        Sealing::Recipients(Vec::new()),
        Sealing::Recipients(vec!["age1nobody".to_owned()]),
        Sealing::Passphrase(String::new().into()),
    ] {
        let mut export = Vec::new();
        let error = vault
            .export(&Selection::All, &sealing, true, &mut export)
            .unwrap_err();
        assert_eq!(error.kind, VaultErrorKind::Transfer);
        assert!(export.is_empty());
    }
}

#[test]
fn age_opens_an_export_and_its_files_are_imported() {
    let (place, vault) = filled();
    let identity = Identity::generate();
    let Opener::Identities(text) = identities(&identity) else {
        unreachable!()
    };
    let keys = place.key_file("identity", age::secrecy::ExposeSecret::expose_secret(&text));
    let age = |arguments: &[&str], input: &[u8]| {
        let file = place.key_file("input", "");
        std::fs::write(&file, input).unwrap();
        let output = Command::new("age")
            .args(arguments)
            .arg(file)
            .output()
            .ok()?;
        assert!(output.status.success(), "{output:?}");
        Some(output.stdout)
    };
    let export = sealed(&vault, &[&identity], true);
    let Some(text) = age(&["-d", "-i", keys.to_str().unwrap()], &export) else {
        return skip("there is no age here");
    };
    let lines: Vec<&str> = str::from_utf8(&text).unwrap().lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].contains("postrider-vault-export"));
    let notice = r#"{"kind":"notice","name":"n","value":""}"#;
    assert!(lines.contains(&notice), "{lines:?}");

    let again = age(&["-r", &recipient(&identity)], &text).unwrap();
    let imported = import(&vault, identities(&identity), &again).unwrap();
    assert_eq!(imported.same.len(), 3);
}
