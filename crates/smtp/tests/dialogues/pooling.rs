//! Which session a message gets.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use postrider_smtp::{SendErrorKind, Stage, StageDetail, TlsMode};

use crate::support::{Dialogue, GREETING, STARTTLS_AND_AUTH, Tokens, address, message, message_to};

const SESSION: &str = "S: 220 mx.example
C: EHLO client.example
S: 250-mx.example
S: 250-PIPELINING
S: 250-CHUNKING
S: 250 AUTH XOAUTH2
C: AUTH XOAUTH2 *
S: 235 ok
";
const MESSAGE: &str = "C: MAIL *\nC: RCPT *\nC: BDAT *\nS: 250 ok\nS: 250 ok\nS: 250 ok\n";
const QUIT: &str = "C: QUIT\nS: 221 bye\n";

fn dialogue(connections: &[String]) -> Arc<Dialogue> {
    Dialogue::new(&connections.join("\n---\n"))
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_too_long_takes_its_leave() {
    let server = dialogue(&[
        format!("{SESSION}{MESSAGE}{MESSAGE}{QUIT}"),
        format!("{SESSION}{MESSAGE}"),
    ]);
    let pool = server.pool(TlsMode::DangerPlaintext);

    pool.send(&message()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    pool.send(&message()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(server.opened.load(Ordering::Relaxed), 1);
    pool.send(&message()).await.unwrap();

    drop(pool);
    server.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_takes_its_leave_still_counts() {
    let server = dialogue(&[
        format!("{SESSION}{MESSAGE}C: QUIT\nP: 3\nS: 221 bye"),
        format!("{SESSION}{MESSAGE}"),
    ]);
    let pool = server.pool(TlsMode::DangerPlaintext);
    pool.send(&message()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let start = tokio::time::Instant::now();

    pool.send(&message()).await.unwrap();

    assert_eq!(start.elapsed(), Duration::from_secs(2), "one at a time");
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_session_with_an_older_credential_is_retired() {
    let server = dialogue(&[
        format!("{SESSION}{MESSAGE}{QUIT}"),
        format!("{SESSION}{MESSAGE}{MESSAGE}"),
    ]);
    let tokens = Arc::new(Tokens::new("a", &["one", "two"]));
    let pool = server.pool_with(TlsMode::DangerPlaintext, Arc::clone(&tokens), 1);

    pool.send(&message()).await.unwrap();
    tokens.rotate();
    pool.send(&message()).await.unwrap();
    pool.send(&message()).await.unwrap();

    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_dead_session_is_replaced_before_anything_is_written_to_it() {
    let timed_out = "P:\nS: 421 4.4.1 Connection timed out";
    // The last one leaves the connection open: only what it says tells that it is of no use.
    for farewell in ["X:", &format!("{timed_out}\nX:"), timed_out] {
        let server = dialogue(&[
            format!("{SESSION}{MESSAGE}{farewell}"),
            format!("{SESSION}{MESSAGE}"),
        ]);
        let pool = server.pool(TlsMode::DangerPlaintext);
        pool.send(&message()).await.unwrap();
        // The scripted server has reached its end once it has had a few turns.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }

        pool.send(&message()).await.unwrap();

        drop(pool);
        let heard = server.finish().await;
        assert_eq!(heard[0].messages.len() + heard[1].messages.len(), 2);
    }
}

#[tokio::test]
async fn a_session_lost_before_a_large_message_is_replaced_once() {
    let large = message_to(&["b@example.net"], &b"x\r\n".repeat(400_000));
    let server = dialogue(&[
        format!("{SESSION}{MESSAGE}C: MAIL *\nC: RCPT *\nX:"),
        format!(
            "{SESSION}C: MAIL *\nC: RCPT *\nS: 250 ok\nS: 250 ok\nC: BDAT *\nC: BDAT *\nS: 250 ok\nS: 250 ok"
        ),
    ]);
    let pool = server.pool(TlsMode::DangerPlaintext);
    pool.send(&message()).await.unwrap();

    pool.send(&large).await.unwrap();

    drop(pool);
    assert_eq!(
        server.finish().await[1].messages,
        [&**large.message().unwrap()]
    );
}

/// Some servers end an idle session only when it is used again.
#[tokio::test]
async fn a_reused_session_that_is_turned_away_is_replaced_once() {
    let gone = "S: 421 4.4.1 idle for too long\nX:";
    // What a refused message leaves behind, so that the next one begins with RSET.
    let refused = "C: MAIL *\nC: RCPT *\nC: BDAT *\nS: 250 ok\nS: 250 ok\nS: 554 no\n";
    for (before, next, reset) in [(MESSAGE, "", false), (refused, "C: RSET\n", true)] {
        let server = dialogue(&[
            format!("{SESSION}{before}{next}C: MAIL *\nC: RCPT *\nC: BDAT *\n{gone}"),
            format!("{SESSION}{MESSAGE}"),
        ]);
        let pool = server.pool(TlsMode::DangerPlaintext);
        assert_eq!(pool.send(&message()).await.is_err(), reset);

        pool.send(&message()).await.unwrap();

        drop(pool);
        assert_eq!(server.finish().await.len(), 2);
    }
}

#[tokio::test]
async fn a_421_that_may_follow_an_acceptance_is_reported() {
    // To the recipient; to RSET, while the sender and the message were taken; to every session.
    let envelope = "C: MAIL *\nC: RCPT *\nC: BDAT *\n";
    let refused = format!("{envelope}S: 250 ok\nS: 250 ok\nS: 554 no\n");
    let gone = "S: 421 4.4.1 gone\n";
    for (before, replies, connections) in [
        (MESSAGE, format!("{envelope}S: 250 ok\n{gone}X:"), 1),
        (
            &refused,
            format!("C: RSET\n{envelope}{gone}S: 250 ok\nX:"),
            1,
        ),
        (MESSAGE, format!("{envelope}{gone}X:"), 2),
    ] {
        let mut sessions = vec![format!("{SESSION}{before}{replies}")];
        if connections == 2 {
            sessions.push(format!("{SESSION}{envelope}{gone}X:"));
        }
        let server = dialogue(&sessions);
        let pool = server.pool(TlsMode::DangerPlaintext);
        let _ = pool.send(&message()).await;

        let error = pool.send(&message()).await.unwrap_err();

        assert_eq!(error.reply().map(|reply| reply.code), Some(421), "{error}");
        drop(pool);
        assert_eq!(server.finish().await.len(), connections);
    }
}

#[tokio::test]
async fn a_new_session_lost_before_the_message_is_not_replaced() {
    let large = message_to(&["b@example.net"], &b"x\r\n".repeat(400_000));
    let server = dialogue(&[format!("{SESSION}C: MAIL *\nC: RCPT *\nX:")]);
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool.send(&large).await.unwrap_err();

    assert!(matches!(&*error.kind, SendErrorKind::Lost(_)), "{error}");
    assert_eq!(error.stage, Stage::MailFrom);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_send_takes_its_connection_with_it() {
    let server = dialogue(&[
        format!("{SESSION}C: MAIL *\nC: RCPT *\nC: BDAT *"),
        format!("{SESSION}{MESSAGE}"),
    ]);
    let pool = server.pool(TlsMode::DangerPlaintext);

    let first = tokio::time::timeout(Duration::from_secs(1), pool.send(&message())).await;
    assert!(first.is_err(), "the server never answers");
    pool.send(&message()).await.unwrap();

    drop(pool);
    let heard = server.finish().await;
    assert_eq!(heard.len(), 2);
}

#[tokio::test]
async fn a_thousand_messages_share_three_sessions() {
    let endless = format!("{SESSION}LOOP:\n{MESSAGE}");
    let server = dialogue(&[endless.clone(), endless.clone(), endless]);
    let pool = server.pool_with(
        TlsMode::DangerPlaintext,
        Arc::new(Tokens::new("a", &["t1"])),
        3,
    );

    let message = message();
    let sends = (0..1_000).map(|_| pool.send(&message));
    let receipts = futures_util::future::join_all(sends).await;

    assert!(receipts.iter().all(Result::is_ok));
    assert_eq!(server.opened.load(Ordering::Relaxed), 3);
    drop(pool);
    let heard = server.finish().await;
    assert_eq!(
        heard
            .iter()
            .map(|connection| connection.messages.len())
            .sum::<usize>(),
        1_000
    );
    assert!(
        heard
            .iter()
            .all(|connection| connection.messages.len() > 300),
        "shared evenly"
    );
}

#[tokio::test]
async fn too_many_at_a_time_is_reported_not_tried_again() {
    let refused = "C: MAIL *\nC: RCPT *\nC: BDAT *\nS: 250 ok\nS: 250 ok\n\
                   S: 432 4.3.2 Concurrent connections limit exceeded.\n";
    let server = dialogue(&[format!("{SESSION}{refused}")]);
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool.send(&message()).await.unwrap_err();

    assert!(
        matches!(&*error.kind, SendErrorKind::Refused(reply) if reply.code == 432),
        "{error}"
    );
    assert!(error.is_transient());
    drop(pool);
    assert_eq!(server.finish().await.len(), 1);
}

#[tokio::test]
async fn a_closed_pool_takes_leave_and_sends_nothing() {
    let server = dialogue(&[format!("{SESSION}{MESSAGE}{QUIT}")]);
    let pool = server.pool(TlsMode::DangerPlaintext);
    pool.send(&message()).await.unwrap();

    pool.close().await;

    let error = pool.send(&message()).await.unwrap_err();
    assert!(matches!(&*error.kind, SendErrorKind::Closed), "{error}");
    server.finish().await;
}

#[tokio::test]
async fn a_check_goes_through_every_stage_and_sends_nothing() {
    let server = dialogue(&[format!(
        "{STARTTLS_AND_AUTH}C: MAIL FROM:<a@example.org>\nS: 250 2.1.0 Sender OK\nC: RSET\nS: 250 ok"
    )]);
    let pool = server.pool(TlsMode::Starttls);

    let stages = pool.check(&address("a@example.org")).await;

    let names: Vec<_> = stages
        .iter()
        .map(|report| report.stage.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "connect",
            "greeting",
            "EHLO",
            "STARTTLS",
            "TLS",
            "EHLO",
            "AUTH",
            "MAIL FROM"
        ]
    );
    let Ok(StageDetail::Secured(tls)) = &stages[4].outcome else {
        panic!("{:?}", stages[4])
    };
    assert_eq!(
        (tls.version.as_str(), tls.subject.contains("mx.example")),
        ("TLS 1.3", true),
        "{tls:?}"
    );
    assert!(
        tls.expires.is_some()
            && tls.issuer.contains("Test authority")
            && tls.cipher.starts_with("TLS13_")
    );
    let Ok(StageDetail::Offers(offer)) = &stages[5].outcome else {
        panic!("{:?}", stages[5])
    };
    assert_eq!(offer.auth, ["LOGIN", "XOAUTH2"]);
    drop(pool);
    assert!(server.finish().await[0].messages.is_empty());
}

#[tokio::test]
async fn a_check_ends_with_the_stage_that_failed() {
    let server = dialogue(&[format!(
        "{GREETING}S: 250-mx\nS: 250 AUTH XOAUTH2\nC: AUTH XOAUTH2 *\nS: 535 5.7.3 no"
    )]);
    let pool = server.pool(TlsMode::DangerPlaintext);

    let stages = pool.check(&address("a@example.org")).await;

    let last = stages.last().unwrap();
    assert_eq!(last.stage, Stage::Auth);
    assert_eq!(
        last.outcome.as_ref().unwrap_err().reply().unwrap().code,
        535
    );
    assert!(
        stages
            .iter()
            .rev()
            .skip(1)
            .all(|report| report.outcome.is_ok())
    );
}
