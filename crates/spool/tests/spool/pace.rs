//! No window of the server's own has more than it takes, whatever the clock does.

use std::collections::VecDeque;

use postrider_spool::{Begin, NewMessage, Outcome, Pace, PaceLimit, SqliteSpool, Store, Turn};
use proptest::prelude::*;

use crate::support::{addresses, ask, at, delivered, directory, message, open, settings, settle};

const PER_MINUTE: Pace = Pace {
    per_minute: Some(3),
    recipients_per_day: None,
};

fn paced(holder: postrider_spool::HolderId, pace: Pace, second: i64) -> Begin {
    Begin {
        pace,
        ..ask(holder, at(second))
    }
}

async fn fill(spool: &SqliteSpool, count: usize) {
    for _ in 0..count {
        spool
            .accept(message(&["x@example.org"]), at(0))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_minute_has_so_many_messages_across_restarts_and_processes() {
    let dir = directory();
    let spool = open(&dir);
    fill(&spool, 10).await;
    let me = spool.join("one", at(0)).await.unwrap();
    let began = spool.begin(paced(me.id(), PER_MINUTE, 0)).await.unwrap();
    assert_eq!(began.claims.len(), 3);
    // Under way, they count; ended, for a minute more.
    assert_eq!(
        (began.next, began.held_back_by),
        (Some(at(60)), Some(PaceLimit::PerMinute))
    );
    for (claim, second) in began.claims.iter().zip([1, 5, 9]) {
        settle(&spool, claim, &delivered(), at(second)).await;
    }
    drop((me, spool));
    let spool = open(&dir);
    let other = open(&dir);
    let me = other.join("two", at(10)).await.unwrap();
    let began = other.begin(paced(me.id(), PER_MINUTE, 60)).await.unwrap();
    assert_eq!((began.claims.len(), began.next), (0, Some(at(61))));
    let began = other.begin(paced(me.id(), PER_MINUTE, 61)).await.unwrap();
    assert_eq!((began.claims.len(), began.next), (1, Some(at(65))));
    // Nothing of it left: it does not count.
    settle(&other, &began.claims[0], &Outcome::Returned, at(62)).await;
    let me = spool.join("three", at(62)).await.unwrap();
    let began = spool.begin(paced(me.id(), PER_MINUTE, 65)).await.unwrap();
    assert_eq!(began.claims.len(), 2);
}

#[tokio::test]
async fn a_day_has_so_many_recipients_and_a_message_is_split_to_them() {
    let dir = directory();
    let spool = open(&dir);
    let pace = Pace {
        per_minute: None,
        recipients_per_day: Some(5),
    };
    let to = ["a@x.org", "b@x.org", "c@x.org", "d@x.org"];
    for _ in 0..2 {
        spool.accept(message(&to), at(0)).await.unwrap();
    }
    let me = spool.join("one", at(0)).await.unwrap();
    let began = spool.begin(paced(me.id(), pace, 30)).await.unwrap();
    let counts: Vec<usize> = began
        .claims
        .iter()
        .map(|claim| claim.recipients.len())
        .collect();
    assert_eq!(counts, [4, 1]);
    assert_eq!(began.held_back_by, Some(PaceLimit::RecipientsPerDay));
    for claim in &began.claims {
        settle(&spool, claim, &delivered(), at(31)).await;
    }
    let began = spool.begin(paced(me.id(), pace, 86_400)).await.unwrap();
    assert!(began.claims.is_empty());
    let next = began.next.unwrap();
    // Conservatively by the minute.
    assert!(next >= at(86_431) && next <= at(86_491), "{next}");
    let began = spool
        .begin(Begin {
            now: next,
            ..paced(me.id(), pace, 0)
        })
        .await
        .unwrap();
    assert_eq!(addresses(&began.claims[0]), to[1..]);
}

#[tokio::test]
async fn what_was_never_queued_has_its_turn_in_the_same_pace() {
    let dir = directory();
    let spool = open(&dir);
    fill(&spool, 3).await;
    let me = spool.join("one", at(0)).await.unwrap();
    let Turn::Granted(one) = spool
        .turn("a", me.id(), PER_MINUTE, 1, at(0))
        .await
        .unwrap()
    else {
        panic!("no turn");
    };
    let Turn::Granted(two) = spool
        .turn("a", me.id(), PER_MINUTE, 1, at(0))
        .await
        .unwrap()
    else {
        panic!("no turn");
    };
    assert_eq!(
        spool
            .begin(paced(me.id(), PER_MINUTE, 0))
            .await
            .unwrap()
            .claims
            .len(),
        1
    );
    let wait = spool
        .turn("a", me.id(), PER_MINUTE, 1, at(1))
        .await
        .unwrap();
    assert!(
        matches!(wait, Turn::Wait(until, PaceLimit::PerMinute) if until == at(61)),
        "{wait:?}"
    );
    one.end(at(2));
    // One whose end nobody told ends, too.
    drop(two);
    while spool.account_state("a", at(2)).await.unwrap().under_way > 1 {
        tokio::task::yield_now().await;
    }
    let state = spool.account_state("a", at(2)).await.unwrap();
    assert_eq!((state.in_minute, state.under_way), (3, 1));
    let wait = spool
        .turn("a", me.id(), PER_MINUTE, 1, at(61))
        .await
        .unwrap();
    assert!(matches!(wait, Turn::Granted(_)), "{wait:?}");
}

/// A clock that is set by so much, after so many seconds have passed.
fn steps() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let set = prop_oneof![
        6 => Just(0),
        1 => -200_000_i64..0,
        1 => 0_i64..200_000,
        1 => -3_i64..3,
    ];
    proptest::collection::vec((0_i64..40, set), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_clock_set_back_blocks_nobody_longer_and_lets_no_more_through(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(by_any_clock(&steps));
    }
}

async fn by_any_clock(steps: &[(i64, i64)]) {
    let spool = SqliteSpool::in_memory(settings()).unwrap();
    fill(&spool, 400).await;
    let me = spool.join("one", at(0)).await.unwrap();
    // What has passed, and by how much the clock shows more.
    let mut passed = 0;
    let mut ahead = 0;
    // Starts of the last minute; one that ended as it began, by the time that has passed. Each
    // has by how much the clock was ahead, or more, since: forward no clock can be told from
    // time that passes.
    let mut starts: VecDeque<(i64, i64)> = VecDeque::new();
    let mut blocked = 0;
    for (wait, set) in steps {
        passed += wait;
        ahead += set;
        let now = at(passed + ahead);
        let began = spool
            .begin(Begin {
                now,
                ..paced(me.id(), PER_MINUTE, 0)
            })
            .await
            .unwrap();
        assert!(began.given_up.is_empty());
        for start in &mut starts {
            start.1 += (*set).max(0);
        }
        // By the time of the queue, as it counts a clock that goes forward for time that passed.
        starts.retain(|(start, forward)| passed - start + forward < 60);
        assert!(
            starts.len() + began.claims.len() <= 3,
            "{starts:?} {began:?}"
        );
        for claim in &began.claims {
            starts.push_back((passed, 0));
            settle(&spool, claim, &delivered(), now).await;
        }
        // A minute without a start is one too many, but for what the rounding takes.
        if began.claims.is_empty() {
            // A step back takes with it what passed since the last look.
            blocked = if *set < 0 { 0 } else { blocked + wait };
            assert!(blocked <= 60 + 6 + 40, "blocked for {blocked} s");
            let next = began.next.unwrap();
            let most = jiff::SignedDuration::from_secs(60 + 6);
            assert!(next.duration_since(now) <= most, "{now} {next}");
        } else {
            blocked = 0;
        }
    }
}

#[tokio::test]
async fn what_was_due_when_the_clock_was_set_back_is_due_still() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    spool
        .accept(message(&["x@example.org"]), at(90_000))
        .await
        .unwrap();
    let planned = NewMessage {
        send_at: Some(at(95_000)),
        ..message(&["x@example.org"])
    };
    spool.accept(planned, at(90_000)).await.unwrap();
    let due = spool.next_due(at(10)).await.unwrap();
    assert_eq!(due[0].at, at(10));
    let began = spool.begin(ask(me.id(), at(10))).await.unwrap();
    // But for what was to wait for a time of day.
    assert_eq!((began.claims.len(), began.next), (1, Some(at(95_000))));
}
