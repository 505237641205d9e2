//! Who gets in, and what everybody else hears.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use postrider_gateway::credential::{self, Verifier};
use postrider_gateway::{Decision, Event, Gateway, Network, Refusal, Rehearse, TlsMode};
use tokio::time::Instant;

use crate::support::{Client, Desk, MESSAGE, PASSWORD, plain, policy};

#[tokio::test]
async fn a_device_signs_in_by_plain_and_by_login_in_each_way_they_are_said() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let plain_response = STANDARD.encode(format!("printer-2\0printer-2\0{PASSWORD}"));
    let (name, password) = (STANDARD.encode("printer-2"), STANDARD.encode(PASSWORD));
    let none = String::new();
    for dialogue in [
        [&format!("AUTH PLAIN {plain_response}"), &none, &none],
        [&"AUTH PLAIN".to_owned(), &plain_response, &none],
        [&"auth login".to_owned(), &name, &password],
        [&format!("AUTH LOGIN {name}"), &password, &none],
    ] {
        let mut client = Client::connect(&gateway).await;
        let mut reply = String::new();
        for line in dialogue.into_iter().filter(|line| !line.is_empty()) {
            reply = client.say(line).await;
        }
        assert!(reply.starts_with("235 2.7.0"), "{reply}");
    }
    let ways = desk.told(|event| match event {
        Event::SignedIn { arrival } => Some((arrival.device().to_owned(), arrival.mechanism)),
        _ => None,
    });
    assert_eq!(ways.len(), 4);
    assert_eq!(ways[3], ("printer-2".to_owned(), "LOGIN"));
}

#[tokio::test]
async fn the_prompts_of_login_are_exchanges_unless_a_device_wants_the_drafts() {
    for (nul, name, password) in [
        (false, "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"),
        (true, "334 VXNlciBOYW1lAA==", "334 UGFzc3dvcmQA"),
    ] {
        let desk = Desk::new();
        let gateway = plain(&desk, |settings| settings.quirks.login_nul = nul);
        let mut client = Client::connect(&gateway).await;
        assert_eq!(client.say("AUTH LOGIN").await, name);
        let ended = |text: &str| STANDARD.encode(format!("{text}\0"));
        let reply = client.say(&ended("printer-2")).await;
        if nul {
            assert_eq!(reply, password);
            assert!(client.say(&ended(PASSWORD)).await.starts_with("235"));
        } else {
            assert!(reply.starts_with("501 5.5.2"), "{reply}");
        }
    }
}

#[tokio::test]
async fn nobody_sends_without_having_signed_in() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::connect(&gateway).await;
    let reply = client.say("MAIL FROM:<scans@contoso.com>").await;
    assert!(reply.starts_with("530 5.7.0"), "{reply}");
    for line in ["RCPT TO:<boss@example.org>", "DATA", "BDAT 0 LAST"] {
        let reply = client.say(line).await;
        assert!(reply.starts_with("503 5.5.1"), "{line}: {reply}");
    }
    let reply = client.say("AUTH CRAM-MD5").await;
    assert!(reply.starts_with("504 5.5.4"), "{reply}");
    assert!(desk.messages.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_name_a_wrong_password_and_a_forbidden_device_hear_the_same() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        let mut elsewhere = policy();
        elsewhere.clients = vec!["192.0.2.0/24".parse::<Network>().unwrap()];
        settings.devices.insert("scanner".to_owned(), elsewhere);
    });
    tokio::time::pause();
    let mut heard = Vec::new();
    for (name, password) in [
        ("printer-2", "hunter2"),
        ("hunter2", PASSWORD),
        ("scanner", PASSWORD),
    ] {
        let mut client = Client::connect(&gateway).await;
        heard.push(client.plain(name, password).await);
    }
    let mut client = Client::connect(&gateway).await;
    let other = STANDARD.encode(format!("boss\0printer-2\0{PASSWORD}"));
    heard.push(client.say(&format!("AUTH PLAIN {other}")).await);
    *desk.on_auth.lock().unwrap() = Decision::Refuse("not on Sundays".to_owned());
    let mut client = Client::connect(&gateway).await;
    heard.push(client.plain("printer-2", PASSWORD).await);
    assert_eq!(heard, ["535 5.7.8 authentication failed"; 5]);

    let told = desk.told(|event| match event {
        Event::AuthFailed { arrival, why, .. } => Some((arrival.device.clone(), why.clone())),
        _ => None,
    });
    let known = |name: &str| Some(name.to_owned());
    assert_eq!(told.len(), 5);
    assert_eq!(told[0], (known("printer-2"), None));
    assert_eq!(told[1], (None, None));
    assert_eq!(told[2].0, known("scanner"));
    assert!(told[2].1.as_ref().unwrap().contains("address"));
    assert_eq!(told[4], (known("printer-2"), known("not on Sundays")));
    let all = format!("{:?}", desk.events.lock().unwrap());
    assert!(!all.contains("hunter2") && !all.contains(PASSWORD));
}

