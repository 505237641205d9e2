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
