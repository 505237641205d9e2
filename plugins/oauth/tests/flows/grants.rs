//! Tokens without a person: client credentials, refresh, revocation, and what the token
//! endpoint's success may look like.

use postrider_plugin::ErrorKind;
use postrider_plugin::kit::testing::Turn;
use postrider_plugin::wire::{Op, RevokeInput, Secret, Tokens};
use serde_json::{Value, json};

use crate::host::*;

#[test]
fn client_credentials_send_the_secret_and_give_the_token() {
    let driver = driver(&microsoft("client_credentials", &["client_secret"]));
    let mut flow = obtain(&driver, None);
    give_secret(&mut flow, "client_secret", "s3cret~value");

    assert_eq!(request(&flow).url, TOKEN_ENDPOINT);
    assert_eq!(field(&flow, "authorization"), None);
    assert_eq!(
        form(&flow),
        pairs(&[
            ("grant_type", "client_credentials"),
            ("scope", "https://outlook.office365.com/.default"),
            ("client_id", CLIENT_ID),
            ("client_secret", "s3cret~value"),
        ])
    );

    flow.answer(json_response(
        200,
        &json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599,
                 "access_token": "eyJ0.eyJh.c2ln" }),
    ));
    let tokens = flow.tokens();
    assert_eq!(tokens.access_token.expose(), "eyJ0.eyJh.c2ln");
    assert_eq!(tokens.expires_in, Some(3599));
    assert!(tokens.refresh_token.is_none());
}

#[test]
fn a_rotated_secret_is_used_by_the_next_request() {
    let driver = driver(&microsoft("client_credentials", &["client_secret"]));
    for secret in ["first-secret", "second-secret"] {
        let mut flow = obtain(&driver, None);
        give_secret(&mut flow, "client_secret", secret);
        assert_eq!(value(&flow, "client_secret").as_deref(), Some(secret));
        flow.answer(granted());
        flow.tokens();
    }
}

#[test]
fn a_refresh_at_microsoft_names_the_resource_again() {
    let driver = driver(&microsoft("authorization_code", &[]));
    let mut flow = obtain(&driver, Some("0.AXkA-refresh"));
    assert_eq!(request(&flow).url, TOKEN_ENDPOINT);
    assert_eq!(
        form(&flow),
        pairs(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", "0.AXkA-refresh"),
            (
                "scope",
                "https://outlook.office.com/SMTP.Send offline_access"
            ),
            ("client_id", CLIENT_ID),
        ])
    );
    flow.answer(granted());
    flow.tokens();
}

#[test]
fn a_token_of_another_resource_is_had_by_the_same_grant_at_microsoft() {
    let person = driver(&microsoft("authorization_code", &[]));
    let flow = obtain_for(&person, Some("0.AXkA-refresh"), &["User.Read"]);
    assert_eq!(value(&flow, "scope").as_deref(), Some("User.Read"));
    assert_eq!(
        value(&flow, "refresh_token").as_deref(),
        Some("0.AXkA-refresh")
    );

    let app = driver(&microsoft("client_credentials", &["client_secret"]));
    let graph = "https://graph.microsoft.com/.default";
    let mut flow = obtain_for(&app, None, &[graph]);
    give_secret(&mut flow, "client_secret", "secret");
    assert_eq!(value(&flow, "scope").as_deref(), Some(graph));
}

#[test]
fn a_token_of_another_resource_is_asked_of_nobody_else() {
    for (config, scope) in [
        (generic("device_code", json!({}), &[]), "User.Read"),
        (microsoft("device_code", &[]), "two scopes"),
    ] {
        let driver = driver(&config);
        let flow = obtain_for(&driver, Some("refresh-1"), &[scope]);
        assert!(
            matches!(
                flow.error().kind,
                ErrorKind::Unsupported | ErrorKind::Config
            ),
            "{:?}",
            flow.error()
        );
    }
}

#[test]
fn a_refresh_elsewhere_keeps_the_scopes_of_the_sign_in() {
    let driver = driver(&generic("device_code", json!({}), &[]));
    let flow = obtain(&driver, Some("refresh-1"));
    assert_eq!(
        form(&flow),
        pairs(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", "refresh-1"),
            ("client_id", "mailer"),
        ])
    );
}

#[test]
fn without_a_sign_in_a_person_is_needed_and_nothing_is_sent() {
    for flow in ["authorization_code", "device_code"] {
        let driver = driver(&microsoft(flow, &[]));
        let flow = obtain(&driver, None);
        assert_eq!(flow.error().kind, ErrorKind::NeedsUser);
        assert_eq!(flow.error().detail.message, "no sign-in yet");
    }
}

