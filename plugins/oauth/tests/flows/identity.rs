//! Who signed in: what is believed of an ID token and of the userinfo endpoint.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use postrider_plugin::ErrorKind::{self, *};
use postrider_plugin::kit::testing::{Driver, Flow, Turn};
use postrider_plugin::wire::{
    Action, Answer, Config, Empty, FailureKind, Identity, IdentitySource, LoginMethod, Secret,
};
use serde_json::{Value, json};

use crate::host::*;

const TENANT: &str = "8d5f1c52-60a9-4c2b-9e0a-3b1f7c4d2e60";
const PERSON: &str = "svc-mail@contoso.com";
/// The state and the nonce made of the octets given below.
const STATE: &str = "AgICAgICAgICAgICAgICAg";
const NONCE: &str = "AwMDAwMDAwMDAwMDAwMDAw";

/// Microsoft 365 with this tenant and scopes that ask for an ID token.
fn openid(flow: &str, tenant: &str) -> Config {
    let mut config = microsoft(flow, &[]);
    config.settings.insert("tenant".into(), tenant.into());
    let scopes = json!([
        "openid",
        "profile",
        "https://outlook.office.com/SMTP.Send",
        "offline_access"
    ]);
    config.settings.insert("scopes".into(), scopes);
    config
}

/// A provider with endpoints of its own, a userinfo endpoint among them.
fn with_userinfo(scopes: &[&str]) -> Config {
    let more = json!({ "scopes": scopes, "userinfo_endpoint": "https://id.example.org/me" });
    generic("authorization_code", more, &[])
}

/// What Entra ID's ID token says of this sign-in.
fn claims() -> Value {
    json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        "aud": CLIENT_ID,
        "exp": NOW_MS / 1000 + 3600,
        "nonce": NONCE,
        "sub": "pairwise-subject",
        "tid": TENANT,
        "preferred_username": PERSON,
        "name": "Mail service",
        "ver": "2.0",
    })
}

fn changed(change: Value) -> Value {
    let mut claims = claims();
    merge(&mut claims, change);
    claims
}

fn jwt(claims: &Value) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({ "alg": "RS256" })), part(claims))
}

fn tokens_with(id_token: &str) -> Answer {
    json_response(
        200,
        &json!({
            "token_type": "Bearer", "access_token": "access-1", "refresh_token": "r",
            "expires_in": 3599, "id_token": id_token,
        }),
    )
}

/// A browser sign-in up to the answer of the token endpoint.
fn signed_in(driver: &Driver<postrider_oauth::OAuth>, answer: Answer) -> Flow {
    let mut flow = login(driver, LoginMethod::Browser);
    let mut fill = 1;
    while matches!(flow.action(), Action::Random(_)) {
        give_random(&mut flow, fill);
        fill += 1;
    }
    flow.answer(Answer::Listening("http://localhost:5000/".into()));
    let back = format!("http://localhost:5000/?code=c&state={STATE}");
    flow.answer(Answer::Redirect(Secret::new(back)));
    flow.answer(answer);
    flow
}

fn entra(claims: &Value) -> Flow {
    let driver = driver(&openid("authorization_code", "contoso.com"));
    signed_in(&driver, tokens_with(&jwt(claims)))
}

#[track_caller]
fn identity(flow: &Flow) -> &Identity {
    flow.tokens().identity.as_ref().expect("an identity")
}

#[test]
fn the_id_token_tells_who_signed_in() {
    let flow = entra(&claims());
    assert_eq!(
        *identity(&flow),
        Identity {
            usernames: vec![PERSON.into()],
            subject: Some("pairwise-subject".into()),
            tenant: Some(TENANT.into()),
            name: Some("Mail service".into()),
            source: IdentitySource::IdToken,
        }
    );
    assert!(flow.tokens().id_token.is_some());
}

#[test]
fn a_nonce_goes_out_with_openid_alone() {
    for (config, nonce) in [
        (openid("authorization_code", "contoso.com"), Some(NONCE)),
        (microsoft("authorization_code", &[]), None),
    ] {
        let mut flow = login(&driver(&config), LoginMethod::Browser);
        for fill in 1..=2 + u8::from(nonce.is_some()) {
            give_random(&mut flow, fill);
        }
        flow.answer(Answer::Listening("http://localhost:5000/".into()));
        let Action::OpenUrl(open) = flow.action() else {
            panic!("{:?}", flow.turn());
        };
        let url = url::Url::parse(&open.url).unwrap();
        let sent: Vec<_> = url
            .query_pairs()
            .filter(|(name, _)| name == "nonce")
            .map(|(_, value)| value.into_owned())
            .collect();
        assert_eq!(sent, Vec::from_iter(nonce.map(str::to_owned)));
    }
}

