//! Faults on purpose, and bodies nobody would send on purpose.

use postrider_sandbox::scenario::{
    AadError, Effect, Fault, FaultPoint, HttpAnswer, Rotation, Span,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Response;
use tokio::task::JoinHandle;

use crate::site::{DAEMON, FORM, OUTLOOK, OUTLOOK_DEFAULT, PUBLIC, SECRET, Site, TENANT};

const FORM_FIELDS: [(&str, &str); 4] = [
    ("grant_type", "client_credentials"),
    ("client_id", DAEMON),
    ("client_secret", SECRET),
    ("scope", OUTLOOK_DEFAULT),
];

fn fault(at: FaultPoint, effect: Effect, times: Option<u32>) -> Fault {
    Fault {
        times,
        ..Fault::new(at, effect)
    }
}

#[tokio::test]
async fn a_fault_strikes_as_set_and_then_things_work_again() {
    let aadsts = |code, error: Option<&str>| {
        Effect::Aadsts(AadError {
            code,
            error: error.map(str::to_owned),
            suberror: None,
            text: None,
        })
    };
    let busy = Effect::Http(HttpAnswer {
        status: 503,
        retry_after: Some(7),
        body: "busy".to_owned(),
        ..HttpAnswer::default()
    });
    let site = Site::with(|s| {
        s.faults = vec![
            fault(FaultPoint::Token, busy, Some(1)),
            fault(FaultPoint::Token, aadsts(90_033, None), Some(1)),
            fault(
                FaultPoint::Token,
                aadsts(424_242, Some("server_error")),
                Some(1),
            ),
            fault(FaultPoint::Token, Effect::Delay(Span::seconds(0)), Some(1)),
            fault(FaultPoint::Discovery, Effect::Close, None),
        ];
    })
    .await;
    let request = || {
        site.http
            .post(site.token_endpoint())
            .header("content-type", FORM)
            .body(crate::site::encoded(&FORM_FIELDS))
    };
    let first = request().send().await.unwrap();
    assert_eq!(
        (
            first.status().as_u16(),
            first.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "7")
    );
    assert_eq!(first.text().await.unwrap(), "busy");
    site.token(&FORM_FIELDS)
        .await
        .is_error(400, "temporarily_unavailable", 90_033);
    site.token(&FORM_FIELDS)
        .await
        .is_error(400, "server_error", 424_242);
    site.token(&FORM_FIELDS).await.is_ok();
    site.token(&FORM_FIELDS).await.is_ok();

    let closed = site
        .http
        .get(site.url(&format!("{TENANT}/v2.0/.well-known/openid-configuration")))
        .send()
        .await;
    assert!(closed.is_err(), "no answer at all: {closed:?}");
    let log = site.sandbox.state().log_entries(0);
    assert_eq!(
        log.iter()
            .filter(|e| e.why.starts_with("a fault of the scenario"))
            .count(),
        5
    );
}

#[tokio::test]
async fn a_fault_for_one_client_leaves_others_alone() {
    let site = Site::with(|s| {
        let mut only = fault(FaultPoint::Token, Effect::Close, None);
        only.only_for = Some("2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801".to_owned());
        s.faults = vec![only];
    })
    .await;
    site.token(&FORM_FIELDS).await.is_ok();
}

#[tokio::test]
async fn whatever_a_provider_in_trouble_says_can_be_played() {
    let site = Site::start().await;
    for (status, kind, body) in [
        (400, "application/json", r#"{"error":"invalid_request"}"#),
        (401, "application/octet-stream", "\u{0}junk"),
        (429, "application/json", "{}"),
        (500, "text/plain", ""),
        (200, "text/html", "<html><body>Welcome</body></html>"),
    ] {
        let effect = Effect::Http(HttpAnswer {
            status,
            retry_after: (status == 429).then_some(30),
            body: body.to_owned(),
            content_type: kind.to_owned(),
        });
        site.sandbox
            .state()
            .change(|s| s.faults = vec![fault(FaultPoint::Token, effect, Some(1))])
            .unwrap();
        let response = sent(&site, &FORM_FIELDS).await.unwrap().unwrap();
        assert_eq!(response.status().as_u16(), status);
        let headers = response.headers();
        assert_eq!(headers["content-type"].to_str().unwrap(), kind);
        assert_eq!(headers.contains_key("retry-after"), status == 429);
        assert_eq!(response.text().await.unwrap(), body);
        site.token(&FORM_FIELDS).await.is_ok();
    }
}

#[tokio::test]
async fn a_request_left_hanging_has_no_answer_and_does_not_keep_the_sandbox() {
    let site = Site::with(|s| s.faults = vec![fault(FaultPoint::Token, Effect::Hang, None)]).await;
    let tally = || site.sandbox.state().token_requests().client_credentials;
    let hanging = sent(&site, &FORM_FIELDS);
    while tally().requests == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!hanging.is_finished());
    assert_eq!(
        (tally().granted, tally().refused, tally().faults),
        (0, 0, 0)
    );
    // It is not waited for: the request ends with the sandbox.
    site.sandbox.stop().await;
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn a_reply_that_is_lost_leaves_tokens_issued() {
    let site = Site::with(|s| s.tokens.rotation = Rotation::Strict).await;
    let scope = format!("{OUTLOOK} offline_access");
    let old = site.person(&scope).await.text("refresh_token").to_owned();
    let lose = fault(FaultPoint::Token, Effect::LoseReply, Some(1));
    let state = site.sandbox.state();
    state.change(|s| s.faults = vec![lose]).unwrap();
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", PUBLIC),
        ("refresh_token", old.as_str()),
    ];
    assert!(sent(&site, &form).await.unwrap().is_err());
    // The token was used: presenting it again is a reuse.
    site.refresh(&old, &[])
        .await
        .is_error(400, "invalid_grant", 50_173);
    let tally = state.token_requests().refresh_token;
    assert_eq!(
        (tally.requests, tally.granted, tally.refused, tally.faults),
        (2, 1, 1, 1)
    );
}

/// A token request on a connection of its own.
fn sent(site: &Site, form: &[(&str, &str)]) -> JoinHandle<reqwest::Result<Response>> {
    let request = crate::site::client(site.sandbox.ca_pem())
        .post(site.token_endpoint())
        .header("content-type", FORM)
        .body(crate::site::encoded(form));
    tokio::spawn(request.send())
}

/// Pieces a hostile or broken form is made of.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "code",
        "redirect_uri",
        "code_verifier",
        "refresh_token",
        "device_code",
        "user_code",
        "ctx",
        "login",
        "passwd",
        "account",
        "decision",
        "mfa",
        "response_type",
        "response_mode",
        "code_challenge",
        "code_challenge_method",
        "prompt",
        "login_hint",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "authorization_code",
            "refresh_token",
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:device_code",
            DAEMON,
            "2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801",
            SECRET,
            OUTLOOK_DEFAULT,
            "openid offline_access",
            "https://outlook.office.com/SMTP.Send",
            "http://localhost",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "e30.e30.",
            "1.A",
            "code",
            "none",
            "S256",
            "/.default",
            "//",
            "…",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,40}",
        "[ -~]{0,80}",
    ];
    prop_oneof![
        prop::collection::vec((name, value), 0..8).prop_map(|pairs| {
            url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(pairs)
                .finish()
                .into_bytes()
        }),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

#[test]
fn no_form_makes_the_server_fail() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = runtime.block_on(Site::start());
    let paths: Vec<String> = ["token", "devicecode", "authorize"]
        .iter()
        .map(|endpoint| site.url(&format!("{TENANT}/oauth2/v2.0/{endpoint}")))
        .chain([
            site.url("sign-in"),
            site.url("device"),
            site.url("x%00%ff/oauth2/v2.0/token"),
        ])
        .collect();
    let mut runner = TestRunner::new(Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    });
    let input = (prop::sample::select(paths), body());
    let outcome = runner.run(&input, |(path, body)| {
        let query = String::from_utf8_lossy(&body).replace(|c: char| c.is_control(), "");
        let sent = runtime.block_on(async {
            let post = site
                .http
                .post(&path)
                .header("content-type", FORM)
                .body(body)
                .send()
                .await;
            let get = site.http.get(format!("{path}?{query}")).send().await;
            (post, get)
        });
        for answer in [sent.0, sent.1] {
            let status = answer
                .map_err(|e| TestCaseError::fail(format!("no answer: {e:?}")))?
                .status();
            prop_assert!(!status.is_server_error(), "{}", status);
        }
        Ok(())
    });
    outcome.unwrap();
}
