//! The words, in the order of a session: A1.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_dialogue_is_exchanges_word_for_word() {
    let world = World::new(|_| {});
    let mut clear = world.connect();
    assert_eq!(
        reply(&mut clear).await,
        "220 SB0PR01CA0000.outlook.office365.com Microsoft ESMTP MAIL Service ready at \
         Thu, 01 Jan 2026 00:00:00 +0000 [08DE000000000000]"
    );
    let list = "250-SB0PR01CA0000.outlook.office365.com Hello [127.0.0.1]\n250-SIZE 157286400\n250-PIPELINING\n\
                250-DSN\n250-ENHANCEDSTATUSCODES\n250-STARTTLS\n250-8BITMIME\n250-BINARYMIME\n250-CHUNKING\n250 SMTPUTF8";
    for (command, said) in [
        ("MAIL FROM:<a@b>", "503 5.5.2 Send hello first"),
        ("EHLO client.example", list),
        (
            "AUTH XOAUTH2 dXNlcg==",
            "504 5.7.4 Unrecognized authentication type [SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]",
        ),
        (
            "MAIL FROM:<a@b>",
            "530 5.7.57 Client not authenticated to send mail. [SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]",
        ),
        ("STARTTLS", "220 2.0.0 SMTP server ready"),
    ] {
        assert_eq!(ask(&mut clear, command).await, said, "{command}");
    }
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = world.connector.connect(name, clear).await.unwrap();
    let token = token(world.state(), &delegated_claims(world.state()));
    let auth = xoauth2(USER, &token);
    let blob = auth.rsplit(' ').next().unwrap();
    let accepted = format!("250 2.0.0 OK <1@contoso.com> {HOSTNAME}");
    for (command, said) in [
        (
            "EHLO client.example",
            list.replace("STARTTLS", "AUTH LOGIN XOAUTH2").as_str(),
        ),
        (
            "AUTH PLAIN AGEAYg==",
            "504 5.7.4 Unrecognized authentication type [SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]",
        ),
        ("AUTH XOAUTH2", "334 "),
        (blob, "235 2.7.0 Authentication successful"),
        (
            "XFOO bar",
            &format!("500 5.3.3 Unrecognized command 'XFOO' {TRAILER}"),
        ),
        ("MAIL FROM:a@b", "501 5.5.4 Invalid arguments"),
        ("RCPT TO:<a@example.net>", "503 5.5.2 Need mail command"),
        ("MAIL FROM:<svc-mail@contoso.com>", "250 2.1.0 Sender OK"),
        ("DATA", "503 5.5.2 Need rcpt command"),
        ("RCPT TO:<a@example.net>", "250 2.1.5 Recipient OK"),
        ("RSET", "250 2.0.0 Resetting"),
        ("MAIL FROM:<svc-mail@contoso.com>", "250 2.1.0 Sender OK"),
        ("RCPT TO:<a@example.net>", "250 2.1.5 Recipient OK"),
        ("DATA", "354 Start mail input; end with <CRLF>.<CRLF>"),
        (&format!("{MESSAGE}."), &accepted),
        ("QUIT", "221 2.0.0 Service closing transmission channel"),
        ("", ""),
    ] {
        assert_eq!(ask(&mut tls, command).await, said, "{command}");
    }
    let kept = world.service.inbox.messages();
    assert_eq!(kept[0].octets(), MESSAGE.as_bytes());
    assert!(
        kept[0]
            .delivery
            .trace
            .contains("(version=TLSv1_3, cipher=TLS13_AES_256_GCM_SHA384)"),
        "{}",
        kept[0].delivery.trace
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_timed_out() {
    let mut client = World::new(|_| {}).secured().await;
    let farewell = reply(&mut client).await;
    assert!(
        farewell.starts_with("421 4.4.1 Connection timed out. Total session duration: 00:05:00."),
        "{farewell}"
    );
}
