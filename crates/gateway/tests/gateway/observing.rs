//! A gateway that only watches.

use postrider_gateway::{Event, Mode};

use crate::support::{Client, Desk, MESSAGE, plain};

#[tokio::test]
async fn what_would_be_refused_is_told_and_goes_on_as_it_did_before() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings.mode = Mode::Observe {
            account: "basic".to_owned(),
        };
        settings.policy.recipient_domains = vec!["contoso.com".to_owned()];
        settings.policy.max_message = 200;
        settings.policy.messages_per_day = Some(0);
        settings.policy.rewrite_from = true;
        let mut other = settings.policy.clone();
        other.max_message = 10_000;
        settings.devices.insert("scanner".to_owned(), other);
    });
    let mut client = Client::signed_in(&gateway).await;
    let message = format!("From: ceo@contoso.com\r\n\r\n{}", "hi\r\n".repeat(100));
    let reply = client.submit("ceo@contoso.com", &message).await;
    assert!(reply.starts_with("250"), "{reply}");

    let sent = desk.only_message();
    assert_eq!(sent.account, "basic");
    assert!(
        sent.text.contains("From: ceo@contoso.com\r\n"),
        "{}",
        sent.text
    );
    let path = sent.finished.envelope.reverse_path.unwrap();
    assert_eq!(path.to_string(), "ceo@contoso.com");
    let would = desk.told(|event| match event {
        Event::WouldRefuse { refusal, .. } => Some((refusal.code, refusal.enhanced)),
        _ => None,
    });
    assert_eq!(
        would,
        [
            (550, "5.7.1"), // MAIL
            (450, "4.7.1"), // too many today
            (550, "5.7.1"), // RCPT
            (550, "5.7.1"), // From
            (554, "5.6.0"), // no Date, no Message-ID
            (552, "5.3.4"),
        ]
    );
    // And what is right is not told.
    let before = would.len();
    let fine = MESSAGE.replace("boss@example.org", "boss@contoso.com");
    client.submit("scans@contoso.com", &fine).await;
    let after = desk.told(|event| matches!(event, Event::WouldRefuse { .. }).then_some(()));
    // RCPT goes to example.org again, and the quota is 0.
    assert_eq!(after.len() - before, 2);
}

#[tokio::test]
async fn even_then_nobody_sends_without_a_password() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings.mode = Mode::Observe {
            account: "basic".to_owned(),
        };
    });
    let mut client = Client::connect(&gateway).await;
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("530 5.7.0"), "{reply}");
    assert!(desk.messages.lock().unwrap().is_empty());
}
