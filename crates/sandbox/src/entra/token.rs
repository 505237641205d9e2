//! The token endpoint: four grants, each checked in the order Entra checks them.
//!
//! A mangled code or token is refused before the client's secret is looked at, the tenant
//! before the client, the client before the grant.

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::scenario::{Account, App, FaultPoint, Rotation, Scenario, Tenant, User};
use crate::state::{Area, Outcome, Tally};

use super::aadsts::Aadsts;
use super::client::{Presented, Proof, Public, find_app};
use super::form::Form;
use super::issue::{Delegated, app_only_answer, consented};
use super::scope::{Requested, Target};
use super::store::{Challenge, DeviceAnswer, Grant, Refresh};
use super::{Entra, Strike, TenantPath, answer, nothing};

/// `POST /{tenant}/oauth2/v2.0/token`
pub(crate) async fn token(
    Shared(entra): Shared<Entra>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::from_body(&headers, &body);
    let grant_type = form
        .as_ref()
        .ok()
        .and_then(|form| form.get("grant_type"))
        .unwrap_or_default()
        .to_owned();
    let count = |counted: fn(&mut Tally)| entra.state.tally(&grant_type, counted);
    count(|tally| tally.requests += 1);
    let form = match form {
        Ok(form) => form,
        Err(error) => {
            count(|tally| tally.refused += 1);
            return refused(&entra, &headers, "token", "", &error);
        }
    };
    let client_id = Presented::read(&headers, &form)
        .map(|p| p.client_id)
        .unwrap_or_default();
    let what = format!("token {grant_type}");
    let strike = entra.strike(FaultPoint::Token, &client_id, &headers).await;
    if !matches!(strike, Strike::None) {
        count(|tally| tally.faults += 1);
    }
    if let Strike::Answer(response) = strike {
        return response;
    }
    let answer = match exchange(&entra, &tenant, &headers, &form) {
        Ok((value, whose)) => {
            count(|tally| tally.granted += 1);
            entra
                .state
                .log(Area::Entra, what, client_id, Outcome::Done, whose);
            answer::json(&value)
        }
        Err(error) => {
            count(|tally| tally.refused += 1);
            refused(&entra, &headers, &what, &client_id, &error)
        }
    };
    match strike {
        Strike::LoseReply => nothing(),
        _ => answer,
    }
}

fn refused(
    entra: &Entra,
    headers: &HeaderMap,
    what: &str,
    client_id: &str,
    error: &Aadsts,
) -> Response {
    entra.log_refusal(what, client_id, error);
    answer::error(entra, headers, error)
}

/// One request under way.
struct Request<'a> {
    entra: &'a Entra,
    scenario: &'a Scenario,
    path: TenantPath,
    form: &'a Form,
    app: &'a App,
    presented: Presented,
}

/// The answer, and whom it is for.
fn exchange(
    entra: &Entra,
    tenant: &str,
    headers: &HeaderMap,
    form: &Form,
) -> Result<(Value, String), Aadsts> {
    let scenario = entra.state.scenario();
    let path = TenantPath::resolve(&scenario, tenant)?;
    let grant_type = form.need("grant_type")?;
    let presented = Presented::read(headers, form)?;
    let app = find_app(&scenario, &presented.client_id, &path)?;
    if entra.state.is_settling(app.client_id.as_str()) {
        let directory = path.display(&scenario);
        return Err(Aadsts::new(700_016, &[app.client_id.as_str(), &directory])
            .because("the app is too new to be known everywhere"));
    }
    let request = Request {
        entra,
        scenario: &scenario,
        path,
        form,
        app,
        presented,
    };
    match grant_type {
        "authorization_code" => request.authorization_code(),
        "refresh_token" => request.refresh_token(),
        "client_credentials" => request.client_credentials(),
        "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => request.device_code(),
        other => Err(Aadsts::new(70_003, &[other])),
    }
}

