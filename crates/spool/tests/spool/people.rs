//! What people ask of a queue, and do to it.

use postrider_spool::{
    Dsn, Facts, Filter, NewMessage, Notify, Outcome, Priority, QueueId, Recipient, Return, Select,
    Settlement, SpoolErrorKind, SpoolSettings, SqliteSpool, State, StateKind, Store,
};

use crate::support::{
    addresses, ask, at, deferred, delivered, directory, kinds, message, open, seconds, settings,
    settle, states,
};

fn all() -> Select {
    Select::Matching(Filter::default())
}

#[tokio::test]
async fn all_that_was_said_of_a_message_is_told_again() {
    let dir = directory();
    let spool = open(&dir);
    let dsn = Dsn {
        ret: Some(Return::Headers),
        envid: Some("QQ 314".to_owned()),
    };
    let recipients = [
        Recipient {
            notify: Some(Notify {
                failure: true,
                delay: true,
                ..Notify::default()
            }),
            orcpt: Some("rfc822;x+2By@example.net".to_owned()),
            ..Recipient::from("x@example.org".to_owned())
        },
        Recipient {
            notify: Some(Notify::default()),
            ..Recipient::from("y@example.org".to_owned())
        },
        Recipient::from("z@example.org".to_owned()),
    ];
    let new = NewMessage {
        reverse_path: None,
        facts: Facts {
            eight_bit: true,
            smtputf8: false,
        },
        dsn: dsn.clone(),
        priority: Priority::Low,
        send_at: Some(at(50)),
        expires_at: Some(at(500)),
        idempotency_key: Some("key".to_owned()),
        origin: "sendmail uid 1000".to_owned(),
        recipients: recipients.to_vec(),
        ..message(&[])
    };
    let id = spool.accept(new, at(0)).await.unwrap().id;
    let shown = spool.show(id).await.unwrap().unwrap();
    assert_eq!((shown.dsn, shown.facts.eight_bit), (dsn.clone(), true));
    for (shown, said) in shown.recipients.iter().zip(&recipients) {
        assert_eq!((shown.notify, &shown.orcpt), (said.notify, &said.orcpt));
    }
    assert_eq!(shown.send_at, Some(at(50)));
    assert_eq!(shown.idempotency_key.as_deref(), Some("key"));
    let listed = shown.listed;
    assert_eq!((listed.priority, listed.octets), (Priority::Low, 20));
    assert_eq!(
        (listed.due_at, listed.expires_at),
        (Some(at(50)), Some(at(500)))
    );
    assert_eq!(listed.states[&StateKind::Queued], 3);
    assert_eq!(listed.recipient, "x@example.org");
    assert_eq!(listed.origin, "sendmail uid 1000");
    let me = spool.join("one", at(0)).await.unwrap();
    let claim = spool
        .begin(ask(me.id(), at(60)))
        .await
        .unwrap()
        .claims
        .remove(0);
    assert_eq!((claim.dsn, &claim.recipients[..]), (dsn, &recipients[..]));
    assert!(claim.facts.eight_bit && !claim.facts.smtputf8);
    assert_eq!(
        (claim.priority, claim.expires_at),
        (Priority::Low, Some(at(500)))
    );
    assert_eq!((claim.accepted_at, claim.waiting_since), (at(0), at(50)));
    assert_eq!(spool.show(QueueId::new(99)).await.unwrap(), None);
    let error = spool.stored(QueueId::new(99)).await.unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::NotFound);
}

