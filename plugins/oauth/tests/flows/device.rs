//! Signing in on another device.

use std::time::Duration;

use postrider_plugin::ErrorKind::{self, *};
use postrider_plugin::kit::testing::Flow;
use postrider_plugin::wire::{Action, Answer, Config, DeviceCode, Empty, FailureKind, LoginMethod};
use serde_json::{Value, json};

use crate::host::*;
use crate::keys::key;

fn begin(config: &Config) -> Flow {
    login(&driver(config), LoginMethod::DeviceCode)
}

/// The answer of `devicecode`, as Entra ID gives it.
fn code() -> Value {
    json!({
        "user_code": "ABCD12345",
        "device_code": "DAQAB-device-code",
        "verification_uri": "https://microsoft.com/devicelogin",
        "expires_in": 900,
        "interval": 5,
        "message": "To sign in, use a web browser to open the page\r\nand enter the code.",
    })
}

fn error(name: &str) -> Answer {
    json_response(400, &json!({ "error": name, "error_description": "…" }))
}

#[track_caller]
fn shown(flow: &Flow) -> &DeviceCode {
    match flow.action() {
        Action::DeviceCode(code) => code,
        other => panic!("{other:?}"),
    }
}

/// A flow that shows its code and begins to wait.
fn waiting(body: &Value) -> Flow {
    let mut flow = begin(&microsoft("device_code", &[]));
    flow.answer(json_response(200, body));
    shown(&flow);
    flow.answer(Answer::Shown(Empty {}));
    flow
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_code_is_shown_and_asked_for_until_the_person_has_signed_in() {
    let mut flow = begin(&microsoft("device_code", &[]));
    assert_eq!(
        request(&flow).url,
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/devicecode"
    );
    assert_eq!(
        form(&flow),
        pairs(&[
            (
                "scope",
                "https://outlook.office.com/SMTP.Send offline_access"
            ),
            ("client_id", CLIENT_ID),
        ])
    );
    flow.answer(json_response(200, &code()));

    let code = shown(&flow);
    assert_eq!(code.user_code, "ABCD12345");
    assert_eq!(code.verification_uri, "https://microsoft.com/devicelogin");
    assert_eq!(code.verification_uri_complete, None);
    assert_eq!(code.expires_in, 900);
    assert_eq!(
        code.message.as_deref(),
        Some("To sign in, use a web browser to open the page and enter the code.")
    );
    flow.answer(Answer::Shown(Empty {}));

    assert_eq!(flow.sleep(), seconds(5));
    assert_eq!(request(&flow).url, TOKEN_ENDPOINT);
    assert_eq!(
        form(&flow),
        pairs(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", "DAQAB-device-code"),
            ("client_id", CLIENT_ID),
        ])
    );
    flow.answer(error("authorization_pending"));
    assert_eq!(flow.sleep(), seconds(5));
    flow.answer(error("slow_down"));
    assert_eq!(flow.sleep(), seconds(10));
    flow.answer(error("authorization_pending"));
    assert_eq!(flow.sleep(), seconds(10));
    flow.answer(json_response(
        200,
        &json!({ "token_type": "Bearer", "access_token": "a", "refresh_token": "r", "expires_in": "4000" }),
    ));
    assert_eq!(flow.tokens().expires_in, Some(4000));
}

#[test]
fn trouble_on_the_way_is_waited_out_with_growing_pauses() {
    let mut flow = waiting(&code());
    assert_eq!(flow.sleep(), seconds(5));
    for pause in [10, 20, 40, 60, 60] {
        flow.fail(FailureKind::Unreachable, "no route to host");
        assert_eq!(flow.sleep(), seconds(pause));
    }
    flow.answer(response(503, &[("retry-after", "90")], "busy"));
    assert_eq!(flow.sleep(), seconds(90));
    flow.answer(response(502, &[("content-type", "text/html")], "<html>"));
    assert_eq!(flow.sleep(), seconds(60));
    // Back to the provider's own pace.
    flow.answer(error("authorization_pending"));
    assert_eq!(flow.sleep(), seconds(5));
    flow.answer(granted());
    flow.tokens();
}

#[test]
fn a_decision_ends_the_waiting() {
    let rows: &[(&str, ErrorKind)] = &[
        ("access_denied", Denied),
        ("authorization_declined", Denied),
        ("expired_token", NeedsUser),
        ("bad_verification_code", NeedsUser),
        ("invalid_grant", InvalidGrant),
        ("invalid_client", Config),
        ("unauthorized_client", Config),
    ];
    for (name, kind) in rows {
        let mut flow = waiting(&code());
        flow.sleep();
        flow.answer(error(name));
        assert_eq!(flow.error().kind, *kind, "{name}");
        assert_eq!(flow.error().detail.oauth_error.as_deref(), Some(*name));
    }
}