#[test]
fn a_device_code_tells_who_signed_in_without_a_nonce() {
    let driver = driver(&openid("device_code", "contoso.com"));
    for (change, good) in [
        (json!({ "nonce": null }), true),
        (json!({}), true),
        (json!({ "aud": "another" }), false),
    ] {
        let mut flow = login(&driver, LoginMethod::DeviceCode);
        flow.answer(json_response(
            200,
            &json!({ "device_code": "d", "user_code": "u", "expires_in": 900,
                "verification_uri": "https://microsoft.com/devicelogin" }),
        ));
        flow.answer(Answer::Shown(Empty {}));
        flow.sleep();
        flow.answer(tokens_with(&jwt(&changed(change))));
        if good {
            assert_eq!(identity(&flow).usernames, [PERSON]);
        } else {
            assert_eq!(flow.error().kind, Protocol);
        }
    }
}

#[test]
fn an_id_token_that_is_not_for_this_sign_in_ends_it() {
    let past = NOW_MS / 1000 - 300;
    let rows: &[(Value, &str)] = &[
        (json!({ "iss": null }), "`iss`"),
        (
            json!({ "iss": "https://evil.example.org/v2.0" }),
            "another issuer",
        ),
        (
            json!({ "iss": "https://login.microsoftonline.com/another/v2.0" }),
            "another issuer",
        ),
        (
            json!({ "iss": format!("https://login.microsoftonline.com.evil.example/{TENANT}/v2.0") }),
            "another issuer",
        ),
        (json!({ "tid": null }), "another issuer"),
        (json!({ "aud": null }), "`aud`"),
        (json!({ "aud": "another" }), "`aud`"),
        (json!({ "aud": [] }), "`aud`"),
        (json!({ "aud": ["another"] }), "`aud`"),
        (json!({ "azp": "another" }), "`aud`"),
        (json!({ "azp": null, "aud": [null, 7] }), "`aud`"),
        (json!({ "exp": null }), "`exp`"),
        (json!({ "exp": past }), "clock"),
        (json!({ "exp": 0 }), "clock"),
        (json!({ "exp": -1 }), "clock"),
        (json!({ "nonce": null }), "`nonce`"),
        (json!({ "nonce": "" }), "`nonce`"),
        (json!({ "nonce": "another" }), "`nonce`"),
        (json!({ "aud": 7 }), "`aud`"),
    ];
    for (change, words) in rows {
        let flow = entra(&changed(change.clone()));
        let error = flow.error();
        assert_eq!(error.kind, Protocol, "{change}: {error}");
        assert!(error.detail.message.contains(words), "{change}: {error}");
    }
}

#[test]
fn what_is_no_jwt_ends_the_sign_in() {
    let good = jwt(&claims());
    let payload = good.split('.').nth(1).unwrap();
    for broken in [
        "opaque",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "..",
        &format!("a.{payload}"),
        &format!("a.{payload}=.c"),
        &format!("a.{}.c", BASE64URL.encode("[]")),
        &format!("a.{}.c", BASE64URL.encode("not json")),
    ] {
        let driver = driver(&openid("authorization_code", "contoso.com"));
        let flow = signed_in(&driver, tokens_with(broken));
        assert_eq!(flow.error().kind, Protocol, "{broken}");
        assert_eq!(
            flow.error().detail.message,
            "the ID token is not a signed JWT"
        );
    }
}

#[test]
fn what_good_id_tokens_differ_in_is_fine() {
    for change in [
        json!({ "aud": [CLIENT_ID] }),
        json!({ "aud": [CLIENT_ID, "another"], "azp": CLIENT_ID }),
        json!({ "exp": NOW_MS / 1000 - 299 }),
        json!({ "exp": 1e12 }),
        json!({ "aud": CLIENT_ID.to_uppercase() }),
        json!({ "name": 7, "sub": {}, "email_verified": [] }),
    ] {
        let flow = entra(&changed(change.clone()));
        assert_eq!(identity(&flow).usernames, [PERSON], "{change}");
    }
}

