//! What the directory knows by fixed ids: permissions of the two services, roles of
//! administrators, service plans of licences; and certificates with their names.

use serde::{Deserialize, Serialize};

use super::{Guid, Permission, Resource};

/// One permission that a service offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The service.
    pub resource: Resource,
    /// Its name.
    pub name: &'static str,
    /// Its id, if one is published; see [`Offered::id`].
    published: Option<&'static str>,
    /// Whether only an administrator may consent to it.
    pub admin: bool,
}

impl Offered {
    /// Its id: Microsoft's where the facts have it, else one made from the name, the same in
    /// every sandbox and nowhere else. Clients look those up by name.
    pub fn id(&self, kind: &str) -> Guid {
        self.published
            .and_then(Guid::parse)
            .unwrap_or_else(|| Guid::derived(&format!("{kind} {:?} {}", self.resource, self.name)))
    }

    /// As a permission.
    pub fn permission(&self) -> Permission {
        Permission::new(self.resource, self.name)
    }
}

const fn offered(
    resource: Resource,
    name: &'static str,
    published: Option<&'static str>,
    admin: bool,
) -> Offered {
    Offered {
        resource,
        name,
        published,
        admin,
    }
}

use Resource::{Exchange, Graph};

/// Delegated permissions (`oauth2PermissionScopes`), ids by facts C1.
#[rustfmt::skip]
pub const SCOPES: &[Offered] = &[
    offered(Exchange, "SMTP.Send", Some("76faac2a-0f20-42f1-928a-50de5b9dbe52"), false),
    offered(Graph, "SMTP.Send", Some("258f6531-6087-4cc4-bb90-092c5fb3ed3f"), false),
    offered(Graph, "User.Read", Some("e1fe6dd8-ba31-4d61-89e7-88639da4683d"), false),
    offered(Graph, "openid", Some("37f7f235-527c-4136-accd-4a02d197296e"), false),
    offered(Graph, "profile", Some("14dad69e-099b-42c9-810b-d002981feec1"), false),
    offered(Graph, "offline_access", Some("7427e0e9-2fba-42fe-b0c0-848c9e6a8182"), false),
    offered(Graph, "email", None, false),
    offered(Graph, "Mail.Send", Some("e383f46e-2787-4529-855e-0e479a3ffac0"), false),
    offered(Graph, "Mail.Send.Shared", None, false),
    offered(Graph, "User.ReadBasic.All", None, false),
    offered(Graph, "User.Read.All", None, true),
    offered(Graph, "Directory.Read.All", None, true),
    offered(Graph, "Organization.Read.All", None, true),
    offered(Graph, "LicenseAssignment.Read.All", None, true),
    offered(Graph, "RoleManagement.Read.Directory", None, true),
    offered(Graph, "Policy.Read.All", None, true),
    offered(Graph, "Application.Read.All", None, true),
    offered(Graph, "Application.ReadWrite.All", None, true),
    offered(Graph, "AppRoleAssignment.ReadWrite.All", None, true),
    offered(Graph, "DelegatedPermissionGrant.ReadWrite.All", Some("41ce6ca6-6826-4807-84f1-1c82854f7ee5"), true),
];

/// Application permissions (`appRoles`), ids by facts C1.
#[rustfmt::skip]
pub const APP_ROLES: &[Offered] = &[
    offered(Exchange, "SMTP.SendAsApp", Some("7146a1f0-8703-45b3-9eae-527a64c00995"), true),
    offered(Graph, "Mail.Send", Some("b633e1c5-b582-4048-a93e-9f11b44c7e96"), true),
    offered(Graph, "User.Read.All", None, true),
    offered(Graph, "Directory.Read.All", None, true),
    offered(Graph, "Organization.Read.All", None, true),
    offered(Graph, "LicenseAssignment.Read.All", None, true),
    offered(Graph, "Policy.Read.All", None, true),
    offered(Graph, "Application.Read.All", None, true),
    offered(Graph, "Application.ReadWrite.All", None, true),
    offered(Graph, "Application.ReadWrite.OwnedBy", None, true),
    offered(Graph, "AppRoleAssignment.ReadWrite.All", None, true),
    offered(Graph, "DelegatedPermissionGrant.ReadWrite.All", None, true),
];

/// Microsoft Graph Command Line Tools: the public client that `Connect-MgGraph` signs in with,
/// present in every tenant. Its id is what that tool prints ("Connected via delegated access
/// using …") and what public scripts for it name.
pub const GRAPH_COMMAND_LINE_TOOLS: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

/// A directory role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryRole {
    /// Everything.
    GlobalAdministrator,
    /// Consent to any permission, roles of others.
    PrivilegedRoleAdministrator,
    /// App registrations and consent, save for Graph's application permissions.
    ApplicationAdministrator,
    /// The same without application proxies.
    CloudApplicationAdministrator,
    /// Exchange.
    ExchangeAdministrator,
}

impl DirectoryRole {
    /// `roleTemplateId`, facts C1.
    pub const fn template(self) -> &'static str {
        match self {
            Self::GlobalAdministrator => "62e90394-69f5-4237-9190-012177145e10",
            Self::PrivilegedRoleAdministrator => "e8611ab8-c189-46e8-94e1-60213ab1f814",
            Self::ApplicationAdministrator => "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3",
            Self::CloudApplicationAdministrator => "158c047a-c907-4556-b7ef-446551a6b5f7",
            Self::ExchangeAdministrator => "29232cdf-9323-42fd-ade2-1d097af3e4de",
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GlobalAdministrator => "Global Administrator",
            Self::PrivilegedRoleAdministrator => "Privileged Role Administrator",
            Self::ApplicationAdministrator => "Application Administrator",
            Self::CloudApplicationAdministrator => "Cloud Application Administrator",
            Self::ExchangeAdministrator => "Exchange Administrator",
        }
    }
}

