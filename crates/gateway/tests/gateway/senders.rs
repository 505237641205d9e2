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
    // Nor is a message that names nobody a reason to refuse it.
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
async fn a_sender_that_is_no_address_is_refused_or_replaced() {
    for path in ["local.@contoso.com", "root", "scanner 1@contoso.com"] {
        for rewrite_from in [false, true] {
            let desk = Desk::new();
            let gateway = plain(&desk, |settings| {
                settings.policy.rewrite_from = rewrite_from;
                settings.policy.senders = vec![Sender::new("@contoso.com")];
            });
            let mut client = Client::signed_in(&gateway).await;
            let message = MESSAGE.replace("scans@contoso.com", path);
            let reply = client.submit(path, &message).await;
            if !rewrite_from {
                // What has no `@` may be a password: it is not repeated.
                let named = match path {
                    "root" => "what stands there has no @ and is no address".to_owned(),
                    path => format!("<{path}> is no address"),
                };
                assert_eq!(reply, format!("553 5.1.7 {named}"));
                continue;
            }
            assert!(reply.starts_with("250"), "{path}: {reply}");
            let sent = desk.only_message();
            let left = sent.finished.envelope.reverse_path.unwrap();
            assert_eq!(left.to_string(), "alerts@contoso.com");
            let text = &sent.text;
            assert!(
                text.contains("From: Scans <alerts@contoso.com>\r\n"),
                "{text}"
            );
            let kept = format!("X-Original-From: Scans <{path}>\r\n");
            assert!(text.contains(&kept), "{text}");
            // Nobody could be answered there.
            assert!(!text.contains("Reply-To:"), "{text}");
        }
    }
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
        sender: Some("other@contoso.com".to_owned()),
        account: Some("other".to_owned()),
        by: String::new(),
    };
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    let sent = desk.only_message();
    assert_eq!(sent.account, "other");
    let path = sent.finished.envelope.reverse_path.unwrap();
    assert_eq!(path.to_string(), "other@contoso.com");
    *desk.on_mail.lock().unwrap() = Decision::Change {
        sender: None,
        account: Some("none of that name".to_owned()),
        by: String::new(),
    };
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
}

#[tokio::test]
async fn what_a_script_changes_is_checked_again_and_its_mistake_is_not_the_devices() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| settings.policy.senders.clear());
    let mut client = Client::signed_in(&gateway).await;
    let message = MESSAGE.replace("scans@", "alerts@");
    let by = "rules.lua:7".to_owned();
    for (sender, account, problem) in [
        (
            Some("ceo@contoso.com"),
            None,
            "<ceo@contoso.com> is neither",
        ),
        (Some("no address"), None, "is no address"),
        (
            Some("alerts@contoso.com"),
            Some("other"),
            "<alerts@contoso.com> is neither",
        ),
        (None, Some("other"), "<alerts@contoso.com> is neither"),
        // The envelope is in order, the message itself is not.
        (Some("other@contoso.com"), Some("other"), "(From)"),
        (None, Some("none of that name"), "there is no account"),
    ] {
        *desk.on_mail.lock().unwrap() = Decision::Change {
            sender: sender.map(str::to_owned),
            account: account.map(str::to_owned),
            by: by.clone(),
        };
        let reply = client.submit("alerts@contoso.com", &message).await;
        assert_eq!(
            reply, "451 4.3.0 a rule could not be applied, try again later",
            "{problem}"
        );
        let told = desk.told(|event| match event {
            Event::RuleBroken { by, problem, .. } => Some((by.clone(), problem.clone())),
            _ => None,
        });
        let (told_by, told) = told.last().unwrap();
        assert_eq!(*told_by, by);
        assert!(told.contains(problem), "{told}");
    }
    assert!(desk.messages.lock().unwrap().is_empty());
    // What the device itself may not say stays the device's.
    let forged = MESSAGE.replace("scans@", "ceo@");
    *desk.on_mail.lock().unwrap() = Decision::Change {
        sender: Some("svc@contoso.com".to_owned()),
        account: None,
        by,
    };
    let reply = client.submit("alerts@contoso.com", &forged).await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    let reply = client.submit("alerts@contoso.com", &message).await;
    assert!(reply.starts_with("250"), "{reply}");
    let path = desk.only_message().finished.envelope.reverse_path.unwrap();
    assert_eq!(path.to_string(), "svc@contoso.com");
}

#[tokio::test]
async fn through_another_account_a_device_that_is_rewritten_sends_as_that() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings.policy.senders.clear();
        settings.policy.rewrite_from = true;
    });
    let mut client = Client::signed_in(&gateway).await;
    *desk.on_mail.lock().unwrap() = Decision::Change {
        sender: None,
        account: Some("other".to_owned()),
        by: String::new(),
    };
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    let sent = desk.only_message();
    let path = sent.finished.envelope.reverse_path.unwrap();
    assert_eq!(path.to_string(), "other@contoso.com");
    assert!(sent.text.contains("<other@contoso.com>"), "{}", sent.text);
}
