//! As whom a device may send, in the envelope and in the message.

use postrider_gateway::{Decision, Event, Sender};

use crate::support::{Client, Desk, MESSAGE, plain};

#[tokio::test]
async fn a_sender_that_is_not_the_devices_is_refused_with_what_is_allowed() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    let reply = client.say("MAIL FROM:<ceo@contoso.com>").await;
    assert_eq!(
        reply,
        "550 5.7.1 you may not send as <ceo@contoso.com>, but as scans@contoso.com"
    );
    let forged = MESSAGE.replace("scans@", "ceo@");
    let reply = client.submit("scans@contoso.com", &forged).await;
    assert_eq!(
        reply,
        "550 5.7.1 you may not send as <ceo@contoso.com> (From)"
    );
    // The session goes on, and the null path is nobody's.
    assert!(client.submit("", MESSAGE).await.starts_with("250 2.0.0"));
    assert_eq!(desk.only_message().finished.envelope.reverse_path, None);
    let refused = desk.told(|event| match event {
        Event::Refused { arrival, refusal } => Some((arrival.sender.clone(), refusal.code)),
        _ => None,
    });
    let ceo = "ceo@contoso.com".to_owned();
    assert_eq!(
        refused,
        [
            (Some(ceo), 550),
            (Some("scans@contoso.com".to_owned()), 550)
        ]
    );
    assert_eq!(
        *desk.dropped.lock().unwrap(),
        0,
        "it was refused before the queue heard of it"
    );
}

#[tokio::test]
async fn a_device_may_be_made_to_send_as_its_account() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| settings.policy.rewrite_from = true);
    let mut client = Client::signed_in(&gateway).await;
    let message = MESSAGE.replace("Scans <scans@contoso.com>", "Front desk <desk@example.org>");
    let reply = client.submit("desk@example.org", &message).await;
    assert!(reply.starts_with("250"), "{reply}");
    let sent = desk.only_message();
    assert!(
        sent.text
            .contains("From: Front desk <alerts@contoso.com>\r\n"),
        "{}",
        sent.text
    );
    assert!(sent.text.contains("Reply-To: desk@example.org\r\n"));
    let path = sent.finished.envelope.reverse_path.unwrap();
    assert_eq!(path.to_string(), "alerts@contoso.com");
    // A path that is none, as some management boards write it, does no harm here.
    let reply = client
        .submit(
            "desk@example.org",
            "Subject: nobody's\r\nDate: x\r\nMessage-ID: <x>\r\n\r\n",
        )
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let last = desk.messages.lock().unwrap()[1].clone();
    assert!(
        last.text.contains("From: Alerts <alerts@contoso.com>\r\n"),
        "{}",
        last.text
    );
}

#[tokio::test]
async fn without_senders_of_its_own_a_device_has_its_accounts() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| settings.policy.senders.clear());
    let mut client = Client::signed_in(&gateway).await;
    for (address, expected) in [
        ("alerts@contoso.com", "250"),
        ("SVC@contoso.com", "250"),
        ("scans@contoso.com", "550"),
    ] {
        let message = MESSAGE.replace("scans@contoso.com", address);
        let reply = client.submit(address, &message).await;
        assert!(reply.starts_with(expected), "{address}: {reply}");
    }
}

#[tokio::test]
async fn devices_have_settings_of_their_own() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        let mut own = settings.policy.clone();
        own.account = "other".to_owned();
        own.senders = vec![Sender::new("@contoso.com")];
        settings.devices.insert("printer-2".to_owned(), own);
    });
    let mut client = Client::signed_in(&gateway).await;
    let message = MESSAGE.replace("scans@", "anybody@");
    let reply = client.submit("else@contoso.com", &message).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(desk.only_message().account, "other");
}

#[tokio::test]
async fn a_script_may_refuse_a_sender_or_give_the_mail_to_another_account() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    *desk.on_mail.lock().unwrap() = Decision::Refuse("not on Sundays".to_owned());
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert_eq!(reply, "550 5.7.1 not on Sundays");
    *desk.on_mail.lock().unwrap() = Decision::Change {
        sender: Some("bounces@contoso.com".to_owned()),
        account: Some("other".to_owned()),
    };
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    let sent = desk.only_message();
    assert_eq!(sent.account, "other");
    let path = sent.finished.envelope.reverse_path.unwrap();
    assert_eq!(path.to_string(), "bounces@contoso.com");
    *desk.on_mail.lock().unwrap() = Decision::Change {
        sender: None,
        account: Some("none of that name".to_owned()),
    };
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("451 4.3.5"), "{reply}");
}
