//! An app alone: its secret, its roles, and every way to get it wrong.

use jiff::SignedDuration;
use postrider_sandbox::scenario::{Password, Secret};

use crate::site::{
    Answer, DAEMON, FORM, OUTLOOK_DEFAULT, PUBLIC, SECRET, Site, TENANT, encoded, peek,
};

const GOOD: [(&str, &str); 4] = [
    ("grant_type", "client_credentials"),
    ("client_id", DAEMON),
    ("client_secret", SECRET),
    ("scope", OUTLOOK_DEFAULT),
];

/// The good request with some parameters replaced; an empty value removes one.
async fn ask(site: &Site, changes: &[(&'static str, &str)]) -> Answer {
    let mut form = GOOD.to_vec();
    for change in changes {
        form.retain(|(name, _)| *name != change.0);
        if !change.1.is_empty() {
            form.push(*change);
        }
    }
    site.token(&form).await
}

#[tokio::test]
async fn a_secret_earns_a_token_shaped_like_outlooks() {
    let site = Site::start().await;
    let answer = ask(&site, &[]).await;
    let claims = site.outlook_claims(&answer);
    let scenario = site.sandbox.state().scenario();
    let tid = scenario.tenants[0].id.to_string();

    assert_eq!(claims.aud, "https://outlook.office365.com");
    assert_eq!(claims.iss, format!("https://sts.windows.net/{tid}/"));
    assert_eq!(
        (claims.ver.as_str(), claims.appidacr.as_str()),
        ("1.0", "1")
    );
    assert_eq!((claims.appid.as_str(), &claims.tid), (DAEMON, &tid));
    assert_eq!(
        claims.oid,
        scenario.app(DAEMON).unwrap().object_id.to_string()
    );
    assert_eq!(claims.roles, ["SMTP.SendAsApp"]);
    assert!(claims.is_app_only());
    let raw = peek(answer.text("access_token"));
    assert!(raw.get("scp").is_none() && raw.get("upn").is_none());

    let lifetime = answer.json["expires_in"].as_i64().unwrap();
    assert!((3_600..=5_400).contains(&lifetime), "{lifetime}");
    assert_eq!(answer.json["ext_expires_in"], lifetime);
    assert_eq!(claims.exp - claims.iat, lifetime);
    assert!(answer.json.get("refresh_token").is_none() && answer.json.get("refresh_in").is_none());
}

#[tokio::test]
async fn the_secret_may_travel_in_http_basic_form_encoded() {
    let site = Site::with(|s| s.apps[0].secrets[0].value = Password::new("a+b c&d=é%")).await;
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let send = |id: String, secret: String, body: String| {
        let request = site
            .http
            .post(site.token_endpoint())
            .header("content-type", FORM);
        request.basic_auth(id, Some(secret)).body(body).send()
    };
    let body = encoded(&[
        ("grant_type", "client_credentials"),
        ("scope", OUTLOOK_DEFAULT),
    ]);
    let secret = encode("a+b c&d=é%");

    Answer::read(
        send(encode(DAEMON), secret.clone(), body.clone())
            .await
            .unwrap(),
    )
    .await
    .is_ok();
    let named = format!("{body}&client_id={DAEMON}");
    Answer::read(send(encode(DAEMON), secret.clone(), named).await.unwrap())
        .await
        .is_ok();
    let wrong = send(encode(DAEMON), "wrong".to_owned(), body.clone())
        .await
        .unwrap();
    Answer::read(wrong)
        .await
        .is_error(401, "invalid_client", 7_000_215);
    let both = send(
        encode(DAEMON),
        secret.clone(),
        format!("{body}&client_secret=x"),
    )
    .await
    .unwrap();
    Answer::read(both)
        .await
        .is_error(400, "invalid_request", 9_002_313);
    let other = send(encode(DAEMON), secret, format!("{body}&client_id={PUBLIC}"))
        .await
        .unwrap();
    Answer::read(other)
        .await
        .is_error(400, "invalid_request", 9_002_313);
}

/// Changes to the good request, and the error they earn.
type Case<'a> = (&'a [(&'static str, &'a str)], u16, &'a str, u32);

#[tokio::test]
async fn each_mistake_has_its_code() {
    let site = Site::start().await;
    let cases: &[Case<'_>] = &[
        (
            &[("client_secret", "wrong")],
            401,
            "invalid_client",
            7_000_215,
        ),
        (&[("client_secret", "")], 401, "invalid_client", 7_000_218),
        (&[("client_id", "")], 400, "invalid_request", 900_144),
        (
            &[("client_id", "11111111-1111-4111-8111-111111111111")],
            400,
            "unauthorized_client",
            700_016,
        ),
        (&[("client_id", PUBLIC)], 401, "invalid_client", 700_025),
        (
            &[("client_id", PUBLIC), ("client_secret", "")],
            401,
            "invalid_client",
            7_000_218,
        ),
        (&[("scope", "")], 400, "invalid_request", 900_144),
        (
            &[("scope", "https://outlook.office.com/SMTP.Send")],
            400,
            "invalid_scope",
            70_011,
        ),
        (
            &[(
                "scope",
                "https://outlook.office.com/.default https://graph.microsoft.com/.default",
            )],
            400,
            "invalid_scope",
            70_011,
        ),
        (
            &[(
                "scope",
                "https://outlook.office.com/.default offline_access",
            )],
            400,
            "invalid_scope",
            70_011,
        ),
        (
            &[("scope", "https://outlook.example/.default")],
            400,
            "invalid_resource",
            500_011,
        ),
        (&[("grant_type", "")], 400, "invalid_request", 900_144),
        (
            &[("grant_type", "password")],
            400,
            "unsupported_grant_type",
            70_003,
        ),
    ];
    for (changes, status, error, code) in cases {
        let answer = ask(&site, changes).await;
        answer.is_error(*status, error, *code);
    }
    assert!(
        ask(&site, cases[0].0)
            .await
            .text("error_description")
            .contains(&format!("for a secret added to app '{DAEMON}'."))
    );
}

#[tokio::test]
async fn a_token_needs_a_real_tenant_that_has_the_app_and_exchange() {
    let site = Site::with(|s| {
        let mut other = s.tenants[0].clone();
        other.id = "22222222-2222-4222-8222-222222222222".parse_guid();
        other.name = "Fabrikam".to_owned();
        other.domains = vec!["fabrikam.example".to_owned()];
        s.tenants.push(other);
    })
    .await;
    site.token_at("nowhere.example", &GOOD)
        .await
        .is_error(400, "invalid_tenant", 90_002);
    site.token_at("common", &GOOD)
        .await
        .is_error(400, "invalid_request", 50_194);
    site.token_at("fabrikam.example", &GOOD)
        .await
        .is_error(400, "unauthorized_client", 700_016);
    site.sandbox
        .state()
        .change(|s| s.apps[0].multi_tenant = true)
        .unwrap();
    site.token_at("common", &GOOD)
        .await
        .is_error(400, "invalid_request", 50_059);
    site.token_at("fabrikam.example", &GOOD)
        .await
        .is_error(400, "unauthorized_client", 700_016);
    site.sandbox
        .state()
        .change(|s| s.tenants[0].exchange_online = false)
        .unwrap();
    ask(&site, &[])
        .await
        .is_error(400, "invalid_resource", 500_011);
}

trait ParseGuid {
    fn parse_guid(&self) -> postrider_sandbox::scenario::Guid;
}

impl ParseGuid for str {
    fn parse_guid(&self) -> postrider_sandbox::scenario::Guid {
        postrider_sandbox::scenario::Guid::parse(self).unwrap()
    }
}

#[tokio::test]
async fn an_expired_secret_is_told_from_a_wrong_one_and_a_newer_one_replaces_it() {
    let site = Site::start().await;
    let state = site.sandbox.state();
    let past = state
        .now()
        .saturating_sub(SignedDuration::from_secs(1))
        .unwrap();
    state
        .change(|s| s.apps[0].secrets[0].expires = Some(past))
        .unwrap();
    let answer = ask(&site, &[]).await;
    answer.is_error(401, "invalid_client", 7_000_222);
    assert!(
        answer
            .text("error_description")
            .contains("https://aka.ms/NewClientSecret")
    );

    state
        .change(|s| {
            s.apps[0].secrets.push(Secret::new("newer"));
        })
        .unwrap();
    ask(&site, &[("client_secret", "newer")]).await.is_ok();
}

#[tokio::test]
async fn without_consent_the_token_has_no_roles() {
    let site = Site::with(|s| s.apps[0].application_consent.clear()).await;
    let claims = site.outlook_claims(&ask(&site, &[]).await);
    assert!(claims.roles.is_empty() && claims.is_app_only());
}

#[tokio::test]
async fn a_malformed_request_is_refused_before_anything_else() {
    let site = Site::start().await;
    let post = |kind: &'static str, body: String| {
        site.http
            .post(site.token_endpoint())
            .header("content-type", kind)
            .body(body)
            .send()
    };
    for (kind, body) in [
        ("application/json", "{}".to_owned()),
        (FORM, format!("{}&client_id={DAEMON}", encoded(&GOOD))),
    ] {
        let answer = Answer::read(post(kind, body).await.unwrap()).await;
        answer.is_error(400, "invalid_request", 9_002_313);
    }
    assert_eq!(
        site.http
            .get(site.token_endpoint())
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    assert_eq!(post(FORM, "a".repeat(1 << 20)).await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_clients_request_id_comes_back_as_the_correlation_id() {
    let site = Site::start().await;
    let id = "33333333-3333-4333-8333-333333333333";
    let request = site
        .http
        .post(site.token_endpoint())
        .header("client-request-id", id)
        .header("content-type", FORM);
    let answer = Answer::read(request.body("grant_type=x").send().await.unwrap()).await;
    assert_eq!(answer.text("correlation_id"), id);
}

#[tokio::test]
async fn the_log_says_why_and_holds_no_secret() {
    let site = Site::start().await;
    ask(&site, &[("client_secret", "S3CRET-canary")])
        .await
        .is_error(401, "invalid_client", 7_000_215);
    ask(&site, &[]).await.is_ok();
    let entries = site.sandbox.state().log_entries(0);
    assert!(
        entries[0].why.contains("AADSTS7000215") && entries[0].subject == DAEMON,
        "{entries:?}"
    );
    assert!(
        entries[1]
            .why
            .contains("app-only for https://outlook.office365.com")
    );
    let all = format!("{entries:?} {:?} {:?}", site.sandbox, site.sandbox.state());
    assert!(!all.contains("canary") && !all.contains(SECRET));
    assert!(!format!("{:?}", site.sandbox.state().scenario()).contains(SECRET));
}

#[tokio::test]
async fn refresh_in_comes_when_asked_for_and_the_tenants_id_is_a_name_too() {
    let site = Site::with(|s| s.tokens.refresh_in_percent = Some(50)).await;
    let tid = site.sandbox.state().scenario().tenants[0].id.to_string();
    for tenant in [TENANT, "contoso.com", &tid] {
        let answer = site.token_at(tenant, &GOOD).await;
        answer.is_ok();
        assert_eq!(
            answer.json["refresh_in"].as_i64().unwrap(),
            answer.json["expires_in"].as_i64().unwrap() / 2
        );
    }
}