#[test]
fn the_tenant_of_the_settings_is_the_tenant_of_the_person() {
    let consumers = "9188040d-6c67-4c5b-b112-36a304b66dad";
    let of = |tid: &str| json!({ "tid": tid, "iss": format!("https://login.microsoftonline.com/{tid}/v2.0") });
    for (setting, tid, good) in [
        (TENANT, TENANT, true),
        ("8D5F1C52-60A9-4C2B-9E0A-3B1F7C4D2E60", TENANT, true),
        (TENANT, consumers, false),
        ("consumers", consumers, true),
        ("consumers", TENANT, false),
        ("common", TENANT, true),
        ("organizations", TENANT, true),
        ("contoso.com", TENANT, true),
    ] {
        let driver = driver(&openid("authorization_code", setting));
        let flow = signed_in(&driver, tokens_with(&jwt(&changed(of(tid)))));
        if good {
            assert_eq!(identity(&flow).tenant.as_deref(), Some(tid), "{setting}");
        } else {
            let error = flow.error();
            assert_eq!(error.kind, Protocol, "{setting}");
            assert!(error.detail.message.contains("another tenant"), "{error}");
        }
    }
}

#[test]
fn a_person_goes_by_each_name_once_and_by_none_that_is_not_verified() {
    let long = "x".repeat(321);
    let rows: &[(Value, &[&str])] = &[
        (
            json!({ "upn": "u@contoso.com", "email": "e@contoso.com" }),
            &[PERSON, "u@contoso.com", "e@contoso.com"],
        ),
        (
            json!({ "upn": "SVC-Mail@contoso.com", "email": PERSON }),
            &[PERSON],
        ),
        (
            json!({ "email": "e@contoso.com", "email_verified": true }),
            &[PERSON, "e@contoso.com"],
        ),
        (
            json!({ "email": "e@contoso.com", "email_verified": false }),
            &[PERSON],
        ),
        (
            json!({ "email": "e@contoso.com", "email_verified": "false" }),
            &[PERSON],
        ),
        (json!({ "preferred_username": null }), &[]),
        (json!({ "preferred_username": "" }), &[]),
        (json!({ "preferred_username": 7 }), &[]),
        (json!({ "preferred_username": long }), &[]),
        (json!({ "preferred_username": "a\nb@contoso.com" }), &[]),
    ];
    for (change, names) in rows {
        let flow = entra(&changed(change.clone()));
        assert_eq!(identity(&flow).usernames, *names, "{change}");
    }
}

#[test]
fn a_persons_name_is_one_short_line() {
    let flow = entra(&changed(json!({ "name": "A\u{1b}[2J\r\nB" })));
    assert_eq!(identity(&flow).name.as_deref(), Some("A [2J B"));
    let flow = entra(&changed(json!({ "name": "x".repeat(5000) })));
    assert!(identity(&flow).name.as_ref().unwrap().len() < 300);
}

#[test]
fn nobody_is_known_where_nobody_was_asked_for() {
    let driver = driver(&microsoft("authorization_code", &[]));
    // Not asked for, so not looked at.
    let flow = signed_in(&driver, tokens_with("opaque"));
    assert_eq!(flow.tokens().identity, None);
}

#[test]
fn without_an_id_token_the_userinfo_endpoint_is_asked() {
    for scopes in [&["mail.send"][..], &["openid", "mail.send"]] {
        let driver = driver(&with_userinfo(scopes));
        let mut flow = signed_in(&driver, granted());
        let asked = request(&flow);
        assert_eq!(asked.method, "GET");
        assert_eq!(asked.url, "https://id.example.org/me");
        assert_eq!(field(&flow, "authorization"), Some("Bearer access-1"));
        flow.answer(json_response(
            200,
            &json!({ "sub": "s", "email": PERSON, "email_verified": true, "aud": 7 }),
        ));
        let known = identity(&flow);
        assert_eq!(known.usernames, [PERSON]);
        assert_eq!(known.subject.as_deref(), Some("s"));
        assert_eq!(known.source, IdentitySource::Userinfo);
    }
}

