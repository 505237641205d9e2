//! The `scope` parameter: which permissions of which service a client asks for.
//!
//! `https://outlook.office.com/SMTP.Send` names its service; a name alone means Graph;
//! `…/.default` means everything registered there; and four names belong to OpenID Connect.

use std::collections::BTreeSet;

use crate::scenario::{App, Permission, Resource, SCOPES, Tenant};

use super::aadsts::Aadsts;

/// What one `scope` parameter asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requested {
    /// Which of OpenID Connect's names: see [`OPENID`].
    openid: BTreeSet<&'static str>,
    /// Services, in the order they were named.
    pub(crate) targets: Vec<Target>,
}

/// `openid` asks for an ID token, `profile` and `email` for what is in it, and
/// `offline_access` for a refresh token.
const OPENID: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// Permissions of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The service.
    pub(crate) resource: Resource,
    /// As the client named it: the token's `aud`.
    pub(crate) audience: String,
    /// Names of permissions; empty with `default`.
    pub(crate) names: Vec<String>,
    /// `.default` was asked for.
    pub(crate) default: bool,
}

impl Target {
    /// Graph with no permission of its own: what the OpenID scopes alone ask for.
    pub(crate) fn sign_in_only() -> Self {
        Self {
            resource: Resource::Graph,
            audience: Resource::Graph.app_id().to_owned(),
            names: Vec::new(),
            default: false,
        }
    }

    /// The permissions asked for.
    pub(crate) fn permissions(&self) -> impl Iterator<Item = Permission> {
        self.names
            .iter()
            .map(|name| Permission::new(self.resource, name))
    }
}

impl Requested {
    /// Reads a `scope` parameter for an app of a tenant.
    ///
    /// # Errors
    /// 70011 for a permission that does not exist or `.default` beside others, 500011 for a
    /// service that is not there.
    pub(crate) fn parse(scope: &str, app: &App, tenant: Option<&Tenant>) -> Result<Self, Aadsts> {
        let mut requested = Self::default();
        for item in scope.split(' ').filter(|s| !s.is_empty()) {
            match OPENID.iter().find(|name| **name == item) {
                Some(name) => drop(requested.openid.insert(name)),
                None => requested.add(item, app, tenant)?,
            }
        }
        let default = requested.targets.iter().any(|t| t.default);
        let named = requested
            .targets
            .iter()
            .map(|t| t.names.len())
            .sum::<usize>();
        if default && (named > 0 || requested.targets.len() > 1) {
            return Err(
                Aadsts::new(70_011, &[scope]).because(".default cannot stand beside other scopes")
            );
        }
        Ok(requested)
    }

    fn add(&mut self, item: &str, app: &App, tenant: Option<&Tenant>) -> Result<(), Aadsts> {
        let (audience, name) = item
            .rsplit_once('/')
            .unwrap_or((Resource::Graph.app_id(), item));
        let tenant_name = tenant.map_or("common", |t| t.name.as_str());
        let resource = Resource::identified(audience)
            .filter(|r| *r != Resource::Exchange || tenant.is_none_or(|t| t.exchange_online))
            .ok_or_else(|| Aadsts::new(500_011, &[audience, tenant_name]))?;
        let default = name == ".default";
        let name = if default {
            None
        } else {
            Some(known_name(app, resource, name).ok_or_else(|| Aadsts::new(70_011, &[item]))?)
        };
        let index = self
            .targets
            .iter()
            .position(|t| t.resource == resource)
            .unwrap_or_else(|| {
                self.targets.push(Target {
                    resource,
                    audience: audience.to_owned(),
                    names: Vec::new(),
                    default: false,
                });
                self.targets.len() - 1
            });
        let target = &mut self.targets[index];
        target.default |= default;
        if let Some(name) = name.filter(|n| !target.names.contains(n)) {
            target.names.push(name);
        }
        Ok(())
    }

    /// Whether one of OpenID Connect's names was asked for.
    pub(crate) fn has(&self, openid_name: &str) -> bool {
        self.openid.contains(openid_name)
    }

