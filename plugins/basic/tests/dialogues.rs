//! Each mechanism as the dialogue it has with a server, and what is refused before one.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use postrider_basic::Basic;
use postrider_plugin::ErrorKind;
use postrider_plugin::kit::testing::{Driver, Flow, Turn, config};
use postrider_plugin::wire::{Action, Answer, FailureKind, Octets, Op, SaslInput, Secret};
use proptest::prelude::*;
use serde_json::{Value, json};

const PASSWORD: &str = "tanstaaftanstaaf";

fn driver(settings: Value) -> Driver<Basic> {
    let mut config = config(settings);
    config.secrets = vec!["password".into()];
    Driver::create(&config).unwrap()
}

fn input(offered: &[&str], user: &str, act_for: Option<&str>) -> SaslInput {
    SaslInput {
        now_ms: 1,
        offered: offered.iter().map(|&name| name.to_owned()).collect(),
        authcid: user.to_owned(),
        authzid: act_for.map(str::to_owned),
        host: "smtp.example.org".into(),
        port: 587,
        access_token: None,
    }
}

/// Begins, and hands the password over.
fn start(settings: Value, input: &SaslInput) -> Flow {
    let mut flow = driver(settings).begin(Op::Sasl, input);
    assert!(matches!(flow.action(), Action::SecretGet(name) if name == "password"));
    flow.answer(Answer::Secret(Secret::new(PASSWORD)));
    flow
}

fn challenge(flow: &mut Flow, text: &str) {
    flow.answer(Answer::SaslChallenge(Octets(text.into())));
}

/// The mechanism and the initial response.
fn started(flow: &Flow) -> (&str, Option<&[u8]>) {
    match flow.action() {
        Action::SaslStart(start) => (
            &start.mechanism,
            start.initial_response.as_ref().map(|octets| &*octets.0),
        ),
        action => panic!("{action:?}"),
    }
}

fn sent(flow: &Flow) -> &[u8] {
    match flow.action() {
        Action::SaslSend(octets) => &octets.0,
        action => panic!("{action:?}"),
    }
}

#[test]
fn plain_is_one_message() {
    let mut flow = start(json!({}), &input(&["LOGIN", "PLAIN"], "tim", None));
    assert_eq!(
        started(&flow),
        ("PLAIN", Some(&b"\0tim\0tanstaaftanstaaf"[..]))
    );
    challenge(&mut flow, "more?");
    assert_eq!(flow.error().kind, ErrorKind::Protocol);
}

#[test]
fn plain_can_act_for_another() {
    let flow = start(json!({}), &input(&["PLAIN"], "Kurt", Some("Ursel")));
    assert_eq!(
        started(&flow),
        ("PLAIN", Some(&b"Ursel\0Kurt\0tanstaaftanstaaf"[..]))
    );
}

#[test]
fn login_answers_two_prompts_whatever_they_say() {
    for (first, second) in [
        ("Username:", "Password:"),
        ("User Name\0", "Password\0"),
        ("", ""),
    ] {
        let mut flow = start(json!({}), &input(&["LOGIN", "XOAUTH2"], "tim", None));
        assert_eq!(started(&flow), ("LOGIN", None));
        challenge(&mut flow, first);
        assert_eq!(sent(&flow), b"tim");
        challenge(&mut flow, second);
        assert_eq!(sent(&flow), PASSWORD.as_bytes());
        challenge(&mut flow, "One-time code:");
        assert_eq!(flow.error().kind, ErrorKind::Protocol);
    }
}

#[test]
fn cram_md5_answers_as_in_rfc_2195() {
    let settings = json!({ "mechanisms": ["CRAM-MD5", "PLAIN"] });
    let mut flow = start(settings, &input(&["PLAIN", "CRAM-MD5"], "tim", None));
    assert_eq!(started(&flow), ("CRAM-MD5", None));
    challenge(&mut flow, "<1896.697170952@postoffice.reston.mci.net>");
    assert_eq!(sent(&flow), b"tim b913a602c7eda7a495b4e6e7334d3890");
}

#[test]
fn cram_md5_is_used_only_where_it_is_named() {
    let flow = driver(json!({})).begin(Op::Sasl, &input(&["CRAM-MD5"], "tim", None));
    let error = flow.error();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(
        error.detail.message,
        "the server offers CRAM-MD5; this account uses PLAIN, LOGIN"
    );
}

