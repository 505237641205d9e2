//! The control API: the scenario read and changed while the sandbox runs, the clock moved,
//! tokens revoked, the log read; and beside it the inbox.
//!
//! Plain HTTP on loopback, for programs of this machine. Web pages of other sites reach it
//! through a visitor's browser, so every request must name this host, and every change
//! must be JSON from here. A change takes effect wholly or not at all.

mod account;
mod guard;

use std::path::PathBuf;

use axum::body::Bytes;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::entra::{Entra, Revocation};
use crate::inbox::{self, Inbox};
use crate::jwt::shown;
use crate::scenario::{Scenario, ScenarioError, Span};
use crate::state::{Area, Outcome, State};

pub(crate) use guard::Guard;

/// The control API; a cheap handle.
#[derive(Clone)]
pub(crate) struct Control {
    state: State,
    entra: Entra,
    snippet: String,
    address: Address,
    /// What the account page's forms carry, and no other site knows.
    form_token: String,
}

/// Where the sandbox is reached, for programs that set themselves up against it.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) smtp_port: u16,
    pub(crate) authority: Url,
    pub(crate) ca_file: PathBuf,
}

impl Control {
    /// A control API over this state. `snippet` is what to put into a configuration.
    pub(crate) fn new(state: State, entra: Entra, snippet: String, address: Address) -> Self {
        Self {
            form_token: state.handle(),
            state,
            entra,
            snippet,
            address,
        }
    }

    /// Everything served here, the inbox included.
    pub(crate) fn router(self, inbox: Inbox, guard: Guard) -> Router {
        Router::new()
            .route("/v1/scenario", get(scenario).put(replace).patch(merge))
            .route("/v1/scenario.toml", get(scenario_toml))
            .route("/v1/scenario/{list}", post(append))
            .route(
                "/v1/scenario/{list}/{which}",
                patch(merge_one).delete(remove_one),
            )
            .route("/v1/revoke", post(revoke))
            .route("/v1/expire-secrets", post(expire_secrets))
            .route("/v1/clock", get(clock).post(advance))
            .route("/v1/log", get(log).delete(clear_log))
            .route(
                "/v1/token-requests",
                get(token_requests).delete(clear_token_requests),
            )
            .route(
                "/v1/graph-requests",
                get(graph_requests).delete(clear_graph_requests),
            )
            .route("/v1/config", get(config))
            .route("/v1/address", get(address))
            .route(account::PATH, get(account::page).post(account::press))
            .route("/", get(|| async { Redirect::to("/inbox") }))
            .with_state(self.clone())
            .merge(inbox::router(inbox, self.state))
            .layer(middleware::from_fn_with_state(guard, guard::check))
    }

    /// Changes the scenario by its JSON, and does what follows from the change.
    fn edit(
        &self,
        edit: impl FnOnce(&mut Value) -> Result<(), Problem>,
    ) -> Result<Response, Problem> {
        let (before, after) = self.state.try_change(|current| {
            let mut value =
                serde_json::to_value(current).map_err(|e| Problem::bad(e.to_string()))?;
            edit(&mut value)?;
            Scenario::from_json(value).map_err(Problem::from)
        })?;
        // A change of password ends what public clients hold (facts B1, revocation).
        for user in &after.users {
            let old = before.users.iter().find(|u| u.object_id == user.object_id);
            if old.is_some_and(|old| old.password != user.password) {
                self.entra.revoke(&Revocation {
                    user: Some(user.object_id.clone()),
                    public_clients_only: true,
                    ..Revocation::default()
                });
            }
        }
        Ok(Json(after.as_ref()).into_response())
    }

    fn tell(&self, what: &str, subject: &str) {
        self.state
            .log(Area::Control, what, shown(subject), Outcome::Done, "");
    }
}

/// Why a request was not carried out.
struct Problem {
    status: StatusCode,
    problems: Vec<String>,
}

impl Problem {
    fn bad(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            problems: vec![text.into()],
        }
    }

    fn missing(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            problems: vec![text.into()],
        }
    }
}

impl From<ScenarioError> for Problem {
    fn from(error: ScenarioError) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            problems: error.problems,
        }
    }
}

impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "problems": self.problems }))).into_response()
    }
}