impl Request<'_> {
    fn prove(&self, may: Public) -> Result<Proof, Aadsts> {
        self.presented.prove(self.entra, self.app, &self.path, may)
    }

    fn authorization_code(&self) -> Result<(Value, String), Aadsts> {
        let code = self.form.need("code")?;
        if !is_handle(code, "1.") {
            return Err(Aadsts::malformed("the code is mangled"));
        }
        let known = self.entra.store().codes.get(code).cloned();
        let known = known
            .ok_or_else(|| Aadsts::malformed("the code was never issued").under("invalid_grant"))?;
        let proof = self.prove(known.grant.may_be_public())?;
        self.same_client(&known.grant)?;
        if known.redeemed {
            return Err(Aadsts::new(54_005, &[]));
        }
        if known.expires <= self.entra.state.now() {
            return Err(Aadsts::new(70_008, &[]));
        }
        let redirect_uri = self.form.need("redirect_uri")?;
        if redirect_uri != known.redirect.as_written {
            return Err(Aadsts::new(
                500_112,
                &[redirect_uri, &known.redirect.as_written],
            ));
        }
        check_verifier(known.challenge.as_ref(), self.form.get("code_verifier"))?;

        let granted = self.requested(&known.scope)?;
        let target = match self.form.get("scope") {
            Some(scope) => self.requested(scope)?.single_target(scope)?,
            // Unconfirmed: which of several services a redemption without `scope` is for.
            None => granted
                .targets
                .first()
                .cloned()
                .unwrap_or_else(Target::sign_in_only),
        };
        let requested = self.with_scope_of_form(granted)?;
        let answer = self.delegated(known.grant.clone(), proof, requested, target, known.nonce)?;
        // Two requests with one code: whoever comes second, however close, is refused.
        match self.entra.store().codes.get_mut(code) {
            Some(code) if !code.redeemed => code.redeemed = true,
            _ => return Err(Aadsts::new(54_005, &[])),
        }
        self.finish(answer)
    }

    fn refresh_token(&self) -> Result<(Value, String), Aadsts> {
        let presented = self.form.need("refresh_token")?;
        if !is_handle(presented, "1.A") {
            return Err(Aadsts::malformed("the refresh token is mangled"));
        }
        let known = self.entra.store().refresh.get(presented).cloned();
        let known = known.ok_or_else(|| {
            Aadsts::malformed("the refresh token was never issued").under("invalid_grant")
        })?;
        let proof = self.prove(known.grant.may_be_public())?;
        self.same_client(&known.grant)?;
        let policy = &self.scenario.tokens;
        let now = self.entra.state.now();
        if known.revoked {
            return Err(Aadsts::new(50_173, &[]).because("it was revoked"));
        }
        let grace = policy.reuse_grace.duration();
        let reused = |token: &Refresh| {
            let too_late = |at| grace.is_zero() || older(at, grace, now);
            policy.rotation == Rotation::Strict && token.superseded.is_some_and(too_late)
        };
        if reused(&known) {
            return Err(self.revoke_reused(&known.grant));
        }
        if known.grant.spa && older(known.grant.began, SPA_LIFETIME, now) {
            return Err(Aadsts::new(700_084, &[]));
        }
        if older(known.used, policy.refresh_inactive.duration(), now) {
            let inactive = days_and_time(policy.refresh_inactive.duration().as_secs());
            return Err(Aadsts::new(
                700_082,
                &[&known.issued.to_string(), &inactive],
            ));
        }

        let scope = self.form.get("scope").unwrap_or(&known.scope);
        // Every redemption returns a refresh token.
        let requested = self.requested(scope)?.with_refresh_token();
        let target = requested.single_target(scope)?;
        let mut answer = self.delegated(known.grant.clone(), proof, requested, target, None)?;
        scope.clone_into(&mut answer.scope);
        if policy.rotation == Rotation::None {
            answer.keep_refresh = Some(presented.to_owned());
        }
        // Two requests with one token: whoever comes second, however close, uses it again.
        let mut reused_meanwhile = false;
        if let Some(old) = self.entra.store().refresh.get_mut(presented) {
            reused_meanwhile = reused(old);
            old.used = now;
            if policy.rotation != Rotation::None {
                old.superseded.get_or_insert(now);
            }
        }
        if reused_meanwhile {
            return Err(self.revoke_reused(&known.grant));
        }
        self.finish(answer)
    }

    fn revoke_reused(&self, grant: &Grant) -> Aadsts {
        self.entra.store().revoke_family(&grant.family);
        Aadsts::new(50_173, &[])
            .because("a refresh token was used again: the whole grant is revoked")
    }

    fn client_credentials(&self) -> Result<(Value, String), Aadsts> {
        let TenantPath::Tenant(tenant) = &self.path else {
            return Err(Aadsts::new(50_059, &[]).because("client credentials need a real tenant"));
        };
        let scope = self.form.need("scope")?;
        let proof = self.prove(Public::No)?;
        if proof == Proof::Public {
            return Err(Aadsts::new(7_000_218, &[]).because("a public client has no credentials"));
        }
        let tenant = self
            .scenario
            .tenant(tenant.as_str())
            .ok_or_else(|| Aadsts::new(90_002, &[tenant.as_str()]))?;
        let home = self.scenario.tenant(&self.app.tenant);
        if home.is_none_or(|home| home.id != tenant.id) {
            return Err(
                Aadsts::new(700_016, &[self.app.client_id.as_str(), &tenant.name])
                    .because("not installed in this tenant"),
            );
        }
        let requested = Requested::parse(scope, self.app, Some(tenant)).map_err(|e| {
            if e.code == 500_011 {
                e
            } else {
                Aadsts::new(70_011, &[scope])
            }
        })?;
        let openid = requested.openid().next().is_some();
        match requested.targets.as_slice() {
            [target] if target.default && !openid => {
                let value =
                    app_only_answer(self.entra, self.scenario, self.app, tenant, target, proof);
                Ok((value, format!("app-only for {}", target.audience)))
            }
            _ => Err(Aadsts::new(70_011, &[scope])
                .because("client credentials need one scope, and it must be a service's .default")),
        }
    }

    fn device_code(&self) -> Result<(Value, String), Aadsts> {
        let presented = self
            .form
            .get("device_code")
            .or_else(|| self.form.get("code"))
            .ok_or_else(|| Aadsts::missing("device_code"))?;
        let known = self.entra.store().devices.get(presented).cloned();
        let proof = self.prove(Public::No)?;
        let known = known
            .filter(|d| d.client == self.app.client_id)
            .ok_or_else(|| Aadsts::new(70_018, &[]))?;
        let now = self.entra.state.now();
        let grant = match known.answer {
            DeviceAnswer::Declined => return Err(Aadsts::new(70_017, &[])),
            DeviceAnswer::Blocked(error) => return Err(error),
            DeviceAnswer::Redeemed => return Err(Aadsts::new(54_005, &[])),
            _ if known.expires <= now => return Err(Aadsts::new(70_019, &[])),
            DeviceAnswer::Pending => return Err(Aadsts::new(70_016, &[])),
            DeviceAnswer::Approved(grant) => grant,
        };
        let requested = self.requested(&known.scope)?;
        let target = requested.single_target(&known.scope)?;
        let answer = self.delegated(grant, proof, requested, target, None)?;
        match self.entra.store().devices.get_mut(presented) {
            Some(device) if !matches!(device.answer, DeviceAnswer::Redeemed) => {
                device.answer = DeviceAnswer::Redeemed;
            }
            _ => return Err(Aadsts::new(54_005, &[])),
        }
        self.finish(answer)
    }

    fn requested(&self, scope: &str) -> Result<Requested, Aadsts> {
        let tenant = match &self.path {
            TenantPath::Tenant(id) => self.scenario.tenant(id.as_str()),
            _ => None,
        };
        Requested::parse(scope, self.app, tenant)
    }

    /// What the person agreed to, and what the redemption's own scope adds to the answer.
    fn with_scope_of_form(&self, granted: Requested) -> Result<Requested, Aadsts> {
        match self.form.get("scope") {
            Some(scope) => Ok(granted.with_openid_of(&self.requested(scope)?)),
            None => Ok(granted),
        }
    }

    fn same_client(&self, grant: &Grant) -> Result<(), Aadsts> {
        if grant.client == self.app.client_id {
            Ok(())
        } else {
            Err(Aadsts::new(70_000, &[]))
        }
    }

    /// Everything about the user that may have changed since they signed in.
    fn delegated(
        &self,
        grant: Grant,
        proof: Proof,
        requested: Requested,
        target: Target,
        nonce: Option<String>,
    ) -> Result<Delegated<'_>, Aadsts> {
        let (user, tenant) = self.user_of(&grant)?;
        if matches!(&self.path, TenantPath::Tenant(id) if *id != tenant.id) {
            return Err(foreign_user(self.scenario, user, &self.path, self.app));
        }
        if target.resource == crate::scenario::Resource::Exchange && !tenant.exchange_online {
            return Err(Aadsts::new(500_011, &[&target.audience, &tenant.name]));
        }
        may_have_tokens(user, self.app, &target, grant.mfa)?;
        let not_consented = || Aadsts::new(65_001, &[self.app.client_id.as_str(), &self.app.name]);
        let names = if target.default {
            consented(self.app, &user.upn, target.resource)
        } else if target
            .permissions()
            .all(|p| self.app.consented(&user.upn, &p))
        {
            target.names.clone()
        } else {
            Vec::new()
        };
        if names.is_empty() && target != Target::sign_in_only() {
            return Err(not_consented());
        }
        let scope = scope_text(&requested, &target);
        Ok(Delegated {
            scenario: self.scenario,
            app: self.app,
            user,
            tenant,
            grant,
            proof,
            scope,
            requested,
            target,
            names,
            nonce,
            keep_refresh: None,
        })
    }

    fn user_of(&self, grant: &Grant) -> Result<(&User, &Tenant), Aadsts> {
        let gone = || {
            Aadsts::new(
                50_034,
                &[grant.user.as_str(), &self.path.display(self.scenario)],
            )
        };
        let user = self
            .scenario
            .user_by_id(grant.user.as_str())
            .ok_or_else(gone)?;
        let tenant = self
            .scenario
            .tenant(grant.tenant.as_str())
            .ok_or_else(gone)?;
        Ok((user, tenant))
    }

    #[allow(clippy::unnecessary_wraps, reason = "the last step of every grant")]
    fn finish(&self, answer: Delegated<'_>) -> Result<(Value, String), Aadsts> {
        let whose = format!("{} for {}", answer.user.upn, answer.target.audience);
        Ok((answer.answer(self.entra), whose))
    }
}

