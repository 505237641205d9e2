//! The device code flow (RFC 8628): a device asks, a person with a browser answers.

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::scenario::FaultPoint;
use crate::state::{Area, Outcome};

use super::aadsts::Aadsts;
use super::client::find_app;
use super::form::Form;
use super::scope::Requested;
use super::store::{Device, DeviceAnswer, Purpose};
use super::{Entra, TenantPath, answer, pages, sign_in};

/// `POST /{tenant}/oauth2/v2.0/devicecode`
pub(crate) async fn device_code(
    Shared(entra): Shared<Entra>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::from_body(&headers, &body);
    let client_id = form
        .as_ref()
        .ok()
        .and_then(|f| f.get("client_id"))
        .unwrap_or_default()
        .to_owned();
    if let Some(response) = entra
        .fault(FaultPoint::DeviceCode, &client_id, &headers)
        .await
    {
        return response;
    }
    match form.and_then(|form| ask(&entra, &tenant, &form)) {
        Ok(value) => {
            entra
                .state
                .log(Area::Entra, "devicecode", client_id, Outcome::Done, "");
            answer::json(&value)
        }
        Err(error) => {
            entra.log_refusal("devicecode", &client_id, &error);
            answer::error(&entra, &headers, &error)
        }
    }
}

fn ask(entra: &Entra, tenant: &str, form: &Form) -> Result<Value, Aadsts> {
    let scenario = entra.state.scenario();
    let path = TenantPath::resolve(&scenario, tenant)?;
    let app = find_app(&scenario, form.need("client_id")?, &path)?;
    let scope = form.need("scope")?;
    let home = match &path {
        TenantPath::Tenant(id) => scenario.tenant(id.as_str()),
        _ => None,
    };
    Requested::parse(scope, app, home)?.single_target(scope)?;

    let policy = &scenario.tokens;
    let now = entra.state.now();
    let lifetime =
        SignedDuration::try_from(policy.device_code.duration()).unwrap_or(SignedDuration::ZERO);
    let device_code = entra.state.handle();
    let user_code = user_code(entra);
    let device = Device {
        user_code: user_code.clone(),
        client: app.client_id.clone(),
        scope: scope.to_owned(),
        tenant: tenant.to_owned(),
        expires: now.saturating_add(lifetime).unwrap_or(now),
        answer: DeviceAnswer::Pending,
    };
    entra.store().devices.insert(device_code.clone(), device);
    let page = entra.url("device");
    Ok(json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": page,
        "expires_in": policy.device_code.duration().as_secs(),
        "interval": policy.device_interval.duration().as_secs(),
        // Unconfirmed: the wording.
        "message": format!("To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."),
    }))
}

/// Nine characters that are not mistaken for each other.
fn user_code(entra: &Entra) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    entra
        .state
        .random::<9>()
        .iter()
        .map(|octet| char::from(LETTERS[usize::from(octet % 32)]))
        .collect()
}

/// `GET /device`
pub(crate) async fn page() -> Response {
    pages::enter_code(false)
}

/// `POST /device`: the person entered a code.
pub(crate) async fn enter(
    Shared(entra): Shared<Entra>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = match Form::from_body(&headers, &body) {
        Ok(form) => form,
        Err(error) => return pages::error(&entra, &headers, &error),
    };
    let now = entra.state.now();
    let waiting = {
        let store = entra.store();
        form.get("user_code")
            .and_then(|code| store.device_for(code))
            .filter(|code| {
                store
                    .devices
                    .get(code)
                    .is_some_and(|d| d.expires > now && matches!(d.answer, DeviceAnswer::Pending))
            })
    };
    match waiting {
        Some(device_code) => sign_in::begin(&entra, &headers, Purpose::Device { device_code }),
        None => pages::enter_code(true),
    }
}
