//! What starts, and in which order.

use postrider_spool::{
    Back, Begin, NewMessage, Outcome, PaceLimit, Priority, QueueId, SpoolErrorKind, SqliteSpool,
    State, StateKind, Store,
};

use crate::support::{
    addresses, ask, at, deferred, delivered, directory, kinds, message, names, octets, open,
    seconds, settings, settle, states, told, with_priority,
};

#[tokio::test]
async fn a_message_goes_through_from_its_acceptance_to_its_delivery() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let new = NewMessage {
        reverse_path: Some("svc@contoso.com".to_owned()),
        origin: "script report.lua".to_owned(),
        ..message(&["x@example.org", "y@example.org", "x@example.org"])
    };
    let accepted = spool.accept(new, at(1)).await.unwrap();
    assert!(!accepted.duplicate);
    assert_eq!(kinds(&spool, accepted.id).await, [StateKind::Queued; 2]);

    let began = spool.begin(ask(me.id(), at(2))).await.unwrap();

    assert_eq!(began.next, None);
    let [claim] = &began.claims[..] else {
        panic!("{began:?}");
    };
    assert_eq!(addresses(claim), ["x@example.org", "y@example.org"]);
    assert_eq!(claim.reverse_path.as_deref(), Some("svc@contoso.com"));
    assert_eq!((claim.attempts, claim.accepted_at), (1, at(1)));
    assert_eq!(claim.origin, "script report.lua");
    let body = octets(&claim.body).await.unwrap();
    assert_eq!(body, b"Subject: x\r\n\r\nbody\r\n");
    assert_eq!(kinds(&spool, accepted.id).await, [StateKind::Sending; 2]);
    let again = spool.begin(ask(me.id(), at(3))).await.unwrap();
    assert!(again.claims.is_empty());

    let settled = settle(&spool, claim, &delivered(), at(4)).await;

    assert!(settled.finished && settled.fenced.is_empty());
    assert_eq!(
        (settled.account.as_str(), settled.transitions.len()),
        ("a", 2)
    );
    assert_eq!(kinds(&spool, accepted.id).await, [StateKind::Delivered; 2]);
    // The same lease has nothing to say any more.
    let settled = settle(&spool, claim, &delivered(), at(5)).await;
    assert_eq!(settled.fenced.len(), 2);
    assert_eq!(settled.check().unwrap_err().kind, SpoolErrorKind::Fenced);
}

#[tokio::test]
async fn nothing_starts_before_its_time() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let later = NewMessage {
        send_at: Some(at(100)),
        ..message(&["x@example.org"])
    };
    let id = spool.accept(later, at(0)).await.unwrap().id;
    let began = spool.begin(ask(me.id(), at(99))).await.unwrap();
    assert_eq!((began.claims.len(), began.next), (0, Some(at(100))));
    let due = spool.next_due(at(99)).await.unwrap();
    assert_eq!((due[0].account.as_str(), due[0].at), ("a", at(100)));

    let began = spool.begin(ask(me.id(), at(100))).await.unwrap();
    assert_eq!(names(&began.claims), [id]);
    let settled = settle(&spool, &began.claims[0], &deferred(at(200)), at(101)).await;
    assert!(!settled.finished);
    let began = spool.begin(ask(me.id(), at(199))).await.unwrap();
    assert_eq!((began.claims.len(), began.next), (0, Some(at(200))));
    let began = spool.begin(ask(me.id(), at(200))).await.unwrap();
    assert_eq!(began.claims[0].attempts, 2);

    // Nothing left: as if it had not begun.
    settle(&spool, &began.claims[0], &Outcome::Returned, at(201)).await;
    assert_eq!(states(&spool, id).await, [State::Queued]);
    let began = spool.begin(ask(me.id(), at(201))).await.unwrap();
    assert_eq!(began.claims[0].attempts, 2);
}

