//! Making tokens: access tokens shaped as Outlook's are, ID tokens, refresh tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::scenario::{App, Permission, Resource, Scenario, Tenant, TenantKind, User};
use crate::state::{Claims, issuer_v1};

use super::Entra;
use super::client::Proof;
use super::scope::{Requested, Target};
use super::store::{Grant, Issued, Refresh};

/// What a code, device code or refresh token is exchanged for.
pub(crate) struct Delegated<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) app: &'a App,
    pub(crate) user: &'a User,
    pub(crate) tenant: &'a Tenant,
    pub(crate) grant: Grant,
    pub(crate) proof: Proof,
    /// The `scope` the answer is about, as text and read.
    pub(crate) scope: String,
    pub(crate) requested: Requested,
    pub(crate) target: Target,
    /// Permissions granted on the target.
    pub(crate) names: Vec<String>,
    pub(crate) nonce: Option<String>,
    /// The refresh token that stays, where rotation is off.
    pub(crate) keep_refresh: Option<String>,
}

impl Delegated<'_> {
    /// The token endpoint's answer.
    pub(crate) fn answer(self, entra: &Entra) -> Value {
        let now = entra.state.now();
        let lifetime = access_lifetime(entra, self.scenario);
        let mut names = self.names.clone();
        if self.target.resource == Resource::Graph {
            names.extend(
                self.requested
                    .openid()
                    .filter(|n| *n != "offline_access")
                    .map(str::to_owned),
            );
        }
        let claims = Claims {
            aud: self.target.audience.clone(),
            iss: issuer_v1(&self.tenant.id),
            iat: now.as_second(),
            nbf: now.as_second(),
            exp: now.as_second() + lifetime,
            appid: self.app.client_id.to_string(),
            appidacr: self.proof.acr().to_owned(),
            oid: self.user.object_id.to_string(),
            roles: Vec::new(),
            scp: Some(names.join(" ")),
            sub: pairwise(self.user.object_id.as_str(), self.target.resource.app_id()),
            tid: self.tenant.id.to_string(),
            unique_name: Some(self.user.upn.clone()),
            upn: Some(self.user.upn.clone()),
            uti: entra.state.handle(),
            ver: "1.0".to_owned(),
            wids: self
                .user
                .directory_roles()
                .iter()
                .map(|role| role.template().to_owned())
                .collect(),
        };
        let mut answer = access_answer(entra, self.scenario, &claims, self.tenant.kind, lifetime);
        answer["scope"] = scope_answer(&self.target, &names).into();
        if self.requested.has("openid") {
            answer["id_token"] = self.id_token(entra, now).into();
        }
        if self.requested.has("offline_access") {
            let token = match self.keep_refresh {
                Some(token) => token,
                None => new_refresh_token(entra, self.grant, self.scope, self.proof, now),
            };
            answer["refresh_token"] = token.into();
        }
        answer
    }

    fn id_token(&self, entra: &Entra, now: Timestamp) -> String {
        let mut claims = json!({
            "aud": self.app.client_id, "iss": entra.issuer_v2(&self.tenant.id),
            "iat": now.as_second(), "nbf": now.as_second(), "exp": now.as_second() + 3_600,
            "sub": pairwise(self.user.object_id.as_str(), self.app.client_id.as_str()),
            "tid": self.tenant.id, "uti": entra.state.handle(), "ver": "2.0",
        });
        if self.requested.has("profile") {
            claims["oid"] = self.user.object_id.as_str().into();
            claims["name"] = self.user.name.as_str().into();
            claims["preferred_username"] = self.user.upn.as_str().into();
        }
        if self.requested.has("email") {
            claims["email"] = self.user.upn.as_str().into();
        }
        if let Some(nonce) = &self.nonce {
            claims["nonce"] = nonce.as_str().into();
        }
        entra.state.key().sign(&claims)
    }
}

/// The answer to client credentials: no scope, no refresh token.
pub(crate) fn app_only_answer(
    entra: &Entra,
    scenario: &Scenario,
    app: &App,
    tenant: &Tenant,
    target: &Target,
    proof: Proof,
) -> Value {
    let now = entra.state.now();
    let lifetime = access_lifetime(entra, scenario);
    let roles = app
        .application_consent
        .iter()
        .filter(|p| p.resource == target.resource)
        .map(|p| p.name.clone());
    let claims = Claims {
        aud: target.audience.clone(),
        iss: issuer_v1(&tenant.id),
        iat: now.as_second(),
        nbf: now.as_second(),
        exp: now.as_second() + lifetime,
        appid: app.client_id.to_string(),
        appidacr: proof.acr().to_owned(),
        oid: app.object_id.to_string(),
        roles: roles.collect(),
        scp: None,
        sub: app.object_id.to_string(),
        tid: tenant.id.to_string(),
        unique_name: None,
        upn: None,
        uti: entra.state.handle(),
        ver: "1.0".to_owned(),
        wids: Vec::new(),
    };
    access_answer(entra, scenario, &claims, TenantKind::Organization, lifetime)
}

/// Permissions the user consented to that this app may have on a service.
pub(crate) fn consented(app: &App, upn: &str, resource: Resource) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for permission in app
        .consent
        .iter()
        .flat_map(|c| &c.permissions)
        .chain(&app.delegated)
    {
        let here = Permission::new(resource, &permission.name);
        if permission.covers(&here) && app.consented(upn, &here) && !names.contains(&here.name) {
            names.push(here.name);
        }
    }
    names
}

/// A user as one client sees them (OpenID Connect Core §8.1).
pub(crate) fn pairwise(user: &str, client: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{client}|{user}").as_bytes()))
}

fn access_lifetime(entra: &Entra, scenario: &Scenario) -> i64 {
    let policy = &scenario.tokens;
    let shortest = policy.access_min.duration().as_secs();
    let longest = policy.access_max.duration().as_secs();
    let lifetime = shortest + entra.state.random_below(longest - shortest + 1);
    i64::try_from(lifetime).unwrap_or(i64::MAX / 2)
}

fn access_answer(
    entra: &Entra,
    scenario: &Scenario,
    claims: &Claims,
    kind: TenantKind,
    lifetime: i64,
) -> Value {
    let mut answer = json!({
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": entra.state.sign_access_token(claims, kind),
    });
    if let Some(percent) = scenario.tokens.refresh_in_percent {
        answer["refresh_in"] = (lifetime * i64::from(percent) / 100).into();
    }
    let expires = entra
        .state
        .now()
        .saturating_add(SignedDuration::from_secs(lifetime))
        .unwrap_or(Timestamp::MAX);
    entra.store().issued.push(Issued {
        uti: claims.uti.clone(),
        subject: claims.oid.clone(),
        client: claims.appid.clone(),
        expires,
    });
    answer
}

fn new_refresh_token(
    entra: &Entra,
    grant: Grant,
    scope: String,
    proof: Proof,
    now: Timestamp,
) -> String {
    let token = format!("1.A{}", entra.state.handle());
    let refresh = Refresh {
        grant,
        scope,
        public_client: proof == Proof::Public,
        issued: now,
        used: now,
        superseded: None,
        revoked: false,
    };
    entra.store().refresh.insert(token.clone(), refresh);
    token
}

fn scope_answer(target: &Target, names: &[String]) -> String {
    let full = |name: &String| match target.resource {
        Resource::Exchange => format!("{}/{name}", target.audience),
        Resource::Graph => name.clone(),
    };
    names.iter().map(full).collect::<Vec<_>>().join(" ")
}
