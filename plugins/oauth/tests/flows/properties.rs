//! Whatever the outside sends, a flow goes on or fails in its own words: it never panics
//! (the kit would report [`ErrorKind::Internal`]).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use postrider_plugin::ErrorKind;
use postrider_plugin::kit::testing::{Flow, Turn};
use postrider_plugin::wire::{Action, Answer, Empty, LoginMethod, Secret};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::host::*;

/// JSON that looks like what endpoints send, with members of any type.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "access_token",
        "token_type",
        "expires_in",
        "refresh_in",
        "refresh_token",
        "scope",
        "id_token",
        "error",
        "suberror",
        "error_description",
        "error_codes",
        "error_uri",
        "device_code",
        "user_code",
        "verification_uri",
        "verification_uri_complete",
        "interval",
        "message",
        "issuer",
        "token_endpoint",
        "authorization_endpoint",
    ]);
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "Bearer",
            "invalid_grant",
            "slow_down",
            "authorization_pending",
            "https://a.example/",
            "https://id.example.org",
            "bad_token",
            "18446744073709551615",
        ])
        .prop_map(Value::from),
        vec(any::<u64>(), 0..3).prop_map(Value::from),
        Just(json!({ "error": {} })),
    ];
    prop_oneof![
        vec(any::<u8>(), 0..200),
        vec((name, value), 0..8).prop_map(|members| {
            let object: serde_json::Map<_, _> = members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            Value::Object(object).to_string().into_bytes()
        }),
    ]
}

fn claim() -> impl Strategy<Value = String> {
    let names = vec![
        "iss",
        "aud",
        "exp",
        "nonce",
        "sub",
        "tid",
        "preferred_username",
        "upn",
        "email",
        "email_verified",
        "name",
    ];
    prop::sample::select(names).prop_map(str::to_owned)
}

/// Often what makes an ID token good, so that more than its first check is met.
fn claim_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!("mailer")),
        4 => Just(json!(1e300)),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        2 => ".{0,400}".prop_map(Value::from),
        1 => Just(json!(["mailer", {}])),
        1 => Just(Value::Null),
    ]
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(200), 4 => Just(400), 1 => any::<u16>()]
}

fn http() -> impl Strategy<Value = Answer> {
    let field = prop_oneof![
        Just("application/json".to_owned()),
        Just("120".to_owned()),
        Just("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
        any::<String>(),
    ];
    (status(), field, body()).prop_map(|(status, field, body)| {
        let headers = [
            ("content-type", field.as_str()),
            ("retry-after", field.as_str()),
        ];
        response(status, &headers, body)
    })
}

/// Lets pauses pass and codes be shown, and answers HTTP from `answers`.
fn feed(flow: &mut Flow, answers: Vec<Answer>) {
    let mut answers = answers.into_iter();
    while let Turn::Yield(action) = flow.turn() {
        let answer = match action {
            Action::SleepMs(_) => Answer::Slept(Empty {}),
            Action::DeviceCode(_) => Answer::Shown(Empty {}),
            Action::Http(_) => match answers.next() {
                Some(answer) => answer,
                None => return,
            },
            other => panic!("{other:?}"),
        };
        flow.answer(answer);
    }
}

fn check(flow: &Flow) -> Result<(), TestCaseError> {
    if let Turn::Failed(error) = flow.turn() {
        prop_assert_ne!(error.kind, ErrorKind::Internal, "{:?}", error);
        prop_assert!(error.detail.message.len() <= 1024);
        prop_assert!(!error.detail.message.contains(char::is_control));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_token_response_is_survived(answer in http()) {
        let mut flow = obtain(&driver(&microsoft("device_code", &[])), Some("refresh-1"));
        feed(&mut flow, vec![answer]);
        check(&flow)?;
    }

    #[test]
    fn any_device_conversation_is_survived(answers in vec(http(), 1..5), real in any::<bool>()) {
        let mut flow = login(&driver(&microsoft("device_code", &[])), LoginMethod::DeviceCode);
        let mut script = answers;
        if real {
            script.insert(0, json_response(200, &json!({
                "device_code": "d", "user_code": "u", "expires_in": u64::MAX,
                "verification_uri": "https://a.example/", "interval": u64::MAX,
            })));
        }
        feed(&mut flow, script);
        check(&flow)?;
    }

    #[test]
    fn any_id_token_and_any_userinfo_are_survived(
        claims in vec((claim(), claim_value()), 0..8),
        told in body(),
        broken in prop::option::of(".*"),
    ) {
        let claims: serde_json::Map<_, _> = claims.into_iter().collect();
        let claims = BASE64_URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string());
        let id_token = broken.unwrap_or_else(|| format!("e30.{claims}.c2ln"));
        let more = json!({
            "scopes": ["openid"], "userinfo_endpoint": "https://id.example.org/me",
        });
        let mut flow = login(&driver(&generic("device_code", more, &[])), LoginMethod::DeviceCode);
        feed(&mut flow, vec![
            json_response(200, &json!({
                "device_code": "d", "user_code": "u", "expires_in": 900,
                "verification_uri": "https://a.example/",
            })),
            json_response(200, &json!({
                "access_token": "a", "token_type": "Bearer", "id_token": id_token,
            })),
            response(200, &[], told),
        ]);
        check(&flow)?;
        if let Turn::Tokens(tokens) = flow.turn() {
            for name in tokens.identity.iter().flat_map(|identity| &identity.usernames) {
                prop_assert!(!name.is_empty() && name.len() <= 320);
                prop_assert!(!name.contains(char::is_control));
            }
        }
    }

    #[test]
    fn any_metadata_is_survived(answers in vec(http(), 2..4)) {
        let config = with_secrets(
            json!({ "flow": "device_code", "issuer": "https://id.example.org", "client_id": "m" }),
            &[],
        );
        let mut flow = obtain(&driver(&config), Some("refresh-1"));
        feed(&mut flow, answers);
        check(&flow)?;
    }

    #[test]
    fn any_redirect_is_survived(back in ".*", prefix in any::<bool>()) {
        let config = microsoft("authorization_code", &[]);
        let mut flow = login(&driver(&config), LoginMethod::Browser);
        give_random(&mut flow, 1);
        give_random(&mut flow, 2);
        flow.answer(Answer::Listening("http://localhost:5000/".into()));
        let prefix = if prefix { "http://localhost:5000/?state=AgICAgICAgICAgICAgICAg&" } else { "" };
        flow.answer(Answer::Redirect(Secret::new(format!("{prefix}{back}"))));
        check(&flow)?;
    }

    #[test]
    fn any_server_and_name_are_survived(
        offered in vec(any::<String>(), 0..4),
        user in any::<String>(),
        token in any::<String>(),
    ) {
        let driver = driver(&microsoft("device_code", &[]));
        let flow = sasl(&driver, |input| {
            input.offered = offered;
            input.offered.push("OAUTHBEARER".into());
            input.authcid.clone_from(&user);
            input.access_token = Some(Secret::new(token));
        });
        if let Turn::Yield(Action::SaslStart(start)) = flow.turn() {
            // Exactly the separators of the format: nothing was smuggled in.
            let octets = &start.initial_response.as_ref().unwrap().0;
            let separators = octets.split(|octet| *octet == 1).count() - 1;
            prop_assert_eq!(separators, if start.mechanism == "XOAUTH2" { 3 } else { 5 });
        }
        check(&flow)?;
    }
}