#[tokio::test]
async fn the_highest_goes_first_and_the_lowest_does_not_starve() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let mut low = Vec::new();
    let mut high = Vec::new();
    for second in 0..20 {
        let new = with_priority(Priority::Low);
        low.push(spool.accept(new, at(second)).await.unwrap().id);
    }
    for second in 20..60 {
        let new = with_priority(Priority::High);
        high.push(spool.accept(new, at(second)).await.unwrap().id);
    }
    let mut order: Vec<QueueId> = Vec::new();
    for _ in 0..5 {
        let few = Begin {
            at_most: 12,
            ..ask(me.id(), at(100))
        };
        let began = spool.begin(few).await.unwrap();
        // All that were due already.
        assert_eq!(
            (began.next, began.held_back_by),
            if order.len() < 48 {
                (Some(at(100)), None)
            } else {
                (None, None)
            }
        );
        order.extend(names(&began.claims));
    }
    let eighth: Vec<_> = order.iter().skip(7).step_by(8).take(5).copied().collect();
    assert_eq!(eighth, low[..5]);
    let rest: Vec<_> = order
        .iter()
        .filter(|id| high.contains(id))
        .copied()
        .collect();
    assert_eq!(rest, high);
    assert_eq!(order.len(), 60);
}

#[tokio::test]
async fn recipients_are_split_to_what_the_server_takes() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let to: Vec<String> = (0..7).map(|n| format!("r{n}@example.org")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = spool.accept(message(&to), at(0)).await.unwrap().id;
    let few = Begin {
        recipients_per_message: Some(3),
        ..ask(me.id(), at(1))
    };

    let began = spool.begin(few).await.unwrap();

    let counts: Vec<usize> = began
        .claims
        .iter()
        .map(|claim| claim.recipients.len())
        .collect();
    assert_eq!(counts, [3, 3, 1]);
    let all: Vec<String> = began.claims.iter().flat_map(addresses).collect();
    assert_eq!(all, to);
    // Each on its own: one part is put off, one is done, and one fails.
    settle(&spool, &began.claims[0], &deferred(at(50)), at(2)).await;
    settle(&spool, &began.claims[1], &delivered(), at(2)).await;
    let failed = Outcome::Failed {
        why: "550 5.1.1".to_owned(),
    };
    settle(&spool, &began.claims[2], &failed, at(2)).await;
    let began = spool.begin(ask(me.id(), at(50))).await.unwrap();
    assert_eq!(addresses(&began.claims[0]), to[..3]);
    assert!(
        settle(&spool, &began.claims[0], &delivered(), at(51))
            .await
            .finished
    );
    let mut wanted = vec![StateKind::Delivered; 6];
    wanted.push(StateKind::Failed);
    assert_eq!(kinds(&spool, id).await, wanted);
}

#[tokio::test]
async fn an_account_that_is_to_be_left_alone_is() {
    let dir = directory();
    {
        let spool = open(&dir);
        spool
            .accept(message(&["x@example.org"]), at(0))
            .await
            .unwrap();
        let back = Back {
            until: at(600),
            why: "432 4.3.2".to_owned(),
        };
        spool.back_off("a", Some(back), at(1)).await.unwrap();
    }
    let spool = open(&dir);
    let me = spool.join("one", at(2)).await.unwrap();
    let began = spool.begin(ask(me.id(), at(2))).await.unwrap();
    assert_eq!(began.claims.len(), 0);
    assert_eq!(
        (began.next, began.held_back_by),
        (Some(at(600)), Some(PaceLimit::BackOff))
    );
    let state = spool.account_state("a", at(2)).await.unwrap();
    assert_eq!(state.back_off.unwrap().why, "432 4.3.2");
    // The clock is set back by a day: nobody waits a day for it.
    let began = spool.begin(ask(me.id(), at(2 - 86_400))).await.unwrap();
    assert_eq!(began.next, Some(at(600 - 86_400)));
    spool.back_off("a", None, at(3 - 86_400)).await.unwrap();
    let began = spool.begin(ask(me.id(), at(3 - 86_400))).await.unwrap();
    assert_eq!(began.claims.len(), 1);
}

#[tokio::test]
async fn what_expired_fails_and_says_so() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let mut ids = Vec::new();
    for account in ["a", "b"] {
        let new = NewMessage {
            account: account.to_owned(),
            expires_at: Some(at(10)),
            ..message(&["x@example.org"])
        };
        ids.push(spool.accept(new, at(0)).await.unwrap().id);
    }
    let began = spool.begin(ask(me.id(), at(10))).await.unwrap();
    assert!(began.claims.is_empty());
    assert_eq!(began.given_up.len(), 1);
    assert!(began.given_up[0].finished);
    assert_eq!(began.next, None);

    let settled = spool.expire(Vec::new(), at(10)).await.unwrap();
    assert_eq!((settled.len(), settled[0].id), (1, ids[1]));
    assert!(spool.expire(Vec::new(), at(10)).await.unwrap().is_empty());
    for id in ids {
        assert_eq!(kinds(&spool, id).await, [StateKind::Failed]);
    }
}

