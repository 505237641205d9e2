//! What becomes of a message: verdicts, refusals, losses.

use std::{sync::atomic::Ordering, time::Duration};

use postrider_smtp::{
    Dsn, Notify, RecipientDsn, Return, SendError, SendErrorKind, Stage, Timeouts, TlsMode, Verdict,
};
use tokio::time::Instant;

use crate::support::{Dialogue, message, message_to, session};

const ACCEPTED: &str = "C: MAIL *\nC: RCPT *\nC: BDAT *\nS: 250 ok\nS: 250 ok\nS: 250 ok\n";
const ALL: &str = "PIPELINING CHUNKING 8BITMIME SMTPUTF8 DSN";

fn codes(recipients: &[(postrider_smtp::Address, Verdict)]) -> Vec<String> {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Accepted(reply) => format!("accepted {}", reply.code),
        Verdict::Retry(reply) => format!("retry {}", reply.code),
        Verdict::Rejected(reply) => format!("rejected {}", reply.code),
        Verdict::Unknown(_) => "unknown".to_owned(),
    };
    recipients
        .iter()
        .map(|(address, verdict)| format!("{} {}", address.user(), word(verdict)))
        .collect()
}

fn refused(error: &SendError, stage: Stage, code: u16) {
    assert_eq!(error.stage, stage, "{error}");
    assert!(
        matches!(&*error.kind, SendErrorKind::Refused(reply) if reply.code == code),
        "{error}"
    );
}

#[tokio::test]
async fn one_refused_recipient_does_not_stop_the_others() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: RCPT TO:<c@example.net>
        C: RCPT TO:<d@example.net>
        C: BDAT *
        S: 250 ok
        S: 250 ok
        S: 550 5.1.1 unknown
        S: 452 4.2.2 full
        S: 250 2.0.0 queued as 7"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    let message = message_to(
        &["b@example.net", "c@example.net", "d@example.net"],
        b"x\r\n",
    );
    let receipt = pool.send(&message).await.unwrap();

    assert_eq!(
        codes(&receipt.recipients),
        ["b accepted 250", "c rejected 550", "d retry 452"]
    );
    assert_eq!(receipt.refused().count(), 2);
    assert_eq!(receipt.reply.text(), "queued as 7");
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn nobody_accepted_is_an_error_and_the_session_starts_afresh() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: BDAT *
        S: 250 ok
        S: 550 5.1.1 unknown
        S: 503 5.5.1 no recipients
        C: RSET
        C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: BDAT *
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 ok"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool.send(&message()).await.unwrap_err();
    refused(&error, Stage::RcptTo, 550);
    assert_eq!(codes(&error.recipients), ["b rejected 550"]);
    assert!(!error.is_transient());

    assert!(pool.send(&message()).await.is_ok());
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_refusal_of_the_message_is_every_recipient_s() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: RCPT TO:<c@example.net>
        C: BDAT *
        S: 250 2.1.0 Sender OK
        S: 250 2.1.5 Recipient OK
        S: 550 5.1.1 unknown
        S: 554 5.2.252 SendAsDenied; a not allowed to send as b"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool
        .send(&message_to(&["b@example.net", "c@example.net"], b"x\r\n"))
        .await
        .unwrap_err();

    refused(&error, Stage::Message, 554);
    assert_eq!(
        codes(&error.recipients),
        ["b rejected 554", "c rejected 550"]
    );
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_refused_sender_is_every_recipient_s_refusal() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: BDAT *
        S: 530 5.7.57 Client not authenticated to send mail.
        S: 503 5.5.2 Need mail command
        S: 503 5.5.2 Need mail command"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool.send(&message()).await.unwrap_err();

    refused(&error, Stage::MailFrom, 530);
    assert_eq!(codes(&error.recipients), ["b rejected 530"]);
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_verdict_lost_after_the_message_is_unknown_and_not_tried_again() {
    for (before, extensions, body) in [
        ("S: 250 ok\nS: 250 ok\n", ALL, "C: BDAT *\n"),
        ("", ALL, "C: BDAT *\n"),
        (
            "S: 250 ok\nS: 250 ok\nS: 354 go\n",
            "PIPELINING",
            "C: DATA\n",
        ),
    ] {
        let last = if extensions == ALL {
            ""
        } else {
            "C: [message]\n"
        };
        let server = Dialogue::new(&format!(
            "{}C: MAIL FROM:<a@example.org>\nC: RCPT TO:<b@example.net>\n{body}{before}{last}X:",
            session(extensions)
        ));
        let pool = server.pool(TlsMode::DangerPlaintext);

        let error = pool.send(&message()).await.unwrap_err();

        assert!(matches!(&*error.kind, SendErrorKind::Unknown(_)), "{error}");
        assert_eq!(codes(&error.recipients), ["b unknown"]);
        assert!(!error.is_transient(), "sending again may deliver it twice");
        drop(pool);
        assert_eq!(server.finish().await.len(), 1);
    }
}

