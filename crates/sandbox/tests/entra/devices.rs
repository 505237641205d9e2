//! The device code flow: the device polls while a person answers in a browser.

use std::time::Duration;

use crate::site::{Answer, Browser, OUTLOOK, PUBLIC, Shown, Site, TENANT};

const USER: (&str, &str) = ("svc-mail@contoso.com", "svc-mail-password");

async fn ask(site: &Site) -> Answer {
    let scope = format!("{OUTLOOK} offline_access");
    site.post(
        &format!("{TENANT}/oauth2/v2.0/devicecode"),
        &[("client_id", PUBLIC), ("scope", &scope)],
    )
    .await
}

async fn poll(site: &Site, device: &Answer) -> Answer {
    poll_code(site, device.text("device_code")).await
}

async fn poll_code(site: &Site, code: &str) -> Answer {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", PUBLIC),
        ("device_code", code),
    ];
    site.token(&form).await
}

/// Enters the code and signs in: what the browser then shows.
async fn enter(browser: &mut Browser<'_>, code: &str) -> Shown {
    let page = browser.post("device", &[("user_code", code)]).await;
    browser
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await
}

#[tokio::test]
async fn a_device_gets_its_tokens_once_its_person_agreed() {
    let site = Site::start().await;
    let device = ask(&site).await;
    assert_eq!(device.status, 200);
    assert_eq!(
        (&device.json["expires_in"], &device.json["interval"]),
        (&900.into(), &5.into())
    );
    let user_code = device.text("user_code");
    assert_eq!(user_code.len(), 9);
    assert!(
        device.text("message").contains(user_code)
            && device.json.get("verification_uri_complete").is_none()
    );

    poll(&site, &device)
        .await
        .is_error(400, "authorization_pending", 70_016);
    let mut browser = Browser::new(&site);
    let page = browser.get(device.text("verification_uri")).await;
    assert_eq!(page.title(), "Enter code");
    assert!(page.html.contains("<label for=\"user_code\">"));
    let page = enter(&mut browser, &user_code.to_lowercase()).await;
    assert!(
        page.html
            .contains("Only go on if you started this yourself")
    );
    poll(&site, &device)
        .await
        .is_error(400, "authorization_pending", 70_016);
    let page = browser.submit(&page, &[("decision", "accept")]).await;
    assert_eq!(page.title(), "You have signed in");

    let answer = poll(&site, &device).await;
    assert_eq!(site.outlook_claims(&answer).upn.as_deref(), Some(USER.0));
    site.refresh(answer.text("refresh_token"), &[])
        .await
        .is_ok();
    poll(&site, &device)
        .await
        .is_error(400, "invalid_grant", 54_005);
}

#[tokio::test]
async fn a_declined_an_expired_and_an_unknown_code_are_told_apart() {
    let site = Site::start().await;
    let declined = ask(&site).await;
    let mut browser = Browser::new(&site);
    let page = enter(&mut browser, declined.text("user_code")).await;
    let page = browser.submit(&page, &[("decision", "cancel")]).await;
    assert_eq!(page.title(), "Declined");
    poll(&site, &declined)
        .await
        .is_error(400, "authorization_declined", 70_017);

    let expired = ask(&site).await;
    site.sandbox.state().advance(Duration::from_mins(15));
    poll(&site, &expired)
        .await
        .is_error(400, "expired_token", 70_019);
    let page = Browser::new(&site)
        .post("device", &[("user_code", expired.text("user_code"))])
        .await;
    assert!(page.alert().is_some());

    poll_code(&site, "unknown")
        .await
        .is_error(400, "bad_verification_code", 70_018);
    let page = Browser::new(&site)
        .post("device", &[("user_code", "WRONGCODE")])
        .await;
    assert!(page.alert().is_some());
}

#[tokio::test]
async fn security_defaults_and_conditional_access_refuse_the_flow() {
    let site = Site::with(|s| s.tenants[0].security_defaults = true).await;
    let device = ask(&site).await;
    enter(&mut Browser::new(&site), device.text("user_code"))
        .await
        .shows_error(530_035);
    poll(&site, &device)
        .await
        .is_error(400, "access_denied", 530_035);
    // The same person passes in a browser.
    site.person(OUTLOOK).await.is_ok();

    site.sandbox
        .state()
        .change(|s| {
            (
                s.tenants[0].security_defaults,
                s.tenants[0].block_device_code,
            ) = (false, true);
        })
        .unwrap();
    let device = ask(&site).await;
    enter(&mut Browser::new(&site), device.text("user_code"))
        .await
        .shows_error(53_003);
    let answer = poll(&site, &device).await;
    answer.is_error(400, "invalid_grant", 53_003);
    assert!(answer.json.get("claims").is_some());
}

#[tokio::test]
async fn what_is_asked_for_is_checked_at_once() {
    let site = Site::start().await;
    let path = format!("{TENANT}/oauth2/v2.0/devicecode");
    for (form, error, code) in [
        (vec![("scope", OUTLOOK)], "invalid_request", 900_144),
        (vec![("client_id", PUBLIC)], "invalid_request", 900_144),
        (
            vec![
                ("client_id", "11111111-1111-4111-8111-111111111111"),
                ("scope", OUTLOOK),
            ],
            "unauthorized_client",
            700_016,
        ),
        (
            vec![("client_id", PUBLIC), ("scope", "Mail.Sned")],
            "invalid_scope",
            70_011,
        ),
    ] {
        site.post(&path, &form).await.is_error(400, error, code);
    }
}
