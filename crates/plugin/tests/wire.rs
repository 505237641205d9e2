//! The JSON of the contract: its spellings, that it survives a round trip, and that nothing
//! a stranger writes is worse than an error.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::fmt::Debug;

use postrider_plugin::wire::{
    Action, Answer, Config, Description, DeviceCode, Empty, ErrorDetail, Event, Failure,
    FailureKind, HttpRequest, HttpResponse, Listen, LoginInput, ObtainInput, Octets, Op, OpenUrl,
    Prompt, RevokeInput, SaslInput, SaslStart, Secret, Tokens,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Read and written again, it is the same JSON.
fn stays<T: Serialize + DeserializeOwned>(json: &Value) -> T {
    let read: T = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&read).unwrap(), json);
    read
}

#[test]
fn actions_are_spelled_as_the_header_says() {
    let actions = [
        json!({"http": {"method": "POST", "url": "https://login.example.org/token",
            "headers": [["accept", "application/json"]], "body": "YT1i"}}),
        json!({"sleep_ms": 5000}),
        json!({"random": 32}),
        json!({"listen": {"redirect_uri": "http://localhost/"}}),
        json!({"open_url": {"url": "https://login.example.org/authorize"}}),
        json!({"device_code": {"user_code": "ABC", "expires_in": 900,
            "verification_uri": "https://login.example.org/device"}}),
        json!({"prompt": {"label": "Code", "secret": true}}),
        json!({"secret_get": "password"}),
        json!({"sasl_start": {"mechanism": "XOAUTH2", "initial_response": "AQ=="}}),
        json!({"sasl_send": ""}),
    ];
    for (json, feature) in actions.iter().zip(Action::FEATURES) {
        let action: Action = stays(json);
        assert_eq!(action.name(), feature);
        assert_eq!(json.as_object().unwrap().keys().next().unwrap(), feature);
    }
    let short = json!({"http": {"method": "GET", "url": "https://login.example.org/"}});
    assert!(serde_json::from_value::<Action>(short).is_ok());
}

#[test]
fn answers_are_spelled_as_the_header_says() {
    for (answer, name) in [
        (
            json!({"status": 200, "headers": [["date", "today"]], "body": "e30="}),
            "http",
        ),
        (json!({}), "slept"),
        (json!("AQID"), "random"),
        (json!("http://localhost:4711/"), "listening"),
        (json!("http://localhost:4711/?code=x"), "redirect"),
        (json!({}), "shown"),
        (json!("123456"), "text"),
        (json!("hunter2"), "secret"),
        (json!("e30="), "sasl_challenge"),
        (
            json!({"kind": "no_user", "message": "nobody is there"}),
            "failed",
        ),
    ] {
        let mut json = json!({"now_ms": 7});
        json[name] = answer;
        assert_eq!(stays::<Event>(&json).answer.name(), name);
    }
}

#[test]
fn inputs_and_results_are_spelled_as_the_header_says() {
    stays::<LoginInput>(&json!({"now_ms": 1, "method": "device_code"}));
    stays::<LoginInput>(&json!({"now_ms": 1, "method": "browser"}));
    stays::<ObtainInput>(&json!({"now_ms": 1, "refresh_token": "r"}));
    stays::<SaslInput>(
        &json!({"now_ms": 1, "offered": ["PLAIN"], "authcid": "u", "authzid": "v",
        "host": "smtp.example.org", "port": 587, "access_token": "t"}),
    );
    stays::<RevokeInput>(&json!({"now_ms": 1, "refresh_token": "r", "access_token": "t"}));
    stays::<Tokens>(
        &json!({"access_token": "t", "token_type": "Bearer", "expires_in": 3599,
        "refresh_in": 1800, "refresh_token": "r", "refresh_token_expires_in": 7_776_000,
        "scope": "a b", "id_token": "i",
        "identity": {"usernames": ["alerts@contoso.com"], "subject": "s", "tenant": "t",
            "name": "Alerts", "source": "id_token"}}),
    );
    stays::<Tokens>(&json!({"access_token": "t",
        "identity": {"usernames": [], "source": "userinfo"}}));
    stays::<Tokens>(&json!({"access_token": "t"}));
    stays::<ErrorDetail>(&json!({"message": "no", "oauth_error": "invalid_grant",
        "oauth_suberror": "consent_required", "oauth_description": "d", "retry_after_ms": 5,
        "user_url": "https://login.example.org/"}));
    stays::<Config>(
        &json!({"account": "a", "username": "u", "settings": {"k": 1},
        "secrets": ["password"], "host_features": ["http"]}),
    );
    stays::<Description>(&json!({"name": "n", "version": "1", "summary": "s",
        "ops": ["login", "obtain", "sasl", "revoke"], "mechanisms": ["PLAIN"],
        "config_schema": {"type": "object"}, "hosts": ["{authority}"]}));
}