    /// Those of OpenID Connect's names that were asked for.
    pub(crate) fn openid(&self) -> impl Iterator<Item = &'static str> {
        self.openid.iter().copied()
    }

    /// Asks for a refresh token, whatever the client wrote.
    pub(crate) fn with_refresh_token(mut self) -> Self {
        self.openid.insert("offline_access");
        self
    }

    /// Asks for what `other` asks of OpenID Connect, too.
    pub(crate) fn with_openid_of(mut self, other: &Self) -> Self {
        self.openid.extend(&other.openid);
        self
    }

    /// The one service a token can be for.
    ///
    /// # Errors
    /// 28000 when there are several.
    pub(crate) fn single_target(&self, scope: &str) -> Result<Target, Aadsts> {
        match self.targets.as_slice() {
            [] => Ok(Target::sign_in_only()),
            [target] => Ok(target.clone()),
            _ => Err(Aadsts::new(28_000, &[scope])),
        }
    }
}

/// The permission's name in its own spelling, if the service has it or the app registered it.
fn known_name(app: &App, resource: Resource, name: &str) -> Option<String> {
    let known = SCOPES
        .iter()
        .filter(|offered| offered.resource == resource)
        .map(|offered| offered.name);
    let registered = app
        .delegated
        .iter()
        .filter(|p| p.resource == resource)
        .map(|p| p.name.as_str());
    known
        .chain(registered)
        .find(|k| k.eq_ignore_ascii_case(name))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn parse(scope: &str) -> Result<Requested, Aadsts> {
        let scenario = Scenario::default();
        Requested::parse(scope, &scenario.apps[1], scenario.tenants.first())
    }

    #[test]
    fn a_scope_names_its_service_and_keeps_the_audience_as_written() {
        let requested =
            parse("https://outlook.office365.com/smtp.send offline_access openid").unwrap();
        assert!(
            requested.has("offline_access") && requested.has("openid") && !requested.has("profile")
        );
        let target = requested.single_target("").unwrap();
        assert_eq!(
            (target.resource, target.audience.as_str()),
            (Resource::Exchange, "https://outlook.office365.com")
        );
        assert_eq!(target.names, ["SMTP.Send"]);

        let graph = parse("User.Read").unwrap().single_target("").unwrap();
        assert_eq!(
            (graph.resource, graph.audience.as_str()),
            (Resource::Graph, Resource::Graph.app_id())
        );
        assert_eq!(
            parse("openid").unwrap().single_target("").unwrap(),
            Target::sign_in_only()
        );
    }

    #[test]
    fn two_services_are_two_tokens() {
        let scope = "https://outlook.office.com/SMTP.Send User.Read";
        let requested = parse(scope).unwrap();
        assert_eq!(requested.targets.len(), 2);
        assert_eq!(requested.single_target(scope).unwrap_err().code, 28_000);
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        assert_eq!(parse("Mail.Sned").unwrap_err().code, 70_011);
        assert_eq!(
            parse("https://outlook.office.com/User.Read")
                .unwrap_err()
                .code,
            70_011
        );
        assert_eq!(
            parse("https://outlook.example/SMTP.Send").unwrap_err().code,
            500_011
        );
        assert_eq!(
            parse("https://outlook.office.com/.default User.Read")
                .unwrap_err()
                .code,
            70_011
        );
        assert_eq!(
            parse("https://outlook.office.com/.default https://outlook.office.com/SMTP.Send")
                .unwrap_err()
                .code,
            70_011
        );
        assert!(parse("https://outlook.office.com/.default offline_access").is_ok());

        let mut scenario = Scenario::default();
        scenario.tenants[0].exchange_online = false;
        let refused = Requested::parse(
            "https://outlook.office.com/SMTP.Send",
            &scenario.apps[1],
            scenario.tenants.first(),
        );
        assert_eq!(refused.unwrap_err().code, 500_011);
    }
}
