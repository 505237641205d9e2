//! Service principals: apps as they stand in a tenant, and the two services themselves; and
//! the application permissions they were granted.

use serde_json::{Value, json};

use crate::scenario::{APP_ROLES, App, Guid, Offered, Permission, Resource, SCOPES};

use super::Call;
use super::access::{CONSENT_ADMINISTRATORS, GRAPH_CONSENT_ADMINISTRATORS};
use super::answer::{Answer, Refusal};
use super::applications::{forget_principal, permission_id};

/// A service principal of the caller's tenant.
#[derive(Clone, Copy)]
pub(super) enum Principal<'a> {
    App(&'a App),
    Service(Resource),
}

impl Call<'_> {
    pub(super) fn list_principals(&self) -> Result<Answer, Refusal> {
        self.caller.may_read_applications()?;
        let mut found = Vec::new();
        for principal in self.principals()? {
            let id = self.principal_id(principal);
            if !self.hidden(id.as_str()) {
                found.push(self.principal_json(principal));
            }
        }
        Ok(self.page("servicePrincipals", found))
    }

    pub(super) fn principal(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_read_applications()?;
        let principal = self.find_principal(id)?;
        Ok(self.one(self.principal_json(principal)))
    }

    pub(super) fn create_principal(&self) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let body = self.json()?;
        let client_id = body["appId"].as_str().unwrap_or_default();
        // Unconfirmed: status and text for an app that is not there, or not yet.
        let app = self
            .caller
            .scenario
            .app(client_id)
            .filter(|app| self.caller.is_home_of(app) || app.multi_tenant)
            .filter(|app| !self.hidden(app.registration_id.as_str()))
            .ok_or_else(|| {
                Refusal::bad(format!(
                    "The appId '{}' of the service principal does not reference a valid application object.",
                    crate::jwt::shown(client_id)
                ))
            })?;
        self.caller.may_manage(app)?;
        if app.service_principal {
            return Err(Refusal::conflict(format!(
                "The service principal cannot be created, updated, or restored because the service principal name {} is already in use.",
                app.client_id
            )));
        }
        self.change_app(&app.registration_id, |app| {
            app.service_principal = true;
            Ok(())
        })?;
        self.graph.state.settle(app.object_id.as_str());
        Ok(Answer::Made(self.principal_json(Principal::App(app))))
    }

    pub(super) fn delete_principal(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let Principal::App(app) = self.find_principal(id)? else {
            return Err(Refusal::denied("Microsoft's services stay"));
        };
        self.caller.may_manage(app)?;
        let client_id = app.client_id.clone();
        self.graph.state.try_change(|current| {
            let mut changed = current.clone();
            if let Some(app) = changed.apps.iter_mut().find(|a| a.client_id == client_id) {
                app.service_principal = false;
                app.consent.clear();
                app.application_consent.clear();
                app.exchange_service_principal = false;
            }
            forget_principal(&mut changed, client_id.as_str());
            Ok::<_, Refusal>(changed)
        })?;
        Ok(Answer::Done)
    }

    pub(super) fn roles_of_principal(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_read_applications()?;
        let assignments = match self.find_principal(id)? {
            Principal::App(app) => self.assignments(app),
            Principal::Service(_) => Vec::new(),
        };
        Ok(self.page(
            &format!("servicePrincipals/{id}/appRoleAssignments"),
            assignments,
        ))
    }

    pub(super) fn roles_on_principal(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_read_applications()?;
        let resource = self.principal_id(self.find_principal(id)?);
        let mut found = Vec::new();
        for principal in self.principals()? {
            if let Principal::App(app) = principal {
                found.extend(self.assignments(app));
            }
        }
        found.retain(|assignment| assignment["resourceId"] == resource.as_str());
        Ok(self.page(&format!("servicePrincipals/{id}/appRoleAssignedTo"), found))
    }

    /// `on_resource`: the path names the service, not the app.
    pub(super) fn assign_role(&self, id: &str, on_resource: bool) -> Result<Answer, Refusal> {
        const NEEDED: [&str; 1] = ["AppRoleAssignment.ReadWrite.All"];
        self.caller.need(&NEEDED, &NEEDED)?;
        let body = self.json()?;
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let named = if on_resource {
            "resourceId"
        } else {
            "principalId"
        };
        if !text(named).eq_ignore_ascii_case(id) {
            return Err(Refusal::bad(format!("{named} is not the path's.")));
        }
        let Principal::Service(resource) = self.find_principal(text("resourceId"))? else {
            return Err(Refusal::bad(
                "Permission being assigned was not found on application.",
            ));
        };
        let Principal::App(app) = self.find_principal(text("principalId"))? else {
            return Err(Refusal::bad("The principal is no app."));
        };
        let permission = APP_ROLES
            .iter()
            .filter(|role| role.resource == resource)
            .find(|role| role.id("role") == *text("appRoleId"))
            .map(Offered::permission)
            .ok_or_else(|| {
                Refusal::bad("Permission being assigned was not found on application.")
            })?;
        self.caller.need_role(match resource {
            Resource::Graph => GRAPH_CONSENT_ADMINISTRATORS,
            Resource::Exchange => CONSENT_ADMINISTRATORS,
        })?;
        if app.application_consent.contains(&permission) {
            return Err(Refusal::bad(
                "Permission being assigned already exists on the object.",
            ));
        }
        let made = self.assignment_json(app, &permission);
        self.change_app(&app.registration_id, |app| {
            app.application_consent.push(permission.clone());
            Ok(())
        })?;
        Ok(Answer::Made(made))
    }

    pub(super) fn unassign_role(&self, id: &str) -> Result<Answer, Refusal> {
        const NEEDED: [&str; 1] = ["AppRoleAssignment.ReadWrite.All"];
        self.caller.need(&NEEDED, &NEEDED)?;
        self.caller.need_role(CONSENT_ADMINISTRATORS)?;
        for principal in self.principals()? {
            let Principal::App(app) = principal else {
                continue;
            };
            let assigned = app
                .application_consent
                .iter()
                .find(|p| self.assignment_json(app, p)["id"] == id);
            if let Some(assigned) = assigned {
                return self.change_app(&app.registration_id, |app| {
                    app.application_consent.retain(|p| p != assigned);
                    Ok(())
                });
            }
        }
        Err(Refusal::missing(id))
    }

    /// Every service principal of the caller's tenant.
    fn principals(&self) -> Result<Vec<Principal<'_>>, Refusal> {
        let exchange = self.caller.tenant()?.exchange_online;
        let services = exchange
            .then_some(Resource::Exchange)
            .into_iter()
            .chain([Resource::Graph]);
        let apps = self.caller.scenario.apps.iter().filter(|app| {
            app.service_principal && (self.caller.is_home_of(app) || app.multi_tenant)
        });
        Ok(services
            .map(Principal::Service)
            .chain(apps.map(Principal::App))
            .collect())
    }

    pub(super) fn find_principal(&self, id: &str) -> Result<Principal<'_>, Refusal> {
        self.principals()?
            .into_iter()
            .find(|principal| self.principal_id(*principal) == *id)
            .filter(|_| !self.hidden(id))
            .ok_or_else(|| Refusal::missing(id))
    }

    /// Object id. The services' own are the sandbox's, one for each tenant.
    pub(super) fn principal_id(&self, principal: Principal<'_>) -> Guid {
        match principal {
            Principal::App(app) => app.object_id.clone(),
            Principal::Service(resource) => Guid::derived(&format!(
                "service principal {} {}",
                self.caller.claims.tid,
                resource.app_id()
            )),
        }
    }

    fn principal_json(&self, principal: Principal<'_>) -> Value {
        let (app_id, name, roles, scopes) = match principal {
            Principal::App(app) => (
                app.client_id.as_str(),
                app.name.as_str(),
                Vec::new(),
                Vec::new(),
            ),
            Principal::Service(resource) => {
                let name = match resource {
                    Resource::Exchange => "Office 365 Exchange Online",
                    Resource::Graph => "Microsoft Graph",
                };
                let of = |among: &'static [Offered]| {
                    among.iter().filter(move |o| o.resource == resource)
                };
                let roles = of(APP_ROLES).map(role_json).collect();
                let scopes = of(SCOPES).map(scope_json).collect();
                (resource.app_id(), name, roles, scopes)
            }
        };
        let assigned_only = match principal {
            Principal::App(app) => app.assigned_users.is_some(),
            Principal::Service(_) => false,
        };
        json!({
            "id": self.principal_id(principal), "appId": app_id, "displayName": name,
            "appDisplayName": name, "accountEnabled": true, "servicePrincipalType": "Application",
            "appRoleAssignmentRequired": assigned_only,
            "appRoles": roles, "oauth2PermissionScopes": scopes,
        })
    }

    fn assignments(&self, app: &App) -> Vec<Value> {
        app.application_consent
            .iter()
            .map(|permission| self.assignment_json(app, permission))
            .collect()
    }

    fn assignment_json(&self, app: &App, permission: &Permission) -> Value {
        let resource = self.principal_id(Principal::Service(permission.resource));
        let role = permission_id(APP_ROLES, "role", permission);
        json!({
            "id": Guid::derived(&format!("assignment {} {resource} {role}", app.object_id)),
            "appRoleId": role, "principalId": app.object_id, "principalType": "ServicePrincipal",
            "principalDisplayName": app.name, "resourceId": resource,
        })
    }
}

fn role_json(role: &Offered) -> Value {
    json!({
        "id": role.id("role"), "value": role.name, "displayName": role.name,
        "allowedMemberTypes": ["Application"], "isEnabled": true,
    })
}

fn scope_json(scope: &Offered) -> Value {
    let who = if scope.admin { "Admin" } else { "User" };
    json!({
        "id": scope.id("scope"), "value": scope.name, "adminConsentDisplayName": scope.name,
        "type": who, "isEnabled": true,
    })
}