#[test]
fn unknown_keys_are_ignored() {
    let event = json!({"newer": {"a": 1}, "slept": {"b": 2}, "now_ms": 7, "newest": 3});
    let event: Event = serde_json::from_value(event).unwrap();
    assert!(matches!(event.answer, Answer::Slept(Empty {})));
    let action = json!({"prompt": {"label": "Code", "newer": true}});
    assert!(serde_json::from_value::<Action>(action).is_ok());
    let tokens = json!({"access_token": "t", "newer": true});
    assert!(serde_json::from_value::<Tokens>(tokens).is_ok());
}

#[test]
fn operations_keep_their_numbers() {
    for (number, op) in [
        (1, Op::Login),
        (2, Op::Obtain),
        (3, Op::Sasl),
        (4, Op::Revoke),
    ] {
        assert_eq!(Op::from_number(number), Some(op));
    }
    assert_eq!((Op::from_number(0), Op::from_number(5)), (None, None));
}

#[test]
fn base64_is_the_padded_alphabet_of_rfc_4648() {
    for (text, octets) in [("", &b""[..]), ("AA==", &[0]), ("+/8=", &[0xFB, 0xFF])] {
        assert_eq!(stays::<Octets>(&json!(text)).0, octets);
    }
    for bad in ["AA", "AA=", "-_8=", "A A=", "AB==", "====", "AAAA\n"] {
        assert!(
            serde_json::from_value::<Octets>(json!(bad)).is_err(),
            "{bad:?}"
        );
    }
}

proptest! {
    #[test]
    fn an_action_survives_its_round_trip(action in action()) {
        round_trip(&action)?;
    }

    #[test]
    fn an_event_survives_its_round_trip(now_ms in any::<u64>(), answer in answer()) {
        round_trip(&Event { now_ms, answer })?;
    }

    #[test]
    fn whatever_octets_come_reading_them_is_no_panic(octets in any::<Vec<u8>>()) {
        let _ = serde_json::from_slice::<Action>(&octets);
        let _ = serde_json::from_slice::<Event>(&octets);
    }

    #[test]
    fn whatever_json_comes_reading_it_is_no_panic(json in almost_wire()) {
        let text = json.to_string();
        let _ = serde_json::from_str::<Action>(&text);
        let _ = serde_json::from_str::<Event>(&text);
        let _ = serde_json::from_str::<Tokens>(&text);
        let _ = serde_json::from_str::<Description>(&text);
        let _ = serde_json::from_str::<Config>(&text);
    }

    #[test]
    fn no_secret_appears_in_any_debug(secret in "[a-z]{2}[0-9]{8}[a-z]{2}") {
        let hidden = || Secret::new(secret.as_str());
        let octets = || Octets(secret.clone().into_bytes());
        let headers = || vec![("authorization".to_owned(), format!("Basic {secret}"))];
        let url = format!("https://login.example.org/?code={secret}");
        let body = Some(octets());
        let shown = [
            debug(&hidden()),
            debug(&octets()),
            debug(&HttpRequest { method: "GET".into(), url, headers: headers(), body }),
            debug(&HttpResponse { status: 200, headers: headers(), body: octets() }),
            debug(&Answer::Redirect(hidden())),
            debug(&Answer::Text(hidden())),
            debug(&Answer::Secret(hidden())),
            debug(&Answer::Random(octets())),
            debug(&ObtainInput { now_ms: 0, refresh_token: Some(hidden()), scopes: vec![] }),
            debug(&SaslInput {
                now_ms: 0, offered: vec![], authcid: String::new(), authzid: None,
                host: String::new(), port: 0, access_token: Some(hidden()),
            }),
            debug(&RevokeInput {
                now_ms: 0, refresh_token: Some(hidden()), access_token: Some(hidden()),
            }),
            debug(&Tokens {
                access_token: hidden(), refresh_token: Some(hidden()), id_token: Some(hidden()),
                ..Tokens::default()
            }),
            debug(&SaslStart { mechanism: "PLAIN".into(), initial_response: Some(octets()) }),
        ];
        for text in shown {
            prop_assert!(!text.contains(&secret), "{text}");
        }
    }
}

