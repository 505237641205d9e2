//! The server half against a client that writes octets, in memory and paused time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// Accepts everything, and writes down what it was asked.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    events: Vec<String>,
    messages: Vec<Submission>,
    before: VecDeque<Option<ServerReply>>,
    message_reply: Option<ServerReply>,
}

impl Recorder {
    fn event(&self, event: impl Into<String>) {
        self.0.lock().unwrap().events.push(event.into());
    }

    fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().events.clone()
    }

    fn messages(&self) -> Vec<Submission> {
        self.0.lock().unwrap().messages.clone()
    }
}

impl Handler for Recorder {
    async fn greeting(&mut self) -> ServerReply {
        ServerReply::new(220, "mx.example ESMTP")
    }

    async fn before(&mut self, _: &Command) -> Option<ServerReply> {
        self.0.lock().unwrap().before.pop_front().flatten()
    }

    fn hello(&mut self, name: &str) -> String {
        format!("mx.example greets {name}")
    }

    fn capabilities(&mut self, tls: bool) -> Vec<String> {
        let changing = if tls { "AUTH PLAIN" } else { "STARTTLS" };
        vec!["PIPELINING".into(), changing.into()]
    }

    fn secured(&mut self, tls: &rustls::ServerConnection) {
        self.event(format!("tls {:?}", tls.protocol_version().unwrap()));
    }

    async fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<Vec<u8>>,
        exchange: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        let secret = match initial {
            Some(secret) => secret,
            None => exchange.ask(b"?").await?,
        };
        self.event(format!("{mechanism} {}", secret.escape_ascii()));
        Ok(match secret.as_slice() {
            b"wrong" => ServerReply::new(535, "5.7.8 no"),
            _ => ServerReply::new(235, "2.7.0 yes"),
        })
    }

    async fn mail(&mut self, mail: &MailCommand) -> ServerReply {
        match mail.reverse_path.as_str() {
            "refused@b" => ServerReply::new(550, "5.1.0 no"),
            _ => ServerReply::new(250, "2.1.0 sender"),
        }
    }

    async fn rcpt(&mut self, rcpt: &RcptCommand) -> ServerReply {
        match rcpt.forward_path.as_str() {
            "refused@b" => ServerReply::new(550, "5.1.1 no"),
            _ => ServerReply::new(250, "2.1.5 recipient"),
        }
    }

    async fn message(&mut self, submission: Submission) -> ServerReply {
        let mut record = self.0.lock().unwrap();
        record.messages.push(submission);
        record
            .message_reply
            .clone()
            .unwrap_or(ServerReply::new(250, "2.0.0 stored"))
    }

    fn reset(&mut self) {
        self.event("reset");
    }
}

/// Everything the server says to `input` arriving at once, in clear, until it closes.
async fn says(limits: Limits, handler: Recorder, input: &[u8]) -> String {
    let (mut client, server) = duplex(1 << 20);
    let serving = tokio::spawn(serve(
        server,
        None,
        TlsPolicy::DangerPlaintext,
        handler,
        limits,
    ));
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    drop(client);
    serving.await.unwrap().unwrap();
    said
}

/// The codes only, one per reply.
fn codes(said: &str) -> Vec<u16> {
    said.lines()
        .filter(|line| line.as_bytes()[3] == b' ')
        .map(|line| line[..3].parse().unwrap())
        .collect()
}

async fn codes_for(limits: Limits, input: &[u8]) -> Vec<u16> {
    codes(&says(limits, Recorder::default(), input).await)
}

const OPEN: &str = "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";

#[tokio::test(start_paused = true)]
async fn a_message_arrives_as_it_was_before_dot_stuffing() {
    let handler = Recorder::default();
    let input = format!("{OPEN}DATA\r\n..x\r\ny\n.\nz\r\n.\r\nQUIT\r\n");
    let said = says(Limits::default(), handler.clone(), input.as_bytes()).await;
    assert_eq!(
        said,
        "220 mx.example ESMTP\r\n\
         250-mx.example greets a\r\n250-PIPELINING\r\n250 STARTTLS\r\n\
         250 2.1.0 sender\r\n250 2.1.5 recipient\r\n\
         354 Start mail input; end with <CRLF>.<CRLF>\r\n\
         250 2.0.0 stored\r\n\
         221 2.0.0 Closing connection\r\n"
    );
    let [message] = &handler.messages()[..] else {
        panic!("one message");
    };
    assert_eq!(message.octets, b".x\r\ny\n.\nz\r\n");
    assert_eq!(message.recipients[0].forward_path, "c@d");
    assert!(!message.chunked);
}

