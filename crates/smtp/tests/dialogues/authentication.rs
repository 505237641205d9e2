//! How an account signs in, and what a refusal means.

use std::sync::{Arc, atomic::Ordering};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use postrider_smtp::{SendErrorKind, Stage, TlsMode};

use crate::support::{Dialogue, GREETING, Tokens, message};

const HELLO: &str = "S: 250-mx.example\nS: 250-PIPELINING\nS: 250-CHUNKING\nS: 250 AUTH XOAUTH2\n";
const MESSAGE: &str = "C: MAIL *\nC: RCPT *\nC: BDAT *\nS: 250 ok\nS: 250 ok\nS: 250 ok\n";

fn response(token: &str) -> String {
    BASE64.encode(format!("user=a\x01auth=Bearer {token}\x01\x01"))
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_if_there_is_another() {
    let (old, new) = (response("old"), response("new"));
    let server = Dialogue::new(&format!(
        "{GREETING}{HELLO}C: AUTH XOAUTH2 {old}\nS: 535 5.7.3 Authentication unsuccessful\n---\n\
         {GREETING}{HELLO}C: AUTH XOAUTH2 {new}\nS: 235 ok\n{MESSAGE}"
    ));
    let tokens = Arc::new(Tokens::new("a", &["old", "new"]));
    let pool = server.pool_with(TlsMode::DangerPlaintext, tokens, 1);

    pool.send(&message()).await.unwrap();

    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_refused_token_that_is_the_newest_is_not_tried_again() {
    let server = Dialogue::new(&format!(
        "{GREETING}{HELLO}C: AUTH XOAUTH2 *\nS: 535 5.7.3 Authentication unsuccessful"
    ));
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool.send(&message()).await.unwrap_err();

    assert_eq!(error.stage, Stage::Auth);
    assert_eq!(
        error.to_string(),
        "mx.example:587, AUTH: XOAUTH2 refused: 535 5.7.3 Authentication unsuccessful"
    );
    assert!(!error.is_transient());
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn the_second_refusal_is_final() {
    let refused = format!("{GREETING}{HELLO}C: AUTH XOAUTH2 *\nS: 535 5.7.3 no\n");
    let server = Dialogue::new(&format!("{refused}---\n{refused}"));
    let tokens = Arc::new(Tokens::new("a", &["one", "two", "three"]));
    let pool = server.pool_with(TlsMode::DangerPlaintext, tokens, 1);

    assert!(pool.send(&message()).await.is_err());
    drop(pool);
    assert_eq!(server.finish().await.len(), 2);
}

#[tokio::test]
async fn a_temporary_refusal_keeps_the_token() {
    let server = Dialogue::new(&format!(
        "{GREETING}{HELLO}C: AUTH XOAUTH2 *\nS: 454 4.7.0 try later"
    ));
    let tokens = Arc::new(Tokens::new("a", &["one", "two"]));
    let pool = server.pool_with(TlsMode::DangerPlaintext, Arc::clone(&tokens), 1);

    let error = pool.send(&message()).await.unwrap_err();

    assert!(error.is_transient(), "{error}");
    assert_eq!(tokens.begun.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_explained_refusal_is_acknowledged_and_the_explanation_kept() {
    let json = r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#;
    let challenge = BASE64.encode(json);
    let server = Dialogue::new(&format!(
        "{GREETING}{HELLO}C: AUTH XOAUTH2 *\nS: 334 {challenge}\nC:\nS: 535 5.7.8 not accepted"
    ));
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool.send(&message()).await.unwrap_err();

    let SendErrorKind::Auth {
        challenge, reply, ..
    } = &*error.kind
    else {
        panic!("{error}")
    };
    assert_eq!((challenge.as_deref(), reply.code), (Some(json), 535));
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn a_long_token_waits_for_the_server_s_go_ahead() {
    let token = "x".repeat(2_500);
    let server = Dialogue::new(&format!(
        "{GREETING}{HELLO}C: AUTH XOAUTH2\nS: 334\nC: {}\nS: 235 ok\n{MESSAGE}",
        response(&token)
    ));
    let pool = server.pool_with(
        TlsMode::DangerPlaintext,
        Arc::new(Tokens::new("a", &[&token])),
        1,
    );

    pool.send(&message()).await.unwrap();
    drop(pool);
    server.finish().await;
}

#[tokio::test]
async fn credentials_that_the_server_repeats_are_not_passed_on() {
    let secret = response("t1");
    for echo in [&secret[..], &secret[..20]] {
        let server = Dialogue::new(&format!(
            "{GREETING}{HELLO}C: AUTH XOAUTH2 *\nS: 500 5.5.2 Unrecognized command 'AUTH XOAUTH2 {echo}'"
        ));
        let pool = server.pool(TlsMode::DangerPlaintext);

        let error = pool.send(&message()).await.unwrap_err();

        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(echo) && shown.contains('…'), "{shown}");
    }
}

#[tokio::test]
async fn credentials_in_a_challenge_are_not_passed_on() {
    for answer in ["S: 334 what is /", "S: 334\nC:\nS: 334 what is /"] {
        let token = "t";
        let secret = response(token);
        let server = Dialogue::new(&format!(
            "{GREETING}{HELLO}C: AUTH XOAUTH2 *\n{}",
            answer.replace('/', &secret)
        ));
        let pool = server.pool_with(
            TlsMode::DangerPlaintext,
            Arc::new(Tokens::new("a", &[token])),
            1,
        );

        let error = pool.send(&message()).await.unwrap_err();

        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&secret) && shown.contains('…'), "{shown}");
    }
}

#[tokio::test]
async fn a_server_without_auth_gets_no_credentials() {
    let server = Dialogue::new(&format!("{GREETING}S: 250-mx.example\nS: 250 PIPELINING"));
    let tokens = Arc::new(Tokens::new("a", &["one"]));
    let pool = server.pool_with(TlsMode::DangerPlaintext, Arc::clone(&tokens), 1);

    let error = pool.send(&message()).await.unwrap_err();

    assert!(
        matches!(&*error.kind, SendErrorKind::NotOffered("AUTH")),
        "{error}"
    );
    assert_eq!(tokens.begun.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_server_that_keeps_asking_is_given_up() {
    let server = Dialogue::new(&format!(
        "{GREETING}{HELLO}C: AUTH XOAUTH2 *\nS: 334\nLOOP:\nC:\nS: 334"
    ));
    let pool = server.pool(TlsMode::DangerPlaintext);

    let error = pool.send(&message()).await.unwrap_err();

    assert!(
        matches!(&*error.kind, SendErrorKind::Unexpected(reply) if reply.code == 334),
        "{error}"
    );
}