/// One service plan of a user's licences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePlan {
    /// Its name, such as `EXCHANGE_S_STANDARD`.
    pub name: String,
    /// How far it is.
    #[serde(default)]
    pub status: ProvisioningStatus,
}

impl ServicePlan {
    /// Provisioned.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: ProvisioningStatus::Success,
        }
    }

    /// `servicePlanId`; made from the name where facts C2 do not list it.
    pub fn id(&self) -> Guid {
        MAILBOX_PLANS
            .iter()
            .chain(NOT_A_MAILBOX_PLANS)
            .find(|(name, _)| *name == self.name)
            .and_then(|(_, id)| Guid::parse(id))
            .unwrap_or_else(|| Guid::derived(&format!("service plan {}", self.name)))
    }

    /// Whether it is a mailbox that works.
    pub fn is_mailbox(&self) -> bool {
        self.status == ProvisioningStatus::Success
            && MAILBOX_PLANS.iter().any(|(name, _)| *name == self.name)
    }
}

/// `provisioningStatus`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are Microsoft's (facts C2)")]
pub enum ProvisioningStatus {
    #[default]
    Success,
    Disabled,
    Error,
    PendingInput,
    PendingActivation,
    PendingProvisioning,
}

const MAILBOX_PLANS: &[(&str, &str)] = &[
    (
        "EXCHANGE_S_STANDARD",
        "9aaf7827-d63c-4b61-89c3-182f06f82e5c",
    ),
    (
        "EXCHANGE_S_ENTERPRISE",
        "efb87545-963c-4e0d-99df-69c6916d9eb0",
    ),
    (
        "EXCHANGE_S_DESKLESS",
        "4a82b400-a79f-41a4-b4e2-e94f5787b113",
    ),
    (
        "EXCHANGE_S_ESSENTIALS",
        "1126bef5-da20-4f07-b45e-ad25d2581aa8",
    ),
    (
        "EXCHANGE_S_STANDARD_MIDMARKET",
        "fc52cc4b-ed7d-472d-bbe7-b081c23ecc56",
    ),
    (
        "EXCHANGE_L_STANDARD",
        "d42bdbd6-c335-4231-ab3d-c8f348d5aff5",
    ),
    (
        "EXCHANGE_B_STANDARD",
        "90927877-dcff-4af6-b346-2332c0b15bb7",
    ),
    (
        "EXCHANGE_S_STANDARD_GOV",
        "e9b4930a-925f-45e2-ac2a-3f7788ca6fdd",
    ),
    (
        "EXCHANGE_S_ENTERPRISE_GOV",
        "8c3069c0-ccdb-44be-ab77-986203a67df2",
    ),
];

const NOT_A_MAILBOX_PLANS: &[(&str, &str)] = &[
    (
        "EXCHANGE_S_FOUNDATION",
        "113feb6c-3fe4-4440-bddc-54d774bf0318",
    ),
    (
        "EXCHANGE_S_FOUNDATION_GOV",
        "922ba911-5694-4e99-a794-73aed9bfeec8",
    ),
    ("EXCHANGE_S_ARCHIVE", "da040e0a-b393-4bea-bb76-928b3fa1cf5a"),
    (
        "EXCHANGE_S_ARCHIVE_ADDON",
        "176a09a6-7ec5-4039-ac02-b2791c6ba793",
    ),
];

/// A certificate whose key may sign client assertions: PEM alone, or PEM with what Graph
/// knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CertificateText", into = "CertificateText")]
pub struct Certificate {
    /// `CERTIFICATE` in PEM.
    pub pem: String,
    /// `keyId`; made from the PEM when absent.
    pub key_id: Guid,
    /// `displayName`
    pub name: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CertificateText {
    Pem(String),
    Named {
        pem: String,
        key_id: Guid,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

impl From<String> for Certificate {
    fn from(pem: String) -> Self {
        Self {
            key_id: Guid::derived(&format!("certificate {pem}")),
            pem,
            name: None,
        }
    }
}

impl From<CertificateText> for Certificate {
    fn from(text: CertificateText) -> Self {
        match text {
            CertificateText::Pem(pem) => pem.into(),
            CertificateText::Named { pem, key_id, name } => Self { pem, key_id, name },
        }
    }
}

impl From<Certificate> for CertificateText {
    fn from(certificate: Certificate) -> Self {
        if Certificate::from(certificate.pem.clone()) == certificate {
            return Self::Pem(certificate.pem);
        }
        Self::Named {
            pem: certificate.pem,
            key_id: certificate.key_id,
            name: certificate.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_permission_has_an_id_of_its_own() {
        let ids = |of: &[Offered], kind| of.iter().map(|p| p.id(kind)).collect::<BTreeSet<_>>();
        assert_eq!(ids(SCOPES, "scope").len(), SCOPES.len());
        assert_eq!(ids(APP_ROLES, "role").len(), APP_ROLES.len());
        assert_eq!(
            APP_ROLES[0].id("role").as_str(),
            "7146a1f0-8703-45b3-9eae-527a64c00995"
        );
    }

    #[test]
    fn a_foundation_plan_is_no_mailbox() {
        assert!(ServicePlan::new("EXCHANGE_S_STANDARD").is_mailbox());
        let foundation = ServicePlan::new("EXCHANGE_S_FOUNDATION");
        assert!(!foundation.is_mailbox());
        assert_eq!(
            foundation.id().as_str(),
            "113feb6c-3fe4-4440-bddc-54d774bf0318"
        );
        let pending = ServicePlan {
            status: ProvisioningStatus::PendingProvisioning,
            ..ServicePlan::new("EXCHANGE_S_STANDARD")
        };
        assert!(!pending.is_mailbox());
    }
}