fn debug(value: &impl Debug) -> String {
    format!("{value:#?}")
}

fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> Result<(), TestCaseError> {
    let text = serde_json::to_string(value).unwrap();
    let again: T = serde_json::from_str(&text).unwrap();
    prop_assert_eq!(serde_json::to_string(&again).unwrap(), text);
    Ok(())
}

fn octets() -> impl Strategy<Value = Octets> {
    any::<Vec<u8>>().prop_map(Octets)
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(any::<(String, String)>(), 0..3)
}

fn action() -> impl Strategy<Value = Action> {
    let http = (
        any::<String>(),
        any::<String>(),
        headers(),
        prop::option::of(octets()),
    )
        .prop_map(|(method, url, headers, body)| {
            Action::Http(HttpRequest {
                method,
                url,
                headers,
                body,
            })
        });
    let device_code = (
        any::<(String, String, u64)>(),
        any::<(Option<String>, Option<String>)>(),
    )
        .prop_map(
            |((user_code, verification_uri, expires_in), (complete, message))| {
                Action::DeviceCode(DeviceCode {
                    user_code,
                    verification_uri,
                    verification_uri_complete: complete,
                    expires_in,
                    message,
                })
            },
        );
    let start =
        (any::<String>(), prop::option::of(octets())).prop_map(|(mechanism, initial_response)| {
            Action::SaslStart(SaslStart {
                mechanism,
                initial_response,
            })
        });
    prop_oneof![
        http,
        device_code,
        start,
        any::<u64>().prop_map(Action::SleepMs),
        any::<u32>().prop_map(Action::Random),
        any::<String>().prop_map(|redirect_uri| Action::Listen(Listen { redirect_uri })),
        any::<String>().prop_map(|url| Action::OpenUrl(OpenUrl { url })),
        any::<(String, bool)>()
            .prop_map(|(label, secret)| Action::Prompt(Prompt { label, secret })),
        any::<String>().prop_map(Action::SecretGet),
        octets().prop_map(Action::SaslSend),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let http = (any::<u16>(), headers(), octets()).prop_map(|(status, headers, body)| {
        Answer::Http(HttpResponse {
            status,
            headers,
            body,
        })
    });
    let kind = prop::sample::select(vec![
        FailureKind::Unreachable,
        FailureKind::Refused,
        FailureKind::NoUser,
        FailureKind::Missing,
    ]);
    let secret = || any::<String>().prop_map(Secret::new);
    prop_oneof![
        http,
        Just(Answer::Slept(Empty {})),
        octets().prop_map(Answer::Random),
        any::<String>().prop_map(Answer::Listening),
        secret().prop_map(Answer::Redirect),
        Just(Answer::Shown(Empty {})),
        secret().prop_map(Answer::Text),
        secret().prop_map(Answer::Secret),
        octets().prop_map(Answer::SaslChallenge),
        (kind, any::<String>())
            .prop_map(|(kind, message)| Answer::Failed(Failure { kind, message })),
    ]
}

/// JSON that has the wire's keys more often than chance would, and any values.
fn almost_wire() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        prop::sample::select(Action::FEATURES.to_vec()).prop_map(str::to_owned),
        prop::sample::select(vec![
            "now_ms",
            "slept",
            "failed",
            "kind",
            "message",
            "status",
            "headers",
            "body",
            "method",
            "url",
            "access_token",
            "ops",
            "config_schema",
            "settings",
            "name",
            "mechanism",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
