//! Authorization codes: from the sign-in page to the token, and everything that spoils one.

use std::time::Duration;

use crate::site::{
    Browser, CHALLENGE, DAEMON, OUTLOOK, PUBLIC, SECRET, Site, VERIFIER, encoded, peek,
};

const USER: (&str, &str) = ("svc-mail@contoso.com", "svc-mail-password");

async fn code(site: &Site, more: &[(&str, &str)]) -> String {
    Browser::new(site)
        .arrive_as(USER.0, USER.1, more)
        .await
        .param("code")
        .to_owned()
}

#[tokio::test]
async fn a_person_signs_in_consents_and_the_client_gets_its_tokens() {
    let site = Site::start().await;
    let mut browser = Browser::new(&site);
    let scope = format!("{OUTLOOK} openid profile email offline_access");
    let landed = browser
        .arrive_as(USER.0, USER.1, &[("scope", &scope), ("nonce", "n-1")])
        .await;
    assert_eq!(landed.status, 302);
    assert!(
        landed
            .location
            .as_ref()
            .unwrap()
            .as_str()
            .starts_with("http://localhost:49152/?code=")
    );
    assert_eq!(landed.param("state"), "xyz");

    let answer = site.redeem(landed.param("code"), &[]).await;
    let claims = site.outlook_claims(&answer);
    assert_eq!(answer.text("scope"), OUTLOOK);
    assert!(answer.json.get("refresh_token").is_some());
    assert_eq!(claims.aud, "https://outlook.office.com");
    assert_eq!(claims.scp.as_deref(), Some("SMTP.Send"));
    assert_eq!(
        (claims.upn.as_deref(), claims.unique_name.as_deref()),
        (Some(USER.0), Some(USER.0))
    );
    assert_eq!(
        (claims.appid.as_str(), claims.appidacr.as_str()),
        (PUBLIC, "0")
    );
    assert!(!claims.is_app_only() && claims.roles.is_empty());

    let id = peek(answer.text("id_token"));
    let tid = site.sandbox.state().scenario().tenants[0].id.to_string();
    assert_eq!(id["aud"], PUBLIC);
    assert_eq!(id["iss"], site.url(&format!("{tid}/v2.0")));
    assert_eq!(
        (&id["nonce"], &id["preferred_username"], &id["email"]),
        (&"n-1".into(), &USER.0.into(), &USER.0.into())
    );
    assert_ne!(id["sub"], claims.sub.as_str(), "subjects are pairwise");
}

#[tokio::test]
async fn without_openid_or_offline_access_there_is_only_an_access_token() {
    let site = Site::start().await;
    let answer = site.person(OUTLOOK).await;
    answer.is_ok();
    assert!(answer.json.get("id_token").is_none() && answer.json.get("refresh_token").is_none());
}

#[tokio::test]
async fn a_code_works_once_and_not_for_long() {
    let site = Site::start().await;
    let first = code(&site, &[]).await;
    site.redeem(&first, &[]).await.is_ok();
    site.redeem(&first, &[])
        .await
        .is_error(400, "invalid_grant", 54_005);

    let late = code(&site, &[]).await;
    site.sandbox.state().advance(Duration::from_mins(10));
    site.redeem(&late, &[])
        .await
        .is_error(400, "invalid_grant", 70_008);
}

#[tokio::test]
async fn two_redemptions_at_once_get_one_token() {
    let site = Site::start().await;
    let code = code(&site, &[]).await;
    let (a, b) = tokio::join!(site.redeem(&code, &[]), site.redeem(&code, &[]));
    let granted = [&a, &b]
        .into_iter()
        .filter(|answer| answer.status == 200)
        .count();
    assert_eq!(granted, 1, "{a:?} {b:?}");
}