#[tokio::test(start_paused = true)]
async fn chunks_join_unchanged_and_dots_mean_nothing() {
    let handler = Recorder::default();
    let input =
        format!("{OPEN}BDAT 5\r\n.\r\n.\r BDAT 0\r\nBDAT 3 LAST\r\n\n.\r").replace("\r B", "\rB");
    let said = says(Limits::default(), handler.clone(), input.as_bytes()).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 250, 250, 250]);
    assert_eq!(handler.messages()[0].octets, b".\r\n.\r\n.\r");
    assert!(handler.messages()[0].chunked);
}

#[tokio::test(start_paused = true)]
async fn one_flight_is_answered_in_one_write() {
    let (mut client, server) = duplex(1 << 20);
    let writes = Arc::new(Mutex::new(0));
    let counted = Counted {
        stream: server,
        writes: writes.clone(),
    };
    let handler = Recorder::default();
    tokio::spawn(serve(
        counted,
        None,
        TlsPolicy::DangerPlaintext,
        handler,
        Limits::default(),
    ));
    read_reply(&mut client).await;
    client.write_all(b"EHLO a\r\n").await.unwrap();
    read_reply(&mut client).await;
    let before = *writes.lock().unwrap();
    let flight = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<refused@b>\r\nBDAT 3 LAST\r\na\r\n";
    client.write_all(flight).await.unwrap();
    let mut said = String::new();
    for _ in 0..4 {
        said += &read_reply(&mut client).await;
    }
    assert_eq!(codes(&said), [250, 250, 550, 250]);
    assert_eq!(*writes.lock().unwrap() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn commands_out_of_order_are_refused() {
    let table: [(&str, &[u16]); 14] = [
        ("MAIL FROM:<a@b>\r\n", &[503]),
        ("AUTH PLAIN =\r\n", &[503]),
        ("STARTTLS\r\n", &[503]),
        ("EHLO a\r\nRCPT TO:<c@d>\r\n", &[250, 503]),
        ("EHLO a\r\nDATA\r\n", &[250, 503]),
        ("EHLO a\r\nBDAT 4\r\nQUITBDAT 0 LAST\r\n", &[250, 503, 503]),
        (
            "EHLO a\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n",
            &[250, 250, 503],
        ),
        ("EHLO a\r\nMAIL FROM:<a@b>\r\nDATA\r\n", &[250, 250, 503]),
        (
            "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<refused@b>\r\nDATA\r\n",
            &[250, 250, 550, 503],
        ),
        (
            "EHLO a\r\nMAIL FROM:<refused@b>\r\nRCPT TO:<c@d>\r\n",
            &[250, 550, 503],
        ),
        (
            "EHLO a\r\nMAIL FROM:<a@b>\r\nAUTH PLAIN =\r\n",
            &[250, 250, 503],
        ),
        (
            "EHLO a\r\nMAIL FROM:<a@b>\r\nEHLO a\r\nRCPT TO:<c@d>\r\n",
            &[250, 250, 250, 503],
        ),
        (
            "EHLO a\r\nAUTH PLAIN =\r\nAUTH PLAIN =\r\n",
            &[250, 235, 503],
        ),
        (
            "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 1\r\naDATA\r\nRCPT TO:<c@d>\r\nBDAT 0 LAST\r\n",
            &[250, 250, 250, 250, 503, 503, 250],
        ),
    ];
    for (input, wanted) in table {
        let wanted: Vec<u16> = [&[220], wanted].concat();
        assert_eq!(
            codes_for(Limits::default(), input.as_bytes()).await,
            wanted,
            "{input}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_used_as_its_standard_says_or_not_at_all() {
    let table: [(&str, u16); 6] = [
        ("EHLO a\r\nMAIL FROM:<\u{e4}@b>\r\n", 553),
        ("EHLO a\r\nMAIL FROM:<\u{e4}@b> SMTPUTF8\r\n", 250),
        ("EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<\u{e4}@b>\r\n", 553),
        ("EHLO a\r\nMAIL FROM:<a@b> SIZE=157286401\r\n", 552),
        ("EHLO a\r\nMAIL FROM:<a@b> HOLDFOR=1\r\n", 555),
        (
            "EHLO a\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nDATA\r\n",
            503,
        ),
    ];
    for (input, wanted) in table {
        let said = codes_for(Limits::default(), input.as_bytes()).await;
        assert_eq!(said.last(), Some(&wanted), "{input}");
    }
}

#[tokio::test(start_paused = true)]
async fn auth_takes_an_initial_response_a_challenge_or_a_cancel() {
    let table: [(&str, &[u16], &[&str]); 8] = [
        ("AUTH PLAIN YWI=\r\n", &[235], &["PLAIN ab"]),
        ("AUTH PLAIN =\r\n", &[235], &["PLAIN "]),
        ("auth plain\r\nYWI=\r\n", &[334, 235], &["PLAIN ab"]),
        ("AUTH PLAIN\r\n\r\n", &[334, 235], &["PLAIN "]),
        ("AUTH PLAIN\r\n*\r\n", &[334, 501], &[]),
        ("AUTH PLAIN\r\n%%\r\n", &[334, 501], &[]),
        ("AUTH PLAIN %%\r\n", &[501], &[]),
        (
            "AUTH PLAIN d3Jvbmc=\r\nAUTH PLAIN YWI=\r\n",
            &[535, 235],
            &["PLAIN wrong", "PLAIN ab"],
        ),
    ];
    for (input, wanted, events) in table {
        let handler = Recorder::default();
        let said = says(
            Limits::default(),
            handler.clone(),
            format!("EHLO a\r\n{input}").as_bytes(),
        )
        .await;
        assert_eq!(codes(&said)[2..], *wanted, "{input}");
        assert_eq!(handler.events(), events, "{input}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_auth_line_fits_and_one_more_octet_does_not() {
    let response = "A".repeat(12288 - "AUTH PLAI \r\n".len());
    let fits = format!("EHLO a\r\nAUTH PLAI {response}\r\n");
    assert_eq!(
        codes_for(Limits::default(), fits.as_bytes()).await,
        [220, 250, 235]
    );
    let over = format!("EHLO a\r\nAUTH PLAIN {response}\r\nNOOP\r\n");
    assert_eq!(
        codes_for(Limits::default(), over.as_bytes()).await,
        [220, 250, 500, 250]
    );
    let over = format!("EHLO a\r\nAUTH PLAIN\r\n{}\r\nNOOP\r\n", "A".repeat(12288));
    assert_eq!(
        codes_for(Limits::default(), over.as_bytes()).await,
        [220, 250, 334, 500, 250]
    );
    let over = format!("NOOP {}\r\nNOOP\r\n", "A".repeat(2048));
    assert_eq!(
        codes_for(Limits::default(), over.as_bytes()).await,
        [220, 500, 250]
    );
}

#[tokio::test(start_paused = true)]
async fn a_line_feed_alone_ends_the_connection() {
    let said = codes_for(Limits::default(), b"EHLO a\nMAIL FROM:<a@b>\r\n").await;
    assert_eq!(said, [220, 500]);
}

#[tokio::test(start_paused = true)]
async fn bad_commands_and_endless_commands_end_the_connection() {
    let limits = || Limits {
        bad_commands: 3,
        commands: 6,
        ..Limits::default()
    };
    assert_eq!(
        codes_for(limits(), "X\r\n".repeat(9).as_bytes()).await,
        [220, 500, 500, 500, 500, 421]
    );
    assert_eq!(
        codes_for(limits(), "NOOP\r\n".repeat(9).as_bytes()).await,
        [220, 250, 250, 250, 250, 250, 250, 421]
    );
    let message = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 0 LAST\r\n".repeat(5);
    let said = codes_for(limits(), format!("EHLO a\r\n{message}").as_bytes()).await;
    assert_eq!(
        said.iter().filter(|code| **code == 421).count(),
        0,
        "messages renew the allowance"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_too_large_is_refused_and_the_session_lives() {
    let limits = || Limits {
        message_octets: 10,
        discard_octets: 100,
        ..Limits::default()
    };
    let table: [(String, &[u16]); 5] = [
        (
            format!("DATA\r\n{}\r\n.\r\nNOOP\r\n", "a".repeat(8)),
            &[354, 250, 250],
        ),
        (
            format!("DATA\r\n{}\r\n.\r\nNOOP\r\n", "a".repeat(9)),
            &[354, 552, 250],
        ),
        (
            format!("DATA\r\n{}\r\n.\r\nNOOP\r\n", "a".repeat(100_000)),
            &[354, 552],
        ),
        (
            format!("BDAT 11 LAST\r\n{}NOOP\r\n", "a".repeat(11)),
            &[552, 250],
        ),
        (
            format!(
                "BDAT 6\r\n{0}BDAT 6\r\n{0}BDAT 0 LAST\r\nNOOP\r\n",
                "a".repeat(6)
            ),
            &[250, 552, 503, 250],
        ),
    ];
    for (input, wanted) in table {
        let said = codes_for(limits(), format!("{OPEN}{input}").as_bytes()).await;
        assert_eq!(said[4..], *wanted, "{input}");
    }
    let said = codes_for(
        limits(),
        format!("{OPEN}BDAT 18446744073709551615\r\nNOOP\r\n").as_bytes(),
    )
    .await;
    assert_eq!(said[4..], [552], "nobody reads that much");
}

#[tokio::test(start_paused = true)]
async fn one_recipient_too_many_is_refused_alone() {
    let limits = Limits {
        recipients: 1,
        ..Limits::default()
    };
    let said = codes_for(
        limits,
        format!("{OPEN}RCPT TO:<e@f>\r\nBDAT 0 LAST\r\n").as_bytes(),
    )
    .await;
    assert_eq!(said[4..], [452, 250]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_hears_421() {
    for (input, after) in [
        ("EHLO", 300),
        ("EHLO a\r\nMAIL FROM:<a@b>\r\n", 300),
        ("EHLO a\r\nAUTH PLAIN\r\n", 300),
    ] {
        let (mut client, server) = duplex(1 << 20);
        let begun = tokio::time::Instant::now();
        tokio::spawn(serve(
            server,
            None,
            TlsPolicy::DangerPlaintext,
            Recorder::default(),
            Limits::default(),
        ));
        client.write_all(input.as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
        assert_eq!(begun.elapsed().as_secs(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_trickles_in_gets_no_more_time_than_one_that_stops() {
    let (client, server) = duplex(1 << 20);
    let (mut reading, mut writing) = tokio::io::split(client);
    let begun = tokio::time::Instant::now();
    tokio::spawn(serve(
        server,
        None,
        TlsPolicy::DangerPlaintext,
        Recorder::default(),
        Limits::default(),
    ));
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"A").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    let mut said = String::new();
    reading.read_to_string(&mut said).await.unwrap();
    assert_eq!(codes(&said), [220, 421]);
    assert_eq!(begun.elapsed().as_secs(), 300);
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_step_in_before_a_command() {
    let handler = Recorder::default();
    handler.0.lock().unwrap().before = [
        None,
        None,
        None,
        Some(ServerReply::new(451, "4.3.2 later")),
        Some(ServerReply::new(421, "4.3.2 bye").closing()),
    ]
    .into();
    let input = format!("{OPEN}BDAT 6 LAST\r\nQUIT\r\nNOOP\r\nNOOP\r\n");
    let said = says(Limits::default(), handler.clone(), input.as_bytes()).await;
    assert_eq!(
        codes(&said),
        [220, 250, 250, 250, 451, 421],
        "the chunk's octets are no command"
    );
    assert!(handler.messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_vanish_after_the_body() {
    let handler = Recorder::default();
    handler.0.lock().unwrap().message_reply = Some(ServerReply::vanish());
    let input = format!("{OPEN}DATA\r\na\r\n.\r\nNOOP\r\n");
    let said = says(Limits::default(), handler.clone(), input.as_bytes()).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 354]);
    assert_eq!(handler.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_follows_starttls_in_clear_is_never_used() {
    let tls = Tls::new();
    let handler = Recorder::default();
    let (mut client, server) = duplex(1 << 20);
    let serving = serve(
        server,
        Some(tls.acceptor),
        TlsPolicy::Starttls,
        handler.clone(),
        Limits::default(),
    );
    let serving = tokio::spawn(serving);
    client
        .write_all(b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<evil@b>\r\n")
        .await
        .unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    drop(client);
    serving.await.unwrap().unwrap();
    assert_eq!(codes(&said), [220, 250, 503]);
    assert!(handler.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tls_starts_the_session_anew_and_allows_auth() {
    let tls = Tls::new();
    let handler = Recorder::default();
    let (mut client, server) = duplex(1 << 20);
    let serving = serve(
        server,
        Some(tls.acceptor),
        TlsPolicy::Starttls,
        handler.clone(),
        Limits::default(),
    );
    let serving = tokio::spawn(serving);
    assert_eq!(codes(&read_reply(&mut client).await), [220]);
    for (command, code) in [
        ("EHLO a", 250),
        ("AUTH PLAIN YWI=", 538),
        ("MAIL FROM:<a@b>", 250),
        ("STARTTLS", 220),
    ] {
        assert_eq!(ask(&mut client, command).await, code, "{command}");
    }
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let mut client = tls.connector.connect(name, client).await.unwrap();
    for (command, code) in [
        ("RCPT TO:<c@d>", 503),
        ("MAIL FROM:<a@b>", 503),
        ("EHLO a", 250),
        ("RCPT TO:<c@d>", 503),
        ("STARTTLS", 503),
        ("AUTH PLAIN YWI=", 235),
        ("QUIT", 221),
    ] {
        assert_eq!(ask(&mut client, command).await, code, "{command}");
    }
    drop(client);
    serving.await.unwrap().unwrap();
    assert_eq!(handler.events(), ["reset", "tls TLSv1_3", "PLAIN ab"]);
}

#[tokio::test(start_paused = true)]
async fn implicit_tls_greets_inside_and_offers_no_more() {
    let tls = Tls::new();
    let (client, server) = duplex(1 << 20);
    tokio::spawn(serve(
        server,
        Some(tls.acceptor),
        TlsPolicy::Implicit,
        Recorder::default(),
        Limits::default(),
    ));
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let mut client = tls.connector.connect(name, client).await.unwrap();
    assert_eq!(codes(&read_reply(&mut client).await), [220]);
    client.write_all(b"EHLO a\r\n").await.unwrap();
    let hello = read_reply(&mut client).await;
    assert!(
        hello.contains("AUTH PLAIN") && !hello.contains("STARTTLS"),
        "{hello}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_nobody_authenticates() {
    let (mut client, server) = duplex(1 << 20);
    tokio::spawn(serve(
        server,
        None,
        TlsPolicy::Starttls,
        Recorder::default(),
        Limits::default(),
    ));
    read_reply(&mut client).await;
    assert_eq!(ask(&mut client, "EHLO a").await, 250);
    assert_eq!(ask(&mut client, "STARTTLS").await, 502);
    assert_eq!(ask(&mut client, "AUTH PLAIN YWI=").await, 538);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_or_hangs(
        pieces in proptest::collection::vec(
            prop_oneof![
                "(EHLO a|MAIL FROM:<a@b>|RCPT TO:<c@d>|DATA|BDAT 3|BDAT 4 LAST|AUTH PLAIN|STARTTLS|RSET|\\.|QUI)".prop_map(|line| (line + "\r\n").into_bytes()),
                proptest::collection::vec(any::<u8>(), 0..20),
            ],
            0..30,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let said = runtime.block_on(says_lossy(&pieces.concat()));
        prop_assert!(said.starts_with(b"220 "));
    }
}

async fn says_lossy(input: &[u8]) -> Vec<u8> {
    let (mut client, server) = duplex(1 << 20);
    let limits = Limits {
        message_octets: 64,
        discard_octets: 64,
        ..Limits::default()
    };
    let serving = tokio::spawn(serve(
        server,
        None,
        TlsPolicy::DangerPlaintext,
        Recorder::default(),
        limits,
    ));
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    drop(client);
    serving.await.unwrap().unwrap();
    said
}

/// One whole reply.
async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut reply = String::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        reply.push_str(std::str::from_utf8(&line).unwrap());
        if line[3] == b' ' {
            return reply;
        }
    }
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str) -> u16 {
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    codes(&read_reply(stream).await)[0]
}

/// A throw-away certificate for `localhost`, and a client that trusts it.
struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key =
            rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
        }
    }
}

/// Counts the writes that reach a stream.
struct Counted {
    stream: DuplexStream,
    writes: Arc<Mutex<usize>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        *self.writes.lock().unwrap() += 1;
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
