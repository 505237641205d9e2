//! Who sent a message is told when it fails.

use std::time::Duration;

use postrider_delivery::Report;
use postrider_spool::{Notify, Recipient, StateKind, Store as _};

use crate::support::{Say, World, message};

const HOUR: Duration = Duration::from_hours(1);

fn world() -> World {
    let mut world = World::new();
    world.policy.report = Report::Sender;
    world
        .server("alerts")
        .say_to(|_, recipient| match recipient {
            "mail@contoso.com" => Say::Yes,
            _ => Say::No("550 5.1.1 No such user"),
        });
    world.run();
    world
}

#[tokio::test]
async fn a_failure_is_reported_to_the_envelopes_sender_by_the_same_account() {
    let world = world();
    let id = world.queue("alerts", "m").await;
    world.until_done(HOUR).await;
    let listed = world.listed().await;
    assert_eq!(listed.len(), 2);
    let report = &listed[1];
    assert_eq!(report.recipient, "mail@contoso.com");
    assert_eq!(report.reverse_path, None);
    assert_eq!(report.account, "alerts");
    assert_eq!(report.origin, format!("failure report on {id}"));
    let mut octets = Vec::new();
    world.store.export(report.id, &mut octets).await.unwrap();
    let text = String::from_utf8(octets).unwrap();
    assert!(
        text.contains("Final-Recipient: rfc822; m@example.net\r\n"),
        "{text}"
    );
    assert!(
        text.contains("Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n"),
        "{text}"
    );
    assert!(
        text.contains("\r\nSubject: m\r\nMessage-ID: <m@contoso.com>\r\n"),
        "{text}"
    );
    assert!(!text.contains("body of m"), "{text}");
    assert_eq!(world.ends(report.id).await[0].0, StateKind::Delivered);
}

#[tokio::test]
async fn one_report_tells_of_all_that_failed_at_once() {
    let world = world();
    let mut message = message("alerts", "m");
    message.recipients.push("n@example.net".to_owned().into());
    world.queue_message(message).await;
    world.until_done(HOUR).await;
    assert_eq!(world.listed().await.len(), 2);
}

#[tokio::test]
async fn a_report_tells_of_those_whose_failure_is_of_interest_by_the_names_they_were_given() {
    let world = world();
    let mut message = message("alerts", "m");
    let events = |success, failure| Notify {
        success,
        failure,
        delay: false,
    };
    for (to, notify, orcpt) in [
        ("never", Some(events(false, false)), None),
        (
            "success",
            Some(events(true, false)),
            Some("rfc822;s@x.example"),
        ),
        (
            "failure",
            Some(events(true, true)),
            Some("rfc822;f+2Bx@x.example"),
        ),
    ] {
        message.recipients.push(Recipient {
            address: format!("{to}@example.net"),
            notify,
            orcpt: orcpt.map(str::to_owned),
        });
    }
    message.dsn.envid = Some("job 7".to_owned());
    world.queue_message(message).await;
    world.until_done(HOUR).await;
    let listed = world.listed().await;
    assert_eq!(listed.len(), 2);
    let mut octets = Vec::new();
    world.store.export(listed[1].id, &mut octets).await.unwrap();
    let text = String::from_utf8(octets).unwrap();
    assert!(text.contains("Original-Envelope-Id: job 7\r\n"), "{text}");
    assert!(
        text.contains(
            "Original-Recipient: rfc822; f+x@x.example\r\n\
             Final-Recipient: rfc822; failure@example.net\r\n"
        ),
        "{text}"
    );
    // This one asked for nothing, and gets what everybody gets.
    assert!(
        text.contains("\r\n\r\nFinal-Recipient: rfc822; m@example.net\r\n"),
        "{text}"
    );
    for other in ["never@", "success@", "s@x.example"] {
        assert!(!text.contains(other), "{text}");
    }
}

#[tokio::test]
async fn there_is_no_report_on_a_report_nor_where_none_is_wanted() {
    let world = world();
    world.server("alerts").say(|_| Say::No("550 5.7.1 No"));
    world.queue("alerts", "reported").await;
    let mut null = message("alerts", "null");
    null.reverse_path = None;
    world.queue_message(null).await;
    let mut never = message("alerts", "never");
    never.recipients[0].notify = Some(Notify::default());
    world.queue_message(never).await;
    world.until_done(HOUR).await;
    let origins: Vec<_> = world
        .listed()
        .await
        .into_iter()
        .map(|one| one.origin)
        .collect();
    assert_eq!(origins.len(), 4);
    assert_eq!(
        origins
            .iter()
            .filter(|origin| origin.starts_with("failure report"))
            .count(),
        1
    );
    assert_eq!(world.states().await[&StateKind::Failed], 4);
}

#[tokio::test]
async fn mail_that_grew_too_old_is_reported_too() {
    let mut world = World::new();
    world.policy.report = Report::Sender;
    world.policy.max_age = HOUR;
    world.server("alerts").say(|outgoing| {
        if outgoing.envelope().reverse_path.is_none() {
            Say::Yes
        } else {
            Say::No("451 4.3.2 Temporary server error")
        }
    });
    world.queue("alerts", "m").await;
    world.run();
    world.stride = Duration::from_secs(10);
    world.until_done(HOUR * 2).await;
    let listed = world.listed().await;
    assert_eq!(listed.len(), 2);
    let mut octets = Vec::new();
    world.store.export(listed[1].id, &mut octets).await.unwrap();
    let text = String::from_utf8(octets).unwrap();
    assert!(text.contains("Status: 4.4.7\r\n"), "{text}");
    assert!(text.contains("451 4.3.2 Temporary server error"), "{text}");
}