#[test]
fn an_id_token_without_a_name_is_completed_by_userinfo_of_the_same_subject() {
    let id_token = json!({
        "iss": "https://id.example.org", "aud": "mailer", "sub": "s",
        "exp": NOW_MS / 1000 + 3600, "nonce": NONCE,
    });
    for (sub, good) in [
        (json!("s"), true),
        (json!("t"), false),
        (json!(null), false),
    ] {
        let driver = driver(&with_userinfo(&["openid", "email"]));
        let mut flow = signed_in(&driver, tokens_with(&jwt(&id_token)));
        flow.answer(json_response(200, &json!({ "sub": sub, "email": PERSON })));
        if good {
            assert_eq!(identity(&flow).usernames, [PERSON]);
        } else {
            assert_eq!(flow.error().kind, Protocol, "{sub}");
        }
    }
}

#[test]
fn a_discovered_provider_is_asked_and_its_issuer_is_exact() {
    let issuer = "https://id.example.org";
    let config = with_secrets(
        json!({ "flow": "authorization_code", "issuer": issuer, "client_id": "mailer",
            "scopes": ["openid", "email"] }),
        &[],
    );
    let metadata = json!({
        "issuer": issuer, "token_endpoint": "https://id.example.org/token",
        "authorization_endpoint": "https://id.example.org/authorize",
        "userinfo_endpoint": "https://id.example.org/me",
    });
    for (theirs, good) in [(issuer, true), ("https://id.example.org/", false)] {
        let mut flow = login(&driver(&config), LoginMethod::Browser);
        flow.answer(json_response(200, &metadata));
        for fill in 1..=3 {
            give_random(&mut flow, fill);
        }
        flow.answer(Answer::Listening("http://localhost:5000/".into()));
        let back = format!("http://localhost:5000/?code=c&state={STATE}");
        flow.answer(Answer::Redirect(Secret::new(back)));
        flow.answer(tokens_with(&jwt(&json!({
            "iss": theirs, "aud": "mailer", "sub": "s", "exp": NOW_MS, "nonce": NONCE,
        }))));
        if good {
            assert_eq!(request(&flow).url, "https://id.example.org/me");
        } else {
            assert!(flow.error().detail.message.contains("another issuer"));
        }
    }
}

#[test]
fn a_userinfo_endpoint_that_will_not_say_leaves_the_sign_in_and_a_warning() {
    for (answer, kind) in [
        (response(401, &[("www-authenticate", "Bearer")], ""), None),
        (response(403, &[], "access-1 may not"), None),
        (
            response(200, &[("content-type", "application/jwt")], "a.b.c"),
            None,
        ),
        (response(503, &[], ""), Some(Transient)),
        (response(429, &[], ""), Some(Transient)),
    ] {
        let driver = driver(&with_userinfo(&["mail.send"]));
        let mut flow = signed_in(&driver, granted());
        flow.answer(answer);
        refused(&driver, &flow, kind);
    }
    for (failure, kind) in [
        (FailureKind::Refused, None),
        (FailureKind::Unreachable, Some(Transient)),
    ] {
        let driver = driver(&with_userinfo(&["mail.send"]));
        let mut flow = signed_in(&driver, granted());
        flow.fail(failure, "no");
        refused(&driver, &flow, kind);
    }
}

fn refused(driver: &Driver<postrider_oauth::OAuth>, flow: &Flow, kind: Option<ErrorKind>) {
    let log = driver.log();
    assert!(!format!("{log:?}").contains("access-1"));
    match kind {
        None => {
            assert_eq!(flow.tokens().identity, None);
            let told = |line: &str| line.contains("who signed in is not known");
            assert!(log.iter().any(|(_, line)| told(line)), "{log:?}");
        }
        Some(kind) => assert_eq!(flow.error().kind, kind),
    }
}

#[test]
fn a_refresh_asks_for_nobody() {
    let driver = driver(&openid("authorization_code", "contoso.com"));
    let mut flow = obtain(&driver, Some("refresh-1"));
    assert_eq!(
        value(&flow, "scope").as_deref(),
        Some("openid profile https://outlook.office.com/SMTP.Send offline_access")
    );
    flow.answer(tokens_with("opaque"));
    assert_eq!(flow.tokens().identity, None);
    assert!(matches!(flow.turn(), Turn::Tokens(_)));
}
