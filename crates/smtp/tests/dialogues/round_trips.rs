//! How often the client waits for the server.

use std::sync::atomic::Ordering;

use postrider_smtp::TlsMode;

use crate::support::{Dialogue, STARTTLS_AND_AUTH, message, message_to};

const FAST: &str = "C: MAIL FROM:<a@example.org> SIZE=23
C: RCPT TO:<b@example.net>
C: BDAT 23 LAST
S: 250 2.1.0 Sender OK
S: 250 2.1.5 Recipient OK
S: 250 2.0.0 OK <1@example.org> [Hostname=x]
";

#[tokio::test]
async fn a_new_starttls_session_with_one_message_takes_eight_round_trips_with_quit() {
    let server = Dialogue::new(&format!(
        "{STARTTLS_AND_AUTH}{FAST}C: QUIT\nS: 221 2.0.0 bye"
    ));
    let pool = server.pool(TlsMode::Starttls);

    let receipt = pool.send(&message()).await.unwrap();
    pool.close().await;

    assert!(receipt.is_complete());
    assert_eq!(receipt.reply.code, 250);
    drop(pool);
    let heard = server.finish().await;
    assert_eq!(heard[0].round_trips, 8);
    assert_eq!(heard[0].messages, [b"Subject: x\r\n\r\n.\r\nbody\r\n"]);
}

#[tokio::test]
async fn a_new_implicit_tls_session_with_one_message_takes_six_with_quit() {
    let server = Dialogue::new(&format!(
        "T:
         S: 220 mx.example
         C: EHLO client.example
         S: 250-mx.example
         S: 250-PIPELINING
         S: 250-SIZE
         S: 250-CHUNKING
         S: 250 AUTH XOAUTH2
         C: AUTH XOAUTH2 *
         S: 235 ok
         {FAST}
         C: QUIT
         S: 221 bye"
    ));
    let pool = server.pool(TlsMode::Implicit);

    pool.send(&message()).await.unwrap();
    pool.close().await;

    drop(pool);
    assert_eq!(server.finish().await[0].round_trips, 6);
}

#[tokio::test]
async fn a_message_on_an_established_session_takes_one_round_trip_and_one_write() {
    let server = Dialogue::new(&format!("{STARTTLS_AND_AUTH}{FAST}{FAST}{FAST}"));
    let pool = server.pool(TlsMode::Starttls);
    pool.send(&message()).await.unwrap();

    let before = server.writes.load(Ordering::Relaxed);
    pool.send(&message()).await.unwrap();
    pool.send(&message()).await.unwrap();

    assert_eq!(server.writes.load(Ordering::Relaxed) - before, 2);
    drop(pool);
    let heard = server.finish().await;
    assert_eq!(heard[0].round_trips, 7 + 2);
    assert_eq!(heard[0].messages.len(), 3);
}

#[tokio::test]
async fn pipelined_data_takes_two_round_trips_and_two_writes() {
    let message_dialogue = "C: MAIL FROM:<a@example.org>
         C: RCPT TO:<b@example.net>
         C: RCPT TO:<c@example.net>
         C: DATA
         S: 250 ok
         S: 250 ok
         S: 250 ok
         S: 354 go on
         C: [message]
         S: 250 taken\n";
    let server = Dialogue::new(&format!(
        "S: 220 mx
         C: EHLO client.example
         S: 250-mx
         S: 250-AUTH XOAUTH2
         S: 250 PIPELINING
         C: AUTH XOAUTH2 *
         S: 235 ok
         {message_dialogue}{message_dialogue}"
    ));
    let pool = server.pool(TlsMode::DangerPlaintext);
    let message = message_to(
        &["b@example.net", "c@example.net"],
        b"a: b\r\n\r\n.\r\n..\r\n.x\r\n",
    );
    pool.send(&message).await.unwrap();

    let before = server.writes.load(Ordering::Relaxed);
    pool.send(&message).await.unwrap();

    assert_eq!(server.writes.load(Ordering::Relaxed) - before, 2);
    drop(pool);
    let heard = server.finish().await;
    assert_eq!(heard[0].round_trips, 3 + 2 + 2);
    assert_eq!(*heard[0].messages[1], **message.message().unwrap());
}

#[tokio::test]
async fn every_handshake_step_is_one_write() {
    let server = Dialogue::new(&format!("{STARTTLS_AND_AUTH}{FAST}"));
    let pool = server.pool(TlsMode::Starttls);

    pool.send(&message()).await.unwrap();

    // EHLO, STARTTLS, ClientHello, Finished, EHLO, AUTH, the message.
    assert!(
        server.writes.load(Ordering::Relaxed) <= 7,
        "{:?}",
        server.writes
    );
    drop(pool);
    server.finish().await;
}
