//! Endpoints found by the issuer's metadata.

use postrider_plugin::ErrorKind::{self, *};
use postrider_plugin::kit::testing::Flow;
use postrider_plugin::wire::{Action, Answer, Config, LoginMethod, Op, RevokeInput, Secret};
use serde_json::{Value, json};

use crate::host::*;

fn config(issuer: &str) -> Config {
    with_secrets(
        json!({
            "flow": "authorization_code",
            "issuer": issuer,
            "client_id": "mailer",
            "scopes": ["mail.send", "offline_access"],
        }),
        &[],
    )
}

fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": "https://id.example.org/authorize",
        "token_endpoint": "https://id.example.org/token?v=2",
        "device_authorization_endpoint": "https://id.example.org/device",
        "revocation_endpoint": "https://id.example.org/revoke",
        "jwks_uri": "https://id.example.org/keys",
        "response_types_supported": ["code"],
    })
}

#[track_caller]
fn get(flow: &Flow) -> &str {
    let request = request(flow);
    assert_eq!(request.method, "GET");
    assert!(request.body.is_none());
    &request.url
}

#[test]
fn metadata_is_fetched_once_and_kept() {
    let issuer = "https://id.example.org";
    let driver = driver(&config(issuer));
    let mut flow = obtain(&driver, Some("refresh-1"));
    assert_eq!(
        get(&flow),
        "https://id.example.org/.well-known/openid-configuration"
    );
    flow.answer(json_response(200, &metadata(issuer)));
    assert_eq!(request(&flow).url, "https://id.example.org/token?v=2");
    assert_eq!(request(&flow).method, "POST");

    let flow = obtain(&driver, Some("refresh-1"));
    assert_eq!(request(&flow).method, "POST");
    let input = RevokeInput {
        now_ms: NOW_MS,
        refresh_token: Some(Secret::new("r")),
        access_token: None,
    };
    let flow = driver.begin(Op::Revoke, &input);
    assert_eq!(request(&flow).url, "https://id.example.org/revoke");
}

#[test]
fn a_failure_is_not_kept() {
    let issuer = "https://id.example.org";
    let driver = driver(&config(issuer));
    let mut flow = obtain(&driver, Some("refresh-1"));
    flow.answer(response(503, &[("retry-after", "3")], ""));
    assert_eq!(flow.error().kind, Transient);
    assert_eq!(flow.error().detail.retry_after_ms, Some(3000));

    let mut flow = obtain(&driver, Some("refresh-1"));
    flow.answer(json_response(200, &metadata(issuer)));
    assert_eq!(request(&flow).method, "POST");
}

#[test]
fn both_well_known_places_are_tried() {
    for (issuer, first, second) in [
        (
            "https://id.example.org",
            "https://id.example.org/.well-known/openid-configuration",
            "https://id.example.org/.well-known/oauth-authorization-server",
        ),
        (
            "https://id.example.org/realms/mail/",
            "https://id.example.org/realms/mail/.well-known/openid-configuration",
            "https://id.example.org/.well-known/oauth-authorization-server/realms/mail",
        ),
    ] {
        for nothing in [
            response(404, &[], "no"),
            response(200, &[("content-type", "text/html")], "<html>"),
        ] {
            let mut flow = obtain(&driver(&config(issuer)), Some("r"));
            assert_eq!(get(&flow), first);
            flow.answer(nothing);
            assert_eq!(get(&flow), second);
            flow.answer(json_response(200, &metadata(issuer)));
            assert_eq!(request(&flow).method, "POST");
        }
    }
}

#[test]
fn an_issuer_without_metadata_is_a_matter_of_settings() {
    let mut flow = obtain(&driver(&config("https://id.example.org")), Some("r"));
    flow.answer(response(404, &[], ""))
        .answer(response(404, &[], ""));
    assert_eq!(flow.error().kind, Config);
    let message = &flow.error().detail.message;
    assert!(
        message.contains("issuer") && message.contains("404"),
        "{message}"
    );
}

#[test]
fn metadata_that_would_lead_astray_is_refused() {
    let issuer = "https://id.example.org";
    let rows: &[(&str, Value, ErrorKind)] = &[
        ("issuer", json!("https://id.example.org/"), Config),
        ("issuer", json!("https://evil.example.org"), Config),
        (
            "issuer",
            json!("https://login.microsoftonline.com/{tenantid}/v2.0"),
            Config,
        ),
        (
            "token_endpoint",
            json!("http://id.example.org/token"),
            Protocol,
        ),
        (
            "authorization_endpoint",
            json!("javascript:alert(1)"),
            Protocol,
        ),
        ("revocation_endpoint", json!("file:///etc/passwd"), Protocol),
    ];
    for (name, value, kind) in rows {
        let mut body = metadata(issuer);
        body[*name] = value.clone();
        let mut flow = obtain(&driver(&config(issuer)), Some("r"));
        flow.answer(json_response(200, &body));
        let error = flow.error();
        assert_eq!(error.kind, *kind, "{name} {value}: {error}");
        assert!(error.detail.message.contains(name), "{error}");
    }
}

#[test]
fn an_issuer_the_metadata_promises_is_demanded_of_the_redirect() {
    let issuer = "https://id.example.org";
    for (promised, iss, redeemed) in [
        (true, "&iss=https%3A%2F%2Fid.example.org", true),
        (true, "", false),
        (true, "&iss=https%3A%2F%2Fid.example.org%2F", false),
        (false, "", true),
        (false, "&iss=https%3A%2F%2Fevil.example.org", false),
    ] {
        let mut body = metadata(issuer);
        body["authorization_response_iss_parameter_supported"] = promised.into();
        let mut flow = login(&driver(&config(issuer)), LoginMethod::Browser);
        flow.answer(json_response(200, &body));
        give_random(&mut flow, 1);
        give_random(&mut flow, 2);
        flow.answer(Answer::Listening("http://localhost:5000/".into()));
        let Action::OpenUrl(open) = flow.action() else {
            panic!("{:?}", flow.turn());
        };
        let url = url::Url::parse(&open.url).unwrap();
        let (_, state) = url.query_pairs().find(|(name, _)| name == "state").unwrap();
        let back = format!("http://localhost:5000/?code=c&state={state}{iss}");
        flow.answer(Answer::Redirect(Secret::new(back)));
        if redeemed {
            assert_eq!(
                value(&flow, "code").as_deref(),
                Some("c"),
                "{promised} {iss}"
            );
        } else {
            assert_eq!(flow.error().kind, Protocol, "{promised} {iss}");
        }
    }
}
