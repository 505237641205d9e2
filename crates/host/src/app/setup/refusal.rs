//! What Microsoft Graph said, and why an account was not set up, as a [`Failure`].

use postrider_graph::{GraphError, GraphErrorKind};
use postrider_setup::{SetupError, SetupErrorKind};
use serde_json::json;

use crate::failure::{Failure, with_sources};

/// `error` with what can be done about it.
pub(crate) fn graph_failure(error: &GraphError) -> Failure {
    // What carried the request says more of why it did not arrive.
    if let Some(transport) = &error.source
        && let Some(source) = std::error::Error::source(transport)
        && let Some(failure) = source.downcast_ref::<Failure>()
    {
        let mut failure = failure.clone();
        failure.message = format!("{}: {}", error.doing, failure.message);
        failure.retryable = error.is_temporary();
        return failure;
    }
    let (code, remedy) = match error.kind {
        GraphErrorKind::Unauthenticated => (
            "graph.unauthenticated",
            Some("run the command again, and sign in".to_owned()),
        ),
        GraphErrorKind::Denied { needs } => ("graph.denied", Some(denied(needs))),
        GraphErrorKind::NotFound => ("graph.not_found", None),
        GraphErrorKind::Conflict => (
            "graph.conflict",
            Some("run the command again: somebody changed the same thing".to_owned()),
        ),
        GraphErrorKind::Throttled | GraphErrorKind::Unavailable | GraphErrorKind::Transport => (
            "graph.unavailable",
            Some("try again later; what was made is remembered".to_owned()),
        ),
        GraphErrorKind::Malformed => (
            "graph.malformed",
            Some(
                "see whether a proxy or a captive portal answers in Microsoft's place \
                 (HTTPS_PROXY)"
                    .to_owned(),
            ),
        ),
        _ => ("graph.rejected", None),
    };
    let mut failure = Failure::new(code, with_sources(error));
    failure.remedy = remedy;
    if matches!(error.kind, GraphErrorKind::Denied { .. }) {
        failure.who = Some("an Entra administrator".to_owned());
    }
    failure.retryable = error.is_temporary();
    failure.details = json!({
        "status": error.status,
        "graph_code": error.code,
        "request_id": error.request_id,
        "retry_after_seconds": error.retry_after.map(|wait| wait.as_secs()),
    });
    failure
}

fn denied(needs: Option<&str>) -> String {
    let needs = needs.map_or_else(String::new, |needs| {
        format!(" and that the client has {needs}")
    });
    format!(
        "see that whoever signed in is a Global Administrator, or an Application Administrator \
         together with a Privileged Role Administrator{needs}"
    )
}

/// Why an account was not planned, or not set up to its end.
pub(crate) fn setup_failure(account: &str, error: &SetupError) -> Failure {
    let mut failure = match &error.kind {
        SetupErrorKind::Wanted(_) => Failure::new("usage.setup", error.to_string()),
        SetupErrorKind::Blocked { what, who } => {
            let mut failure = Failure::new("setup.blocked", what)
                .with_remedy("see what the plan says to it, then run the same command again");
            failure.who = Some(who.to_string());
            failure
        }
        SetupErrorKind::Graph(refused) => {
            let mut failure = graph_failure(refused);
            if let Some(step) = error.step {
                failure.message = format!("{step}: {}", failure.message);
            }
            if failure.remedy.is_none() || failure.retryable {
                failure.remedy =
                    Some("run the same command again: what was made is remembered".to_owned());
            }
            failure
        }
        // The vault's own words say more.
        SetupErrorKind::Record(cause) => match cause.downcast_ref::<Failure>() {
            Some(failure) => failure.clone(),
            None => Failure::new("setup.record", with_sources(error)),
        },
        _ => Failure::new("setup.failed", with_sources(error)),
    };
    failure.account = Some(account.to_owned());
    failure
}
