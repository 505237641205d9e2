//! Signing in with a browser on this machine.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use postrider_plugin::ErrorKind::{self, *};
use postrider_plugin::kit::testing::Flow;
use postrider_plugin::wire::{Action, Answer, Config, FailureKind, LoginMethod, Secret};
use ring::digest::{SHA256, digest};
use serde_json::json;
use url::Url;

use crate::host::*;

const REDIRECT: &str = "http://localhost:49152/";

/// A flow up to the browser, and the query of the URL it opens.
fn opened(config: &Config) -> (Flow, String, BTreeMap<String, String>) {
    let mut flow = login(&driver(config), LoginMethod::Browser);
    give_random(&mut flow, 1);
    give_random(&mut flow, 2);
    match flow.action() {
        Action::Listen(listen) => assert_eq!(listen.redirect_uri, "http://localhost"),
        other => panic!("{other:?}"),
    }
    flow.answer(Answer::Listening(REDIRECT.into()));
    let Action::OpenUrl(open) = flow.action() else {
        panic!("{:?}", flow.turn());
    };
    let url = Url::parse(&open.url).unwrap();
    let query: Vec<_> = url.query_pairs().into_owned().collect();
    let map: BTreeMap<_, _> = query.iter().cloned().collect();
    assert_eq!(query.len(), map.len(), "each parameter once: {url}");
    let endpoint = open.url.split('?').next().unwrap().to_owned();
    (flow, endpoint, map)
}

/// Comes back with these parameters; `STATE` stands for the flow's own.
fn come_back(flow: &mut Flow, state: &str, query: &str) {
    let url = format!("{REDIRECT}?{}", query.replace("STATE", state));
    flow.answer(Answer::Redirect(Secret::new(url)));
}

#[test]
fn the_code_is_redeemed_with_the_verifier_of_its_challenge() {
    let (mut flow, endpoint, query) = opened(&microsoft("authorization_code", &["client_secret"]));
    assert_eq!(
        endpoint,
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/authorize"
    );
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["client_id"], CLIENT_ID);
    assert_eq!(query["redirect_uri"], REDIRECT);
    assert_eq!(
        query["scope"],
        "https://outlook.office.com/SMTP.Send offline_access"
    );
    assert_eq!(query["login_hint"], "svc-mail@contoso.com");
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["state"], BASE64_URL_SAFE_NO_PAD.encode([2; 16]));

    come_back(
        &mut flow,
        &query["state"],
        "code=0.AXkA%2B%2F%3D&state=STATE&session_state=x",
    );
    give_secret(&mut flow, "client_secret", "s3cret~value");
    assert_eq!(request(&flow).url, TOKEN_ENDPOINT);
    let verifier = value(&flow, "code_verifier").unwrap();
    assert!((43..=128).contains(&verifier.len()), "{verifier}");
    assert_eq!(
        query["code_challenge"],
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
    );
    assert_eq!(
        form(&flow),
        pairs(&[
            ("grant_type", "authorization_code"),
            ("code", "0.AXkA+/="),
            ("code_verifier", &verifier),
            ("client_id", CLIENT_ID),
            ("redirect_uri", REDIRECT),
            ("client_secret", "s3cret~value"),
        ])
    );
    flow.answer(json_response(
        200,
        &json!({ "token_type": "Bearer", "access_token": "a", "refresh_token": "r", "expires_in": 4000 }),
    ));
    assert_eq!(flow.tokens().refresh_token.as_ref().unwrap().expose(), "r");
}

#[test]
fn a_redirect_that_is_no_answer_to_this_sign_in_redeems_nothing() {
    let rows: &[(&str, ErrorKind, &str)] = &[
        ("code=c", Protocol, "another `state`"),
        ("code=c&state=", Protocol, "another `state`"),
        ("code=c&state=STATE1", Protocol, "another `state`"),
        (
            "code=c&state=AAAAAAAAAAAAAAAAAAAAAA",
            Protocol,
            "another `state`",
        ),
        ("error=access_denied", Protocol, "another `state`"),
        ("code=c&code=d&state=STATE", Protocol, "given twice"),
        ("code=c&state=STATE&state=STATE", Protocol, "given twice"),
        ("state=STATE", Protocol, "neither code nor error"),
        ("code=&state=STATE", Protocol, "neither code nor error"),
        (
            "error=access_denied&error_description=AADSTS65004%3A+declined&state=STATE",
            Denied,
            "access_denied",
        ),
        (
            "error=access_denied&error_description=AADSTS90094%3A+admin&state=STATE",
            Denied,
            "access_denied (AADSTS90094)",
        ),
        (
            "error=invalid_grant&error_description=AADSTS65001%3A+consent&state=STATE",
            NeedsUser,
            "(AADSTS65001)",
        ),
        (
            "error=access_denied&error_description=AADSTS99999999999999999999999&state=STATE",
            Denied,
            "the sign-in page answered access_denied",
        ),
        (
            "error=consent_required&state=STATE",
            NeedsUser,
            "consent_required",
        ),
        (
            "error=interaction_required&state=STATE",
            NeedsUser,
            "interaction_required",
        ),
        (
            "error=invalid_scope&state=STATE&code=c",
            Config,
            "invalid_scope",
        ),
        (
            "error=unauthorized_client&state=STATE",
            Config,
            "unauthorized_client",
        ),
        (
            "error=temporarily_unavailable&state=STATE",
            Transient,
            "temporarily_unavailable",
        ),
        ("error=server_error&state=STATE", Transient, "server_error"),
    ];
    for (back, kind, words) in rows {
        let (mut flow, _, query) = opened(&microsoft("authorization_code", &[]));
        come_back(&mut flow, &query["state"], back);
        let error = flow.error();
        assert_eq!(error.kind, *kind, "{back}: {error}");
        assert!(error.detail.message.contains(words), "{back}: {error}");
    }
}

