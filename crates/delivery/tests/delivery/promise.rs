//! Whatever a server does, each recipient comes to one end, and what was taken twice is what the
//! operator wanted tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_delivery::OnUnknown;
use postrider_spool::StateKind;
use proptest::prelude::*;

use crate::support::{Say, World, message};

const ENDS: [StateKind; 4] = [
    StateKind::Delivered,
    StateKind::Failed,
    StateKind::Held,
    StateKind::Unknown,
];

fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        4 => Just(Say::Yes),
        1 => Just(Say::No("451 4.3.2 Temporary server error")),
        1 => Just(Say::No("554 5.2.252 SendAsDenied; a not allowed to send as b")),
        1 => Just(Say::No("432 4.3.2 Concurrent connections limit exceeded.")),
        1 => Just(Say::No("421 4.3.2 Service not active")),
        1 => Just(Say::No("452 4.5.3 Too many recipients")),
        1 => Just(Say::No("530 5.7.57 Client not authenticated to send mail.")),
        1 => Just(Say::LoseBefore),
        1 => Just(Say::TakeAndLose),
        1 => Just(Say::DropAndLose),
        1 => Just(Say::Unreadable),
    ]
}

fn say_to() -> impl Strategy<Value = Say> {
    prop_oneof![
        5 => Just(Say::Yes),
        1 => Just(Say::No("450 4.2.0 Greylisted")),
        1 => Just(Say::No("550 5.1.1 No such user")),
        1 => Just(Say::No("452 4.5.3 Too many recipients")),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    says: Vec<Say>,
    says_to: Vec<Say>,
    recipients: Vec<u8>,
    window: usize,
    sessions: u32,
    at_most: u32,
    retry: bool,
    session_messages: usize,
}

fn case() -> impl Strategy<Value = Case> {
    (
        proptest::collection::vec(say(), 0..40),
        proptest::collection::vec(say_to(), 0..40),
        proptest::collection::vec(1..5_u8, 1..12),
        (1..6_usize, 1..4_u32, 1..4_u32),
        any::<bool>(),
        1..20_usize,
    )
        .prop_map(
            |(says, says_to, recipients, limits, retry, session_messages)| {
                let (window, sessions, at_most) = limits;
                Case {
                    says,
                    says_to,
                    recipients,
                    window,
                    sessions,
                    at_most,
                    retry,
                    session_messages,
                }
            },
        )
}

async fn play(case: Case) {
    let mut world = World::new();
    world.policy.unknown = if case.retry {
        OnUnknown::Retry
    } else {
        OnUnknown::Hold
    };
    world.stride = Duration::from_secs(30);
    let server = world.server("alerts");
    server.limit(|limits| {
        limits.window = case.window;
        limits.sessions = case.sessions;
        limits.recipients_per_message = case.at_most;
    });
    server.ends_sessions_after(case.session_messages);
    server.say_once(case.says);
    let mut says_to = case.says_to.into_iter();
    server.say_to(move |_, _| says_to.next().unwrap_or(Say::Yes));
    let mut ids = Vec::new();
    for (number, count) in case.recipients.iter().enumerate() {
        let mut message = message("alerts", &format!("m{number}"));
        message.recipients = (0..*count)
            .map(|n| format!("m{number}r{n}@example.net"))
            .map(Into::into)
            .collect();
        ids.push(world.queue_message(message).await);
    }
    world.run();
    world.until_done(Duration::from_hours(48)).await;

    let mut taken: BTreeMap<String, u64> = BTreeMap::new();
    let mut lost: BTreeMap<String, u64> = BTreeMap::new();
    for arrival in server.taken() {
        for recipient in arrival.recipients {
            *taken.entry(recipient.clone()).or_default() += 1;
            if arrival.said == Say::TakeAndLose {
                *lost.entry(recipient).or_default() += 1;
            }
        }
    }
    let heard = world.heard.transitions();
    for id in ids {
        let shown = postrider_spool::Store::show(&*world.store, id)
            .await
            .unwrap()
            .unwrap();
        for recipient in shown.recipients {
            let address = recipient.address;
            let (times, unheard) = (taken.get(&address), lost.get(&address));
            let (times, unheard) = (times.copied().unwrap_or(0), unheard.copied().unwrap_or(0));
            match recipient.state.kind() {
                StateKind::Delivered => assert_eq!(times, 1 + unheard, "{address}"),
                StateKind::Unknown => {
                    assert!(!case.retry, "{address}");
                    assert_eq!(times, unheard, "{address}");
                }
                StateKind::Failed | StateKind::Held => assert_eq!(times, unheard, "{address}"),
                other => panic!("{address} is {}", other.name()),
            }
            if !case.retry {
                assert!(times <= 1, "{address} was taken {times} times");
            }
            let ends = heard.iter().filter(|step| {
                let kind = step.to.kind();
                step.recipient == address && (ENDS.contains(&kind))
            });
            assert_eq!(ends.count(), 1, "{address}");
        }
    }
    world.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_recipient_ends_once_and_nothing_is_sent_twice_unasked(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(case));
    }
}
