//! The pages: who may pass, what they are asked, and where the browser ends up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_sandbox::scenario::{Account, EVERYONE, Guid, TenantKind};
use serde_json::{Value, json};

use crate::site::{Browser, DAEMON, OUTLOOK, PUBLIC, Site, TENANT, peek};

const USER: (&str, &str) = ("svc-mail@contoso.com", "svc-mail-password");
const ADMIN: (&str, &str) = ("admin@contoso.com", "admin-password");

#[tokio::test]
async fn a_request_that_names_no_app_or_redirect_of_ours_stays_on_a_page() {
    let site = Site::start().await;
    let mut browser = Browser::new(&site);
    for (change, code) in [
        (
            ("client_id", "11111111-1111-4111-8111-111111111111"),
            700_016,
        ),
        (("client_id", ""), 900_144),
        (("redirect_uri", "http://localhost/other"), 50_011),
        (("redirect_uri", "https://evil.example/"), 50_011),
        (("response_mode", "carrier_pigeon"), 9_002_313),
    ] {
        let page = browser.authorize(&[change]).await;
        assert_eq!((page.status, &page.location), (400, &None), "{change:?}");
        page.shows_error(code);
    }
    browser
        .authorize_at("nowhere.example", &[])
        .await
        .shows_error(90_002);
    browser
        .authorize_at("common", &[])
        .await
        .shows_error(50_194);
    let twice = browser
        .get(&site.url(&format!(
            "{TENANT}/oauth2/v2.0/authorize?client_id=a&client_id=b"
        )))
        .await;
    twice.shows_error(9_002_313);
}

#[tokio::test]
async fn other_mistakes_travel_back_to_the_client() {
    let site = Site::start().await;
    let mut browser = Browser::new(&site);
    for (change, error, code) in [
        (
            ("response_type", "token"),
            "unsupported_response_type",
            70_005,
        ),
        (("response_type", ""), "invalid_request", 900_144),
        (("scope", ""), "invalid_request", 900_144),
        (("scope", "Mail.Sned"), "invalid_scope", 70_011),
        (
            ("scope", "https://outlook.example/SMTP.Send"),
            "invalid_resource",
            500_011,
        ),
        (
            ("scope", "https://outlook.office.com/.default User.Read"),
            "invalid_scope",
            70_011,
        ),
        (
            ("code_challenge_method", "S512"),
            "invalid_request",
            9_002_313,
        ),
        (("code_challenge", "short"), "invalid_request", 9_002_313),
        (("prompt", "loudly"), "invalid_request", 9_002_313),
    ] {
        let page = browser.authorize(&[change]).await;
        assert_eq!(page.param("error"), error, "{change:?}");
        assert_eq!(page.param("state"), "xyz");
        assert!(
            page.description().starts_with(&format!("AADSTS{code}: ")),
            "{}",
            page.description()
        );
    }
    site.sandbox
        .state()
        .change(|s| s.apps[1].delegated.clear())
        .unwrap();
    let page = browser
        .authorize(&[("scope", "https://outlook.office.com/.default")])
        .await;
    assert!(page.description().starts_with("AADSTS650057: "));
}