/// Refresh tokens of a single-page app end after this, whatever happens.
const SPA_LIFETIME: std::time::Duration = std::time::Duration::from_hours(24);

/// What a refresh token is for when nobody says otherwise: the service of the answer it came with.
fn scope_text(requested: &Requested, target: &Target) -> String {
    let names = requested.openid().map(str::to_owned);
    let default = target
        .default
        .then(|| format!("{}/.default", target.audience));
    let permissions = target
        .names
        .iter()
        .map(|name| format!("{}/{name}", target.audience));
    names
        .chain(default)
        .chain(permissions)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Why this user may have no tokens, if so.
pub(crate) fn may_have_tokens(
    user: &User,
    app: &App,
    target: &Target,
    mfa: bool,
) -> Result<(), Aadsts> {
    account_state(user)?;
    if user.blocked_by_conditional_access {
        return Err(conditional_access());
    }
    if user.mfa && !mfa {
        return Err(Aadsts::new(50_076, &[target.resource.app_id()]));
    }
    if !is_assigned(user, app) {
        return Err(not_assigned(user, app).under("invalid_grant"));
    }
    Ok(())
}

/// Whether the account signs in at all.
pub(crate) fn account_state(user: &User) -> Result<(), Aadsts> {
    match user.account {
        Account::Enabled => Ok(()),
        Account::Disabled => Err(Aadsts::new(50_057, &[])),
        Account::Locked => Err(Aadsts::new(50_053, &[])),
        Account::PasswordExpired => Err(Aadsts::new(50_055, &[])),
    }
}

/// Conditional Access said no. Unconfirmed: the shape of `claims`.
pub(crate) fn conditional_access() -> Aadsts {
    let mut error = Aadsts::new(53_003, &[]);
    error.claims = Some(r#"{"access_token":{"capolids":{"essential":true,"values":["00000000-0000-4000-8000-000000000001"]}}}"#.into());
    error
}

/// Whether the user may use the app.
pub(crate) fn is_assigned(user: &User, app: &App) -> bool {
    app.assigned_users
        .as_ref()
        .is_none_or(|users| users.iter().any(|u| u.eq_ignore_ascii_case(&user.upn)))
}

/// The user may not use the app.
pub(crate) fn not_assigned(user: &User, app: &App) -> Aadsts {
    Aadsts::new(50_105, &[&user.upn, app.client_id.as_str(), &app.name])
}

/// The user belongs to another tenant.
pub(crate) fn foreign_user(
    scenario: &Scenario,
    user: &User,
    path: &TenantPath,
    app: &App,
) -> Aadsts {
    let provider = match scenario.tenant_of(&user.upn) {
        Some(tenant) if tenant.kind == crate::scenario::TenantKind::Organization => {
            crate::state::issuer_v1(&tenant.id)
        }
        _ => "live.com".to_owned(),
    };
    Aadsts::new(
        50_020,
        &[
            &user.upn,
            &provider,
            &path.display(scenario),
            app.client_id.as_str(),
            &app.name,
        ],
    )
}

/// Proof Key for Code Exchange (RFC 7636 §4.6).
fn check_verifier(challenge: Option<&Challenge>, verifier: Option<&str>) -> Result<(), Aadsts> {
    let fits = match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
            (43..=128).contains(&verifier.len())
                && verifier.bytes().all(plain)
                && if challenge.s256 {
                    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())) == challenge.value
                } else {
                    verifier == challenge.value
                }
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Aadsts::new(501_481, &[]))
    }
}

