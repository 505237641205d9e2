//! Credentials of the probe, against a token endpoint on loopback.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, Once};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::probe::{Endpoint, Person, Secrets, World, probe, settings};

fn token(n: usize) -> Value {
    json!({
        "access_token": format!("access-canary-{n}"), "token_type": "Bearer",
        "refresh_token": format!("refresh-canary-{n}"), "id_token": format!("id-canary-{n}"),
        "expires_in": 3600, "scope": "mail\nsend"
    })
}

async fn tokens() -> Endpoint {
    Endpoint::start(|n| (200, token(n))).await
}

fn offered() -> Vec<String> {
    vec!["LOGIN".into(), "xoauth2".into()]
}

#[tokio::test]
async fn a_thousand_sessions_at_once_ask_for_one_token() {
    let endpoint = tokens().await;
    let credential = World::new().credential("ops", &endpoint.url(), json!({}));

    let sessions = (0..1000).map(|_| async {
        let token = credential.access_token().await.unwrap().unwrap();
        token.generation()
    });
    let generations = join_all(sessions).await;

    assert_eq!(endpoint.requests(), 1);
    assert!(generations.iter().all(|generation| *generation == 1));
}

#[tokio::test]
async fn callers_who_leave_do_not_stop_the_request_they_started() {
    let endpoint = tokens().await;
    endpoint.close();
    let credential = World::new().credential("ops", &endpoint.url(), json!({}));

    let caller = tokio::spawn({
        let credential = credential.clone();
        async move { credential.access_token().await }
    });
    endpoint.asked(1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    endpoint.open();
    let token = credential.access_token().await.unwrap().unwrap();

    assert_eq!(token.value().expose_secret(), "access-canary-1");
    assert_eq!(endpoint.requests(), 1);
}

#[tokio::test]
async fn a_token_is_refreshed_with_the_refresh_token_of_the_last_one() {
    let endpoint = tokens().await;
    let world = World::new();
    let credential = world.credential("ops", &endpoint.url(), json!({}));

    let first = credential.access_token().await.unwrap().unwrap();
    assert_eq!(first.scope(), Some("mail send"));
    world.clock.advance(Duration::from_secs(1439));
    assert_eq!(
        credential
            .access_token()
            .await
            .unwrap()
            .unwrap()
            .generation(),
        1
    );
    assert_eq!(endpoint.requests(), 1);
    world.clock.advance(Duration::from_secs(2101));
    let second = credential.access_token().await.unwrap().unwrap();

    assert_eq!(second.generation(), 2);
    assert_eq!(
        second.expires_at(),
        world.clock.now() + Duration::from_hours(1)
    );
    assert!(endpoint.bodies()[1].starts_with("refresh_token=refresh-canary-1&"));
}

#[tokio::test]
async fn an_empty_refresh_token_is_none() {
    let endpoint = Endpoint::start(|n| {
        let mut token = token(n);
        token["refresh_token"] = "".into();
        (200, token)
    })
    .await;
    let world = World::new();
    let credential = world.credential("ops", &endpoint.url(), json!({}));

    credential.access_token().await.unwrap();
    world.clock.advance(Duration::from_hours(1));
    credential.access_token().await.unwrap();

    assert!(endpoint.bodies()[1].starts_with("refresh_token=no-refresh-token&"));
}

#[tokio::test]
async fn app_only_accounts_of_one_client_share_a_grant_and_others_do_not() {
    let endpoint = tokens().await;
    let world = World::new();
    let app = || json!({"flow": "app"});
    let other_secret = Credential::new(
        probe(),
        settings("c", &endpoint.url(), app(), "another-secret"),
        Arc::clone(&world.environment),
    )
    .unwrap();
    let value = async |credential: &Credential| {
        credential
            .access_token()
            .await
            .unwrap()
            .unwrap()
            .value()
            .expose_secret()
            .to_owned()
    };

    let user = || json!({"flow": "user"});
    let app_a = value(&world.credential("a", &endpoint.url(), app())).await;
    let app_b = value(&world.credential("b", &endpoint.url(), app())).await;
    let other = value(&other_secret).await;
    let user_a = value(&world.credential("a", &endpoint.url(), user())).await;
    let user_b = value(&world.credential("b", &endpoint.url(), user())).await;
    let again = value(&world.credential("b", &endpoint.url(), user())).await;

    assert_eq!(app_a, app_b, "one app, one token");
    assert_eq!(
        user_b, again,
        "one account, one grant, however often it is set up"
    );
    let distinct = std::collections::BTreeSet::from([app_a, other, user_a, user_b]);
    assert_eq!(distinct.len(), 4);
    assert_eq!(endpoint.requests(), 4);
}

#[tokio::test]
async fn a_person_s_grant_is_theirs_whatever_the_account_is_called() {
    let world = World::new();
    let key = |account: &str, username: &str, endpoint: &str, more: Value| {
        let mut settings = settings(account, endpoint, more, "secret");
        settings.username = username.into();
        let credential = Credential::new(probe(), settings, Arc::clone(&world.environment));
        credential.unwrap().grant_key().unwrap()
    };
    let here = "https://login.example";
    let ops = key("ops", "Ops@Example.org", here, json!({}));

    let renamed = key("alerts", "ops@example.org", here, json!({"mechanism": "X"}));
    assert_eq!(
        ops, renamed,
        "neither the name nor what the provider does not see"
    );
    for (username, endpoint, more) in [
        ("other@example.org", here, json!({})),
        ("ops@example.org", "https://id.example", json!({})),
        ("ops@example.org", here, json!({"flow": "app"})),
    ] {
        assert_ne!(ops, key("ops", username, endpoint, more));
    }
}

#[tokio::test]
async fn an_application_s_grant_outlives_the_value_of_its_secret() {
    struct Rotating(&'static str);
    impl crate::SecretSource for Rotating {
        fn secret(&self, _name: &str) -> Result<SecretString, String> {
            Ok(SecretString::from(self.0))
        }
        fn names(&self) -> Vec<String> {
            vec!["client_secret".into()]
        }
        fn identity(&self, _name: &str) -> String {
            "env=OPS_SECRET".into()
        }
    }
    let endpoint = tokens().await;
    let world = World::new();
    for secret in ["of yesterday", "of today"] {
        let mut settings = settings("ops", &endpoint.url(), json!({"flow": "app"}), "");
        settings.secrets = Arc::new(Rotating(secret));
        let environment = Arc::clone(&world.environment);
        let credential = Credential::new(probe(), settings, environment).unwrap();
        let token = credential.access_token().await.unwrap().unwrap();
        assert_eq!(token.generation(), 1);
    }
    assert_eq!(endpoint.requests(), 1);
}

#[tokio::test]
async fn who_shares_a_grant_hears_of_its_errors_under_their_own_name() {
    let endpoint = Endpoint::start(|_| (400, json!({}))).await;
    let world = World::new();
    for account in ["a", "b"] {
        let credential = world.credential(account, &endpoint.url(), json!({"flow": "app"}));
        assert_eq!(
            credential.access_token().await.unwrap_err().account,
            account
        );
    }
}

#[tokio::test]
async fn an_exchange_carries_the_token_and_names_it_for_a_refusal() {
    let endpoint = tokens().await;
    let world = World::new();
    let credential = world.credential("ops", &endpoint.url(), json!({}));

    let mut flow = credential
        .begin_sasl(&offered(), "smtp.example.org", 587)
        .await
        .unwrap();
    assert_eq!(flow.mechanism(), "xoauth2");
    assert_eq!(
        flow.initial_response(),
        Some(&b"user=ops@example.org;token=access-canary-1"[..])
    );
    assert_eq!(flow.generation(), 1);
    assert_eq!(flow.respond(b"{\"status\":\"401\"}").await.unwrap(), b"");
    let error = flow.respond(b"more").await.unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Denied);
    assert!(flow.respond(b"again").await.is_err(), "it has ended");

    credential.invalidate(flow.generation()).await;
    credential.invalidate(flow.generation()).await;
    let flow = credential
        .begin_sasl(&offered(), "smtp.example.org", 587)
        .await
        .unwrap();
    assert_eq!(flow.generation(), 2);
    assert_eq!(endpoint.requests(), 2);
}

#[tokio::test]
async fn an_exchange_the_contract_does_not_know_is_a_protocol_error() {
    let endpoint = tokens().await;
    let world = World::new();
    for (more, told) in [
        (json!({"mechanism": "PLAIN"}), "does not offer"),
        (json!({"act": "finish"}), "ends before it starts"),
        (json!({"act": "send"}), "answers before it starts"),
    ] {
        let credential = world.credential("ops", &endpoint.url(), more);
        let error = credential
            .begin_sasl(&offered(), "smtp.example.org", 587)
            .await
            .unwrap_err();
        assert_eq!(error.kind, AuthErrorKind::Internal);
        assert!(error.message.contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_person_signs_in_by_browser_and_by_code() {
    let endpoint = tokens().await;
    let person = Arc::new(Person::default());
    let world = World::with(Arc::clone(&person) as Arc<dyn Interaction>);
    let credential = world.credential("ops", &endpoint.url(), json!({}));

    let login = credential.login(LoginMethod::Browser).await.unwrap();
    assert!(login.has_refresh_token());
    assert_eq!(login.scope(), Some("mail send"));
    assert_eq!(login.keep().await.unwrap().generation(), 1);
    assert!(endpoint.bodies()[0].contains("code=authorization-code-canary"));
    person.saw(1).await;
    assert!(person.seen.lock().unwrap()[0].contains("Back to Postrider"));

    tokio::time::pause();
    let login = credential.login(LoginMethod::DeviceCode).await.unwrap();
    assert_eq!(login.keep().await.unwrap().generation(), 2);
    let seen = person.seen.lock().unwrap();
    assert_eq!(
        seen[1..],
        ["ops: ABCD [2J go there", "PIN?"],
        "no control characters"
    );
}

#[tokio::test]
async fn with_nobody_there_a_login_says_so() {
    let endpoint = tokens().await;
    let credential = World::new().credential("ops", &endpoint.url(), json!({}));
    for method in [LoginMethod::Browser, LoginMethod::DeviceCode] {
        let error = credential.login(method).await.unwrap_err();
        assert_eq!(error.kind, AuthErrorKind::NeedsUser, "{error}");
    }
}

#[tokio::test]
async fn settings_that_do_not_fit_are_refused_before_the_plugin_sees_them() {
    let world = World::new();
    let mut wrong = settings("ops", "https://login.example", json!({"colour": 1}), "s");
    wrong.secrets = Arc::new(Secrets(BTreeMap::from([("flow".into(), "app".into())])));
    let error = Credential::new(probe(), wrong, world.environment).unwrap_err();

    assert_eq!(error.kind, AuthErrorKind::Config);
    assert!(
        error.message.contains("colour: ") && error.message.contains("flow: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_is_named_with_the_reason() {
    let endpoint = tokens().await;
    let world = World::new();
    for flow in ["app", "user"] {
        let mut without = settings("ops", &endpoint.url(), json!({"flow": flow}), "s");
        without.secrets = Arc::new(Unset);
        let credential = Credential::new(probe(), without, Arc::clone(&world.environment)).unwrap();
        let error = credential.access_token().await.unwrap_err();
        assert_eq!(error.kind, AuthErrorKind::Config);
        assert!(error.message.contains("environment variable X"), "{error}");
    }
}

struct Unset;

impl crate::SecretSource for Unset {
    fn secret(&self, _name: &str) -> Result<SecretString, String> {
        Err("environment variable X is not set".into())
    }

    fn names(&self) -> Vec<String> {
        vec!["client_secret".into()]
    }

    fn identity(&self, _name: &str) -> String {
        "env=X".into()
    }
}

#[tokio::test]
async fn a_provider_s_refusal_keeps_its_parts() {
    let endpoint = Endpoint::start(|_| (400, json!({}))).await;
    let credential = World::new().credential("ops", &endpoint.url(), json!({}));
    let error = credential.access_token().await.unwrap_err();

    assert_eq!(error.kind, AuthErrorKind::InvalidGrant);
    assert_eq!(error.oauth_error.as_deref(), Some("invalid_grant"));
    assert_eq!(error.user_url.as_deref(), Some("https://help.example/"));
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
}

/// Everything logged in this process, at every level.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct ToLog;

impl io::Write for ToLog {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for ToLog {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

#[tokio::test]
async fn no_secret_is_ever_shown() {
    static CAPTURE: Once = Once::new();
    CAPTURE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(ToLog)
            .init();
    });
    let mut shown = String::new();
    let mut show = |what: &dyn fmt::Debug| writeln!(shown, "{what:?}").unwrap();

    // A full round: login, refresh, exchange, its refusal.
    let endpoint = tokens().await;
    let person = Arc::new(Person::default());
    let world = World::with(person);
    let credential = world.credential("ops", &endpoint.url(), json!({}));
    show(&credential.login(LoginMethod::Browser).await.unwrap());
    tokio::time::pause();
    let login = credential.login(LoginMethod::DeviceCode).await.unwrap();
    show(&login);
    show(&login.keep().await.unwrap());
    tokio::time::resume();
    world.clock.advance(Duration::from_secs(4000));
    show(&credential.access_token().await.unwrap());
    show(&credential.status().await.unwrap());
    let mut flow = credential
        .begin_sasl(&offered(), "smtp.example.org", 587)
        .await
        .unwrap();
    flow.respond(b"no").await.unwrap();
    let error = flow.respond(b"no").await.unwrap_err();
    writeln!(shown, "{error} {error:?} {flow:?} {credential:?}").unwrap();

    // Whatever a provider answers, the probe repeats it with what it sent.
    let many = (0..100).map(|n| (format!("n{n}_token"), format!("token-{n}")));
    for (status, body) in [
        (400, json!({"error": "client-secret-canary"})),
        (
            400,
            many.map(|(name, token)| (name, Value::from(token)))
                .collect(),
        ),
        (401, json!({"access_token": "access-canary-x"})),
        (500, json!({"refresh_token": "refresh-canary-x"})),
        (
            200,
            json!({"access_token": "access-canary-x", "expires_in": "refresh-canary-x", "refresh_token": "refresh-canary-x"}),
        ),
        (200, json!("no object")),
    ] {
        let endpoint = Endpoint::start(move |_| (status, body.clone())).await;
        let credential = world.credential("ops", &endpoint.url(), json!({}));
        let error = credential.access_token().await.unwrap_err();
        writeln!(shown, "{error} {error:?}").unwrap();
    }

    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    assert!(
        shown.contains("[secret]") && log.contains("[secret]"),
        "the probe spoke"
    );
    assert!(log.contains("probe") && log.contains("ops"), "and is named");
    for text in [&shown, &log] {
        for line in text.lines() {
            assert!(!line.contains("canary"), "{line}");
        }
    }
}
