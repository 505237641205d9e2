//! Many messages on one session: in how many round trips, and what each of them comes to.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use postrider_smtp::{Outgoing, Receipt, SendError, Source, Stage, TlsMode};

use crate::{
    queue::{Queue, send},
    support::{Dialogue, Tokens, message, message_to, session},
};

const BDAT: &str = "PIPELINING CHUNKING";
const FIRST: &str = "C: MAIL *\nC: RCPT *\nC: BDAT *\n";
const FURTHER: &str = "C: RSET\nC: MAIL *\nC: RCPT *\nC: BDAT *\n";

/// So many positive replies.
fn ok(count: usize) -> String {
    "S: 250 ok\n".repeat(count)
}

#[tokio::test]
async fn a_window_of_messages_takes_one_round_trip() {
    let flight = |first: &str| first.to_owned() + &FURTHER.repeat(9);
    let server = Dialogue::new(
        &(session(BDAT)
            + &flight(FIRST)
            + &ok(39)
            + &flight(FIRST)
            + &ok(39)
            + &flight(FIRST)
            + &ok(39)),
    );
    let mut queue = Queue::of((0..30).map(|_| message()));

    let sent = send(&server, &mut queue, 10).await;

    assert_eq!((sent.messages, sent.drained), (30, true));
    let order: Vec<_> = (0..30).map(|index| format!("{index} sent")).collect();
    assert_eq!(queue.words(), order);
    assert_eq!(
        queue.rooms,
        [10, 10, 10, 10],
        "no more than a window is taken"
    );
    let heard = server.finish().await;
    assert_eq!(heard[0].round_trips, 3 + 3, "0.1 a message");
    assert_eq!(heard[0].messages.len(), 30);
}

#[tokio::test]
async fn the_window_slides_before_it_is_empty() {
    let first = FIRST.to_owned() + &FURTHER.repeat(9);
    // Five have been answered: five more follow while five are in flight.
    let server = Dialogue::new(
        &(session(BDAT)
            + &first
            + &ok(19)
            + &FURTHER.repeat(5)
            + &ok(20)
            + &FURTHER.repeat(5)
            + &ok(40)),
    );
    let mut queue = Queue::of((0..20).map(|_| message()));

    send(&server, &mut queue, 10).await;

    assert_eq!(queue.rooms, [10, 5, 5, 10]);
    assert_eq!(server.finish().await[0].messages.len(), 20);
}

#[tokio::test]
async fn the_next_envelope_goes_behind_the_previous_body() {
    let envelope = "C: MAIL *\nC: RCPT *\nC: DATA\n";
    let ready = "S: 250 ok\nS: 250 ok\nS: 354 go\n";
    let both = format!("C: [message]\nC: RSET\n{envelope}S: 250 taken\nS: 250 reset\n{ready}");
    let server = Dialogue::new(
        &(session("PIPELINING")
            + envelope
            + ready
            + &both.repeat(39)
            + "C: [message]\nS: 250 taken\n"),
    );
    let mut queue = Queue::of((0..40).map(|_| message()));

    send(&server, &mut queue, 10).await;

    assert_eq!(queue.ended.len(), 40);
    assert!(
        queue.rooms.iter().all(|&room| room <= 2),
        "{:?}",
        queue.rooms
    );
    let heard = server.finish().await;
    assert_eq!(heard[0].messages.len(), 40);
    assert_eq!(heard[0].round_trips - 3, 41, "1.025 a message");
}

#[tokio::test]
async fn without_pipelining_messages_follow_each_other() {
    let one =
        "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC: [message]\nS: 250 ok\n";
    let server = Dialogue::new(&(session("") + &one.repeat(3)));
    let mut queue = Queue::of((0..3).map(|_| message()));

    send(&server, &mut queue, 10).await;

    assert_eq!(queue.words(), ["0 sent", "1 sent", "2 sent"]);
    server.finish().await;
}

