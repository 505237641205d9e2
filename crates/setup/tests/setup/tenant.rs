//! A tenant in memory that answers as Graph does, and a hand that ends a run at any point.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postrider_graph::ids::{directory_role, resource, role, scope};
use postrider_graph::{
    Graph, Method, Request, Response, Transport, TransportError, TransportErrorKind,
};
use serde_json::{Value, json};

pub(crate) const TENANT: &str = "5f0e1d2c-0000-4000-8000-000000000001";
pub(crate) const EXCHANGE: &str = "e0000000-0000-4000-8000-000000000001";
pub(crate) const GRAPH: &str = "e0000000-0000-4000-8000-000000000002";
pub(crate) const OWNED_BY: &str = "18a4783c-0000-4000-8000-00000000000b";
pub(crate) const USER: &str = "svc-mail@contoso.com";
const MAILBOX: &str = "9aaf7827-d63c-4b61-89c3-182f06f82e5c";

/// What the directory holds.
pub(crate) struct Directory {
    pub(crate) applications: Vec<Value>,
    pub(crate) principals: Vec<Value>,
    pub(crate) grants: Vec<Value>,
    pub(crate) assigned: Vec<Value>,
    /// Owners by the application's object id.
    pub(crate) owners: Vec<(String, String)>,
    pub(crate) users: Vec<Value>,
    /// `(servicePlanId, servicePlanName, provisioningStatus)` of every user's licence.
    pub(crate) plans: Vec<(String, String, String)>,
    pub(crate) roles: Vec<Option<String>>,
    pub(crate) security_defaults: bool,
    /// Paths that are answered with 403.
    pub(crate) denied: Vec<&'static str>,
    /// Searches for applications by name that find nothing yet, whatever there is.
    pub(crate) not_yet: usize,
    /// Reads of applications that do not show the last credential yet.
    pub(crate) no_credential_yet: usize,
    /// Everything that was asked, in order.
    pub(crate) asked: Vec<String>,
    /// The values of the secrets ever made, by key id.
    pub(crate) secrets: Vec<(String, String)>,
    pub(crate) paused: Duration,
    next_id: u32,
}

/// The end of a run: at which of its points, and whether that point still takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) at: usize,
    pub(crate) after: bool,
}

/// Counts the points of a run at which it could end, and ends it at one.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) end: Option<End>,
    pub(crate) points: usize,
    pub(crate) dead: bool,
}

/// What happens to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Happens,
    HappensUnheard,
    Never,
}

impl Fate {
    pub(crate) fn next(&mut self) -> Point {
        if self.dead {
            return Point::Never;
        }
        let point = self.points;
        self.points += 1;
        match self.end {
            Some(end) if end.at == point => {
                self.dead = true;
                if end.after {
                    Point::HappensUnheard
                } else {
                    Point::Never
                }
            }
            _ => Point::Happens,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Tenant {
    pub(crate) directory: Arc<Mutex<Directory>>,
    pub(crate) fate: Arc<Mutex<Fate>>,
}

impl Tenant {
    pub(crate) fn new() -> Self {
        let directory = Directory {
            applications: Vec::new(),
            principals: vec![
                json!({ "id": EXCHANGE, "appId": resource::EXCHANGE_ONLINE,
                    "oauth2PermissionScopes": [{ "id": scope::EXCHANGE_SMTP_SEND, "value": "SMTP.Send" }],
                    "appRoles": [{ "id": role::EXCHANGE_SMTP_SEND_AS_APP, "value": "SMTP.SendAsApp" }] }),
                json!({ "id": GRAPH, "appId": resource::GRAPH, "oauth2PermissionScopes": [],
                    "appRoles": [{ "id": OWNED_BY, "value": "Application.ReadWrite.OwnedBy" }] }),
            ],
            grants: Vec::new(),
            assigned: Vec::new(),
            owners: Vec::new(),
            users: vec![json!({
                "id": "a0000000-0000-4000-8000-000000000001", "userPrincipalName": USER,
                "mail": USER, "displayName": "Mail service", "accountEnabled": true,
            })],
            plans: vec![plan(MAILBOX, "EXCHANGE_S_STANDARD", "Success")],
            roles: vec![Some(directory_role::GLOBAL_ADMINISTRATOR.to_owned())],
            security_defaults: false,
            denied: Vec::new(),
            not_yet: 0,
            no_credential_yet: 0,
            asked: Vec::new(),
            secrets: Vec::new(),
            paused: Duration::ZERO,
            next_id: 0,
        };
        Self {
            directory: Arc::new(Mutex::new(directory)),
            fate: Arc::new(Mutex::new(Fate::default())),
        }
    }

    /// A client of it, as a new process would make.
    pub(crate) fn graph(&self) -> Graph {
        Graph::new(
            "https://graph.example".parse().unwrap(),
            "token".into(),
            Arc::new(self.clone()),
        )
        .unwrap()
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Directory) -> T) -> T {
        look(&mut self.directory.lock().unwrap())
    }

    /// The requests since the last call which were not reads.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.with(|d| {
            let asked = std::mem::take(&mut d.asked);
            asked
                .into_iter()
                .filter(|a| !a.starts_with("GET "))
                .collect()
        })
    }

    /// The applications of this name.
    pub(crate) fn applications(&self, name: &str) -> Vec<Value> {
        self.with(|d| {
            d.applications
                .iter()
                .filter(|app| app["displayName"] == name)
                .cloned()
                .collect()
        })
    }
}