#[tokio::test]
async fn a_list_has_what_the_filter_says_and_pages() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..10 {
        let new = NewMessage {
            account: if n < 5 { "a" } else { "b" }.to_owned(),
            message_id: format!("<{n}@contoso.com>"),
            ..message(&[&format!("R{n}@Example.org")])
        };
        ids.push(spool.accept(new, at(n)).await.unwrap().id);
    }
    let claims = spool.begin(ask(me.id(), at(20))).await.unwrap().claims;
    settle(&spool, &claims[1], &deferred(at(100)), at(21)).await;
    let of = async |filter: Filter| -> Vec<QueueId> {
        let listed = spool.list(filter).await.unwrap();
        listed.into_iter().map(|listed| listed.id).collect()
    };
    let any = Filter::default();
    assert_eq!(of(any.clone()).await, ids);
    let account = Some("b".to_owned());
    assert_eq!(
        of(Filter {
            account,
            ..any.clone()
        })
        .await,
        ids[5..]
    );
    let state = Some(StateKind::Deferred);
    assert_eq!(
        of(Filter {
            state,
            ..any.clone()
        })
        .await,
        ids[1..2]
    );
    let recipient = Some("r7@EXAMPLE".to_owned());
    assert_eq!(
        of(Filter {
            recipient,
            ..any.clone()
        })
        .await,
        ids[7..8]
    );
    let older_than = Some(at(3));
    assert_eq!(
        of(Filter {
            older_than,
            ..any.clone()
        })
        .await,
        ids[..3]
    );
    let message_id = Some("<4@contoso.com>".to_owned());
    assert_eq!(
        of(Filter {
            message_id,
            ..any.clone()
        })
        .await,
        ids[4..5]
    );
    let page = Filter {
        limit: Some(4),
        ..any.clone()
    };
    assert_eq!(of(page.clone()).await, ids[..4]);
    let after = Some(ids[3]);
    assert_eq!(of(Filter { after, ..page }).await, ids[4..8]);

    let sums = spool.stats().await.unwrap();
    assert_eq!((sums.messages, sums.octets), (10, 200));
    assert!(sums.on_disk > 4096);
    let a = &sums.accounts["a"];
    assert_eq!(
        (
            a.states[&StateKind::Sending],
            a.states[&StateKind::Deferred]
        ),
        (4, 1)
    );
    assert_eq!(a.oldest, Some(at(0)));
    assert_eq!(sums.accounts["b"].states[&StateKind::Queued], 5);
}

#[tokio::test]
async fn a_person_holds_releases_retries_and_removes() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    for _ in 0..1200 {
        spool
            .accept(message(&["x@example.org"]), at(0))
            .await
            .unwrap();
    }
    assert_eq!(spool.hold(all(), "by hand", at(1)).await.unwrap(), 1200);
    assert!(spool.next_due(at(1)).await.unwrap().is_empty());
    let few = Select::Matching(Filter {
        limit: Some(3),
        ..Filter::default()
    });
    assert_eq!(spool.release(few, at(2)).await.unwrap(), 3);
    let claims = spool.begin(ask(me.id(), at(2))).await.unwrap().claims;
    assert_eq!(claims.len(), 3);
    // What is being sent is nobody's to change.
    let sending = Select::Ids(claims.iter().map(|claim| claim.id).collect());
    for changed in [
        spool.hold(sending.clone(), "x", at(3)).await.unwrap(),
        spool.retry(sending.clone(), at(3)).await.unwrap(),
        spool.release(sending.clone(), at(3)).await.unwrap(),
        spool.remove(sending.clone()).await.unwrap(),
    ] {
        assert_eq!(changed, 0);
    }
    let unknown = Outcome::Unknown {
        why: "lost".to_owned(),
    };
    let failed = Outcome::Failed {
        why: "550".to_owned(),
    };
    settle(&spool, &claims[0], &unknown, at(4)).await;
    settle(&spool, &claims[1], &failed, at(4)).await;
    settle(&spool, &claims[2], &delivered(), at(4)).await;
    assert_eq!(spool.retry(sending.clone(), at(5)).await.unwrap(), 2);
    let again = spool.begin(ask(me.id(), at(5))).await.unwrap().claims;
    assert_eq!(again.len(), 2);
    assert_eq!((again[0].attempts, again[0].waiting_since), (2, at(5)));
    for claim in &again {
        settle(&spool, claim, &delivered(), at(6)).await;
    }
    assert_eq!(spool.remove(all()).await.unwrap(), 1200);
    assert_eq!(spool.stats().await.unwrap().messages, 0);
}

