//! App registrations.

use serde_json::{Value, json};

use crate::jwt::shown;
use crate::scenario::{APP_ROLES, App, Guid, Offered, Permission, Resource, SCOPES, Scenario};

use super::Call;
use super::access::APP_ADMINISTRATORS;
use super::answer::{Answer, Refusal};
use super::credentials;

impl Call<'_> {
    pub(super) fn list_applications(&self) -> Result<Answer, Refusal> {
        self.caller.may_read_applications()?;
        let apps = self.caller.scenario.apps.iter();
        let here = apps.filter(|app| {
            self.caller.is_home_of(app) && !self.hidden(app.registration_id.as_str())
        });
        let found = here.map(|app| self.application_json(app)).collect();
        Ok(self.page("applications", found))
    }

    pub(super) fn application(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_read_applications()?;
        let app = self.find_application(id)?;
        Ok(self.one(self.application_json(app)))
    }

    pub(super) fn create_application(&self) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let tenant = self.caller.tenant()?;
        if !tenant.user_app_registration {
            self.caller.need_role(APP_ADMINISTRATORS)?;
        }
        let body = self.json()?;
        if body["displayName"].as_str().is_none_or(str::is_empty) {
            return Err(Refusal::bad(
                "Property displayName on the application object must be set.",
            ));
        }
        if body.get("passwordCredentials").is_some() {
            return Err(Refusal::bad(
                "A password is not made with the application: use addPassword.",
            ));
        }
        let client_id = self.graph.state.guid();
        let mut app = App::new(client_id, "", tenant.id.as_str());
        app.registration_id = self.graph.state.guid();
        app.object_id = self.graph.state.guid();
        app.service_principal = false;
        app.owners = Guid::parse(&self.caller.claims.oid).into_iter().collect();
        self.set(&mut app, &body)?;
        self.graph.state.try_change(|current| {
            let mut changed = current.clone();
            changed.apps.push(app.clone());
            Ok::<_, Refusal>(changed)
        })?;
        self.graph.state.settle(app.registration_id.as_str());
        self.graph.state.settle(app.client_id.as_str());
        Ok(Answer::Made(self.application_json(&app)))
    }

    pub(super) fn change_application(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let app = self.find_application(id)?;
        self.caller.may_manage(app)?;
        let body = self.json()?;
        self.change_app(&app.registration_id, |app| self.set(app, &body))
    }

    pub(super) fn delete_application(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let app = self.find_application(id)?;
        self.caller.may_manage(app)?;
        let client_id = app.client_id.clone();
        self.graph.state.try_change(|current| {
            let mut changed = current.clone();
            changed.apps.retain(|a| a.client_id != client_id);
            forget_principal(&mut changed, client_id.as_str());
            Ok::<_, Refusal>(changed)
        })?;
        Ok(Answer::Done)
    }

    pub(super) fn owners(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_read_applications()?;
        let app = self.find_application(id)?;
        let owners = app.owners.iter().map(|owner| {
            let user = self.caller.scenario.user_by_id(owner.as_str()).is_some();
            let kind = if user { "user" } else { "servicePrincipal" };
            json!({ "@odata.type": format!("#microsoft.graph.{kind}"), "id": owner })
        });
        Ok(self.page(&format!("applications/{id}/owners"), owners.collect()))
    }

    pub(super) fn add_owner(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let app = self.find_application(id)?;
        self.caller.may_manage(app)?;
        let body = self.json()?;
        let reference = body["@odata.id"].as_str().unwrap_or_default();
        let owner = reference
            .rsplit('/')
            .next()
            .and_then(Guid::parse)
            .ok_or_else(|| Refusal::bad("@odata.id names no directory object."))?;
        let scenario = &self.caller.scenario;
        let principal = scenario
            .apps
            .iter()
            .any(|a| a.service_principal && a.object_id == owner);
        if !principal && scenario.user_by_id(owner.as_str()).is_none()
            || principal && self.hidden(owner.as_str())
        {
            return Err(Refusal::missing(owner.as_str()));
        }
        if app.owners.contains(&owner) {
            return Err(Refusal::bad(
                "One or more added object references already exist for the following modified properties: 'owners'.",
            ));
        }
        self.change_app(&app.registration_id, |app| {
            app.owners.push(owner.clone());
            Ok(())
        })
    }

    pub(super) fn remove_owner(&self, id: &str, owner: &str) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let app = self.find_application(id)?;
        self.caller.may_manage(app)?;
        if !app.owners.iter().any(|o| *o == *owner) {
            return Err(Refusal::missing(owner));
        }
        self.change_app(&app.registration_id, |app| {
            app.owners.retain(|o| *o != *owner);
            Ok(())
        })
    }

    /// The registration of the caller's tenant that a path names: by object id, or by
    /// `(appId='…')`.
    pub(super) fn find_application(&self, id: &str) -> Result<&App, Refusal> {
        let scenario = &self.caller.scenario;
        scenario
            .registration(id)
            .filter(|app| self.caller.is_home_of(app))
            .filter(|app| !self.hidden(app.registration_id.as_str()))
            .ok_or_else(|| Refusal::missing(id))
    }

    /// Changes a registration, wholly or not at all.
    pub(super) fn change_app(
        &self,
        id: &Guid,
        change: impl FnOnce(&mut App) -> Result<(), Refusal>,
    ) -> Result<Answer, Refusal> {
        self.graph.state.try_change(|current| {
            let mut changed = current.clone();
            let app = changed.apps.iter_mut().find(|a| a.registration_id == *id);
            change(app.ok_or_else(|| Refusal::missing(id.as_str()))?)?;
            Ok::<_, Refusal>(changed)
        })?;
        Ok(Answer::Done)
    }

    /// Sets the properties that a body names.
    fn set(&self, app: &mut App, body: &Value) -> Result<(), Refusal> {
        let Some(properties) = body.as_object() else {
            return Ok(());
        };
        for (name, value) in properties {
            let invalid = || {
                Refusal::bad(format!(
                    "Invalid value specified for property '{}' of resource 'Application'.",
                    shown(name)
                ))
            };
            let text = || value.as_str().map(str::to_owned).ok_or_else(invalid);
            let texts = |value: &Value| {
                let items = value.as_array().ok_or_else(invalid)?;
                items
                    .iter()
                    .map(|item| item.as_str().map(str::to_owned).ok_or_else(invalid))
                    .collect::<Result<Vec<_>, _>>()
            };
            match name.as_str() {
                "displayName" => app.name = text()?,
                "notes" => app.notes = if value.is_null() { None } else { Some(text()?) },
                "tags" => app.tags = texts(value)?,
                "signInAudience" => {
                    app.multi_tenant = match value.as_str() {
                        Some("AzureADMyOrg") => false,
                        Some("AzureADMultipleOrgs" | "AzureADandPersonalMicrosoftAccount") => true,
                        _ => return Err(invalid()),
                    }
                }
                "isFallbackPublicClient" => {
                    app.public_client = match value {
                        Value::Null => false,
                        other => other.as_bool().ok_or_else(invalid)?,
                    }
                }
                "publicClient" => app.public_redirect_uris = texts(&value["redirectUris"])?,
                "web" => app.redirect_uris = texts(&value["redirectUris"])?,
                "spa" => app.spa_redirect_uris = texts(&value["redirectUris"])?,
                "requiredResourceAccess" => set_required(app, value)?,
                "keyCredentials" => credentials::set_keys(app, value, &self.graph.state)?,
                _ => {
                    return Err(Refusal::bad(format!(
                        "This sandbox does not change the property '{}' of an application.",
                        shown(name)
                    )));
                }
            }
        }
        Ok(())
    }

    fn application_json(&self, app: &App) -> Value {
        let audience = if app.multi_tenant {
            "AzureADMultipleOrgs"
        } else {
            "AzureADMyOrg"
        };
        let passwords = app.secrets.iter().map(credentials::password_json);
        // The key itself comes only to those who ask for it by name.
        let with_key = self.query.selects("keyCredentials");
        let keys = app
            .certificates
            .iter()
            .map(|certificate| credentials::key_json(certificate, with_key));
        json!({
            "id": app.registration_id, "appId": app.client_id, "displayName": app.name,
            "notes": app.notes, "tags": app.tags, "signInAudience": audience,
            "isFallbackPublicClient": app.public_client,
            "publicClient": { "redirectUris": app.public_redirect_uris },
            "web": { "redirectUris": app.redirect_uris },
            "spa": { "redirectUris": app.spa_redirect_uris },
            "requiredResourceAccess": required_json(app),
            "passwordCredentials": passwords.collect::<Vec<_>>(),
            "keyCredentials": keys.collect::<Vec<_>>(),
        })
    }
}

