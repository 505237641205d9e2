//! Waiting: as long as the service asks, within bounds, and never making two of one.

use postrider_graph::{GraphErrorKind, NewApplication};
use serde_json::json;

use crate::script::{answer, done, later, ok, refused, scripted};

const APP: &str = "0f1e2d3c-0000-4000-8000-00000000a001";
const OBJECT: &str = "0f1e2d3c-0000-4000-8000-00000000b001";
const PRINCIPAL: &str = "0f1e2d3c-0000-4000-8000-00000000c001";
const KEY: &str = "0f1e2d3c-0000-4000-8000-00000000f001";

fn application() -> serde_json::Value {
    json!({ "id": OBJECT, "appId": APP, "displayName": "Postrider: alerts" })
}

fn me() -> serde_json::Value {
    json!({ "id": "u", "userPrincipalName": "svc@contoso.com" })
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let (graph, script) = scripted([later(429, 7), later(503, 30), ok(&me())]);
    graph.me().await.unwrap();
    assert_eq!(script.pauses(), [7, 30]);
    assert_eq!(script.sent().len(), 3);
}

#[tokio::test]
async fn a_service_that_names_no_time_is_asked_less_and_less_often() {
    let busy = |status| refused(status, "serviceNotAvailable", "busy");
    let (graph, script) = scripted([busy(500), busy(502), busy(504), busy(429), ok(&me())]);
    graph.me().await.unwrap();
    assert_eq!(script.pauses(), [1, 2, 4, 8]);
}

#[tokio::test]
async fn a_service_that_stays_busy_is_given_up() {
    let (graph, script) = scripted((0..6).map(|_| later(429, 1)));
    let error = graph.me().await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Throttled);
    assert!(error.is_temporary());
    assert_eq!(script.pauses(), [1; 5]);
    assert_eq!(script.sent().len(), 6);
}

#[tokio::test]
async fn the_caller_is_told_of_a_pause_too_long_to_wait() {
    let (graph, script) = scripted([later(429, 3600)]);
    let error = graph.me().await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Throttled);
    assert_eq!(error.retry_after.unwrap().as_secs(), 3600);
    assert!(script.pauses().is_empty());
    let (graph, script) = scripted([later(503, u64::MAX)]);
    assert!(graph.me().await.is_err());
    assert!(script.pauses().is_empty());
}

#[tokio::test]
async fn one_call_waits_two_minutes_at_most() {
    let (graph, script) = scripted((0..3).map(|_| later(429, 60)));
    assert!(graph.me().await.is_err());
    assert_eq!(script.pauses(), [60, 60]);
}

