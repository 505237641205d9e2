//! A process killed at any step leaves the record as it was or as it was to be, and the rest
//! as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use postrider_vault::{Kind, NewKey, Options, Rekey, Vault};

use crate::support::{self, Place, command, now, options, value};

const TEST: &str = "crash::killed_at_any_step_a_vault_holds_the_old_or_the_new";
const OTHERS: [&str; 3] = ["b", "c", "d"];

/// What the other process does, one per story.
fn perform(work: &str, options: &Options) {
    let vault = Vault::open(options).unwrap();
    let rekey = |key, new_data_key| {
        let rekey = Rekey {
            key,
            new_data_key,
            now: now(),
        };
        assert!(vault.rekey(&rekey, &mut |_| {}).unwrap().finished);
    };
    match work {
        "create" => {}
        "first put" | "put" => {
            vault.put(Kind::Grant, "a", b"new").unwrap();
        }
        "remove" => assert!(vault.remove(Kind::Grant, "a").unwrap()),
        "rekey" => rekey(None, true),
        "new key" => rekey(Some(NewKey::Generated), true),
        other => panic!("{other}?"),
    }
}

/// The vault as it is before.
fn prepare(work: &str, options: &Options) {
    if work == "create" {
        return;
    }
    let vault = Vault::open(options).unwrap();
    for other in OTHERS {
        vault.put(Kind::Grant, other, other.as_bytes()).unwrap();
    }
    if work != "first put" {
        vault.put(Kind::Grant, "a", b"old").unwrap();
    }
}

fn check(work: &str, options: &Options, step: &str) {
    let vault = Vault::open(options).unwrap_or_else(|error| panic!("{work}, {step}: {error}"));
    let status = vault.status().unwrap();
    assert!(
        status.problems.is_empty(),
        "{work}, {step}: {:?}",
        status.problems
    );
    if work != "create" {
        for other in OTHERS {
            assert_eq!(value(&vault, Kind::Grant, other).unwrap(), other.as_bytes());
        }
    }
    let now = value(&vault, Kind::Grant, "a");
    let allowed: &[Option<&[u8]>] = match work {
        "create" => &[None],
        "first put" => &[None, Some(b"new")],
        "put" => &[Some(b"old"), Some(b"new")],
        "remove" => &[Some(b"old"), None],
        _ => &[Some(b"old")],
    };
    assert!(allowed.contains(&now.as_deref()), "{work}, {step}: {now:?}");

    // And it goes on from there.
    vault.put(Kind::Grant, "a", b"later").unwrap();
    let done = support::new_data_key(&vault);
    assert!(done.finished && done.problems.is_empty(), "{work}, {step}");
    let vault = Vault::open(options).unwrap();
    assert_eq!(value(&vault, Kind::Grant, "a").unwrap(), b"later");
    assert!(vault.remove(Kind::Grant, "a").unwrap());
    let status = vault.status().unwrap();
    assert_eq!(
        (status.data_keys.len(), status.problems.len()),
        (1, 0),
        "{work}, {step}"
    );
    let left = support::files(options.dir.parent().unwrap());
    let aside: Vec<_> = left
        .iter()
        .filter(|path| path.extension().is_some_and(|new| new == "new"))
        .collect();
    assert!(
        aside
            .iter()
            .all(|path| !path.starts_with(options.dir.join("records"))),
        "{work}, {step}: {aside:?}"
    );
}

/// The crash points that `work` passes on a copy of `before`, each as `name:N`.
fn steps(work: &str, before: &Place) -> Vec<String> {
    let place = before.copy();
    let log = place.path("log");
    let status = command(TEST, work, place.dir())
        .env("POSTRIDER_CRASH_LOG", &log)
        .status()
        .unwrap();
    assert!(status.success(), "{work}: {status}");
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let log = fs::read_to_string(log).unwrap();
    log.lines()
        .map(|name| {
            let time = times.entry(name.to_owned()).or_default();
            *time += 1;
            format!("{name}:{time}")
        })
        .collect()
}

#[test]
fn killed_at_any_step_a_vault_holds_the_old_or_the_new() {
    if let Some((work, options)) = support::work() {
        return perform(&work, &options);
    }
    let mut killed = 0;
    for (work, least) in [
        ("create", 9),
        ("first put", 13),
        ("put", 9),
        ("remove", 6),
        ("rekey", 20),
        ("new key", 25),
    ] {
        let before = Place::in_memory();
        prepare(work, &before.options);
        let steps = steps(work, &before);
        assert!(steps.len() >= least, "{work}: {steps:?}");
        for step in steps {
            let place = before.copy();
            kill_at(&step, work, place.dir());
            check(work, &options(place.dir()), &step);
            killed += 1;
        }
    }
    assert!(killed > 80, "{killed}");
}

fn kill_at(step: &str, work: &str, dir: &Path) {
    let status = command(TEST, work, dir)
        .env("POSTRIDER_CRASH_AT", step)
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(9), "{work}, {step}: {status}");
}

const AGAIN: &str = "crash::killed_again_and_again_it_is_no_older_copy";

#[test]
fn killed_again_and_again_it_is_no_older_copy() {
    if let Some((work, options)) = support::work() {
        return perform(&work, &options);
    }
    let place = Place::in_memory();
    prepare("put", &place.options);
    for _ in 0..3 {
        // Between the record and the ledger.
        let status = command(AGAIN, "put", place.dir())
            .env("POSTRIDER_CRASH_AT", "vault.put.record.durable")
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9));
        let record = place.open().get(Kind::Grant, "a").unwrap().unwrap();
        assert_eq!(&**record.value, b"new");
    }
    assert!(place.open().status().unwrap().problems.is_empty());
    assert_eq!(place.open().put(Kind::Grant, "a", b"later").unwrap(), 5);
}
