//! Every kind of refusal, and what an error tells.

use std::error::Error as _;

use postrider_graph::{
    Graph, GraphError, GraphErrorKind, NewApplication, Response, TransportError, TransportErrorKind,
};
use secrecy::SecretString;
use serde_json::json;
use url::Url;

use crate::script::{TOKEN, answer, later, nothing, ok, refused, scripted};

const OBJECT: &str = "0f1e2d3c-0000-4000-8000-00000000b001";

#[tokio::test]
async fn each_status_has_its_kind() {
    let denied = GraphErrorKind::Denied {
        needs: Some("Application.Read.All"),
    };
    for (status, kind) in [
        (400, GraphErrorKind::Rejected),
        (401, GraphErrorKind::Unauthenticated),
        (403, denied),
        (404, GraphErrorKind::NotFound),
        (409, GraphErrorKind::Conflict),
        (410, GraphErrorKind::NotFound),
        (412, GraphErrorKind::Conflict),
        (422, GraphErrorKind::Rejected),
        (302, GraphErrorKind::Malformed),
        (600, GraphErrorKind::Malformed),
        (0, GraphErrorKind::Malformed),
    ] {
        let (graph, script) = scripted([refused(status, "SomeCode", "Some message.")]);
        let error = graph.application_object(OBJECT).await.unwrap_err();
        assert_eq!(error.kind, kind, "{status}");
        assert_eq!(error.status, Some(status));
        assert!(
            !error.is_temporary() && !error.may_have_happened,
            "{status}"
        );
        assert!(script.pauses().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn an_error_says_what_where_and_which_request() {
    let (graph, _) = scripted([refused(
        403,
        "Authorization_RequestDenied",
        "Insufficient privileges to complete the operation.",
    )]);
    let error = graph
        .create_application(&NewApplication::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "creating an application: Insufficient privileges to complete the operation. \
         (403 Authorization_RequestDenied), request-id 3ae2b0a1-0000-4000-8000-000000000001"
    );
    let GraphErrorKind::Denied { needs } = error.kind else {
        panic!("{error:?}");
    };
    assert_eq!(needs, Some("Application.ReadWrite.All"));
}

#[tokio::test]
async fn the_most_detailed_code_is_kept() {
    let (graph, _) = scripted([
        answer(
            400,
            &json!({ "error": { "code": "Request_BadRequest", "message": "m", "details": [
                { "code": "NoBackingApplicationObject", "message": "m", "target": "appId" } ],
                "innerError": { "request-id": "0a-1f" } } }),
        ),
        answer(
            403,
            &json!({ "error": { "code": "accessDenied", "message": "m", "innererror": {
                "code": "middle", "innererror": { "code": "insufficient_claims" } } } }),
        ),
    ]);
    let error = graph.me().await.unwrap_err();
    assert_eq!(error.detail.as_deref(), Some("NoBackingApplicationObject"));
    assert_eq!(error.request_id.as_deref(), Some("0a-1f"));
    let error = graph.me().await.unwrap_err();
    assert_eq!(error.detail.as_deref(), Some("insufficient_claims"));
}

#[tokio::test]
async fn a_permission_given_twice_is_a_conflict() {
    let (graph, _) = scripted([refused(
        400,
        "Request_BadRequest",
        "Permission being assigned already exists on the object",
    )]);
    let error = graph
        .assign_app_role(OBJECT, OBJECT, OBJECT)
        .await
        .unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Conflict);
}

#[tokio::test]
async fn an_owner_added_twice_is_a_conflict() {
    let (graph, _) = scripted([refused(
        400,
        "Request_BadRequest",
        "One or more added object references already exist for the following modified \
         properties: 'owners'.",
    )]);
    let error = graph.add_owner(OBJECT, OBJECT).await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Conflict);
}

#[tokio::test]
async fn a_proxys_page_is_an_error_of_its_status() {
    let page = Response {
        status: 502,
        body: b"<html>Bad gateway</html>".to_vec(),
        ..Response::default()
    };
    let (graph, _) = scripted([page]);
    let error = graph
        .create_application(&NewApplication::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "creating an application: refused with HTTP status 502 (502)"
    );
    assert!(error.may_have_happened);
}

#[tokio::test]
async fn no_answer_tells_whether_something_may_have_been_made() {
    for (kind, may_have_happened) in [
        (TransportErrorKind::NotSent, false),
        (TransportErrorKind::Interrupted, true),
        (TransportErrorKind::TooLarge, true),
    ] {
        let broken = TransportError::new(kind, "connection to graph.example broke")
            .caused_by(std::io::Error::other("reset"));
        let (graph, script) = scripted([broken]);
        let error = graph
            .create_application(&NewApplication::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind, GraphErrorKind::Transport);
        assert_eq!(error.to_string(), "creating an application: no answer");
        let source = error.source().unwrap();
        assert_eq!(source.to_string(), "connection to graph.example broke");
        assert_eq!(source.source().unwrap().to_string(), "reset");
        assert_eq!(error.may_have_happened, may_have_happened);
        assert!(error.is_temporary());
        assert_eq!(script.sent().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_none_may_follow_something_made() {
    let (graph, _) = scripted([
        answer(201, &json!({ "value": [] })),
        ok(&json!([])),
        ok(&json!({ "value": [] })),
    ]);
    let error = graph
        .create_application(&NewApplication::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Malformed);
    assert!(error.may_have_happened);
    let error = graph.me().await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Malformed);
    assert!(!error.may_have_happened);
    let error = graph.organization().await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Malformed);
}

#[tokio::test]
async fn what_a_server_says_is_one_bounded_line_without_the_token() {
    let long = format!("a\r\n\u{202e}\u{1b}[31mb {TOKEN} {}", "x".repeat(100_000));
    let mut response = refused(403, &long, &long);
    response.request_id = Some(long);
    let (graph, _) = scripted([response]);
    let error = graph.me().await.unwrap_err();
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.len() < 4_000, "{}", text.len());
        assert!(!text.contains("canary"), "{text}");
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'));
    }
}

