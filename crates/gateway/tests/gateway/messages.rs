//! What a message goes through, and what it may not be.

use std::sync::Arc;

use postrider_gateway::{Event, Quirks, Refusal};
use postrider_smtp::{Notify, Return};
use tokio::sync::Notify as Signal;

use crate::support::{Client, Desk, MESSAGE, plain};

#[tokio::test]
async fn a_message_is_queued_as_it_was_but_for_what_a_gateway_adds_and_hides() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    client
        .say("MAIL FROM:<scans@contoso.com> RET=HDRS ENVID=job-7")
        .await;
    let rcpt = "RCPT TO:<boss@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;boss@example.org";
    assert!(client.say(rcpt).await.starts_with("250"));
    assert!(
        client
            .say("RCPT TO:<aide@example.org>")
            .await
            .starts_with("250")
    );
    client.say("DATA").await;
    client
        .send(&format!("Bcc: secret@example.org\r\n{MESSAGE}..dots\r\n"))
        .await;
    assert_eq!(client.say(".").await, "250 2.0.0 queued as q1");

    let sent = desk.only_message();
    let (received, rest) = sent.text.split_at(sent.text.find("From:").unwrap());
    let lines: Vec<&str> = received.lines().collect();
    assert_eq!(lines[0], "Received: from mfp.lan ([127.0.0.1])");
    assert!(
        lines[1].starts_with("\tby gw.contoso.com with ESMTPA id "),
        "{received}"
    );
    assert_eq!(lines.len(), 3);
    assert_eq!(rest, format!("{MESSAGE}.dots\r\n"));
    assert_eq!(sent.account, "alerts");
    assert_eq!(sent.finished.message_id, "<1@mfp.contoso.com>");
    assert_eq!(
        sent.arrival.recipients,
        ["boss@example.org", "aide@example.org"]
    );
    let dsn = sent.finished.dsn.unwrap();
    assert_eq!(
        (dsn.ret, dsn.envid.as_deref()),
        (Some(Return::Headers), Some("job-7"))
    );
    let notify = dsn.recipients[0].notify.clone().unwrap();
    assert_eq!(notify, [Notify::Success, Notify::Delay].into());
    assert_eq!(
        dsn.recipients[0].orcpt.as_deref(),
        Some("rfc822;boss@example.org")
    );
    assert_eq!(dsn.recipients[1], postrider_smtp::RecipientDsn::default());

    let accepted = desk.told(|event| match event {
        Event::Accepted { arrival, accepted } => {
            Some((arrival.device().to_owned(), accepted.clone()))
        }
        _ => None,
    });
    assert_eq!(accepted[0].0, "printer-2");
    assert_eq!(accepted[0].1.id, "q1");
    let arrived = "Bcc: secret@example.org\r\n".len() + MESSAGE.len() + ".dots\r\n".len();
    assert_eq!(accepted[0].1.octets, arrived as u64);
}

#[tokio::test]
async fn chunks_and_pipelined_commands_bring_the_same_message() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    let (first, second) = MESSAGE.split_at(40);
    client
        .send(&format!(
            "MAIL FROM:<scans@contoso.com>\r\nRCPT TO:<boss@example.org>\r\nBDAT {}\r\n{first}\
             BDAT {} LAST\r\n{second}",
            first.len(),
            second.len()
        ))
        .await;
    for expected in [
        "250 2.1.0",
        "250 2.1.5",
        "250 2.0.0",
        "250 2.0.0 queued as q1",
    ] {
        client.expect(expected).await;
    }
    assert!(desk.only_message().text.ends_with(MESSAGE));
}

