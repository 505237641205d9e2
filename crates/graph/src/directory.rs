//! Who is signed in, and where: people, roles, the tenant and its defaults.

use serde::Deserialize;

use crate::address::{person, with_query};
use crate::client::{Call, EVENTUAL, Graph};
use crate::error::GraphError;

/// A person or mailbox in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Object id.
    pub id: String,
    /// What one signs in with.
    pub user_principal_name: String,
    /// The primary address; none without a mailbox.
    #[serde(default)]
    pub mail: Option<String>,
    /// The name people see.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Whether signing in is allowed; not told of the person signed in.
    #[serde(default)]
    pub account_enabled: Option<bool>,
}

/// A directory role that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Object id.
    pub id: String,
    /// Which role it is: one of [`crate::ids::directory_role`], or another. None when the token
    /// may not read it (`User.Read` alone); the token's `wids` may tell then.
    #[serde(default)]
    pub role_template_id: Option<String>,
    /// The name people see.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    /// The tenant's id.
    pub id: String,
    /// The name people see.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Its domains.
    #[serde(default)]
    pub verified_domains: Vec<Domain>,
}

/// A domain of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// As in `contoso.com`.
    pub name: String,
    /// Whether new users get it.
    #[serde(default)]
    pub is_default: bool,
    /// Whether it is the one that ends in `onmicrosoft.com` which the tenant began with.
    #[serde(default)]
    pub is_initial: bool,
}

impl Graph {
    /// The person signed in.
    pub async fn me(&self) -> Result<User, GraphError> {
        const CALL: Call = Call::new("reading who is signed in").needs("User.Read");
        let url = self.at(CALL, &["me"])?;
        let url = with_query(url, &[("$select", "id,userPrincipalName,mail,displayName")]);
        self.read(CALL, url).await
    }

    /// The person or mailbox `upn` (a user principal name or object id).
    pub async fn user(&self, upn: &str) -> Result<User, GraphError> {
        const CALL: Call = Call::new("reading a user").needs("User.Read.All");
        let url = self.at(CALL, &["users", person(CALL, upn)?])?;
        let url = with_query(
            url,
            &[(
                "$select",
                "id,userPrincipalName,mail,displayName,accountEnabled",
            )],
        );
        self.read(CALL, url).await
    }

    /// The directory roles of the person signed in, those through groups included.
    pub async fn my_directory_roles(&self) -> Result<Vec<Role>, GraphError> {
        const CALL: Call =
            Call::new("reading directory roles").needs("RoleManagement.Read.Directory");
        let url = self.at(
            CALL,
            &["me", "transitiveMemberOf", "microsoft.graph.directoryRole"],
        )?;
        let url = with_query(url, &[("$count", "true")]);
        let mut roles: Vec<Role> = self.list(CALL, url, &[EVENTUAL]).await?;
        for role in &mut roles {
            if let Some(template) = &mut role.role_template_id {
                template.make_ascii_lowercase();
            }
        }
        Ok(roles)
    }

    /// The tenant that the token is for.
    pub async fn organization(&self) -> Result<Organization, GraphError> {
        const CALL: Call = Call::new("reading the organization").needs("User.Read");
        let url = self.at(CALL, &["organization"])?;
        let url = with_query(url, &[("$select", "id,displayName,verifiedDomains")]);
        let mut found: Vec<Organization> = self.list(CALL, url, &[]).await?;
        if found.len() == 1 {
            Ok(found.remove(0))
        } else {
            Err(CALL.malformed("not one organization"))
        }
    }

    /// Whether the tenant's security defaults are on.
    pub async fn security_defaults(&self) -> Result<bool, GraphError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Policy {
            is_enabled: bool,
        }
        const CALL: Call = Call::new("reading the security defaults").needs("Policy.Read.All");
        let url = self.at(
            CALL,
            &["policies", "identitySecurityDefaultsEnforcementPolicy"],
        )?;
        let policy: Policy = self.read(CALL, url).await?;
        Ok(policy.is_enabled)
    }
}
