//! What a log at its most talkative shows of a session, and what it never shows.

use std::{
    io,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use futures_util::future::{BoxFuture, FutureExt};
use postrider_smtp::{
    Authenticator, Pool, PoolLimits, SaslError, SaslExchange, ServerSettings, TlsMode,
};

use crate::support::{Dialogue, STARTTLS_AND_AUTH, Tokens, message_to};

const TOKEN: &str = "eyJ0b2tlbg-of-the-night";
const PASSWORD: &str = "correct horse battery";
const BODY: &str = "for nobody but the reader";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn at_trace(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

/// `LOGIN`, by two challenges.
struct Login(Vec<&'static str>);

impl Authenticator for Login {
    fn begin<'a>(
        &'a self,
        _: &'a [String],
        _: &'a str,
        _: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        async { Ok(Box::new(Login(self.0.clone())) as Box<dyn SaslExchange>) }.boxed()
    }

    fn rejected(&self, _: u64) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

impl SaslExchange for Login {
    fn mechanism(&self) -> &'static str {
        "LOGIN"
    }

    fn initial_response(&self) -> Option<Vec<u8>> {
        None
    }

    fn generation(&self) -> u64 {
        1
    }

    fn respond<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SaslError>> {
        async { Ok(self.0.remove(0).as_bytes().to_vec()) }.boxed()
    }
}

fn none_of(text: &str, secrets: &[&str]) {
    for secret in secrets {
        for shown in [(*secret).to_owned(), BASE64.encode(secret)] {
            assert!(!text.contains(&shown), "{shown} in\n{text}");
        }
    }
}

#[tokio::test]
async fn the_log_has_the_dialogue_but_no_token_and_no_message() {
    let initial = |token: &str| BASE64.encode(format!("user=a\x01auth=Bearer {token}\x01\x01"));
    let explained = BASE64.encode(r#"{"status":"the challenge"}"#);
    let (hello, _) = STARTTLS_AND_AUTH.split_once("C: AUTH").unwrap();
    let first = initial(TOKEN);
    let server = Dialogue::new(&format!(
        "{hello}C: AUTH XOAUTH2 *\nS: 334 {explained}\nC:\nS: 535 5.7.3 no: {first}\n---\n\
         {hello}C: AUTH XOAUTH2 *\nS: 235 2.7.0 welcome\n\
         C: MAIL *\nC: RCPT *\nC: BDAT *\nS: 250 2.1.0 ok\nS: 250 2.1.5 ok\nS: 250 2.0.0 queued\n\
         C: QUIT\nS: 221 bye"
    ));
    let log = Log::default();
    let guard = log.at_trace();
    let other = "the-second-token";
    let tokens = Arc::new(Tokens::new("a", &[TOKEN, other]));
    let pool = server.pool_with(TlsMode::Starttls, tokens, 1);
    let body = format!("Subject: x\r\n\r\n{BODY}\r\n");
    pool.send(&message_to(&["b@example.net"], body.as_bytes()))
        .await
        .unwrap();
    pool.close().await;
    drop(guard);
    server.finish().await;

    let text = log.text();
    for wanted in [
        "connected",
        "TLS 1.3",
        "EHLO client.example",
        "8BITMIME",
        "XOAUTH2",
        "535 5.7.3 no: …",
        "235 2.7.0 welcome",
        "MAIL FROM:<a@example.org>",
        "RCPT TO:<b@example.net>",
        &format!("BDAT {} LAST", body.len()),
        "queued",
        "QUIT",
    ] {
        assert!(text.contains(wanted), "no {wanted} in\n{text}");
    }
    none_of(&text, &[TOKEN, other, BODY, "Subject", "the challenge"]);
    assert!(!text.contains(&first) && !text.contains(&initial(other)));
    assert!(!text.contains(&explained), "{text}");
}

#[tokio::test]
async fn the_log_has_no_password_and_no_dot_stuffed_message() {
    let (user, password) = (BASE64.encode("a user"), BASE64.encode(PASSWORD));
    let server = Dialogue::new(&format!(
        "S: 220 mx\nC: EHLO client.example\nS: 250-mx\nS: 250 AUTH LOGIN\n\
         C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: {user}\nS: 334 UGFzc3dvcmQ6\nC: {password}\n\
         S: 235 ok\nC: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\n\
         C: [message]\nS: 250 kept"
    ));
    let log = Log::default();
    let guard = log.at_trace();
    let settings: ServerSettings = server.settings(TlsMode::DangerPlaintext);
    let pool = Pool::with_connector(
        settings,
        Arc::new(Login(vec!["a user", PASSWORD])),
        PoolLimits::default(),
        Arc::new(Arc::clone(&server).connector()),
    );
    pool.send(&message_to(&["b@example.net"], BODY.as_bytes()))
        .await
        .unwrap();
    drop((pool, guard));
    server.finish().await;

    let text = log.text();
    for wanted in ["LOGIN", "235 ok", "DATA", "354", "kept"] {
        assert!(text.contains(wanted), "no {wanted} in\n{text}");
    }
    none_of(&text, &[PASSWORD, "a user", BODY, "Username:", "Password:"]);
}
