//! A person signs in on another device: the device authorization grant (RFC 8628).
//!
//! The polling is ours rather than `oauth2`'s: each poll needs a client assertion of its own,
//! a refusal must end the flow with its reason, and only trouble on the way may be waited out.

use std::time::Duration;

use oauth2::{DeviceAuthorizationResponse, ExtraDeviceAuthorizationFields};
use postrider_plugin::wire::{DeviceCode, HttpResponse, Tokens};
use postrider_plugin::{Error, ErrorKind, Level};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Http, grant_error};
use crate::form::Form;
use crate::identity;
use crate::refusal::{self, bounded, web_page};
use crate::tokens::Granted;

/// RFC 8628 §3.4.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// RFC 8628 §3.5: what `slow_down` adds to the interval.
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// A server that asks for no pause at all still gets one.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Where doubling stops while the provider is not reached.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);
/// Octets kept of what a person is shown.
const SHOWN_OCTETS: usize = 500;

/// What Entra ID adds to the response: a sentence for the person.
#[derive(Debug, Deserialize, Serialize)]
struct Extra {
    message: Option<String>,
}

impl ExtraDeviceAuthorizationFields for Extra {}

type Authorization = DeviceAuthorizationResponse<Extra>;

/// Signs a person in.
pub(crate) async fn login(http: &Http<'_>) -> Result<Tokens, Error> {
    let Some(endpoint) = http.endpoints.device_authorization.clone() else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this provider names no device_authorization_endpoint: sign in with a browser",
        ));
    };
    let authorization: Authorization = http
        .grants()
        .set_device_authorization_url(endpoint)
        .exchange_device_code()
        .add_scopes(http.account.scopes.iter().cloned())
        .request_async(http)
        .await
        .map_err(grant_error)?;
    let deadline = deadline(http.io.now_ms(), authorization.expires_in());
    http.io.device_code(shown(&authorization)?).await?;
    let mut tokens = poll(http, &authorization, deadline).await?;
    tokens.identity = identity::find(http, &tokens, None).await?;
    Ok(tokens)
}

/// Asks until the person has decided, or the code has lapsed at `deadline`.
async fn poll(
    http: &Http<'_>,
    authorization: &Authorization,
    deadline: u64,
) -> Result<Tokens, Error> {
    let mut interval = authorization.interval().max(SHORTEST_PAUSE);
    let mut pause = interval;
    loop {
        let left = Duration::from_millis(deadline.saturating_sub(http.io.now_ms()));
        if left.is_zero() {
            return Err(Error::new(
                ErrorKind::NeedsUser,
                "nobody signed in before the code lapsed",
            )
            .with_oauth_error("expired_token"));
        }
        http.io.sleep(pause.min(left)).await?;

        let form = Form::new([
            ("grant_type", GRANT_TYPE),
            ("device_code", authorization.device_code().secret()),
            ("client_id", &http.account.client_id),
        ]);
        let error = match http.post(http.endpoints.token.url(), form).await {
            Ok(response) => return granted(&response),
            Err(error) => error,
        };
        pause = match error.detail.oauth_error.as_deref() {
            Some("authorization_pending") => interval,
            Some("slow_down") => {
                interval = interval.saturating_add(SLOW_DOWN);
                interval
            }
            _ if error.kind == ErrorKind::Transient => {
                http.io.log(
                    Level::Info,
                    &format!("still waiting for the sign-in: {error}"),
                );
                let wait = error.detail.retry_after_ms.map(Duration::from_millis);
                let backoff = pause.saturating_mul(2).min(LONGEST_BACKOFF);
                backoff.max(interval).max(wait.unwrap_or_default())
            }
            _ => return Err(error),
        };
    }
}

fn granted(response: &HttpResponse) -> Result<Tokens, Error> {
    serde_json::from_slice::<Granted>(&response.body.0)
        .map_err(|_| refusal::unreadable(response, "the provider"))?
        .into_tokens()
}

fn deadline(now_ms: u64, lifetime: Duration) -> u64 {
    let lifetime = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    now_ms.saturating_add(lifetime)
}

/// What the person sees. The texts are the provider's, so they are bounded, and the URL is
/// one that a browser opens.
fn shown(authorization: &Authorization) -> Result<DeviceCode, Error> {
    let Some(verification_uri) = web_page(authorization.verification_uri()) else {
        return Err(Error::new(
            ErrorKind::Protocol,
            "the provider's verification_uri is not a web page",
        ));
    };
    Ok(DeviceCode {
        user_code: bounded(authorization.user_code().secret(), SHOWN_OCTETS),
        verification_uri,
        verification_uri_complete: authorization
            .verification_uri_complete()
            .and_then(|uri| web_page(uri.secret())),
        expires_in: authorization.expires_in().as_secs(),
        message: authorization
            .extra_fields()
            .message
            .as_deref()
            .map(|text| bounded(text, SHOWN_OCTETS)),
    })
}