pub(crate) fn plan(id: &str, name: &str, status: &str) -> (String, String, String) {
    (id.to_owned(), name.to_owned(), status.to_owned())
}

impl Transport for Tenant {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        let point = self.fate.lock().unwrap().next();
        let broken =
            || TransportError::new(TransportErrorKind::Interrupted, "the connection was closed");
        let answer = match point {
            Point::Never => Err(broken()),
            Point::Happens => Ok(self.with(|d| d.answer(&request))),
            Point::HappensUnheard => {
                self.with(|d| d.answer(&request));
                Err(broken())
            }
        };
        async move { answer }.boxed()
    }

    fn pause(&self, how_long: Duration) -> BoxFuture<'_, ()> {
        self.with(|d| d.paused += how_long);
        async {}.boxed()
    }
}

impl Directory {
    fn answer(&mut self, request: &Request) -> Response {
        let path = request
            .url
            .path()
            .trim_start_matches("/v1.0")
            .replace("%23", "#");
        self.asked
            .push(format!("{} {path}", request.method.as_str()));
        if self.denied.iter().any(|denied| path.starts_with(denied)) {
            return refused(403, "Authorization_RequestDenied");
        }
        let filter = request
            .url
            .query_pairs()
            .find(|(name, _)| name == "$filter")
            .map(|(_, value)| value.into_owned());
        let filter = filter.as_deref();
        let body = request.body.clone().unwrap_or(Value::Null);
        let mut segments: VecDeque<&str> = path.trim_matches('/').split('/').collect();
        let first = segments.pop_front().unwrap_or_default();
        let rest: Vec<&str> = segments.into();
        match (request.method, first, rest.as_slice()) {
            (Method::Get, "organization", []) => list(&[json!({
                "id": TENANT, "displayName": "Contoso",
                "verifiedDomains": [
                    { "name": "contoso.onmicrosoft.com", "isInitial": true, "isDefault": false },
                    { "name": "contoso.com", "isInitial": false, "isDefault": true },
                ],
            })]),
            (Method::Get, "me", []) => ok(&json!({
                "id": "a0000000-0000-4000-8000-00000000000a",
                "userPrincipalName": "admin@contoso.com", "mail": null,
            })),
            (Method::Get, "me", ["transitiveMemberOf", _]) => list(
                &self
                    .roles
                    .iter()
                    .map(|role| json!({ "id": "r", "roleTemplateId": role }))
                    .collect::<Vec<_>>(),
            ),
            (Method::Get, "policies", _) => ok(&json!({ "isEnabled": self.security_defaults })),
            (Method::Get, "users", [_, "licenseDetails"]) => list(&[json!({
                "servicePlans": self.plans.iter().map(|(id, name, status)| json!({
                    "servicePlanId": id, "servicePlanName": name, "provisioningStatus": status,
                })).collect::<Vec<_>>(),
            })]),
            (Method::Get, "users", [name]) => {
                let user = self.users.iter().find(|u| {
                    u["userPrincipalName"]
                        .as_str()
                        .is_some_and(|upn| upn.eq_ignore_ascii_case(name))
                });
                user.map_or_else(|| refused(404, "Request_ResourceNotFound"), ok)
            }
            (method, "applications", rest) => self.applications(method, rest, filter, &body),
            (method, "servicePrincipals", rest) => self.principals(method, rest, filter, &body),
            (method, "oauth2PermissionGrants", rest) => self.grants(method, rest, filter, &body),
            _ => refused(400, "BadRequest"),
        }
    }

