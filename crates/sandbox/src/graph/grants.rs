//! Delegated consent: `oauth2PermissionGrants`, a view of each app's `consent`. There is one
//! grant for each app, service and person, or for everyone.

use serde_json::{Value, json};

use crate::scenario::{App, Consent, EVERYONE, Guid, Permission, Resource};

use super::Call;
use super::access::CONSENT_ADMINISTRATORS;
use super::answer::{Answer, Refusal};
use super::principals::Principal;

/// Lets grants be changed.
const WRITING: &[&str] = &["DelegatedPermissionGrant.ReadWrite.All"];
/// Lets grants be read.
const READING: &[&str] = &[
    "DelegatedPermissionGrant.ReadWrite.All",
    "Directory.Read.All",
];

/// One grant.
struct Granted<'a> {
    id: Guid,
    app: &'a App,
    resource: Resource,
    by: String,
    scope: String,
}

impl Call<'_> {
    pub(super) fn list_grants(&self) -> Result<Answer, Refusal> {
        self.caller.need(READING, READING)?;
        let grants = self.grants().iter().map(|g| self.grant_json(g)).collect();
        Ok(self.page("oauth2PermissionGrants", grants))
    }

    pub(super) fn grants_of(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.need(READING, READING)?;
        let client = self.principal_id(self.find_principal(id)?);
        let mut grants = self.grants();
        grants.retain(|grant| grant.app.object_id == client);
        let grants = grants.iter().map(|g| self.grant_json(g)).collect();
        Ok(self.page(
            &format!("servicePrincipals/{id}/oauth2PermissionGrants"),
            grants,
        ))
    }

    pub(super) fn grant(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.need(READING, READING)?;
        let grant = self.find_grant(id)?;
        Ok(self.one(self.grant_json(&grant)))
    }

    pub(super) fn create_grant(&self) -> Result<Answer, Refusal> {
        self.caller.need(WRITING, WRITING)?;
        self.caller.need_role(CONSENT_ADMINISTRATORS)?;
        let body = self.json()?;
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let Principal::App(app) = self.find_principal(text("clientId"))? else {
            return Err(Refusal::bad("clientId is no app."));
        };
        let Principal::Service(resource) = self.find_principal(text("resourceId"))? else {
            return Err(Refusal::bad("resourceId is no service."));
        };
        let by = match text("consentType") {
            "AllPrincipals" if body["principalId"].is_null() => EVERYONE.to_owned(),
            "Principal" => self.find_user(text("principalId"))?.upn.clone(),
            _ => return Err(Refusal::bad("consentType and principalId do not fit.")),
        };
        let scope = text("scope").to_owned();
        let permissions = permissions(resource, &scope)?;
        let id = grant_id(app, resource, &by);
        if self.grants().iter().any(|grant| grant.id == id) {
            return Err(Refusal::conflict("Permission entry already exists."));
        }
        let made = self.grant_json(&Granted {
            id: id.clone(),
            app,
            resource,
            by: by.clone(),
            scope,
        });
        self.change_app(&app.registration_id, |app| {
            write(app, resource, &by, permissions);
            Ok(())
        })?;
        Ok(Answer::Made(made))
    }

    pub(super) fn change_grant(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.need(WRITING, WRITING)?;
        self.caller.need_role(CONSENT_ADMINISTRATORS)?;
        let grant = self.find_grant(id)?;
        let body = self.json()?;
        let scope = body["scope"]
            .as_str()
            .ok_or_else(|| Refusal::bad("Only scope can be changed."))?;
        let permissions = permissions(grant.resource, scope)?;
        self.change_app(&grant.app.registration_id, |app| {
            write(app, grant.resource, &grant.by, permissions);
            Ok(())
        })
    }

    pub(super) fn delete_grant(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.need(WRITING, WRITING)?;
        self.caller.need_role(CONSENT_ADMINISTRATORS)?;
        let grant = self.find_grant(id)?;
        self.change_app(&grant.app.registration_id, |app| {
            write(app, grant.resource, &grant.by, Vec::new());
            Ok(())
        })
    }

    fn find_grant(&self, id: &str) -> Result<Granted<'_>, Refusal> {
        self.grants()
            .into_iter()
            .find(|grant| grant.id == *id)
            .ok_or_else(|| Refusal::missing(id))
    }

    fn grants(&self) -> Vec<Granted<'_>> {
        let mut grants: Vec<Granted<'_>> = Vec::new();
        let apps = self.caller.scenario.apps.iter().filter(|app| {
            app.service_principal && (self.caller.is_home_of(app) || app.multi_tenant)
        });
        for app in apps {
            for consent in &app.consent {
                for permission in &consent.permissions {
                    let id = grant_id(app, permission.resource, &consent.by);
                    match grants.iter_mut().find(|grant| grant.id == id) {
                        Some(grant) => {
                            grant.scope.push(' ');
                            grant.scope.push_str(&permission.name);
                        }
                        None => grants.push(Granted {
                            id,
                            app,
                            resource: permission.resource,
                            by: consent.by.clone(),
                            scope: permission.name.clone(),
                        }),
                    }
                }
            }
        }
        grants
    }

    fn grant_json(&self, grant: &Granted<'_>) -> Value {
        let (kind, principal) = if grant.by == EVERYONE {
            ("AllPrincipals", None)
        } else {
            let user = self.caller.scenario.user(&grant.by);
            ("Principal", user.map(|user| user.object_id.clone()))
        };
        json!({
            "id": grant.id, "clientId": grant.app.object_id, "consentType": kind,
            "principalId": principal, "scope": grant.scope,
            "resourceId": self.principal_id(Principal::Service(grant.resource)),
        })
    }
}

fn grant_id(app: &App, resource: Resource, by: &str) -> Guid {
    Guid::derived(&format!(
        "grant {} {} {by}",
        app.object_id,
        resource.app_id()
    ))
}

fn permissions(resource: Resource, scope: &str) -> Result<Vec<Permission>, Refusal> {
    let mut found = Vec::new();
    for name in scope.split_whitespace() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !name.bytes().all(plain) {
            return Err(Refusal::bad(
                "Invalid value specified for property 'scope'.",
            ));
        }
        let permission = Permission::new(resource, name);
        if !found.contains(&permission) {
            found.push(permission);
        }
    }
    Ok(found)
}

/// Puts these in place of everything `by` granted to the app on this service.
fn write(app: &mut App, resource: Resource, by: &str, permissions: Vec<Permission>) {
    for consent in &mut app.consent {
        if consent.by.eq_ignore_ascii_case(by) {
            consent.permissions.retain(|p| p.resource != resource);
        }
    }
    app.consent
        .retain(|consent| !consent.permissions.is_empty());
    if !permissions.is_empty() {
        app.consent.push(Consent {
            by: by.to_owned(),
            permissions,
        });
    }
}
