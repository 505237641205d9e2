//! No TLS, no credentials; and TLS means a certificate that is right.

use std::sync::{Arc, atomic::Ordering};

use postrider_smtp::{SendError, SendErrorKind, TlsFailure, TlsMode};

use crate::{
    certificates::Certificates,
    support::{Dialogue, GREETING, Heard, STARTTLS_AND_AUTH, Tokens, message, message_to},
};

const OFFER: &str = "S: 250-mx.example\nS: 250-AUTH XOAUTH2\nS: 250 STARTTLS\nC: STARTTLS\n";

/// The error, and proof that nothing of a credential was asked for or sent.
async fn refused(server: Arc<Dialogue>, tls: TlsMode) -> (SendError, Vec<Heard>) {
    let tokens = Arc::new(Tokens::new("a", &["t1"]));
    let pool = server.pool_with(tls, Arc::clone(&tokens), 1);
    let error = pool.send(&message()).await.unwrap_err();
    drop(pool);
    assert_eq!(
        tokens.begun.load(Ordering::Relaxed),
        0,
        "a token was obtained for {error}"
    );
    let heard = server.finish().await;
    assert_eq!(heard.len(), 1, "tried again after {error}");
    for connection in &heard {
        let octets = connection.octets.to_ascii_uppercase();
        assert!(
            !octets.windows(4).any(|window| window == b"AUTH"),
            "{error}"
        );
    }
    (error, heard)
}

fn tls_failure(error: &SendError) -> &TlsFailure {
    match &*error.kind {
        SendErrorKind::Tls(failure) => failure,
        _ => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_server_that_drops_starttls_gets_nothing() {
    let server = Dialogue::new(&format!("{GREETING}S: 250-mx.example\nS: 250 AUTH XOAUTH2"));
    let (error, _) = refused(server, TlsMode::Starttls).await;
    assert!(
        matches!(&*error.kind, SendErrorKind::NotOffered("STARTTLS")),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_refuses_starttls_gets_nothing() {
    let server = Dialogue::new(&format!("{GREETING}{OFFER}S: 454 4.7.0 TLS not available"));
    let (error, _) = refused(server, TlsMode::Starttls).await;
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn words_behind_the_starttls_reply_are_fatal() {
    let server = Dialogue::new(&format!("{GREETING}{OFFER}S: 220 ready\nS: 250 AUTH PLAIN"));
    let (error, _) = refused(server, TlsMode::Starttls).await;
    assert!(
        matches!(&*error.kind, SendErrorKind::InjectedBeforeTls),
        "{error}"
    );
}

#[tokio::test]
async fn part_of_a_reply_behind_the_starttls_reply_is_fatal() {
    // A multiline reply whose end never comes in clear.
    let server = Dialogue::new(&format!("{GREETING}{OFFER}S: 220 ready\nS: 250-half"));
    let (error, _) = refused(server, TlsMode::Starttls).await;
    assert!(
        matches!(&*error.kind, SendErrorKind::InjectedBeforeTls),
        "{error}"
    );
}

#[tokio::test]
async fn what_was_offered_before_tls_is_forgotten() {
    let server = Dialogue::new(&format!(
        "{GREETING}{OFFER}S: 220 ready\nT:\nC: EHLO client.example\nS: 250 mx.example"
    ));
    let (error, _) = refused(server, TlsMode::Starttls).await;
    assert!(
        matches!(&*error.kind, SendErrorKind::NotOffered("AUTH")),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_in_so_many_words() {
    for (certificates, wanted) in [
        (
            Certificates::expired as fn() -> Certificates,
            "the server's certificate has expired",
        ),
        (
            Certificates::for_another_name,
            "the server's certificate is not for mx.example but for other.example",
        ),
        (
            Certificates::self_signed,
            "the server's certificate is not from an authority that is trusted here",
        ),
        (
            Certificates::authority_as_server,
            "the server presents an authority's own certificate: issue a server certificate from it",
        ),
    ] {
        let starttls = format!("{GREETING}{OFFER}S: 220 ready\nT:\nC: EHLO client.example");
        let (error, _) =
            refused(Dialogue::with(certificates(), &starttls), TlsMode::Starttls).await;
        assert_eq!(error.to_string(), format!("mx.example:587, TLS: {wanted}"));

        let (error, heard) = refused(
            Dialogue::with(certificates(), "T:\nS: 220 mx"),
            TlsMode::Implicit,
        )
        .await;
        assert!(error.to_string().ends_with(wanted), "{error}");
        assert!(heard[0].octets.is_empty());
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_not_spoken_to() {
    let server = Dialogue::new("S: 220 mx.example ESMTP in clear");
    let tokens = Arc::new(Tokens::new("a", &["t1"]));
    let pool = server.pool_with(TlsMode::Implicit, tokens, 1);
    let error = pool.send(&message()).await.unwrap_err();
    assert!(
        matches!(tls_failure(&error), TlsFailure::Other(_)),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_up_is_said_to_in_so_many_words() {
    const CLOSED: &str = "the server closed the connection";
    // Without TLS's farewell: before the message, after it, and in the handshake.
    let before = Dialogue::new(&format!("{STARTTLS_AND_AUTH}C: MAIL *\nX:"));
    let error = before
        .pool(TlsMode::Starttls)
        .send(&message_to(&["b@example.net"], &b"x\r\n".repeat(400_000)))
        .await;
    let error = error.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), CLOSED);

    let after = format!("{STARTTLS_AND_AUTH}C: MAIL *\nC: RCPT *\nC: BDAT *\nX:");
    let after = Dialogue::new(&after);
    let error = after.pool(TlsMode::Starttls).send(&message()).await;
    assert!(matches!(&*error.unwrap_err().kind, SendErrorKind::Unknown(why) if why == CLOSED));

    let handshake = Dialogue::new("X:");
    let error = handshake.pool(TlsMode::Implicit).send(&message()).await;
    assert_eq!(
        tls_failure(&error.unwrap_err()),
        &TlsFailure::Aborted(CLOSED.to_owned())
    );
}

#[tokio::test]
async fn plaintext_happens_only_by_its_dangerous_name() {
    // The same server, which offers everything in clear: only one mode takes it.
    let clear = format!("{GREETING}S: 250-mx.example\nS: 250 AUTH XOAUTH2\n");
    refused(Dialogue::new(&clear), TlsMode::Starttls).await;
    let server = Dialogue::new(&format!(
        "{clear}C: AUTH XOAUTH2 *\nS: 235 ok\nC: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\n\
         C: DATA\nS: 354 go\nC: [message]\nS: 250 ok"
    ));
    let pool = server.pool(TlsMode::DangerPlaintext);
    assert!(pool.send(&message()).await.is_ok());
}

#[tokio::test]
async fn neither_token_nor_response_shows_in_what_can_be_printed() {
    let script =
        STARTTLS_AND_AUTH.replace("S: 235 2.7.0 Authentication successful", "S: 535 5.7.3 no");
    let server = Dialogue::new(&script);
    let pool = server.pool(TlsMode::Starttls);
    let error = pool.send(&message()).await.unwrap_err();
    let shown = format!("{error} {error:?} {pool:?}");
    assert!(
        !shown.contains("t1") && !shown.contains("dXNlcj1h"),
        "{shown}"
    );
}