#[test]
fn the_redirects_error_is_handed_on() {
    let (mut flow, _, query) = opened(&microsoft("authorization_code", &[]));
    come_back(
        &mut flow,
        &query["state"],
        "error=access_denied&error_subcode=cancel&error_description=AADSTS65004%3A%0D%0Adeclined&state=STATE",
    );
    let detail = &flow.error().detail;
    assert_eq!(detail.oauth_error.as_deref(), Some("access_denied"));
    assert_eq!(detail.oauth_suberror.as_deref(), Some("cancel"));
    assert_eq!(
        detail.oauth_description.as_deref(),
        Some("AADSTS65004: declined")
    );
}

#[test]
fn an_issuer_in_the_redirect_must_be_the_providers() {
    let ours = "iss=https%3A%2F%2Flogin.microsoftonline.com%2F0000%2Fv2.0";
    for (iss, redeemed) in [
        (ours, true),
        (
            "iss=https%3A%2F%2Flogin.microsoftonline.com.example.org%2Fv2.0",
            false,
        ),
        ("iss=http%3A%2F%2Flogin.microsoftonline.com%2Fv2.0", false),
        ("iss=", false),
    ] {
        let (mut flow, _, query) = opened(&microsoft("authorization_code", &[]));
        come_back(
            &mut flow,
            &query["state"],
            &format!("code=c&state=STATE&{iss}"),
        );
        if redeemed {
            assert_eq!(value(&flow, "code").as_deref(), Some("c"));
        } else {
            assert_eq!(flow.error().kind, Protocol, "{iss}");
            assert!(flow.error().detail.message.contains("another issuer"));
        }
    }
}

#[test]
fn settings_choose_redirect_and_hint() {
    let more = json!({ "redirect_uri": "http://127.0.0.1/callback", "login_hint": "" });
    let mut flow = login(
        &driver(&generic("authorization_code", more, &[])),
        LoginMethod::Browser,
    );
    give_random(&mut flow, 1);
    give_random(&mut flow, 2);
    let Action::Listen(listen) = flow.action() else {
        panic!("{:?}", flow.turn());
    };
    assert_eq!(listen.redirect_uri, "http://127.0.0.1/callback");
    flow.answer(Answer::Listening("http://127.0.0.1:5000/callback".into()));
    let Action::OpenUrl(open) = flow.action() else {
        panic!("{:?}", flow.turn());
    };
    assert!(
        open.url.contains("127.0.0.1%3A5000%2Fcallback"),
        "{}",
        open.url
    );
    assert!(!open.url.contains("login_hint"), "{}", open.url);
}

#[test]
fn consent_is_asked_for_where_a_refresh_token_depends_on_it() {
    let prompt = |config: &Config| {
        let mut flow = login(&driver(config), LoginMethod::Browser);
        for _ in 0..3 {
            if matches!(flow.action(), Action::Random(_)) {
                give_random(&mut flow, 7);
            }
        }
        flow.answer(Answer::Listening(REDIRECT.into()));
        let Action::OpenUrl(open) = flow.action() else {
            panic!("{:?}", flow.turn());
        };
        let url = Url::parse(&open.url).unwrap();
        let prompt = url.query_pairs().find(|(name, _)| name == "prompt");
        prompt.map(|(_, value)| value.into_owned())
    };
    let scopes = |scopes: &[&str]| {
        let more = json!({ "scopes": scopes });
        prompt(&generic("authorization_code", more, &[]))
    };

    assert_eq!(
        scopes(&["openid", "offline_access", "mail"]).as_deref(),
        Some("consent")
    );
    assert_eq!(scopes(&["openid", "mail"]), None);
    assert_eq!(scopes(&["offline_access", "mail"]), None);
    let mut entra = microsoft("authorization_code", &[]);
    entra
        .settings
        .insert("scopes".into(), json!(["openid", "offline_access"]));
    assert_eq!(prompt(&entra), None);
}

#[test]
fn nobody_at_the_browser_means_a_person_is_needed() {
    let (mut flow, _, _) = opened(&microsoft("authorization_code", &[]));
    flow.fail(FailureKind::NoUser, "nobody came back within ten minutes");
    assert_eq!(flow.error().kind, NeedsUser);
}

#[test]
fn a_sign_in_that_cannot_last_is_warned_of() {
    let driver = driver(&generic("authorization_code", json!({}), &[]));
    let mut flow = login(&driver, LoginMethod::Browser);
    give_random(&mut flow, 1);
    give_random(&mut flow, 2);
    flow.answer(Answer::Listening(REDIRECT.into()));
    let state = BASE64_URL_SAFE_NO_PAD.encode([2; 16]);
    come_back(&mut flow, &state, "code=c&state=STATE");
    flow.answer(granted());
    flow.tokens();
    let log = driver.log();
    assert!(
        log.iter().any(|(_, line)| line.contains("offline_access")),
        "{log:?}"
    );
}

#[test]
fn an_application_on_its_own_does_not_sign_in() {
    let driver = driver(&microsoft("client_credentials", &["client_secret"]));
    for method in [LoginMethod::Browser, LoginMethod::DeviceCode] {
        assert_eq!(login(&driver, method).error().kind, Unsupported);
    }
}

#[test]
fn a_way_in_the_provider_does_not_have_is_said_so() {
    let without = json!({ "authorization_endpoint": null });
    let driver_ = driver(&generic("device_code", without, &[]));
    let flow = login(&driver_, LoginMethod::Browser);
    assert_eq!(flow.error().kind, Unsupported);
    assert!(
        flow.error()
            .detail
            .message
            .contains("authorization_endpoint")
    );
}