/// `GET /v1/scenario`
async fn scenario(Shared(control): Shared<Control>) -> Response {
    Json(control.state.scenario().as_ref()).into_response()
}

/// `GET /v1/scenario.toml`: to save what was set up by hand
async fn scenario_toml(Shared(control): Shared<Control>) -> Result<Response, Problem> {
    let text = toml::to_string(control.state.scenario().as_ref())
        .map_err(|e| Problem::bad(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], text).into_response())
}

/// `PUT /v1/scenario`: another scenario instead
async fn replace(Shared(control): Shared<Control>, body: Bytes) -> Result<Response, Problem> {
    let value: Value = read(&body)?;
    control.tell("scenario replaced", "");
    control.edit(|current| {
        *current = value;
        Ok(())
    })
}

/// `PATCH /v1/scenario`: a merge patch (RFC 7396), such as `{"limits":{"connections":1}}`
async fn merge(Shared(control): Shared<Control>, body: Bytes) -> Result<Response, Problem> {
    let value: Value = read(&body)?;
    control.tell("scenario changed", "");
    control.edit(|current| {
        merge_patch(current, value);
        Ok(())
    })
}

/// `POST /v1/scenario/{list}`: one more tenant, user, app, permission or fault
async fn append(
    Shared(control): Shared<Control>,
    Path(list): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let value: Value = read(&body)?;
    control.tell("added", &list);
    control.edit(|current| {
        list_of(current, &list)?.push(value);
        Ok(())
    })
}

/// `PATCH /v1/scenario/{list}/{which}`: a merge patch for one of them
async fn merge_one(
    Shared(control): Shared<Control>,
    Path((list, which)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Problem> {
    let value: Value = read(&body)?;
    control.tell("changed", &format!("{list} {which}"));
    control.edit(|current| {
        let items = list_of(current, &list)?;
        let index = find(items, &which)?;
        merge_patch(&mut items[index], value);
        Ok(())
    })
}

/// `DELETE /v1/scenario/{list}/{which}`; `all` empties the list
async fn remove_one(
    Shared(control): Shared<Control>,
    Path((list, which)): Path<(String, String)>,
) -> Result<Response, Problem> {
    control.tell("removed", &format!("{list} {which}"));
    control.edit(|current| {
        let items = list_of(current, &list)?;
        if which == "all" {
            items.clear();
        } else {
            let index = find(items, &which)?;
            items.remove(index);
        }
        Ok(())
    })
}

fn list_of<'v>(scenario: &'v mut Value, list: &str) -> Result<&'v mut Vec<Value>, Problem> {
    const LISTS: [&str; 5] = ["tenant", "user", "app", "permission", "fault"];
    if !LISTS.contains(&list) {
        return Err(Problem::missing(format!(
            "there is no list `{}`; there are {}",
            shown(list),
            LISTS.join(", ")
        )));
    }
    scenario[list]
        .as_array_mut()
        .ok_or_else(|| Problem::bad(format!("`{list}` is no list")))
}

/// By a user's name, a tenant's id or domain, an app's client id, or the place counted from 0.
fn find(items: &[Value], which: &str) -> Result<usize, Problem> {
    let named = |item: &Value| {
        let is = |v: &Value| v.as_str().is_some_and(|s| s.eq_ignore_ascii_case(which));
        ["upn", "client_id", "id"].iter().any(|key| is(&item[*key]))
            || item["domains"]
                .as_array()
                .is_some_and(|domains| domains.iter().any(is))
    };
    items
        .iter()
        .position(named)
        .or_else(|| which.parse().ok().filter(|index| *index < items.len()))
        .ok_or_else(|| Problem::missing(format!("there is no `{}`", shown(which))))
}

/// JSON Merge Patch (RFC 7396 §2).
fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge_patch(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    user: Option<String>,
    app: Option<String>,
    #[serde(default)]
    access_tokens: bool,
}

