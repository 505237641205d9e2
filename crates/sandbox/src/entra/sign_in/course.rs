//! The course of one sign-in: the gates between a person and its end, and its two ends.

use axum::http::HeaderMap;
use axum::response::Response;
use jiff::SignedDuration;

use crate::scenario::{App, Consent, EVERYONE, Guid, Permission, SCOPES, Scenario, Tenant, User};
use crate::state::{Area, Outcome};

use super::super::aadsts::Aadsts;
use super::super::client::find_app;
use super::super::scope::Requested;
use super::super::store::{
    AuthorizeRequest, Code, DeviceAnswer, Grant, Prompt, Purpose, SignIn, SignedIn,
};
use super::super::token::{
    account_state, conditional_access, foreign_user, is_assigned, not_assigned,
};
use super::super::{Entra, TenantPath, pages};

/// What stands between a person and the end of their sign-in.
pub(super) enum Gate<'a> {
    /// Nobody has signed in.
    Login,
    /// This account may not: another could.
    Refused(Aadsts),
    SecondStep(&'a User),
    /// Refused for good: the client is told.
    Returned(Aadsts),
    /// To be asked: may the app have these?
    Decision(&'a User, Vec<Permission>),
    Passed(&'a User),
}

/// A sign-in with what it is about, looked up.
pub(super) struct Course<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) path: TenantPath,
    pub(super) app: &'a App,
    purpose: Purpose,
    scope: String,
}

impl<'a> Course<'a> {
    pub(super) fn new(
        entra: &Entra,
        scenario: &'a Scenario,
        sign_in: &SignIn,
    ) -> Result<Self, Aadsts> {
        let (tenant, client, scope) = match &sign_in.purpose {
            Purpose::Authorize(r) | Purpose::AdminConsent(r) => {
                (r.tenant.clone(), r.client.clone(), r.scope.clone())
            }
            Purpose::Device { device_code } => {
                let store = entra.store();
                let device = store
                    .devices
                    .get(device_code)
                    .ok_or_else(|| Aadsts::new(70_018, &[]))?;
                (
                    device.tenant.clone(),
                    device.client.clone(),
                    device.scope.clone(),
                )
            }
        };
        let path = TenantPath::resolve(scenario, &tenant)?;
        let app = find_app(scenario, client.as_str(), &path)?;
        Ok(Self {
            scenario,
            path,
            app,
            purpose: sign_in.purpose.clone(),
            scope,
        })
    }

    /// Whether a user of the browser's session fits: the path's tenant, the login hint.
    pub(super) fn could_be(&self, id: &Guid) -> bool {
        let Some(user) = self.scenario.user_by_id(id.as_str()) else {
            return false;
        };
        let hint = match &self.purpose {
            Purpose::Authorize(request) => request.login_hint.as_deref(),
            _ => None,
        };
        self.scenario
            .tenant_of(&user.upn)
            .is_some_and(|t| self.path.admits(t))
            && hint.is_none_or(|h| h.eq_ignore_ascii_case(&user.upn))
    }

