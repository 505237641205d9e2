//! Who calls, and what they may: the token's permissions, a person's roles, ownership.

use std::sync::Arc;

use crate::scenario::{App, DirectoryRole, Resource, Scenario, Tenant, User};
use crate::state::{Claims, State};

use super::answer::Refusal;

/// Administrators of app registrations.
pub(super) const APP_ADMINISTRATORS: &[DirectoryRole] = &[
    DirectoryRole::GlobalAdministrator,
    DirectoryRole::ApplicationAdministrator,
    DirectoryRole::CloudApplicationAdministrator,
];

/// Those who may consent for everyone, save to application permissions of Graph.
pub(super) const CONSENT_ADMINISTRATORS: &[DirectoryRole] = &[
    DirectoryRole::GlobalAdministrator,
    DirectoryRole::PrivilegedRoleAdministrator,
    DirectoryRole::ApplicationAdministrator,
    DirectoryRole::CloudApplicationAdministrator,
];

/// Those who may consent to application permissions of Graph, too.
pub(super) const GRAPH_CONSENT_ADMINISTRATORS: &[DirectoryRole] = &[
    DirectoryRole::GlobalAdministrator,
    DirectoryRole::PrivilegedRoleAdministrator,
];

/// Whoever presented a token that Graph accepts.
pub(super) struct Caller {
    pub(super) claims: Claims,
    pub(super) scenario: Arc<Scenario>,
}

impl Caller {
    pub(super) fn of(state: &State, token: &str) -> Result<Self, Refusal> {
        let claims = state
            .verify_token(token, Resource::Graph)
            .map_err(|problem| Refusal::token(problem.to_string()))?;
        let caller = Self {
            claims,
            scenario: state.scenario(),
        };
        if !caller.is_app() && caller.user().is_none() {
            return Err(Refusal::token("the token's user does not exist any more"));
        }
        Ok(caller)
    }

    pub(super) fn is_app(&self) -> bool {
        self.claims.is_app_only()
    }

    /// For the log.
    pub(super) fn name(&self) -> String {
        self.user()
            .map_or_else(|| self.claims.appid.clone(), |user| user.upn.clone())
    }

    /// The person signed in.
    pub(super) fn user(&self) -> Option<&User> {
        if self.is_app() {
            return None;
        }
        self.scenario.user_by_id(&self.claims.oid)
    }

    /// The person signed in, whom `/me` means.
    pub(super) fn me(&self) -> Result<&User, Refusal> {
        self.user().ok_or_else(|| {
            Refusal::bad("/me request is only valid with delegated authentication flow.")
        })
    }

    /// The token's tenant.
    pub(super) fn tenant(&self) -> Result<&Tenant, Refusal> {
        self.scenario
            .tenant(&self.claims.tid)
            .ok_or_else(|| Refusal::token("the token's tenant does not exist any more"))
    }

    /// Whether an app is registered in the caller's tenant.
    pub(super) fn is_home_of(&self, app: &App) -> bool {
        self.scenario
            .tenant(&app.tenant)
            .is_some_and(|tenant| tenant.id == *self.claims.tid)
    }

    /// Whether the token holds one of these: delegated ones of a person, application
    /// permissions of an app.
    pub(super) fn holds(&self, delegated: &[&str], application: &[&str]) -> bool {
        if self.is_app() {
            application.iter().any(|name| self.claims.has_role(name))
        } else {
            delegated.iter().any(|name| self.claims.has_scope(name))
        }
    }

    /// Refuses whose token holds none of these.
    pub(super) fn need(&self, delegated: &[&str], application: &[&str]) -> Result<(), Refusal> {
        if self.holds(delegated, application) {
            return Ok(());
        }
        let (kind, needed, found) = if self.is_app() {
            ("roles", application, self.claims.roles.join(" "))
        } else {
            let scp = self.claims.scp.clone().unwrap_or_default();
            ("scp", delegated, scp)
        };
        Err(Refusal::denied(format!(
            "the token's {kind} is \"{found}\"; needed is one of {}",
            needed.join(", ")
        )))
    }

    /// Refuses a person without one of these roles. Apps have none, and need none.
    pub(super) fn need_role(&self, among: &[DirectoryRole]) -> Result<(), Refusal> {
        if self.user().is_none_or(|user| user.has_role(among)) {
            return Ok(());
        }
        let names: Vec<_> = among.iter().map(|role| role.name()).collect();
        Err(Refusal::denied(format!(
            "{} is none of {}",
            self.name(),
            names.join(", ")
        )))
    }

    /// Whether the caller owns the registration.
    pub(super) fn owns(&self, app: &App) -> bool {
        app.owners.iter().any(|owner| *owner == *self.claims.oid)
    }

    /// Refuses whoever may read no registrations.
    pub(super) fn may_read_applications(&self) -> Result<(), Refusal> {
        const DELEGATED: [&str; 3] = [
            "Application.Read.All",
            "Application.ReadWrite.All",
            "Directory.Read.All",
        ];
        const APPLICATION: [&str; 4] = [
            "Application.Read.All",
            "Application.ReadWrite.All",
            "Application.ReadWrite.OwnedBy",
            "Directory.Read.All",
        ];
        self.need(&DELEGATED, &APPLICATION)
    }

    /// Refuses whoever may change no registrations at all.
    pub(super) fn may_write_applications(&self) -> Result<(), Refusal> {
        self.need(
            &["Application.ReadWrite.All"],
            &["Application.ReadWrite.All", "Application.ReadWrite.OwnedBy"],
        )
    }

    /// Refuses whoever may not change this registration.
    pub(super) fn may_manage(&self, app: &App) -> Result<(), Refusal> {
        self.may_write_applications()?;
        if self.owns(app) {
            return Ok(());
        }
        if self.is_app() {
            return if self.claims.has_role("Application.ReadWrite.All") {
                Ok(())
            } else {
                Err(Refusal::denied(
                    "Application.ReadWrite.OwnedBy reaches no app that the caller does not own",
                ))
            };
        }
        self.need_role(APP_ADMINISTRATORS)
    }
}
