//! What a flow may do, and what it is told it may not.

use std::time::Duration;

use serde_json::json;

use crate::error::AuthErrorKind;
use crate::probe::{Endpoint, World};

async fn obtain_with(act: &str) -> crate::AuthError {
    let endpoint = Endpoint::start(|_| (500, json!({}))).await;
    let credential = World::new().credential("ops", &endpoint.url(), json!({"act": act}));
    credential.access_token().await.unwrap_err()
}

#[tokio::test]
async fn a_flow_without_end_is_ended() {
    let error = obtain_with("endless").await;
    assert_eq!(error.kind, AuthErrorKind::Internal);
    assert!(error.message.contains("more than 6000 actions"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_takes_too_long_is_transient() {
    let started = tokio::time::Instant::now();
    let error = obtain_with("sleep").await;
    assert_eq!(error.kind, AuthErrorKind::Transient);
    assert_eq!(
        started.elapsed().as_secs(),
        Duration::from_secs(30).as_secs()
    );
}

#[tokio::test]
async fn a_setting_that_is_not_declared_secret_is_not_handed_out() {
    let error = obtain_with("undeclared").await;
    assert_eq!(error.kind, AuthErrorKind::Config);
    assert!(
        error.message.contains("no secret this plugin declares"),
        "{error}"
    );
}

#[tokio::test]
async fn only_an_exchange_talks_to_the_server() {
    let error = obtain_with("sasl").await;
    assert_eq!(error.kind, AuthErrorKind::Denied);
    assert!(error.message.contains("only a sasl flow"), "{error}");
}

#[tokio::test]
async fn a_token_that_no_protocol_could_carry_is_refused() {
    for act in ["empty", "control"] {
        let error = obtain_with(act).await;
        assert_eq!(error.kind, AuthErrorKind::Internal);
        assert!(error.message.contains("access token"), "{error}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_not_asked() {
    let other = Endpoint::start(|_| (200, json!({"access_token": "t"}))).await;
    let endpoint = Endpoint::start(|_| (500, json!({}))).await;
    let world = World::new();
    for url in [
        format!("{}/token", other.url()),
        format!("https://{}/token", other.address),
        "https://localhost:4/token".into(),
        "ftp://localhost/".into(),
        "nonsense".into(),
    ] {
        let credential = world.credential("ops", &endpoint.url(), json!({"url": url}));
        let error = credential.access_token().await.unwrap_err();
        assert_eq!(error.kind, AuthErrorKind::Denied, "{url}: {error}");
    }
    assert_eq!(other.requests() + endpoint.requests(), 0);
}

#[tokio::test]
async fn a_log_message_out_of_bounds_does_not_end_the_flow() {
    assert_eq!(obtain_with("loud").await.kind, AuthErrorKind::Transient);
}

#[tokio::test(start_paused = true)]
async fn how_a_call_ended_is_told_to_who_counts_once_each() {
    let world = World::new();
    let endpoint = Endpoint::start(|_| (200, json!({"access_token": "t"}))).await;
    let offered = ["XOAUTH2".to_owned()];
    for (more, told) in [
        (json!({}), &["obtain: ok", "sasl: ok"][..]),
        // The flow was right, and what it came to is not.
        (json!({"act": "empty"}), &["obtain: internal"]),
        (json!({"act": "undeclared"}), &["obtain: config"]),
        (json!({"act": "sleep"}), &["obtain: abandoned"]),
        (
            json!({"mechanism": "PLAIN"}),
            &["obtain: ok", "sasl: internal"],
        ),
    ] {
        let credential = world.credential("ops", &endpoint.url(), more.clone());
        let exchange = credential.begin_sasl(&offered, "smtp.example.org", 587);
        drop(exchange.await);
        assert_eq!(world.calls(), told, "{more}");
        drop(credential.forget().await);
    }

    // A server that says no and is answered: the plugin says how it ended.
    let credential = world.credential("ops", &endpoint.url(), json!({}));
    let exchange = credential.begin_sasl(&offered, "smtp.example.org", 587);
    let mut exchange = exchange.await.unwrap();
    exchange.respond(b"no").await.unwrap();
    exchange.respond(b"no").await.unwrap_err();
    drop(exchange);
    assert_eq!(world.calls(), ["obtain: ok", "sasl: denied"]);
}
