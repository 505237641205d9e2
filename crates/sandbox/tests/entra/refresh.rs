//! Refresh tokens: rotation as Entra does it, as strict servers do it, and how they end.

use std::time::Duration;

use postrider_sandbox::scenario::{Rotation, Span};

use crate::site::{Browser, DAEMON, OUTLOOK, PUBLIC, SECRET, Site, peek};

const OFFLINE: &str = "https://outlook.office.com/SMTP.Send offline_access";
const DAY: Duration = Duration::from_hours(24);

async fn first(site: &Site) -> String {
    site.person(OFFLINE).await.text("refresh_token").to_owned()
}

#[tokio::test]
async fn every_redemption_returns_a_new_one_and_the_old_stays_valid() {
    let site = Site::start().await;
    let old = first(&site).await;
    let answer = site.refresh(&old, &[]).await;
    assert_eq!(
        site.outlook_claims(&answer).scp.as_deref(),
        Some("SMTP.Send")
    );
    assert_eq!(answer.text("scope"), OUTLOOK);
    let new = answer.text("refresh_token").to_owned();
    assert_ne!(new, old);
    site.refresh(&old, &[]).await.is_ok();
    site.refresh(&new, &[]).await.is_ok();
}

#[tokio::test]
async fn it_is_bound_to_user_and_client_not_to_a_service() {
    let site = Site::start().await;
    let both = format!("{OFFLINE} User.Read");
    let landed = Browser::new(&site)
        .arrive_as(
            "svc-mail@contoso.com",
            "svc-mail-password",
            &[("scope", &both)],
        )
        .await;
    let answer = site
        .redeem(landed.param("code"), &[("scope", OFFLINE)])
        .await;
    let token = answer.text("refresh_token");

    let graph = site.refresh(token, &[("scope", "User.Read")]).await;
    assert_eq!(peek(graph.text("access_token"))["scp"], "User.Read");
    site.outlook_claims(&site.refresh(token, &[]).await);
    site.refresh(token, &[("scope", &both)])
        .await
        .is_error(400, "invalid_request", 28_000);
    site.refresh(token, &[("scope", "Mail.Send")])
        .await
        .is_error(400, "invalid_grant", 65_001);
    // It does not matter under which of its names the tenant is asked.
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", PUBLIC),
        ("refresh_token", token),
    ];
    site.token_at("contoso.com", &form).await.is_ok();
}

#[tokio::test]
async fn another_client_cannot_use_it() {
    let site = Site::start().await;
    let token = first(&site).await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", DAEMON),
        ("client_secret", SECRET),
        ("refresh_token", token.as_str()),
    ];
    let answer = site.token(&form).await;
    answer.is_error(400, "invalid_grant", 70_000);
    assert_eq!(answer.json["suberror"], "client_mismatch");
}

#[tokio::test]
async fn a_mangled_one_is_malformed_and_an_unknown_one_invalid() {
    let site = Site::start().await;
    site.refresh("mangled", &[])
        .await
        .is_error(400, "invalid_request", 9_002_313);
    site.refresh(&format!("1.A{}", "A".repeat(43)), &[])
        .await
        .is_error(400, "invalid_grant", 9_002_313);
    site.refresh("", &[])
        .await
        .is_error(400, "invalid_request", 900_144);
}

#[tokio::test]
async fn it_dies_after_ninety_days_without_use_and_each_use_counts_anew() {
    let site = Site::start().await;
    let token = first(&site).await;
    let state = site.sandbox.state();
    state.advance(89 * DAY);
    let second = site
        .refresh(&token, &[])
        .await
        .text("refresh_token")
        .to_owned();
    state.advance(89 * DAY);
    site.refresh(&token, &[]).await.is_ok();
    state.advance(2 * DAY);
    let late = site.refresh(&second, &[]).await;
    late.is_error(400, "invalid_grant", 700_082);
    assert_eq!(late.json["suberror"], "bad_token");
    assert!(
        late.text("error_description")
            .contains("was inactive for 90.00:00:00.")
    );
    site.refresh(&token, &[]).await.is_ok();
}

#[tokio::test]
async fn a_single_page_apps_ends_after_a_day_however_often_it_is_used() {
    let site =
        Site::with(|s| s.apps[1].spa_redirect_uris = std::mem::take(&mut s.apps[1].redirect_uris))
            .await;
    let token = first(&site).await;
    let state = site.sandbox.state();
    state.advance(DAY.checked_sub(Duration::from_mins(1)).unwrap());
    let second = site
        .refresh(&token, &[])
        .await
        .text("refresh_token")
        .to_owned();
    state.advance(Duration::from_secs(61));
    site.refresh(&second, &[])
        .await
        .is_error(400, "invalid_grant", 700_084);
    let bare = Browser::new(&site)
        .authorize(&[("code_challenge", ""), ("code_challenge_method", "")])
        .await;
    assert_eq!(
        bare.param("error"),
        "invalid_request",
        "a single-page app needs a proof key"
    );
}

#[tokio::test]
async fn a_strict_server_revokes_everything_when_an_old_one_comes_back() {
    let site = Site::with(|s| {
        (s.tokens.rotation, s.tokens.reuse_grace) = (Rotation::Strict, Span::seconds(10));
    })
    .await;
    let old = first(&site).await;
    let new = site
        .refresh(&old, &[])
        .await
        .text("refresh_token")
        .to_owned();
    site.sandbox.state().advance(Duration::from_secs(10));
    site.refresh(&old, &[]).await.is_ok();
    site.sandbox.state().advance(Duration::from_secs(1));
    site.refresh(&old, &[])
        .await
        .is_error(400, "invalid_grant", 50_173);
    site.refresh(&new, &[])
        .await
        .is_error(400, "invalid_grant", 50_173);
}

#[tokio::test]
async fn a_strict_server_without_grace_gives_one_of_two_at_once_a_token() {
    let site = Site::with(|s| s.tokens.rotation = Rotation::Strict).await;
    let old = first(&site).await;
    let (a, b) = tokio::join!(site.refresh(&old, &[]), site.refresh(&old, &[]));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
}

#[tokio::test]
async fn without_rotation_the_same_one_stays() {
    let site = Site::with(|s| s.tokens.rotation = Rotation::None).await;
    let token = first(&site).await;
    assert_eq!(site.refresh(&token, &[]).await.text("refresh_token"), token);
    site.refresh(&token, &[]).await.is_ok();
}

#[tokio::test]
async fn a_user_who_is_gone_gets_nothing() {
    let site = Site::start().await;
    let token = first(&site).await;
    site.sandbox
        .state()
        .change(|s| {
            s.users.remove(0);
            s.permissions.clear();
            for app in &mut s.apps {
                app.consent.clear();
            }
        })
        .unwrap();
    site.refresh(&token, &[])
        .await
        .is_error(400, "invalid_grant", 50_034);
}
