//! Queues that earlier versions wrote.

use postrider_spool::{Dsn, Notify, Recipient, Return, StateKind, Store as _};

use crate::support::{ask, at, delivered, directory, kinds, message, octets, open, settle};

/// A queue of the first version: a message with notifications, one without, and a receipt.
const FIRST: &str = include_str!("versions/1.sql");

#[tokio::test]
async fn what_the_first_version_queued_is_sent_as_it_was_to_be() {
    let dir = directory();
    let path = dir.path().join("spool.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(FIRST).unwrap();
    drop(connection);

    let spool = open(&dir);
    let me = spool.join("one", at(10)).await.unwrap();
    let began = spool.begin(ask(me.id(), at(10))).await.unwrap();

    let [asked, silent] = &began.claims[..] else {
        panic!("{:?}", began.claims);
    };
    let to = |address: &str, notify| Recipient {
        notify,
        ..Recipient::from(address.to_owned())
    };
    let failure = Some(Notify {
        failure: true,
        delay: true,
        ..Notify::default()
    });
    let dsn = Dsn {
        ret: Some(Return::Headers),
        envid: Some("QQ 314".to_owned()),
    };
    assert_eq!(asked.dsn, dsn);
    // The second one has been delivered to.
    assert_eq!(asked.recipients, [to("x@example.org", failure)]);
    assert_eq!(
        octets(&asked.body).await.unwrap(),
        b"Subject: x\r\n\r\nbody\r\n"
    );
    assert_eq!(silent.dsn, Dsn::default());
    assert_eq!(silent.recipients, [to("z@example.org", None)]);
    let shown = spool.show(asked.id).await.unwrap().unwrap();
    assert!(shown.recipients.iter().all(|one| one.notify == failure));
    for claim in &began.claims {
        settle(&spool, claim, &delivered(), at(11)).await;
    }
    assert_eq!(kinds(&spool, asked.id).await, [StateKind::Delivered; 2]);
    // And more is taken.
    spool
        .accept(message(&["y@example.org"]), at(12))
        .await
        .unwrap();
    drop(spool);
    open(&dir);
}

#[tokio::test]
async fn one_answer_for_all_recipients_is_left_for_a_first_version_that_still_runs() {
    let dir = directory();
    let spool = open(&dir);
    let mut new = message(&["x@example.org", "y@example.org"]);
    new.recipients[0].notify = Some(Notify {
        success: true,
        ..Notify::default()
    });
    new.dsn.envid = Some("job 7".to_owned());
    spool.accept(new, at(0)).await.unwrap();
    spool
        .accept(message(&["x@example.org"]), at(0))
        .await
        .unwrap();
    let connection = rusqlite::Connection::open(dir.path().join("spool.db")).unwrap();
    let mut select = connection
        .prepare("SELECT dsn FROM message ORDER BY id")
        .unwrap();
    let found = select.query_map([], |row| row.get(0)).unwrap();
    let found: Vec<Option<String>> = found.map(Result::unwrap).collect();
    assert_eq!(found, [Some("SF-- job 7".to_owned()), None]);
}
