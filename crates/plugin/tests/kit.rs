//! What the kit promises an author, and a host, seen through the real vtable.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::future::{Future, pending};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use postrider_plugin::kit::testing::{Driver, Flow, Turn, config};
use postrider_plugin::kit::{Error, ErrorKind, Io, Level, Plugin, SecretSetting};
use postrider_plugin::wire::{
    Action, Answer, Config, Description, Empty, FailureKind, HttpRequest, HttpResponse, LoginInput,
    LoginMethod, ObtainInput, Octets, Op, RevokeInput, SaslInput, Secret, Tokens,
};
use proptest::prelude::*;
use serde_json::json;

/// A plugin whose `obtain` does what its `behaviour` setting says.
struct Sample {
    behaviour: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Settings {
    /// What `obtain` does.
    behaviour: String,
    /// The password.
    #[expect(dead_code, reason = "stands for the secret in the schema")]
    password: SecretSetting,
}

/// Says in the log when the future that holds it is dropped.
struct Witness(Io);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.log(Level::Trace, "dropped");
    }
}

impl Plugin for Sample {
    fn describe() -> Description {
        Description {
            name: "sample".into(),
            version: "1.0.0".into(),
            summary: "what a test needs".into(),
            ops: vec![Op::Obtain, Op::Sasl],
            mechanisms: vec!["XOAUTH2".into()],
            config_schema: schemars::schema_for!(Settings),
            hosts: vec!["login.example.org".into()],
        }
    }

    fn create(config: Config) -> Result<Self, Error> {
        let settings: Settings = config.settings()?;
        assert_ne!(settings.behaviour, "panic in create", "hunter2");
        Ok(Self {
            behaviour: settings.behaviour,
        })
    }

    async fn obtain(&self, io: Io, input: ObtainInput) -> Result<Tokens, Error> {
        match self.behaviour.as_str() {
            "poll" => poll(&io).await,
            "witness" => {
                let _witness = Witness(io.clone());
                poll(&io).await
            }
            "panic" => {
                let password = io.secret("password").await?;
                panic!("{} is not what I expected", password.expose())
            }
            "foreign" => pending().await,
            "foreign later" => {
                io.sleep(Duration::from_millis(1)).await?;
                pending().await
            }
            "two at once" => {
                let (one, two) = futures_util::future::join(io.random(1), io.random(1)).await;
                one.and(two).map(|_| Tokens::default())
            }
            "give up" => {
                first_poll(io.http(get("https://login.example.org/slow"))).await;
                io.sleep(Duration::from_nanos(1)).await?;
                Ok(Tokens::default())
            }
            "long" => Ok(Tokens {
                scope: Some("x".repeat(1 << 20)),
                ..Tokens::default()
            }),
            "random" => {
                let octets = io.random(4).await?;
                Ok(Tokens {
                    scope: Some(format!("{octets:?}")),
                    ..Tokens::default()
                })
            }
            "echo" => {
                let access_token = input.refresh_token.unwrap_or_default();
                Ok(Tokens {
                    access_token,
                    ..Tokens::default()
                })
            }
            other => Err(Error::new(
                ErrorKind::Config,
                format!("no behaviour `{other}`"),
            )),
        }
    }

    async fn sasl(&self, io: Io, input: SaslInput) -> Result<(), Error> {
        let token = input.access_token.unwrap_or_default();
        let challenge = io
            .sasl_start("XOAUTH2", Some(token.expose().as_bytes()))
            .await?;
        io.log(Level::Warn, &String::from_utf8_lossy(&challenge));
        io.sasl_send(b"").await?;
        Ok(())
    }
}

/// Polls a token endpoint as RFC 8628 §3.4 does, with a clock that it can see move.
async fn poll(io: &Io) -> Result<Tokens, Error> {
    let start = io.now_ms();
    loop {
        let reply = io.http(get("https://login.example.org/token")).await?;
        if reply.status == 200 {
            let waited = io.now_ms() - start;
            let access_token = Secret::new(String::from_utf8_lossy(&reply.body.0));
            return Ok(Tokens {
                access_token,
                expires_in: Some(waited),
                ..Tokens::default()
            });
        }
        io.sleep(Duration::from_secs(5)).await?;
    }
}

fn get(url: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        url: url.into(),
        headers: vec![],
        body: None,
    }
}