#[test]
fn successes_of_every_shape_are_understood() {
    let bearer = json!({ "access_token": "a", "token_type": "Bearer" });
    let base = Tokens {
        access_token: Secret::new("a"),
        token_type: Some("Bearer".into()),
        ..Tokens::default()
    };
    let cases: Vec<(Value, Tokens)> = vec![
        (json!({}), base.clone()),
        (json!({ "token_type": "bearer" }), base.clone()),
        (json!({ "token_type": "BEARER" }), base.clone()),
        (
            json!({ "expires_in": 3600, "refresh_in": 1800 }),
            Tokens {
                expires_in: Some(3600),
                refresh_in: Some(1800),
                ..base.clone()
            },
        ),
        (
            json!({ "expires_in": "3599", "refresh_in": "43200" }),
            Tokens {
                expires_in: Some(3599),
                refresh_in: Some(43_200),
                ..base.clone()
            },
        ),
        (
            json!({ "expires_in": null, "refresh_in": "" }),
            base.clone(),
        ),
        (
            json!({ "refresh_token": "r2", "id_token": "i", "scope": "a b" }),
            Tokens {
                refresh_token: Some(Secret::new("r2")),
                id_token: Some(Secret::new("i")),
                scope: Some("a b".into()),
                ..base.clone()
            },
        ),
        (
            json!({ "refresh_token": "", "id_token": "", "scope": "" }),
            base.clone(),
        ),
        (
            json!({ "refresh_token": null, "scope": null, "error": null }),
            base.clone(),
        ),
        (
            json!({ "refresh_token_expires_in": 86_400, "refresh_expires_in": 7 }),
            Tokens {
                refresh_token_expires_in: Some(86_400),
                ..base.clone()
            },
        ),
        (
            json!({ "refresh_expires_in": "1800" }),
            Tokens {
                refresh_token_expires_in: Some(1800),
                ..base.clone()
            },
        ),
        // Keycloak's offline session has no end; what is no number says nothing.
        (json!({ "refresh_expires_in": 0 }), base.clone()),
        (json!({ "refresh_token_expires_in": "never" }), base.clone()),
        (json!({ "foci": "1", "client_info": "eyJ" }), base.clone()),
    ];
    let driver = driver(&generic("device_code", json!({}), &[]));
    for (more, expected) in cases {
        let mut body = bearer.clone();
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let mut flow = obtain(&driver, Some("r1"));
        flow.answer(json_response(200, &body));
        let tokens = serde_json::to_value(flow.tokens()).unwrap();
        assert_eq!(tokens, serde_json::to_value(&expected).unwrap(), "{body}");
    }
}

#[test]
fn a_success_need_not_be_labelled_as_json() {
    let body = r#"{"access_token":"a","token_type":"bearer"}"#;
    let driver = driver(&generic("device_code", json!({}), &[]));
    for headers in [&[][..], &[("content-type", "text/javascript")]] {
        let mut flow = obtain(&driver, Some("r1"));
        flow.answer(response(200, headers, body));
        assert_eq!(flow.tokens().access_token.expose(), "a");
    }
}

#[test]
fn what_is_no_token_response_is_a_broken_protocol() {
    let cases = [
        json!({ "token_type": "Bearer" }),
        json!({ "access_token": "canary-token" }),
        json!({ "access_token": "", "token_type": "Bearer" }),
        json!({ "access_token": "canary-token", "token_type": "mac" }),
        json!({ "access_token": 7, "token_type": "Bearer" }),
        json!({ "access_token": "canary-token", "token_type": "Bearer", "expires_in": -1 }),
        json!({ "access_token": "canary-token", "token_type": "Bearer", "expires_in": "canary-soon" }),
        json!(["canary-token"]),
        json!("canary-token"),
        json!(null),
    ];
    let driver = driver(&generic("device_code", json!({}), &[]));
    for body in cases {
        let mut flow = obtain(&driver, Some("r1"));
        flow.answer(json_response(200, &body));
        let error = flow.error();
        assert_eq!(error.kind, ErrorKind::Protocol, "{body}: {error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn revocation_forgets_both_tokens() {
    let driver = driver(&generic("device_code", json!({}), &["client_secret"]));
    let mut flow = driver.begin(
        Op::Revoke,
        &RevokeInput {
            now_ms: NOW_MS,
            refresh_token: Some(Secret::new("refresh-1")),
            access_token: Some(Secret::new("access-1")),
        },
    );
    for (token, hint) in [("refresh-1", "refresh_token"), ("access-1", "access_token")] {
        give_secret(&mut flow, "client_secret", "hush");
        assert_eq!(request(&flow).url, "https://id.example.org/revoke");
        assert_eq!(
            form(&flow),
            pairs(&[
                ("token", token),
                ("token_type_hint", hint),
                ("client_id", "mailer"),
                ("client_secret", "hush"),
            ])
        );
        // RFC 7009 §2.2: the body of a success says nothing.
        flow.answer(response(200, &[], ""));
    }
    assert!(matches!(flow.turn(), Turn::Done), "{:?}", flow.turn());
}

#[test]
fn a_provider_that_revokes_refresh_tokens_alone_has_done_its_part() {
    let driver = driver(&generic("device_code", json!({}), &[]));
    for (error, done) in [("unsupported_token_type", true), ("invalid_client", false)] {
        let input = RevokeInput {
            now_ms: NOW_MS,
            refresh_token: Some(Secret::new("refresh-1")),
            access_token: Some(Secret::new("access-1")),
        };
        let mut flow = driver.begin(Op::Revoke, &input);
        flow.answer(response(200, &[], ""));
        flow.answer(json_response(400, &json!({ "error": error })));
        assert_eq!(matches!(flow.turn(), Turn::Done), done, "{error}");
    }
}

#[test]
fn revocation_says_what_the_provider_cannot_do() {
    let input = RevokeInput {
        now_ms: NOW_MS,
        refresh_token: Some(Secret::new("refresh-1")),
        access_token: None,
    };
    // Entra ID has no revocation endpoint.
    let flow = driver(&microsoft("device_code", &[])).begin(Op::Revoke, &input);
    assert_eq!(flow.error().kind, ErrorKind::Unsupported);

    let mut flow = driver(&generic("device_code", json!({}), &[])).begin(Op::Revoke, &input);
    flow.answer(json_response(
        400,
        &json!({ "error": "unsupported_token_type" }),
    ));
    assert_eq!(flow.error().kind, ErrorKind::Unsupported);
}
