//! Service principals: an app as it stands in a tenant.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::address::{equals, guid, with_query};
use crate::client::{Call, Graph};
use crate::error::GraphError;

/// An app as it stands in a tenant; the portal says enterprise application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePrincipal {
    /// Object id: what grants and Exchange's `New-ServicePrincipal` want.
    pub id: String,
    /// Client id of the app.
    pub app_id: String,
    /// The name people see.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Whether tokens are issued for it.
    #[serde(default)]
    pub account_enabled: Option<bool>,
    /// Whether only people who were assigned may sign in.
    #[serde(default)]
    pub app_role_assignment_required: Option<bool>,
}

/// A service with the permissions it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Object id of its service principal.
    pub id: String,
    /// Its client id, as in [`crate::ids::resource`].
    pub app_id: String,
    /// Its permissions of both kinds.
    pub permissions: Vec<Permission>,
}

/// A permission of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Its id.
    pub id: String,
    /// Its name, as in `SMTP.Send`.
    pub value: String,
    /// Who uses it.
    pub kind: PermissionKind,
}

/// Who uses a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermissionKind {
    /// An app for the person signed in: a delegated permission.
    Scope,
    /// An app by itself: an application permission.
    Role,
}

impl Resource {
    /// The permission with this name and kind.
    pub fn permission(&self, kind: PermissionKind, value: &str) -> Option<&Permission> {
        self.permissions
            .iter()
            .find(|permission| permission.kind == kind && permission.value == value)
    }

    /// The permission with this id and kind.
    pub fn permission_by_id(&self, kind: PermissionKind, id: &str) -> Option<&Permission> {
        self.permissions
            .iter()
            .find(|permission| permission.kind == kind && permission.id.eq_ignore_ascii_case(id))
    }
}

impl Graph {
    /// The service principal of the app with this client id, if this tenant has it.
    pub async fn service_principal(
        &self,
        client_id: &str,
    ) -> Result<Option<ServicePrincipal>, GraphError> {
        const CALL: Call =
            Call::new("looking up a service principal").needs("Application.Read.All");
        let client_id = guid(CALL, client_id)?;
        let url = self.at(CALL, &["servicePrincipals"])?;
        let url = with_query(
            url,
            &[
                ("$filter", &equals(CALL, "appId", client_id)?),
                (
                    "$select",
                    "id,appId,displayName,accountEnabled,appRoleAssignmentRequired",
                ),
            ],
        );
        let found: Vec<ServicePrincipal> = self.list(CALL, url, &[]).await?;
        Ok(found
            .into_iter()
            .find(|principal| principal.app_id.eq_ignore_ascii_case(client_id)))
    }

    /// The service with this client id and the permissions it knows, if this tenant has it. A
    /// tenant that never had Exchange Online has no service principal for it.
    pub async fn resource(&self, client_id: &str) -> Result<Option<Resource>, GraphError> {
        const CALL: Call =
            Call::new("looking up the permissions of a service").needs("Application.Read.All");
        let client_id = guid(CALL, client_id)?;
        let url = self.at(CALL, &["servicePrincipals"])?;
        let url = with_query(
            url,
            &[
                ("$filter", &equals(CALL, "appId", client_id)?),
                ("$select", "id,appId,appRoles,oauth2PermissionScopes"),
            ],
        );
        let found: Vec<Wire> = self.list(CALL, url, &[]).await?;
        Ok(found
            .into_iter()
            .find(|service| service.app_id.eq_ignore_ascii_case(client_id))
            .map(Resource::from))
    }

    /// Gives the app with this client id a service principal in the tenant.
    pub async fn create_service_principal(
        &self,
        client_id: &str,
    ) -> Result<ServicePrincipal, GraphError> {
        const CALL: Call = Call::new("creating a service principal")
            .needs("Application.ReadWrite.All")
            .creating()
            .denied_at_first();
        let client_id = guid(CALL, client_id)?;
        let url = self.at(CALL, &["servicePrincipals"])?;
        // The portal gives its own this tag, and lists among enterprise applications what has it.
        let body = json!({
            "appId": client_id,
            "tags": ["WindowsAzureActiveDirectoryIntegratedApp"],
        });
        let made: ServicePrincipal = self.make(CALL, url, body).await?;
        self.note_fresh(&[&made.id]);
        Ok(made)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    app_id: String,
    #[serde(default)]
    app_roles: Vec<Named>,
    #[serde(default, rename = "oauth2PermissionScopes")]
    scopes: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    /// Null for a role that has no name.
    #[serde(default)]
    value: Option<String>,
}

impl From<Wire> for Resource {
    fn from(wire: Wire) -> Self {
        let named = |kind| {
            move |named: Named| {
                Some(Permission {
                    id: named.id,
                    value: named.value?,
                    kind,
                })
            }
        };
        Self {
            id: wire.id,
            app_id: wire.app_id,
            permissions: wire
                .scopes
                .into_iter()
                .filter_map(named(PermissionKind::Scope))
                .chain(
                    wire.app_roles
                        .into_iter()
                        .filter_map(named(PermissionKind::Role)),
                )
                .collect(),
        }
    }
}