#[tokio::test]
async fn each_failure_waits_longer_and_one_too_many_ends_the_connection() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    tokio::time::pause();
    let mut client = Client::connect(&gateway).await;
    let mut waits = Vec::new();
    let mut reply = String::new();
    for _ in 0..4 {
        let begun = Instant::now();
        reply = client.plain("printer-2", "wrong").await;
        waits.push(begun.elapsed().as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    assert!(reply.starts_with("421 4.7.0"), "{reply}");
    assert_eq!(client.hear().await, "");
    // A new connection begins where the old one ended; whoever is right does not wait.
    let mut client = Client::connect(&gateway).await;
    let begun = Instant::now();
    assert!(client.plain("printer-2", PASSWORD).await.starts_with("235"));
    assert_eq!(begun.elapsed().as_secs(), 0);
    let mut client = Client::connect(&gateway).await;
    let begun = Instant::now();
    client.plain("printer-2", "wrong").await;
    assert_eq!(begun.elapsed().as_secs(), 16);
}

#[tokio::test]
async fn how_long_a_failure_takes_tells_nothing_of_what_was_looked_up() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    tokio::time::pause();
    let mut client = Client::connect(&gateway).await;
    for (lookup, wait) in [(0, 1000), (900, 2000)] {
        *desk.lookup.lock().unwrap() = Duration::from_millis(lookup);
        let begun = Instant::now();
        client.plain("printer-2", "wrong").await;
        let took = begun.elapsed().as_millis();
        assert!((wait..wait + 10).contains(&took), "{took}");
    }
}

#[tokio::test]
async fn a_vault_that_cannot_be_read_says_nothing_of_passwords() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let refusal = Refusal::new(454, "4.7.0", "credentials cannot be looked up");
    *desk.credential.lock().unwrap() = Some(refusal);
    let mut client = Client::connect(&gateway).await;
    for name in ["printer-2", "nobody"] {
        let reply = client.plain(name, PASSWORD).await;
        assert_eq!(reply, "454 4.7.0 credentials cannot be looked up");
    }
}

#[tokio::test]
async fn in_a_rehearsal_devices_hear_what_exchange_will_say() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings.rehearse = Some(Rehearse {
            from: Timestamp::from_second(1_795_400_060).unwrap(),
            until: Some(Timestamp::from_second(1_795_400_120).unwrap()),
            devices: vec!["printer-2".to_owned()],
        });
    });
    let exchange = "550 5.7.30 Basic authentication is not supported for Client Submission.";
    for (second, device, expected) in [
        (0, "printer-2", "235 "),
        (60, "printer-2", exchange),
        (60, "scanner", "235 "),
        (120, "printer-2", "235 "),
    ] {
        *desk.seconds.lock().unwrap() = second;
        let mut client = Client::connect(&gateway).await;
        let reply = client.plain(device, PASSWORD).await;
        assert!(reply.starts_with(expected), "{second} {device}: {reply}");
    }
    let rehearsed = desk.told(|event| match event {
        Event::Rehearsed { arrival, .. } => Some(arrival.device().to_owned()),
        _ => None,
    });
    assert_eq!(rehearsed, ["printer-2"]);
}

#[tokio::test]
async fn helo_is_enough_where_a_device_knows_no_more() {
    for helo_only in [false, true] {
        let desk = Desk::new();
        let gateway = plain(&desk, |settings| settings.quirks.helo_only = helo_only);
        let mut client = Client::dial(gateway.addresses()[0]).await;
        client.expect("220").await;
        assert_eq!(client.say("HELO medea").await, "250 gw.contoso.com");
        let reply = client.plain("printer-2", PASSWORD).await;
        if helo_only {
            assert!(reply.starts_with("235"), "{reply}");
            let reply = client.submit("scans@contoso.com", MESSAGE).await;
            assert!(reply.starts_with("250"), "{reply}");
            let text = desk.only_message().text;
            assert!(text.contains("by gw.contoso.com with SMTP id"), "{text}");
        } else {
            assert!(
                reply.starts_with("503") && reply.contains("EHLO"),
                "{reply}"
            );
        }
    }
}