#[tokio::test]
async fn the_client_may_stay_hidden() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| settings.hide_client = true);
    let mut client = Client::signed_in(&gateway).await;
    client.submit("scans@contoso.com", MESSAGE).await;
    let text = desk.only_message().text;
    assert!(
        !text.contains("127.0.0.1") && !text.contains("mfp.lan"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_missing_is_named_with_what_adds_it() {
    let bare = "From: scans@contoso.com\r\nSubject: x\r\n\r\nhi\r\n";
    for missing_headers in [false, true] {
        let desk = Desk::new();
        let quirks = Quirks {
            missing_headers,
            ..Quirks::default()
        };
        let gateway = plain(&desk, |settings| settings.quirks = quirks);
        let mut client = Client::signed_in(&gateway).await;
        let reply = client.submit("scans@contoso.com", bare).await;
        if missing_headers {
            assert!(reply.starts_with("250"), "{reply}");
            let sent = desk.only_message();
            assert!(sent.text.contains("\r\nDate: "), "{}", sent.text);
            let id = &sent.finished.message_id;
            assert!(id.ends_with("@contoso.com>"), "{id}");
            assert!(sent.text.contains(&format!("Message-ID: {id}\r\n")));
        } else {
            assert_eq!(
                reply,
                "554 5.6.0 the message has no Date and no Message-ID: \
                 the quirk missing_headers adds it"
            );
        }
    }
}

#[tokio::test]
async fn headers_that_are_none_are_refused_or_made_harmless() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    let head = "Date: x\r\nMessage-ID: <x@y>\r\n";
    let circles = "Received: from a by b; now\r\n".repeat(100) + MESSAGE;
    for (message, expected) in [
        (
            format!("From: scans@contoso.com\r\nFrom: scans@contoso.com\r\n{head}\r\n"),
            "554 5.6.0",
        ),
        (format!("Subject: x\r\n{head}\r\nhi\r\n"), "554 5.6.0"),
        (
            format!("{head}From: scans@contoso.com,\r\n ceo@contoso.com\r\n\r\nhi\r\n"),
            "550 5.7.1",
        ),
        (String::new(), "554 5.6.0"),
        ("no header\r\nat all\r\n".to_owned(), "554 5.6.0"),
        (circles, "554 5.4.6"),
        (
            format!("{}{MESSAGE}", "X: y\r\n".repeat(200_000)),
            "552 5.3.4",
        ),
        // Not a field: what follows is the body's.
        (
            format!("From: scans@contoso.com\r\n{head}no field\r\nBcc: x@y\r\n\r\n"),
            "250",
        ),
        (
            format!(
                "From: scans@contoso.com\r\n{head}Subject: {}\r\n\r\n",
                "x".repeat(5000)
            ),
            "250",
        ),
    ] {
        let reply = client.submit("scans@contoso.com", &message).await;
        let start = &message[..message.len().min(60)];
        assert!(reply.starts_with(expected), "{start:?}: {reply}");
    }
    let messages = desk.messages.lock().unwrap();
    assert!(
        messages[0]
            .text
            .ends_with("\r\n\r\nno field\r\nBcc: x@y\r\n\r\n"),
        "{}",
        messages[0].text
    );
    assert!(messages[1].text.lines().all(|line| line.len() <= 998));
}

#[tokio::test]
async fn recipients_are_those_that_the_device_may_send_to() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings.policy.recipient_domains = vec!["example.org".to_owned()];
        settings.policy.recipients_per_message = 2;
        // Another device may have more: the bound is each one's own.
        let mut wide = settings.policy.clone();
        wide.recipients_per_message = 100;
        settings.devices.insert("scanner".to_owned(), wide);
    });
    let mut client = Client::signed_in(&gateway).await;
    client.say("MAIL FROM:<scans@contoso.com>").await;
    for (path, expected) in [
        (
            "boss@example.com",
            "550 5.7.1 you may not send to <boss@example.com>",
        ),
        ("boss@sub.example.org", "550 5.7.1"),
        ("boss@EXAMPLE.org", "250 2.1.5"),
        ("postmaster", "553 5.1.3"),
        ("aide@example.org", "250 2.1.5"),
        (
            "more@example.org",
            "452 4.5.3 too many recipients: 2 at most",
        ),
    ] {
        let reply = client.say(&format!("RCPT TO:<{path}>")).await;
        assert!(reply.starts_with(expected), "{path}: {reply}");
    }
    client.say("DATA").await;
    client.send(MESSAGE).await;
    assert!(client.say(".").await.starts_with("250"));
    let recipients = desk.only_message().finished.envelope.recipients;
    assert_eq!(recipients.len(), 2);
}