    fn applications(
        &mut self,
        method: Method,
        rest: &[&str],
        filter: Option<&str>,
        body: &Value,
    ) -> Response {
        match (method, rest) {
            (Method::Get, []) => {
                let (property, value) = condition(filter);
                if property == "displayName" && self.not_yet > 0 {
                    self.not_yet -= 1;
                    return list(&Vec::new());
                }
                let found = matching(&self.applications, &property, &value);
                list(&found.iter().map(|app| self.shown(app)).collect::<Vec<_>>())
            }
            (Method::Post, []) => {
                let mut app = body.clone();
                app["id"] = json!(self.id());
                app["appId"] = json!(self.id());
                app["passwordCredentials"] = json!([]);
                app["keyCredentials"] = json!([]);
                self.applications.push(app.clone());
                Response {
                    status: 201,
                    ..ok(&app)
                }
            }
            (method, [object_id, rest @ ..]) => {
                let Some(at) = self
                    .applications
                    .iter()
                    .position(|a| a["id"] == **object_id)
                else {
                    return refused(404, "Request_ResourceNotFound");
                };
                self.application(method, at, rest, body)
            }
            _ => refused(400, "BadRequest"),
        }
    }

    /// What a replica that may be behind shows of `app`.
    fn shown(&mut self, app: &Value) -> Value {
        let mut app = app.clone();
        if self.no_credential_yet > 0 {
            self.no_credential_yet -= 1;
            for list in ["passwordCredentials", "keyCredentials"] {
                app[list].as_array_mut().unwrap().pop();
            }
        }
        app
    }

    fn application(&mut self, method: Method, at: usize, rest: &[&str], body: &Value) -> Response {
        match (method, rest) {
            (Method::Get, []) => {
                let app = self.applications[at].clone();
                ok(&self.shown(&app))
            }
            (Method::Delete, []) => {
                self.applications.remove(at);
                nothing()
            }
            (Method::Patch, []) => {
                for (name, value) in body.as_object().unwrap() {
                    let mut value = value.clone();
                    if name == "keyCredentials" {
                        for key in value.as_array_mut().unwrap() {
                            if key.get("keyId").is_none() {
                                key["keyId"] = json!(self.id());
                            }
                        }
                    }
                    self.applications[at][name] = value;
                }
                nothing()
            }
            (Method::Post, ["addPassword"]) => {
                let mut made = body["passwordCredential"].clone();
                made["keyId"] = json!(self.id());
                made["hint"] = json!("abc");
                let secret = format!("secret-{}", self.secrets.len());
                let key_id = made["keyId"].as_str().unwrap().to_owned();
                self.secrets.push((key_id, secret.clone()));
                let passwords = self.applications[at]["passwordCredentials"].as_array_mut();
                passwords.unwrap().push(made.clone());
                made["secretText"] = json!(secret);
                ok(&made)
            }
            (Method::Post, ["removePassword"]) => {
                let passwords = self.applications[at]["passwordCredentials"].as_array_mut();
                passwords.unwrap().retain(|p| p["keyId"] != body["keyId"]);
                nothing()
            }
            (Method::Get, ["owners"]) => {
                let app = self.applications[at]["id"].as_str().unwrap();
                let owners = self.owners.iter().filter(|(of, _)| of == app);
                list(
                    &owners
                        .map(|(_, owner)| json!({ "id": owner }))
                        .collect::<Vec<_>>(),
                )
            }
            (Method::Post, ["owners", "$ref"]) => {
                let app = self.applications[at]["id"].as_str().unwrap().to_owned();
                let owner = body["@odata.id"].as_str().unwrap();
                let owner = owner.rsplit('/').next().unwrap().to_owned();
                if self.owners.contains(&(app.clone(), owner.clone())) {
                    return refused(400, "Request_BadRequest");
                }
                self.owners.push((app, owner));
                nothing()
            }
            _ => refused(400, "BadRequest"),
        }
    }