#[tokio::test]
async fn wrong_names_and_passwords_are_said_on_the_page_and_can_be_mended() {
    let site = Site::with(|s| {
        let mut fabrikam = s.tenants[0].clone();
        fabrikam.id = Guid::parse("22222222-2222-4222-8222-222222222222").unwrap();
        fabrikam.domains = vec!["fabrikam.example".to_owned()];
        let mut personal = fabrikam.clone();
        personal.id = Guid::parse("9188040d-6c67-4c5b-b112-36a304b66dad").unwrap();
        personal.domains = vec!["outlook.example".to_owned()];
        personal.kind = TenantKind::Consumers;
        s.tenants.extend([fabrikam, personal]);
        for upn in ["someone@fabrikam.example", "someone@outlook.example"] {
            let mut user = s.users[0].clone();
            (user.upn, user.object_id) = (upn.to_owned(), Guid::default());
            s.users.push(user);
        }
    })
    .await;
    let mut browser = Browser::new(&site);
    let page = browser
        .authorize(&[("login_hint", "svc-mail@contoso.com")])
        .await;
    assert!(
        page.html.contains("<label for=\"login\">")
            && page.html.contains("value=\"svc-mail@contoso.com\"")
    );
    for (login, password, code) in [
        ("svc-mail@contoso.com", "wrong", 50_126),
        ("svc-mail@contoso.com", "", 50_126),
        ("alerts@contoso.com", "", 50_126),
        ("nobody@contoso.com", "x", 50_034),
        ("someone@fabrikam.example", USER.1, 50_020),
        ("someone@outlook.example", USER.1, 50_020),
    ] {
        let refused = browser
            .submit(&page, &[("login", login), ("passwd", password)])
            .await;
        refused.shows_error(code);
        assert_eq!(refused.title(), "Sign in");
        assert_eq!(
            refused.html.contains("&#39;live.com&#39;"),
            login.ends_with("outlook.example")
        );
        assert!(
            !refused.html.contains("wrong"),
            "a password is not shown again"
        );
    }
    let page = browser
        .submit(
            &page,
            &[("login", " SVC-mail@contoso.com "), ("passwd", USER.1)],
        )
        .await;
    assert_eq!(page.title(), "Permissions requested");
}

#[tokio::test]
async fn an_account_that_is_off_cannot_sign_in() {
    let site = Site::start().await;
    for (account, code) in [
        (Account::Disabled, 50_057),
        (Account::Locked, 50_053),
        (Account::PasswordExpired, 50_055),
    ] {
        site.sandbox
            .state()
            .change(|s| s.users[0].account = account)
            .unwrap();
        let mut browser = Browser::new(&site);
        let page = browser.authorize(&[]).await;
        browser
            .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
            .await
            .shows_error(code);
    }
    site.sandbox
        .state()
        .change(|s| {
            (s.users[0].account, s.users[0].blocked_by_conditional_access) =
                (Account::Enabled, true);
        })
        .unwrap();
    let mut browser = Browser::new(&site);
    let page = browser.authorize(&[]).await;
    browser
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await
        .shows_error(53_003);
}

#[tokio::test]
async fn consent_is_asked_for_once_and_can_be_refused() {
    let site = Site::start().await;
    let mut browser = Browser::new(&site);
    let page = browser
        .authorize(&[("scope", &format!("{OUTLOOK} User.Read"))])
        .await;
    let page = browser
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await;
    assert!(page.html.contains(OUTLOOK) && page.html.contains("<code>User.Read</code>"));
    assert!(
        !page.html.contains("organization"),
        "only an administrator consents for all"
    );
    let declined = browser.submit(&page, &[("decision", "cancel")]).await;
    assert_eq!(
        (declined.param("error"), declined.param("state")),
        ("access_denied", "xyz")
    );
    assert!(declined.description().starts_with("AADSTS65004: "));
    // The sign-in has ended: its form leads nowhere.
    browser
        .submit(&page, &[("decision", "accept")])
        .await
        .shows_error(9_002_313);

    let page = Browser::new(&site).arrive_as(USER.0, USER.1, &[]).await;
    assert!(page.maybe("code").is_some());
    let mut browser = Browser::new(&site);
    let page = browser.authorize(&[]).await;
    let page = browser
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await;
    assert!(page.maybe("code").is_some(), "consented already: {page:?}");
}

#[tokio::test]
async fn an_administrator_can_consent_for_everyone_and_users_may_be_kept_from_it() {
    let site = Site::with(|s| s.tenants[0].user_consent = false).await;
    let mut browser = Browser::new(&site);
    let page = browser.authorize(&[]).await;
    let page = browser
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await;
    assert_eq!(page.param("error"), "access_denied");
    assert!(page.description().starts_with("AADSTS90094: "));

    let mut browser = Browser::new(&site);
    let page = browser.authorize(&[]).await;
    let page = browser
        .submit(&page, &[("login", ADMIN.0), ("passwd", ADMIN.1)])
        .await;
    let page = browser
        .submit(&page, &[("decision", "accept"), ("everyone", "yes")])
        .await;
    assert!(page.maybe("code").is_some());
    assert_eq!(
        site.sandbox.state().scenario().app(PUBLIC).unwrap().consent[0].by,
        EVERYONE
    );
    assert!(
        Browser::new(&site)
            .arrive_as(USER.0, USER.1, &[])
            .await
            .maybe("code")
            .is_some()
    );
}