#[tokio::test]
async fn each_message_in_flight_gets_its_own_verdict() {
    let two = || message_to(&["b@example.net", "c@example.net"], b"x\r\n");
    let server = Dialogue::new(
        &(session("PIPELINING CHUNKING SIZE")
            + FIRST
            + FURTHER
            + FURTHER
            + "C: RSET\nC: MAIL *\nC: RCPT *\nC: RCPT *\nC: BDAT *\n"
            + FURTHER
            // Accepted; the sender refused; nobody accepted; one of two; refused at the end.
            + "S: 250 ok\nS: 250 ok\nS: 250 ok
            S: 250 ok\nS: 550 5.1.8 sender\nS: 503 no mail\nS: 503 no mail
            S: 250 ok\nS: 250 ok\nS: 452 4.2.2 full\nS: 503 no recipients
            S: 250 ok\nS: 250 ok\nS: 550 5.1.1 who\nS: 250 ok\nS: 250 ok
            S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 554 5.7.1 no
            C: RSET\n"
            + FIRST
            + &ok(4)),
    );
    let utf8 = message_to(&["jörg@example.net"], b"x\r\n");
    let mut queue = Queue::of([message(), utf8, message(), message(), two(), message()]);
    let pool = server.pool(TlsMode::DangerPlaintext);

    pool.send_all(&mut queue, 10).await.unwrap();

    let mut words = queue.words();
    words.sort();
    assert_eq!(
        words,
        [
            "0 sent",
            "1 needs SMTPUTF8",
            "2 refused MAIL FROM 550",
            "3 refused RCPT TO 452",
            "4 sent but 1",
            "5 refused message 554"
        ]
    );
    // The session is kept, and knows that it may be in the middle of something.
    pool.send(&message()).await.unwrap();
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_message_for_all_or_nobody_lets_others_go_before_and_behind_it() {
    let both = message_to(&["b@example.net", "c@example.net"], b"x\r\n").all_or_nothing();
    let strict = "C: RSET\nC: MAIL *\nC: RCPT *\nC: RCPT *\n";
    let server = Dialogue::new(
        &(session(BDAT)
            + FIRST
            + strict
            + &ok(7)
            + "C: BDAT *\n"
            + strict
            + &ok(4)
            // The second one is refused by one recipient: nobody gets it.
            + "S: 550 no\n"
            + FURTHER
            + &ok(4)),
    );
    let mut queue = Queue::of([message(), both.clone(), both, message()]);

    send(&server, &mut queue, 10).await;

    assert_eq!(
        queue.words(),
        ["0 sent", "1 sent", "2 refused RCPT TO 550", "3 sent"]
    );
    assert_eq!(server.finish().await[0].messages.len(), 3);
}

#[tokio::test]
async fn a_large_message_waits_for_its_envelope_in_its_turn() {
    let large = message_to(&["b@example.net"], &b"a line\r\n".repeat(200_000));
    let server = Dialogue::new(
        &(session(BDAT)
            + FIRST
            + "C: RSET\nC: MAIL *\nC: RCPT *\n"
            + &ok(6)
            + "C: BDAT 1048576\nC: BDAT 551424 LAST\n"
            + FURTHER
            + &ok(6)),
    );
    let mut queue = Queue::of([message(), large, message()]);

    send(&server, &mut queue, 10).await;

    assert_eq!(queue.words(), ["0 sent", "1 sent", "2 sent"]);
    server.finish().await;
}

#[tokio::test]
async fn nobody_s_data_is_ended_with_the_next_envelope_behind_it() {
    let server = Dialogue::new(
        &(session("PIPELINING")
            + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 550 no\nS: 354 go
            C: .\nC: RSET\nC: MAIL *\nC: RCPT *\nC: DATA
            S: 554 no valid recipients\nS: 250 ok\nS: 250 ok\nS: 550 no\nS: 503 no recipients
            C: RSET\nC: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go
            C: [message]\nS: 250 ok"),
    );
    let mut queue = Queue::of((0..3).map(|_| message()));

    send(&server, &mut queue, 10).await;

    assert_eq!(
        queue.words(),
        ["0 refused RCPT TO 550", "1 refused RCPT TO 550", "2 sent"]
    );
    server.finish().await;
}

#[tokio::test]
async fn a_loss_leaves_unknown_what_had_left_and_nothing_else() {
    let server = Dialogue::new(
        &(session(BDAT) + FIRST + &FURTHER.repeat(3) + &ok(3) + &ok(1) + "S: 550 no\nX:"),
    );
    let mut queue = Queue::of((0..9).map(|_| message()));

    let sent = send(&server, &mut queue, 4).await;

    // The second was refused before the loss, and stays refused.
    assert_eq!(
        queue.words(),
        [
            "0 sent",
            "1 refused MAIL FROM 550",
            "2 unknown",
            "3 unknown"
        ]
    );
    assert_eq!((sent.messages, sent.drained), (4, false));
    assert_eq!(queue.waiting.len(), 5, "the others stayed with the source");
    server.finish().await;
}

#[tokio::test]
async fn what_had_not_wholly_left_is_lost_not_unknown() {
    let large = || message_to(&["b@example.net"], &b"a line\r\n".repeat(120_000));
    let server = Dialogue::new(&(session(BDAT) + FIRST + "C: RSET\nR: 300000\nX:"));
    let mut queue = Queue::of((0..4).map(|_| large()));

    send(&server, &mut queue, 4).await;

    assert_eq!(queue.words(), ["0 unknown", "1 lost", "2 lost", "3 lost"]);
    assert!(queue.errors[1..].iter().all(SendError::is_transient));
    server.finish().await;
}

/// What RFC 5321 §3.8 allows to conclude: the server carries out nothing behind a 421.
#[tokio::test(start_paused = true)]
async fn a_421_in_the_middle_ends_what_has_no_reply_yet() {
    for end in ["X:", "W:"] {
        let server = Dialogue::new(
            &(session(BDAT)
                + FIRST
                + &FURTHER.repeat(3)
                + &ok(5)
                + "S: 421 4.3.2 System not accepting network messages\n"
                + end),
        );
        let mut queue = Queue::of((0..9).map(|_| message()));
        let start = tokio::time::Instant::now();

        let sent = send(&server, &mut queue, 4).await;

        assert_eq!(
            queue.words(),
            [
                "0 sent",
                "1 refused RCPT TO 421",
                "2 refused RSET 421",
                "3 refused RSET 421"
            ]
        );
        assert!(!sent.drained && queue.errors.iter().all(SendError::is_transient));
        assert!(
            start.elapsed() <= Duration::from_secs(5),
            "no more is worth waiting for"
        );
    }
}

#[tokio::test]
async fn a_reply_out_of_step_leaves_all_in_flight_unknown() {
    let server = Dialogue::new(
        &(session(BDAT) + FIRST + &FURTHER.repeat(3) + &ok(3) + "S: 250 ok\nS: 354 go\n"),
    );
    let mut queue = Queue::of((0..9).map(|_| message()));

    send(&server, &mut queue, 4).await;

    assert_eq!(
        queue.words(),
        ["0 sent", "1 unknown", "2 unknown", "3 unknown"]
    );
    server.finish().await;
}

#[tokio::test]
async fn a_waiting_session_that_is_over_is_replaced_for_all_that_had_not_left() {
    for gone in ["X:", "S: 421 4.4.1 idle\nX:"] {
        let server = Dialogue::new(
            &(session(BDAT)
                + FIRST
                + &ok(3)
                + FIRST
                + FURTHER
                + FURTHER
                + gone
                + "\n---\n"
                + &session(BDAT)
                + FIRST
                + FURTHER
                + FURTHER
                + &ok(11)),
        );
        let pool = server.pool(TlsMode::DangerPlaintext);
        pool.send(&message()).await.unwrap();
        let mut queue = Queue::of((0..3).map(|_| message()));

        if gone == "X:" {
            // The messages had left: only the server's word allows to send them again.
            pool.send_all(&mut queue, 10).await.unwrap();
            assert_eq!(queue.words(), ["0 unknown", "1 unknown", "2 unknown"]);
            continue;
        }
        pool.send_all(&mut queue, 10).await.unwrap();

        assert_eq!(queue.words(), ["0 sent", "1 sent", "2 sent"]);
        drop(pool);
        server.finish().await;
    }
}

#[tokio::test]
async fn a_421_that_stops_only_one_message_is_reported_for_that_one() {
    let server = Dialogue::new(
        &(session(BDAT)
            + FIRST
            + &ok(3)
            + FIRST
            + FURTHER
            + "S: 421 4.3.0 not this one\nS: 503 no mail\nS: 503 no mail\n"
            + &ok(4)),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);
    pool.send(&message()).await.unwrap();
    let mut queue = Queue::of((0..2).map(|_| message()));

    pool.send_all(&mut queue, 10).await.unwrap();

    assert_eq!(queue.words(), ["0 refused MAIL FROM 421", "1 sent"]);
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn without_a_session_nothing_is_taken_or_nothing_has_left() {
    let server = Dialogue::new(
        &(session(BDAT) + FIRST + &ok(3) + FIRST + FURTHER + "S: 421 4.4.1 idle\nX:"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);
    pool.send(&message()).await.unwrap();
    let mut queue = Queue::of((0..2).map(|_| message()));

    let error = pool.send_all(&mut queue, 10).await.unwrap_err();
    assert_eq!(error.stage, Stage::Connect);
    assert_eq!((queue.rooms.len(), queue.ended.len()), (1, 0));

    pool.send_all(&mut queue, 10).await.unwrap_err();
    assert_eq!(
        queue.rooms.len(),
        1,
        "nothing is asked for without a session"
    );
    drop(pool);
    server.finish().await;
}

/// The credential is renewed as soon as something has been sent.
struct Renewing(Queue, Arc<Tokens>);
impl Source for Renewing {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Vec<Outgoing>> {
        self.0.next(room)
    }
    fn ended(&mut self, index: u64, outcome: Result<Receipt, SendError>) {
        if self.0.ended.is_empty() {
            self.1.rotate();
        }
        self.0.ended(index, outcome);
    }
}

#[tokio::test]
async fn a_session_with_an_older_credential_takes_no_more() {
    let server = Dialogue::new(
        &(session(BDAT)
            + &(FIRST.to_owned() + FURTHER + &ok(7))
            + "C: QUIT\nS: 221 bye\n---\n"
            + &session(BDAT)
            + &(FIRST.to_owned() + FURTHER + &ok(7))),
    );
    let tokens = Arc::new(Tokens::new("a", &["one", "two"]));
    let pool = server.pool_with(TlsMode::DangerPlaintext, Arc::clone(&tokens), 1);
    let mut queue = Renewing(Queue::of((0..4).map(|_| message())), tokens);

    let first = pool.send_all(&mut queue, 2).await.unwrap();
    assert_eq!((first.messages, first.drained), (2, false));
    let second = pool.send_all(&mut queue, 2).await.unwrap();
    assert_eq!((second.messages, second.drained), (2, true));

    drop(pool);
    server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn verdicts_are_told_as_they_come_and_a_dropped_call_takes_its_session_with_it() {
    let server = Dialogue::new(
        &(session(BDAT)
            + FIRST
            + &FURTHER.repeat(3)
            + &ok(7)
            + "W:\n---\n"
            + &session(BDAT)
            + FIRST
            + &ok(3)),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);
    let mut queue = Queue::of((0..4).map(|_| message()));
    let verdicts = Arc::clone(&queue.verdicts);

    let call = pool.send_all(&mut queue, 4);
    let dropped = tokio::time::timeout(Duration::from_secs(1), call).await;

    assert!(dropped.is_err(), "two have no reply");
    assert_eq!(*verdicts.lock().unwrap(), 2);
    // On a new session.
    pool.send(&message()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_drops_it_hears_which_messages_had_not_begun_to_leave() {
    let envelope = "C: MAIL *\nC: RCPT *\nC: DATA\n";
    let second =
        format!("{envelope}S: 250 ok\nS: 250 ok\nS: 354 go\nC: [message]\nC: RSET\n{envelope}");
    let whole = FIRST.to_owned() + FURTHER;
    let stories: [(&str, &str, &[u64]); 4] = [
        ("", "C: MAIL *\n", &[0]),
        ("PIPELINING", envelope, &[0, 1]),
        ("PIPELINING", &second, &[1]),
        (BDAT, &whole, &[]),
    ];
    for (offer, heard, unsent) in stories {
        let server = Dialogue::new(&(session(offer) + heard + "W:"));
        let mut queue = Queue::of([message(), message()]);
        let pool = server.pool(TlsMode::DangerPlaintext);

        let sending = pool.send_all(&mut queue, 2);
        let cut_off = tokio::time::timeout(Duration::from_secs(20), sending).await;

        assert!(cut_off.is_err());
        assert_eq!(queue.words(), Vec::<String>::new());
        assert_eq!(queue.unsent, unsent, "{offer}: {heard}");
    }
}