/// `POST /v1/revoke`: `{"user":…}`, `{"app":…}`, both, or `{}` for everything; refresh tokens,
/// and with `"access_tokens":true` those too
async fn revoke(Shared(control): Shared<Control>, body: Bytes) -> Result<Response, Problem> {
    let asked: Revoke = read(&body)?;
    let scenario = control.state.scenario();
    let user = asked.user.map(|upn| match scenario.user(&upn) {
        Some(user) => Ok(user.object_id.clone()),
        None => Err(Problem::missing(format!(
            "there is no user `{}`",
            shown(&upn)
        ))),
    });
    let client = asked.app.map(|id| match scenario.app(&id) {
        Some(app) => Ok(app.client_id.clone()),
        None => Err(Problem::missing(format!(
            "there is no app `{}`",
            shown(&id)
        ))),
    });
    let (user, client) = (user.transpose()?, client.transpose()?);
    let revoked = control.entra.revoke(&Revocation {
        user,
        client,
        access_tokens: asked.access_tokens,
        public_clients_only: false,
    });
    control.tell("revoked", &format!("{revoked} tokens"));
    Ok(Json(json!({ "revoked": revoked })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpireSecrets {
    app: String,
}

/// `POST /v1/expire-secrets`: `{"app":"client id"}`; its secrets end now
async fn expire_secrets(
    Shared(control): Shared<Control>,
    body: Bytes,
) -> Result<Response, Problem> {
    let asked: ExpireSecrets = read(&body)?;
    let now = control.state.now();
    control.tell("secrets expired", &asked.app);
    let (_, after) = control.state.try_change(|current| {
        let mut changed = current.clone();
        let app = changed.apps.iter_mut().find(|a| a.client_id == *asked.app);
        let app = app
            .ok_or_else(|| Problem::missing(format!("there is no app `{}`", shown(&asked.app))))?;
        for secret in &mut app.secrets {
            secret.expires = Some(now);
        }
        Ok::<_, Problem>(changed)
    })?;
    Ok(Json(after.as_ref()).into_response())
}

/// `GET /v1/clock`
async fn clock(Shared(control): Shared<Control>) -> Response {
    Json(json!({ "now": control.state.now().to_string() })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance: Span,
}

/// `POST /v1/clock`: `{"advance":"2h"}`
async fn advance(Shared(control): Shared<Control>, body: Bytes) -> Result<Response, Problem> {
    let asked: Advance = read(&body)?;
    control.state.advance(asked.advance.duration());
    control.tell("clock advanced", &format!("{:?}", asked.advance.duration()));
    Ok(clock(Shared(control)).await)
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

/// `GET /v1/log?after=n`: what was granted and refused, and why
async fn log(Shared(control): Shared<Control>, Query(After { after }): Query<After>) -> Response {
    Json(json!({ "entries": control.state.log_entries(after) })).into_response()
}

/// `DELETE /v1/log`
async fn clear_log(Shared(control): Shared<Control>) -> StatusCode {
    control.state.clear_log();
    StatusCode::NO_CONTENT
}

/// `GET /v1/token-requests`: how many there were, by grant type
async fn token_requests(Shared(control): Shared<Control>) -> Response {
    Json(control.state.token_requests()).into_response()
}

/// `DELETE /v1/token-requests`: counted from zero again
async fn clear_token_requests(Shared(control): Shared<Control>) -> StatusCode {
    control.state.clear_token_requests();
    StatusCode::NO_CONTENT
}

/// `GET /v1/config`: what to put into `postrider.toml`
async fn config(Shared(control): Shared<Control>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/toml")],
        control.snippet,
    )
        .into_response()
}

/// `GET /v1/address`: where everything is. Names are those of the servers' certificate; Graph
/// has no path of its own.
async fn address(Shared(control): Shared<Control>) -> Response {
    let address = &control.address;
    let authority = address.authority.as_str().trim_end_matches('/');
    Json(json!({
        "smtp_host": "localhost", "smtp_port": address.smtp_port,
        "authority": authority, "graph": authority, "ca_file": address.ca_file,
    }))
    .into_response()
}

/// `GET /v1/graph-requests`: how many there were, by call
async fn graph_requests(Shared(control): Shared<Control>) -> Response {
    Json(control.state.graph_requests()).into_response()
}

/// `DELETE /v1/graph-requests`: counted from zero again
async fn clear_graph_requests(Shared(control): Shared<Control>) -> StatusCode {
    control.state.clear_graph_requests();
    StatusCode::NO_CONTENT
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| Problem::bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_patch_follows_the_rfcs_examples() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!([1]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            let mut merged = target.clone();
            merge_patch(&mut merged, patch.clone());
            assert_eq!(merged, result, "{target} + {patch}");
        }
    }
}