#[tokio::test]
async fn a_recipient_refused_before_the_loss_stays_refused() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: RCPT TO:<c@example.net>
        C: BDAT *
        S: 250 ok
        S: 550 no
        X:"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool
        .send(&message_to(&["b@example.net", "c@example.net"], b"x\r\n"))
        .await
        .unwrap_err();

    assert_eq!(codes(&error.recipients), ["b rejected 550", "c unknown"]);
}

#[tokio::test]
async fn a_loss_before_the_last_octet_is_no_delivery() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        S: 250 ok
        S: 250 ok
        R: 100000
        X:"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool
        .send(&message_to(&["b@example.net"], &b"x\r\n".repeat(1_000_000)))
        .await
        .unwrap_err();

    assert!(matches!(&*error.kind, SendErrorKind::Lost(_)), "{error}");
    assert_eq!((error.stage, error.is_transient()), (Stage::Message, true));
}

#[tokio::test]
async fn a_verdict_before_the_last_octet_is_no_acceptance() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        S: 250 ok
        S: 250 ok
        R: 100000
        S: 250 ok
        S: 250 queued
        R: 1500000"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool
        .send(&message_to(&["b@example.net"], &b"x\r\n".repeat(600_000)))
        .await
        .unwrap_err();

    assert!(matches!(&*error.kind, SendErrorKind::Lost(_)), "{error}");
    assert_eq!(error.stage, Stage::Message);
}

#[tokio::test]
async fn all_or_nothing_sends_to_nobody_when_one_is_refused() {
    let envelope = "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: RCPT TO:<c@example.net>\n";
    let both = message_to(&["b@example.net", "c@example.net"], b"x\r\n").all_or_nothing();
    for (extensions, send) in [
        (ALL, "C: BDAT *\nS: 250 ok\n"),
        (
            "PIPELINING",
            "C: DATA\nS: 354 go\nC: [message]\nS: 250 ok\n",
        ),
    ] {
        let server = Dialogue::new(&format!(
            "{}{envelope}S: 250 ok\nS: 250 ok\nS: 450 4.2.1 busy\n\
             C: RSET\n{envelope}S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\n{send}",
            session(extensions)
        ));
        let pool = server.pool(TlsMode::DangerPlaintext);

        let error = pool.send(&both).await.unwrap_err();
        refused(&error, Stage::RcptTo, 450);
        assert_eq!(codes(&error.recipients), ["b retry 450", "c retry 450"]);

        assert!(pool.send(&both).await.unwrap().is_complete());
        drop(pool);
        server.finish().await;
    }
}