/// Polls once and drops: what an author's own time-out would do.
async fn first_poll(future: impl Future) {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let _ = future.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

fn status(status: u16, body: &str) -> Answer {
    Answer::Http(HttpResponse {
        status,
        headers: vec![],
        body: Octets(body.into()),
    })
}

fn sample_config(behaviour: &str) -> Config {
    let mut config = config(json!({ "behaviour": behaviour }));
    config.secrets = vec!["password".into()];
    config
}

fn driver(behaviour: &str) -> Driver<Sample> {
    Driver::create(&sample_config(behaviour)).unwrap()
}

fn obtain(driver: &Driver<Sample>) -> Flow {
    driver.begin(
        Op::Obtain,
        &ObtainInput {
            now_ms: 1_000,
            refresh_token: None,
            scopes: Vec::new(),
        },
    )
}

fn sasl_input() -> SaslInput {
    SaslInput {
        now_ms: 1_000,
        offered: vec!["XOAUTH2".into()],
        authcid: "user@example.org".into(),
        authzid: None,
        host: "smtp.example.org".into(),
        port: 587,
        access_token: Some(Secret::new("t0ken")),
    }
}

#[test]
fn an_async_method_runs_as_a_table_of_actions_and_answers() {
    let driver = driver("poll");
    let mut flow = obtain(&driver);
    for _ in 0..2 {
        let Action::Http(request) = flow.action() else {
            panic!("{:?}", flow.turn())
        };
        assert_eq!(request.url, "https://login.example.org/token");
        flow.answer(status(400, "authorization_pending"));
        assert_eq!(flow.sleep(), Duration::from_secs(5));
    }
    flow.answer(status(200, "t0ken"));
    assert_eq!(flow.tokens().access_token.expose(), "t0ken");
    assert_eq!(flow.tokens().expires_in, Some(10_000));
}

#[test]
fn a_flow_goes_on_where_another_thread_left_it() {
    let driver = driver("poll");
    let mut flow = obtain(&driver);
    flow.answer(status(400, ""));
    let flow = std::thread::spawn(move || {
        flow.sleep();
        flow.answer(status(200, "t0ken"));
        flow
    })
    .join()
    .unwrap();
    assert_eq!(flow.tokens().access_token.expose(), "t0ken");
}

#[test]
fn describe_marks_secrets_in_the_schema() {
    let description = Driver::<Sample>::describe();
    assert_eq!(description.name, "sample");
    let schema = description.config_schema;
    assert_eq!(
        schema.pointer("/properties/password/x-postrider-secret"),
        Some(&json!(true))
    );
    assert_eq!(
        schema.pointer("/properties/password/type"),
        Some(&json!("string"))
    );
    assert_eq!(
        schema.pointer("/required"),
        Some(&json!(["behaviour", "password"]))
    );
    assert_eq!(
        schema.pointer("/$schema"),
        Some(&json!("https://json-schema.org/draft/2020-12/schema"))
    );
}

#[test]
fn a_panic_becomes_an_error_without_its_words_and_poisons_the_instance() {
    let driver = driver("panic");
    let mut bystander = obtain(&driver);
    let mut flow = obtain(&driver);
    flow.answer(Answer::Secret(Secret::new("hunter2")));
    assert_eq!(flow.error().kind, ErrorKind::Internal);
    assert!(flow.error().detail.message.contains("the plugin panicked"));
    assert!(!format!("{:?}", flow.error()).contains("hunter2"));

    for error in [
        flow.answer(Answer::Slept(Empty {})).error(),
        bystander.answer(Answer::Secret(Secret::new("x"))).error(),
        obtain(&driver).error(),
    ] {
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.detail.message.contains("panicked earlier"), "{error}");
    }
}

#[test]
fn a_panic_in_create_is_an_error() {
    let refused = Driver::<Sample>::create(&sample_config("panic in create"));
    let error = refused.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(error.detail.message.contains("the plugin panicked"));
}

#[test]
fn settings_of_the_wrong_shape_are_the_configs_fault() {
    let error = Driver::<Sample>::create(&config(json!({ "behaviour": 1 })))
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Config);
}

#[test]
fn awaiting_what_nobody_would_wake_is_an_error_that_says_so() {
    let later = driver("foreign later");
    let mut flow = obtain(&later);
    flow.sleep();
    for error in [obtain(&driver("foreign")).error(), flow.error()] {
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.detail.message.contains("awaits something"), "{error}");
    }
}

#[test]
fn asking_two_things_at_once_is_an_error_that_says_so() {
    let driver = driver("two at once");
    let mut flow = obtain(&driver);
    flow.answer(Answer::Random(Octets(vec![1])));
    assert_eq!(flow.error().kind, ErrorKind::Internal);
    assert!(flow.error().detail.message.contains("two things at once"));
}

#[test]
fn what_the_plugin_stopped_waiting_for_is_not_asked() {
    let driver = driver("give up");
    let mut flow = obtain(&driver);
    assert_eq!(flow.sleep(), Duration::from_millis(1), "rounded up");
    assert!(matches!(flow.turn(), Turn::Tokens(_)));
}

#[test]
fn ending_a_flow_drops_its_future() {
    let driver = driver("witness");
    let flow = obtain(&driver);
    assert_eq!(driver.log(), []);
    drop(flow);
    assert_eq!(driver.log(), [(Level::Trace as i32, "dropped".to_owned())]);
}

#[test]
fn a_result_that_overflows_the_sink_is_an_internal_error() {
    let driver = driver("long");
    assert_eq!(obtain(&driver).error().kind, ErrorKind::Internal);
}

