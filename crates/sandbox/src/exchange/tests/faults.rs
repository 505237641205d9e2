//! What goes wrong on purpose.

use super::*;

fn fault(at: FaultPoint, effect: Effect) -> impl FnOnce(&mut Scenario) {
    move |scenario: &mut Scenario| {
        scenario.faults = vec![Fault {
            times: Some(1),
            ..Fault::new(at, effect)
        }];
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_answers_at_every_stage_and_then_things_work() {
    let busy = || Effect::Reply("451 4.7.0 Temporary server error".into());
    let wanted = "451 4.7.0 Temporary server error";

    let world = World::new(fault(
        FaultPoint::SmtpConnect,
        Effect::Reply("421 4.3.2 Service not active".into()),
    ));
    let mut client = world.connect();
    assert_eq!(reply(&mut client).await, "421 4.3.2 Service not active");
    assert_eq!(reply(&mut client).await, "");

    for at in [FaultPoint::SmtpEhlo, FaultPoint::SmtpStarttls] {
        let world = World::new(fault(at, busy()));
        let mut client = world.connect();
        reply(&mut client).await;
        if at == FaultPoint::SmtpStarttls {
            ask(&mut client, "EHLO a").await;
        }
        let command = if at == FaultPoint::SmtpEhlo {
            "EHLO a"
        } else {
            "STARTTLS"
        };
        assert_eq!(ask(&mut client, command).await, wanted);
        assert_ne!(ask(&mut client, command).await, wanted);
    }

    let world = World::new(fault(FaultPoint::SmtpAuth, busy()));
    let claims = delegated_claims(world.state());
    assert_eq!(world.signs_in(USER, &claims).await, wanted);
    assert!(world.signs_in(USER, &claims).await.starts_with("235 "));

    for (at, failing) in [
        (FaultPoint::SmtpMail, 0),
        (FaultPoint::SmtpRcpt, 1),
        (FaultPoint::SmtpData, 2),
        (FaultPoint::SmtpMessage, 3),
    ] {
        let world = World::new(fault(at, busy()));
        let mut client = world.signed_in().await;
        let commands = [
            "MAIL FROM:<svc-mail@contoso.com>",
            "RCPT TO:<a@b>",
            "DATA",
            &format!("{MESSAGE}."),
        ];
        for (index, command) in commands.iter().enumerate() {
            let said = ask(&mut client, command).await;
            assert_eq!(said == wanted, index == failing, "{at:?} {command}: {said}");
            if index == failing {
                break;
            }
        }
        ask(&mut client, "RSET").await;
        assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
        assert_eq!(world.service.inbox.messages().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_the_message_and_a_cut_does_not() {
    for (effect, kept) in [(Effect::LoseReply, 1), (Effect::Close, 0)] {
        let world = World::new(fault(FaultPoint::SmtpMessage, effect));
        assert_eq!(world.sends(MESSAGE).await, "");
        assert_eq!(world.service.inbox.messages().len(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_only_delays() {
    let world = World::new(fault(
        FaultPoint::SmtpMessage,
        Effect::Delay(Span::seconds(90)),
    ));
    let mut client = world.signed_in().await;
    let begun = tokio::time::Instant::now();
    assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    assert_eq!(begun.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn an_attacker_on_the_path_can_be_played() {
    let world = World::new(fault(FaultPoint::SmtpEhlo, Effect::HideStarttls));
    let mut client = world.connect();
    reply(&mut client).await;
    assert!(!ask(&mut client, "EHLO a").await.contains("STARTTLS"));
    assert!(
        ask(&mut client, "EHLO a").await.contains("STARTTLS"),
        "once only"
    );

    let inject = Effect::InjectPlaintext("250 injected".into());
    let world = World::new(fault(FaultPoint::SmtpStarttls, inject));
    let mut client = world.connect();
    reply(&mut client).await;
    ask(&mut client, "EHLO a").await;
    assert_eq!(
        ask(&mut client, "STARTTLS").await,
        "220 2.0.0 SMTP server ready"
    );
    assert_eq!(reply(&mut client).await, "250 injected");
}
