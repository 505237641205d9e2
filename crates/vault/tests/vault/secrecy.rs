//! No secret is in a file, a `Debug` or an error, in no form.

use std::fmt::Write;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider_vault::{
    Import, KeyOptions, Kind, NewKey, Opener, Passphrase, Rekey, Sealing, Selection, Vault,
};

use crate::support::{Place, files, now};

const VALUE: &str = "canary-value-7f3Kq9Zt";
const NAME: &str = "canary-name-2bX8vLmW";
const PASSPHRASE: &str = "canary-passphrase-Qp5Rs1Yd";

/// A text as it is, in hexadecimal, and inside any Base64.
fn forms(canary: &str) -> Vec<Vec<u8>> {
    let mut hex = String::new();
    for octet in canary.bytes() {
        write!(hex, "{octet:02x}").unwrap();
    }
    let mut forms = vec![canary.to_owned(), hex.to_uppercase(), hex];
    for before in 0..3 {
        let text = STANDARD.encode(format!("{}{canary}", "x".repeat(before)));
        // Without the characters that depend on what stands before and after.
        forms.push(text[4..text.len() - 4].to_owned());
    }
    forms.into_iter().map(String::into_bytes).collect()
}

#[track_caller]
fn assert_clean(octets: &[u8], what: &str) {
    for canary in [VALUE, NAME, PASSPHRASE] {
        for form in forms(canary) {
            let found = octets.windows(form.len()).any(|window| window == form);
            assert!(
                !found,
                "{what} shows {canary} as {}",
                String::from_utf8_lossy(&form)
            );
        }
    }
}

#[test]
fn the_forms_are_found() {
    for form in forms(VALUE) {
        let hit = [b"zz", form.as_slice(), b"zz"].concat();
        assert!(std::panic::catch_unwind(|| assert_clean(&hit, "")).is_err());
    }
}

#[test]
fn no_secret_shows_anywhere() {
    let mut place = Place::new();
    let answer = Passphrase::new(|_| Some(PASSPHRASE.into()));
    place.options.keys = KeyOptions {
        passphrase: Some(answer),
        ..KeyOptions::default()
    };
    let vault = place.open();
    let mut said = String::new();
    for kind in [Kind::Secret, Kind::Grant, Kind::Notice] {
        vault.put(kind, NAME, VALUE.as_bytes()).unwrap();
        write!(said, "{:?}", vault.get(kind, NAME).unwrap().unwrap()).unwrap();
    }
    vault.remove(Kind::Notice, NAME).unwrap();
    let rekey = Rekey {
        key: Some(NewKey::Passphrase(PASSPHRASE.into())),
        new_data_key: true,
        now: now(),
    };
    write!(
        said,
        "{rekey:?} {:?} {vault:?} {:?}",
        vault.rekey(&rekey, &mut |_| {}).unwrap(),
        place.options
    )
    .unwrap();
    let lock = vault.try_lock(Kind::Grant, NAME).unwrap();

    let sealing = Sealing::Passphrase(PASSPHRASE.into());
    let import = Import {
        opener: Opener::Passphrase(PASSPHRASE.into()),
        overwrite: false,
    };
    write!(
        said,
        "{sealing:?} {import:?} {:?} {:?}",
        vault.status().unwrap(),
        vault.key_source()
    )
    .unwrap();
    let recipients = Sealing::Recipients(vec![
        age::x25519::Identity::generate().to_public().to_string(),
    ]);
    let mut export = Vec::new();
    vault
        .export(&Selection::All, &recipients, false, &mut export)
        .unwrap();
    assert_clean(&export, "the export");

    // An identity given where a recipient belongs is not shown either.
    let identity = format!("AGE-SECRET-KEY-1{VALUE}");
    let error = vault.export(
        &Selection::All,
        &Sealing::Recipients(vec![identity]),
        false,
        &mut export,
    );
    write!(said, "{:?}", error.unwrap_err()).unwrap();
    let opener = Opener::Identities(VALUE.into());
    let error = vault.import(
        &Import {
            opener,
            overwrite: true,
        },
        export.as_slice(),
    );
    write!(said, "{:?}", error.unwrap_err()).unwrap();
    let wrong = Passphrase::new(|_| Some(VALUE.into()));
    place.options.keys.passphrase = Some(wrong);
    write!(said, "{:?}", Vault::open(&place.options).unwrap_err()).unwrap();
    assert_clean(said.as_bytes(), "a text");

    drop(lock);
    let files = files(place.root.path());
    assert!(files.len() > 6, "{files:?}");
    for file in files {
        assert_clean(&fs::read(&file).unwrap(), &file.display().to_string());
        assert_clean(file.as_os_str().as_encoded_bytes(), "a file's name");
    }
}