#[tokio::test]
async fn a_hash_that_cannot_be_computed_is_somebodys_to_mend() {
    let desk = Desk::new();
    *desk.hash.lock().unwrap() = Some("$argon2id$v=19$m=4194304,t=2,p=1".into());
    let gateway = plain(&desk, |_| {});
    let mut client = Client::connect(&gateway).await;
    let reply = client.plain("printer-2", PASSWORD).await;
    assert!(reply.starts_with("454 4.7.0"), "{reply}");
    let told = desk.told(|event| match event {
        Event::AuthFailed { arrival, why, .. } => Some((arrival.device.clone(), why.clone())),
        _ => None,
    });
    let [(Some(device), Some(why))] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(device, "printer-2");
    assert!(why.contains("no hash that is computed here"), "{why}");
}

#[tokio::test]
async fn a_password_that_is_replaced_ends_its_sessions() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut client = Client::signed_in(&gateway).await;
    let another = credential::hash(&PASSWORD.into()).unwrap();
    *desk.hash.lock().unwrap() = Some(another);
    let reply = client.say("MAIL FROM:<scans@contoso.com>").await;
    assert!(reply.starts_with("421 4.7.0"), "{reply}");
    let mut client = Client::signed_in(&gateway).await;
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test]
async fn a_password_that_is_taken_away_ends_with_the_message_under_way() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut printer = Client::signed_in(&gateway).await;
    let mut scanner = Client::connect(&gateway).await;
    let reply = scanner.plain("scanner", PASSWORD).await;
    assert!(reply.starts_with("235"), "{reply}");

    // Where it cannot be looked up, nobody is sent away.
    let trouble = Refusal::new(454, "4.7.0", "credentials cannot be looked up");
    *desk.credential.lock().unwrap() = Some(trouble);
    let reply = printer.say("MAIL FROM:<scans@contoso.com>").await;
    assert_eq!(reply, "454 4.7.0 credentials cannot be looked up");
    *desk.credential.lock().unwrap() = None;

    printer.begin("scans@contoso.com").await.unwrap();
    desk.devices
        .lock()
        .unwrap()
        .retain(|one| one != "printer-2");
    printer.send(MESSAGE).await;
    let reply = printer.say(".").await;
    assert!(reply.starts_with("250"), "{reply}");

    let reply = printer.say("MAIL FROM:<scans@contoso.com>").await;
    assert!(reply.starts_with("421 4.7.0 your password was"), "{reply}");
    assert_eq!(printer.hear().await, "");
    let refused = desk.told(|event| match event {
        Event::Refused { arrival, refusal } => Some((arrival.device.clone(), refusal.code)),
        _ => None,
    });
    let device = Some("printer-2".to_owned());
    assert_eq!(refused, [(device.clone(), 454), (device, 421)]);

    let reply = scanner.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test]
async fn signing_in_is_offered_only_where_it_is_allowed() {
    for (tls, offers) in [
        (TlsMode::Starttls, false),
        (TlsMode::Offered, true),
        (TlsMode::DangerPlaintext, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = crate::support::settings(dir.path());
        settings.tls = tls;
        let desk = Desk::new();
        let backend = std::sync::Arc::new(crate::support::Host(desk));
        let gateway = Gateway::bind(settings, backend, Verifier::new().unwrap()).unwrap();
        let mut client = Client::connect(&gateway).await;
        let reply = client.say("EHLO mfp.lan").await;
        assert_eq!(
            reply.contains("AUTH PLAIN LOGIN"),
            offers,
            "{tls:?} {reply}"
        );
        let starttls = tls != TlsMode::DangerPlaintext;
        assert_eq!(reply.contains("STARTTLS"), starttls, "{tls:?} {reply}");
        let reply = client.plain("printer-2", PASSWORD).await;
        let expected = if offers { "235" } else { "538 5.7.11" };
        assert!(reply.starts_with(expected), "{tls:?} {reply}");
        if !offers {
            let reply = client.say("MAIL FROM:<scans@contoso.com>").await;
            assert!(
                reply.starts_with("530 5.7.0") && reply.contains("STARTTLS"),
                "{reply}"
            );
        }
    }
}