/// What is left of an app whose service principal goes: nothing anywhere.
pub(super) fn forget_principal(scenario: &mut Scenario, client_id: &str) {
    scenario
        .permissions
        .retain(|p| !p.trustee.eq_ignore_ascii_case(client_id));
}

/// The id of a permission, listed or not.
pub(super) fn permission_id(among: &[Offered], kind: &str, permission: &Permission) -> Guid {
    among
        .iter()
        .find(|offered| {
            offered.resource == permission.resource
                && offered.name.eq_ignore_ascii_case(&permission.name)
        })
        .map_or_else(
            || {
                Guid::derived(&format!(
                    "{kind} {:?} {}",
                    permission.resource, permission.name
                ))
            },
            |offered| offered.id(kind),
        )
}

fn required_json(app: &App) -> Value {
    let services = [Resource::Exchange, Resource::Graph].into_iter();
    let required: Vec<Value> = services
        .filter_map(|resource| {
            let of = |permissions: &[Permission], among, kind: &str, said: &str| {
                permissions
                    .iter()
                    .filter(|p| p.resource == resource)
                    .map(|p| json!({ "id": permission_id(among, kind, p), "type": said }))
                    .collect::<Vec<_>>()
            };
            let mut access = of(&app.delegated, SCOPES, "scope", "Scope");
            access.extend(of(&app.application, APP_ROLES, "role", "Role"));
            (!access.is_empty())
                .then(|| json!({ "resourceAppId": resource.app_id(), "resourceAccess": access }))
        })
        .collect();
    required.into()
}

