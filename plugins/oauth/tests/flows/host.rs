//! The host's side of a table: configs, inputs, and answers in short.

use postrider_oauth::OAuth;
use postrider_plugin::kit::testing::{Driver, Flow, config};
use postrider_plugin::wire::{
    Action, Answer, Config, HttpRequest, HttpResponse, LoginInput, LoginMethod, ObtainInput,
    Octets, Op, SaslInput, Secret,
};
use serde_json::{Value, json};

/// 2026-07-27 21:30:32 UTC.
pub(crate) const NOW_MS: u64 = 1_785_187_832_000;

pub(crate) const TOKEN_ENDPOINT: &str =
    "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token";
pub(crate) const CLIENT_ID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

/// Microsoft 365 with this flow, as the preset fills it in.
pub(crate) fn microsoft(flow: &str, secrets: &[&str]) -> Config {
    let scopes = match flow {
        "client_credentials" => json!(["https://outlook.office365.com/.default"]),
        _ => json!(["https://outlook.office.com/SMTP.Send", "offline_access"]),
    };
    with_secrets(
        json!({
            "flow": flow,
            "authority": "https://login.microsoftonline.com",
            "tenant": "contoso.onmicrosoft.com",
            "client_id": CLIENT_ID,
            "scopes": scopes,
        }),
        secrets,
    )
}

/// A provider whose endpoints are given, with this flow.
pub(crate) fn generic(flow: &str, more: Value, secrets: &[&str]) -> Config {
    let mut settings = json!({
        "flow": flow,
        "authorization_endpoint": "https://id.example.org/authorize",
        "token_endpoint": "https://id.example.org/token",
        "device_authorization_endpoint": "https://id.example.org/device",
        "revocation_endpoint": "https://id.example.org/revoke",
        "client_id": "mailer",
        "scopes": ["mail.send"],
    });
    merge(&mut settings, more);
    with_secrets(settings, secrets)
}

/// Sets these members; `null` takes one away.
pub(crate) fn merge(settings: &mut Value, more: Value) {
    let (Value::Object(settings), Value::Object(more)) = (settings, more) else {
        panic!("settings are objects");
    };
    for (name, value) in more {
        match value {
            Value::Null => settings.remove(&name),
            value => settings.insert(name, value),
        };
    }
}

pub(crate) fn with_secrets(settings: Value, secrets: &[&str]) -> Config {
    let mut config = config(settings);
    config.username = "svc-mail@contoso.com".into();
    config.secrets = secrets.iter().map(|name| (*name).to_owned()).collect();
    config
}

pub(crate) fn driver(config: &Config) -> Driver<OAuth> {
    Driver::create(config).unwrap()
}

pub(crate) fn obtain(driver: &Driver<OAuth>, refresh_token: Option<&str>) -> Flow {
    obtain_for(driver, refresh_token, &[])
}

/// The same with these scopes in place of the account's.
pub(crate) fn obtain_for(
    driver: &Driver<OAuth>,
    refresh_token: Option<&str>,
    scopes: &[&str],
) -> Flow {
    let input = ObtainInput {
        now_ms: NOW_MS,
        refresh_token: refresh_token.map(Secret::new),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    driver.begin(Op::Obtain, &input)
}

pub(crate) fn login(driver: &Driver<OAuth>, method: LoginMethod) -> Flow {
    let input = LoginInput {
        now_ms: NOW_MS,
        method,
    };
    driver.begin(Op::Login, &input)
}

pub(crate) fn sasl(driver: &Driver<OAuth>, change: impl FnOnce(&mut SaslInput)) -> Flow {
    let mut input = SaslInput {
        now_ms: NOW_MS,
        offered: vec!["LOGIN".into(), "XOAUTH2".into()],
        authcid: "svc-mail@contoso.com".into(),
        authzid: None,
        host: "smtp.office365.com".into(),
        port: 587,
        access_token: Some(Secret::new("eyJ0eXAi.eyJhdWQi.c2ln")),
    };
    change(&mut input);
    driver.begin(Op::Sasl, &input)
}

/// Answers the request for this secret setting.
#[track_caller]
pub(crate) fn give_secret(flow: &mut Flow, name: &str, value: &str) {
    match flow.action() {
        Action::SecretGet(asked) => assert_eq!(asked, name),
        other => panic!("asked for {other:?}, not for the secret {name}"),
    }
    flow.answer(Answer::Secret(Secret::new(value)));
}

/// Answers the request for random octets with `fill`, as often as wanted.
#[track_caller]
pub(crate) fn give_random(flow: &mut Flow, fill: u8) {
    match *flow.action() {
        Action::Random(n) => flow.answer(Answer::Random(Octets(vec![fill; n as usize]))),
        ref other => panic!("asked for {other:?}, not for random octets"),
    };
}

/// The HTTP request the flow waits for.
#[track_caller]
pub(crate) fn request(flow: &Flow) -> &HttpRequest {
    match flow.action() {
        Action::Http(request) => request,
        other => panic!("asked for {other:?}, not for HTTP"),
    }
}

/// The form in the request the flow waits for, in order.
#[track_caller]
pub(crate) fn form(flow: &Flow) -> Vec<(String, String)> {
    let request = request(flow);
    assert_eq!(request.method, "POST");
    assert_eq!(
        field(flow, "content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(field(flow, "accept"), Some("application/json"));
    let body = request.body.as_ref().unwrap();
    url::form_urlencoded::parse(&body.0).into_owned().collect()
}

/// One value of that form.
#[track_caller]
pub(crate) fn value(flow: &Flow, name: &str) -> Option<String> {
    let mut values = form(flow).into_iter().filter(|(known, _)| known == name);
    let value = values.next().map(|(_, value)| value);
    assert_eq!(values.next(), None, "{name} is given once");
    value
}

/// A header field of the request the flow waits for.
#[track_caller]
pub(crate) fn field<'a>(flow: &'a Flow, name: &str) -> Option<&'a str> {
    let headers = &request(flow).headers;
    let field = headers.iter().find(|(known, _)| known == name);
    field.map(|(_, value)| value.as_str())
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// An HTTP response.
pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    Answer::Http(HttpResponse {
        status,
        headers: pairs(headers),
        body: Octets(body.into()),
    })
}

/// A JSON response.
pub(crate) fn json_response(status: u16, body: &Value) -> Answer {
    let headers = [("content-type", "application/json; charset=utf-8")];
    response(status, &headers, body.to_string())
}

/// A token endpoint's success.
pub(crate) fn granted() -> Answer {
    json_response(
        200,
        &json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": "access-1" }),
    )
}
