//! Several processes, of which some die.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use postrider_spool::{
    Begin, Outcome, Select, SpoolErrorKind, SqliteSpool, State, StateKind, Store,
};

use crate::support::{
    ask, at, delivered, directory, kinds, message, open, settings, settle, states,
};

#[tokio::test]
async fn what_a_dead_process_was_sending_is_unknown_and_its_own_lease_may_still_say() {
    let dir = directory();
    let spool = open(&dir);
    let id = spool
        .accept(message(&["x@example.org", "y@example.org"]), at(0))
        .await
        .unwrap()
        .id;
    let one = spool.join("one", at(0)).await.unwrap();
    let claims = spool.begin(ask(one.id(), at(1))).await.unwrap().claims;
    assert!(spool.recover(at(2)).await.unwrap().is_empty());
    drop(one);

    let other = open(&dir);
    let recovered = other.recover(at(3)).await.unwrap();

    assert_eq!(recovered.len(), 1);
    assert_eq!((recovered[0].holder.as_str(), recovered[0].id), ("one", id));
    assert_eq!(recovered[0].transitions.len(), 2);
    let why = "the process that was sending it ended before the server answered".to_owned();
    assert_eq!(states(&spool, id).await, vec![State::Unknown { why }; 2]);
    assert!(other.recover(at(4)).await.unwrap().is_empty());
    // A person decides about one of them before the verdict comes after all.
    let settled = settle(&spool, &claims[0], &delivered(), at(5)).await;
    assert!(settled.finished);

    // Decided by a person, it is too late.
    let id = spool
        .accept(message(&["x@example.org"]), at(6))
        .await
        .unwrap()
        .id;
    let two = spool.join("two", at(6)).await.unwrap();
    let claims = spool.begin(ask(two.id(), at(6))).await.unwrap().claims;
    spool.leave(two.id()).await.unwrap();
    let error = spool.begin(ask(two.id(), at(7))).await.unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Fenced);
    assert_eq!(spool.recover(at(7)).await.unwrap().len(), 1);
    assert_eq!(spool.retry(Select::Ids(vec![id]), at(8)).await.unwrap(), 1);
    let settled = settle(&spool, &claims[0], &delivered(), at(9)).await;
    assert_eq!(settled.fenced, ["x@example.org"]);
    assert_eq!(kinds(&spool, id).await, [StateKind::Queued]);
}

#[tokio::test]
async fn a_silent_process_is_dead_at_the_second_look_and_a_jumping_clock_kills_nobody() {
    let dir = directory();
    let spool = open(&dir);
    let other = open(&dir);
    spool
        .accept(message(&["x@example.org"]), at(0))
        .await
        .unwrap();
    let one = spool.join("one", at(0)).await.unwrap();
    spool.begin(ask(one.id(), at(0))).await.unwrap();
    assert!(other.recover(at(0)).await.unwrap().is_empty());
    for jump in [100_000, -100_000, 200_000, 0] {
        assert!(other.recover(at(jump)).await.unwrap().is_empty());
        spool.heartbeat(one.id(), at(jump)).await.unwrap();
        assert!(other.recover(at(jump + 1)).await.unwrap().is_empty());
    }
    for second in [30, 59, 61] {
        assert!(
            other.recover(at(second)).await.unwrap().is_empty(),
            "{second}"
        );
    }
    assert_eq!(other.recover(at(75)).await.unwrap().len(), 1);
    let error = spool.heartbeat(one.id(), at(76)).await.unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Fenced);
}

#[tokio::test]
async fn there_are_no_more_sessions_than_slots_and_they_end_with_their_holder() {
    let dir = directory();
    let spool = open(&dir);
    let other = open(&dir);
    let one = spool.join("one", at(0)).await.unwrap();
    let two = other.join("two", at(0)).await.unwrap();
    let first = spool.slot("a", one.id(), 3, at(0)).await.unwrap();
    let second = other.slot("a", two.id(), 3, at(0)).await.unwrap();
    let third = other.slot("a", two.id(), 3, at(0)).await.unwrap();
    assert!(first.is_some() && second.is_some() && third.is_some());
    assert!(spool.slot("a", one.id(), 3, at(0)).await.unwrap().is_none());
    // Others have their own.
    let other_account = spool.slot("b", one.id(), 1, at(0)).await.unwrap();
    assert!(other_account.is_some());
    let mut changes = other.changes();
    drop(second);
    changes.changed().await;
    let again = spool.slot("a", one.id(), 3, at(1)).await.unwrap();
    assert!(again.is_some());
    assert!(spool.slot("a", one.id(), 3, at(1)).await.unwrap().is_none());
    drop((one, first, again, other_account));
    other.recover(at(2)).await.unwrap();
    assert_eq!(other.account_state("a", at(2)).await.unwrap().sessions, 1);
    assert_eq!(other.account_state("b", at(2)).await.unwrap().sessions, 0);
}