#[tokio::test]
async fn only_those_assigned_to_an_app_may_use_it() {
    let site =
        Site::with(|s| s.apps[1].assigned_users = Some(vec!["admin@contoso.com".to_owned()])).await;
    let page = Browser::new(&site).arrive_as(USER.0, USER.1, &[]).await;
    assert_eq!(page.param("error"), "access_denied");
    assert!(page.description().starts_with("AADSTS50105: "));
    assert!(
        Browser::new(&site)
            .arrive_as(ADMIN.0, ADMIN.1, &[])
            .await
            .maybe("code")
            .is_some()
    );
}

#[tokio::test]
async fn a_second_step_cannot_be_skipped() {
    let site = Site::with(|s| s.users[0].mfa = true).await;
    let mut browser = Browser::new(&site);
    let page = browser.authorize(&[]).await;
    // Nor can the first.
    let early = browser.submit(&page, &[("mfa", "approve")]).await;
    assert_eq!(early.title(), "Sign in");
    let step = browser
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await;
    assert_eq!(step.title(), "Approve sign in request");
    let skipped = browser.submit(&page, &[("decision", "accept")]).await;
    assert_eq!(skipped.title(), "Approve sign in request");
    let consent = browser.submit(&step, &[("mfa", "approve")]).await;
    let landed = browser.submit(&consent, &[("decision", "accept")]).await;
    site.redeem(landed.param("code"), &[]).await.is_ok();
}

#[tokio::test]
async fn a_sign_in_belongs_to_its_browser() {
    let site = Site::start().await;
    let mut victim = Browser::new(&site);
    let page = victim.authorize(&[]).await;
    let mut stranger = Browser::new(&site);
    let _ = stranger.authorize(&[]).await;
    for fields in [
        &[("login", USER.0), ("passwd", USER.1)],
        &[("mfa", "approve"), ("decision", "accept")],
    ] {
        stranger.submit(&page, fields).await.shows_error(9_002_313);
    }
    Browser::new(&site)
        .post("sign-in", &[("ctx", "guess")])
        .await
        .shows_error(9_002_313);

    let page = victim
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await;
    assert_eq!(page.title(), "Permissions requested");
    site.sandbox
        .state()
        .advance(std::time::Duration::from_hours(1));
    victim
        .submit(&page, &[("decision", "accept")])
        .await
        .shows_error(9_002_313);
}