#[tokio::test]
async fn retrying_what_was_put_off_sends_nothing_that_may_have_arrived() {
    let dir = directory();
    let spool = open(&dir);
    let to = ["a@example.org", "b@example.org", "c@example.org"];
    let id = spool.accept(message(&to), at(0)).await.unwrap().id;
    let me = spool.join("one", at(0)).await.unwrap();
    let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
    let why = || "x".to_owned();
    let settlement = Settlement {
        id,
        lease: claims[0].lease,
        recipients: vec![
            (
                to[0].to_owned(),
                Outcome::Deferred {
                    until: at(1000),
                    why: why(),
                },
            ),
            (to[1].to_owned(), Outcome::Unknown { why: why() }),
            (to[2].to_owned(), Outcome::Failed { why: why() }),
        ],
    };
    spool.settle(vec![settlement], at(2)).await.unwrap();
    for (state, recipient) in [
        (StateKind::Deferred, to[0]),
        (StateKind::Unknown, to[1]),
        (StateKind::Failed, to[2]),
    ] {
        let in_it = Select::Matching(Filter {
            state: Some(state),
            ..Filter::default()
        });
        assert_eq!(spool.retry(in_it, at(3)).await.unwrap(), 1);
        let claims = spool.begin(ask(me.id(), at(4))).await.unwrap().claims;
        assert_eq!(addresses(&claims[0]), [recipient]);
        settle(&spool, &claims[0], &delivered(), at(5)).await;
    }
}

#[tokio::test]
async fn what_expired_goes_once_more_if_a_person_says_so() {
    let dir = directory();
    let spool = open(&dir);
    let new = NewMessage {
        expires_at: Some(at(10)),
        ..message(&["x@example.org"])
    };
    let id = spool.accept(new, at(0)).await.unwrap().id;
    assert_eq!(spool.expire(Vec::new(), at(20)).await.unwrap().len(), 1);
    let State::Failed { why } = states(&spool, id).await.remove(0) else {
        panic!("not failed");
    };
    assert!(why.starts_with("not sent before it expired at "), "{why}");
    spool.retry(Select::Ids(vec![id]), at(30)).await.unwrap();
    assert!(spool.expire(Vec::new(), at(31)).await.unwrap().is_empty());
    let me = spool.join("one", at(31)).await.unwrap();
    assert_eq!(
        spool
            .begin(ask(me.id(), at(31)))
            .await
            .unwrap()
            .claims
            .len(),
        1
    );
}

#[tokio::test]
async fn what_is_done_is_kept_for_a_while_and_what_is_not_for_ever() {
    let dir = directory();
    let week = SpoolSettings {
        retention: seconds(100),
        ..settings()
    };
    let spool = SqliteSpool::open(dir.path(), week).unwrap();
    let me = spool.join("one", at(0)).await.unwrap();
    for _ in 0..6 {
        spool
            .accept(message(&["x@example.org", "y@example.org"]), at(0))
            .await
            .unwrap();
    }
    let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
    let why = || "x".to_owned();
    settle(&spool, &claims[0], &delivered(), at(2)).await;
    settle(&spool, &claims[1], &Outcome::Failed { why: why() }, at(3)).await;
    settle(&spool, &claims[2], &Outcome::Unknown { why: why() }, at(3)).await;
    settle(&spool, &claims[3], &Outcome::Held { why: why() }, at(3)).await;
    settle(&spool, &claims[4], &deferred(at(9)), at(3)).await;
    assert_eq!(spool.tidy(at(101)).await.unwrap().messages, 0);
    assert_eq!(spool.tidy(at(102)).await.unwrap().messages, 1);
    assert_eq!(spool.tidy(at(1_000_000)).await.unwrap().messages, 1);
    assert_eq!(spool.stats().await.unwrap().messages, 4);
    assert_eq!(kinds(&spool, claims[5].id).await, [StateKind::Sending; 2]);
}