    pub(super) fn authenticate(&self, login: &str, password: &str) -> Result<&'a User, Aadsts> {
        let login = login.trim();
        let directory = match &self.path {
            TenantPath::Tenant(_) => self.path.display(self.scenario),
            _ => login
                .rsplit_once('@')
                .map_or(login, |(_, domain)| domain)
                .to_owned(),
        };
        let user = self
            .scenario
            .user(login)
            .ok_or_else(|| Aadsts::new(50_034, &[login, &directory]))?;
        let home = self.scenario.tenant_of(&user.upn);
        if !home.is_some_and(|t| self.path.admits(t)) {
            return Err(foreign_user(self.scenario, user, &self.path, self.app));
        }
        if !user.password.as_ref().is_some_and(|p| p.is(password)) {
            return Err(Aadsts::new(50_126, &[]));
        }
        Ok(user)
    }

    /// The first thing that is still missing.
    pub(super) fn gate(&self, sign_in: &SignIn) -> Gate<'a> {
        let user = sign_in
            .user
            .as_ref()
            .and_then(|id| self.scenario.user_by_id(id.as_str()));
        let Some((user, tenant)) = user.and_then(|u| Some((u, self.scenario.tenant_of(&u.upn)?)))
        else {
            return Gate::Login;
        };
        if let Err(error) = account_state(user) {
            return Gate::Refused(error);
        }
        if user.mfa && !sign_in.mfa {
            return Gate::SecondStep(user);
        }
        if user.blocked_by_conditional_access {
            return Gate::Refused(conditional_access());
        }
        if !is_assigned(user, self.app) {
            return Gate::Returned(not_assigned(user, self.app));
        }
        match &self.purpose {
            Purpose::Device { .. } if tenant.security_defaults => {
                Gate::Returned(Aadsts::new(530_035, &[]))
            }
            Purpose::Device { .. } if tenant.block_device_code => {
                Gate::Returned(conditional_access())
            }
            Purpose::AdminConsent(_) if !user.consents_for_everyone() => Gate::Refused(
                Aadsts::new(90_094, &[]).because("only an administrator consents for everyone"),
            ),
            _ => self.consent_gate(user, tenant),
        }
    }

    fn consent_gate(&self, user: &'a User, tenant: &Tenant) -> Gate<'a> {
        let asked = match self.permissions() {
            Ok(permissions) => permissions,
            Err(error) => return Gate::Returned(error),
        };
        let missing: Vec<_> = asked
            .iter()
            .filter(|p| !self.app.consented(&user.upn, p))
            .cloned()
            .collect();
        let for_administrators = |p: &Permission| {
            SCOPES
                .iter()
                .any(|offered| offered.admin && offered.permission().covers(p))
        };
        let restricted = !tenant.user_consent || missing.iter().any(for_administrators);
        if !missing.is_empty() && restricted && !user.consents_for_everyone() {
            return Gate::Returned(Aadsts::new(90_094, &[]));
        }
        let always = match &self.purpose {
            Purpose::Authorize(request) => request.prompt == Prompt::Consent,
            Purpose::Device { .. } | Purpose::AdminConsent(_) => true,
        };
        if always || !missing.is_empty() {
            Gate::Decision(user, asked)
        } else {
            Gate::Passed(user)
        }
    }

    /// The permissions the client asks for, `.default` spelled out.
    fn permissions(&self) -> Result<Vec<Permission>, Aadsts> {
        let tenant = match &self.path {
            TenantPath::Tenant(id) => self.scenario.tenant(id.as_str()),
            _ => None,
        };
        let requested = Requested::parse(&self.scope, self.app, tenant)?;
        let mut permissions = Vec::new();
        for target in &requested.targets {
            permissions.extend(target.permissions());
            if target.default {
                let here = self
                    .app
                    .delegated
                    .iter()
                    .filter(|p| p.covers(&Permission::new(target.resource, &p.name)));
                permissions.extend(here.map(|p| Permission::new(target.resource, &p.name)));
            }
        }
        Ok(permissions)
    }

    pub(super) fn decision(
        &self,
        user: &'a User,
        permissions: Vec<Permission>,
    ) -> pages::Decision<'a> {
        let application = match &self.purpose {
            Purpose::AdminConsent(_) => self.app.application.clone(),
            _ => Vec::new(),
        };
        pages::Decision {
            app: self.app,
            user,
            permissions: permissions.into_iter().chain(application).collect(),
            device: matches!(self.purpose, Purpose::Device { .. }),
            for_everyone: matches!(self.purpose, Purpose::AdminConsent(_)),
        }
    }

    /// The person said yes: consent is written down, then the sign-in ends.
    pub(super) fn accept(
        &self,
        entra: &Entra,
        headers: &HeaderMap,
        ctx: &str,
        sign_in: &SignIn,
        user: &'a User,
        everyone: bool,
    ) -> Response {
        let admin_consent = matches!(self.purpose, Purpose::AdminConsent(_));
        let by = if user.consents_for_everyone() && (everyone || admin_consent) {
            EVERYONE
        } else {
            &user.upn
        };
        let permissions = match self.permissions() {
            Ok(permissions) => permissions,
            Err(error) => return self.give_up(entra, headers, ctx, &error),
        };
        let missing: Vec<_> = permissions
            .into_iter()
            .filter(|p| !self.app.consented(by, p))
            .collect();
        let changed = entra.state.change(|scenario| {
            let Some(app) = scenario
                .apps
                .iter_mut()
                .find(|a| a.client_id == self.app.client_id)
            else {
                return;
            };
            if !missing.is_empty() {
                app.consent.push(Consent {
                    by: by.to_owned(),
                    permissions: missing,
                });
            }
            if admin_consent {
                app.application_consent.clone_from(&app.application);
            }
        });
        if changed.is_err() {
            return pages::error(
                entra,
                headers,
                &Aadsts::malformed("the scenario changed meanwhile"),
            );
        }
        self.finish(entra, headers, ctx, sign_in, user)
    }

    /// The person said no.
    pub(super) fn decline(&self, entra: &Entra, headers: &HeaderMap, ctx: &str) -> Response {
        self.give_up(entra, headers, ctx, &Aadsts::new(65_004, &[]))
    }

    /// Ends the sign-in with an error for the client.
    pub(super) fn give_up(
        &self,
        entra: &Entra,
        headers: &HeaderMap,
        ctx: &str,
        error: &Aadsts,
    ) -> Response {
        entra.log_refusal("sign-in", self.app.client_id.as_str(), error);
        entra.store().sign_ins.remove(ctx);
        match &self.purpose {
            Purpose::Authorize(request) => pages::return_error(
                entra,
                headers,
                &request.redirect,
                request.mode,
                request.state.as_deref(),
                error,
            ),
            Purpose::AdminConsent(request) => {
                let error = error.clone().under("permission_denied");
                pages::return_error(
                    entra,
                    headers,
                    &request.redirect,
                    request.mode,
                    request.state.as_deref(),
                    &error,
                )
            }
            Purpose::Device { device_code } => {
                if let Some(device) = entra.store().devices.get_mut(device_code) {
                    device.answer = if error.code == 65_004 {
                        DeviceAnswer::Declined
                    } else {
                        DeviceAnswer::Blocked(error.clone())
                    };
                }
                if error.code == 65_004 {
                    pages::notice("Declined", "You declined. You can close this window.")
                } else {
                    pages::error(entra, headers, error)
                }
            }
        }
    }

    /// Ends the sign-in well.
    pub(super) fn finish(
        &self,
        entra: &Entra,
        headers: &HeaderMap,
        ctx: &str,
        sign_in: &SignIn,
        user: &User,
    ) -> Response {
        // Whoever ends it first has ended it: a form sent twice has one outcome.
        let first = entra.store().sign_ins.remove(ctx).is_some();
        let Some(tenant) = self
            .scenario
            .tenant_of(&user.upn)
            .map(|t| t.id.clone())
            .filter(|_| first)
        else {
            return pages::error(entra, headers, &Aadsts::malformed("this sign-in has ended"));
        };
        remember(entra, sign_in, user);
        let grant = Grant {
            family: entra.state.handle(),
            user: user.object_id.clone(),
            tenant: tenant.clone(),
            client: self.app.client_id.clone(),
            mfa: sign_in.mfa,
            spa: false,
            public: false,
            began: entra.state.now(),
        };
        entra.state.log(
            Area::Entra,
            "sign-in",
            &user.upn,
            Outcome::Done,
            format!("for app {}", self.app.name),
        );
        match &self.purpose {
            Purpose::Authorize(request) => {
                let code = new_code(entra, request, grant);
                let mut pairs = vec![("code", code.as_str())];
                pairs.extend(request.state.as_deref().map(|state| ("state", state)));
                pages::give_back(&request.redirect, request.mode, &pairs)
            }
            Purpose::AdminConsent(request) => {
                let mut pairs = vec![("admin_consent", "True"), ("tenant", tenant.as_str())];
                pairs.extend(request.state.as_deref().map(|state| ("state", state)));
                pages::give_back(&request.redirect, request.mode, &pairs)
            }
            Purpose::Device { device_code } => {
                let mut store = entra.store();
                let now = grant.began;
                let waiting = store
                    .devices
                    .get_mut(device_code)
                    .filter(|d| d.expires > now && matches!(d.answer, DeviceAnswer::Pending));
                let Some(device) = waiting else {
                    return pages::enter_code(true);
                };
                device.answer = DeviceAnswer::Approved(grant);
                pages::notice(
                    "You have signed in",
                    "You signed in on your device. You can close this window.",
                )
            }
        }
    }
}

/// The browser stays signed in.
fn remember(entra: &Entra, sign_in: &SignIn, user: &User) {
    let mut store = entra.store();
    let session = store.sessions.entry(sign_in.browser.clone()).or_default();
    session.retain(|s| s.user != user.object_id);
    session.push(SignedIn {
        user: user.object_id.clone(),
        mfa: sign_in.mfa,
    });
}

fn new_code(entra: &Entra, request: &AuthorizeRequest, grant: Grant) -> String {
    let code = format!("1.{}", entra.state.handle());
    let now = entra.state.now();
    let lifetime = SignedDuration::try_from(entra.state.scenario().tokens.code.duration())
        .unwrap_or(SignedDuration::ZERO);
    let known = Code {
        grant: Grant {
            spa: request.redirect.spa,
            public: request.redirect.public,
            ..grant
        },
        scope: request.scope.clone(),
        redirect: request.redirect.clone(),
        challenge: request.challenge.clone(),
        nonce: request.nonce.clone(),
        expires: now.saturating_add(lifetime).unwrap_or(now),
        redeemed: false,
    };
    entra.store().codes.insert(code.clone(), known);
    code
}