#[test]
fn the_accounts_order_decides() {
    let offered = input(&["PLAIN", "login"], "tim", None);
    assert_eq!(
        started(&start(
            json!({ "mechanisms": ["LOGIN", "PLAIN"] }),
            &offered
        ))
        .0,
        "LOGIN"
    );
    assert_eq!(
        started(&start(json!({ "mechanisms": ["PLAIN"] }), &offered)).0,
        "PLAIN"
    );
    let flow = driver(json!({})).begin(Op::Sasl, &input(&[], "tim", None));
    assert!(
        flow.error()
            .detail
            .message
            .starts_with("the server offers no mechanism;")
    );
}

#[test]
fn only_plain_acts_for_another() {
    let flow = driver(json!({})).begin(Op::Sasl, &input(&["LOGIN"], "Kurt", Some("Ursel")));
    assert_eq!(flow.error().kind, ErrorKind::Unsupported);
    assert_eq!(
        flow.error().detail.message,
        "LOGIN cannot act for another user"
    );
}

#[test]
fn separators_in_a_field_are_refused_with_its_name() {
    for bad in ["", "a\0b", "a\rb", "a\nb"] {
        let flow = driver(json!({})).begin(Op::Sasl, &input(&["PLAIN"], bad, None));
        assert_refused(&flow, "`username`");
        let flow = driver(json!({})).begin(Op::Sasl, &input(&["PLAIN"], "tim", Some(bad)));
        assert_refused(&flow, "`authzid`");
        let mut flow = driver(json!({})).begin(Op::Sasl, &input(&["PLAIN"], "tim", None));
        flow.answer(Answer::Secret(Secret::new(bad)));
        assert_refused(&flow, "`password`");
    }
}

fn assert_refused(flow: &Flow, field: &str) {
    assert_eq!(flow.error().kind, ErrorKind::Config);
    assert!(
        flow.error().detail.message.starts_with(field),
        "{}",
        flow.error()
    );
}

#[test]
fn a_password_that_is_not_there_is_the_configs_fault() {
    let mut flow = driver(json!({})).begin(Op::Sasl, &input(&["PLAIN"], "tim", None));
    let error = flow
        .fail(FailureKind::Missing, "PRINTER_PASSWORD is not set")
        .error();
    assert_eq!(error.kind, ErrorKind::Config);
    assert_eq!(
        error.detail.message,
        "secret setting `password`: PRINTER_PASSWORD is not set"
    );
    let without = Driver::<Basic>::create(&config(json!({}))).err().unwrap();
    assert_eq!(without.kind, ErrorKind::Config);
}

#[test]
fn unknown_mechanisms_are_refused_in_the_config() {
    let mut config = config(json!({ "mechanisms": ["GSSAPI"] }));
    config.secrets = vec!["password".into()];
    let error = Driver::<Basic>::create(&config).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.detail.message.contains("GSSAPI"), "{error}");
}

#[test]
fn the_description_names_what_it_does() {
    let description = Driver::<Basic>::describe();
    assert_eq!(description.name, "basic");
    assert_eq!(description.ops, [Op::Sasl]);
    assert_eq!(description.mechanisms, ["PLAIN", "LOGIN", "CRAM-MD5"]);
    let schema = description.config_schema;
    assert_eq!(
        schema.pointer("/properties/password/x-postrider-secret"),
        Some(&json!(true))
    );
    assert_eq!(schema.pointer("/required"), Some(&json!(["password"])));
    assert_eq!(schema.pointer("/additionalProperties"), Some(&json!(false)));
}

proptest! {
    #[test]
    fn no_error_quotes_the_password(
        password in "[!-~]{8,40}\\PC*",
        separator in prop_oneof![Just('\0'), Just('\n'), Just('\r')],
        answers in prop::collection::vec(any::<Vec<u8>>(), 0..4),
    ) {
        let spoiled = format!("{password}{separator}");
        for (secret, mechanism) in
            [(&spoiled, "PLAIN"), (&password, "PLAIN"), (&password, "LOGIN"), (&password, "CRAM-MD5")]
        {
            let settings = json!({ "mechanisms": [mechanism] });
            let mut flow = driver(settings).begin(Op::Sasl, &input(&[mechanism], "tim", None));
            flow.answer(Answer::Secret(Secret::new(secret.as_str())));
            for octets in &answers {
                flow.answer(Answer::SaslChallenge(Octets(octets.clone())));
            }
            let shown = format!("{:?}", flow.turn());
            prop_assert!(!shown.contains(&password), "{shown}");
            prop_assert!(!matches!(flow.turn(), Turn::Done | Turn::Tokens(_)));
        }
    }
}