#[test]
fn operations_the_author_left_out_are_unsupported() {
    let driver = driver("echo");
    let login = LoginInput {
        now_ms: 0,
        method: LoginMethod::Browser,
    };
    let revoke = RevokeInput {
        now_ms: 0,
        refresh_token: None,
        access_token: None,
    };
    for flow in [
        driver.begin(Op::Login, &login),
        driver.begin(Op::Revoke, &revoke),
    ] {
        assert_eq!(flow.error().kind, ErrorKind::Unsupported);
    }
    assert_eq!(
        driver.begin_raw(99, b"{}").error().kind,
        ErrorKind::Unsupported
    );
}

#[test]
fn an_action_the_host_did_not_offer_is_not_asked() {
    let mut config = sample_config("poll");
    config.host_features.retain(|feature| feature != "http");
    let driver = Driver::<Sample>::create(&config).unwrap();
    let flow = obtain(&driver);
    assert_eq!(flow.error().kind, ErrorKind::Unsupported);
    assert!(flow.error().detail.message.contains("`http`"));
}

#[test]
fn each_way_an_action_fails_has_its_kind() {
    for (behaviour, failure, kind) in [
        ("poll", FailureKind::Unreachable, ErrorKind::Transient),
        ("poll", FailureKind::Refused, ErrorKind::Denied),
        ("poll", FailureKind::NoUser, ErrorKind::NeedsUser),
        ("poll", FailureKind::Missing, ErrorKind::Unsupported),
        ("panic", FailureKind::Missing, ErrorKind::Config),
    ] {
        let driver = driver(behaviour);
        let mut flow = obtain(&driver);
        let error = flow.fail(failure, "because").error();
        assert_eq!(error.kind, kind);
        assert!(error.detail.message.ends_with("because"), "{error}");
    }
}

#[test]
fn an_answer_to_another_question_is_the_hosts_fault() {
    let driver = driver("poll");
    let mut flow = obtain(&driver);
    let error = flow.answer(Answer::Text(Secret::new("hunter2"))).error();
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert_eq!(error.detail.message, "the host answered `http` with `text`");
}

#[test]
fn too_few_random_octets_are_the_hosts_fault() {
    let driver = driver("random");
    let mut flow = obtain(&driver);
    flow.answer(Answer::Random(Octets(vec![7; 4])));
    assert_eq!(flow.tokens().scope.as_deref(), Some("[7, 7, 7, 7]"));
    let mut flow = obtain(&driver);
    assert_eq!(
        flow.answer(Answer::Random(Octets(vec![7]))).error().kind,
        ErrorKind::Protocol
    );
}

#[test]
fn a_flow_that_is_over_stays_over() {
    let driver = driver("give up");
    let mut flow = obtain(&driver);
    flow.sleep();
    let error = flow.answer(Answer::Slept(Empty {})).error();
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert!(error.detail.message.contains("already over"));
}

#[test]
fn a_sasl_exchange_passes_octets_and_may_be_left_waiting() {
    let driver = driver("echo");
    let mut flow = driver.begin(Op::Sasl, &sasl_input());
    let Action::SaslStart(start) = flow.action() else {
        panic!("{:?}", flow.turn())
    };
    assert_eq!(start.mechanism, "XOAUTH2");
    assert_eq!(start.initial_response.as_ref().unwrap().0, b"t0ken");
    flow.answer(Answer::SaslChallenge(Octets(
        b"{\"status\":\"400\"}".to_vec(),
    )));
    assert!(matches!(flow.action(), Action::SaslSend(octets) if octets.0.is_empty()));
    assert_eq!(
        driver.log(),
        [(Level::Warn as i32, "{\"status\":\"400\"}".to_owned())]
    );
    drop(flow);
    assert_eq!(obtain(&driver).tokens().access_token.expose(), "");
}

proptest! {
    #[test]
    fn whatever_a_host_sends_a_flow_answers(
        op in 0_u32..6,
        input in prop_oneof![any::<Vec<u8>>(), Just(br#"{"now_ms":1}"#.to_vec())],
        events in prop::collection::vec(event(), 0..4),
    ) {
        let driver = driver("poll");
        let mut flow = driver.begin_raw(op, &input);
        for event in events {
            flow.step_raw(&event);
        }
        prop_assert!(!matches!(flow.turn(), Turn::Failed(e) if e.kind == ErrorKind::Internal));
    }
}

fn event() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        Just(br#"{"now_ms":2,"slept":{}}"#.to_vec()),
        Just(br#"{"now_ms":2,"http":{"status":400}}"#.to_vec()),
        Just(br#"{"now_ms":2,"http":{"status":"400"}}"#.to_vec()),
        Just(br#"{"now_ms":2,"future":{},"slept":{}}"#.to_vec()),
        Just(br#"{"now_ms":2,"unknown":{}}"#.to_vec()),
    ]
}
