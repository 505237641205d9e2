//! Several processes and threads at once, and nobody is told of a fault that is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postrider_vault::{Kind, Options, Vault};

use crate::support::{self, Place, all_succeed, command, new_data_key, value};

const TEST: &str = "concurrency::many_processes_and_threads_see_whole_records_only";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ROUNDS: u32 = 30;

/// A value that shows when it is a mix of two.
fn text(process: &str, round: u32) -> Vec<u8> {
    format!("{process} {round} ").repeat(50).into_bytes()
}

fn is_whole(value: &[u8]) -> bool {
    let text = str::from_utf8(value).unwrap();
    let first: Vec<&str> = text.split(' ').take(2).collect();
    text == format!("{} {} ", first[0], first[1]).repeat(50)
}

fn write_and_read(process: &str, options: &Options) {
    let vault = Vault::open(options).unwrap();
    thread::scope(|scope| {
        for name in NAMES {
            let vault = vault.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    if round % 5 == 4 {
                        vault.remove(Kind::Grant, name).unwrap();
                    } else {
                        vault.put(Kind::Grant, name, &text(process, round)).unwrap();
                    }
                    let other = NAMES[usize::try_from(round).unwrap() % NAMES.len()];
                    for name in [name, other] {
                        let record = vault.get(Kind::Grant, name).unwrap();
                        assert!(record.is_none_or(|record| is_whole(&record.value)));
                    }
                }
            });
        }
        for _ in 0..ROUNDS {
            let listed = vault.list(Kind::Grant).unwrap();
            assert!(
                listed.iter().all(|entry| entry.problem.is_none()),
                "{listed:?}"
            );
        }
    });
}

#[test]
fn many_processes_and_threads_see_whole_records_only() {
    if let Some((process, options)) = support::work() {
        return write_and_read(&process, &options);
    }
    let place = Place::new();
    let vault = place.open();
    vault.put(Kind::Secret, "still", b"here").unwrap();
    let children =
        ["one", "two", "three"].map(|name| command(TEST, name, place.dir()).spawn().unwrap());

    // Meanwhile the keys change under them, more than once.
    let working = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while working.load(Ordering::Relaxed) {
                assert!(new_data_key(&vault).finished);
            }
        });
        scope.spawn(|| {
            let reader = place.open();
            while working.load(Ordering::Relaxed) {
                assert_eq!(value(&reader, Kind::Secret, "still").unwrap(), b"here");
            }
        });
        let succeeded = all_succeed(children.into());
        working.store(false, Ordering::Relaxed);
        assert!(succeeded, "a process failed");
    });

    let status = place.open().status().unwrap();
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    assert_eq!(status.data_keys.len(), 1);
}

const CREATION: &str = "concurrency::created_by_several_at_once_it_is_one_vault";

#[test]
fn created_by_several_at_once_it_is_one_vault() {
    if let Some((process, options)) = support::work() {
        let vault = Vault::open(&options).unwrap();
        vault
            .put(Kind::Secret, &process, process.as_bytes())
            .unwrap();
        return;
    }
    let place = Place::new();
    let names = ["1", "2", "3", "4", "5", "6"];
    let children = names.map(|name| command(CREATION, name, place.dir()).spawn().unwrap());
    assert!(all_succeed(children.into()), "a process failed");

    let vault = place.open();
    for name in names {
        assert_eq!(value(&vault, Kind::Secret, name).unwrap(), name.as_bytes());
    }
    assert!(vault.status().unwrap().problems.is_empty());
}

const LOCKING: &str = "concurrency::a_lock_ends_with_its_process";

#[test]
fn a_lock_ends_with_its_process() {
    if let Some((_, options)) = support::work() {
        let vault = Vault::open(&options).unwrap();
        let _lock = vault.try_lock(Kind::Grant, "a").unwrap().unwrap();
        postrider_vault::crash_point("test.locked");
        return;
    }
    let place = Place::new();
    let vault = place.open();
    let status = command(LOCKING, "", place.dir())
        .env("POSTRIDER_CRASH_AT", "test.locked")
        .status()
        .unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    assert!(vault.try_lock(Kind::Grant, "a").unwrap().is_some());
}
