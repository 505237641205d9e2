//! Commands, replies and messages.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_message_arrives_as_it_was_before_dot_stuffing() {
    let handler = Recorder::default();
    let input = format!("{OPEN}DATA\r\n..x\r\n.y\r\nz\r\n.\r\nQUIT\r\n");
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
    assert_eq!(message.body, b".x\r\ny\r\nz\r\n");
    assert_eq!(message.recipients[0].forward_path, "c@d");
    assert!(!message.chunked);
}

#[tokio::test(start_paused = true)]
async fn chunks_join_unchanged_and_dots_mean_nothing() {
    let handler = Recorder::default();
    let input =
        format!("{OPEN}BDAT 4\r\n.\r\n.BDAT 0\r\nBDAT 4 LAST\r\n\r\n.\n").replace(".\n", ".x");
    let said = says(Limits::default(), handler.clone(), input.as_bytes()).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 250, 250, 250]);
    assert_eq!(handler.messages()[0].body, b".\r\n.\r\n.x");
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
        Quirks::default(),
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
        ("EHLO a\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\n", 555),
    ];
    for (input, wanted) in table {
        let said = codes_for(Limits::default(), input.as_bytes()).await;
        assert_eq!(said.last(), Some(&wanted), "{input}");
    }
}

#[tokio::test(start_paused = true)]
async fn binary_messages_are_taken_where_they_are_offered_and_by_bdat_only() {
    let handler = Recorder::default();
    handler.0.lock().unwrap().binary = true;
    let input = "EHLO a\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nDATA\r\n\
                 BDAT 5 LAST\r\n\n\0\r.\nHELO a\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\n";
    let said = says(Limits::default(), handler.clone(), input.as_bytes()).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 503, 250, 250, 555]);
    assert_eq!(handler.messages()[0].body, b"\n\0\r.\n");
}

#[tokio::test(start_paused = true)]
async fn the_handler_hears_what_the_client_wants_to_be_told() {
    let input = "EHLO a\r\nMAIL FROM:<a@b> RET=HDRS ENVID=x+2By SIZE=100 BODY=8BITMIME SMTPUTF8\r\n\
                 RCPT TO:<c@d> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;e+40f\r\nRCPT TO:<g@h> NOTIFY=NEVER\r\n\
                 DATA\r\nx\r\n.\r\n";
    let (_, messages) = play(Limits::default(), Quirks::default(), [input]).await;
    let [message] = &messages[..] else {
        panic!("one message");
    };
    assert_eq!(message.mail.ret, Some(Ret::Headers));
    assert_eq!(message.mail.envid.as_deref(), Some("x+y"));
    assert_eq!(message.mail.size, Some(100));
    assert!(message.mail.smtputf8);
    let [first, second] = &message.recipients[..] else {
        panic!("two recipients");
    };
    let notify = first.notify.unwrap();
    assert!(notify.success && notify.failure && !notify.delay);
    assert_eq!(first.orcpt.as_deref(), Some("rfc822;e+40f"));
    assert_eq!(second.notify, Some(Notify::default()));
    assert_eq!(message.octets, 3);
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
