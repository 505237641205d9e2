//! What may be submitted: A3 to A5.

use super::*;

#[tokio::test(start_paused = true)]
async fn from_decides_who_may_send_as_whom() {
    let on_behalf = |right| MailboxPermission {
        mailbox: "ceo@contoso.com".into(),
        trustee: USER.into(),
        right,
    };
    let table: [(&str, bool, &str); 9] = [
        ("svc-mail@contoso.com", true, ""),
        ("Service <SVC-mail@Contoso.com>", true, ""),
        ("alerts@contoso.com", true, ""),
        (
            "admin@contoso.com",
            false,
            "Add-RecipientPermission admin@contoso.com -Trustee svc-mail@contoso.com",
        ),
        (
            "ceo@contoso.com",
            false,
            "which is not known to work over SMTP",
        ),
        ("other@example.org", false, "is no mailbox here"),
        (
            "mailer@contoso.com",
            false,
            "Set-OrganizationConfig -SendFromAliasEnabled $true",
        ),
        (
            "svc-mail@contoso.com, admin@contoso.com",
            false,
            "Add-RecipientPermission admin@contoso.com",
        ),
        (
            "svc-mail@contoso.com\r\nFrom: admin@contoso.com",
            false,
            "Add-RecipientPermission admin@contoso.com",
        ),
    ];
    let world = World::new(|s| {
        s.users[0].aliases = vec!["mailer@contoso.com".into()];
        s.permissions.push(on_behalf(Right::SendOnBehalf));
    });
    let mut client = world.signed_in().await;
    for (address, accepted, why) in table {
        let said = send(&mut client, &from(address)).await;
        assert_eq!(
            said.starts_with("250 2.0.0 OK"),
            accepted,
            "{address}: {said}"
        );
        if !accepted {
            assert!(world.why().contains(why), "{address}: {}", world.why());
        }
    }
    let said = send(&mut client, &from("ceo@contoso.com")).await;
    assert_eq!(
        said,
        format!(
            "554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as ceo@contoso.com; \
             STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; \
             Failed to process message due to a permanent exception with message \
             [BeginDiagnosticData]Cannot submit message. [EndDiagnosticData] {HOSTNAME}"
        )
    );
    let allow = |s: &mut Scenario| {
        s.limits.send_on_behalf = true;
        s.tenants[0].send_from_alias = true;
    };
    world.state().change(allow).unwrap();
    for address in ["ceo@contoso.com", "mailer@contoso.com"] {
        let said = send(&mut client, &from(address)).await;
        assert!(said.starts_with("250 2.0.0 OK"), "{address}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fourth_parallel_sender_waits_for_a_seat() {
    let world = World::new(|_| {});
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(world.signed_in().await);
    }
    let mut fourth = clients.pop().unwrap();
    assert_eq!(
        send(&mut fourth, MESSAGE).await,
        format!(
            "432 4.3.2 Concurrent connections limit exceeded. \
             Visit https://aka.ms/concurrent_sending for more information. {HOSTNAME}"
        )
    );
    let mut first = clients.remove(0);
    ask(&mut first, "QUIT").await;
    assert_eq!(reply(&mut first).await, "");
    drop(first);
    while world
        .service
        .ledger
        .seat(USER, &world.state().scenario().limits)
        .is_none()
    {
        tokio::task::yield_now().await;
    }
    assert!(send(&mut fourth, MESSAGE).await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn messages_over_the_rate_are_refused_or_delayed() {
    let world = World::new(|s| s.limits.messages_per_minute = 2);
    let mut client = world.signed_in().await;
    for _ in 0..2 {
        assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    }
    assert_eq!(
        send(&mut client, MESSAGE).await,
        "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
    );
    assert_eq!(reply(&mut client).await, "", "the session is over");
    world.state().advance(Duration::from_mins(1));
    assert!(world.sends(MESSAGE).await.starts_with("250 "));

    world
        .state()
        .change(|s| s.limits.over_rate = OverRate::Delay)
        .unwrap();
    let mut client = world.signed_in().await;
    assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    let begun = tokio::time::Instant::now();
    assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn quotas_sizes_and_line_feeds_are_refused_after_the_body() {
    type Change = fn(&mut Scenario);
    let store = |what: &str| {
        format!(
            "554 {what}; Failed to process message due to a permanent exception with message \
             [BeginDiagnosticData]Cannot submit message. [EndDiagnosticData] {HOSTNAME}"
        )
    };
    let bare = MESSAGE.replace("hello\r\n", "hello\n");
    let table: [(Change, &str, String); 5] = [
        (
            |s| s.limits.recipients_per_day = 0,
            MESSAGE,
            store("5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException"),
        ),
        (
            |s| s.users[0].mailbox_full = true,
            MESSAGE,
            store(
                "5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded",
            ),
        ),
        (
            |s| s.limits.mailbox_message_octets = 20,
            MESSAGE,
            store(
                "5.2.0 STOREDRV.Submission.Exception:MessageSubmissionExceededException.MapiExceptionMaxSubmissionExceeded",
            ),
        ),
        (
            |s| s.users[0].max_send_octets = Some(20),
            MESSAGE,
            store(
                "5.2.0 STOREDRV.Submission.Exception:MessageSubmissionExceededException.MapiExceptionMaxSubmissionExceeded",
            ),
        ),
        (
            |_| {},
            &bare,
            "550 5.6.11 Message contains bare line feeds".to_owned(),
        ),
    ];
    for (change, message, wanted) in table {
        let world = World::new(change);
        assert_eq!(world.sends(message).await, wanted);
        assert!(world.service.inbox.messages().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn recipients_are_counted_by_message_and_by_domain() {
    let world = World::new(|s| s.limits.recipients_per_message = 250);
    let mut client = world.signed_in().await;
    ask(&mut client, "MAIL FROM:<svc-mail@contoso.com>").await;
    let mut codes = Vec::new();
    for n in 0..252 {
        let domain = if n < 201 {
            "example.net"
        } else {
            "example.org"
        };
        codes.push(ask(&mut client, &format!("RCPT TO:<r{n}@{domain}>")).await);
    }
    assert_eq!(codes[199], "250 2.1.5 Recipient OK");
    assert_eq!(codes[200], "452 4.5.3 Too many recipients");
    assert_eq!(codes[250], "250 2.1.5 Recipient OK");
    assert_eq!(codes[251], "452 4.5.3 Too many recipients");
}

#[tokio::test(start_paused = true)]
async fn a_message_without_id_gets_one_in_the_reply_and_in_the_file() {
    let world = World::new(|_| {});
    let said = world
        .sends("From: svc-mail@contoso.com\r\n\r\nhi\r\n")
        .await;
    let id = said.split(' ').nth(3).unwrap();
    assert!(
        id.starts_with('<') && id.ends_with("@SB0PR01MB0000.sbxprd01.prod.outlook.com>"),
        "{said}"
    );
    let eml = String::from_utf8(world.service.inbox.messages()[0].eml()).unwrap();
    assert!(eml.starts_with("Return-Path: <svc-mail@contoso.com>\r\nReceived: from client.example (127.0.0.1)\r\n by "), "{eml}");
    assert!(
        eml.contains(&format!(
            "\r\nMessage-ID: {id}\r\nFrom: svc-mail@contoso.com\r\n\r\nhi\r\n"
        )),
        "{eml}"
    );
}
