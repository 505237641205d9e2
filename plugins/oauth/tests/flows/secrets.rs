//! Secrets stay out of every text, however the provider misbehaves.

use postrider_oauth::OAuth;
use postrider_plugin::kit::testing::{Driver, Flow, Turn};
use postrider_plugin::wire::{
    Action, Answer, Config, Empty, LoginMethod, Octets, Op, RevokeInput, Secret,
};
use postrider_plugin::{Plugin, wire};
use serde_json::json;

use crate::host::*;
use crate::keys::key;

const CANARY: &str = "canary";

/// What a signed assertion, and what the host's randomness below, look like in base64.
const ASSERTION: &str = "eyJ";
const RANDOM: &str = "CQkJ";

/// Plays the host with canaries for every secret, and meets the `nth` HTTP request with
/// `hostile`.
fn play(flow: &mut Flow, nth: usize, hostile: &dyn Fn(&str) -> Answer) {
    let mut requests = 0;
    for _ in 0..64 {
        let answer = match flow.action_or_none() {
            None => return,
            Some(Action::SecretGet(name)) => Answer::Secret(Secret::new(match name.as_str() {
                "private_key" => key().pkcs8_pem.clone(),
                "certificate" => key().certificate_pem.clone(),
                other => format!("canary-{other}"),
            })),
            Some(Action::Random(n)) => Answer::Random(Octets(vec![9; *n as usize])),
            Some(Action::SleepMs(_)) => Answer::Slept(Empty {}),
            Some(Action::Listen(_)) => Answer::Listening("http://localhost:5000/".into()),
            Some(Action::OpenUrl(open)) => {
                let url = url::Url::parse(&open.url).unwrap();
                let (_, state) = url.query_pairs().find(|(name, _)| name == "state").unwrap();
                let back = format!("http://localhost:5000/?code=canary-code&state={state}");
                Answer::Redirect(Secret::new(back))
            }
            Some(Action::DeviceCode(_)) => Answer::Shown(Empty {}),
            Some(Action::Http(request)) => {
                requests += 1;
                let body = request.body.as_ref().map_or(&b""[..], |body| &body.0);
                let mut echo: Vec<_> = url::form_urlencoded::parse(body)
                    .map(|(_, value)| value.into_owned())
                    .collect();
                for (_, value) in request.headers.iter().filter(|(n, _)| n == "authorization") {
                    echo.push(match value.strip_prefix("Bearer ") {
                        Some(token) => token.to_owned(),
                        None => "canary-client_secret".to_owned(),
                    });
                }
                if requests == nth {
                    hostile(&echo.join(" "))
                } else {
                    json_response(
                        200,
                        &json!({
                            "device_code": "canary-device", "user_code": "ABCD",
                            "verification_uri": "https://example.org/d", "expires_in": 900,
                            "access_token": "canary-access", "token_type": "Bearer",
                        }),
                    )
                }
            }
            Some(other) => panic!("{other:?}"),
        };
        flow.answer(answer);
    }
}

trait ActionOrNone {
    fn action_or_none(&self) -> Option<&Action>;
}

impl ActionOrNone for Flow {
    fn action_or_none(&self) -> Option<&Action> {
        match self.turn() {
            Turn::Yield(action) => Some(action),
            _ => None,
        }
    }
}

fn revoke(driver: &Driver<OAuth>) -> Flow {
    let input = RevokeInput {
        now_ms: NOW_MS,
        refresh_token: Some(Secret::new("canary-refresh")),
        access_token: Some(Secret::new("canary-access")),
    };
    driver.begin(Op::Revoke, &input)
}

#[test]
fn no_error_and_no_log_line_holds_a_secret() {
    type Begin = fn(&Driver<OAuth>) -> Flow;
    let flows: &[(&str, Begin, usize)] = &[
        ("client_credentials", |driver| obtain(driver, None), 1),
        (
            "device_code",
            |driver| obtain(driver, Some("canary-refresh")),
            1,
        ),
        (
            "authorization_code",
            |driver| login(driver, LoginMethod::Browser),
            1,
        ),
        (
            "device_code",
            |driver| login(driver, LoginMethod::DeviceCode),
            1,
        ),
        (
            "device_code",
            |driver| login(driver, LoginMethod::DeviceCode),
            2,
        ),
        // The userinfo endpoint.
        (
            "authorization_code",
            |driver| login(driver, LoginMethod::Browser),
            2,
        ),
        (
            "device_code",
            |driver| login(driver, LoginMethod::DeviceCode),
            3,
        ),
        ("device_code", revoke, 1),
    ];
    let proofs: &[(&str, &[&str])] = &[
        ("post", &["client_secret"]),
        ("basic", &["client_secret"]),
        ("private_key_jwt", &["private_key", "certificate"]),
        ("private_key_jwt", &["assertion"]),
    ];
    let hostile: &[&dyn Fn(&str) -> Answer] = &[
        &|echo| {
            let body = json!({ "error": "invalid_grant", "suberror": echo, "error_description": echo,
                               "error_uri": format!("https://example.org/?{echo}") });
            json_response(400, &body)
        },
        &|echo| json_response(401, &json!({ "error": echo })),
        &|echo| response(200, &[("content-type", "text/html")], format!("<p>{echo}")),
        &|echo| response(503, &[], echo),
        &|echo| json_response(200, &json!({ "access_token": echo, "token_type": echo })),
        &|echo| {
            json_response(
                200,
                &json!({ "access_token": [echo], "expires_in": echo, "device_code": 1 }),
            )
        },
    ];
    let mut failures = 0;
    for (flow, begin, nth) in flows {
        for (client_auth, secrets) in proofs {
            let more = json!({
                "client_auth": client_auth,
                "userinfo_endpoint": "https://id.example.org/me",
            });
            let driver = driver(&generic(flow, more, secrets));
            for hostile in hostile {
                let mut running = begin(&driver);
                play(&mut running, *nth, hostile);
                let Turn::Failed(error) = running.turn() else {
                    continue;
                };
                failures += 1;
                let texts = format!("{error} {error:?} {:?}", error.detail);
                for secret in [CANARY, ASSERTION, RANDOM] {
                    assert!(!texts.contains(secret), "{flow} {client_auth}: {texts}");
                }
            }
            for (_, line) in driver.log() {
                assert!(!line.contains(CANARY), "{line}");
            }
        }
    }
    // Every hostile answer but a few ends a flow: the test does not pass by doing nothing.
    assert!(failures > 100, "{failures}");
}

#[test]
fn an_instance_shows_no_secret() {
    let config: Config = generic("client_credentials", json!({}), &["client_secret"]);
    let plugin = <OAuth as Plugin>::create(config).unwrap();
    assert!(!format!("{plugin:?}").contains(CANARY));
    let tokens = wire::Tokens {
        access_token: Secret::new("canary"),
        ..wire::Tokens::default()
    };
    assert!(!format!("{tokens:?}").contains(CANARY));
}