/// Whether a code or token has the shape of those made here.
fn is_handle(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 43 && URL_SAFE_NO_PAD.decode(rest).is_ok())
}

fn older(since: Timestamp, than: std::time::Duration, now: Timestamp) -> bool {
    let than = SignedDuration::try_from(than).unwrap_or(SignedDuration::MAX);
    now.duration_since(since) > than
}

/// `90.00:00:00`
fn days_and_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!(
        "{days}.{:02}:{:02}:{:02}",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_fits_its_challenge_only() {
        // RFC 7636 appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let s256 = Challenge {
            s256: true,
            value: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned(),
        };
        assert_eq!(check_verifier(Some(&s256), Some(verifier)), Ok(()));
        let plain = Challenge {
            s256: false,
            value: verifier.to_owned(),
        };
        assert_eq!(check_verifier(Some(&plain), Some(verifier)), Ok(()));
        assert_eq!(check_verifier(None, None), Ok(()));

        for (challenge, verifier) in [
            (Some(&s256), None),
            (None, Some(verifier)),
            (Some(&plain), Some("short")),
            (
                Some(&s256),
                Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ),
        ] {
            assert_eq!(
                check_verifier(challenge, verifier).unwrap_err().code,
                501_481
            );
        }
    }

    #[test]
    fn spans_print_as_entra_prints_them() {
        assert_eq!(days_and_time(90 * 86_400), "90.00:00:00");
        assert_eq!(days_and_time(86_400 + 3_661), "1.01:01:01");
    }
}
