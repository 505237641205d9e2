//! The same key is the same message, for a while.

use postrider_spool::{
    Filter, NewMessage, Select, SpoolErrorKind, SpoolSettings, SqliteSpool, Store,
};

use crate::support::{at, directory, message, seconds, settings};

fn keyed(account: &str, key: &str, message_id: &str) -> NewMessage {
    NewMessage {
        account: account.to_owned(),
        idempotency_key: Some(key.to_owned()),
        message_id: message_id.to_owned(),
        ..message(&["x@example.org"])
    }
}

#[tokio::test]
async fn a_key_returns_the_first_receipt_within_its_window_and_not_beyond() {
    let dir = directory();
    let hour = SpoolSettings {
        idempotency_window: seconds(3600),
        ..settings()
    };
    let spool = SqliteSpool::open(dir.path(), hour.clone()).unwrap();
    let first = spool.accept(keyed("a", "k", "<1@a>"), at(0)).await.unwrap();
    // Removed, restarted, or the clock set back: it is known.
    let select = Select::Ids(vec![first.id]);
    assert_eq!(spool.remove(select).await.unwrap(), 1);
    drop(spool);
    let spool = SqliteSpool::open(dir.path(), hour).unwrap();
    for second in [1, 3599, -100_000] {
        let again = spool
            .accept(keyed("a", "k", "<2@a>"), at(second))
            .await
            .unwrap();
        assert!(again.duplicate);
        assert_eq!((again.id, again.accepted_at), (first.id, at(0)));
        assert_eq!(again.message_id, "<1@a>");
    }
    // Another account's, another key: another message.
    assert!(
        !spool
            .accept(keyed("b", "k", "<3@a>"), at(1))
            .await
            .unwrap()
            .duplicate
    );
    assert!(
        !spool
            .accept(keyed("a", "l", "<4@a>"), at(1))
            .await
            .unwrap()
            .duplicate
    );
    let anew = spool
        .accept(keyed("a", "k", "<5@a>"), at(3600))
        .await
        .unwrap();
    assert!(!anew.duplicate && anew.id > first.id);
    let again = spool
        .accept(keyed("a", "k", "<6@a>"), at(7199))
        .await
        .unwrap();
    assert_eq!((again.id, again.message_id.as_str()), (anew.id, "<5@a>"));
    let found = Filter {
        key: Some("k".to_owned()),
        account: Some("a".to_owned()),
        ..Filter::default()
    };
    let listed = spool.list(found).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, anew.id);
    // And they are tidied away.
    assert_eq!(spool.tidy(at(3601)).await.unwrap().keys, 2);
    assert_eq!(spool.tidy(at(7200)).await.unwrap().keys, 1);
    assert_eq!(spool.stats().await.unwrap().messages, 3);
}

#[tokio::test]
async fn of_many_at_once_with_one_key_one_is_queued() {
    let dir = directory();
    let spool = SqliteSpool::open(dir.path(), settings()).unwrap();
    let other = SqliteSpool::open(dir.path(), settings()).unwrap();
    let all = (0..40).map(|n| {
        let spool = if n % 2 == 0 { &spool } else { &other };
        spool.accept(keyed("a", "k", &format!("<{n}@a>")), at(n))
    });
    let accepted = futures_util::future::try_join_all(all).await.unwrap();
    let first: Vec<_> = accepted.iter().filter(|one| !one.duplicate).collect();
    assert_eq!(first.len(), 1);
    assert!(
        accepted
            .iter()
            .all(|one| one.message_id == first[0].message_id)
    );
    assert_eq!(spool.stats().await.unwrap().messages, 1);
}

#[tokio::test]
async fn one_bad_request_fails_alone() {
    let dir = directory();
    let spool = SqliteSpool::open(dir.path(), settings()).unwrap();
    let all = (0..20).map(|n| {
        let new = if n == 7 {
            message(&[])
        } else {
            message(&["x@example.org"])
        };
        spool.accept(new, at(n))
    });
    let stranger = spool.heartbeat(postrider_spool::HolderId::new(99), at(0));
    // Another process writes until all of them wait.
    let held = rusqlite::Connection::open(dir.path().join("spool.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let release = async { held.execute_batch("COMMIT").unwrap() };
    let all = futures_util::future::join_all(all);
    let (accepted, stranger, ()) = tokio::join!(all, stranger, release);
    assert_eq!(accepted.iter().filter(|one| one.is_ok()).count(), 19);
    assert_eq!(stranger.unwrap_err().kind, SpoolErrorKind::Fenced);
    assert_eq!(spool.stats().await.unwrap().messages, 19);
    // With those that came before the lock was met, and with the others.
    assert!(spool.counters().commits <= 2, "{:?}", spool.counters());
}