#[tokio::test]
async fn a_secret_that_came_in_a_broken_answer_is_not_told() {
    let (graph, _) = scripted([ok(&json!({ "keyId": 7, "secretText": "canary-secret" }))]);
    let error = graph
        .add_password(OBJECT, "x", jiff::Timestamp::UNIX_EPOCH)
        .await
        .unwrap_err();
    assert!(error.may_have_happened);
    assert!(!format!("{error} {error:?}").contains("canary"));
    let response = ok(&json!({ "secretText": "canary-secret" }));
    assert!(!format!("{response:?}").contains("canary"));
}

#[tokio::test]
async fn an_oversized_answer_is_not_read() {
    let large = Response {
        status: 200,
        body: vec![b' '; postrider_graph::RESPONSE_OCTETS + 1],
        ..Response::default()
    };
    let (graph, _) = scripted([large]);
    let error = graph.me().await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Malformed);
}

#[tokio::test]
async fn what_is_no_id_is_not_sent() {
    let (graph, script) = nothing();
    let long = "a".repeat(1000);
    for id in ["", ".", "..", "a/b", "a b", "a'b", "a%2fb", "a?b", &long] {
        let errors: [GraphError; 5] = [
            graph.application(id).await.unwrap_err(),
            graph.application_object(id).await.unwrap_err(),
            graph.remove_password(OBJECT, id).await.unwrap_err(),
            graph.delegated_grants(id).await.unwrap_err(),
            graph.add_owner(OBJECT, id).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, GraphErrorKind::Invalid, "{id}: {error}");
        }
    }
    for upn in [
        "",
        ".",
        "..",
        "$a@contoso.com",
        "a\n@contoso.com",
        " a",
        &long,
    ] {
        let error = graph.user(upn).await.unwrap_err();
        assert_eq!(error.kind, GraphErrorKind::Invalid, "{upn}");
    }
    assert!(graph.applications_named("a\u{0}b").await.is_err());
    assert!(script.sent().is_empty());
}

#[test]
fn the_token_is_for_https_and_no_other_place() {
    let (_, script) = nothing();
    for (base, token) in [
        ("http://graph.example", TOKEN),
        ("https://user@graph.example", TOKEN),
        ("https://graph.example/?a", TOKEN),
        ("https://graph.example/#a", TOKEN),
        ("mailto:graph@example.org", TOKEN),
        ("https://graph.example", ""),
        ("https://graph.example", "a b"),
        ("https://graph.example", "a\r\nX: y"),
        ("https://graph.example", "é"),
    ] {
        let base = Url::parse(base).unwrap();
        let error = Graph::new(base, SecretString::from(token), script.clone()).unwrap_err();
        assert_eq!(error.kind, GraphErrorKind::Invalid);
    }
}

#[tokio::test]
async fn nothing_prints_the_token() {
    let (graph, _) = scripted([later(429, 3600)]);
    let error = graph.me().await.unwrap_err();
    let request = postrider_graph::Request {
        method: postrider_graph::Method::Get,
        url: graph.base().clone(),
        headers: Vec::new(),
        body: Some(json!("canary")),
        bearer: SecretString::from(TOKEN),
    };
    assert!(!format!("{graph:?} {error:?} {error} {request:?}").contains("canary"));
}