#[tokio::test]
async fn the_proof_key_is_really_checked() {
    let site = Site::start().await;
    let other = "A".repeat(43);
    let s256 = code(&site, &[]).await;
    for wrong in [other.as_str(), CHALLENGE, "", "short"] {
        site.redeem(&s256, &[("code_verifier", wrong)])
            .await
            .is_error(400, "invalid_grant", 501_481);
    }
    // A wrong verifier has not used the code up.
    site.redeem(&s256, &[]).await.is_ok();

    let plain = code(
        &site,
        &[
            ("code_challenge", VERIFIER),
            ("code_challenge_method", "plain"),
        ],
    )
    .await;
    site.redeem(&plain, &[("code_verifier", CHALLENGE)])
        .await
        .is_error(400, "invalid_grant", 501_481);
    site.redeem(&plain, &[]).await.is_ok();
    let unnamed = code(
        &site,
        &[("code_challenge", VERIFIER), ("code_challenge_method", "")],
    )
    .await;
    site.redeem(&unnamed, &[]).await.is_ok();

    let none = code(
        &site,
        &[("code_challenge", ""), ("code_challenge_method", "")],
    )
    .await;
    site.redeem(&none, &[])
        .await
        .is_error(400, "invalid_grant", 501_481);
    site.redeem(&none, &[("code_verifier", "")]).await.is_ok();
}

#[tokio::test]
async fn a_code_belongs_to_its_client_and_its_redirect() {
    let site = Site::start().await;
    let code = code(&site, &[]).await;
    let stranger = site
        .redeem(&code, &[("client_id", DAEMON), ("client_secret", SECRET)])
        .await;
    stranger.is_error(400, "invalid_grant", 70_000);
    assert_eq!(stranger.json["suberror"], "client_mismatch");
    site.redeem(&code, &[("redirect_uri", "http://localhost:50000")])
        .await
        .is_error(400, "invalid_grant", 500_112);
    site.redeem(&code, &[("redirect_uri", "")])
        .await
        .is_error(400, "invalid_request", 900_144);
    site.redeem(&code, &[("client_secret", "x")])
        .await
        .is_error(401, "invalid_client", 700_025);
    site.redeem(&code, &[]).await.is_ok();
}

#[tokio::test]
async fn a_mangled_code_is_noticed_before_a_wrong_secret() {
    let site = Site::start().await;
    let daemon = [("client_id", DAEMON), ("client_secret", "wrong")];
    site.redeem("mangled", &daemon)
        .await
        .is_error(400, "invalid_request", 9_002_313);
    site.redeem(&format!("1.{}", "A".repeat(43)), &daemon)
        .await
        .is_error(400, "invalid_grant", 9_002_313);
}

#[tokio::test]
async fn a_confidential_client_must_prove_itself_for_a_code_too() {
    let site = Site::start().await;
    let landed = Browser::new(&site)
        .arrive_as(USER.0, USER.1, &[("client_id", DAEMON)])
        .await;
    let code = landed.param("code");
    site.redeem(code, &[("client_id", DAEMON)])
        .await
        .is_error(401, "invalid_client", 7_000_218);
    let answer = site
        .redeem(code, &[("client_id", DAEMON), ("client_secret", SECRET)])
        .await;
    assert_eq!(site.outlook_claims(&answer).appidacr, "1");
}

#[tokio::test]
async fn one_code_is_for_one_service() {
    let site = Site::start().await;
    let both = format!("{OUTLOOK} User.Read offline_access");
    let code = code(&site, &[("scope", &both)]).await;
    site.redeem(&code, &[("scope", &both)])
        .await
        .is_error(400, "invalid_request", 28_000);
    let answer = site.redeem(&code, &[("scope", "User.Read")]).await;
    answer.is_ok();
    assert_eq!(
        peek(answer.text("access_token"))["aud"],
        "00000003-0000-0000-c000-000000000000"
    );
    assert!(
        answer.json.get("refresh_token").is_some(),
        "offline_access was granted when the user signed in"
    );
}

#[tokio::test]
async fn scopes_beyond_consent_are_refused_at_redemption() {
    let site = Site::start().await;
    let code = code(&site, &[]).await;
    let answer = site.redeem(&code, &[("scope", "Mail.Send")]).await;
    answer.is_error(400, "invalid_grant", 65_001);
    assert_eq!(answer.json["suberror"], "consent_required");
    assert!(
        answer
            .text("error_description")
            .contains(&format!("with ID '{PUBLIC}' named 'Postrider'"))
    );
}

