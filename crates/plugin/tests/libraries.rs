//! Plugins as libraries: the one in C, the one that panics, and the bad ones, loaded for real.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod support;

use std::env;
use std::path::PathBuf;

use postrider_plugin::abi::{self, AuthV1};
use postrider_plugin::wire::{
    Action, Answer, Config, Description, Event, HttpResponse, Octets, Op,
};
use serde_json::{Value, json};
use support::{Instance, build, describe, load};

const RESOURCE: &str = "https://outlook.office365.com/";

fn metadata() -> AuthV1 {
    let dir = tempfile::tempdir().unwrap();
    load(&build(dir.path(), "c-metadata/metadata.c")).unwrap()
}

fn config(settings: Value) -> Value {
    let Value::Object(settings) = settings else {
        panic!("{settings}")
    };
    let config = Config {
        account: "alerts".into(),
        username: "svc-mail@contoso.com".into(),
        settings,
        secrets: vec![],
        host_features: Action::FEATURES.map(str::to_owned).to_vec(),
    };
    serde_json::to_value(config).unwrap()
}

fn answered(status: u16, headers: &[(&str, &str)], body: &str) -> Value {
    let headers = headers
        .iter()
        .map(|&(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let answer = Answer::Http(HttpResponse {
        status,
        headers,
        body: Octets(body.into()),
    });
    serde_json::to_value(Event { now_ms: 2, answer }).unwrap()
}

fn sasl_input(offered: &[&str], authcid: &str) -> Value {
    json!({ "now_ms": 1, "offered": offered, "authcid": authcid,
        "host": "smtp.office365.com", "port": 587, "access_token": "t0ken" })
}

#[test]
fn the_c_plugin_describes_itself_as_the_wire_asks() {
    let table = metadata();
    assert_eq!(table.magic, abi::MAGIC);
    assert_eq!(table.size as usize, size_of::<AuthV1>());
    let (code, out) = describe(&table);
    assert_eq!(code, abi::DONE);
    let description: Description = serde_json::from_slice(&out).unwrap();
    assert_eq!(description.name, "metadata");
    assert_eq!(description.ops, [Op::Obtain, Op::Sasl]);
    assert_eq!(description.mechanisms, ["XOAUTH2"]);
    assert_eq!(description.hosts, ["{endpoint}"]);
}

#[test]
fn the_c_plugin_obtains_a_token_from_the_metadata_service() {
    let settings = json!({ "resource": RESOURCE, "endpoint": "http://127.0.0.1:4711/" });
    let instance = Instance::create(metadata(), &config(settings)).unwrap();
    let mut flow = instance.begin(abi_op(Op::Obtain), &json!({ "now_ms": 1 }));
    assert_eq!(flow.code, abi::YIELD);
    let Action::Http(request) = serde_json::from_value(flow.json()).unwrap() else {
        panic!("{}", flow.json());
    };
    assert_eq!(request.method, "GET");
    assert_eq!(
        request.url,
        "http://127.0.0.1:4711/metadata/identity/oauth2/token?api-version=2018-02-01\
         &resource=https%3A%2F%2Foutlook.office365.com%2F"
    );
    assert_eq!(
        request.headers,
        [("Metadata".to_owned(), "true".to_owned())]
    );

    let body = json!({ "access_token": "t0ken \"quoted\" \u{1F4E8}", "refresh_token": "",
        "expires_in": "86399", "token_type": "Bearer", "resource": RESOURCE });
    flow.step(&answered(
        200,
        &[("content-type", "application/json")],
        &body.to_string(),
    ));
    assert_eq!(flow.code, abi::DONE);
    let tokens = flow.json();
    assert_eq!(tokens["access_token"], body["access_token"]);
    assert_eq!(tokens["expires_in"], 86399);
    assert!(tokens.get("refresh_token").is_none());
}

#[test]
fn the_c_plugin_tells_a_pause_from_a_refusal() {
    let settings = json!({ "resource": RESOURCE });
    let instance = Instance::create(metadata(), &config(settings)).unwrap();
    let refusal = r#"{"error":"invalid_request","error_description":"no\nidentity"}"#;
    for (event, code, detail) in [
        (
            answered(429, &[("retry-after", "7")], ""),
            abi::E_TRANSIENT,
            json!({ "retry_after_ms": 7000 }),
        ),
        (
            answered(503, &[("retry-after", "tomorrow")], ""),
            abi::E_TRANSIENT,
            json!({}),
        ),
        (
            answered(400, &[], refusal),
            abi::E_DENIED,
            json!({ "oauth_error": "invalid_request", "oauth_description": "no\nidentity" }),
        ),
        (answered(404, &[], "<html>"), abi::E_DENIED, json!({})),
        (answered(200, &[], "{}"), abi::E_PROTOCOL, json!({})),
        (
            answered(200, &[], &"x".repeat(70_000)),
            abi::E_PROTOCOL,
            json!({}),
        ),
        (
            json!({ "now_ms": 2, "failed": { "kind": "unreachable", "message": "no route" } }),
            abi::E_TRANSIENT,
            json!({}),
        ),
    ] {
        let mut flow = instance.begin(abi_op(Op::Obtain), &json!({ "now_ms": 1 }));
        flow.step(&event);
        assert_eq!(flow.code, code, "{event}");
        let mut got = flow.json();
        got.as_object_mut()
            .unwrap()
            .remove("message")
            .expect("a message");
        assert_eq!(got, detail);
    }
}

#[test]
fn the_c_plugin_presents_the_token_and_answers_one_challenge() {
    let settings = json!({ "resource": RESOURCE });
    let instance = Instance::create(metadata(), &config(settings)).unwrap();
    let input = sasl_input(&["LOGIN", "XOAUTH2"], "svc-mail@contoso.com");
    let mut flow = instance.begin(abi_op(Op::Sasl), &input);
    let Action::SaslStart(start) = serde_json::from_value(flow.json()).unwrap() else {
        panic!("{}", flow.json());
    };
    assert_eq!(start.mechanism, "XOAUTH2");
    assert_eq!(
        start.initial_response.unwrap().0,
        b"user=svc-mail@contoso.com\x01auth=Bearer t0ken\x01\x01"
    );
    let challenge = json!({ "now_ms": 2, "sasl_challenge": "eyJzdGF0dXMiOiI0MDAifQ==" });
    flow.step(&challenge);
    assert_eq!(
        (flow.code, flow.json()),
        (abi::YIELD, json!({ "sasl_send": "" }))
    );
    assert_eq!(flow.step(&challenge).code, abi::E_PROTOCOL);
}

#[test]
fn the_c_plugin_refuses_what_it_cannot_do() {
    let table = metadata();
    assert_eq!(refusal(table, json!({})), abi::E_CONFIG);
    assert_eq!(
        refusal(table, json!({ "resource": "x".repeat(1024) })),
        abi::E_CONFIG
    );
    assert_eq!(
        refusal(table, json!({ "resource": "é".repeat(500) })),
        abi::DONE
    );
    assert_eq!(
        refusal(table, json!({ "resource": "x", "endpoint": 1 })),
        abi::E_CONFIG
    );

    let settings = json!({ "resource": RESOURCE });
    let instance = Instance::create(table, &config(settings)).unwrap();
    for (op, input, code) in [
        (abi_op(Op::Login), json!({}), abi::E_UNSUPPORTED),
        (99, json!({}), abi::E_UNSUPPORTED),
        (
            abi_op(Op::Sasl),
            sasl_input(&["PLAIN"], "a"),
            abi::E_UNSUPPORTED,
        ),
        (
            abi_op(Op::Sasl),
            sasl_input(&["XOAUTH2"], "a\u{1}auth=x"),
            abi::E_CONFIG,
        ),
        (
            abi_op(Op::Sasl),
            sasl_input(&["XOAUTH2"], &"a".repeat(600)),
            abi::E_CONFIG,
        ),
        (
            abi_op(Op::Sasl),
            json!({ "offered": ["XOAUTH2"], "authcid": "a" }),
            abi::E_PROTOCOL,
        ),
    ] {
        let flow = instance.begin(op, &input);
        assert_eq!(flow.code, code, "{input}");
        assert!(flow.json()["message"].is_string());
    }
}

fn refusal(table: AuthV1, settings: Value) -> i32 {
    Instance::create(table, &config(settings)).map_or_else(|(code, _)| code, |_| abi::DONE)
}

#[test]
fn a_panic_in_a_library_stops_at_its_border() {
    let table = load(&panics()).unwrap();
    let input = json!({ "now_ms": 1 });
    let slept = json!({ "now_ms": 2, "slept": {} });
    let create = |at: &str| Instance::create(table, &config(json!({ "at": at })));

    let (code, detail) = create("create").err().unwrap();
    assert_eq!((code, is_quiet(&detail)), (abi::E_INTERNAL, true));

    let instance = create("begin").unwrap();
    let flow = instance.begin(abi_op(Op::Obtain), &input);
    assert_eq!((flow.code, is_quiet(&flow.json())), (abi::E_INTERNAL, true));

    let instance = create("step").unwrap();
    let mut flow = instance.begin(abi_op(Op::Obtain), &input);
    flow.step(&slept);
    assert_eq!((flow.code, is_quiet(&flow.json())), (abi::E_INTERNAL, true));
    assert_eq!(
        instance.begin(abi_op(Op::Obtain), &input).code,
        abi::E_INTERNAL
    );

    let instance = create("end").unwrap();
    drop(instance.begin(abi_op(Op::Obtain), &input));
    assert_eq!(
        instance.begin(abi_op(Op::Obtain), &input).code,
        abi::E_INTERNAL
    );

    let instance = create("nowhere").unwrap();
    let mut flow = instance.begin(abi_op(Op::Obtain), &input);
    assert_eq!(flow.step(&slept).code, abi::DONE);
    assert_eq!(flow.json()["access_token"], "token");
}

/// Says where, and not what.
fn is_quiet(detail: &Value) -> bool {
    let message = detail["message"].as_str().unwrap();
    message.starts_with("the plugin panicked at ")
        && message.contains("panics.rs:")
        && !message.contains("hunter2")
}

/// Built by `cargo test` beside this test.
fn panics() -> PathBuf {
    let me = env::current_exe().unwrap();
    let target = me.parent().and_then(|deps| deps.parent()).unwrap();
    target.join("examples/libpanics.so")
}

#[test]
fn each_bad_plugin_has_the_fault_it_is_named_for() {
    let dir = tempfile::tempdir().unwrap();
    let bad = |name: &str| load(&build(dir.path(), &format!("bad/{name}.c")));

    assert!(
        bad("missing_symbol")
            .unwrap_err()
            .contains("postrider_auth_v1")
    );
    assert_eq!(bad("null_table").unwrap_err(), "null");
    assert_ne!(bad("wrong_magic").unwrap().magic, abi::MAGIC);
    assert!((bad("lying_size").unwrap().size as usize) < size_of::<AuthV1>());
    assert!(bad("null_entry").unwrap().step.is_none());
    let (code, out) = describe(&bad("garbage_description").unwrap());
    assert_eq!(code, abi::DONE);
    assert!(serde_json::from_slice::<Value>(&out).is_err());
    assert!(bad("never_returns").unwrap().step.is_some());

    let input = json!({ "now_ms": 1 });
    let instance = |name| Instance::create(bad(name).unwrap(), &config(json!({}))).unwrap();
    let garbage = instance("garbage");
    let flow = garbage.begin(abi_op(Op::Obtain), &input);
    assert_eq!(flow.code, abi::YIELD);
    assert!(serde_json::from_slice::<Action>(&flow.out).is_err());

    let overflow = instance("overflow");
    let flow = overflow.begin(abi_op(Op::Obtain), &input);
    assert_eq!((flow.code, flow.out.len()), (abi::DONE, abi::SINK_CAP));

    let unknown = instance("unknown_code");
    let mut flow = unknown.begin(abi_op(Op::Obtain), &input);
    assert_eq!(flow.step(&json!({ "now_ms": 2, "slept": {} })).code, -77);
}

fn abi_op(op: Op) -> u32 {
    op as u32
}