#[tokio::test]
async fn a_message_beyond_the_devices_bound_is_refused_announced_or_not() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings
            .devices
            .insert("printer-2".to_owned(), settings.policy.clone());
        settings.devices.get_mut("printer-2").unwrap().max_message = 2000;
    });
    let mut client = Client::signed_in(&gateway).await;
    let reply = client.say("MAIL FROM:<scans@contoso.com> SIZE=2001").await;
    assert_eq!(
        reply,
        "552 5.3.4 the message is too large: 2000 octets at most"
    );
    let reply = client
        .say("MAIL FROM:<scans@contoso.com> SIZE=1000001")
        .await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    let large = MESSAGE.to_owned() + &"x".repeat(70).repeat(30) + "\r\n";
    let reply = client.submit("scans@contoso.com", &large).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    assert!(
        client
            .submit("scans@contoso.com", MESSAGE)
            .await
            .starts_with("250")
    );
    assert_eq!(desk.messages.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_device_that_sends_too_much_hears_when_to_come_again() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings.policy.messages_per_minute = Some(2);
    });
    let mut client = Client::signed_in(&gateway).await;
    // What was refused does not count.
    let forged = MESSAGE.replace("scans@", "ceo@");
    client.submit("scans@contoso.com", &forged).await;
    for expected in ["250 2.0.0", "250 2.0.0", "450 4.7.1"] {
        let reply = client.submit("scans@contoso.com", MESSAGE).await;
        assert!(reply.starts_with(expected), "{reply}");
    }
    *desk.seconds.lock().unwrap() = 61;
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test]
async fn nothing_is_said_to_be_queued_that_is_not() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    *desk.write.lock().unwrap() = Some(Refusal::new(452, "4.3.1", "the disk is full"));
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert_eq!(reply, "452 4.3.1 the disk is full");
    *desk.write.lock().unwrap() = None;
    *desk.finish.lock().unwrap() = Some(Refusal::new(451, "4.3.0", "try again later"));
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert_eq!(reply, "451 4.3.0 try again later");
    *desk.finish.lock().unwrap() = None;
    // A client that leaves in the middle leaves nothing.
    client.begin("scans@contoso.com").await.unwrap();
    client.send(MESSAGE).await;
    drop(client);
    while *desk.dropped.lock().unwrap() < 3 {
        tokio::task::yield_now().await;
    }
    assert!(desk.messages.lock().unwrap().is_empty());
}

#[tokio::test]
async fn yes_is_said_after_the_disk_has_it() {
    let signal = Arc::new(Signal::new());
    let desk = Arc::new(Desk {
        disk: Some(Arc::clone(&signal)),
        ..Desk::open()
    });
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    client.begin("scans@contoso.com").await.unwrap();
    client.send(&format!("{MESSAGE}.\r\n")).await;
    // Another session is served all the while, and this one hears nothing.
    let mut other = Client::signed_in(&gateway).await;
    assert!(other.say("NOOP").await.starts_with("250"));
    {
        let mut early = std::pin::pin!(client.hear());
        assert!(futures_util::poll!(early.as_mut()).is_pending());
        signal.notify_one();
        assert_eq!(early.await, "250 2.0.0 queued as q1");
    };
}

#[tokio::test]
async fn a_large_message_passes_through_in_small_pieces() {
    let desk = Desk::new();
    *desk.forgets.lock().unwrap() = true;
    let gateway = plain(&desk, |settings| settings.policy.max_message = 100_000_000);
    let mut client = Client::signed_in(&gateway).await;
    client.begin("scans@contoso.com").await.unwrap();
    client.send(MESSAGE).await;
    let piece = format!("{}\r\n", "x".repeat(76)).repeat(1000);
    for _ in 0..500 {
        client.send(&piece).await;
    }
    assert!(client.say(".").await.starts_with("250"));
    let largest = *desk.largest.lock().unwrap();
    assert!(largest <= 64 * 1024, "{largest}");
}