#[tokio::test]
async fn a_browser_stays_signed_in_and_prompt_says_otherwise() {
    let site = Site::start().await;
    let mut browser = Browser::new(&site);
    assert_eq!(
        browser
            .authorize(&[("prompt", "none")])
            .await
            .param("error"),
        "login_required"
    );
    browser.arrive_as(USER.0, USER.1, &[]).await;

    assert!(browser.authorize(&[]).await.maybe("code").is_some());
    assert!(
        browser
            .authorize(&[("prompt", "none")])
            .await
            .maybe("code")
            .is_some()
    );
    assert_eq!(
        browser
            .authorize(&[("prompt", "none"), ("scope", "Mail.Send")])
            .await
            .param("error"),
        "consent_required"
    );
    assert_eq!(
        browser
            .authorize(&[("prompt", "none"), ("login_hint", ADMIN.0)])
            .await
            .param("error"),
        "login_required"
    );
    assert_eq!(
        browser.authorize(&[("prompt", "login")]).await.title(),
        "Sign in"
    );
    assert_eq!(
        browser.authorize(&[("login_hint", ADMIN.0)]).await.title(),
        "Sign in"
    );
    assert_eq!(
        browser.authorize(&[("prompt", "consent")]).await.title(),
        "Permissions requested"
    );

    let choose = browser.authorize(&[("prompt", "select_account")]).await;
    assert_eq!(choose.title(), "Pick an account");
    assert!(
        browser
            .submit(&choose, &[("account", USER.0)])
            .await
            .maybe("code")
            .is_some()
    );
    let choose = browser.authorize(&[("prompt", "select_account")]).await;
    let foreign = browser.submit(&choose, &[("account", ADMIN.0)]).await;
    assert_eq!(foreign.title(), "Sign in", "nobody else is signed in here");
    assert_eq!(
        browser.submit(&choose, &[("account", "")]).await.title(),
        "Sign in"
    );

    let page = browser
        .submit(&choose, &[("login", ADMIN.0), ("passwd", ADMIN.1)])
        .await;
    assert_eq!(page.title(), "Permissions requested");
    assert!(
        browser
            .submit(&page, &[("decision", "accept")])
            .await
            .maybe("code")
            .is_some()
    );
    let choose = browser.authorize(&[]).await;
    assert!(
        choose.html.contains(USER.0) && choose.html.contains(ADMIN.0),
        "two are signed in"
    );

    let out = browser
        .get(&site.url(&format!(
            "{TENANT}/oauth2/v2.0/logout?post_logout_redirect_uri=http%3A%2F%2Flocalhost%3A1%2F"
        )))
        .await;
    assert_eq!(out.location.unwrap().as_str(), "http://localhost:1/");
    assert_eq!(browser.authorize(&[]).await.title(), "Sign in");
    let out = browser
        .get(&site.url(&format!(
            "{TENANT}/oauth2/v2.0/logout?post_logout_redirect_uri=https%3A%2F%2Fevil.example"
        )))
        .await;
    assert_eq!(out.location, None);
}

#[tokio::test]
async fn admin_consent_grants_what_was_registered() {
    let site = Site::with(|s| s.apps[0].application_consent.clear()).await;
    let url = site.url(&format!(
        "{TENANT}/v2.0/adminconsent?client_id={DAEMON}&state=s1&redirect_uri=http%3A%2F%2Flocalhost&scope=https%3A%2F%2Foutlook.office.com%2F.default"
    ));
    let mut browser = Browser::new(&site);
    let page = browser.get(&url).await;
    let refused = browser
        .submit(&page, &[("login", USER.0), ("passwd", USER.1)])
        .await;
    refused.shows_error(90_094);
    let page = browser
        .submit(&page, &[("login", ADMIN.0), ("passwd", ADMIN.1)])
        .await;
    assert!(page.html.contains("SMTP.SendAsApp"));
    let done = browser.submit(&page, &[("decision", "accept")]).await;
    let tid = site.sandbox.state().scenario().tenants[0].id.to_string();
    assert_eq!(
        (
            done.param("admin_consent"),
            done.param("tenant"),
            done.param("state")
        ),
        ("True", tid.as_str(), "s1")
    );
    let app = site.sandbox.state().scenario().app(DAEMON).unwrap().clone();
    assert_eq!(app.application_consent, app.application);

    let page = browser.get(&url).await;
    let page = browser.submit(&page, &[("account", ADMIN.0)]).await;
    let declined = browser.submit(&page, &[("decision", "cancel")]).await;
    assert_eq!(
        (declined.param("error"), declined.maybe("admin_consent")),
        ("permission_denied", None)
    );
}

#[tokio::test]
async fn answers_bear_the_sandboxs_own_time() {
    let site = Site::start().await;
    let ahead = std::time::Duration::from_hours(24 * 400);
    site.sandbox.state().advance(ahead);
    let response = site.http.get(site.url("")).send().await.unwrap();
    let date = response.headers()["date"].to_str().unwrap();
    let date = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
    let off = site.sandbox.state().now().duration_since(date);
    assert!(off.as_secs() < 60, "{date}");
}