    fn principals(
        &mut self,
        method: Method,
        rest: &[&str],
        filter: Option<&str>,
        body: &Value,
    ) -> Response {
        match (method, rest) {
            (Method::Get, []) => {
                let (property, value) = condition(filter);
                list(&matching(&self.principals, &property, &value))
            }
            (Method::Post, []) => {
                if self.principals.iter().any(|p| p["appId"] == body["appId"]) {
                    return refused(409, "Request_MultipleObjectsWithSameKeyValue");
                }
                let made =
                    json!({ "id": self.id(), "appId": body["appId"], "accountEnabled": true });
                self.principals.push(made.clone());
                Response {
                    status: 201,
                    ..ok(&made)
                }
            }
            (Method::Get, [principal, "appRoleAssignments"]) => {
                list(&matching(&self.assigned, "principalId", principal))
            }
            (Method::Post, [_, "appRoleAssignedTo"]) => {
                let mut made = body.clone();
                let same = |other: &Value| {
                    ["principalId", "resourceId", "appRoleId"]
                        .iter()
                        .all(|name| other[name] == body[name])
                };
                if self.assigned.iter().any(same) {
                    return refused(409, "Permission_Duplicate");
                }
                made["id"] = json!(self.id());
                self.assigned.push(made.clone());
                Response {
                    status: 201,
                    ..ok(&made)
                }
            }
            _ => refused(400, "BadRequest"),
        }
    }

    fn grants(
        &mut self,
        method: Method,
        rest: &[&str],
        filter: Option<&str>,
        body: &Value,
    ) -> Response {
        match (method, rest) {
            (Method::Get, []) => {
                let (property, value) = condition(filter);
                list(&matching(&self.grants, &property, &value))
            }
            (Method::Post, []) => {
                let same = |other: &Value| {
                    ["clientId", "resourceId", "consentType"]
                        .iter()
                        .all(|name| other[name] == body[name])
                };
                if self.grants.iter().any(same) {
                    return refused(409, "Request_MultipleObjectsWithSameKeyValue");
                }
                let mut made = body.clone();
                made["id"] = json!(self.id());
                self.grants.push(made.clone());
                Response {
                    status: 201,
                    ..ok(&made)
                }
            }
            (Method::Patch, [id]) => {
                let Some(grant) = self.grants.iter_mut().find(|g| g["id"] == **id) else {
                    return refused(404, "Request_ResourceNotFound");
                };
                grant["scope"] = body["scope"].clone();
                nothing()
            }
            _ => refused(400, "BadRequest"),
        }
    }

    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("c0000000-0000-4000-8000-{:012}", self.next_id)
    }
}

/// `property eq 'value'`.
fn condition(filter: Option<&str>) -> (String, String) {
    let (property, value) = filter.unwrap().split_once(" eq ").unwrap();
    let value = value.trim_matches('\'').replace("''", "'");
    (property.to_owned(), value)
}

fn matching(all: &[Value], property: &str, value: &str) -> Vec<Value> {
    all.iter()
        .filter(|one| {
            one[property]
                .as_str()
                .is_some_and(|have| have.eq_ignore_ascii_case(value))
        })
        .cloned()
        .collect()
}

fn ok(body: &Value) -> Response {
    Response {
        status: 200,
        body: body.to_string().into_bytes(),
        ..Response::default()
    }
}

fn list(entries: &[Value]) -> Response {
    ok(&json!({ "value": entries }))
}

fn nothing() -> Response {
    Response {
        status: 204,
        ..Response::default()
    }
}

fn refused(status: u16, code: &str) -> Response {
    Response {
        status,
        ..ok(&json!({ "error": { "code": code, "message": "Insufficient, or not there." } }))
    }
}
