//! Whatever a server answers, a call ends with a result, and says nothing it should not.

use futures_util::FutureExt as _;
use postrider_graph::{Consent, NewApplication, NewCertificate, Response};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::script::scripted;

const ID: &str = "0f1e2d3c-0000-4000-8000-00000000b001";

/// The names that answers have, so that what is made up is near enough to be read.
const NAMES: [&str; 30] = [
    "value",
    "@odata.nextLink",
    "error",
    "code",
    "message",
    "innerError",
    "innererror",
    "details",
    "request-id",
    "id",
    "appId",
    "displayName",
    "keyId",
    "secretText",
    "hint",
    "endDateTime",
    "startDateTime",
    "key",
    "keyCredentials",
    "passwordCredentials",
    "requiredResourceAccess",
    "publicClient",
    "redirectUris",
    "servicePlans",
    "scope",
    "consentType",
    "principalId",
    "resourceId",
    "clientId",
    "isEnabled",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        ".*".prop_map(Value::from),
        Just(json!(ID)),
        Just(json!("2027-05-23T16:00:00Z")),
        Just(json!("-009999-01-01T00:00:00Z")),
        Just(json!("AllPrincipals")),
        Just(json!("https://graph.example/v1.0/next")),
    ]
}

fn body() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner), 0..8).prop_map(
                |entries| Value::Object(
                    entries
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect::<Map<_, _>>()
                )
            ),
        ]
    })
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => body().prop_map(|body| body.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => Just("[".repeat(100_000).into_bytes()),
    ]
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(200), 1 => Just(201), 2 => 400_u16..600, 1 => any::<u16>()]
}

fn answer() -> impl Strategy<Value = Response> {
    (
        status(),
        octets(),
        any::<Option<u64>>(),
        any::<Option<String>>(),
    )
        .prop_map(|(status, body, seconds, request_id)| Response {
            status,
            retry_after: seconds.map(std::time::Duration::from_secs),
            request_id,
            body,
        })
}

fn new_certificate() -> NewCertificate {
    NewCertificate {
        der: vec![1],
        display_name: "x".into(),
        starts: jiff::Timestamp::MIN,
        ends: jiff::Timestamp::MAX,
    }
}

proptest! {
    #[test]
    fn no_answer_makes_a_call_panic(first in answer(), rest in answer(), call in 0..20_usize) {
        // As many as any call asks for; then a plain refusal ends it.
        let copy = |answer: &Response| Response {
            status: answer.status,
            retry_after: answer.retry_after,
            request_id: answer.request_id.clone(),
            body: answer.body.clone(),
        };
        let mut answers = vec![copy(&first)];
        answers.extend((0..20).map(|_| copy(&rest)));
        answers.extend((0..40).map(|_| Response { status: 418, ..Response::default() }));
        let (graph, _) = scripted(answers);
        let said = async {
            match call {
                0 => format!("{:?}", graph.me().await),
                1 => format!("{:?}", graph.user("a@contoso.com").await),
                2 => format!("{:?}", graph.license_details(None).await),
                3 => format!("{:?}", graph.my_directory_roles().await),
                4 => format!("{:?}", graph.organization().await),
                5 => format!("{:?}", graph.security_defaults().await),
                6 => format!("{:?}", graph.application(ID).await),
                7 => format!("{:?}", graph.applications_named("x").await),
                8 => format!("{:?}", graph.create_application(&NewApplication::default()).await),
                9 => format!("{:?}", graph.service_principal(ID).await),
                10 => format!("{:?}", graph.resource(ID).await),
                11 => format!("{:?}", graph.create_service_principal(ID).await),
                12 => format!("{:?}", graph.delegated_grants(ID).await),
                13 => format!(
                    "{:?}",
                    graph.grant_delegated(ID, ID, &Consent::AllPrincipals, &["x"]).await
                ),
                14 => format!("{:?}", graph.app_role_assignments(ID).await),
                15 => format!("{:?}", graph.assign_app_role(ID, ID, ID).await),
                16 => format!("{:?}", graph.add_password(ID, "x", jiff::Timestamp::MAX).await),
                17 => format!("{:?}", graph.remove_password(ID, ID).await),
                18 => format!("{:?}", graph.add_certificate(ID, &new_certificate()).await),
                _ => format!("{:?}", graph.remove_certificate(ID, ID).await),
            }
        };
        // The script never waits, so the call has ended.
        let said = said.now_or_never().expect("an end");
        prop_assert!(!said.contains("canary"));
    }
}
