//! Ten thousand mailboxes of one tenant, which one application may use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::Credential;
use crate::probe::{Endpoint, World, probe, settings};

const MAILBOXES: usize = 10_000;

#[tokio::test]
async fn ten_thousand_mailboxes_of_one_tenant_cost_one_token_request() {
    let endpoint = Endpoint::start(|n| {
        let token = json!({"access_token": format!("token-{n}"), "expires_in": 3600});
        (200, token)
    })
    .await;
    let world = World::new();
    let plugin = probe();
    let credentials: Vec<Credential> = (0..MAILBOXES)
        .map(|number| {
            let account = format!("mailbox-{number}");
            let app = json!({"flow": "app"});
            let settings = settings(&account, &endpoint.url(), app, "one-secret");
            let environment = Arc::clone(&world.environment);
            Credential::new(Arc::clone(&plugin), settings, environment).unwrap()
        })
        .collect();

    let tokens = join_all(credentials.iter().map(Credential::access_token)).await;
    let tokens: BTreeSet<_> = tokens
        .into_iter()
        .map(|token| token.unwrap().unwrap().value().expose_secret().to_owned())
        .collect();

    assert_eq!(tokens, BTreeSet::from(["token-1".to_owned()]));
    assert_eq!(endpoint.requests(), 1);

    // And when it is due, one more, whoever looks after all of them.
    world.clock.advance(Duration::from_mins(40));
    let keeper = world.environment.keeper.clone();
    let tending = tokio::spawn({
        let credentials = credentials.clone();
        async move { keeper.tend(credentials).await }
    });
    endpoint.asked(2).await;
    world
        .environment
        .keeper
        .settle(Duration::from_mins(1))
        .await;
    tending.abort();

    let last = credentials.last().expect("there are some");
    let token = last.access_token().await.unwrap().unwrap();
    assert_eq!(token.value().expose_secret(), "token-2");
    assert_eq!(endpoint.requests(), 2);
}
