//! Who may sign in: A2 and D.

use super::*;

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_a_token_the_wire_says_one_thing_and_the_log_the_truth() {
    type Change = fn(&mut Scenario, &mut Claims);
    let wrong: [(Change, &str); 14] = [
        (
            |_, c| c.exp = c.nbf,
            "the token expired at 2026-01-01T00:00:00Z",
        ),
        (
            |_, c| c.aud = "https://graph.microsoft.com".into(),
            "the token is for https://graph.microsoft.com",
        ),
        (
            |_, c| c.scp = Some("Mail.Send User.Read".into()),
            "the token's scp is \"Mail.Send User.Read\", without SMTP.Send",
        ),
        (
            |_, c| c.upn = Some("admin@contoso.com".into()),
            "the token was issued to admin@contoso.com",
        ),
        (
            |s, _| s.users[0].mailbox = Mailbox::Unlicensed,
            "has no licensed mailbox",
        ),
        (
            |s, _| s.users[0].account = Account::Disabled,
            "does not sign in",
        ),
        (
            |_, c| c.tid = "00000000-0000-4000-8000-000000000000".into(),
            "issuer",
        ),
        (
            |_, c| (c.scp, c.upn) = (None, None),
            "the token's roles are \"\", without SMTP.SendAsApp",
        ),
        (
            |s, c| {
                app_only(c);
                s.apps[0].exchange_service_principal = false;
            },
            "New-ServicePrincipal -AppId 0f1e2d3c",
        ),
        (
            |s, c| {
                app_only(c);
                s.permissions.retain(|p| p.right != Right::FullAccess);
            },
            "Add-MailboxPermission -Identity svc-mail@contoso.com",
        ),
        (
            |_, c| {
                app_only(c);
                c.oid = c.appid.clone();
            },
            "another object id",
        ),
        (
            |_, c| {
                app_only(c);
                c.roles = vec!["Mail.Send".into()];
            },
            "without SMTP.SendAsApp",
        ),
        (
            |s, c| {
                app_only(c);
                s.permissions[1].right = Right::SendAs;
                s.permissions[1].trustee = USER.into();
                s.permissions[1].mailbox = "alerts@contoso.com".into();
            },
            "no right to svc-mail@contoso.com",
        ),
        (
            |_, c| {
                app_only(c);
                c.appid = "00000000-0000-4000-8000-000000000000".into();
            },
            "does not exist any more",
        ),
    ];
    for (change, why) in wrong {
        let world = World::new(|_| {});
        let mut claims = delegated_claims(world.state());
        world
            .state()
            .change(|scenario| change(scenario, &mut claims))
            .unwrap();
        let said = world.signs_in(USER, &claims).await;
        assert_eq!(
            said,
            format!("535 5.7.3 Authentication unsuccessful {TRAILER}"),
            "{why}"
        );
        assert!(world.why().contains(why), "{why}: {}", world.why());
    }
}

/// The default daemon's claims in place of a user's.
fn app_only(claims: &mut Claims) {
    let template = World::new(|_| {});
    *claims = Claims {
        iss: claims.iss.clone(),
        tid: claims.tid.clone(),
        ..app_only_claims(template.state())
    };
}