#[tokio::test]
async fn pages_escape_what_comes_from_outside_and_cannot_be_framed() {
    let site = Site::with(|s| s.apps[1].name = "<b>\"App\"</b>".to_owned()).await;
    let query = "client_id=2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801&response_type=code&redirect_uri=http%3A%2F%2Flocalhost&scope=User.Read&login_hint=%22%3E%3Cscript%3E";
    let response = site
        .http
        .get(site.url(&format!("{TENANT}/oauth2/v2.0/authorize?{query}")))
        .send()
        .await
        .unwrap();
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(response.headers()["cache-control"], "no-store, no-cache");
    let html = response.text().await.unwrap();
    assert!(
        !html.contains("<script>") && !html.contains("<b>\"App"),
        "{html}"
    );
    assert!(html.contains("&lt;script&gt;"));
}

#[tokio::test]
async fn another_person_than_hinted_may_sign_in_and_the_id_token_says_so() {
    let site = Site::start().await;
    let scope = format!("openid profile {OUTLOOK} offline_access");
    let more = [
        ("scope", scope.as_str()),
        ("login_hint", USER.0),
        ("nonce", "n-7"),
    ];
    let landed = Browser::new(&site).arrive_as(ADMIN.0, ADMIN.1, &more).await;
    let answer = site.redeem(landed.param("code"), &[]).await;
    let id_token = answer.text("id_token");
    let claims = peek(id_token);
    let tid = site.sandbox.state().scenario().tenants[0].id.to_string();
    assert_eq!(
        (&claims["preferred_username"], &claims["nonce"]),
        (&json!(ADMIN.0), &json!("n-7"))
    );
    assert_eq!(
        (&claims["iss"], &claims["tid"], &claims["aud"]),
        (
            &json!(site.url(&format!("{tid}/v2.0"))),
            &json!(tid),
            &json!(PUBLIC)
        )
    );
    // Entra names its key in the header, and the key set holds it.
    let header = id_token.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let keys = site.url(&format!("{TENANT}/discovery/v2.0/keys"));
    let keys = site.http.get(keys).send().await.unwrap();
    let keys: Value = serde_json::from_str(&keys.text().await.unwrap()).unwrap();
    assert_eq!(header["alg"], "RS256");
    assert_eq!(header["kid"], keys["keys"][0]["kid"]);

    // The scopes of OpenID are no part of the answer's `scope`; a refresh brings a new ID
    // token, without a nonce.
    assert_eq!(answer.text("scope"), OUTLOOK);
    let again = site.refresh(answer.text("refresh_token"), &[]).await;
    let claims = peek(again.text("id_token"));
    assert_eq!(claims["preferred_username"], ADMIN.0);
    assert_eq!(claims.get("nonce"), None);
}

#[tokio::test]
async fn what_a_browser_test_clicks_keeps_its_id() {
    #[track_caller]
    fn has(page: &crate::site::Shown, ids: &[&str]) {
        for id in ids {
            let attribute = format!(" id=\"{id}\"");
            assert_eq!(page.html.matches(&attribute).count(), 1, "#{id}: {page:?}");
        }
    }
    let site = Site::with(|s| s.users[2].mfa = true).await;
    let mut browser = Browser::new(&site);
    let page = browser.authorize(&[]).await;
    has(&page, &["login", "passwd", "submit"]);
    let wrong = browser
        .submit(&page, &[("login", ADMIN.0), ("passwd", "wrong")])
        .await;
    has(&wrong, &["error", "login", "passwd", "submit"]);
    let page = browser
        .submit(&page, &[("login", ADMIN.0), ("passwd", ADMIN.1)])
        .await;
    has(&page, &["approve"]);
    let page = browser.submit(&page, &[("mfa", "approve")]).await;
    has(&page, &["everyone", "accept", "cancel"]);
    browser.submit(&page, &[("decision", "accept")]).await;
    let choose = browser.authorize(&[("prompt", "select_account")]).await;
    has(&choose, &["other"]);
    assert!(choose.html.contains(&format!("value=\"{}\"", ADMIN.0)));
    let page = browser.get(&site.url("device")).await;
    has(&page, &["user_code", "submit"]);
    let page = browser.authorize(&[("redirect_uri", "x")]).await;
    has(&page, &["error"]);
}