#[test]
fn a_host_that_refuses_the_request_ends_the_waiting() {
    let mut flow = waiting(&code());
    flow.sleep();
    flow.fail(
        FailureKind::Refused,
        "login.microsoftonline.com is not allowed",
    );
    assert_eq!(flow.error().kind, Denied);
}

#[test]
fn the_code_lapses_even_if_the_provider_does_not_say_so() {
    let mut body = code();
    body["expires_in"] = 12.into();
    let mut flow = waiting(&body);
    for pause in [5, 5, 2] {
        assert_eq!(flow.sleep(), seconds(pause));
        flow.answer(error("authorization_pending"));
    }
    assert_eq!(flow.error().kind, NeedsUser);
    let detail = &flow.error().detail;
    assert!(detail.message.contains("lapsed"));
    assert_eq!(detail.oauth_error.as_deref(), Some("expired_token"));
}

#[test]
fn absurd_intervals_neither_hammer_nor_overflow() {
    for (interval, first) in [(json!(0), 1), (json!(null), 5), (json!(u64::MAX), 900)] {
        let mut body = code();
        body["interval"] = interval.clone();
        let mut flow = waiting(&body);
        assert_eq!(flow.sleep(), seconds(first), "{interval}");
        flow.answer(error("slow_down"));
    }
    let mut body = code();
    body["interval"] = u64::MAX.into();
    body["expires_in"] = u64::MAX.into();
    let mut flow = waiting(&body);
    assert!(matches!(flow.action(), Action::SleepMs(_)));
    flow.answer(Answer::Slept(Empty {}))
        .answer(error("slow_down"));
    assert!(matches!(flow.action(), Action::SleepMs(_)));
}

#[test]
fn each_poll_carries_an_assertion_of_its_own() {
    let config = microsoft("device_code", &["private_key", "certificate"]);
    let mut flow = begin(&config);
    let mut assertions = Vec::new();
    for (round, answer) in [
        json_response(200, &code()),
        error("authorization_pending"),
        granted(),
    ]
    .into_iter()
    .enumerate()
    {
        give_secret(&mut flow, "private_key", &key().pkcs8_pem);
        give_secret(&mut flow, "certificate", &key().certificate_pem);
        give_random(&mut flow, u8::try_from(round).unwrap());
        assertions.push(value(&flow, "client_assertion").unwrap());
        flow.answer(answer);
        match round {
            0 => {
                flow.answer(Answer::Shown(Empty {}));
                flow.sleep();
            }
            1 => drop(flow.sleep()),
            _ => {}
        }
    }
    flow.tokens();
    assertions.sort();
    assertions.dedup();
    assert_eq!(assertions.len(), 3);
}

#[test]
fn only_web_pages_are_shown_to_a_person() {
    let mut body = code();
    body["verification_uri"] = "javascript:alert(1)".into();
    let mut flow = begin(&microsoft("device_code", &[]));
    flow.answer(json_response(200, &body));
    assert_eq!(flow.error().kind, Protocol);

    let mut body = code();
    body["verification_uri_complete"] = "file:///etc/passwd".into();
    let mut flow = begin(&microsoft("device_code", &[]));
    flow.answer(json_response(200, &body));
    assert_eq!(shown(&flow).verification_uri_complete, None);
}

#[test]
fn google_spells_the_page_differently() {
    let mut body = code();
    body["verification_url"] = body["verification_uri"].take();
    body.as_object_mut().unwrap().remove("verification_uri");
    let flow = waiting(&body);
    assert!(matches!(flow.action(), Action::SleepMs(5000)));
}

#[test]
fn a_refused_start_says_why() {
    let mut flow = begin(&microsoft("device_code", &[]));
    flow.answer(error("unauthorized_client"));
    assert_eq!(flow.error().kind, Config);

    let mut flow = begin(&microsoft("device_code", &[]));
    flow.answer(json_response(200, &json!({ "device_code": "canary" })));
    assert_eq!(flow.error().kind, Protocol);
    assert!(!format!("{:?}", flow.error()).contains("canary"));

    let without = json!({ "device_authorization_endpoint": null });
    let flow = begin(&generic("authorization_code", without, &[]));
    assert_eq!(flow.error().kind, Unsupported);
}
