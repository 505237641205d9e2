//! What the token endpoint's errors come to, row by row.

use postrider_plugin::ErrorKind::{self, *};
use postrider_plugin::wire::{Answer, FailureKind};
use serde_json::{Value, json};

use crate::host::*;

/// The answer to a refresh at Microsoft.
fn refused(answer: Answer) -> postrider_plugin::Error {
    let driver = driver(&microsoft("authorization_code", &[]));
    let mut flow = obtain(&driver, Some("0.AXkA-refresh-token"));
    flow.answer(answer);
    flow.error().clone()
}

/// A body as Entra ID sends it.
fn entra(error: &str, suberror: &str, code: u32) -> Value {
    let mut body = json!({
        "error": error,
        "error_description": format!("AADSTS{code}: No. Trace ID: t Correlation ID: c Timestamp: 2026-07-27 21:30:32Z"),
        "error_codes": [code],
        "timestamp": "2026-07-27 21:30:32Z",
        "trace_id": "t",
        "correlation_id": "c",
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    if !suberror.is_empty() {
        body["suberror"] = suberror.into();
    }
    body
}

#[test]
fn microsofts_refusals_are_sorted_by_what_helps() {
    let rows: &[(u16, &str, &str, u32, ErrorKind)] = &[
        // change the configuration
        (401, "invalid_client", "", 7_000_215, Config),
        (401, "invalid_client", "", 7_000_222, Config),
        (400, "unauthorized_client", "", 700_016, Config),
        (401, "invalid_client", "", 7_000_218, Config),
        (401, "invalid_client", "", 700_025, Config),
        (401, "invalid_client", "", 700_027, Config),
        (400, "invalid_request", "", 28_000, Config),
        (400, "invalid_scope", "", 70_011, Config),
        (400, "invalid_resource", "", 500_011, Config),
        (400, "invalid_resource", "", 650_057, Config),
        (400, "invalid_request", "", 50_194, Config),
        (400, "invalid_request", "", 9_002_313, Config),
        (400, "invalid_tenant", "", 90_002, Config),
        (400, "invalid_request", "", 90_002, Config),
        (400, "invalid_request", "", 900_439, Config),
        // sign in again; the refresh token is dead
        (400, "invalid_grant", "", 70_008, InvalidGrant),
        (400, "invalid_grant", "bad_token", 700_082, InvalidGrant),
        (400, "invalid_grant", "", 700_084, InvalidGrant),
        (400, "invalid_grant", "token_expired", 70_043, InvalidGrant),
        (400, "invalid_grant", "bad_token", 50_173, InvalidGrant),
        (400, "invalid_grant", "", 54_005, InvalidGrant),
        (400, "invalid_grant", "", 501_481, InvalidGrant),
        (400, "invalid_grant", "", 50_034, InvalidGrant),
        (400, "invalid_grant", "", 50_126, InvalidGrant),
        (400, "invalid_grant", "client_mismatch", 0, InvalidGrant),
        // a person must act; the refresh token stays
        (400, "invalid_grant", "consent_required", 65_001, NeedsUser),
        (400, "invalid_grant", "", 65_001, NeedsUser),
        (
            400,
            "interaction_required",
            "basic_action",
            50_076,
            NeedsUser,
        ),
        (400, "invalid_grant", "basic_action", 50_076, NeedsUser),
        (400, "invalid_grant", "", 50_076, NeedsUser),
        (400, "invalid_grant", "basic_action", 50_079, NeedsUser),
        (400, "bad_verification_code", "", 70_018, NeedsUser),
        (400, "expired_token", "", 70_019, NeedsUser),
        // an administrator must act; the refresh token stays
        (400, "invalid_grant", "message_only", 53_003, Denied),
        (400, "invalid_grant", "", 53_003, Denied),
        (400, "invalid_grant", "", 50_053, Denied),
        (400, "invalid_grant", "", 50_055, Denied),
        (400, "invalid_grant", "", 50_057, Denied),
        (400, "invalid_grant", "", 50_105, Denied),
        (400, "access_denied", "", 530_035, Denied),
        (400, "access_denied", "", 65_004, Denied),
        (400, "access_denied", "", 90_094, Denied),
        // wait
        (400, "temporarily_unavailable", "", 90_033, Transient),
        (400, "server_error", "", 50_033, Transient),
        (503, "temporarily_unavailable", "", 90_006, Transient),
        (400, "invalid_grant", "", 50_196, Transient),
        // unknown words
        (400, "something_new", "", 50_087, Transient),
        (400, "something_new", "", 1_234_567, Denied),
        (
            400,
            "invalid_grant",
            "something_new",
            1_234_567,
            InvalidGrant,
        ),
        // a server in trouble proves nothing
        (500, "invalid_grant", "bad_token", 50_173, Transient),
        (429, "invalid_client", "", 7_000_215, Transient),
    ];
    for (status, error, suberror, code, expected) in rows {
        let got = refused(json_response(*status, &entra(error, suberror, *code)));
        let row = format!("{status} {error} {suberror} {code}: {got:?}");
        assert_eq!(got.kind, *expected, "{row}");
        assert_eq!(got.detail.oauth_error.as_deref(), Some(*error), "{row}");
        let suberror = Some(*suberror).filter(|text| !text.is_empty());
        assert_eq!(got.detail.oauth_suberror.as_deref(), suberror, "{row}");
        let description = got.detail.oauth_description.unwrap();
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{row}");
        assert_eq!(
            got.detail.user_url,
            Some(format!(
                "https://login.microsoftonline.com/error?code={code}"
            )),
            "{row}"
        );
    }
}

#[test]
fn the_message_says_who_answered_what() {
    let error = refused(json_response(
        400,
        &entra("invalid_grant", "bad_token", 50_173),
    ));
    assert_eq!(
        error.detail.message,
        "login.microsoftonline.com answered invalid_grant/bad_token (AADSTS50173)"
    );
}

#[test]
fn an_error_reported_as_a_success_is_an_error() {
    let error = refused(json_response(200, &json!({ "error": "invalid_grant" })));
    assert_eq!(error.kind, InvalidGrant);
}

#[test]
fn a_busy_provider_says_when_to_come_back() {
    let at = "Mon, 27 Jul 2026 21:31:32 GMT";
    let past = "Mon, 27 Jul 2026 21:00:00 GMT";
    for (status, value, expected) in [
        (429, "17", Some(17_000)),
        (503, " 120 ", Some(120_000)),
        (503, at, Some(60_000)),
        (503, past, Some(0)),
        (503, "soon", None),
        (429, "-1", None),
        (429, "99999999999999999999999", None),
        (429, "18446744073709551615", Some(u64::MAX)),
        // Only for what a retry can help.
        (400, "17", None),
    ] {
        let error = refused(response(status, &[("retry-after", value)], ""));
        assert_eq!(error.detail.retry_after_ms, expected, "{status} {value}");
    }
}

#[test]
fn a_page_instead_of_json_is_described_but_never_quoted() {
    let page = "<html><h1>canary-page</h1></html>";
    for (status, headers, expected, hint) in [
        (
            502,
            &[("content-type", "text/html")][..],
            Transient,
            "(text/html)",
        ),
        (429, &[], Transient, "(no content type)"),
        (408, &[], Transient, "HTTP 408"),
        (
            200,
            &[("content-type", "text/html; charset=x")],
            Protocol,
            "(text/html; charset=x)",
        ),
        (
            302,
            &[("location", "https://canary.example/")],
            Protocol,
            "HTTP 302",
        ),
        (
            403,
            &[("content-type", "text/plain\r\nx: y")],
            Protocol,
            "(text/plain x: y)",
        ),
        (404, &[], Protocol, "HTTP 404"),
    ] {
        let error = refused(response(status, headers, page));
        assert_eq!(error.kind, expected, "{status}: {error}");
        assert!(error.detail.message.contains(hint), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn errors_of_odd_shapes_keep_what_can_be_used() {
    for body in [
        json!({ "error": "invalid_grant", "suberror": 7, "error_codes": "x", "error_uri": [] }),
        json!({ "error": "invalid_grant", "suberror": null, "error_codes": [-1, "x", 1.5] }),
        json!({ "error": "invalid_grant", "suberror": "", "error_uri": "javascript:alert(1)" }),
    ] {
        let error = refused(json_response(400, &body));
        assert_eq!(error.kind, InvalidGrant, "{body}");
        assert_eq!(error.detail.oauth_suberror, None, "{body}");
        assert_eq!(error.detail.user_url, None, "{body}");
    }
}

#[test]
fn long_texts_with_line_breaks_become_short_lines() {
    let long = "x\r\n\u{1b}[31m\0é ".repeat(5000);
    let body = json!({
        "error": long, "suberror": long, "error_description": long,
        "error_uri": format!("https://example.org/{}", "x".repeat(5000)),
    });
    let detail = refused(json_response(400, &body)).detail;
    for (text, most) in [
        (detail.message, 400),
        (detail.oauth_error.unwrap(), 110),
        (detail.oauth_suberror.unwrap(), 110),
        (detail.oauth_description.unwrap(), 2010),
    ] {
        assert!(text.len() <= most, "{} octets", text.len());
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert_eq!(detail.user_url, None);
}

#[test]
fn a_network_in_trouble_never_retires_a_token() {
    let driver = driver(&microsoft("authorization_code", &[]));
    for (failure, expected) in [
        (FailureKind::Unreachable, Transient),
        (FailureKind::Refused, Denied),
    ] {
        let mut flow = obtain(&driver, Some("0.AXkA-refresh-token"));
        flow.fail(failure, "connection reset");
        assert_eq!(flow.error().kind, expected);
    }
}
