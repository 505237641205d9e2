//! A slice of Microsoft Graph, beside Entra ID: what setting an account up, checking it and
//! renewing its credentials needs (facts C1 to C3).
//!
//! Nothing is kept here: every object is a part of the scenario, so what is made through Graph
//! works at once at the token endpoint and over SMTP, and what the control API changes is seen
//! here. The presented token decides what is allowed: its delegated or application permissions,
//! and for people their directory roles and what they own.
//!
//! Texts of errors other than those of facts C3 are unconfirmed; clients must branch on status
//! and code.

mod access;
mod answer;
mod applications;
mod credentials;
mod grants;
mod mail;
mod people;
mod principals;
mod query;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use axum::routing::any;
use serde_json::Value;

use crate::entra::{Entra, Strike, nothing};
use crate::inbox::Inbox;
use crate::jwt::shown;
use crate::scenario::FaultPoint;
use crate::state::{Area, Outcome, State};

use access::Caller;
use answer::{Answer, Refusal};
use query::Query;

/// Graph; a cheap handle.
#[derive(Clone)]
pub(crate) struct Graph {
    state: State,
    entra: Entra,
    inbox: Inbox,
}

/// One call under way: who makes it, and with what.
struct Call<'a> {
    graph: &'a Graph,
    caller: Caller,
    query: Query,
    headers: &'a HeaderMap,
    octets: &'a [u8],
}

impl Graph {
    /// Graph over the state that `entra` signs people in to.
    pub(crate) fn new(entra: Entra, inbox: Inbox) -> Self {
        Self {
            state: entra.state.clone(),
            entra,
            inbox,
        }
    }

    /// Everything it serves.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/v1.0/{*rest}", any(call))
            .with_state(self.clone())
    }
}

async fn call(
    Shared(graph): Shared<Graph>,
    Path(rest): Path<String>,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let segments: Vec<&str> = rest.split('/').collect();
    let name = name(&method, &segments);
    graph.state.tally_graph(&name);
    let strike = graph.entra.strike(FaultPoint::Graph, &name, &headers).await;
    if let Strike::Answer(response) = strike {
        return response;
    }
    let done = graph.answer(&method, &segments, query.as_deref(), &headers, &body);
    let done = match done {
        Ok((Answer::Send(delivery), who)) => match graph.inbox.deliver(*delivery).await {
            Ok(_) => Ok((Answer::Accepted, who)),
            Err(error) => Err(Refusal::unavailable(error.to_string())),
        },
        other => other,
    };
    let response = match done {
        Ok((answer, who)) => {
            graph
                .state
                .log(Area::Graph, name, who, Outcome::Done, String::new());
            answer.into_response(&graph.state, &headers)
        }
        Err(refusal) => {
            graph.state.log(
                Area::Graph,
                name,
                String::new(),
                Outcome::Refused,
                refusal.to_string(),
            );
            refusal.into_response(&graph.state, &headers)
        }
    };
    match strike {
        Strike::LoseReply => nothing(),
        _ => response,
    }
}

/// The call without what identifies objects: for counts, faults and the log.
fn name(method: &Method, segments: &[&str]) -> String {
    let words = segments.iter().enumerate().map(|(at, segment)| {
        let collection = at == 0
            || segments[0] == "me"
            || segments[0] == "policies"
            || segment.starts_with('$')
            || (at == 2);
        if collection {
            shown(segment)
        } else {
            "{id}".to_owned()
        }
    });
    format!("{method} {}", words.collect::<Vec<_>>().join("/"))
}

impl Graph {
    fn answer(
        &self,
        method: &Method,
        segments: &[&str],
        query: Option<&str>,
        headers: &HeaderMap,
        octets: &[u8],
    ) -> Result<(Answer, String), Refusal> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Refusal::token("there is no bearer token"))?;
        let caller = Caller::of(&self.state, token)?;
        let who = caller.name();
        let call = Call {
            graph: self,
            caller,
            query: Query::read(query)?,
            headers,
            octets,
        };
        call.dispatch(method, segments).map(|answer| (answer, who))
    }
}