/// The whole list is replaced (facts C3).
fn set_required(app: &mut App, value: &Value) -> Result<(), Refusal> {
    let invalid = || Refusal::bad("Invalid value specified for property 'requiredResourceAccess'.");
    let (mut delegated, mut application) = (Vec::new(), Vec::new());
    for service in value.as_array().ok_or_else(invalid)? {
        let resource = service["resourceAppId"]
            .as_str()
            .and_then(|id| {
                [Resource::Exchange, Resource::Graph]
                    .into_iter()
                    .find(|r| r.app_id().eq_ignore_ascii_case(id))
            })
            .ok_or_else(invalid)?;
        for access in service["resourceAccess"].as_array().ok_or_else(invalid)? {
            let id = access["id"].as_str().unwrap_or_default();
            let (among, kind, had, list) = match access["type"].as_str() {
                Some("Scope") => (SCOPES, "scope", &app.delegated, &mut delegated),
                Some("Role") => (APP_ROLES, "role", &app.application, &mut application),
                _ => return Err(invalid()),
            };
            let offered = among.iter().map(Offered::permission);
            let permission = offered
                .chain(had.iter().cloned())
                .find(|p| p.resource == resource && permission_id(among, kind, p) == *id)
                .ok_or_else(invalid)?;
            if !list.contains(&permission) {
                list.push(permission);
            }
        }
    }
    (app.delegated, app.application) = (delegated, application);
    Ok(())
}
