//! Consent: which permissions an app was granted.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::address::{equals, id, with_query};
use crate::client::{Call, Graph};
use crate::error::GraphError;
use crate::transport::Method;

/// Delegated permissions that an app was granted on a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegatedGrant {
    /// The grant's id.
    pub id: String,
    /// Object id of the app's service principal.
    pub client_id: String,
    /// Object id of the service's service principal.
    pub resource_id: String,
    /// For whom.
    pub consent: Consent,
    /// The permissions' names.
    pub scopes: Vec<String>,
}

/// For whom a delegated permission was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consent {
    /// Everybody in the tenant, by an administrator.
    AllPrincipals,
    /// The person with this object id.
    Principal(String),
}

/// An application permission that an app was granted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppRoleAssignment {
    /// The assignment's id.
    pub id: String,
    /// The permission's id, as in [`crate::ids::role`].
    pub app_role_id: String,
    /// Object id of the app's service principal.
    pub principal_id: String,
    /// Object id of the service's service principal.
    pub resource_id: String,
}

impl DelegatedGrant {
    /// Whether the grant is for the person with object id `user` and holds all of `scopes`.
    pub fn covers<'a>(
        &self,
        user: Option<&str>,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        let for_them = match &self.consent {
            Consent::AllPrincipals => true,
            Consent::Principal(principal) => user == Some(principal),
        };
        for_them
            && scopes
                .into_iter()
                .all(|wanted| self.scopes.iter().any(|granted| granted == wanted))
    }
}

impl Graph {
    /// The delegated permissions that the app with this service principal was granted.
    pub async fn delegated_grants(
        &self,
        client_principal: &str,
    ) -> Result<Vec<DelegatedGrant>, GraphError> {
        const CALL: Call =
            Call::new("reading the consent given to an application").needs("Directory.Read.All");
        let filter = equals(CALL, "clientId", id(CALL, client_principal)?)?;
        let url = self.at(CALL, &["oauth2PermissionGrants"])?;
        let url = with_query(url, &[("$filter", &filter)]);
        let found: Vec<Wire> = self.list(CALL, url, &[]).await?;
        found.into_iter().map(|grant| grant.checked(CALL)).collect()
    }

    /// Grants the app `client_principal` the permissions `scopes` of the service
    /// `resource_principal` (both object ids of service principals).
    ///
    /// # Errors
    ///
    /// A conflict if there is a grant for this app, service and consent: widen that one.
    pub async fn grant_delegated(
        &self,
        client_principal: &str,
        resource_principal: &str,
        consent: &Consent,
        scopes: &[&str],
    ) -> Result<DelegatedGrant, GraphError> {
        const CALL: Call = Call::new("granting delegated permissions")
            .needs("DelegatedPermissionGrant.ReadWrite.All")
            .creating();
        let (kind, principal) = match consent {
            Consent::AllPrincipals => ("AllPrincipals", Value::Null),
            Consent::Principal(user) => ("Principal", json!(id(CALL, user)?)),
        };
        let body = json!({
            "clientId": id(CALL, client_principal)?,
            "consentType": kind,
            "principalId": principal,
            "resourceId": id(CALL, resource_principal)?,
            "scope": scopes.join(" "),
        });
        let url = self.at(CALL, &["oauth2PermissionGrants"])?;
        let made: Wire = self.make(CALL, url, body).await?;
        made.checked(CALL)
    }

    /// Adds `scopes` to a grant; those it has stay. Nothing is sent if it has them all.
    pub async fn widen_grant(
        &self,
        grant: &DelegatedGrant,
        scopes: &[&str],
    ) -> Result<(), GraphError> {
        const CALL: Call = Call::new("widening a grant of delegated permissions")
            .needs("DelegatedPermissionGrant.ReadWrite.All");
        let mut all: Vec<&str> = grant.scopes.iter().map(String::as_str).collect();
        let had = all.len();
        for scope in scopes {
            if !all.contains(scope) {
                all.push(scope);
            }
        }
        if all.len() == had {
            return Ok(());
        }
        let url = self.at(CALL, &["oauth2PermissionGrants", id(CALL, &grant.id)?])?;
        let body = json!({ "scope": all.join(" ") });
        self.act(CALL, Method::Patch, url, Some(body)).await
    }

    /// The application permissions that the app with this service principal was granted.
    pub async fn app_role_assignments(
        &self,
        principal: &str,
    ) -> Result<Vec<AppRoleAssignment>, GraphError> {
        const CALL: Call =
            Call::new("reading the application permissions granted").needs("Application.Read.All");
        let url = self.at(
            CALL,
            &[
                "servicePrincipals",
                id(CALL, principal)?,
                "appRoleAssignments",
            ],
        )?;
        self.list(CALL, url, &[]).await
    }

    /// Grants the app `principal` the application permission `role` of the service `resource`
    /// (principal and resource are object ids of service principals).
    ///
    /// # Errors
    ///
    /// A conflict if it was granted already.
    pub async fn assign_app_role(
        &self,
        principal: &str,
        resource: &str,
        role: &str,
    ) -> Result<AppRoleAssignment, GraphError> {
        const CALL: Call = Call::new("granting an application permission")
            .needs("AppRoleAssignment.ReadWrite.All")
            .creating();
        let resource = id(CALL, resource)?;
        let url = self.at(CALL, &["servicePrincipals", resource, "appRoleAssignedTo"])?;
        let body = json!({
            "principalId": id(CALL, principal)?,
            "resourceId": resource,
            "appRoleId": id(CALL, role)?,
        });
        self.make(CALL, url, body).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    client_id: String,
    consent_type: String,
    #[serde(default)]
    principal_id: Option<String>,
    resource_id: String,
    #[serde(default)]
    scope: Option<String>,
}

impl Wire {
    fn checked(self, call: Call) -> Result<DelegatedGrant, GraphError> {
        let consent = match (self.consent_type.as_str(), self.principal_id) {
            ("AllPrincipals", _) => Consent::AllPrincipals,
            ("Principal", Some(principal)) => Consent::Principal(principal),
            _ => return Err(call.malformed("a grant for nobody")),
        };
        Ok(DelegatedGrant {
            id: self.id,
            client_id: self.client_id,
            resource_id: self.resource_id,
            consent,
            // Entra keeps the blanks it was given, one at the start among them.
            scopes: self
                .scope
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        })
    }
}