impl Call<'_> {
    fn dispatch(&self, method: &Method, segments: &[&str]) -> Result<Answer, Refusal> {
        match (method.as_str(), segments) {
            ("GET", ["me"]) => self.me(),
            ("GET", ["me", "licenseDetails"]) => self.my_licences(),
            ("GET", ["me", "transitiveMemberOf" | "memberOf", rest @ ..]) => self.my_roles(rest),
            ("POST", ["me", "sendMail"]) => self.send_mail(),
            ("GET", ["users", id]) => self.user(id),
            ("GET", ["users", id, "licenseDetails"]) => self.licences(id),
            ("GET", ["users", id, "transitiveMemberOf" | "memberOf", rest @ ..]) => {
                self.roles(id, rest)
            }
            ("GET", ["organization"]) => self.organization(),
            ("GET", ["policies", "identitySecurityDefaultsEnforcementPolicy"]) => {
                self.security_defaults()
            }
            ("GET", ["applications"]) => self.list_applications(),
            ("POST", ["applications"]) => self.create_application(),
            ("GET", ["applications", id]) => self.application(id),
            ("PATCH", ["applications", id]) => self.change_application(id),
            ("DELETE", ["applications", id]) => self.delete_application(id),
            ("POST", ["applications", id, "addPassword"]) => self.add_password(id),
            ("POST", ["applications", id, "removePassword"]) => self.remove_password(id),
            ("GET", ["applications", id, "owners"]) => self.owners(id),
            ("POST", ["applications", id, "owners", "$ref"]) => self.add_owner(id),
            ("DELETE", ["applications", id, "owners", owner, "$ref"]) => {
                self.remove_owner(id, owner)
            }
            ("GET", ["servicePrincipals"]) => self.list_principals(),
            ("POST", ["servicePrincipals"]) => self.create_principal(),
            ("GET", ["servicePrincipals", id]) => self.principal(id),
            ("DELETE", ["servicePrincipals", id]) => self.delete_principal(id),
            ("GET", ["servicePrincipals", id, "appRoleAssignments"]) => self.roles_of_principal(id),
            ("GET", ["servicePrincipals", id, "appRoleAssignedTo"]) => self.roles_on_principal(id),
            (
                "POST",
                [
                    "servicePrincipals",
                    id,
                    assigned @ ("appRoleAssignedTo" | "appRoleAssignments"),
                ],
            ) => self.assign_role(id, *assigned == "appRoleAssignedTo"),
            (
                "DELETE",
                [
                    "servicePrincipals",
                    _,
                    "appRoleAssignedTo" | "appRoleAssignments",
                    id,
                ],
            ) => self.unassign_role(id),
            ("GET", ["servicePrincipals", id, "oauth2PermissionGrants"]) => self.grants_of(id),
            ("GET", ["oauth2PermissionGrants"]) => self.list_grants(),
            ("POST", ["oauth2PermissionGrants"]) => self.create_grant(),
            ("GET", ["oauth2PermissionGrants", id]) => self.grant(id),
            ("PATCH", ["oauth2PermissionGrants", id]) => self.change_grant(id),
            ("DELETE", ["oauth2PermissionGrants", id]) => self.delete_grant(id),
            _ => Err(Refusal::no_such_call()),
        }
    }

    /// The body as JSON: an object.
    fn json(&self) -> Result<Value, Refusal> {
        let kind = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/json") {
            return Err(Refusal::bad(
                "the body's Content-Type is not application/json",
            ));
        }
        serde_json::from_slice::<Value>(self.octets)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| Refusal::bad("the body is no JSON object"))
    }

    /// Whether an object with this id does not show yet.
    fn hidden(&self, id: &str) -> bool {
        self.graph.state.is_settling(id)
    }
}