#[tokio::test]
async fn what_happened_to_the_user_meanwhile_counts() {
    let site = Site::start().await;
    let state = site.sandbox.state();
    let code = code(&site, &[]).await;
    let change = |f: fn(&mut postrider_sandbox::scenario::User)| {
        state.change(|s| f(&mut s.users[0])).unwrap();
    };

    change(|u| u.blocked_by_conditional_access = true);
    let blocked = site.redeem(&code, &[]).await;
    blocked.is_error(400, "invalid_grant", 53_003);
    assert_eq!(blocked.json["suberror"], "message_only");
    assert!(blocked.text("claims").contains("access_token"));

    change(|u| (u.blocked_by_conditional_access, u.mfa) = (false, true));
    let factor = site.redeem(&code, &[]).await;
    factor.is_error(400, "invalid_grant", 50_076);
    assert_eq!(factor.json["suberror"], "basic_action");

    change(|u| (u.mfa, u.account) = (false, postrider_sandbox::scenario::Account::Disabled));
    site.redeem(&code, &[])
        .await
        .is_error(400, "invalid_grant", 50_057);

    change(|u| u.account = postrider_sandbox::scenario::Account::Enabled);
    site.redeem(&code, &[]).await.is_ok();
}

#[tokio::test]
async fn default_means_what_was_consented_to() {
    let site = Site::start().await;
    let scope = "https://outlook.office365.com/.default offline_access";
    let code = code(&site, &[("scope", scope)]).await;
    let answer = site.redeem(&code, &[]).await;
    let claims = site.outlook_claims(&answer);
    assert_eq!(
        (claims.scp.as_deref(), claims.aud.as_str()),
        (Some("SMTP.Send"), "https://outlook.office365.com")
    );
    assert_eq!(
        answer.text("scope"),
        "https://outlook.office365.com/SMTP.Send"
    );
}

#[tokio::test]
async fn personal_accounts_get_opaque_tokens_through_consumers_and_common() {
    let site = Site::with(|s| {
        let mut personal = s.tenants[0].clone();
        personal.id =
            postrider_sandbox::scenario::Guid::parse("9188040d-6c67-4c5b-b112-36a304b66dad")
                .unwrap();
        personal.domains = vec!["outlook.example".to_owned()];
        personal.kind = postrider_sandbox::scenario::TenantKind::Consumers;
        s.tenants.push(personal);
        let mut user = s.users[0].clone();
        user.upn = "someone@outlook.example".to_owned();
        user.object_id = postrider_sandbox::scenario::Guid::default();
        s.users.push(user);
        s.apps[1].multi_tenant = true;
    })
    .await;
    for tenant in ["consumers", "common"] {
        let mut browser = Browser::new(&site);
        let page = browser.authorize_at(tenant, &[]).await;
        let mut page = browser
            .submit(
                &page,
                &[("login", "someone@outlook.example"), ("passwd", USER.1)],
            )
            .await;
        if page.location.is_none() {
            page = browser.submit(&page, &[("decision", "accept")]).await;
        }
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", PUBLIC),
            ("code", page.param("code")),
            ("redirect_uri", crate::site::REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let answer = site.token_at(tenant, &form).await;
        assert!(answer.text("access_token").starts_with("EwB"), "{answer:?}");
        assert_eq!(
            site.outlook_claims(&answer).upn.as_deref(),
            Some("someone@outlook.example")
        );
    }
}

#[tokio::test]
async fn the_other_ways_back_carry_the_same_answer() {
    let site = Site::start().await;
    let fragment = Browser::new(&site)
        .arrive_as(USER.0, USER.1, &[("response_mode", "fragment")])
        .await;
    let location = fragment.location.unwrap();
    assert!(location.query().is_none() && location.fragment().unwrap().contains("state=xyz"));

    let posted = Browser::new(&site)
        .arrive_as(USER.0, USER.1, &[("response_mode", "form_post")])
        .await;
    assert!(posted.location.is_none());
    assert!(
        posted
            .html
            .contains("<form method=\"post\" action=\"http://localhost:49152/\">"),
        "{}",
        posted.html
    );
    assert!(posted.html.contains("name=\"code\" value=\"1."));

    let mut browser = Browser::new(&site);
    let by_post = browser
        .post(
            "contoso.com/oauth2/v2.0/authorize",
            &[
                ("client_id", PUBLIC),
                ("response_type", "code"),
                ("scope", OUTLOOK),
                ("redirect_uri", "http://localhost"),
            ],
        )
        .await;
    assert_eq!(by_post.title(), "Sign in", "{}", encoded(&[]));
}