#[tokio::test(start_paused = true)]
async fn good_tokens_sign_in_and_forged_or_garbled_ones_do_not() {
    let world = World::new(|_| {});
    let done = "235 2.7.0 Authentication successful";
    let delegated = delegated_claims(world.state());
    assert_eq!(
        world.signs_in("SVC-MAIL@contoso.com", &delegated).await,
        done
    );
    let app = app_only_claims(world.state());
    assert_eq!(world.signs_in(USER, &app).await, done);
    let refused = format!("535 5.7.3 Authentication unsuccessful {TRAILER}");
    assert_eq!(world.signs_in("alerts@contoso.com", &app).await, refused);
    assert_eq!(
        world.signs_in("alerts@contoso.com", &delegated).await,
        refused
    );

    let good = token(world.state(), &delegated);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let mut client = world.secured().await;
    for line in [
        xoauth2(USER, &forged),
        xoauth2(USER, "x"),
        "AUTH XOAUTH2 dXNlcg==".into(),
        "AUTH XOAUTH2 %%".into(),
    ] {
        assert_eq!(ask(&mut client, &line).await, refused, "{line}");
    }
    assert_eq!(ask(&mut client, "AUTH XOAUTH2").await, "334 ");
    assert_eq!(
        ask(&mut client, "*").await,
        refused,
        "cancelling is a refusal, too"
    );
    let log = format!("{:?}", world.state().log_entries(0));
    assert!(
        !log.contains(&good[..40]) && !log.contains(signature),
        "tokens stay out of the log"
    );
}

#[tokio::test(start_paused = true)]
async fn switches_and_policies_refuse_with_their_reason() {
    type Change = fn(&mut Scenario);
    let table: [(Change, &str); 4] = [
        (
            |s| s.tenants[0].smtp_auth_disabled = true,
            "SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.",
        ),
        (
            |s| s.users[0].smtp_auth_disabled = Some(true),
            "SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.",
        ),
        (
            |s| s.users[0].blocked_by_conditional_access = true,
            "the request did not meet the criteria to be authenticated successfully. Contact your administrator.",
        ),
        (
            |s| {
                s.tenants[0].smtp_auth_disabled = true;
                s.users[0].smtp_auth_disabled = Some(false);
            },
            "",
        ),
    ];
    for (change, reason) in table {
        let world = World::new(change);
        let claims = delegated_claims(world.state());
        let wanted = match reason {
            "" => "235 2.7.0 Authentication successful".to_owned(),
            reason => format!("535 5.7.139 Authentication unsuccessful, {reason} {TRAILER}"),
        };
        assert_eq!(world.signs_in(USER, &claims).await, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn passwords_work_until_something_forbids_them() {
    type Change = fn(&mut Scenario);
    let reason =
        |reason: &str| format!("535 5.7.139 Authentication unsuccessful, {reason} {TRAILER}");
    let table: [(Change, &str, &str, String); 6] = [
        (
            |_| {},
            USER,
            "svc-mail-password",
            "235 2.7.0 Authentication successful".into(),
        ),
        (
            |_| {},
            USER,
            "wrong",
            reason("the user credentials were incorrect."),
        ),
        (
            |_| {},
            "nobody@contoso.com",
            "x",
            reason("the user credentials were incorrect."),
        ),
        (
            |s| s.tenants[0].security_defaults = true,
            USER,
            "svc-mail-password",
            reason(
                "user is locked by your organization's security defaults policy. Contact your administrator.",
            ),
        ),
        (
            |s| s.tenants[0].basic_auth = BasicAuth::Disabled,
            USER,
            "svc-mail-password",
            reason("basic authentication is disabled."),
        ),
        (
            |s| s.tenants[0].basic_auth = BasicAuth::Retired,
            USER,
            "svc-mail-password",
            "550 5.7.30 Basic authentication is not supported for Client Submission.".into(),
        ),
    ];
    for (change, user, password, wanted) in table {
        let mut client = World::new(change).secured().await;
        assert_eq!(ask(&mut client, "AUTH LOGIN").await, "334 VXNlcm5hbWU6");
        assert_eq!(
            ask(&mut client, &STANDARD.encode(user)).await,
            "334 UGFzc3dvcmQ6"
        );
        assert_eq!(ask(&mut client, &STANDARD.encode(password)).await, wanted);
        let mail = ask(&mut client, "MAIL FROM:<svc-mail@contoso.com>").await;
        if wanted.starts_with('2') {
            assert_eq!(mail, "250 2.1.0 Sender OK");
        } else {
            let host = "[SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]";
            assert_eq!(
                mail,
                format!("530 5.7.57 Client not authenticated to send mail. {host} Error: {wanted}")
            );
        }
    }
}