#[tokio::test]
async fn a_process_that_ended_keeps_nobody_waiting_for_its_slot() {
    let dir = directory();
    for _ in 0..3 {
        let spool = open(&dir);
        let holder = spool.join("short", at(0)).await.unwrap();
        let slot = spool.slot("a", holder.id(), 1, at(0)).await.unwrap();
        assert!(slot.is_some(), "nobody recovers what the one before left");
        // As with a process that ends, nobody gives it back.
        std::mem::forget(slot);
    }
}

const TEST: &str = "holders::two_processes_never_have_one_message";

/// Takes what there is, and tells what it got, one line each.
async fn take(dir: &std::path::Path) {
    let spool = SqliteSpool::open(dir, settings()).unwrap();
    let me = spool.join("taker", at(0)).await.unwrap();
    loop {
        let few = Begin {
            at_most: 3,
            ..ask(me.id(), at(1))
        };
        let began = spool.begin(few).await.unwrap();
        if began.claims.is_empty() {
            return;
        }
        for claim in began.claims {
            println!("took {}", claim.id);
            // Some go back, and are another's then.
            let outcome = if claim.attempts == 1 && claim.id.number() % 3 == 0 {
                println!("back {}", claim.id);
                Outcome::Deferred {
                    until: at(1),
                    why: String::new(),
                }
            } else {
                delivered()
            };
            assert!(
                settle(&spool, &claim, &outcome, at(1))
                    .await
                    .fenced
                    .is_empty()
            );
        }
    }
}

#[test]
fn two_processes_never_have_one_message() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    if let Some(dir) = std::env::var_os("SPOOL_DIR") {
        return runtime.block_on(take(std::path::Path::new(&dir)));
    }
    let dir = directory();
    let spool = open(&dir);
    runtime.block_on(async {
        for _ in 0..150 {
            spool
                .accept(message(&["x@example.org"]), at(0))
                .await
                .unwrap();
        }
    });
    let takers: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args([TEST, "--exact", "--nocapture"])
                .env("SPOOL_DIR", dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut kept = BTreeSet::new();
    for taker in takers {
        let output = taker.wait_with_output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).unwrap();
        let mut mine = BTreeSet::new();
        for line in said.lines() {
            if let Some(id) = line.split("took ").nth(1) {
                assert!(mine.insert(id.to_owned()), "{id} twice at once");
            } else if let Some(id) = line.split("back ").nth(1) {
                mine.remove(id);
            }
        }
        for id in mine {
            assert!(kept.insert(id.clone()), "{id} went to two");
        }
    }
    assert_eq!(kept.len(), 150);
}

#[tokio::test]
async fn who_leaves_is_among_the_processes_no_more_and_none_of_it_costs_a_flush() {
    let dir = directory();
    drop(open(&dir));
    let spool = open(&dir);
    let one = spool.join("one", at(0)).await.unwrap();
    let slot = spool.slot("a", one.id(), 1, at(0)).await.unwrap().unwrap();
    let other = open(&dir);
    let two = other.join("two", at(1)).await.unwrap();
    assert!(other.slot("a", two.id(), 1, at(1)).await.unwrap().is_none());

    spool.leave(one.id()).await.unwrap();

    assert!(other.slot("a", two.id(), 1, at(2)).await.unwrap().is_some());
    let error = spool.heartbeat(one.id(), at(2)).await.unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Fenced);
    drop(slot);
    let rows = rusqlite::Connection::open(dir.path().join("spool.db")).unwrap();
    let names: String = rows
        .query_row("SELECT group_concat(name) FROM holder", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(names, "two");
    assert_eq!(spool.counters().commits, 0);
    // What is taken is flushed again.
    spool
        .accept(message(&["x@example.org"]), at(3))
        .await
        .unwrap();
    assert_eq!(spool.counters().commits, 1);
}

#[tokio::test]
async fn one_process_after_another_leaves_a_log_that_stays_short() {
    let dir = directory();
    let log = dir.path().join("spool.db-wal");
    let mut longest = 0;
    for n in 0..60 {
        let spool = open(&dir);
        let one = spool.join("one", at(n)).await.unwrap();
        let slot = spool.slot("a", one.id(), 1, at(n)).await.unwrap();
        assert!(slot.is_some());
        spool.leave(one.id()).await.unwrap();
        drop((slot, one, spool));
        longest = longest.max(log.metadata().map_or(0, |found| found.len()));
    }
    assert!((1..512 * 1024).contains(&longest), "{longest}");
    assert_eq!(open(&dir).stats().await.unwrap().messages, 0);
}