#[tokio::test]
async fn what_grew_too_old_fails_with_what_was_said_last() {
    use postrider_spool::Aged;

    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let old = spool
        .accept(message(&["x@example.org"]), at(0))
        .await
        .unwrap()
        .id;
    let planned = NewMessage {
        send_at: Some(at(400)),
        ..message(&["x@example.org"])
    };
    let planned = spool.accept(planned, at(0)).await.unwrap().id;
    let began = spool.begin(ask(me.id(), at(1))).await.unwrap();
    settle(&spool, &began.claims[0], &deferred(at(300)), at(2)).await;
    let aged = |before| {
        vec![Aged {
            account: "a".to_owned(),
            accepted_before: before,
            why: "not delivered within 5 days".to_owned(),
        }]
    };
    assert!(spool.expire(aged(at(0)), at(200)).await.unwrap().is_empty());
    let settled = spool.expire(aged(at(1)), at(200)).await.unwrap();
    assert_eq!(settled.len(), 1);
    let why = "not delivered within 5 days: 451 4.7.0".to_owned();
    assert_eq!(states(&spool, old).await, [State::Failed { why }]);
    assert_eq!(kinds(&spool, planned).await, [StateKind::Queued]);
}

#[tokio::test]
async fn many_settlements_are_told_at_once_and_a_wrong_one_harms_nobody() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    for _ in 0..3 {
        spool
            .accept(message(&["x@example.org"]), at(0))
            .await
            .unwrap();
    }
    let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
    let mut all: Vec<_> = claims
        .iter()
        .map(|claim| told(claim, &delivered()))
        .collect();
    all[1].lease = claims[0].lease;
    let settled = spool.settle(all, at(2)).await.unwrap();
    let fenced: Vec<usize> = settled.iter().map(|one| one.fenced.len()).collect();
    assert_eq!(fenced, [0, 1, 0]);
    assert_eq!(kinds(&spool, claims[1].id).await, [StateKind::Sending]);
}

#[tokio::test]
async fn those_who_wait_hear_of_changes_by_this_process_and_by_others() {
    let dir = directory();
    let spool = open(&dir);
    let other = open(&dir);
    assert!(!spool.look().await.unwrap());
    let mut changes = spool.changes();
    spool
        .accept(message(&["x@example.org"]), at(0))
        .await
        .unwrap();
    changes.changed().await;
    assert!(!spool.look().await.unwrap());
    other
        .accept(message(&["x@example.org"]), at(0))
        .await
        .unwrap();
    assert!(spool.look().await.unwrap());
    changes.changed().await;
    // Nothing since.
    let nothing = tokio::time::timeout(seconds(0), changes.changed()).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn what_is_left_of_a_message_waits_behind_what_was_due_before_it() {
    let spool = SqliteSpool::in_memory(settings()).unwrap();
    let me = spool.join("one", at(0)).await.unwrap();
    let three = ["x@example.org", "y@example.org", "z@example.org"];
    let first = spool.accept(message(&three), at(0)).await.unwrap().id;
    let second = spool.accept(message(&three), at(0)).await.unwrap().id;
    let two_each = |now| Begin {
        at_most: 2,
        recipients_per_message: Some(2),
        ..ask(me.id(), at(now))
    };
    let began = spool.begin(two_each(0)).await.unwrap();
    let [head, rest] = &began.claims[..] else {
        panic!("{began:?}");
    };
    assert_eq!((head.id, rest.id), (first, first));
    settle(&spool, rest, &deferred(at(1)), at(0)).await;
    settle(&spool, head, &Outcome::Returned, at(0)).await;

    let again = spool.begin(two_each(1)).await.unwrap();

    let order: Vec<_> = again.claims.iter().map(|claim| claim.id).collect();
    assert_eq!(order, [first, second]);
}
