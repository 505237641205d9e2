//! Which permissions an account's application needs, and what is missing of them.

use postrider_graph::ids::{resource, role, scope};
use postrider_graph::{
    AppRoleAssignment, Consent, DelegatedGrant, PermissionKind, RequiredAccess, RequiredPermission,
};

use crate::wanted::Wanted;

/// The service that a permission belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Exchange,
    Graph,
}

impl Service {
    pub(crate) fn client_id(self) -> &'static str {
        match self {
            Self::Exchange => resource::EXCHANGE_ONLINE,
            Self::Graph => resource::GRAPH,
        }
    }

    /// Its name in the portal.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Exchange => "Office 365 Exchange Online",
            Self::Graph => "Microsoft Graph",
        }
    }
}

/// A permission, by what it is for and by its fixed id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) service: Service,
    pub(crate) kind: PermissionKind,
    pub(crate) name: &'static str,
    pub(crate) id: String,
    pub(crate) why: &'static str,
}

/// The one permission that has no fixed id here, and is looked up by its name.
pub(crate) const OWNED_BY: &str = "Application.ReadWrite.OwnedBy";

/// What the application of `wanted` needs. `owned_by` is the id of [`OWNED_BY`].
pub(crate) fn needs(wanted: &Wanted, owned_by: Option<&str>) -> Vec<Need> {
    let need = |service, kind, name, id: &str, why| Need {
        service,
        kind,
        name,
        id: id.to_owned(),
        why,
    };
    let mut needs = Vec::new();
    if wanted.flow.is_delegated() {
        let delegated =
            |service, name, id, why| need(service, PermissionKind::Scope, name, id, why);
        needs.extend([
            delegated(
                Service::Exchange,
                "SMTP.Send",
                scope::EXCHANGE_SMTP_SEND,
                "send mail over SMTP for the person signed in",
            ),
            delegated(
                Service::Graph,
                "offline_access",
                scope::OFFLINE_ACCESS,
                "stay signed in",
            ),
            delegated(
                Service::Graph,
                "openid",
                scope::OPENID,
                "know who signed in",
            ),
            delegated(
                Service::Graph,
                "profile",
                scope::PROFILE,
                "know who signed in",
            ),
            delegated(
                Service::Graph,
                "User.Read",
                scope::USER_READ,
                "let the doctor look at the user and the licence",
            ),
        ]);
    } else {
        needs.push(need(
            Service::Exchange,
            PermissionKind::Role,
            "SMTP.SendAsApp",
            role::EXCHANGE_SMTP_SEND_AS_APP,
            "send mail over SMTP without a person",
        ));
    }
    if wanted.own_renewal
        && let Some(id) = owned_by
    {
        needs.push(need(
            Service::Graph,
            PermissionKind::Role,
            OWNED_BY,
            id,
            "renew its own credential, and nothing of other applications",
        ));
    }
    needs
}

/// `have` with `needs` added; `None` if nothing was missing. What others put there stays.
pub(crate) fn widened(have: &[RequiredAccess], needs: &[Need]) -> Option<Vec<RequiredAccess>> {
    let mut all = have.to_vec();
    for need in needs {
        let there = all.iter().any(|access| {
            same(&access.resource_app_id, need.service.client_id())
                && access
                    .resource_access
                    .iter()
                    .any(|p| p.kind == need.kind && same(&p.id, &need.id))
        });
        if there {
            continue;
        }
        let permission = RequiredPermission {
            id: need.id.clone(),
            kind: need.kind,
        };
        match all
            .iter_mut()
            .find(|access| same(&access.resource_app_id, need.service.client_id()))
        {
            Some(access) => access.resource_access.push(permission),
            None => all.push(RequiredAccess {
                resource_app_id: need.service.client_id().to_owned(),
                resource_access: vec![permission],
            }),
        }
    }
    (all != have).then_some(all)
}

/// The names of the delegated permissions of `service` among `needs`.
pub(crate) fn scopes(needs: &[Need], service: Service) -> Vec<&'static str> {
    needs
        .iter()
        .filter(|need| need.service == service && need.kind == PermissionKind::Scope)
        .map(|need| need.name)
        .collect()
}

/// The application permissions of `service` among `needs`.
pub(crate) fn roles(needs: &[Need], service: Service) -> impl Iterator<Item = &Need> {
    needs
        .iter()
        .filter(move |need| need.service == service && need.kind == PermissionKind::Role)
}

/// The grant for everybody on this service, which there is at most one of.
pub(crate) fn grant_for_all<'a>(
    grants: &'a [DelegatedGrant],
    resource: &str,
) -> Option<&'a DelegatedGrant> {
    grants
        .iter()
        .find(|grant| grant.consent == Consent::AllPrincipals && same(&grant.resource_id, resource))
}

/// Whether the application permission `role` of `resource` has been granted.
pub(crate) fn is_assigned(assigned: &[AppRoleAssignment], resource: &str, role: &str) -> bool {
    assigned
        .iter()
        .any(|a| same(&a.resource_id, resource) && same(&a.app_role_id, role))
}

/// Whether two ids are the same.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}
