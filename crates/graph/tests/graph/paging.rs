//! Lists: all their pages, from one place, with an end.

use postrider_graph::{GraphErrorKind, Response};
use serde_json::json;

use crate::script::{later, ok, scripted};

const OBJECT: &str = "0f1e2d3c-0000-4000-8000-00000000b001";

fn page(id: usize, next: Option<&str>) -> Response {
    let mut page = json!({ "value": [{ "id": format!("owner-{id}") }] });
    if let Some(next) = next {
        page["@odata.nextLink"] = json!(next);
    }
    ok(&page)
}

#[tokio::test]
async fn all_pages_are_read_and_each_may_ask_for_time() {
    let next = "https://graph.example/v1.0/applications/x/owners?$skiptoken=RFNwdAIA";
    let (graph, script) = scripted([page(1, Some(next)), later(429, 3), page(2, None)]);
    let owners = graph.owners(OBJECT).await.unwrap();
    assert_eq!(owners.len(), 2);
    assert_eq!(script.pauses(), [3]);
    assert_eq!(
        script.sent()[2],
        "GET /v1.0/applications/x/owners?$skiptoken=RFNwdAIA"
    );
}

#[tokio::test]
async fn a_list_keeps_its_headers_on_every_page() {
    let next = "https://graph.example/v1.0/me/transitiveMemberOf/more";
    let (graph, script) = scripted([page(1, Some(next)), page(2, None)]);
    graph.my_directory_roles().await.unwrap();
    assert_eq!(
        script.sent()[1],
        "GET /v1.0/me/transitiveMemberOf/more ConsistencyLevel: eventual"
    );
}

#[tokio::test]
async fn the_token_does_not_follow_a_link_elsewhere() {
    for next in [
        "https://evil.example/v1.0/x",
        "http://graph.example/v1.0/x",
        "https://graph.example:444/v1.0/x",
        "https://graph.example@evil.example/v1.0/x",
        "https://user@graph.example/v1.0/x",
        "https://graph.example.evil.example/v1.0/x",
        "https://graph.example/beta/x",
        "https://graph.example/v1.0evil/x",
        "https://graph.example/v1.0/../x",
        "/v1.0/x",
        "",
    ] {
        let (graph, script) = scripted([page(1, Some(next))]);
        let error = graph.owners(OBJECT).await.unwrap_err();
        assert_eq!(error.kind, GraphErrorKind::Malformed, "{next}");
        assert_eq!(script.sent().len(), 1, "{next}");
    }
}

#[tokio::test]
async fn a_list_that_goes_in_a_circle_ends() {
    let a = "https://graph.example/v1.0/a";
    let b = "https://graph.example/v1.0/b";
    let (graph, script) = scripted([page(1, Some(a)), page(2, Some(b)), page(3, Some(a))]);
    let error = graph.owners(OBJECT).await.unwrap_err();
    assert_eq!(error.kind, GraphErrorKind::Malformed);
    assert_eq!(script.sent().len(), 3);
}

#[tokio::test]
async fn a_list_without_an_end_ends() {
    let (graph, script) = scripted((0..100).map(|n| {
        let next = format!("https://graph.example/v1.0/{n}");
        page(n, Some(&next))
    }));
    assert!(graph.owners(OBJECT).await.is_err());
    assert_eq!(script.sent().len(), 100);
}

#[tokio::test]
async fn a_page_of_too_many_ends_the_list() {
    let owners: Vec<_> = (0..10_001)
        .map(|n| json!({ "id": n.to_string() }))
        .collect();
    let (graph, _) = scripted([ok(&json!({ "value": owners }))]);
    assert!(graph.owners(OBJECT).await.is_err());
}
