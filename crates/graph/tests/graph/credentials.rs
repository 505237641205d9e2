//! Client secrets and certificates: made, read and removed, beside those of others.

use jiff::Timestamp;
use postrider_graph::{GraphErrorKind, NewCertificate};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::script::{done, ok, refused, scripted};

const APP: &str = "0f1e2d3c-0000-4000-8000-00000000a001";
const OBJECT: &str = "0f1e2d3c-0000-4000-8000-00000000b001";
const KEY: &str = "0f1e2d3c-0000-4000-8000-00000000f001";
const OTHER_KEY: &str = "0f1e2d3c-0000-4000-8000-00000000f002";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn certificate() -> NewCertificate {
    NewCertificate {
        der: b"der".to_vec(),
        display_name: "CN=postrider".into(),
        starts: time("2026-11-23T16:00:00Z"),
        ends: time("2027-11-23T16:00:00Z"),
    }
}

#[tokio::test]
async fn a_client_secret_is_made_and_shows_nowhere() {
    let (graph, script) = scripted([ok(&json!({
        "customKeyIdentifier": null, "displayName": "postrider 2",
        "endDateTime": "2027-05-23T16:00:00Z", "hint": "cAn", "keyId": KEY,
        "secretText": "cAnary-client-secret", "startDateTime": "2026-11-23T16:00:00Z",
    }))]);
    let made = graph
        .add_password(OBJECT, "postrider 2", time("2027-05-23T16:00:00.987Z"))
        .await
        .unwrap();
    assert_eq!(made.secret_text.expose_secret(), "cAnary-client-secret");
    assert_eq!(made.ends, Some(time("2027-05-23T16:00:00Z")));
    assert!(!format!("{made:?}{graph:?}").contains("cAn"));
    assert_eq!(
        script.sent(),
        [format!(
            "POST /v1.0/applications/{OBJECT}/addPassword {{\"passwordCredential\":\
             {{\"displayName\":\"postrider 2\",\"endDateTime\":\"2027-05-23T16:00:00Z\"}}}}"
        )]
    );
}

#[tokio::test]
async fn a_client_secret_is_removed_by_its_id() {
    let (graph, script) = scripted([done()]);
    graph.remove_password(OBJECT, KEY).await.unwrap();
    assert_eq!(
        script.sent(),
        [format!(
            "POST /v1.0/applications/{OBJECT}/removePassword {{\"keyId\":\"{KEY}\"}}"
        )]
    );
}

#[tokio::test]
async fn a_client_secret_that_is_not_there_is_removed() {
    let application = json!({
        "id": OBJECT, "appId": APP, "passwordCredentials": [{ "keyId": KEY }],
    });
    let unknown = || refused(400, "Request_BadRequest", "No password credential found");
    let (graph, script) = scripted([unknown(), ok(&application), unknown(), ok(&application)]);
    graph.remove_password(OBJECT, OTHER_KEY).await.unwrap();
    // One that is there was refused for another reason, which is told.
    let error = graph.remove_password(OBJECT, KEY).await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Rejected);
    assert_eq!(script.sent().len(), 4);
}

fn key(id: &str, key: &str) -> Value {
    json!({ "customKeyIdentifier": "BB5D10", "displayName": "CN=old",
        "endDateTime": "2027-11-23T16:00:00Z", "key": key, "keyId": id,
        "startDateTime": "2026-11-23T16:00:00Z", "type": "AsymmetricX509Cert",
        "usage": "Verify", "aPropertyOfNextYear": 1 })
}

#[tokio::test]
async fn a_certificate_is_added_beside_the_others() {
    let new = certificate();
    let old = key(OTHER_KEY, "b2xk");
    let both = ok(&json!({ "keyCredentials": [old, key(KEY, "ZGVy")] }));
    let again = ok(&json!({ "keyCredentials": [old, key(KEY, "ZGVy")] }));
    let (graph, script) = scripted([
        ok(&json!({ "keyCredentials": [old] })),
        done(),
        ok(&json!({ "keyCredentials": [old] })),
        both,
        again,
    ]);
    let added = graph.add_certificate(OBJECT, &new).await.unwrap();
    assert_eq!(added.key_id, KEY);
    // A replica that had not seen it was asked again.
    assert_eq!(script.pauses(), [1]);
    // The second time it is there.
    let added = graph.add_certificate(OBJECT, &new).await.unwrap();
    assert_eq!(added.ends, Some(time("2027-11-23T16:00:00Z")));
    let get = format!("GET /v1.0/applications/{OBJECT}?$select=keyCredentials");
    let patch = format!(
        "PATCH /v1.0/applications/{OBJECT} {}",
        json!({ "keyCredentials": [old, {
            "type": "AsymmetricX509Cert", "usage": "Verify", "displayName": "CN=postrider",
            "startDateTime": "2026-11-23T16:00:00Z", "endDateTime": "2027-11-23T16:00:00Z",
            "key": "ZGVy",
        }]})
    );
    assert_eq!(
        script.sent(),
        [get.clone(), patch, get.clone(), get.clone(), get]
    );
}

#[tokio::test]
async fn a_stale_list_of_certificates_is_not_written_back() {
    let (old, new) = (key(OTHER_KEY, "b2xk"), key(KEY, "ZGVy"));
    let shows = |keys: &[&Value]| ok(&json!({ "keyCredentials": keys }));
    let (graph, script) = scripted([
        shows(&[&old]),
        done(),
        shows(&[&old, &new]),
        // Another replica knows nothing of the new one yet.
        shows(&[&old]),
        shows(&[&old, &new]),
        done(),
        // And one still knows the removed one.
        shows(&[&old, &new]),
        shows(&[&new]),
    ]);
    let certificate = certificate();
    graph.add_certificate(OBJECT, &certificate).await.unwrap();
    graph.remove_certificate(OBJECT, OTHER_KEY).await.unwrap();
    assert_eq!(
        script.pauses(),
        [1],
        "the list was written before it showed what had been added"
    );
    graph.add_certificate(OBJECT, &certificate).await.unwrap();
    assert_eq!(script.pauses(), [1, 1]);
    let patched: Vec<_> = script
        .sent()
        .into_iter()
        .filter(|request| request.starts_with("PATCH"))
        .collect();
    assert_eq!(patched.len(), 2);
    assert!(patched[1].contains(KEY) && !patched[1].contains(OTHER_KEY));
}

#[tokio::test]
async fn a_certificate_that_never_shows_may_be_there() {
    let old = key(OTHER_KEY, "b2xk");
    let shows = || ok(&json!({ "keyCredentials": [old] }));
    let mut answers = vec![shows(), done()];
    answers.extend((0..7).map(|_| shows()));
    let (graph, _) = scripted(answers);
    let certificate = certificate();
    let error = graph
        .add_certificate(OBJECT, &certificate)
        .await
        .unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Unavailable);
    assert!(error.may_have_happened);
}

#[tokio::test]
async fn a_certificate_is_removed_from_among_the_others() {
    let old = key(OTHER_KEY, "b2xk");
    let (graph, script) = scripted([
        ok(&json!({ "keyCredentials": [old, key(KEY, "ZGVy")] })),
        done(),
        ok(&json!({ "keyCredentials": [old] })),
    ]);
    let upper = KEY.to_uppercase();
    graph.remove_certificate(OBJECT, &upper).await.unwrap();
    graph.remove_certificate(OBJECT, KEY).await.unwrap();
    assert_eq!(
        script.sent()[1],
        format!(
            "PATCH /v1.0/applications/{OBJECT} {}",
            json!({ "keyCredentials": [old] })
        )
    );
}
