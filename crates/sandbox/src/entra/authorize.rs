//! The authorization endpoint: checks what a client asks for before any page is shown.
//!
//! Until the redirect URI is known to be the app's own, errors stay on a page; after that
//! they travel back to the client.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::scenario::{App, FaultPoint, Scenario};

use super::aadsts::Aadsts;
use super::client::find_app;
use super::form::Form;
use super::redirect::Redirect;
use super::scope::Requested;
use super::store::{AuthorizeRequest, Challenge, Prompt, Purpose, ResponseMode};
use super::{Entra, TenantPath, pages, sign_in};

/// `GET /{tenant}/oauth2/v2.0/authorize`
pub(crate) async fn by_query(
    Shared(entra): Shared<Entra>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    authorize(
        &entra,
        &tenant,
        Form::from_query(query.as_deref()),
        &headers,
    )
    .await
}

/// `POST /{tenant}/oauth2/v2.0/authorize`
pub(crate) async fn by_form(
    Shared(entra): Shared<Entra>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    authorize(&entra, &tenant, Form::from_body(&headers, &body), &headers).await
}

async fn authorize(
    entra: &Entra,
    tenant: &str,
    form: Result<Form, Aadsts>,
    headers: &HeaderMap,
) -> Response {
    let form = match form {
        Ok(form) => form,
        Err(error) => return refused(entra, headers, "", &error),
    };
    let client_id = form.get("client_id").unwrap_or_default().to_owned();
    if let Some(response) = entra
        .fault(FaultPoint::Authorize, &client_id, headers)
        .await
    {
        return response;
    }
    let scenario = entra.state.scenario();
    let landing = match Landing::find(&scenario, tenant, &form) {
        Ok(landing) => landing,
        Err(error) => return refused(entra, headers, &client_id, &error),
    };
    match landing.request(&scenario) {
        Ok(request) => sign_in::begin(entra, headers, Purpose::Authorize(Box::new(request))),
        Err(error) => {
            entra.log_refusal("authorize", &client_id, &error);
            pages::return_error(
                entra,
                headers,
                &landing.redirect,
                landing.mode,
                form.get("state"),
                &error,
            )
        }
    }
}

/// `GET /{tenant}/v2.0/adminconsent`
pub(crate) async fn admin_consent(
    Shared(entra): Shared<Entra>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let asked = Form::from_query(query.as_deref()).and_then(|form| {
        let scenario = entra.state.scenario();
        let landing = Landing::find(&scenario, &tenant, &form)?;
        let scope = form.need("scope")?;
        landing.checked(&scenario, scope, Prompt::SelectAccount, None)
    });
    match asked {
        Ok(request) => sign_in::begin(&entra, &headers, Purpose::AdminConsent(Box::new(request))),
        Err(error) => refused(&entra, &headers, "", &error),
    }
}

/// What a request asks for, once all of it is right.
pub(super) fn checked(
    scenario: &Scenario,
    tenant: &str,
    form: &Form,
) -> Result<AuthorizeRequest, Aadsts> {
    Landing::find(scenario, tenant, form)?.request(scenario)
}

fn refused(entra: &Entra, headers: &HeaderMap, client_id: &str, error: &Aadsts) -> Response {
    entra.log_refusal("authorize", client_id, error);
    pages::error(entra, headers, error)
}

/// Where answers go: the part of a request that must be right before anything is redirected.
struct Landing<'a> {
    form: &'a Form,
    tenant: &'a str,
    path: TenantPath,
    app: &'a App,
    redirect: Redirect,
    mode: ResponseMode,
}

impl<'a> Landing<'a> {
    fn find(scenario: &'a Scenario, tenant: &'a str, form: &'a Form) -> Result<Self, Aadsts> {
        let path = TenantPath::resolve(scenario, tenant)?;
        let client_id = form.need("client_id")?;
        let app = find_app(scenario, client_id, &path)?;
        let requested = match (form.get("redirect_uri"), app.redirect_uris.as_slice()) {
            (Some(uri), _) => uri,
            (None, [only]) => only,
            (None, _) => return Err(Aadsts::missing("redirect_uri")),
        };
        let redirect = Redirect::find(app, requested)
            .ok_or_else(|| Aadsts::new(50_011, &[requested, app.client_id.as_str()]))?;
        let mode = match form.get("response_mode") {
            None | Some("query") => ResponseMode::Query,
            Some("fragment") => ResponseMode::Fragment,
            Some("form_post") => ResponseMode::FormPost,
            Some(_) => return Err(Aadsts::malformed("unknown response_mode")),
        };
        Ok(Self {
            form,
            tenant,
            path,
            app,
            redirect,
            mode,
        })
    }

    fn request(&self, scenario: &Scenario) -> Result<AuthorizeRequest, Aadsts> {
        match self.form.need("response_type")? {
            "code" => {}
            other => return Err(Aadsts::new(70_005, &[other])),
        }
        let scope = self.form.need("scope")?;
        let prompt = match self.form.get("prompt") {
            None => Prompt::Needed,
            Some("login") => Prompt::Login,
            Some("consent") => Prompt::Consent,
            Some("select_account") => Prompt::SelectAccount,
            Some("none") => Prompt::None,
            Some(_) => return Err(Aadsts::malformed("unknown prompt")),
        };
        self.checked(scenario, scope, prompt, self.challenge()?)
    }

    fn checked(
        &self,
        scenario: &Scenario,
        scope: &str,
        prompt: Prompt,
        challenge: Option<Challenge>,
    ) -> Result<AuthorizeRequest, Aadsts> {
        let tenant = match &self.path {
            TenantPath::Tenant(id) => scenario.tenant(id.as_str()),
            _ => None,
        };
        let requested = Requested::parse(scope, self.app, tenant)?;
        for target in requested.targets.iter().filter(|t| t.default) {
            let registered = |p: &&crate::scenario::Permission| p.resource == target.resource;
            if !self
                .app
                .delegated
                .iter()
                .chain(&self.app.application)
                .any(|p| registered(&p))
            {
                return Err(Aadsts::new(650_057, &[]));
            }
        }
        Ok(AuthorizeRequest {
            tenant: self.tenant.to_owned(),
            client: self.app.client_id.clone(),
            redirect: self.redirect.clone(),
            mode: self.mode,
            state: self.form.get("state").map(str::to_owned),
            scope: scope.to_owned(),
            challenge,
            nonce: self.form.get("nonce").map(str::to_owned),
            login_hint: self.form.get("login_hint").map(str::to_owned),
            prompt,
        })
    }

    fn challenge(&self) -> Result<Option<Challenge>, Aadsts> {
        let Some(value) = self.form.get("code_challenge") else {
            return match self.form.get("code_challenge_method") {
                Some(_) => Err(Aadsts::missing("code_challenge")),
                None if self.redirect.spa => Err(Aadsts::missing("code_challenge")),
                None => Ok(None),
            };
        };
        let s256 = match self.form.get("code_challenge_method") {
            Some("S256") => true,
            Some("plain") | None => false,
            Some(_) => return Err(Aadsts::malformed("unknown code_challenge_method")),
        };
        if !(43..=128).contains(&value.len()) {
            return Err(Aadsts::malformed(
                "code_challenge is not 43 to 128 characters long",
            ));
        }
        Ok(Some(Challenge {
            s256,
            value: value.to_owned(),
        }))
    }
}