#[tokio::test]
async fn what_creates_is_sent_again_only_when_it_was_declined() {
    let (graph, script) = scripted([later(429, 1), later(503, 1), answer(201, &application())]);
    let new = NewApplication::default();
    graph.create_application(&new).await.unwrap();
    assert_eq!(script.pauses(), [1, 1]);
    for status in [500, 502, 503, 504] {
        let (graph, script) = scripted([refused(status, "generalException", "oh")]);
        let error = graph.create_application(&new).await.unwrap_err();
        assert!(error.may_have_happened, "{status}");
        assert_eq!(script.sent().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn two_changes_at_once_are_made_one_after_the_other() {
    let busy = || refused(409, "Directory_ConcurrencyViolation", "Please wait briefly");
    let made = ok(&json!({ "keyId": KEY, "secretText": "s" }));
    let (graph, script) = scripted([busy(), made, busy(), busy(), done()]);
    graph
        .add_password(OBJECT, "x", jiff::Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    graph.remove_password(OBJECT, KEY).await.unwrap();
    assert_eq!(script.pauses(), [1, 1, 2]);
    script.sent();
}

#[tokio::test]
async fn what_was_just_made_may_be_unknown_for_half_a_minute() {
    let unseen = || {
        refused(
            400,
            "Request_BadRequest",
            "The appId 'x' of the service principal does not reference a valid application object.",
        )
    };
    let denied = refused(
        403,
        "Authorization_RequestDenied",
        "Insufficient privileges",
    );
    let missing = || refused(404, "Request_ResourceNotFound", "Resource does not exist");
    let principal = json!({ "id": PRINCIPAL, "appId": APP });
    let (graph, script) = scripted([
        answer(201, &application()),
        unseen(),
        denied,
        missing(),
        answer(201, &principal),
        missing(),
        ok(&json!({ "value": [] })),
    ]);
    let app = graph
        .create_application(&NewApplication::default())
        .await
        .unwrap();
    graph.create_service_principal(&app.app_id).await.unwrap();
    assert_eq!(script.pauses(), [1, 2, 4]);
    graph.app_role_assignments(PRINCIPAL).await.unwrap();
    assert_eq!(script.pauses(), [1, 2, 4, 1]);
    script.sent();
}

#[tokio::test]
async fn what_never_shows_is_given_up() {
    let missing = || refused(404, "Request_ResourceNotFound", "Resource does not exist");
    let (graph, script) = scripted((0..7).map(|_| missing()));
    graph.note_fresh(&[OBJECT]);
    let error = graph.application_object(OBJECT).await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::NotFound);
    assert_eq!(script.pauses(), [1, 2, 4, 8, 8, 8]);
}

#[tokio::test]
async fn what_is_not_new_is_believed_at_once() {
    let (graph, script) = scripted([
        refused(404, "Request_ResourceNotFound", "Resource does not exist"),
        refused(400, "Request_BadRequest", "no"),
        ok(&json!({ "value": [] })),
    ]);
    graph.note_fresh(&[APP]);
    assert!(graph.application_object(OBJECT).await.is_err());
    assert!(graph.create_service_principal(OBJECT).await.is_err());
    assert_eq!(graph.application(OBJECT).await.unwrap(), None);
    assert!(script.pauses().is_empty());
    script.sent();
}

#[tokio::test]
async fn a_refusal_with_a_reason_of_its_own_is_believed_of_new_objects_too() {
    let (graph, script) = scripted([
        refused(400, "CredentialInvalidLifetimeAsPerAppPolicy", "too long"),
        refused(403, "Authorization_RequestDenied", "no"),
    ]);
    graph.note_fresh(&[OBJECT]);
    for _ in 0..2 {
        let made = graph
            .add_password(OBJECT, "x", jiff::Timestamp::UNIX_EPOCH)
            .await;
        assert!(made.is_err());
    }
    assert!(script.pauses().is_empty());
}

#[tokio::test]
async fn a_new_application_that_does_not_show_in_a_search_is_searched_again() {
    let empty = || ok(&json!({ "value": [] }));
    let (graph, script) = scripted([empty(), empty(), ok(&json!({ "value": [application()] }))]);
    graph.note_fresh(&[APP]);
    let found = graph.application(APP).await.unwrap();
    assert_eq!(found.unwrap().id, OBJECT);
    assert_eq!(script.pauses(), [1, 2]);
}

#[tokio::test]
async fn an_application_of_an_interrupted_run_is_searched_by_name_until_it_shows() {
    let empty = || ok(&json!({ "value": [] }));
    let (graph, script) = scripted([empty(), empty(), ok(&json!({ "value": [application()] }))]);
    let found = graph
        .applications_named_soon("Postrider: alerts")
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(script.pauses(), [1, 2]);
    let (graph, script) = scripted((0..7).map(|_| empty()));
    assert!(graph.applications_named_soon("x").await.unwrap().is_empty());
    assert_eq!(script.pauses(), [1, 2, 4, 8, 8, 8]);
    script.sent();
}

#[tokio::test]
async fn a_secret_of_an_interrupted_run_is_looked_for_until_it_shows() {
    let bare = || ok(&application());
    let mut with = application();
    with["passwordCredentials"] = json!([{ "keyId": KEY, "displayName": "postrider 1" }]);
    let (graph, script) = scripted([bare(), bare(), ok(&with)]);
    let app = graph
        .application_showing(OBJECT, |app| !app.passwords.is_empty())
        .await
        .unwrap();
    assert_eq!(app.passwords[0].key_id, KEY);
    assert_eq!(script.pauses(), [1, 2]);
    let (graph, script) = scripted((0..7).map(|_| bare()));
    let app = graph.application_showing(OBJECT, |_| false).await.unwrap();
    assert!(app.passwords.is_empty());
    assert_eq!(script.pauses(), [1, 2, 4, 8, 8, 8]);
    script.sent();
}

#[tokio::test]
async fn what_was_deleted_is_not_waited_for() {
    let (graph, script) = scripted([
        answer(201, &application()),
        refused(404, "Request_ResourceNotFound", "not yet"),
        done(),
        refused(404, "Request_ResourceNotFound", "no more"),
    ]);
    let new = NewApplication::default();
    graph.create_application(&new).await.unwrap();
    graph.delete_application(OBJECT).await.unwrap();
    assert!(graph.application_object(OBJECT).await.is_err());
    assert_eq!(script.pauses(), [1]);
    script.sent();
}

#[tokio::test]
async fn a_new_secret_is_removed_although_it_does_not_show_yet() {
    let (graph, script) = scripted([
        ok(&json!({ "keyId": KEY, "secretText": "s" })),
        refused(
            400,
            "Request_BadRequest",
            "No password credential found with keyId",
        ),
        done(),
    ]);
    graph
        .add_password(OBJECT, "x", jiff::Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    graph.remove_password(OBJECT, KEY).await.unwrap();
    assert_eq!(script.pauses(), [1]);
    script.sent();
}