#[tokio::test]
async fn data_accepted_for_nobody_is_ended_by_a_lone_dot() {
    let server = Dialogue::new(
        &(session("PIPELINING")
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        C: DATA
        S: 250 ok
        S: 550 no
        S: 354 go
        C: .
        S: 554 no valid recipients"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);

    refused(
        &pool.send(&message()).await.unwrap_err(),
        Stage::RcptTo,
        550,
    );
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_its_reply() {
    let server = Dialogue::new(
        &(session("CHUNKING")
            + "C: MAIL FROM:<a@example.org>
        S: 250 ok
        C: RCPT TO:<b@example.net>
        S: 550 no
        C: RCPT TO:<c@example.net>
        S: 250 ok
        C: BDAT *
        S: 250 ok
        C: MAIL FROM:<a@example.org>
        S: 451 4.3.2 later
        C: RSET
        S: 250 ok
        C: MAIL FROM:<a@example.org>
        S: 250 ok
        C: RCPT TO:<b@example.net>
        S: 550 no
        C: RCPT TO:<c@example.net>
        S: 550 no"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);
    let both = message_to(&["b@example.net", "c@example.net"], b"x\r\n");

    assert_eq!(
        codes(&pool.send(&both).await.unwrap().recipients),
        ["b rejected 550", "c accepted 250"]
    );
    refused(&pool.send(&both).await.unwrap_err(), Stage::MailFrom, 451);
    refused(&pool.send(&both).await.unwrap_err(), Stage::RcptTo, 550);
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn what_the_message_needs_is_asked_for_before_it_is_sent() {
    let utf8 = message_to(&["jörg@example.net"], b"x\r\n");
    let eight_bit = message_to(&["b@example.net"], "a: b\r\n\r\nü\r\n".as_bytes());
    let large = message_to(&["b@example.net"], &b"x\r\n".repeat(50));
    let server =
        Dialogue::new(&session("PIPELINING").replace("S: 250-PIPELINING", "S: 250-SIZE 100"));
    let pool = server.pool(TlsMode::DangerPlaintext);
    for (message, words) in [
        (utf8, "does not offer SMTPUTF8"),
        (eight_bit, "does not offer 8BITMIME"),
        (large, "150 octets"),
    ] {
        let error = pool.send(&message).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    drop(pool);
    // The script ends after AUTH: not an octet was sent for them, and one session served all.
    assert_eq!(server.finish().await.len(), 1);
}

#[tokio::test]
async fn parameters_go_out_where_their_extension_is_offered() {
    let dsn = Dsn {
        recipients: vec![
            RecipientDsn {
                notify: Some([Notify::Failure, Notify::Delay].into()),
                orcpt: None,
            },
            RecipientDsn::default(),
            RecipientDsn {
                notify: Some([].into()),
                orcpt: Some("rfc822;list+2Bd@example.net".to_owned()),
            },
        ],
        ret: Some(Return::Headers),
        envid: Some("job+1".to_owned()),
    };
    let to = ["b@example.net", "c@example.net", "d@example.net"];
    let message = || message_to(&to, "a: b\r\n\r\nü\r\n".as_bytes()).with_dsn(dsn.clone());
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org> BODY=8BITMIME RET=HDRS ENVID=job+2B1
        C: RCPT TO:<b@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@example.net
        C: RCPT TO:<c@example.net>
        C: RCPT TO:<d@example.net> NOTIFY=NEVER ORCPT=rfc822;list+2Bd@example.net
        C: BDAT *
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 ok
        ---
        " + &session("PIPELINING 8BITMIME")
            + "C: MAIL FROM:<a@example.org> BODY=8BITMIME
        C: RCPT TO:<b@example.net>
        C: RCPT TO:<c@example.net>
        C: RCPT TO:<d@example.net>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: [message]
        S: 250 ok"),
    );
    for _ in 0..2 {
        server
            .pool(TlsMode::DangerPlaintext)
            .send(&message())
            .await
            .unwrap();
    }
    server.finish().await;
}

#[tokio::test]
async fn an_envelope_id_that_no_server_would_take_is_left_out() {
    for (envid, parameter) in [
        ("a".repeat(100), format!(" ENVID={}", "a".repeat(100))),
        ("a".repeat(101), String::new()),
        ("+".repeat(34), String::new()),
        ("é".to_owned(), String::new()),
        (String::new(), String::new()),
    ] {
        let server = Dialogue::new(&format!(
            "{}C: MAIL FROM:<a@example.org>{parameter}\nC: RCPT *\nC: BDAT *\n\
             S: 250 ok\nS: 250 ok\nS: 250 ok",
            session(ALL)
        ));
        let dsn = Dsn {
            envid: Some(envid),
            ..Dsn::default()
        };
        let pool = server.pool(TlsMode::DangerPlaintext);
        pool.send(&message().with_dsn(dsn)).await.unwrap();
        drop(pool);
        server.finish().await;
    }
}

#[tokio::test]
async fn a_large_message_waits_for_its_envelope_and_goes_in_chunks() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL FROM:<a@example.org>
        C: RCPT TO:<b@example.net>
        S: 250 ok
        S: 250 ok
        C: BDAT 1048576
        C: BDAT 1048576
        C: BDAT 902848 LAST
        S: 250 ok
        S: 250 ok
        S: 250 ok"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);
    let message = message_to(&["b@example.net"], &b"a line\r\n".repeat(375_000));

    pool.send(&message).await.unwrap();

    drop(pool);
    let heard = server.finish().await;
    assert!(
        heard[0].messages == [&**message.message().unwrap()],
        "not the same octets"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_refused_half_way_is_not_sent_to_its_end() {
    let large = message_to(&["b@example.net"], &b"a line\r\n".repeat(1_000_000));
    for (extensions, begin) in [
        (ALL, "S: 250 ok\nS: 250 ok\nR: 10\n"),
        (
            "PIPELINING",
            "C: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nR: 10\n",
        ),
    ] {
        let server = Dialogue::new(&format!(
            "{}C: MAIL FROM:<a@example.org>\nC: RCPT TO:<b@example.net>\n{begin}S: 552 5.3.4 too large\nW:\n\
             ---\n{}{ACCEPTED}",
            session(extensions),
            session(ALL)
        ));
        let pool = server.pool(TlsMode::DangerPlaintext);

        refused(&pool.send(&large).await.unwrap_err(), Stage::Message, 552);
        // The server still takes what comes for the message: that session is over.
        pool.send(&message()).await.unwrap();
        assert_eq!(server.opened.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn a_421_ends_the_session_whatever_it_answers() {
    let to_mail = "S: 421 4.3.2 Service not active\nX:\n";
    let to_rcpt = "S: 250 ok\nS: 421 4.3.2 Service not active\nX:\n";
    // This server says so and waits for the client to leave.
    let to_message = "S: 250 ok\nS: 250 ok\nS: 421 4.4.2 rate exceeded\n";
    for (replies, stage) in [
        (to_mail, Stage::MailFrom),
        (to_rcpt, Stage::RcptTo),
        (to_message, Stage::Message),
    ] {
        let server = Dialogue::new(&format!(
            "{}C: MAIL FROM:<a@example.org>\nC: RCPT TO:<b@example.net>\nC: BDAT *\n{replies}---\n{}{ACCEPTED}",
            session(ALL),
            session(ALL)
        ));
        let pool = server.pool(TlsMode::DangerPlaintext);

        let error = pool.send(&message()).await.unwrap_err();

        refused(&error, stage, 421);
        assert!(error.is_transient());
        assert_eq!(codes(&error.recipients), ["b retry 421"]);
        // Reported, not tried again: that is for whoever comes next, on a new connection.
        assert_eq!(server.opened.load(Ordering::Relaxed), 1);
        pool.send(&message()).await.unwrap();
        drop(pool);
        assert_eq!(server.finish().await.len(), 2);
    }
}

#[tokio::test]
async fn a_reply_that_makes_no_sense_is_no_acceptance() {
    let chunk = "C: BDAT *\n";
    for (extensions, chunk, replies, unknown) in [
        // Replies and commands are out of step, and the message has left.
        (ALL, chunk, "S: 354 go on", true),
        (ALL, chunk, "S: 250 ok\nS: 334 more", true),
        (ALL, chunk, "S: 250 ok\nS: 250 ok\nS: 251 hm", true),
        (ALL, chunk, "S: 250 ok\nS: 250 ok\nS: hello", true),
        ("PIPELINING", "C: DATA\n", "S: 250 ok\nS: 334 more", false),
        (
            "PIPELINING",
            "C: DATA\n",
            "S: 250 ok\nS: 250 ok\nS: 250 hm",
            false,
        ),
    ] {
        let server = Dialogue::new(&format!(
            "{}C: MAIL FROM:<a@example.org>\nC: RCPT TO:<b@example.net>\n{chunk}{replies}\n",
            session(extensions)
        ));
        let pool = server.pool(TlsMode::DangerPlaintext);

        let error = pool.send(&message()).await.unwrap_err();

        let is_unknown = matches!(&*error.kind, SendErrorKind::Unknown(_));
        assert_eq!(is_unknown, unknown, "{replies}: {error}");
    }
}

#[tokio::test]
async fn a_reset_that_fails_leaves_the_message_behind_it_unknown() {
    let server = Dialogue::new(
        &(session(ALL)
            + "C: MAIL *
        C: RCPT *
        C: BDAT *
        S: 250 ok
        S: 550 5.1.1 unknown
        S: 503 5.5.1 no recipients
        C: RSET
        C: MAIL *
        C: RCPT *
        C: BDAT *
        S: 502 5.5.1 not implemented
        S: 250 ok
        S: 250 ok
        S: 250 queued"),
    );
    let pool = server.pool(TlsMode::DangerPlaintext);
    pool.send(&message()).await.unwrap_err();

    let error = pool.send(&message()).await.unwrap_err();

    assert!(matches!(&*error.kind, SendErrorKind::Unknown(_)), "{error}");
    assert_eq!(codes(&error.recipients), ["b unknown"]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_trickles_does_not_renew_the_patience_with_it() {
    let trickle = "S: 250-hm\nP: 200\n".repeat(4);
    let server = Dialogue::new(&(session(ALL) + "C: MAIL *\nC: RCPT *\nC: BDAT *\n" + &trickle));
    let pool = server.pool(TlsMode::DangerPlaintext);
    let start = Instant::now();

    pool.send(&message()).await.unwrap_err();

    assert_eq!(start.elapsed(), Timeouts::default().mail);
}

#[tokio::test(start_paused = true)]
async fn each_step_has_its_own_patience() {
    let Timeouts {
        mail,
        rcpt,
        data_start,
        data_end,
        data_block,
        greeting,
        ..
    } = Timeouts::default();
    let body = "C: BDAT *\n";
    for (script, waited, stage) in [
        ("W:".to_owned(), greeting, Stage::Greeting),
        (session(ALL) + "C: MAIL *\nW:", mail, Stage::MailFrom),
        (
            session(ALL) + "C: MAIL *\nC: RCPT *\n" + body + "S: 250 ok\nW:",
            rcpt,
            Stage::Message,
        ),
        (
            session(ALL) + "C: MAIL *\nC: RCPT *\n" + body + "S: 250 ok\nS: 250 ok\nW:",
            data_end,
            Stage::Message,
        ),
        (
            session("PIPELINING") + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nW:",
            data_start,
            Stage::Data,
        ),
    ] {
        let unknown = stage == Stage::Message;
        let script = if stage == Stage::MailFrom {
            script.replace("CHUNKING", "X-NONE")
        } else {
            script
        };
        let server = Dialogue::new(&script);
        let pool = server.pool(TlsMode::DangerPlaintext);
        let start = Instant::now();

        let error = pool.send(&message()).await.unwrap_err();

        assert_eq!(error.stage, stage, "{error}");
        assert_eq!(
            matches!(&*error.kind, SendErrorKind::Unknown(_)),
            unknown,
            "{error}"
        );
        let elapsed = start.elapsed();
        assert!(
            elapsed >= waited && elapsed < waited + Duration::from_secs(1),
            "{elapsed:?} at {stage}"
        );
    }
    let server = Dialogue::new(&(session(ALL) + "C: MAIL *\nC: RCPT *\nS: 250 ok\nS: 250 ok\nW:"));
    let pool = server.pool(TlsMode::DangerPlaintext);
    let start = Instant::now();
    let error = pool
        .send(&message_to(&["b@example.net"], &b"x\r\n".repeat(1_000_000)))
        .await
        .unwrap_err();
    assert!(
        matches!(&*error.kind, SendErrorKind::Timeout(limit) if *limit == data_block),
        "{error}"
    );
    assert!(start.elapsed() >= data_block);
}
