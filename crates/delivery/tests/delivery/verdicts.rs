//! What becomes of one message.

use std::time::Duration;

use postrider_delivery::OnUnknown;
use postrider_spool::StateKind;

use crate::support::{Say, World, message};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_lost_verdict_is_held_and_told() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.say_once([Say::TakeAndLose]);
    let id = world.queue("alerts", "m").await;
    world.run();
    world.pass(HOUR).await;
    let (state, why) = world.ends(id).await.remove(0);
    assert_eq!(state, StateKind::Unknown);
    assert!(why.contains("it may have been delivered: lost"), "{why}");
    assert_eq!(server.arrivals().len(), 1);
    assert_eq!(world.heard.moved_to(StateKind::Unknown).len(), 1);
}

#[tokio::test]
async fn a_lost_verdict_is_tried_again_under_the_same_name_where_the_operator_says_so() {
    let mut world = World::new();
    world.policy.unknown = OnUnknown::Retry;
    let server = world.server("alerts");
    server.say_once([Say::TakeAndLose, Say::DropAndLose]);
    world.queue("alerts", "m").await;
    world.run();
    world.until_done(HOUR).await;
    let arrivals = server.arrivals();
    assert_eq!(arrivals.len(), 3);
    assert!(
        arrivals
            .iter()
            .all(|arrival| arrival.message_id == "<m@contoso.com>")
    );
    assert_eq!(server.taken().len(), 2);
}

#[tokio::test]
async fn each_recipient_comes_to_its_own_end() {
    let mut world = World::new();
    let server = world.server("alerts");
    let mut greylisted = false;
    server.say_to(move |_, recipient| match recipient {
        "gone@example.net" => Say::No("550 5.1.1 No such user"),
        "grey@example.net" if !std::mem::replace(&mut greylisted, true) => {
            Say::No("450 4.2.0 Greylisted")
        }
        _ => Say::Yes,
    });
    let mut message = message("alerts", "m");
    let recipients = ["here", "gone", "grey"].map(|name| format!("{name}@example.net"));
    message.recipients = recipients.iter().cloned().map(Into::into).collect();
    message.recipients.push("no address".to_owned().into());
    let id = world.queue_message(message).await;
    world.run();
    world.until_done(HOUR).await;
    let ends = world.ends(id).await;
    let kinds: Vec<_> = ends.iter().map(|(kind, _)| *kind).collect();
    let (yes, no) = (StateKind::Delivered, StateKind::Failed);
    assert_eq!(kinds, [yes, no, yes, no]);
    assert_eq!(ends[1].1, "550 5.1.1 No such user");
    assert!(ends[3].1.contains("not an address"), "{}", ends[3].1);
    let taken = server.taken();
    assert_eq!(taken[0].recipients, ["here@example.net"]);
    assert_eq!(taken[1].recipients, ["grey@example.net"]);
}

#[tokio::test]
async fn what_cannot_be_read_here_waits_for_a_person() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.say_once([Say::Unreadable]);
    let id = world.queue("alerts", "m").await;
    world.run();
    world.pass(HOUR).await;
    assert_eq!(world.ends(id).await[0].0, StateKind::Held);
}

#[tokio::test]
async fn mail_of_an_account_that_nobody_knows_waits_for_a_person() {
    let mut world = World::new();
    let id = world.queue("ghost", "m").await;
    world.run();
    world.pass(HOUR).await;
    let (state, why) = world.ends(id).await.remove(0);
    assert_eq!(
        (state, why.as_str()),
        (StateKind::Held, "there is no account \"ghost\"")
    );
}

#[tokio::test]
async fn the_sink_hears_of_each_step_with_all_that_an_event_tells() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.say_once([Say::No("451 4.3.2 Temporary server error")]);
    let id = world.queue("alerts", "m").await;
    world.run();
    world.until_done(HOUR).await;
    let heard = world.heard.transitions();
    let steps: Vec<_> = heard
        .iter()
        .map(|step| (step.from.name(), step.to.kind().name(), step.attempts))
        .collect();
    assert_eq!(
        steps,
        [
            ("queued", "sending", 1),
            ("sending", "deferred", 1),
            ("queued", "sending", 2),
            ("sending", "delivered", 2),
        ]
    );
    assert!(
        heard
            .iter()
            .all(|step| step.id == id && step.account == "alerts")
    );
    assert!(
        heard
            .iter()
            .all(|step| step.message_id == "<m@contoso.com>")
    );
    assert!(heard.iter().all(|step| step.recipient == "m@example.net"));
    assert_eq!(heard[1].why(), Some("451 4.3.2 Temporary server error"));
    assert_eq!(heard[1].next(), Some(heard[1].at + Duration::from_mins(1)));
    assert_eq!(heard[3].why(), Some("250 2.0.0 OK queued"));
}
